package testnet

import (
	"errors"
	"os/exec"
	"strings"
	"testing"
)

// TestKillGone: a sidecar that has ended by itself, as one that panics, isn't taken for
// one that was killed.
func TestKillGone(t *testing.T) {
	p := &Processes{dir: "logs"}
	for command, gone := range map[string]bool{"exit 2": true, "exit 0": true, "kill -ABRT $$": true, "sleep 60": false} {
		cmd := exec.Command("sh", "-c", command)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		one := &process{of: p, node: 3, cmd: cmd, gone: make(chan struct{})}
		wait := func() {
			_ = cmd.Wait()
			close(one.gone)
		}
		if gone {
			wait()
		} else {
			go wait()
		}
		err := one.Kill()
		if errors.Is(err, errGone) != gone || gone && !strings.Contains(err.Error(), "see logs/node3.log") {
			t.Errorf("%s: %v", command, err)
		}
		if err := one.Kill(); err != nil {
			t.Errorf("%s, again: %v", command, err)
		}
	}
}

// Package python has no Go but the test that runs those of the Python client.
package python

import (
	"os"
	"os/exec"
	"regexp"
	"testing"

	"accessor/internal/programtest"
)

func TestMain(m *testing.M) { programtest.Main(m) }

func TestClient(t *testing.T) {
	if err := exec.Command("python3", "-c", "import sys; sys.exit(sys.version_info < (3, 9))").Run(); err != nil {
		t.Skipf("there is no python3 of 3.9 or newer: %v", err)
	}
	cmd := exec.Command("../../scripts/python.sh")
	cmd.Env = append(os.Environ(), "ACCESSOR_BIN="+programtest.Path(t))
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState != nil && cmd.ProcessState.ExitCode() == 77 {
		t.Skipf("the tools can't be had:\n%s", out)
	}
	if err != nil {
		t.Fatalf("scripts/python.sh: %v\n%s", err, out)
	}
	passed := regexp.MustCompile(`(?m)^==> \d+ tests passed.*$`).Find(out)
	if passed == nil {
		t.Fatalf("scripts/python.sh ran no tests:\n%s", out)
	}
	t.Logf("%s", passed)
}

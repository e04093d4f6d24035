package main

import (
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"

	"accessor/internal/programtest"
)

func TestMain(m *testing.M) { programtest.Main(m) }

// TestStory runs the story against a server.
func TestStory(t *testing.T) {
	dir := t.TempDir()
	bin := filepath.Join(dir, "story")
	if out, err := exec.Command("go", "build", "-o", bin, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	script := exec.Command("bash", "-c", `set -euo pipefail
trap 'kill $(jobs -p) 2>/dev/null || true; wait' EXIT
"$0" trace generate --seed 7 --blocks 12 --fork-every 5 recorded.jsonl
"$0" serve --data served --anchor recorded.jsonl --socket ./accessor.sock 2>log &
until curl -sf --unix-socket accessor.sock http://localhost/readyz; do sleep 0.1; done
./story ./accessor.sock recorded.jsonl`, programtest.Path(t))
	script.Dir = dir
	out, err := script.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{`imported [0-9a-f]{64}\n`, `entropy at [0-9a-f]{64}: [0-9a-f]{16}\n`, `they part at slot \d+ and differ in \d+ keys`, `(block|head) 11 [0-9a-f]{64}\n$`} {
		if !regexp.MustCompile(want).Match(out) {
			t.Errorf("no %s in\n%s", want, out)
		}
	}
	t.Logf("%s", out)
}

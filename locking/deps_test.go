package locking_test

import (
	"os/exec"
	"strings"
	"testing"
)

// Locks know nothing of what is locked: neither store, state nor network.
func TestImportsOnlyForks(t *testing.T) {
	allowed := map[string]bool{
		"accessor/forks":   true,
		"accessor/locking": true,
	}
	out, err := exec.Command("go", "list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range strings.Fields(string(out)) {
		if !allowed[path] {
			t.Errorf("imports %s", path)
		}
	}
}

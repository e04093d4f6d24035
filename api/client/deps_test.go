package client_test

import (
	"os/exec"
	"strings"
	"testing"
)

// A client is built into other programs: it brings the standard library, and the pure
// packages that check proofs.
func TestDeps(t *testing.T) {
	allowed := map[string]bool{
		"accessor/api/client":         true,
		"accessor/forks":              true,
		"accessor/jam":                true, // of merkle
		"accessor/state/merkle":       true,
		"golang.org/x/crypto/blake2b": true, // of merkle
		"golang.org/x/sys/cpu":        true, // of blake2b
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

package merkle_test

import (
	"os/exec"
	"strings"
	"testing"
)

// The root is pure: it takes pairs from anybody and gives a hash, so that each
// store, test and proof can use it.
func TestImportsOnlyForksAndBlake2b(t *testing.T) {
	allowed := map[string]bool{
		"accessor/forks":              true,
		"accessor/jam":                true, // the encoding of numbers
		"accessor/state/merkle":       true,
		"golang.org/x/crypto/blake2b": true,
		"golang.org/x/sys/cpu":        true, // blake2b's choice of instructions
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

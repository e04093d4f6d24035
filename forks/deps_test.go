package forks_test

import (
	"os/exec"
	"strings"
	"testing"
)

// The tree is pure: every package may import it, so it imports nobody.
func TestImportsOnlyTheStandardLibrary(t *testing.T) {
	allowed := map[string]bool{"accessor/forks": true}
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

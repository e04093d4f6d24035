package erasure_test

import (
	"os/exec"
	"strings"
	"testing"
)

// Coding is arithmetic: it needs no network, no store, and nobody else here.
func TestImportsNoOtherPackageOfOurs(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range strings.Fields(string(out)) {
		if path == "net" || strings.HasPrefix(path, "accessor/") && path != "accessor/da/erasure" {
			t.Errorf("imports %s", path)
		}
	}
}

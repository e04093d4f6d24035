package justify_test

import (
	"os/exec"
	"strings"
	"testing"
)

// Checks are arithmetic: of ours they know the code they check shards of, no more.
func TestImportsOnlyTheCode(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range strings.Fields(string(out)) {
		if path == "net" || strings.HasPrefix(path, "accessor/") && !strings.HasPrefix(path, "accessor/da/") {
			t.Errorf("imports %s", path)
		}
	}
}

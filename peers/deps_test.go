package peers_test

import (
	"os/exec"
	"strings"
	"testing"
)

// The engine and the API are the program's business: this builds without cgo.
func TestImports(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range strings.Fields(string(out)) {
		if path == "testing" || path == "accessor/checkpoint/rocks" || path == "accessor/checkpoint/checkpointtest" || strings.HasPrefix(path, "accessor/api") {
			t.Errorf("imports %s", path)
		}
	}
}

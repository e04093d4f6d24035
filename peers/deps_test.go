package peers_test

import (
	"os/exec"
	"strings"
	"testing"
)

// ownTesting lists packages, and "testing" where one of ours has it: go-libp2p-kad-dht
// has it too.
const ownTesting = `{{.ImportPath}}{{if not .Module}}{{else if .Module.Main}}{{range .Imports}}{{if eq . "testing"}} !testing{{end}}{{end}}{{end}}`

// The engine and the API are the program's business: this builds without cgo.
func TestImports(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "-f", ownTesting, ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range strings.Fields(string(out)) {
		if path == "!testing" || path == "accessor/checkpoint/rocks" || path == "accessor/checkpoint/checkpointtest" || strings.HasPrefix(path, "accessor/api") {
			t.Errorf("imports %s", path)
		}
	}
}

package testnet

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// ownTesting lists packages, and "testing" where one of ours has it: go-libp2p-kad-dht
// has it too.
const ownTesting = `{{.ImportPath}}{{if not .Module}}{{else if .Module.Main}}{{range .Imports}}{{if eq . "testing"}} !testing{{end}}{{end}}{{end}}`

// The command has this package in it, which must not bring along what tests need, nor
// an engine: the caller gives that.
func TestImports(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "-f", ownTesting, ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range strings.Fields(string(out)) {
		if slices.Contains([]string{"!testing", "accessor/checkpoint/rocks", "accessor/checkpoint/checkpointtest", "accessor/api"}, path) {
			t.Errorf("imports %s", path)
		}
	}
}

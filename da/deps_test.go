package da_test

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// ownTesting lists packages, and "testing" where one of ours has it: go-libp2p-kad-dht
// has it too.
const ownTesting = `{{.ImportPath}}{{if not .Module}}{{else if .Module.Main}}{{range .Imports}}{{if eq . "testing"}} !testing{{end}}{{end}}{{end}}`

// Of ours, the network knows what it checks answers with, and nothing of stores or the
// API, so that neither can come to wait for a peer unseen.
func TestImports(t *testing.T) {
	allowed := []string{
		"accessor/da", "accessor/da/erasure", "accessor/da/items", "accessor/da/justify", "accessor/da/shards",
		"accessor/forks", "accessor/jam", "accessor/state/merkle",
	}
	out, err := exec.Command("go", "list", "-deps", "-f", ownTesting, ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range strings.Fields(string(out)) {
		switch {
		case strings.HasPrefix(path, "accessor/") && !slices.Contains(allowed, path):
			t.Errorf("imports %s", path)
		case path == "!testing" || strings.Contains(path, "grocksdb"):
			t.Errorf("imports %s", path)
		}
	}
}

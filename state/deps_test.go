package state_test

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// The accessor itself knows no engine (so it builds without cgo), no HTTP
// server, no peers and no flags.
func TestImports(t *testing.T) {
	allowed := []string{
		"accessor/state", "accessor/checkpoint", "accessor/forks", "accessor/jam", "accessor/locking",
		"go.uber.org/zap", "go.uber.org/multierr",
		"github.com/cespare/xxhash", "golang.org/x/crypto", "golang.org/x/sys", "golang.org/x/sync/singleflight",
		"github.com/dgraph-io/ristretto/v2", "github.com/dustin/go-humanize", "github.com/tidwall/btree",
	}
	out, err := exec.Command("go", "list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range strings.Fields(string(out)) {
		known := slices.ContainsFunc(allowed, func(a string) bool { return path == a || strings.HasPrefix(path, a+"/") })
		if !known || path == "accessor/checkpoint/rocks" || path == "accessor/checkpoint/checkpointtest" {
			t.Errorf("imports %s", path)
		}
	}
}

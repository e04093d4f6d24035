package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestCLIPageIsTrue runs the commands of docs/CLI.md, in one folder, in order; and
// looks whether it names each command that speaks to a sidecar.
func TestCLIPageIsTrue(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "CLI.md"))
	if err != nil {
		t.Fatal(err)
	}
	script := "set -euo pipefail\n"
	commands := 0
	for line := range strings.Lines(string(page)) {
		if code, ok := strings.CutPrefix(line, "    "); ok {
			commands++
			script += code
		}
	}
	if commands < 20 {
		t.Fatalf("docs/CLI.md has %d commands, expected more", commands)
	}
	runScript(t, script)
	for _, cmd := range newRoot(&env{}).Commands() {
		asks := cmd.Flags().Lookup("token-kid") != nil || cmd.Name() == "draft"
		if asks && !strings.Contains(string(page), "`"+cmd.Name()+"`") {
			t.Errorf("docs/CLI.md doesn't name %s", cmd.Name())
		}
		if asks == (cmd.GroupID == groupStore || cmd.GroupID == groupOther) && !cmd.Hidden && cmd.GroupID != "" {
			t.Errorf("%s is in the group %q", cmd.Name(), cmd.GroupID)
		}
	}
}

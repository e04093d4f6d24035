package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestReadmeIsTrue runs the commands of README.md: the blocks behind "<!-- run
// -->" as they stand, in one folder, in order. Of make it checks that the targets
// are there; the benchmark it runs small.
func TestReadmeIsTrue(t *testing.T) {
	root := filepath.Join("..", "..")
	readme, err := os.ReadFile(filepath.Join(root, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	makefile, err := os.ReadFile(filepath.Join(root, "Makefile"))
	if err != nil {
		t.Fatal(err)
	}
	targets := regexp.MustCompile("(?:^|[`\\s])make ([a-z][a-z-]*)")
	for _, m := range targets.FindAllStringSubmatch(string(readme), -1) {
		if m[1] != "git" && !bytes.Contains(makefile, []byte("\n"+m[1]+":")) {
			t.Errorf("README names make %s, the Makefile has no such target", m[1])
		}
	}
	script := "set -euo pipefail\n"
	commands := 0
	for _, block := range strings.Split(string(readme), "\n\n") {
		runs := strings.Contains(block, "accessor ")
		for line := range strings.Lines(block + "\n") {
			code, ok := strings.CutPrefix(line, "    ")
			if !ok || !runs || strings.HasPrefix(code, "export PATH") {
				continue
			}
			commands++
			if strings.HasPrefix(code, "accessor bench") {
				code = "accessor bench import --dir . --keys 1000 --blocks 3 --puts 50\n"
			}
			script += "echo '$ " + strings.TrimSpace(code) + "'\n" + code
		}
	}
	if commands < 8 {
		t.Fatalf("README has %d commands, expected more", commands)
	}
	runScript(t, script)
}

// TestPagesAreTrue runs the commands of pages in docs, each page's in one folder, in order.
func TestPagesAreTrue(t *testing.T) {
	for page, least := range map[string]int{"API.md": 20, "CLI.md": 20, "PROTOCOL.md": 50} {
		t.Run(page, func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile(filepath.Join("..", "..", "docs", page))
			if err != nil {
				t.Fatal(err)
			}
			script := "set -euo pipefail\n"
			commands := 0
			for line := range strings.Lines(string(text)) {
				if code, ok := strings.CutPrefix(line, "    "); ok {
					commands++
					script += "echo '$ " + strings.ReplaceAll(strings.TrimSpace(code), "'", `'\''`) + "'\n" + code
				}
			}
			if commands < least {
				t.Fatalf("%d commands, expected more", commands)
			}
			runScript(t, script)
		})
	}
}

// TestCLIPageNamesAll looks whether docs/CLI.md names each command that speaks to a
// sidecar, and whether the help has those in a group of their own.
func TestCLIPageNamesAll(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "CLI.md"))
	if err != nil {
		t.Fatal(err)
	}
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

// runScript runs a script in a folder of its own, with this program in its path.
func runScript(t *testing.T, script string) {
	t.Helper()
	bin := t.TempDir()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(exe, filepath.Join(bin, "accessor")); err != nil {
		t.Fatal(err)
	}
	// A server that a failed script leaves behind would keep the output open.
	cmd := exec.Command("bash", "-c", "trap 'kill $(jobs -p) 2>/dev/null || true' EXIT\n"+script)
	cmd.Dir = t.TempDir()
	cmd.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"), "TMPDIR="+cmd.Dir)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Logf("%s", out)
}

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestReadmeIsTrue runs the commands of README.md in one folder, in order. Of make it
// checks that the targets are there; the benchmark it runs small, the Go story as a
// program, and what needs Python or Rust where these are there. Code in other languages
// must be that of the stories in clients, which it names.
func TestReadmeIsTrue(t *testing.T) {
	root, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	readme := readFile(t, root, "README.md")
	makefile := readFile(t, root, "Makefile")
	targets := regexp.MustCompile("(?:^|[`\\s])make ([a-z][a-z-]*)")
	for _, m := range targets.FindAllStringSubmatch(readme, -1) {
		if m[1] != "git" && !strings.Contains(makefile, "\n"+m[1]+":") {
			t.Errorf("README names make %s, the Makefile has no such target", m[1])
		}
	}
	text := regexp.MustCompile("(?s)```([a-z]+)\n(.*?)\n```").ReplaceAllStringFunc(readme, func(fence string) string {
		language, code, _ := strings.Cut(strings.Trim(fence, "`"), "\n")
		checkStory(t, root, language, strings.TrimSpace(code))
		return ""
	})
	story := filepath.Join(t.TempDir(), "story")
	if out, err := exec.Command("go", "build", "-o", story, "accessor/clients/go/story").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	// Where the commands look for what is in the repository.
	script := "set -euo pipefail\nln -s '" + filepath.Join(root, "clients") + "' clients\n" +
		"export CARGO_TARGET_DIR='" + filepath.Join(root, "build", "rust") + "'\n"
	commands := 0
	for _, block := range strings.Split(text, "\n\n") {
		runs := strings.Contains(block, "accessor ") || strings.HasPrefix(block, "<!-- run -->")
		for line := range strings.Lines(block + "\n") {
			code, ok := strings.CutPrefix(line, "    ")
			if !ok || !runs || strings.HasPrefix(code, "export PATH") {
				continue
			}
			commands++
			code = strings.Replace(code, "go run ./clients/go/story", story, 1)
			if strings.HasPrefix(code, "accessor bench") {
				code = "accessor bench import --dir . --keys 1000 --blocks 3 --puts 50\n"
			}
			if missing := missingFor(code); missing != "" {
				t.Run(missing, func(t *testing.T) { t.Skipf("there is no %s for %s", missing, code) })
				continue
			}
			script += "echo '$ " + strings.ReplaceAll(strings.TrimSpace(code), "'", `'\''`) + "'\n" + code
		}
	}
	if commands < 30 {
		t.Fatalf("README has %d commands, expected more", commands)
	}
	runScript(t, script)
}

func readFile(t *testing.T, path ...string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(path...))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// checkStory compares code of README with that of the story in its language, which is
// a function's body where the language needs one.
func checkStory(t *testing.T, root, language, code string) {
	t.Helper()
	stories := map[string]struct{ file, indent string }{
		"go": {"clients/go/story/main.go", "\t"}, "python": {"clients/python/examples/story.py", ""}, "rust": {"clients/rust/examples/story.rs", "    "},
	}
	story, ok := stories[language]
	if !ok {
		t.Errorf("README has code in %s", language)
		return
	}
	lines := strings.Split(readFile(t, root, story.file), "\n")
	for i := range lines {
		lines[i] = strings.TrimPrefix(lines[i], story.indent)
	}
	if !strings.Contains(strings.Join(lines, "\n"), code) {
		t.Errorf("%s is not what README shows in %s", story.file, language)
	}
}

// missingFor names the program that a command needs and that isn't there.
func missingFor(code string) string {
	for _, name := range []string{"cargo", "python3"} {
		if _, err := exec.LookPath(name); err != nil && strings.Contains(code, name+" ") {
			return name
		}
	}
	return ""
}

// TestPagesAreTrue runs the commands of pages in docs, each page's in one folder, in order.
func TestPagesAreTrue(t *testing.T) {
	for page, least := range map[string]int{"API.md": 20, "CLI.md": 20, "PROTOCOL.md": 50, "TESTNET.md": 2} {
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
		asks := cmd.Flags().Lookup("token-kid") != nil || cmd.Name() == "draft" || cmd.Name() == "da"
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

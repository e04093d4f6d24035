package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestInstall: make install puts the program, a manual page for each command and the
// shells' completions where they look for them.
func TestInstall(t *testing.T) {
	dest, bin := t.TempDir(), t.TempDir()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(bin, "accessor")
	if err := os.Symlink(exe, program); err != nil {
		t.Fatal(err)
	}
	// All but the build: this binary is the program.
	cmd := exec.Command("make", "--no-print-directory", "-o", "build", "install", "BIN="+program, "DESTDIR="+dest, "PREFIX=/usr")
	cmd.Dir = filepath.Join("..", "..")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for path, has := range map[string]string{
		"bin/accessor":                                  "",
		"share/man/man1/accessor.1":                     "accessor-draft",
		"share/man/man1/accessor-get.1":                 "ACCESSOR_SOCKET",
		"share/man/man1/accessor-draft-commit.1":        "--hash",
		"share/bash-completion/completions/accessor":    "__start_accessor",
		"share/zsh/site-functions/_accessor":            "#compdef accessor",
		"share/fish/vendor_completions.d/accessor.fish": "complete",
	} {
		text, err := os.ReadFile(filepath.Join(dest, "usr", path))
		if err != nil || !strings.Contains(string(text), has) {
			t.Errorf("%s: %v, or without %q", path, err, has)
		}
	}
	for _, shell := range []string{"bash", "zsh", "fish"} {
		path, err := exec.LookPath(shell)
		if err != nil {
			continue // of the three bash alone is sure to be there
		}
		file := map[string]string{"bash": "share/bash-completion/completions/accessor", "zsh": "share/zsh/site-functions/_accessor",
			"fish": "share/fish/vendor_completions.d/accessor.fish"}[shell]
		if out, err := exec.Command(path, "-n", filepath.Join(dest, "usr", file)).CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", shell, err, out)
		}
	}
}

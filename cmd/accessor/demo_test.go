package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// demoFlags make the chain that `make demo` replays.
var demoFlags = []string{"--name", "demo", "--seed", "4", "--blocks", "60", "--keys", "60", "--writes", "6",
	"--value-size", "120", "--fork-every", "6", "--rejects", "10"}

// TestDemoIsGenerated compares the bundled chain with what its flags make.
func TestDemoIsGenerated(t *testing.T) {
	path := filepath.Join(t.TempDir(), "demo.jsonl.zst")
	mustRun(t, append([]string{"trace", "generate", path}, demoFlags...)...)
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join("testdata", "demo.jsonl.zst"))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("testdata/demo.jsonl.zst is not what `accessor trace generate` makes with %v", demoFlags)
	}
}

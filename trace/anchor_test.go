package trace

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"accessor/jam"
)

func TestReadAnchor(t *testing.T) {
	dir := t.TempDir()
	c := newChain(t, GenerateOptions{Seed: 1, Blocks: 2, Keys: 20, Writes: 3})
	genesis := c.genesis()
	writeFile(t, filepath.Join(dir, "genesis.bin"), genesis)
	writeFile(t, filepath.Join(dir, "other"), genesis) // whatever it is called
	want, err := jam.DecodeGenesis(genesis)
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{filepath.Join(dir, "genesis.bin"), filepath.Join(dir, "other")} {
		a, err := ReadAnchor(path, Options{})
		if err != nil {
			t.Fatal(err)
		}
		if a.Hash != jam.HeaderHash(want.Encoded) || a.Root != want.State.Root || len(a.Pairs) != len(want.State.Pairs) ||
			!bytes.Equal(a.Header, want.Encoded) {
			t.Errorf("%s: %+v", path, a)
		}
	}

	chain := filepath.Join(dir, "chain.jsonl.zst")
	w, err := Create(chain)
	if err != nil {
		t.Fatal(err)
	}
	if err := Generate(w, GenerateOptions{Seed: 1, Blocks: 2, Keys: 20, Writes: 3}, nil); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	a, err := ReadAnchor(chain, Options{})
	if err != nil || len(a.Pairs) == 0 {
		t.Fatalf("%+v, %v", a, err)
	}
	for name, tt := range map[string]struct {
		text string
		err  error
	}{
		"empty":      {"", ErrNoEnd},
		"cut":        {string(genesis[:len(genesis)/2]), ErrFormat},
		"no anchor":  {`{"type":"block"}` + "\n", ErrFormat},
		"other text": {"thesis", ErrFormat},
	} {
		path := filepath.Join(dir, "bad")
		writeFile(t, path, []byte(tt.text))
		a, err := ReadAnchor(path, Options{})
		var at *Error
		if a != nil || !errors.Is(err, tt.err) || !errors.As(err, &at) {
			t.Errorf("%s: %v, %v", name, a, err)
		}
	}
	if _, err := ReadAnchor(filepath.Join(dir, "nowhere"), Options{}); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	if _, err := ReadAnchor(filepath.Join(dir, "genesis.bin"), Options{LineLimit: 50}); !errors.Is(err, ErrTooLong) {
		t.Error(err)
	}
}

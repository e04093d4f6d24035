package shards

import (
	"bytes"
	"os/exec"
	"strings"
	"testing"

	"accessor/forks"
)

// FuzzDecode: whatever the bytes, what is given leads to the root, and is those bytes.
func FuzzDecode(f *testing.F) {
	for segments := range 3 {
		w := newWork(f, 1, segments)
		root := w.spec.Root
		b := encode(6, 1, &w.shards[1])
		f.Add(b, root[:], 1)
		f.Add(b[:len(b)-1], root[:], 1)
		f.Add(b, root[:], 2)
	}
	f.Add([]byte(magic+"\x01\x00\x00\x00\x30\x0c\x00\x00\xff\xff\xff\xff\xff\xff\xff\xff"), make([]byte, 32), 0)
	f.Fuzz(func(t *testing.T, b, root []byte, index int) {
		if len(root) != forks.HashSize {
			return
		}
		sh, spec, err := decode(b, forks.Hash(root), index)
		if err != nil {
			return
		}
		if err := spec.CheckShards(index, sh.Bundle, sh.Segments, sh.Path); err != nil || spec.Root != [32]byte(root) {
			t.Errorf("%v, %+v", err, spec)
		}
		if got := encode(spec.Shards, index, &sh); !bytes.Equal(got, b) {
			t.Errorf("encoded again: %x, not %x", got, b)
		}
	})
}

// A store of shards knows no network, and nothing of states.
func TestImports(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range strings.Fields(string(out)) {
		switch {
		case path == "accessor/forks":
		case path == "net", strings.HasPrefix(path, "accessor/") && !strings.HasPrefix(path, "accessor/da/"):
			t.Errorf("imports %s", path)
		}
	}
}

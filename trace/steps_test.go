package trace

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"accessor/forks"
	"accessor/internal/published"
	"accessor/jam"
	"accessor/state"
)

// The published step folders give what the same chains give that somebody else
// converted.
func TestPublishedSteps(t *testing.T) {
	dir := published.UnpackSteps(t, vectors(t, "steps"))
	folders, err := Find(dir)
	if err != nil || len(folders) != 2 {
		t.Fatalf("folders %v, %v", folders, err)
	}
	for _, folder := range folders {
		src := open(t, folder)
		name := filepath.Base(folder)
		if src.Name() != name {
			t.Errorf("name %q, want %q", src.Name(), name)
		}
		got := readAll(t, src)
		want := readAll(t, open(t, filepath.Join(vectors(t, "jamtrace"), "jtv072-"+name+".jsonl.zst")))
		if h := got[0].(*Header); h.Format != StepsFormat || h.Name != name || h.GP != "0.7" || h.Spec != "tiny" {
			t.Errorf("%s: header %+v", folder, h)
		}
		got, want = got[1:], want[1:len(want)-1]
		if len(got) != 101 || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %d entries, want %d:\n%s", folder, len(got), len(want), cmp.Diff(want, got))
		}
	}
}

// appendState encodes a state as step files have it.
func appendState(b []byte, root forks.Hash, pairs map[string][]byte) []byte {
	b = append(b, root[:]...)
	b = jam.AppendNat(b, uint64(len(pairs)))
	for _, k := range slices.Sorted(maps.Keys(pairs)) {
		b = append(b, k...)
		b = jam.AppendNat(b, uint64(len(pairs[k])))
		b = append(b, pairs[k]...)
	}
	return b
}

// chain is a made-up recording with what is needed to make step files of it.
type chain struct {
	entries []Entry
	states  states
	roots   map[forks.Hash]forks.Hash
}

func newChain(t *testing.T, opts GenerateOptions) *chain {
	t.Helper()
	entries, err := readBytes(generated(t, opts), Options{})
	if err != nil {
		t.Fatal(err)
	}
	c := &chain{entries: entries, states: states{}, roots: map[forks.Hash]forks.Hash{}}
	a := c.anchor()
	c.states[a.Hash], c.roots[a.Hash] = map[string][]byte{}, a.Root
	for _, p := range a.Pairs {
		c.states[a.Hash][string(p.Key)] = p.Value
	}
	for _, e := range entries {
		if b, ok := e.(*Block); ok {
			c.states[b.Hash], c.roots[b.Hash] = c.states.applied(t, &b.Block), *b.PostRoot
		}
	}
	return c
}

func (c *chain) anchor() *Anchor { return c.entries[1].(*Anchor) }

func (c *chain) genesis() []byte {
	a := c.anchor()
	return appendState(slices.Clone(a.Header), a.Root, c.states[a.Hash])
}

// step encodes a block on a state, with what comes out; of a reject that is the
// state again.
func (c *chain) step(header []byte, pre, post forks.Hash) []byte {
	b := appendState(nil, c.roots[pre], c.states[pre])
	b = append(b, header...)
	b = append(b, make([]byte, 7)...) // an empty extrinsic
	return appendState(b, c.roots[post], c.states[post])
}

// write makes step files of the entries from..to, counted from the anchor, as
// numbers from first on.
func (c *chain) write(t *testing.T, dir string, entries []Entry, first int) {
	t.Helper()
	for i, e := range entries {
		path := filepath.Join(dir, fmt.Sprintf("%08d.bin", first+i))
		switch e := e.(type) {
		case *Block:
			writeFile(t, path, c.step(e.Header, e.Parent, e.Hash))
		case *Reject:
			// The state that it was rejected on doesn't depend on its header.
			writeFile(t, path, c.step(e.Header, c.anchor().Hash, c.anchor().Hash))
		}
	}
}

// checkSteps compares what a folder gives with the entries that it was made of.
func (c *chain) checkSteps(t *testing.T, got, want []Entry, first int) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d entries, want %d", len(got), len(want))
	}
	for i, e := range want {
		src := fmt.Sprintf("%08d.bin", first+i)
		switch e := e.(type) {
		case *Block:
			wanted := *e
			wanted.Seq, wanted.Src = i+1, src
			if diff := cmp.Diff(&wanted, got[i]); diff != "" {
				t.Errorf("block %d: %s", i, diff)
			}
		case *Reject:
			r, ok := got[i].(*Reject)
			if !ok {
				t.Fatalf("entry %d is %T, want a reject", i, got[i])
			}
			if r.Hash != e.Hash || r.Parent != e.Parent || r.Slot != e.Slot || *r.PriorRoot != *e.PriorRoot ||
				r.HasWriteSet || r.PostRoot != nil || r.Reason == "" || r.Src != src || r.Seq != i+1 || !bytes.Equal(r.Header, e.Header) {
				t.Errorf("reject %d: %+v", i, r)
			}
		}
	}
}

func TestStepsWithForksAndRejects(t *testing.T) {
	c := newChain(t, small)
	dir := filepath.Join(t.TempDir(), "forky")
	body := c.entries[2 : len(c.entries)-1]
	writeFile(t, filepath.Join(dir, "genesis.bin"), c.genesis())
	writeFile(t, filepath.Join(dir, "00000001.json"), []byte("not looked at"))
	c.write(t, dir, body, 1)

	src := open(t, dir)
	got := readAll(t, src)
	if h := got[0].(*Header); h.Name != "forky" || h.GP != "0.7" || h.Spec != "tiny" {
		t.Errorf("header %+v", h)
	}
	if diff := cmp.Diff(c.anchor(), got[1]); diff != "" {
		t.Errorf("anchor: %s", diff)
	}
	c.checkSteps(t, got[2:], body, 1)
	if done, total := src.Progress(); done != int64(len(body)) || total != done {
		t.Errorf("progress %d of %d", done, total)
	}
	if want := filepath.Join(dir, fmt.Sprintf("%08d.bin", len(body))); src.Position() != want {
		t.Errorf("position %s, want %s", src.Position(), want)
	}
}

// A folder that begins in the middle of a chain, whether or not a genesis lies
// beside it, with rejects in front of the first block.
func TestStepsOfATail(t *testing.T) {
	opts := small
	opts.ForkEvery, opts.Rejects = 0, 0
	c := newChain(t, opts)
	blocks := c.entries[2 : len(c.entries)-1]
	tail := blocks[10:20]
	parent := blocks[9].(*Block)
	for _, withGenesis := range []bool{false, true} {
		dir := t.TempDir()
		if withGenesis {
			writeFile(t, filepath.Join(dir, "genesis.bin"), c.genesis())
		}
		writeFile(t, filepath.Join(dir, "00001626.bin"), c.step(blocks[0].(*Block).Header, parent.Hash, parent.Hash))
		c.write(t, dir, tail, 1627)
		got := readAll(t, open(t, dir))
		a := got[1].(*Anchor)
		if a.Hash != parent.Hash || a.Slot != parent.Slot || a.Root != *parent.PostRoot || a.Header != nil || len(a.Pairs) != parent.Keys {
			t.Errorf("anchor %s at slot %d with %d pairs, want %s, %d, %d", a.Hash, a.Slot, len(a.Pairs), parent.Hash, parent.Slot, parent.Keys)
		}
		if r, ok := got[2].(*Reject); !ok || r.Hash != blocks[0].(*Block).Hash {
			t.Errorf("first step is %+v", got[2])
		}
		if len(got) != 3+len(tail) || got[3].(*Block).Hash != tail[0].(*Block).Hash {
			t.Errorf("%d entries", len(got))
		}
	}
}

func TestStepsWithoutBlocks(t *testing.T) {
	c := newChain(t, small)
	first := c.entries[2].(*Block)
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "genesis.bin"), c.genesis())
	if got := readAll(t, open(t, dir)); len(got) != 2 || got[1].(*Anchor).Hash != c.anchor().Hash {
		t.Errorf("genesis alone gives %d entries", len(got))
	}
	writeFile(t, filepath.Join(dir, "00000001.bin"), c.step(first.Header, c.anchor().Hash, c.anchor().Hash))
	if got := readAll(t, open(t, dir)); len(got) != 3 || got[1].(*Anchor).Header == nil {
		t.Errorf("a reject alone gives %d entries", len(got))
	}
	if err := os.Remove(filepath.Join(dir, "genesis.bin")); err != nil {
		t.Fatal(err)
	}
	if got := readAll(t, open(t, dir)); len(got) != 3 || got[1].(*Anchor).Hash != first.Parent || got[1].(*Anchor).Header != nil {
		t.Errorf("a reject without a genesis gives %d entries", len(got))
	}
}

func TestOpaqueSteps(t *testing.T) {
	c := newChain(t, small)
	first := c.entries[2].(*Block)
	a := c.anchor()
	around := func(block []byte) []byte {
		return slices.Concat(appendState(nil, a.Root, c.states[a.Hash]), block, appendState(nil, a.Root, c.states[a.Hash]))
	}
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "00000001.bin"), around(append(slices.Clone(first.Header), 0xff, 1)))
	noHeader := slices.Clone(first.Header[:150])
	noHeader[100] = 7 // no option
	writeFile(t, filepath.Join(dir, "00000002.bin"), around(noHeader))
	got := readAll(t, open(t, dir))
	r := got[2].(*Reject)
	if r.Hash != first.Hash || r.Slot != first.Slot || !strings.Contains(r.Reason, "decode") {
		t.Errorf("opaque extrinsic: %+v", r)
	}
	r = got[3].(*Reject)
	if r.Hash != (forks.Hash{}) || r.Header != nil || r.Slot != first.Slot || r.Parent != first.Parent || *r.PriorRoot != a.Root {
		t.Errorf("opaque header: %+v", r)
	}
}

func TestRefusesBadSteps(t *testing.T) {
	c := newChain(t, small)
	first := c.entries[2].(*Block)
	good := c.step(first.Header, first.Parent, first.Hash)
	preSize := len(appendState(nil, forks.Hash{}, c.states[first.Parent]))
	postSize := len(appendState(nil, forks.Hash{}, c.states[first.Hash]))
	slotKey, _ := jam.ItemKey(jam.SlotItem)
	pair := binary.LittleEndian.AppendUint32(append(slotKey, 4), uint32(first.Slot))
	double := slices.Concat(good[:len(good)-postSize], bytes.Repeat([]byte{2}, 32), []byte{2}, pair, pair)
	oldRoot := c.roots[first.Parent]
	silent := slices.Clone(good)
	copy(silent[len(silent)-postSize:], oldRoot[:])
	slotless := append(make([]byte, 33), good[preSize:]...) // on an empty state
	for name, c := range map[string]struct {
		files map[string][]byte
		opts  Options
		kind  error
		file  string
	}{
		"odd name":          {map[string][]byte{"00000001.bin": good, "1.bin": good}, Options{}, ErrFormat, "1.bin"},
		"longer name":       {map[string][]byte{"000000001.bin": good}, Options{}, ErrFormat, "000000001.bin"},
		"cut step":          {map[string][]byte{"00000001.bin": good, "00000002.bin": good[:len(good)-1]}, Options{}, ErrFormat, "00000002.bin"},
		"empty step":        {map[string][]byte{"00000001.bin": nil}, Options{}, ErrFormat, "00000001.bin"},
		"cut genesis":       {map[string][]byte{"genesis.bin": good[:50], "00000001.bin": good}, Options{}, ErrFormat, "genesis.bin"},
		"large step":        {map[string][]byte{"00000001.bin": good}, Options{LineLimit: int64(len(good)) - 1}, ErrTooLong, "00000001.bin"},
		"key twice":         {map[string][]byte{"00000001.bin": good, "00000002.bin": double}, Options{}, ErrFormat, "00000002.bin"},
		"root stays":        {map[string][]byte{"00000001.bin": good, "00000002.bin": silent}, Options{}, ErrFormat, "00000002.bin"},
		"no slot before it": {map[string][]byte{"00000001.bin": slotless}, Options{}, ErrFormat, "00000001.bin"},
	} {
		dir := t.TempDir()
		for file, b := range c.files {
			writeFile(t, filepath.Join(dir, file), b)
		}
		src, err := Open(dir, c.opts)
		if err == nil {
			_, err = drain(src)
			if _, again := src.Next(); again != err {
				t.Errorf("%s: %v, then %v", name, err, again)
			}
			src.Close()
		}
		var where *Error
		if !errors.Is(err, c.kind) || !errors.As(err, &where) || where.File != filepath.Join(dir, c.file) {
			t.Errorf("%s: %v, want %v in %s", name, err, c.kind, c.file)
		}
	}
	if _, err := Open(t.TempDir(), Options{}); !errors.Is(err, ErrUnreadable) || !typed(err) {
		t.Errorf("empty folder: %v", err)
	}
}

func TestDiff(t *testing.T) {
	raw := func(pairs ...string) (out []jam.Pair) {
		for _, p := range pairs {
			k, v, _ := strings.Cut(p, "=")
			out = append(out, jam.Pair{Key: []byte(k), Value: []byte(v)})
		}
		return out
	}
	for _, c := range []struct {
		pre, post []jam.Pair
		puts      []state.Pair
		dels      [][]byte
	}{
		{nil, nil, nil, nil},
		{nil, raw("a=1"), []state.Pair{{Key: []byte("a"), Value: []byte("1")}}, nil},
		{raw("a=1"), nil, nil, [][]byte{[]byte("a")}},
		{raw("a=1", "b=2"), raw("a=1", "b=2"), nil, nil},
		{raw("a=1", "b=2", "d="), raw("a=", "c=2", "d=", "e="),
			[]state.Pair{{Key: []byte("a"), Value: []byte{}}, {Key: []byte("c"), Value: []byte("2")}, {Key: []byte("e"), Value: []byte{}}},
			[][]byte{[]byte("b")}},
	} {
		puts, dels := diff(c.pre, c.post)
		if d := cmp.Diff(c.puts, puts) + cmp.Diff(c.dels, dels); d != "" {
			t.Error(d)
		}
	}
}

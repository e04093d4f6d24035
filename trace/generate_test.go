package trace

import (
	"bytes"
	"encoding/binary"
	"errors"
	"iter"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"

	"accessor/forks"
	"accessor/jam"
	"accessor/state"
	"accessor/state/merkle"
)

func TestGenerateIsDeterministic(t *testing.T) {
	opts := small
	first := generated(t, opts)
	if !bytes.Equal(first, generated(t, opts)) {
		t.Error("equal options made different recordings")
	}
	opts.Seed++
	if bytes.Equal(first, generated(t, opts)) {
		t.Error("another seed made the same recording")
	}
}

// states is a recording's states at every block, as plain maps.
type states map[forks.Hash]map[string][]byte

func (s states) pairs(h forks.Hash) iter.Seq2[[]byte, []byte] {
	return func(yield func(k, v []byte) bool) {
		for _, k := range slices.Sorted(maps.Keys(s[h])) {
			if !yield([]byte(k), s[h][k]) {
				return
			}
		}
	}
}

func (s states) root(t *testing.T, h forks.Hash) forks.Hash {
	t.Helper()
	root, err := merkle.Root(s.pairs(h))
	if err != nil {
		t.Fatal(err)
	}
	return root
}

// applied gives the state after a write set, and checks that the set is the exact
// difference, in order.
func (s states) applied(t *testing.T, b *state.Block) map[string][]byte {
	t.Helper()
	out := maps.Clone(s[b.Parent])
	for i, p := range b.Puts {
		old, had := out[string(p.Key)]
		if had && bytes.Equal(old, p.Value) || i > 0 && bytes.Compare(b.Puts[i-1].Key, p.Key) >= 0 || len(p.Key) != jam.KeySize {
			t.Errorf("block %s: put %d of key %x is not needed or out of order", b.Hash, i, p.Key)
		}
		out[string(p.Key)] = p.Value
	}
	for i, key := range b.Dels {
		if _, had := s[b.Parent][string(key)]; !had || i > 0 && bytes.Compare(b.Dels[i-1], key) >= 0 {
			t.Errorf("block %s: delete %d of key %x is not needed or out of order", b.Hash, i, key)
		}
		delete(out, string(key))
	}
	return out
}

func TestGeneratedChains(t *testing.T) {
	for _, c := range []struct {
		name       string
		opts       GenerateOptions
		judged     int // rejects that a store can judge
		forks      bool
		sharedOnly bool
	}{
		{name: "small", opts: small, judged: 8, forks: true},
		{name: "no forks", opts: GenerateOptions{Seed: 1, Blocks: 60, Keys: 10, Writes: 3, ValueSize: 30}},
		{name: "nothing but the chain's own", opts: GenerateOptions{Seed: 2, Blocks: 20}},
		{name: "deep forks, more rejects than blocks", opts: GenerateOptions{Seed: 3, Blocks: 150, Keys: 40, Writes: 8, ValueSize: 100, ForkEvery: 2, ForkDepth: 20, Rejects: 303}, judged: 243, forks: true},
		{name: "same slot", opts: GenerateOptions{Seed: 4, Blocks: 200, Keys: 10, Writes: 3, ValueSize: 30, ForkEvery: 3, ForkDepth: 1, SameSlot: true}, forks: true, sharedOnly: true},
		{name: "without roots", opts: GenerateOptions{Seed: 5, Blocks: 50, Keys: 10, Writes: 3, ValueSize: 30, ForkEvery: 5, NoRoots: true, Rejects: 9}, judged: 6, forks: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			entries, err := readBytes(generated(t, c.opts), Options{})
			if err != nil {
				t.Fatal(err)
			}
			checkChain(t, entries, c.opts, c.judged, c.forks)
			shared, apart := siblings(entries)
			if c.forks && shared == 0 || c.sharedOnly != (c.forks && apart == 0) {
				t.Errorf("%d forks share a slot, %d don't", shared, apart)
			}
		})
	}
}

// siblings counts the forks by whether all children have the same slot.
func siblings(entries []Entry) (shared, apart int) {
	slots := make(map[forks.Hash][]forks.Slot)
	for _, e := range entries {
		if b, ok := e.(*Block); ok {
			slots[b.Parent] = append(slots[b.Parent], b.Slot)
		}
	}
	for _, s := range slots {
		slices.Sort(s)
		switch {
		case len(s) < 2:
		case s[0] == s[len(s)-1]:
			shared++
		default:
			apart++
		}
	}
	return shared, apart
}

func checkChain(t *testing.T, entries []Entry, opts GenerateOptions, wantJudged int, wantForks bool) {
	t.Helper()
	anchor := entries[1].(*Anchor)
	all := states{anchor.Hash: {}}
	for _, p := range anchor.Pairs {
		all[anchor.Hash][string(p.Key)] = p.Value
	}
	tree := forks.New(forks.Block{Hash: anchor.Hash, Slot: anchor.Slot, Root: anchor.Root})
	if jam.HeaderHash(anchor.Header) != anchor.Hash || !opts.NoRoots && all.root(t, anchor.Hash) != anchor.Root {
		t.Error("anchor's hash or root is wrong")
	}
	judged, rejects := 0, 0
	for i, e := range entries[2:] {
		switch e := e.(type) {
		case *Block:
			if e.Seq != i+1 {
				t.Errorf("entry %d has number %d", i, e.Seq)
			}
			checkBlock(t, all, tree, e, opts)
		case *Reject:
			rejects++
			if judge(t, all, tree, e) {
				judged++
			}
		case *End:
			if e.Blocks != opts.Blocks || e.Rejects != opts.Rejects || len(e.Leaves) != len(tree.Leaves()) || len(e.Forks) != tree.Forks() {
				t.Errorf("end %+v; tree has %d leaves, %d forks", e, len(tree.Leaves()), tree.Forks())
			}
			for i, b := range tree.Leaves() {
				if e.Leaves[i] != b.Hash {
					t.Errorf("leaf %d is %s, want %s", i, e.Leaves[i], b.Hash)
				}
			}
		}
	}
	if judged != wantJudged || rejects != opts.Rejects || (tree.Forks() > 0) != wantForks {
		t.Errorf("of %d rejects %d can be judged, %d forks; want %d, %d", rejects, judged, tree.Forks(), opts.Rejects, wantJudged)
	}
}

func checkBlock(t *testing.T, all states, tree *forks.Tree, b *Block, opts GenerateOptions) {
	t.Helper()
	parent, ok := tree.Get(b.Parent)
	if !ok {
		t.Fatalf("block %s: unknown parent", b.Hash)
	}
	checkHeader(t, &b.Block)
	if *b.PriorRoot != parent.Root {
		t.Errorf("block %s: prior root %s, parent's is %s", b.Hash, b.PriorRoot, parent.Root)
	}
	all[b.Hash] = all.applied(t, &b.Block)
	if !opts.NoRoots && all.root(t, b.Hash) != *b.PostRoot {
		t.Errorf("block %s: wrong posterior root", b.Hash)
	}
	if opts.NoRoots && *b.PostRoot != (forks.Hash{}) {
		t.Errorf("block %s has a root", b.Hash)
	}
	size := int64(0)
	for _, v := range all[b.Hash] {
		size += int64(len(v))
	}
	if b.Keys != len(all[b.Hash]) || b.Bytes != size {
		t.Errorf("block %s: %d keys, %d bytes, want %d, %d", b.Hash, b.Keys, b.Bytes, len(all[b.Hash]), size)
	}
	slotKey, _ := jam.ItemKey(jam.SlotItem)
	if v := all[b.Hash][string(slotKey)]; len(v) != 4 || binary.LittleEndian.Uint32(v) != uint32(b.Slot) {
		t.Errorf("block %s: slot %d, state says %x", b.Hash, b.Slot, v)
	}
	if len(b.Puts)+len(b.Dels) < 4+opts.Writes {
		t.Errorf("block %s: %d writes", b.Hash, len(b.Puts)+len(b.Dels))
	}
	if err := tree.Add(forks.Block{Hash: b.Hash, Parent: b.Parent, Slot: b.Slot, Root: *b.PostRoot}); err != nil {
		t.Error(err)
	}
}

func checkHeader(t *testing.T, b *state.Block) {
	t.Helper()
	h, err := jam.ParseHeader(b.Header)
	if err != nil {
		t.Fatal(err)
	}
	if jam.HeaderHash(b.Header) != b.Hash || h.Parent != b.Parent || h.Slot != b.Slot || h.PriorRoot != *b.PriorRoot || len(b.Header) != 297 {
		t.Errorf("block %s: header says %+v", b.Hash, h)
	}
}

// judge says whether a store could refuse a reject, and checks that its reason
// says the same.
func judge(t *testing.T, all states, tree *forks.Tree, r *Reject) bool {
	t.Helper()
	checkHeader(t, &r.Block)
	if _, ok := tree.Get(r.Hash); ok {
		t.Errorf("reject %s is a block", r.Hash)
	}
	parent, known := tree.Get(r.Parent)
	why := "seal"
	switch {
	case !known:
		why = "unknown parent"
	case r.Slot <= parent.Slot:
		why = "slot is not above"
	case *r.PriorRoot != parent.Root:
		why = "prior root"
	case r.HasWriteSet:
		all[r.Hash] = all.applied(t, &r.Block)
		if root := all.root(t, r.Hash); root != *r.RealPostRoot || root == *r.PostRoot {
			t.Errorf("reject %s: root %s, real %s, claimed %s", r.Hash, root, r.RealPostRoot, r.PostRoot)
		}
		why = "posterior root is not"
	}
	if !strings.Contains(r.Reason, why) {
		t.Errorf("reject %s: reason %q, found %q", r.Hash, r.Reason, why)
	}
	return why != "seal"
}

func TestGenerateOptions(t *testing.T) {
	for name, change := range map[string]func(o *GenerateOptions){
		"no blocks":           func(o *GenerateOptions) { o.Blocks = 0 },
		"too many blocks":     func(o *GenerateOptions) { o.Blocks = math.MaxInt },
		"negative keys":       func(o *GenerateOptions) { o.Keys = -1 },
		"negative writes":     func(o *GenerateOptions) { o.Writes = -1 },
		"negative value size": func(o *GenerateOptions) { o.ValueSize = -1 },
		"huge values":         func(o *GenerateOptions) { o.ValueSize = 1 << 40 },
		"fork every block":    func(o *GenerateOptions) { o.ForkEvery = 1 },
		"negative fork every": func(o *GenerateOptions) { o.ForkEvery = -1 },
		"negative fork depth": func(o *GenerateOptions) { o.ForkDepth = -1 },
		"negative rejects":    func(o *GenerateOptions) { o.Rejects = -1 },
	} {
		opts := small
		change(&opts)
		var buf bytes.Buffer
		if err := Generate(NewWriter(&buf), opts, nil); !errors.Is(err, ErrOptions) || buf.Len() > 0 {
			t.Errorf("%s: %v, %d bytes written", name, err, buf.Len())
		}
	}
	opts, calls := small, 0
	if err := Generate(NewWriter(&bytes.Buffer{}), opts, func(done, all int) {
		if calls++; done != calls || all != opts.Blocks {
			t.Errorf("progress %d of %d at call %d", done, all, calls)
		}
	}); err != nil || calls != opts.Blocks {
		t.Errorf("%d calls, %v", calls, err)
	}
}

// A long chain keeps its state at about the size asked for, and its branches
// short.
func TestGenerateLong(t *testing.T) {
	opts := GenerateOptions{Seed: 9, Blocks: 3000, Keys: 200, Writes: 20, ValueSize: 10, ForkEvery: 5, ForkDepth: 3, NoRoots: true}
	entries, err := readBytes(generated(t, opts), Options{})
	if err != nil {
		t.Fatal(err)
	}
	anchor := entries[1].(*Anchor)
	tree := forks.New(forks.Block{Hash: anchor.Hash})
	for _, e := range entries[2:] {
		b, ok := e.(*Block)
		if !ok {
			continue
		}
		if b.Keys < 100 || b.Keys > 500 {
			t.Fatalf("block %d has %d keys", b.Seq, b.Keys)
		}
		if err := tree.Add(forks.Block{Hash: b.Hash, Parent: b.Parent, Slot: b.Slot}); err != nil {
			t.Fatal(err)
		}
	}
	best, err := tree.BestLeaf(anchor.Hash)
	if err != nil {
		t.Fatal(err)
	}
	if tree.Height(best.Hash) < 2000 {
		t.Errorf("main line of %d blocks", tree.Height(best.Hash))
	}
	for _, leaf := range tree.Leaves() {
		if _, apply, err := tree.Path(best.Hash, leaf.Hash); err != nil || len(apply) > opts.ForkDepth {
			t.Errorf("side branch of %d blocks, %v", len(apply), err)
		}
	}
}

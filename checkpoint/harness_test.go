package checkpoint_test

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"accessor/checkpoint"
	"accessor/checkpoint/checkpointtest"
	"accessor/forks"
)

// harness drives a store by named blocks, and knows what state each one has.
type harness struct {
	*testing.T
	engine checkpoint.Engine
	dir    string
	opts   checkpoint.Options
	store  *checkpoint.Store
	blocks map[string]forks.Block
	states map[string]map[string]string
}

// small makes runs and images often.
var small = checkpoint.Options{RunLength: 2, ImageEvery: 4, MaxTables: 4, OpenViews: 2, WorkingDBs: 2}

func newHarness(t *testing.T, opts checkpoint.Options) *harness {
	t.Helper()
	return newHarnessOver(t, checkpointtest.Engine{}, opts)
}

func newHarnessOver(t *testing.T, engine checkpoint.Engine, opts checkpoint.Options) *harness {
	t.Helper()
	h := &harness{T: t, engine: engine, dir: filepath.Join(t.TempDir(), "store"), opts: opts,
		blocks: map[string]forks.Block{"anchor": {Hash: forks.Hash{0xa}}},
		states: map[string]map[string]string{"anchor": {"a": "0", "b": "0"}}}
	var err error
	h.store, err = checkpoint.Create(h.dir, engine, "none", checkpoint.Record{Block: h.blocks["anchor"]},
		func(yield func(checkpoint.Pair, error) bool) {
			_ = yield(checkpoint.Pair{Key: []byte("a"), Value: []byte("0")}, nil) &&
				yield(checkpoint.Pair{Key: []byte("b"), Value: []byte("0")}, nil)
		}, nil, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.store.Close() })
	return h
}

// write makes a block's delta, not recorded yet.
func (h *harness) write(name, parent string) *checkpoint.Record {
	h.Helper()
	p := h.blocks[parent]
	rec := &checkpoint.Record{Block: forks.Block{Parent: p.Hash, Slot: p.Slot + 1}}
	copy(rec.Hash[:], name)
	state := maps.Clone(h.states[parent])
	puts := []checkpoint.Pair{{Key: []byte("a"), Value: []byte(name)}, {Key: []byte("k" + name), Value: []byte("v")}}
	for _, p := range puts {
		state[string(p.Key)] = string(p.Value)
	}
	dels := [][]byte{[]byte("k" + parent), []byte("never there")}
	delete(state, "k"+parent)
	ws, err := checkpoint.NewWriteSet(puts, dels, checkpoint.Limits{})
	if err != nil {
		h.Fatal(err)
	}
	if err := h.store.WriteDelta(rec, ws, nil); err != nil {
		h.Fatal(err)
	}
	h.blocks[name], h.states[name] = rec.Block, state
	return rec
}

// hold writes and records a block, without a checkpoint.
func (h *harness) hold(name, parent string) forks.Block {
	h.Helper()
	rec := h.write(name, parent)
	if err := h.store.Record(rec); err != nil {
		h.Fatal(err)
	}
	return rec.Block
}

// add imports a block as state does, its checkpoint included.
func (h *harness) add(name, parent string) {
	h.Helper()
	w, err := h.store.Take(h.blocks[parent].Hash)
	if err == nil && w == nil {
		w, err = h.store.Clone(h.blocks[parent].Hash)
	}
	if err != nil {
		h.Fatal(err)
	}
	b := h.hold(name, parent)
	if err := w.Advance(b.Hash); err != nil {
		h.Fatal(err)
	}
	if err := h.store.Seal(w); err != nil {
		h.Fatal(err)
	}
	h.store.Park(w)
}

// chain adds blocks, each on the one before.
func (h *harness) chain(on string, names ...string) {
	h.Helper()
	for _, name := range names {
		h.add(name, on)
		on = name
	}
}

func (h *harness) reopen() {
	h.Helper()
	if err := h.store.Close(); err != nil {
		h.Fatal(err)
	}
	h.open()
}

func (h *harness) open() {
	h.Helper()
	var err error
	if h.store, err = checkpoint.Open(h.dir, h.engine, h.opts); err != nil {
		h.Fatal(err)
	}
}

func pairsOf(it checkpoint.StateIterator) (map[string]string, error) {
	got := make(map[string]string)
	for it.Next() {
		got[string(it.Key())] = string(it.Value())
	}
	return got, it.Close()
}

// wantStates reads the states at the named blocks from their checkpoints; of all
// blocks where none is named.
func (h *harness) wantStates(names ...string) {
	h.Helper()
	if len(names) == 0 {
		names = slices.Sorted(maps.Keys(h.blocks))
	}
	for _, name := range names {
		v, err := h.store.OpenView(h.blocks[name].Hash)
		if err != nil {
			h.Errorf("view of %s: %v", name, err)
			continue
		}
		got, err := pairsOf(v.Scan(nil, nil))
		if err != nil || !maps.Equal(got, h.states[name]) {
			h.Errorf("state at %s is %q, %v; want %q", name, got, err, h.states[name])
		}
		value, present, err := v.Get(nil, []byte("a"))
		if err != nil || !present || string(value) != h.states[name]["a"] {
			h.Errorf("a at %s is %q, %v, %v", name, value, present, err)
		}
		if _, present, err := v.Get(nil, []byte("never there")); present || err != nil {
			h.Errorf("absent key at %s: present %v, %v", name, present, err)
		}
		v.Close()
	}
}

func (h *harness) checkpointDir(name string) string {
	return filepath.Join(h.dir, "checkpoints", checkpoint.Name(h.blocks[name]))
}

func names(n int) (out []string) {
	for i := range n {
		out = append(out, fmt.Sprintf("n%02d", i))
	}
	return out
}

func (h *harness) deltaPath(name string) string {
	return filepath.Join(h.dir, "deltas", checkpoint.Name(h.blocks[name])+".sst")
}

func (h *harness) remove(name string) {
	h.Helper()
	if err := os.Remove(h.deltaPath(name)); err != nil {
		h.Fatal(err)
	}
}

func rewrite(dir, old, replacement string) error {
	path := filepath.Join(dir, "FORMAT")
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return os.WriteFile(path, bytes.Replace(text, []byte(old), []byte(replacement), 1), 0o644)
}

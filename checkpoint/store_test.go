package checkpoint_test

import (
	"bytes"
	"errors"
	"fmt"
	"iter"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
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

func TestEveryBlockIsReadable(t *testing.T) {
	h := newHarness(t, small)
	h.chain("anchor", names(20)...)
	h.chain("n07", "x1", "x2", "x3", "x4", "x5")
	h.add("y1", "x2") // y1 and x3 share a slot
	h.wantStates()
	if n := h.store.Stats().Runs.Load(); n == 0 {
		t.Error("no run was made")
	}
	h.reopen()
	h.wantStates()
	h.chain("n19", "z1", "z2", "z3")
	h.wantStates()
	for name, b := range h.blocks {
		if wrong := h.store.VerifyBlock(b.Hash); len(wrong) > 0 {
			t.Errorf("%s: %v", name, wrong)
		}
		if n := h.store.Tables(b.Hash); n > small.MaxTables {
			t.Errorf("checkpoint of %s has %d tables, at most %d", name, n, small.MaxTables)
		}
	}
}

func TestImagesAreMadeAndUsed(t *testing.T) {
	h := newHarness(t, small)
	for i, name := range names(200) {
		h.chain(map[bool]string{true: "anchor", false: fmt.Sprintf("n%02d", i-1)}[i == 0], name)
		if h.store.Stats().Images.Load() > 2 { // the anchor's is one
			break
		}
	}
	if h.store.Stats().Images.Load() < 3 {
		t.Fatal("no images after 200 blocks")
	}
	h.wantStates()
	h.reopen()
	h.wantStates()
}

func TestRootOfAnImageIsChecked(t *testing.T) {
	opts := small
	checked := make(chan int, 1000)
	opts.CheckRoot = func(pairs iter.Seq2[[]byte, []byte]) (forks.Hash, error) {
		n := 0
		for range pairs {
			n++
		}
		checked <- n
		return forks.Hash{0xbad & 0xff}, nil // none of the blocks has that root
	}
	h := newHarness(t, opts)
	h.chain("anchor", names(12)...)
	if n := <-checked; n != len(h.states["anchor"])+1 && n < 2 {
		t.Errorf("the root was computed over %d pairs", n)
	}
	h.chain("n11", "m1", "m2", "m3")
	if n := h.store.Stats().Images.Load(); n != 1 {
		t.Errorf("%d images, though their roots are wrong; want the anchor's alone", n)
	}
	h.wantStates()
}

func TestGrowingDoesNotClone(t *testing.T) {
	h := newHarness(t, checkpoint.Options{})
	h.chain("anchor", names(10)...)
	if n := h.store.Stats().Clones.Load(); n != 1 { // of the anchor's checkpoint
		t.Errorf("%d clones for a chain that grows, want 1", n)
	}
	ingested := h.store.Stats().Ingested.Load()
	h.add("fork", "n03")
	if c, i := h.store.Stats().Clones.Load(), h.store.Stats().Ingested.Load()-ingested; c != 2 || i != 1 {
		t.Errorf("a fork made %d clones and ingested %d tables, want 2 in all and its own", c, i)
	}
	h.wantStates()
}

func TestSealedDirectoriesAreReadOnly(t *testing.T) {
	h := newHarness(t, checkpoint.Options{})
	h.chain("anchor", "one")
	err := filepath.WalkDir(h.checkpointDir("one"), func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		want := os.FileMode(0o444)
		switch {
		case d.IsDir():
			want = 0o555
		case (checkpointtest.Engine{}).IsTable(d.Name()):
			want = 0o644
		}
		if info.Mode().Perm() != want {
			t.Errorf("%s has mode %v, want %v", d.Name(), info.Mode().Perm(), want)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestCheckpointsThatCantBeUsed(t *testing.T) {
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for name, tc := range map[string]struct {
		spoil func(h *harness, dir string)
		want  error
	}{
		"pruned":  {func(h *harness, _ string) { must(h.store.DropCheckpoint(h.blocks["two"].Hash)) }, checkpoint.ErrPruned},
		"missing": {func(_ *harness, dir string) { must(os.Chmod(dir, 0o755)); must(os.RemoveAll(dir)) }, checkpoint.ErrMissing},
		"changed": {func(_ *harness, dir string) {
			path := filepath.Join(dir, "TABLES")
			must(os.Chmod(path, 0o644))
			data, err := os.ReadFile(path)
			must(err)
			data[0] ^= 1
			must(os.WriteFile(path, data, 0o644))
		}, checkpoint.ErrDamaged},
		"a file more": {func(_ *harness, dir string) {
			must(os.Chmod(dir, 0o755))
			must(os.WriteFile(filepath.Join(dir, "LOCK"), nil, 0o644))
		}, checkpoint.ErrDamaged},
		"a table less": {func(_ *harness, dir string) {
			must(os.Chmod(dir, 0o755))
			must(os.Remove(filepath.Join(dir, "000000.tbl")))
		}, checkpoint.ErrDamaged},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHarness(t, checkpoint.Options{})
			h.chain("anchor", "one", "two", "three")
			tc.spoil(h, h.checkpointDir("two"))
			hash := h.blocks["two"].Hash
			if _, err := h.store.OpenView(hash); !errors.Is(err, tc.want) {
				t.Errorf("view: %v, want %v", err, tc.want)
			}
			if _, err := h.store.Clone(hash); !errors.Is(err, tc.want) {
				t.Errorf("clone: %v, want %v", err, tc.want)
			}
			h.wantStates("one", "three")
			h.reopen()
			if _, err := h.store.OpenView(hash); !errors.Is(err, tc.want) {
				t.Errorf("view after opening again: %v, want %v", err, tc.want)
			}
			// From the ancestor it can be made again.
			w, err := h.store.Clone(h.blocks["one"].Hash)
			must(err)
			must(w.Advance(hash))
			must(h.store.Seal(w))
			h.store.Park(w)
			h.wantStates()
		})
	}
}

// A run that is gone or spoilt is done without: it is derived.
func TestRunsThatCantBeUsed(t *testing.T) {
	for name, spoil := range map[string]func(path string) error{
		"missing": os.Remove,
		"cut":     func(path string) error { return os.Truncate(path, 10) },
	} {
		for _, when := range []string{"open", "closed"} {
			t.Run(name+" while "+when, func(t *testing.T) {
				h := newHarness(t, small)
				h.chain("anchor", names(9)...)
				for h.store.Stats().Runs.Load() < 3 {
					runtime.Gosched()
				}
				if when == "closed" {
					h.store.Close()
				}
				runs, err := filepath.Glob(filepath.Join(h.dir, "runs", "*"))
				if err != nil || len(runs) == 0 {
					t.Fatalf("runs: %v, %v", runs, err)
				}
				for _, path := range runs {
					if err := spoil(path); err != nil {
						t.Fatal(err)
					}
				}
				if when == "closed" {
					h.open()
				}
				w, err := h.store.Clone(h.blocks["anchor"].Hash)
				if err != nil {
					t.Fatal(err)
				}
				defer w.Drop()
				if err := w.Advance(h.blocks["n08"].Hash); err != nil {
					t.Fatal(err)
				}
				if got, err := pairsOf(w.Scan(nil, nil)); err != nil || !maps.Equal(got, h.states["n08"]) {
					t.Errorf("state is %q, %v; want %q", got, err, h.states["n08"])
				}
			})
		}
	}
}

func TestViewsOutliveTheirCheckpoint(t *testing.T) {
	h := newHarness(t, checkpoint.Options{OpenViews: 1})
	h.chain("anchor", "one", "two")
	v, err := h.store.OpenView(h.blocks["one"].Hash)
	if err != nil {
		t.Fatal(err)
	}
	if err := h.store.DropCheckpoint(h.blocks["one"].Hash); err != nil {
		t.Fatal(err)
	}
	if got, err := pairsOf(v.Scan(nil, nil)); err != nil || !maps.Equal(got, h.states["one"]) {
		t.Errorf("state at one is %q, %v", got, err)
	}
	v.Close()
	v.Close() // twice is safe
}

func TestStartUp(t *testing.T) {
	write := func(h *harness, path string, data []byte) {
		h.Helper()
		if err := os.WriteFile(filepath.Join(h.dir, path), data, 0o644); err != nil {
			h.Fatal(err)
		}
	}
	lost := func(h *harness, want int) {
		h.Helper()
		names, err := os.ReadDir(filepath.Join(h.dir, "lost"))
		if err != nil || len(names) != want {
			h.Errorf("lost/ holds %v, %v; want %d", names, err, want)
		}
	}
	for name, tc := range map[string]struct {
		before func(h *harness) // while the store is open
		closed func(h *harness)
		after  func(h *harness)
	}{
		"half-made things are removed": {
			closed: func(h *harness) {
				for _, d := range []string{"tmp", "work", "trash"} {
					write(h, d+"/x", nil)
				}
			},
			after: func(h *harness) {
				for _, d := range []string{"tmp", "work", "trash"} {
					if names, _ := os.ReadDir(filepath.Join(h.dir, d)); len(names) > 0 {
						h.Errorf("%s/ holds %v", d, names)
					}
				}
			},
		},
		"a whole delta without a record is taken in": {
			before: func(h *harness) { h.write("two", "one") },
			after: func(h *harness) {
				if _, err := h.store.Get(h.blocks["two"].Hash); err != nil {
					h.Error(err)
				}
				if got := h.store.Unsealed(); len(got) != 1 || got[0] != h.blocks["two"] {
					h.Errorf("unsealed: %v, want two", got)
				}
				lost(h, 0)
			},
		},
		"an orphan goes to lost": {
			before: func(h *harness) { h.write("two", "one"); h.write("three", "two"); h.remove("two") },
			after: func(h *harness) {
				if n := len(h.store.Records()); n != 2 {
					h.Errorf("%d records, want 2", n)
				}
				lost(h, 1)
			},
		},
		"a cut delta goes to lost": {
			before: func(h *harness) {
				h.write("two", "one")
				if err := os.Truncate(h.deltaPath("two"), 20); err != nil {
					h.Fatal(err)
				}
			},
			after: func(h *harness) { lost(h, 1) },
		},
		"a foreign file goes to lost": {
			closed: func(h *harness) { write(h, "deltas/notes.txt", []byte("mine")) },
			after:  func(h *harness) { lost(h, 1) },
		},
		"a checkpoint without a record is removed": {
			closed: func(h *harness) {
				if err := os.Mkdir(filepath.Join(h.dir, "checkpoints", "0000000009-x"), 0o755); err != nil {
					h.Fatal(err)
				}
			},
			after: func(h *harness) {
				if names, _ := os.ReadDir(filepath.Join(h.dir, "checkpoints")); len(names) != 2 {
					h.Errorf("checkpoints/ holds %v", names)
				}
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHarness(t, checkpoint.Options{})
			h.chain("anchor", "one")
			if tc.before != nil {
				tc.before(h)
			}
			if err := h.store.Close(); err != nil {
				t.Fatal(err)
			}
			if tc.closed != nil {
				tc.closed(h)
			}
			h.open()
			tc.after(h)
			h.wantStates("anchor", "one")
			h.reopen() // changes nothing more
			tc.after(h)
		})
	}
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

func TestOpenRefuses(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(dir string) error
		want   error
		text   string
	}{
		"nothing there":   {os.RemoveAll, checkpoint.ErrEmpty, ""},
		"no records":      {func(d string) error { return os.RemoveAll(filepath.Join(d, "blocks")) }, checkpoint.ErrNoRecords, "accessor recover"},
		"no FORMAT":       {func(d string) error { return os.Remove(filepath.Join(d, "FORMAT")) }, checkpoint.ErrFormat, "FORMAT"},
		"garbled FORMAT":  {func(d string) error { return os.WriteFile(filepath.Join(d, "FORMAT"), []byte("{"), 0o644) }, checkpoint.ErrFormat, "FORMAT"},
		"another version": {func(d string) error { return rewrite(d, "store/1", "store/2") }, checkpoint.ErrFormat, "store/2"},
		"another engine":  {func(d string) error { return rewrite(d, `"memory"`, `"RocksDB"`) }, checkpoint.ErrFormat, "RocksDB"},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHarness(t, checkpoint.Options{})
			h.chain("anchor", "one")
			if err := h.store.Close(); err != nil {
				t.Fatal(err)
			}
			if err := tc.change(h.dir); err != nil {
				t.Fatal(err)
			}
			_, err := checkpoint.Open(h.dir, checkpointtest.Engine{}, h.opts)
			if !errors.Is(err, tc.want) || !strings.Contains(err.Error(), tc.text) {
				t.Errorf("%v, want %v with %q", err, tc.want, tc.text)
			}
		})
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

func TestOneOwner(t *testing.T) {
	h := newHarness(t, checkpoint.Options{})
	_, err := checkpoint.Open(h.dir, checkpointtest.Engine{}, h.opts)
	if !errors.Is(err, checkpoint.ErrInUse) || !strings.Contains(err.Error(), fmt.Sprint(os.Getpid())) {
		t.Errorf("%v, want ErrInUse with the owner's process", err)
	}
	if _, err := checkpoint.Create(h.dir, checkpointtest.Engine{}, "none", checkpoint.Record{}, nil, nil, h.opts); !errors.Is(err, checkpoint.ErrInUse) {
		t.Errorf("create: %v, want ErrInUse", err)
	}
	if err := h.store.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := checkpoint.Create(h.dir, checkpointtest.Engine{}, "none", checkpoint.Record{}, nil, nil, h.opts); !errors.Is(err, checkpoint.ErrExists) {
		t.Errorf("create over a store: %v, want ErrExists", err)
	}
	h.open()
	h.wantStates()
}

func TestCreateRefusesAForeignFolder(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "thesis.tex"), []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	_, err := checkpoint.Create(dir, checkpointtest.Engine{}, "none", checkpoint.Record{}, nil, nil, checkpoint.Options{})
	if !errors.Is(err, checkpoint.ErrExists) || !strings.Contains(err.Error(), "thesis.tex") {
		t.Errorf("%v, want ErrExists naming the file", err)
	}
}

func TestRecover(t *testing.T) {
	h := newHarness(t, small)
	h.chain("anchor", names(9)...)
	h.chain("n04", "x1", "x2")
	head := h.blocks["x2"].Hash
	if err := h.store.SetMeta("head", head[:]); err != nil {
		t.Fatal(err)
	}
	h.write("late", "n08") // written, and never recorded
	if err := h.store.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(h.deltaPath("x1"), 30); err != nil {
		t.Fatal(err)
	}
	steps := 0
	report, err := checkpoint.Recover(h.dir, checkpointtest.Engine{}, h.opts, true, func(done, all int) {
		if steps++; done != steps || all != 13 {
			t.Errorf("progress %d of %d at step %d", done, all, steps)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	// x1 is damaged, so x2 hangs in the air; late is whole.
	if report.Blocks != 11 || len(report.Lost) != 2 || report.OldRecords == "" {
		t.Errorf("%d blocks, lost %v, old records %q", report.Blocks, report.Lost, report.OldRecords)
	}
	h.open()
	if h.store.Meta("head") != nil {
		t.Error("the head is a block that was lost")
	}
	for _, b := range h.store.Unsealed() {
		w, err := h.store.Clone(b.Parent)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(w.Advance(b.Hash), h.store.Seal(w)); err != nil {
			t.Fatal(err)
		}
		w.Drop()
	}
	delete(h.blocks, "x1")
	delete(h.blocks, "x2")
	h.wantStates()
}

func TestRecoverNeedsAnAnchor(t *testing.T) {
	h := newHarness(t, checkpoint.Options{})
	h.chain("anchor", "one")
	h.store.Close()
	h.remove("anchor")
	if _, err := checkpoint.Recover(h.dir, checkpointtest.Engine{}, h.opts, false, nil); !errors.Is(err, checkpoint.ErrEmpty) {
		t.Errorf("%v, want ErrEmpty", err)
	}
	if _, err := os.Stat(h.deltaPath("one")); err != nil {
		t.Errorf("a delta is gone: %v", err)
	}
}

func TestClosedStore(t *testing.T) {
	h := newHarness(t, checkpoint.Options{})
	h.chain("anchor", "one")
	h.store.Close()
	hash := h.blocks["one"].Hash
	if _, err := h.store.OpenView(hash); !errors.Is(err, checkpoint.ErrClosed) {
		t.Errorf("view: %v", err)
	}
	if _, err := h.store.Take(hash); !errors.Is(err, checkpoint.ErrClosed) {
		t.Errorf("take: %v", err)
	}
	if err := h.store.Record(&checkpoint.Record{Block: forks.Block{Hash: forks.Hash{9}, Parent: hash}}); !errors.Is(err, checkpoint.ErrClosed) {
		t.Errorf("record: %v", err)
	}
	if err := h.store.Close(); err != nil {
		t.Errorf("closing twice: %v", err)
	}
}

package checkpoint_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"accessor/checkpoint"
	"accessor/forks"
)

// newArchive has a line of blocks and forks that left it, archived up to n16.
func newArchive(t *testing.T) *harness {
	h := newHarness(t, small)
	h.growForked()
	h.archive("n16")
	return h
}

// growForked grows a line of 24 blocks with images, forks off it: within a group, at
// an image, and a long one.
func (h *harness) growForked() {
	h.Helper()
	line := names(24)
	h.imaged("anchor", line[:10]...)
	h.chain("n05", "s1", "s2", "s3")
	h.add("t1", "s1")
	h.chain("n07", "i1")
	h.imaged("n09", line[10:]...)
	for i, on := 0, "n12"; i < 34; i++ {
		name := fmt.Sprintf("long%02d", i)
		h.add(name, on)
		on = name
	}
}

// imaged adds blocks, each on the one before, and waits for each image that is due.
func (h *harness) imaged(on string, names ...string) {
	h.Helper()
	for _, name := range names {
		h.add(name, on)
		on = name
		if h.blocks[name].Slot%forks.Slot(small.ImageEvery) != 0 { // slots are heights here
			continue
		}
		for deadline := time.Now().Add(10 * time.Second); !h.store.HasImage(h.blocks[name].Hash); time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				h.Fatalf("no image at %s", name)
			}
		}
	}
}

func (h *harness) archive(name string) (blocks int) {
	h.Helper()
	blocks, _, err := h.store.Archive(context.Background(), h.blocks[name].Hash)
	if err != nil {
		h.Fatal(err)
	}
	return blocks
}

// wantPoints reads single keys of all states, present and absent ones, in every way
// that needs no scan.
func (h *harness) wantPoints() {
	h.Helper()
	var keys [][]byte
	for _, k := range slices.Sorted(func(yield func(string) bool) {
		for name := range h.blocks {
			if !yield("k" + name) {
				return
			}
		}
	}) {
		keys = append(keys, []byte(k))
	}
	keys = append([][]byte{[]byte("a"), []byte("b")}, keys...)
	for name, b := range h.blocks {
		v, err := h.store.OpenView(b.Hash)
		if err != nil {
			h.Errorf("view of %s: %v", name, err)
			continue
		}
		many, err := v.GetMany(keys)
		if err != nil {
			h.Errorf("%s: %v", name, err)
		}
		for i, k := range keys {
			want, wanted := h.states[name][string(k)]
			got, present, err := v.Get([]byte("dst"), k)
			if err != nil || present != wanted || string(got) != "dst"+want {
				h.Errorf("%s at %s is %q, %v, %v; want %q, %v", k, name, got, present, err, want, wanted)
			}
			if i < len(many) && ((many[i] != nil) != wanted || string(many[i]) != want) {
				h.Errorf("%s at %s is %q among many, want %q, %v", k, name, many[i], want, wanted)
			}
		}
		v.Close()
	}
}

func TestArchive(t *testing.T) {
	h := newArchive(t)
	for _, name := range []string{"n00", "n06", "n14", "n15", "s2", "t1", "i1"} {
		if _, err := os.Stat(h.checkpointDir(name)); err == nil {
			t.Errorf("%s has a checkpoint", name)
		}
	}
	for _, name := range []string{"anchor", "n20", "long33"} {
		if _, err := os.Stat(h.checkpointDir(name)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if runs, _ := filepath.Glob(filepath.Join(h.dir, "runs", checkpoint.Name(h.blocks["n07"])+"*")); len(runs) > 0 {
		t.Errorf("runs of archived blocks: %v", runs)
	}
	if n := h.archive("n16"); n != 0 {
		t.Errorf("%d blocks were archived twice", n)
	}
	check := func() {
		t.Helper()
		h.wantPoints()
		h.wantStates()
		for name, b := range h.blocks {
			if wrong := h.store.VerifyBlock(b.Hash); len(wrong) > 0 {
				t.Errorf("%s: %v", name, wrong)
			}
		}
	}
	check()
	h.reopen()
	check()
}

// Views of archived blocks stay usable once they are detached, whatever goes.
func TestArchivedViewsOutlivePruning(t *testing.T) {
	h := newArchive(t)
	h.reopen()
	views := make(map[string]*checkpoint.View)
	for name, b := range h.blocks {
		v, err := h.store.OpenView(b.Hash)
		if err != nil {
			t.Fatal(err)
		}
		defer v.Close()
		views[name] = v
	}
	h.prune("n05", func() error {
		for _, v := range views {
			if err := v.Detach(); err != nil {
				return err
			}
		}
		return nil
	})
	for name, v := range views {
		got, err := pairsOf(v.Scan(nil, nil))
		if err != nil || !maps.Equal(got, h.states[name]) {
			t.Errorf("state at %s is %q, %v; want %q", name, got, err, h.states[name])
		}
	}
	check := func() {
		t.Helper()
		h.wantPoints()
		h.wantStates()
	}
	h.forgetBelow("n05")
	check() // the anchor is in the middle of a group
	h.reopen()
	check()
	h.prune("n07", func() error { return nil }) // at its end
	h.forgetBelow("n07")
	check()
	h.reopen()
	check()
	if left, _ := os.ReadDir(filepath.Join(h.dir, "indexes")); len(left) != 2 {
		t.Errorf("%d indexes, want 2", len(left))
	}
}

func (h *harness) prune(name string, switchOver func() error) {
	h.Helper()
	if _, err := h.store.Prune(context.Background(), h.blocks[name].Hash, switchOver); err != nil {
		h.Fatal(err)
	}
}

// forgetBelow takes the blocks that don't descend from one out of the model.
func (h *harness) forgetBelow(name string) {
	h.Helper()
	for other, b := range h.blocks {
		if _, err := h.store.Get(b.Hash); errors.Is(err, checkpoint.ErrUnknown) {
			delete(h.blocks, other)
		} else if err != nil {
			h.Fatal(err)
		}
	}
	if _, ok := h.blocks[name]; !ok {
		h.Fatalf("%s is gone", name)
	}
}

// What was derived for archived blocks and is damaged or gone is done without, and
// made again.
func TestArchivesThatCantBeUsed(t *testing.T) {
	index := func(h *harness) string {
		return filepath.Join(h.dir, "indexes", checkpoint.Name(h.blocks["n07"])+"-4.sst")
	}
	spoil := func(t *testing.T, path string) {
		if err := os.Truncate(path, 20); err != nil {
			t.Fatal(err)
		}
	}
	for name, damage := range map[string]func(*testing.T, *harness){
		"index cut short": func(t *testing.T, h *harness) { spoil(t, index(h)) },
		"index gone while open": func(t *testing.T, h *harness) {
			if err := os.Remove(index(h)); err != nil {
				t.Fatal(err)
			}
		},
		"another group's index": func(t *testing.T, h *harness) {
			other := filepath.Join(h.dir, "indexes", checkpoint.Name(h.blocks["n11"])+"-4.sst")
			h.reopen() // an index is looked at when it is used first
			if err := os.Rename(other, index(h)); err != nil {
				t.Fatal(err)
			}
		},
		"index gone at the start": func(t *testing.T, h *harness) {
			if err := os.Remove(index(h)); err != nil {
				t.Fatal(err)
			}
			h.reopen()
		},
		"images thinned out": func(t *testing.T, h *harness) {
			if _, err := h.store.Thin([]forks.Hash{h.blocks["n03"].Hash, h.blocks["n07"].Hash}); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := newArchive(t)
			damage(t, h)
			h.wantPoints()
			h.wantStates()
			h.archive("n16")
			h.reopen()
			h.wantPoints()
			h.wantStates()
		})
	}
}

// An archiving that ends anywhere leaves all states readable, and can be done again.
func TestArchivingCutShort(t *testing.T) {
	for nth, more := int64(1), true; more; nth++ {
		more = false
		for _, applied := range []bool{false, true} {
			var armed, fired atomic.Bool
			var calls atomic.Int64
			opts := small
			opts.FileHook = func(call checkpoint.FileCall) error {
				if !armed.Load() || call.Applied != applied || calls.Add(1) != nth {
					return nil
				}
				fired.Store(true)
				return errDisk
			}
			h := newHarness(t, opts)
			h.imaged("anchor", names(9)...)
			h.quiet()
			armed.Store(true)
			_, _, err := h.store.Archive(context.Background(), h.blocks["n08"].Hash)
			armed.Store(false)
			if !fired.Load() && err != nil {
				t.Error(err)
			}
			more = more || fired.Load()
			h.wantPoints()
			h.reopen()
			h.wantPoints()
			h.wantStates()
			h.archive("n08")
			h.wantPoints()
			h.wantStates()
			h.store.Close()
		}
		if t.Failed() {
			return
		}
	}
}

// quiet waits until nothing is done in the background.
func (h *harness) quiet() {
	h.Helper()
	runs := func() int64 { return h.store.Stats().Runs.Load() + h.store.Stats().Images.Load() }
	for before := int64(-1); before != runs(); {
		before = runs()
		time.Sleep(20 * time.Millisecond)
	}
}

func TestArchiveStops(t *testing.T) {
	h := newHarness(t, small)
	h.imaged("anchor", names(8)...)
	if _, _, err := h.store.Archive(context.Background(), forks.Hash{9}); !errors.Is(err, checkpoint.ErrUnknown) {
		t.Errorf("up to a block that isn't held: %v", err)
	}
	h.store.Close()
	if _, _, err := h.store.Archive(context.Background(), h.blocks["n07"].Hash); !errors.Is(err, checkpoint.ErrClosed) {
		t.Errorf("after closing: %v", err)
	}
}

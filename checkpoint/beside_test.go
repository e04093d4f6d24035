package checkpoint_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"accessor/checkpoint"
	"accessor/checkpoint/checkpointtest"
	"accessor/forks"
)

// engines are those that reading beside the owner is tested over; rocks_test.go
// adds RocksDB where cgo is on.
var engines = map[string]func() (engine checkpoint.Engine, closeEngine func()){
	"go": func() (checkpoint.Engine, func()) { return checkpointtest.Engine{}, func() {} },
}

// besideOwner runs a test over each engine: with a store, and a reader beside it
// that has an engine of its own.
func besideOwner(t *testing.T, opts checkpoint.Options, f func(h *harness, b *checkpoint.Beside)) {
	for _, name := range slices.Sorted(maps.Keys(engines)) {
		t.Run(name, func(t *testing.T) {
			owner, closeOwner := engines[name]()
			t.Cleanup(closeOwner)
			engine, closeEngine := engines[name]()
			t.Cleanup(closeEngine)
			h := newHarnessOver(t, owner, opts)
			t.Cleanup(func() { makeRemovable(h.dir) })
			f(h, h.beside(engine))
		})
	}
}

func makeRemovable(dir string) {
	_ = filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			return os.Chmod(path, 0o755)
		}
		return nil
	})
}

func (h *harness) beside(engine checkpoint.Engine) *checkpoint.Beside {
	h.Helper()
	b, err := checkpoint.OpenBeside(h.dir, engine)
	if err != nil {
		h.Fatal(err)
	}
	return b
}

// footprint is all that a directory holds: names, modes, sizes and times.
func footprint(t *testing.T, dir string) string {
	t.Helper()
	var out strings.Builder
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		fmt.Fprintln(&out, path, info.Mode(), info.Size(), info.ModTime().UnixNano())
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// readBeside compares the state at a block, read beside the owner, with the
// model's.
func (h *harness) readBeside(b *checkpoint.Beside, name string) error {
	v, err := b.OpenView(context.Background(), h.blocks[name].Hash)
	if err != nil {
		return err
	}
	defer v.Close()
	return h.compareBeside(v, name)
}

func (h *harness) compareBeside(v *checkpoint.BesideView, name string) error {
	if v.At() != h.blocks[name] {
		return fmt.Errorf("view of %s is at %+v", name, v.At())
	}
	got, err := pairsOf(v.Scan(nil, nil))
	if err != nil || !maps.Equal(got, h.states[name]) {
		return fmt.Errorf("state at %s is %q, %w; want %q", name, got, err, h.states[name])
	}
	value, present, err := v.Get([]byte("at "), []byte("a"))
	if err != nil || !present || string(value) != "at "+h.states[name]["a"] {
		return fmt.Errorf("a at %s is %q, %v, %w", name, value, present, err)
	}
	if _, present, err := v.Get(nil, []byte("never there")); present || err != nil {
		return fmt.Errorf("absent key at %s: present %v, %w", name, present, err)
	}
	return nil
}

// reseal makes a block's checkpoint again from its parent's.
func (h *harness) reseal(name, parent string) {
	h.Helper()
	w, err := h.store.Clone(h.blocks[parent].Hash)
	if err == nil {
		err = w.Advance(h.blocks[name].Hash)
	}
	if err == nil {
		err = h.store.Seal(w)
	}
	if err != nil {
		h.Fatal(err)
	}
	w.Drop()
}

func (h *harness) drop(name string) {
	h.Helper()
	if err := h.store.DropCheckpoint(h.blocks[name].Hash); err != nil {
		h.Fatal(err)
	}
}

func TestBesideReadsEveryBlockAndChangesNothing(t *testing.T) {
	besideOwner(t, checkpoint.Options{}, func(h *harness, b *checkpoint.Beside) {
		h.chain("anchor", names(6)...)
		h.chain("n02", "x1", "x2")
		h.hold("bare", "n05")
		h.drop("anchor") // its image is left
		if err := h.store.WriteHeads(checkpoint.Heads{}); err != nil {
			h.Fatal(err)
		}
		h.settleTrash()

		before := footprint(h.T, h.dir)
		for name := range h.blocks {
			if err := h.readBeside(b, name); err != nil {
				h.Error(err)
			}
		}
		list, err := b.List()
		if err != nil || len(list) != len(h.blocks) || !slices.IsSortedFunc(list, func(x, y checkpoint.Listed) int { return int(x.Slot) - int(y.Slot) }) {
			h.Errorf("%d blocks are listed, %v, want %d: %v", len(list), err, len(h.blocks), list)
		}
		for _, l := range list {
			if l.Sealed != (l.Hash != h.blocks["bare"].Hash) {
				h.Errorf("block %s at slot %d is listed with sealed %v", l.Hash.Short(), l.Slot, l.Sealed)
			}
			if rec, err := b.Record(l); err != nil || rec.Hash != l.Hash || rec.Slot != l.Slot {
				h.Errorf("record of block %s is %+v, %v", l.Hash.Short(), rec.Block, err)
			}
		}

		if _, err := b.OpenView(context.Background(), forks.Hash{9, 9}); !errors.Is(err, checkpoint.ErrUnknown) {
			h.Errorf("view of a block that isn't there: %v", err)
		}
		_, _ = b.Heads()
		if after := footprint(h.T, h.dir); after != before {
			h.Errorf("reading changed the directory from\n%s\nto\n%s", before, after)
		}
	})
}

// settleTrash waits until what was dropped is gone from disk.
func (h *harness) settleTrash() {
	h.Helper()
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		names, err := os.ReadDir(filepath.Join(h.dir, "trash"))
		if err == nil && len(names) == 0 {
			return
		}
		if time.Now().After(end) {
			h.Fatalf("trash/ holds %v, %v", names, err)
		}
	}
}

func TestBesideViewsOutliveTheirCheckpoint(t *testing.T) {
	besideOwner(t, checkpoint.Options{}, func(h *harness, b *checkpoint.Beside) {
		h.chain("anchor", names(5)...)
		v, err := b.OpenView(context.Background(), h.blocks["n03"].Hash)
		if err != nil {
			h.Fatal(err)
		}
		h.drop("n03")
		h.settleTrash()
		if err := h.compareBeside(v, "n03"); err != nil {
			h.Error(err)
		}
		v.Close()
		v.Close() // twice is safe
	})
}

// What goes while it is looked for may come back.
func TestBesideWaitsForACheckpoint(t *testing.T) {
	besideOwner(t, checkpoint.Options{}, func(h *harness, b *checkpoint.Beside) {
		h.chain("anchor", "one", "two")
		for _, name := range []string{"anchor", "one", "two"} {
			h.drop(name)
		}
		h.quiet() // who looks for the image would make it again
		makeRemovable(h.dir)
		image := filepath.Join(h.dir, "images", checkpoint.Name(h.blocks["anchor"]))
		aside := filepath.Join(h.dir, "tmp", "aside")
		move := func(from, to string) {
			if err := os.Rename(from, to); err != nil {
				h.Error(err)
			}
		}
		move(image, aside)
		var back sync.WaitGroup
		back.Go(func() {
			time.Sleep(10 * time.Millisecond)
			move(aside, image)
		})
		if err := h.readBeside(b, "two"); err != nil {
			h.Error(err)
		}
		back.Wait()
		move(image, aside)
		defer move(aside, image)
		if _, err := b.OpenView(context.Background(), h.blocks["two"].Hash); !errors.Is(err, checkpoint.ErrMissing) {
			h.Errorf("with nothing sealed: %v", err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Millisecond)
		defer cancel()
		if _, err := b.OpenView(ctx, h.blocks["two"].Hash); !errors.Is(err, context.DeadlineExceeded) {
			h.Errorf("view with a context that ends: %v", err)
		}
	})
}

// racing is an engine beside which the owner does something while a database is
// being opened.
type racing struct {
	checkpoint.Engine
	meanwhile func(dir string)
	opened    atomic.Int64
}

func (r *racing) OpenReadOnly(dir string) (checkpoint.DB, error) {
	r.opened.Add(1)
	db, err := r.Engine.OpenReadOnly(dir)
	if f := r.meanwhile; f != nil {
		r.meanwhile = nil
		f(dir)
	}
	return db, err
}

// What was opened while the owner put another directory in its place may be of
// both. It is opened again.
func TestBesideSeesThatADirectoryIsReplaced(t *testing.T) {
	for name, tc := range map[string]struct {
		meanwhile func(h *harness)
		opened    int64
		err       error
	}{
		"sealed again":          {func(h *harness) { h.reseal("two", "one") }, 2, nil},
		"dropped, sealed again": {func(h *harness) { h.drop("two"); h.settleTrash(); h.reseal("two", "one") }, 2, nil},
		"dropped":               {func(h *harness) { h.drop("two") }, 2, nil}, // from its parent
		"another one sealed":    {func(h *harness) { h.reseal("one", "anchor") }, 1, nil},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHarness(t, checkpoint.Options{})
			h.chain("anchor", "one", "two")
			r := &racing{Engine: checkpointtest.Engine{}, meanwhile: func(string) { tc.meanwhile(h) }}
			if err := h.readBeside(h.beside(r), "two"); !errors.Is(err, tc.err) {
				t.Errorf("%v, want %v", err, tc.err)
			}
			if n := r.opened.Load(); n != tc.opened {
				t.Errorf("opened %d times, want %d", n, tc.opened)
			}
		})
	}
}

// A directory is at the block that the record in it says, whatever its name.
func TestBesideDoesNotBelieveNames(t *testing.T) {
	besideOwner(t, checkpoint.Options{}, func(h *harness, b *checkpoint.Beside) {
		h.chain("anchor", "one", "two")
		h.add("other", "one") // at two's slot
		stranger := forks.Block{Hash: forks.Hash{7}, Slot: 2}
		makeRemovable(h.dir)
		rename := func(from, to string) {
			h.Helper()
			if err := os.Rename(from, to); err != nil {
				h.Fatal(err)
			}
		}
		side := filepath.Join(h.dir, "tmp", "side")
		rename(h.checkpointDir("two"), side)
		rename(h.checkpointDir("other"), h.checkpointDir("two"))
		rename(side, filepath.Join(h.dir, "checkpoints", checkpoint.Name(stranger)))
		// The same block, under another slot.
		wrongSlot := h.blocks["one"]
		wrongSlot.Slot = 77
		rename(h.checkpointDir("one"), filepath.Join(h.dir, "checkpoints", checkpoint.Name(wrongSlot)))

		for _, hash := range []forks.Hash{h.blocks["two"].Hash, stranger.Hash, wrongSlot.Hash} {
			if v, err := b.OpenView(context.Background(), hash); !errors.Is(err, checkpoint.ErrDamaged) {
				h.Errorf("view at %s: %+v, %v", hash.Short(), v, err)
			}
		}
		for _, name := range []string{".probe", "0000000002", "2-" + stranger.Hash.String(), "0000000002-" + strings.ToUpper(stranger.Hash.String()),
			"+000000002-" + stranger.Hash.String(), "9999999999-" + stranger.Hash.String(), "0000000002-0x" + stranger.Hash.String()} {
			if err := os.Mkdir(filepath.Join(h.dir, "images", name), 0o755); err != nil {
				h.Fatal(err)
			}
		}
		if list, err := b.List(); err != nil || len(list) != 6 { // four blocks and two wrong names
			h.Errorf("listed %+v, %v", list, err)
		}
	})
}

// A file where a directory should be, or a damaged one, is an error, not waited
// for; the image does instead where there is one.
func TestBesideAndDamage(t *testing.T) {
	besideOwner(t, checkpoint.Options{}, func(h *harness, b *checkpoint.Beside) {
		h.chain("anchor", "one", "two")
		makeRemovable(h.dir)
		for _, name := range []string{"anchor", "two"} {
			files, err := os.ReadDir(h.checkpointDir(name))
			if err != nil {
				h.Fatal(err)
			}
			for _, f := range files {
				path := filepath.Join(h.checkpointDir(name), f.Name())
				_ = os.Remove(path) // tables are shared
				if err := os.WriteFile(path, []byte("?"), 0o644); err != nil {
					h.Fatal(err)
				}
			}
		}
		if err := os.RemoveAll(h.checkpointDir("one")); err != nil {
			h.Fatal(err)
		}
		if err := os.WriteFile(h.checkpointDir("one"), nil, 0o644); err != nil {
			h.Fatal(err)
		}
		if err := h.readBeside(b, "anchor"); err != nil {
			h.Errorf("with an image: %v", err)
		}
		for _, name := range []string{"one", "two"} {
			if err := h.readBeside(b, name); err == nil || errors.Is(err, checkpoint.ErrMissing) || errors.Is(err, checkpoint.ErrUnknown) {
				h.Errorf("damaged checkpoint of %s: %v", name, err)
			}
		}
	})
}

func TestOpenBeside(t *testing.T) {
	write := func(text string) func(t *testing.T, h *harness) {
		return func(t *testing.T, h *harness) {
			if err := os.WriteFile(filepath.Join(h.dir, "FORMAT"), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, tc := range map[string]struct {
		spoil func(t *testing.T, h *harness)
		want  error
	}{
		"as it is":        {func(*testing.T, *harness) {}, nil},
		"garbled":         {write("{"), checkpoint.ErrFormat},
		"another program": {write(`{"format":"other/1","engine":"memory"}`), checkpoint.ErrFormat},
		"another engine":  {write(`{"format":"accessor-store/1","engine":"RocksDB"}`), checkpoint.ErrFormat},
		"long":            {write(strings.Repeat(" ", 1<<20) + `{"format":"accessor-store/1","engine":"memory"}`), checkpoint.ErrFormat},
		"without": {func(_ *testing.T, h *harness) {
			os.Remove(filepath.Join(h.dir, "FORMAT"))
		}, checkpoint.ErrFormat}, // beside deltas
		"a pipe": {func(t *testing.T, h *harness) {
			os.Remove(filepath.Join(h.dir, "FORMAT"))
			if err := unix.Mkfifo(filepath.Join(h.dir, "FORMAT"), 0o644); err != nil {
				t.Fatal(err)
			}
		}, checkpoint.ErrFormat},
		"another folder": {func(t *testing.T, h *harness) { h.dir = t.TempDir() }, checkpoint.ErrEmpty},
		"no folder":      {func(t *testing.T, h *harness) { h.dir = filepath.Join(t.TempDir(), "none") }, checkpoint.ErrEmpty},
		"a file":         {func(_ *testing.T, h *harness) { h.dir = filepath.Join(h.dir, "LOCK") }, checkpoint.ErrEmpty},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHarness(t, checkpoint.Options{})
			h.chain("anchor", "one")
			tc.spoil(t, h)
			if b, err := checkpoint.OpenBeside(h.dir, h.engine); !errors.Is(err, tc.want) {
				t.Errorf("%+v, %v; want %v", b, err, tc.want)
			}
		})
	}
}

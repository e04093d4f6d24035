package checkpoint_test

import (
	"errors"
	"fmt"
	"iter"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"accessor/checkpoint"
	"accessor/checkpoint/checkpointtest"
	"accessor/forks"
)

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

package checkpoint_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"accessor/checkpoint"
	"accessor/checkpoint/checkpointtest"
	"accessor/forks"
)

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

package checkpoint_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"accessor/checkpoint"
	"accessor/forks"
)

func someHeads() checkpoint.Heads {
	return checkpoint.Heads{
		Head:      checkpoint.Label{Hash: forks.Hash{3}, Slot: forks.MaxSlot, Root: forks.Hash{0xc}},
		Finalized: checkpoint.Label{Hash: forks.Hash{2}, Slot: 2, Root: forks.Hash{0xb}},
		Anchor:    checkpoint.Label{Hash: forks.Hash{1}, Slot: 1, Root: forks.Hash{0xa}},
	}
}

func (h *harness) headsFile() string { return filepath.Join(h.dir, "HEADS") }

func (h *harness) writeHeads() checkpoint.Heads {
	h.Helper()
	want := someHeads()
	if err := h.store.WriteHeads(want); err != nil {
		h.Fatal(err)
	}
	return want
}

func TestHeads(t *testing.T) {
	h := newHarness(t, checkpoint.Options{})
	if _, err := checkpoint.ReadHeads(h.dir); !errors.Is(err, checkpoint.ErrHeads) || !strings.Contains(err.Error(), "by its slot or hash") {
		t.Errorf("before it is written: %v", err)
	}
	start := time.Now().Truncate(time.Millisecond)
	want := h.writeHeads()
	got, err := h.beside(h.engine).Heads()
	if err != nil {
		t.Fatal(err)
	}
	if got.Written.Before(start) || got.Written.After(time.Now()) || got.Process != os.Getpid() {
		t.Errorf("written at %v by process %d", got.Written, got.Process)
	}
	want.Written, want.Process = got.Written, got.Process
	if got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if _, err := os.Lstat(h.headsFile() + ".tmp"); err == nil {
		t.Error("a temporary file is left")
	}
	h.reopen() // HEADS doesn't disturb
	h.store.Close()
	if err := h.store.WriteHeads(want); !errors.Is(err, checkpoint.ErrClosed) {
		t.Errorf("write after close: %v", err)
	}
}

func TestHeadsThatSayNothing(t *testing.T) {
	label := func(slot int) string {
		return fmt.Sprintf(`{"hash":"%064x","slot":%d,"root":"%064x"}`, 1, slot, 2)
	}
	file := func(format, head, finalized, anchor string) string {
		return fmt.Sprintf(`{"format":%q,"head":%s,"finalized":%s,"anchor":%s,"process":%d,"written":"2025-01-02T03:04:05Z"}`,
			format, head, finalized, anchor, os.Getpid())
	}
	whole := file("accessor-heads/1", label(3), label(2), label(1))
	cases := map[string]string{
		"empty":           "",
		"not JSON":        "head finalized",
		"trailing":        whole + "x",
		"another format":  file("accessor-heads/2", label(3), label(2), label(1)),
		"long format":     file(strings.Repeat("x", 2000), label(3), label(2), label(1)),
		"no head":         file("accessor-heads/1", "null", label(2), label(1)),
		"no anchor":       `{"format":"accessor-heads/1","head":` + label(3) + `,"finalized":` + label(2) + `}`,
		"short hash":      file("accessor-heads/1", `{"hash":"0102","slot":3}`, label(2), label(1)),
		"slot too high":   file("accessor-heads/1", strings.Replace(label(3), ":3,", ":4294967296,", 1), label(2), label(1)),
		"negative slot":   file("accessor-heads/1", label(-3), label(2), label(1)),
		"slots that fall": file("accessor-heads/1", label(3), label(4), label(1)),
		"bad time":        strings.Replace(whole, "2025", "yesterday", 1),
		"too long":        whole + strings.Repeat(" ", 5000),
	}
	for n := range len(whole) {
		cases[fmt.Sprintf("cut to %d bytes", n)] = whole[:n]
	}
	h := newHarness(t, checkpoint.Options{})
	b := h.beside(h.engine)
	if err := os.WriteFile(h.headsFile(), []byte(whole), 0o644); err != nil {
		t.Fatal(err)
	}
	if got, err := b.Heads(); err != nil || got.Head.Slot != 3 || got.Finalized.Slot != 2 || got.Anchor.Slot != 1 {
		t.Fatalf("%+v, %v", got, err)
	}
	for name, text := range cases {
		if err := os.WriteFile(h.headsFile(), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		_, err := b.Heads()
		if !errors.Is(err, checkpoint.ErrHeads) || !strings.Contains(err.Error(), "by its slot or hash") || len(err.Error()) > 1000 {
			t.Errorf("%s: %v", name, err)
		}
	}
	// Not a file: nobody waits for it.
	os.Remove(h.headsFile())
	if err := unix.Mkfifo(h.headsFile(), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Heads(); !errors.Is(err, checkpoint.ErrHeads) {
		t.Errorf("a pipe: %v", err)
	}
	h.writeHeads() // takes its place
	if _, err := b.Heads(); err != nil {
		t.Errorf("after it was written over: %v", err)
	}
}

// A former owner's HEADS says nothing about where the head is now.
func TestHeadsOfAFormerOwner(t *testing.T) {
	h := newHarness(t, checkpoint.Options{})
	want := h.writeHeads()
	b := h.beside(h.engine)
	if b.Owner() != os.Getpid() {
		t.Errorf("owner is %d", b.Owner())
	}
	if err := os.WriteFile(filepath.Join(h.dir, "LOCK"), []byte("4194999\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Heads(); !errors.Is(err, checkpoint.ErrHeads) || !strings.Contains(err.Error(), "process 4194999") {
		t.Errorf("%v", err)
	}
	if got, err := b.LastHeads(); err != nil || got.Finalized != want.Finalized {
		t.Errorf("%+v, %v", got, err)
	}
	for _, text := range []string{"", "x\n", "-5\n", strings.Repeat("1", 100)} {
		if err := os.WriteFile(filepath.Join(h.dir, "LOCK"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if b.Owner() != 0 {
			t.Errorf("LOCK says %.20q: owner is %d", text, b.Owner())
		}
	}
}

// Where it can't be written, no old one is left.
func TestHeadsThatFail(t *testing.T) {
	fail := false
	for _, op := range []string{"write", "rename"} {
		for _, applied := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, applied %v", op, applied), func(t *testing.T) {
				opts := checkpoint.Options{FileHook: func(c checkpoint.FileCall) error {
					if fail && c.Op == op && c.Applied == applied && strings.HasPrefix(filepath.Base(c.Path), "HEADS") {
						return errDisk
					}
					return nil
				}}
				fail = false
				h := newHarness(t, opts)
				h.writeHeads()
				fail = true
				if err := h.store.WriteHeads(someHeads()); !errors.Is(err, errDisk) {
					t.Errorf("write: %v", err)
				}
				if left, _ := filepath.Glob(filepath.Join(h.dir, "HEADS*")); len(left) > 0 {
					t.Errorf("left: %v", left)
				}
				fail = false
				h.writeHeads()
				if _, err := checkpoint.ReadHeads(h.dir); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

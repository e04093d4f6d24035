package forks_test

import (
	"errors"
	"strconv"
	"strings"
	"testing"

	"accessor/forks"

	"github.com/google/go-cmp/cmp"
)

// harness is a tree of named blocks, so that tests read like the drawings: the
// block "4a" has slot 4 and its name's bytes as its hash, so hashes are sorted
// as names are.
type harness struct {
	*forks.Tree
	t testing.TB
}

func newHarness(t testing.TB, anchor string) *harness {
	t.Helper()
	return &harness{forks.New(block(t, anchor, "")), t}
}

func hash(name string) (h forks.Hash) {
	if copy(h[:], name) != len(name) {
		panic("name of a block is longer than a hash: " + name)
	}
	return h
}

func name(b forks.Block) string { return strings.TrimRight(string(b.Hash[:]), "\x00") }

func names(blocks []forks.Block) string {
	out := make([]string, len(blocks))
	for i, b := range blocks {
		out[i] = name(b)
	}
	return strings.Join(out, " ")
}

func block(t testing.TB, name, parent string) forks.Block {
	t.Helper()
	slot, err := strconv.ParseUint(strings.TrimRight(name, "abcdefghijklmnopqrstuvwxyz"), 10, 32)
	if err != nil {
		t.Fatalf("name of a block starts with its slot: %v", err)
	}
	return forks.Block{Hash: hash(name), Parent: hash(parent), Slot: forks.Slot(slot), Root: hash("root of " + name)}
}

// grow adds a line of blocks, each under the one before it: grow("2", "3a",
// "5a") puts 3a under 2, which is there already, and 5a under 3a.
func (h *harness) grow(line ...string) {
	h.t.Helper()
	for i := 1; i < len(line); i++ {
		if err := h.Add(block(h.t, line[i], line[i-1])); err != nil {
			h.t.Fatal(err)
		}
	}
}

// refuse wants a block to be refused and the tree to be as it was.
func (h *harness) refuse(name, parent string, want error) {
	h.t.Helper()
	before := h.String()
	if err := h.Add(block(h.t, name, parent)); !errors.Is(err, want) {
		h.t.Errorf("add %s under %s: error %v, want %v", name, parent, err, want)
	}
	h.wantEqual("tree after a refusal", h.String(), before)
}

// finalize finalizes a block and wants those blocks to lose.
func (h *harness) finalize(name, lost string) {
	h.t.Helper()
	got, err := h.Finalize(hash(name))
	if err != nil {
		h.t.Fatal(err)
	}
	h.wantEqual("lost by finalizing "+name, names(got), lost)
}

func (h *harness) wantPath(from, to, undo, apply string) {
	h.t.Helper()
	undone, applied, err := h.Path(hash(from), hash(to))
	if err != nil {
		h.t.Fatal(err)
	}
	h.wantEqual("undo from "+from+" to "+to, names(undone), undo)
	h.wantEqual("apply from "+from+" to "+to, names(applied), apply)
}

func (h *harness) wantEqual(what, got, want string) {
	h.t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		h.t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

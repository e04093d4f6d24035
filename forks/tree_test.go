package forks_test

import (
	"errors"
	"slices"
	"testing"

	"accessor/forks"
)

// example is the tree of most drawings:
//
//	1───2───4───6───7
//	    │   └───5b
//	    └───3a──5a
func example(t testing.TB) *harness {
	t.Helper()
	h := newHarness(t, "1")
	h.grow("1", "2", "4", "6", "7")
	h.grow("2", "3a", "5a")
	h.grow("4", "5b")
	return h
}

func TestShape(t *testing.T) {
	h := example(t)
	h.wantEqual("anchor", name(h.Anchor()), "1")
	h.wantEqual("all", names(slices.Collect(h.All())), "1 2 4 6 7 5b 3a 5a")
	h.wantEqual("leaves", names(h.Leaves()), "5a 5b 7")
	h.wantEqual("children of 2", names(h.Children(hash("2"))), "4 3a")
	h.wantEqual("children of 7", names(h.Children(hash("7"))), "")
	h.wantEqual("ancestors of 5a", names(slices.Collect(h.Ancestors(hash("5a")))), "5a 3a 2 1")
	h.wantEqual("blocks at slot 5", names(h.AtSlot(5)), "5a 5b")
	h.wantEqual("blocks at slot 1", names(h.AtSlot(1)), "1")
	h.wantEqual("blocks at slot 8", names(h.AtSlot(8)), "")
	if h.Len() != 8 || h.Forks() != 2 {
		t.Errorf("%d blocks, %d forks, want 8 and 2", h.Len(), h.Forks())
	}
	for name, want := range map[string]int{"1": 0, "2": 1, "5a": 3, "7": 4, "9": -1} {
		if got := h.Height(hash(name)); got != want {
			t.Errorf("height of %s: %d, want %d", name, got, want)
		}
	}
	got, ok := h.Get(hash("5a"))
	if want := block(t, "5a", "3a"); !ok || got != want {
		t.Errorf("get 5a: %v, %v", got, ok)
	}
}

func TestIteratorsStopWhenTold(t *testing.T) {
	h := example(t)
	for name, blocks := range map[string]func(func(forks.Block) bool){
		"all":       h.All(),
		"ancestors": h.Ancestors(hash("7")),
	} {
		count := 0
		for range blocks {
			if count++; count == 2 {
				break
			}
		}
		if count != 2 {
			t.Errorf("%s: %d blocks after a break at 2", name, count)
		}
	}
}

func TestUnknownBlocks(t *testing.T) {
	h := example(t)
	no, yes := hash("9"), hash("7")
	errs := map[string]error{}
	_, errs["best leaf"] = h.BestLeaf(no)
	_, errs["common ancestor, first"] = h.CommonAncestor(no, yes)
	_, errs["common ancestor, second"] = h.CommonAncestor(yes, no)
	_, _, errs["path from"] = h.Path(no, yes)
	_, _, errs["path to"] = h.Path(yes, no)
	_, errs["finalize"] = h.Finalize(no)
	for what, err := range errs {
		if !errors.Is(err, forks.ErrUnknown) {
			t.Errorf("%s: error %v", what, err)
		}
	}
	if _, ok := h.Get(no); ok {
		t.Error("get finds an unknown block")
	}
	if _, ok := h.AncestorAt(no, 9); ok {
		t.Error("an unknown block has an ancestor at a slot")
	}
	if h.IsAncestor(no, yes) || h.IsAncestor(yes, no) || h.IsAncestor(no, no) {
		t.Error("an unknown block is an ancestor or has one")
	}
	if h.Lost(no) || h.Canonical(no) {
		t.Error("an unknown block is lost or canonical")
	}
	if h.Children(no) != nil || len(slices.Collect(h.Ancestors(no))) != 0 {
		t.Error("an unknown block has children or ancestors")
	}
}

func TestRefusedBlocks(t *testing.T) {
	h := example(t)
	h.refuse("8", "9", forks.ErrOrphan)
	h.refuse("8", "8", forks.ErrOrphan) // its own parent
	h.refuse("5a", "3a", forks.ErrDuplicate)
	h.refuse("5a", "4", forks.ErrDuplicate) // under another parent
	h.refuse("1", "7", forks.ErrDuplicate)  // the anchor again
	h.refuse("6c", "6", forks.ErrBadSlot)
	h.refuse("5c", "6", forks.ErrBadSlot)
}

// Valid blocks stand at the highest slot, side by side, and can't have children.
func TestHighestSlot(t *testing.T) {
	h := example(t)
	h.grow("4", "4294967295a")
	h.grow("4", "4294967295b")
	h.wantEqual("blocks at the highest slot", names(h.AtSlot(forks.MaxSlot)), "4294967295a 4294967295b")
	h.refuse("4294967295c", "4294967295a", forks.ErrBadSlot)
	h.refuse("0", "4294967295a", forks.ErrBadSlot)

	best, err := h.BestLeaf(hash("1"))
	if err != nil {
		t.Fatal(err)
	}
	h.wantEqual("best leaf", name(best), "7")
}

func TestPath(t *testing.T) {
	h := example(t)
	h.wantPath("7", "5a", "7 6 4", "3a 5a")
	h.wantPath("5a", "7", "5a 3a", "4 6 7")
	h.wantPath("2", "7", "", "4 6 7")
	h.wantPath("7", "1", "7 6 4 2", "")
	h.wantPath("6", "6", "", "")
}

func TestAncestorAt(t *testing.T) {
	h := newHarness(t, "10")
	h.grow("10", "12", "14", "16")
	h.grow("12", "13a")
	for _, test := range []struct {
		of   string
		slot forks.Slot
		want string // "" where there is none
	}{
		{"16", 15, "14"},
		{"16", 14, "14"},
		{"16", forks.MaxSlot, "16"},
		{"13a", 14, "13a"},
		{"13a", 12, "12"},
		{"16", 10, "10"},
		{"16", 9, ""},
		{"10", 0, ""},
	} {
		got, ok := h.AncestorAt(hash(test.of), test.slot)
		if name(got) != test.want || ok != (test.want != "") {
			t.Errorf("ancestor of %s at %d: %q, %v, want %q", test.of, test.slot, name(got), ok, test.want)
		}
	}
}

// The best leaf has the most ancestors; a high slot doesn't help.
func TestBestLeaf(t *testing.T) {
	h := newHarness(t, "1")
	h.grow("1", "2", "3")
	h.grow("1", "90b")
	h.grow("1", "4", "80")
	h.grow("1", "4a", "70")
	h.grow("90b", "91")
	for of, want := range map[string]string{"1": "3", "4": "80", "90b": "91", "91": "91"} {
		best, err := h.BestLeaf(hash(of))
		if err != nil {
			t.Fatal(err)
		}
		h.wantEqual("best leaf under "+of, name(best), want)
	}
	h.grow("70", "71")
	best, err := h.BestLeaf(hash("1"))
	if err != nil {
		t.Fatal(err)
	}
	h.wantEqual("best leaf", name(best), "71")
}

func TestFinalize(t *testing.T) {
	h := example(t)
	h.wantEqual("finalized", name(h.Finalized()), "1")
	h.finalize("1", "")
	h.finalize("4", "3a 5a")
	h.finalize("4", "")
	h.wantEqual("finalized", name(h.Finalized()), "4")
	for name, standing := range map[string]struct{ canonical, lost bool }{
		"1": {true, false}, "2": {true, false}, "4": {true, false},
		"3a": {false, true}, "5a": {false, true},
		"5b": {false, false}, "6": {false, false}, "7": {false, false},
	} {
		if h.Canonical(hash(name)) != standing.canonical || h.Lost(hash(name)) != standing.lost {
			t.Errorf("%s: canonical %v, lost %v, want %+v", name,
				h.Canonical(hash(name)), h.Lost(hash(name)), standing)
		}
	}
	for _, name := range []string{"2", "1", "3a", "5a"} {
		if lost, err := h.Finalize(hash(name)); !errors.Is(err, forks.ErrNotDescendant) || lost != nil {
			t.Errorf("finalize %s: %v, %v", name, lost, err)
		}
	}
	h.wantEqual("finalized after refusals", name(h.Finalized()), "4")
	h.finalize("7", "5b")
	h.wantEqual("all", names(slices.Collect(h.All())), "1 2 4 6 7 5b 3a 5a")
}

// Several forks lose at once: the oldest first, siblings in the order in which
// they came, parents before children.
func TestFinalizeReportsTheOldestForkFirst(t *testing.T) {
	h := newHarness(t, "1")
	h.grow("1", "2", "3", "4")
	h.grow("3", "4d")
	h.grow("1", "2c", "3c")
	h.grow("1", "2b", "3b")
	h.grow("2c", "3e")
	h.grow("4", "5")
	h.finalize("4", "2c 3c 3e 2b 3b 4d")
}

// Blocks may still come where the fork is decided; they have lost already, and
// no later finalization reports them.
func TestBlocksThatComeTooLate(t *testing.T) {
	h := example(t)
	h.finalize("4", "3a 5a")
	h.grow("5a", "6a")
	h.grow("2", "3c", "4c")
	h.grow("4", "5d")
	for name, want := range map[string]bool{"6a": true, "3c": true, "4c": true, "5d": false} {
		if got := h.Lost(hash(name)); got != want {
			t.Errorf("%s lost: %v, want %v", name, got, want)
		}
	}
	h.finalize("6", "5b 5d")
}

// A day without finality, and one call that finalizes it.
func TestDeepTree(t *testing.T) {
	const deep = 14_400
	tree := forks.New(numbered(0, 0))
	for i := range deep {
		if err := tree.Add(numbered(i+1, i)); err != nil {
			t.Fatal(err)
		}
	}
	last := numbered(deep, 0).Hash
	if best, err := tree.BestLeaf(tree.Anchor().Hash); err != nil || best.Hash != last {
		t.Errorf("best leaf %v, %v", best, err)
	}
	undo, apply, err := tree.Path(last, tree.Anchor().Hash)
	if err != nil || len(undo) != deep || len(apply) != 0 {
		t.Errorf("path: %d to undo, %d to apply, %v", len(undo), len(apply), err)
	}
	if lost, err := tree.Finalize(last); err != nil || lost != nil {
		t.Errorf("finalize: %v, %v", lost, err)
	}
}

// numbered is a block at slot i with a hash of its own, under block parent.
func numbered(i, parent int) forks.Block {
	return forks.Block{Hash: numberedHash(i), Parent: numberedHash(parent), Slot: forks.Slot(i)}
}

func numberedHash(i int) (h forks.Hash) {
	h[0], h[1], h[2], h[3] = byte(i>>24), byte(i>>16), byte(i>>8), byte(i)
	h[4] = 1 // none is zero
	return h
}

package forks_test

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"accessor/forks"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// model is a tree as a list of blocks and nothing else: each question is
// answered from the definitions, however slowly.
type model struct {
	blocks    []forks.Block // in the order in which they were added
	finalized forks.Hash
}

func (m *model) get(h forks.Hash) (forks.Block, bool) {
	for _, b := range m.blocks {
		if b.Hash == h {
			return b, true
		}
	}
	return forks.Block{}, false
}

// line gives the block and its ancestors, the anchor last.
func (m *model) line(h forks.Hash) []forks.Block {
	var out []forks.Block
	for {
		b, _ := m.get(h)
		out = append(out, b)
		if b == m.blocks[0] {
			return out
		}
		h = b.Parent
	}
}

func (m *model) isAncestor(a, b forks.Hash) bool {
	return slices.ContainsFunc(m.line(b), func(each forks.Block) bool { return each.Hash == a })
}

func (m *model) where(keep func(forks.Block) bool) []forks.Block {
	var out []forks.Block
	for _, b := range m.blocks {
		if keep(b) {
			out = append(out, b)
		}
	}
	return out
}

func (m *model) children(h forks.Hash) []forks.Block {
	return m.where(func(b forks.Block) bool { return b != m.blocks[0] && b.Parent == h })
}

func (m *model) lost() []forks.Block {
	return m.where(func(b forks.Block) bool {
		return !m.isAncestor(b.Hash, m.finalized) && !m.isAncestor(m.finalized, b.Hash)
	})
}

func (m *model) best(h forks.Hash) forks.Block {
	below := m.where(func(b forks.Block) bool { return m.isAncestor(h, b.Hash) })
	slices.SortFunc(below, func(a, b forks.Block) int {
		if d := len(m.line(b.Hash)) - len(m.line(a.Hash)); d != 0 {
			return d
		}
		return a.Hash.Compare(b.Hash)
	})
	return below[0]
}

func byHash(blocks []forks.Block) []forks.Block {
	return slices.SortedFunc(slices.Values(blocks), func(a, b forks.Block) int { return a.Hash.Compare(b.Hash) })
}

// pair is the tree and its model, grown together.
type pair struct {
	tree  *forks.Tree
	model model
}

func (p *pair) pick(t *rapid.T, what string) forks.Hash {
	return rapid.SampledFrom(p.model.blocks).Draw(t, what).Hash
}

func (p *pair) add(t *rapid.T) {
	// Few different first bytes, so that hashes and the order of arrival differ.
	h := forks.Hash{rapid.Byte().Draw(t, "hash"), rapid.Byte().Draw(t, "hash, second byte")}
	b := forks.Block{Hash: h, Parent: p.pick(t, "parent")}
	parent, _ := p.model.get(b.Parent)
	b.Slot = parent.Slot + forks.Slot(rapid.IntRange(0, 3).Draw(t, "slots above the parent"))
	if rapid.IntRange(0, 19).Draw(t, "orphan") == 0 {
		b.Parent[31] = 1
	}
	if rapid.IntRange(0, 19).Draw(t, "highest slot") == 0 {
		b.Slot = forks.MaxSlot
	}
	_, twice := p.model.get(b.Hash)
	_, known := p.model.get(b.Parent)
	want := ""
	switch {
	case twice:
		want = forks.ErrDuplicate.Error()
	case !known:
		want = forks.ErrOrphan.Error()
	case b.Slot <= parent.Slot: // also where the parent is at the highest slot
		want = forks.ErrBadSlot.Error()
	default:
		p.model.blocks = append(p.model.blocks, b)
	}
	if got := p.tree.Add(b); (got == nil) != (want == "") || got != nil && kind(got) != want {
		t.Fatalf("add %v: error %v, want %q", b, got, want)
	}
}

func (p *pair) finalize(t *rapid.T) {
	h := p.pick(t, "finalized")
	if near := p.tree.Children(p.model.finalized); len(near) > 0 && rapid.Bool().Draw(t, "a child") {
		h = rapid.SampledFrom(near).Draw(t, "which").Hash
	}
	before := p.model.lost()
	got, err := p.tree.Finalize(h)
	if !p.model.isAncestor(p.model.finalized, h) {
		if err == nil || kind(err) != forks.ErrNotDescendant.Error() || got != nil {
			t.Fatalf("finalize %s: %v, error %v", h, got, err)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	p.model.finalized = h
	want := slices.DeleteFunc(p.model.lost(), func(b forks.Block) bool { return slices.Contains(before, b) })
	same(t, "lost by finalizing", byHash(got), byHash(want))
	for i, b := range got {
		if slices.ContainsFunc(got[i:], func(later forks.Block) bool { return later.Hash == b.Parent }) {
			t.Fatalf("lost: block %s before its parent", b.Hash)
		}
	}
}

func (p *pair) prune(t *rapid.T) {
	h := p.pick(t, "anchor to be")
	m := &p.model
	got, err := p.tree.Prune(h)
	if !m.isAncestor(h, m.finalized) {
		if !errors.Is(err, forks.ErrNotCanonical) || got != nil {
			t.Fatalf("prune %s: %v, error %v", h, got, err)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	gone := m.where(func(b forks.Block) bool { return !m.isAncestor(h, b.Hash) })
	same(t, "pruned", byHash(got), byHash(gone))
	anchor, _ := m.get(h)
	kept := m.where(func(b forks.Block) bool { return b != anchor && m.isAncestor(h, b.Hash) })
	m.blocks = append([]forks.Block{anchor}, kept...)
}

// check asks everything about two blocks and about the whole.
func (p *pair) check(t *rapid.T) {
	m := &p.model
	a, b := p.pick(t, "a"), p.pick(t, "b")
	lineA, lineB := m.line(a), m.line(b)

	undo := slices.DeleteFunc(slices.Clone(lineA), func(x forks.Block) bool { return slices.Contains(lineB, x) })
	apply := slices.DeleteFunc(slices.Clone(lineB), func(x forks.Block) bool { return slices.Contains(lineA, x) })
	slices.Reverse(apply)
	gotUndo, gotApply, err := p.tree.Path(a, b)
	if err != nil {
		t.Fatal(err)
	}
	same(t, "undo", gotUndo, undo)
	same(t, "apply", gotApply, apply)
	common, err := p.tree.CommonAncestor(a, b)
	if want := lineA[len(undo)]; err != nil || common != want {
		t.Fatalf("common ancestor %v, %v, want %v", common, err, want)
	}
	if got, want := p.tree.IsAncestor(a, b), m.isAncestor(a, b); got != want {
		t.Fatalf("is ancestor: %v, want %v", got, want)
	}
	same(t, "ancestors", slices.Collect(p.tree.Ancestors(a)), lineA)
	if got := p.tree.Height(a); got != len(lineA)-1 {
		t.Fatalf("height %d, want %d", got, len(lineA)-1)
	}

	slot := lineB[0].Slot
	at := slices.IndexFunc(lineA, func(x forks.Block) bool { return x.Slot <= slot })
	got, ok := p.tree.AncestorAt(a, slot)
	if ok != (at >= 0) || ok && got != lineA[at] {
		t.Fatalf("ancestor at %d: %v, %v, want index %d", slot, got, ok, at)
	}
	best, err := p.tree.BestLeaf(a)
	if want := m.best(a); err != nil || best != want {
		t.Fatalf("best leaf %v, %v, want %v", best, err, want)
	}
	same(t, "children", p.tree.Children(a), m.children(a))
	same(t, "at slot", p.tree.AtSlot(slot), byHash(m.where(func(x forks.Block) bool { return x.Slot == slot })))
	p.checkWhole(t)
}

func (p *pair) checkWhole(t *rapid.T) {
	m := &p.model
	same(t, "leaves", p.tree.Leaves(),
		byHash(m.where(func(x forks.Block) bool { return len(m.children(x.Hash)) == 0 })))
	if got, want := p.tree.Forks(), len(m.where(func(x forks.Block) bool {
		return len(m.children(x.Hash)) > 1
	})); got != want {
		t.Fatalf("%d forks, want %d", got, want)
	}
	same(t, "lost", m.where(func(x forks.Block) bool { return p.tree.Lost(x.Hash) }), m.lost())
	same(t, "canonical", m.where(func(x forks.Block) bool { return p.tree.Canonical(x.Hash) }),
		m.where(func(x forks.Block) bool { return m.isAncestor(x.Hash, m.finalized) }))
	all := slices.Collect(p.tree.All())
	same(t, "all", byHash(all), byHash(m.blocks))
	for i, x := range all[1:] {
		if !slices.ContainsFunc(all[:i+1], func(y forks.Block) bool { return y.Hash == x.Parent }) {
			t.Fatalf("all: block %s before its parent", x.Hash)
		}
	}
	if p.tree.Len() != len(all) || p.tree.Finalized().Hash != m.finalized || p.tree.Anchor() != m.blocks[0] {
		t.Fatalf("%d blocks, finalized %v, anchor %v", p.tree.Len(), p.tree.Finalized(), p.tree.Anchor())
	}
}

func same(t *rapid.T, what string, got, want []forks.Block) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Fatalf("%s (-want +got):\n%s", what, cmp.Diff(want, got))
	}
}

func newPair(t *rapid.T) *pair {
	anchor := forks.Block{Hash: forks.Hash{0, 0, 1}, Slot: forks.Slot(rapid.IntRange(0, 3).Draw(t, "anchor's slot"))}
	return &pair{forks.New(anchor), model{[]forks.Block{anchor}, anchor.Hash}}
}

func TestTreeIsTheModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := newPair(t)
		t.Repeat(map[string]func(*rapid.T){
			"add":      p.add,
			"add more": p.add, // so that trees grow faster than finality
			"finalize": p.finalize,
			"prune":    p.prune,
			"":         p.check,
		})
	})
}

var foldLine = regexp.MustCompile(`┆ (\d+) blocks?, slots? (\d+)(?:–(\d+))?$`)

// A drawing without folds says every block's parent; with folds it shows or
// counts every block, and shows those that must be kept. It doesn't depend on
// the order in which blocks came.
func TestDrawingIsTheTree(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := newPair(t)
		for range rapid.IntRange(0, 60).Draw(t, "adds") {
			p.add(t)
		}
		label := func(b forks.Block) string { return b.Hash.String() }
		plain := p.tree.Draw(forks.DrawOptions{Label: label, Fold: -1})
		want := map[string]string{}
		for _, b := range p.model.blocks[1:] {
			want[b.Hash.String()] = b.Parent.String()
		}
		want[p.model.blocks[0].Hash.String()] = ""
		got, err := parents(plain)
		if err != nil || !maps.Equal(got, want) {
			t.Fatalf("parents %v (-want +got):\n%s\n%s", err, cmp.Diff(want, got), plain)
		}
		if again := regrown(t, p.tree).Draw(forks.DrawOptions{Label: label, Fold: -1}); again != plain {
			t.Fatalf("in another order of arrival (-first +second):\n%s", cmp.Diff(plain, again))
		}

		kept := p.pick(t, "kept")
		folded := p.tree.Draw(forks.DrawOptions{
			Label: label,
			Keep:  func(b forks.Block) bool { return b.Hash == kept },
			Fold:  rapid.IntRange(1, 5).Draw(t, "fold"),
		})
		if err := covers(folded, plain); err != nil || !strings.Contains(folded, kept.String()) {
			t.Fatalf("%v\nfolded, %s kept:\n%s\nplain:\n%s", err, kept, folded, plain)
		}
	})
}

// regrown gives the same tree with its blocks added in another order.
func regrown(t *rapid.T, tree *forks.Tree) *forks.Tree {
	t.Helper()
	again := forks.New(tree.Anchor())
	for waiting := []forks.Hash{tree.Anchor().Hash}; len(waiting) > 0; waiting = waiting[1:] {
		for _, b := range slices.Backward(tree.Children(waiting[0])) {
			if err := again.Add(b); err != nil {
				t.Fatal(err)
			}
			waiting = append(waiting, b.Hash)
		}
	}
	return again
}

// covers checks that a folded drawing is the plain one with some lines
// replaced by folds that count them, never two folds in a row.
func covers(folded, plain string) error {
	rest := strings.Split(plain, "\n")
	afterFold := true // nor a fold at the top
	for line := range strings.Lines(folded) {
		line = strings.TrimSuffix(line, "\n")
		fold := foldLine.FindStringSubmatch(line)
		if fold == nil {
			if line != rest[0] {
				return fmt.Errorf("line %q where %q was due", line, rest[0])
			}
			rest, afterFold = rest[1:], false
			continue
		}
		count, err := strconv.Atoi(fold[1])
		if err != nil || afterFold || count >= len(rest) {
			return fmt.Errorf("fold %q stands wrong, %v", line, err)
		}
		indent := line[:strings.Index(line, "┆")]
		for _, hidden := range rest[:count] {
			if !strings.HasPrefix(hidden, indent+"● ") {
				return fmt.Errorf("fold %q hides %q", line, hidden)
			}
		}
		rest, afterFold = rest[count:], true
	}
	if afterFold || len(rest) != 1 { // what follows the last line break
		return fmt.Errorf("%d lines left, fold at the end %v", len(rest)-1, afterFold)
	}
	return nil
}

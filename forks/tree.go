package forks

import (
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
)

// Errors of Tree. Match them with errors.Is.
var (
	ErrUnknown       = errors.New("unknown block")
	ErrOrphan        = errors.New("unknown parent")
	ErrDuplicate     = errors.New("block is in the tree already")
	ErrBadSlot       = errors.New("slot is not above the parent's")
	ErrNotDescendant = errors.New("not a descendant of the finalized block")
	ErrNotCanonical  = errors.New("not the finalized block or its ancestor")
)

// Tree is a tree of blocks that grows from one anchor. The zero value is not
// usable: see New. A Tree is not safe for concurrent use, but methods that only
// read may run side by side. It must not change while an iterator runs.
//
// Invariants: a parent comes before its children and has a lower slot; the
// canonical blocks are one line from the anchor to finalized; a block that has
// lost, and all below it, stay lost.
type Tree struct {
	nodes     map[Hash]*node
	slots     map[Slot][]*node
	leaves    map[*node]struct{}
	forks     int // blocks with more than one child
	lost      int // blocks that have lost
	anchor    *node
	finalized *node
}

type node struct {
	block    Block
	parent   *node // nil at the anchor
	children []*node
	height   int // number of ancestors up to the tree's first anchor
	standing standing
}

// standing is what finality has decided about a block.
type standing uint8

const (
	undecided standing = iota // below finalized
	canonical                 // finalized or its ancestor
	lost                      // neither
)

// New gives a tree that holds the anchor alone, which is also finalized.
func New(anchor Block) *Tree {
	n := &node{block: anchor, standing: canonical}
	return &Tree{
		nodes:     map[Hash]*node{anchor.Hash: n},
		slots:     map[Slot][]*node{anchor.Slot: {n}},
		leaves:    map[*node]struct{}{n: {}},
		anchor:    n,
		finalized: n,
	}
}

// Add puts a block under its parent, which may be any block of the tree: one
// that is put beside a canonical block or under a lost one has lost from the
// start. Errors: ErrDuplicate (whatever the fields beside the hash say),
// ErrOrphan, ErrBadSlot; the tree is then as it was.
func (t *Tree) Add(b Block) error {
	if _, ok := t.nodes[b.Hash]; ok {
		return fmt.Errorf("add block %s: %w", b.Hash, ErrDuplicate)
	}
	parent, ok := t.nodes[b.Parent]
	if !ok {
		return fmt.Errorf("add block %s: %w %s", b.Hash, ErrOrphan, b.Parent)
	}
	if b.Slot <= parent.block.Slot {
		return fmt.Errorf("add block %s: %w: slot %d under slot %d", b.Hash, ErrBadSlot, b.Slot, parent.block.Slot)
	}
	n := &node{block: b, parent: parent, height: parent.height + 1}
	if parent.standing != undecided && parent != t.finalized {
		n.standing = lost
		t.lost++
	}
	parent.children = append(parent.children, n)
	switch len(parent.children) {
	case 1:
		delete(t.leaves, parent)
	case 2:
		t.forks++
	}
	t.nodes[b.Hash] = n
	t.slots[b.Slot] = append(t.slots[b.Slot], n)
	t.leaves[n] = struct{}{}
	return nil
}

// Len is the number of blocks, the anchor included.
func (t *Tree) Len() int { return len(t.nodes) }

// Anchor is the block that the tree grows from.
func (t *Tree) Anchor() Block { return t.anchor.block }

// Finalized is the newest finalized block.
func (t *Tree) Finalized() Block { return t.finalized.block }

// Get gives the block of that hash.
func (t *Tree) Get(h Hash) (Block, bool) {
	n, ok := t.nodes[h]
	if !ok {
		return Block{}, false
	}
	return n.block, true
}

// Height is the number of the block's ancestors in the tree; -1 where the
// block is unknown.
func (t *Tree) Height(h Hash) int {
	n, ok := t.nodes[h]
	if !ok {
		return -1
	}
	return n.height - t.anchor.height
}

// Children gives the block's children in the order in which they were added.
func (t *Tree) Children(h Hash) []Block {
	n, ok := t.nodes[h]
	if !ok {
		return nil
	}
	out := make([]Block, len(n.children))
	for i, c := range n.children {
		out[i] = c.block
	}
	return out
}

// Ancestors yields the block itself, then its parent, and so on to the anchor.
// It yields nothing for an unknown block.
func (t *Tree) Ancestors(h Hash) iter.Seq[Block] {
	return func(yield func(Block) bool) {
		for n := t.nodes[h]; n != nil; n = n.parent {
			if !yield(n.block) {
				return
			}
		}
	}
}

// AncestorAt gives the newest block at or before slot s among h and its
// ancestors; false where h is unknown or the anchor itself is above s.
//
//	1───2───4───6
//	    └───3a        AncestorAt(6, 5) = 4, AncestorAt(3a, 5) = 3a
func (t *Tree) AncestorAt(h Hash, s Slot) (Block, bool) {
	for b := range t.Ancestors(h) {
		if b.Slot <= s {
			return b, true
		}
	}
	return Block{}, false
}

// IsAncestor says whether a is b or one of b's ancestors; false where either is
// unknown.
func (t *Tree) IsAncestor(a, b Hash) bool {
	an, bn := t.nodes[a], t.nodes[b]
	return an != nil && bn != nil && ancestorOf(an, bn)
}

func ancestorOf(a, b *node) bool {
	for b != nil && b.height > a.height {
		b = b.parent
	}
	return a == b
}

// CommonAncestor gives the newest block that is an ancestor of both, where a
// block counts as its own ancestor. Error: ErrUnknown.
func (t *Tree) CommonAncestor(a, b Hash) (Block, error) {
	an, bn := t.nodes[a], t.nodes[b]
	switch {
	case an == nil:
		return Block{}, fmt.Errorf("find common ancestor: %w: %s", ErrUnknown, a)
	case bn == nil:
		return Block{}, fmt.Errorf("find common ancestor: %w: %s", ErrUnknown, b)
	}
	for an != bn {
		if an.height >= bn.height {
			an = an.parent
		} else {
			bn = bn.parent
		}
	}
	return an.block, nil
}

// Path says how to go from one block to another: undo the first list's blocks,
// newest first, then apply the second's, oldest first. Error: ErrUnknown.
//
//	1───2───4───6
//	    └───3a──5a     Path(6, 5a): undo 6, 4; apply 3a, 5a
func (t *Tree) Path(from, to Hash) (undo, apply []Block, err error) {
	common, err := t.CommonAncestor(from, to)
	if err != nil {
		return nil, nil, err
	}
	for b := range t.Ancestors(from) {
		if b.Hash == common.Hash {
			break
		}
		undo = append(undo, b)
	}
	for b := range t.Ancestors(to) {
		if b.Hash == common.Hash {
			break
		}
		apply = append(apply, b)
	}
	slices.Reverse(apply)
	return undo, apply, nil
}

// Leaves gives the blocks without children, sorted by hash.
func (t *Tree) Leaves() []Block { return sortedBlocks(maps.Keys(t.leaves)) }

// AtSlot gives the blocks of that slot, sorted by hash.
func (t *Tree) AtSlot(s Slot) []Block { return sortedBlocks(slices.Values(t.slots[s])) }

func sortedBlocks(nodes iter.Seq[*node]) []Block {
	var out []Block
	for n := range nodes {
		out = append(out, n.block)
	}
	slices.SortFunc(out, func(a, b Block) int { return a.Hash.Compare(b.Hash) })
	return out
}

// Forks is the number of blocks with more than one child.
func (t *Tree) Forks() int { return t.forks }

// BestLeaf gives the leaf at or under h with the most ancestors, of several the
// one with the smallest hash; never the one with the highest slot, which
// anybody could claim. Error: ErrUnknown.
func (t *Tree) BestLeaf(h Hash) (Block, error) {
	start, ok := t.nodes[h]
	if !ok {
		return Block{}, fmt.Errorf("find best leaf: %w: %s", ErrUnknown, h)
	}
	best := start
	for n := range start.walk() {
		switch {
		case n.height > best.height:
			best = n
		case n.height == best.height && n.block.Hash.Compare(best.block.Hash) < 0:
			best = n
		}
	}
	return best.block, nil
}

// All yields every block, parents before children, depth first, siblings in
// the order in which they were added.
func (t *Tree) All() iter.Seq[Block] {
	return func(yield func(Block) bool) {
		for n := range t.anchor.walk() {
			if !yield(n.block) {
				return
			}
		}
	}
}

// Finalize makes h the finalized block and reports the blocks that lose by it:
// those that are neither h's ancestors nor its descendants and had not lost
// before, the oldest fork first, parents before children. Nothing is removed:
// what to do with them is the caller's. Finalizing the finalized block again
// changes nothing. Errors, which leave the tree as it was: ErrUnknown,
// ErrNotDescendant.
//
//	1───2───4───6
//	    └───3a──5a     Finalize(4): 3a and 5a have lost
func (t *Tree) Finalize(h Hash) ([]Block, error) {
	n, ok := t.nodes[h]
	if !ok {
		return nil, fmt.Errorf("finalize: %w: %s", ErrUnknown, h)
	}
	if !ancestorOf(t.finalized, n) {
		return nil, fmt.Errorf("finalize block %s at slot %d: %w %s at slot %d",
			h, n.block.Slot, ErrNotDescendant, t.finalized.block.Hash, t.finalized.block.Slot)
	}
	var losers []Block
	for m := range t.losing(n) {
		m.standing = lost
		t.lost++
		losers = append(losers, m.block)
	}
	for c := n; c != t.finalized; c = c.parent {
		c.standing = canonical
	}
	t.finalized = n
	return losers, nil
}

// losing yields the nodes that lose once n is finalized: between the finalized block
// and n, every child off the path loses with all that grows on it.
func (t *Tree) losing(n *node) iter.Seq[*node] {
	var path []*node
	for c := n; c != t.finalized; c = c.parent {
		path = append(path, c)
	}
	return func(yield func(*node) bool) {
		for _, c := range slices.Backward(path) {
			for _, sibling := range c.parent.children {
				if sibling == c {
					continue
				}
				for m := range sibling.walk() {
					if !yield(m) {
						return
					}
				}
			}
		}
	}
}

// Prune makes a canonical block the anchor, and removes all that don't descend from
// it; it gives those, parents before children. Errors, which leave the tree as it
// was: ErrUnknown, ErrNotCanonical.
//
//	1───2───4───6
//	    └───3a──5a     Prune(4), 4 finalized: 1, 2, 3a and 5a go
func (t *Tree) Prune(h Hash) ([]Block, error) {
	n, ok := t.nodes[h]
	if !ok {
		return nil, fmt.Errorf("prune: %w: %s", ErrUnknown, h)
	}
	if n.standing != canonical {
		return nil, fmt.Errorf("prune: block %s at slot %d is %w", h, n.block.Slot, ErrNotCanonical)
	}
	var gone []Block
	for c := range t.anchor.walkPast(n) {
		gone = append(gone, c.block)
		delete(t.nodes, c.block.Hash)
		delete(t.leaves, c)
		if len(c.children) > 1 {
			t.forks--
		}
		if c.standing == lost {
			t.lost--
		}
		if t.slots[c.block.Slot] = slices.DeleteFunc(t.slots[c.block.Slot], func(o *node) bool { return o == c }); len(t.slots[c.block.Slot]) == 0 {
			delete(t.slots, c.block.Slot)
		}
	}
	n.parent, t.anchor = nil, n
	return gone, nil
}

// Canonical says whether the block is the finalized block or its ancestor.
func (t *Tree) Canonical(h Hash) bool {
	n, ok := t.nodes[h]
	return ok && n.standing == canonical
}

// Lost says whether the block is neither the finalized block's ancestor nor
// its descendant.
func (t *Tree) Lost(h Hash) bool {
	n, ok := t.nodes[h]
	return ok && n.standing == lost
}

// walk yields n and all below it, parents before children. It keeps its own
// stack: a chain of a day is 14,400 blocks deep.
func (n *node) walk() iter.Seq[*node] { return n.walkPast(nil) }

// walkPast leaves out a block and all below it.
func (n *node) walkPast(except *node) iter.Seq[*node] {
	return func(yield func(*node) bool) {
		stack := []*node{n}
		for len(stack) > 0 {
			top := stack[len(stack)-1]
			stack = stack[:len(stack)-1]
			if top == except {
				continue
			}
			if !yield(top) {
				return
			}
			for _, c := range slices.Backward(top.children) {
				stack = append(stack, c)
			}
		}
	}
}

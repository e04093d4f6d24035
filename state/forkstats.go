package state

import (
	"cmp"
	"slices"

	"accessor/checkpoint"
	"accessor/forks"
)

// Fork is a branch of the tree above the finalized block.
//
//	finalized ── a1 ── a2 ── a3      head: a branch of 3 blocks
//	              └── b2 ── b3      a branch of 2, which begins with b2
//	                   └── c3      a branch of 1, which begins with c3
//
// Each block belongs to one branch: the head's, then that of the highest tip, and so on.
type Fork struct {
	// First is the branch's oldest block, which it can be told apart by as long as it
	// is one: for the head's branch the child of the finalized block, which changes.
	First  forks.Block
	Tip    forks.Block
	Head   bool // it is the head's
	Blocks int  // in the branch
	Behind int  // slots from the tip to the head; 0 where it isn't behind
	Tables int  // in the tip's checkpoint, beside those of its image; 0 without one
}

// Forks gives the branches above the finalized block, the head's first, then the
// longest first, at most so many. It does no I/O, but walks over all blocks above the
// finalized one.
func (a *Accessor) Forks(most int) []Fork {
	a.mu.RLock()
	list := forksOf(a.tree, a.headNowLocked())
	a.mu.RUnlock()
	slices.SortStableFunc(list, func(x, y Fork) int {
		if x.Head != y.Head {
			if x.Head {
				return -1
			}
			return 1
		}
		return cmp.Or(cmp.Compare(y.Blocks, x.Blocks), slices.Compare(x.First.Hash[:], y.First.Hash[:]))
	})
	list = list[:min(len(list), most)]
	for i := range list {
		list[i].Tables = a.store.Tables(list[i].Tip.Hash)
	}
	return list
}

func forksOf(t *forks.Tree, head forks.Block) (list []Fork) {
	tips := t.Leaves()
	slices.SortStableFunc(tips, func(x, y forks.Block) int {
		return cmp.Compare(t.Height(y.Hash), t.Height(x.Hash))
	})
	seen := make(map[forks.Hash]bool)
	// The head may have children: what is above it is a branch of its own.
	for _, tip := range append([]forks.Block{head}, tips...) {
		if t.Lost(tip.Hash) || t.Canonical(tip.Hash) || seen[tip.Hash] {
			continue
		}
		f := Fork{Tip: tip, Head: tip.Hash == head.Hash}
		for b := range t.Ancestors(tip.Hash) {
			if seen[b.Hash] || t.Canonical(b.Hash) {
				break
			}
			seen[b.Hash] = true
			f.First = b
			f.Blocks++
		}
		if head.Slot > tip.Slot {
			f.Behind = int(head.Slot - tip.Slot)
		}
		list = append(list, f)
	}
	return list
}

// EngineUsage is what the storage engine takes of memory.
type EngineUsage = checkpoint.Usage

// EngineUsage gives what the storage engine uses now; ok is false where it doesn't tell.
func (a *Accessor) EngineUsage() (u EngineUsage, ok bool) { return a.store.EngineUsage() }

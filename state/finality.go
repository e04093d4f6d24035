package state

import (
	"context"
	"fmt"

	"accessor/forks"
)

// Head is the block that the node called best; until it calls any, and after
// finality has left that one behind, the leaf under finalized with the most
// ancestors.
func (a *Accessor) Head() forks.Block {
	a.mu.RLock()
	defer a.mu.RUnlock()
	return a.headLocked()
}

func (a *Accessor) headLocked() forks.Block {
	if a.head != nil {
		if b, ok := a.tree.Get(*a.head); ok {
			return b
		}
	}
	best, err := a.tree.BestLeaf(a.tree.Finalized().Hash)
	if err != nil {
		panic(err) // the finalized block is in the tree
	}
	return best
}

// SetHead remembers the block that the node calls best: the finalized block or
// one under it. Errors: ErrUnknownBlock, ErrNotDescendant.
func (a *Accessor) SetHead(h forks.Hash) error {
	_, end, err := a.begin(context.Background())
	if err != nil {
		return err
	}
	defer end()
	a.labels.Lock()
	defer a.labels.Unlock()
	if err := a.underFinalized(h); err != nil {
		return err
	}
	defer a.heads.poke()
	return a.label(metaHead, h, func() []Event {
		b, _ := a.tree.Get(h)
		return a.headEventsLocked(b)
	}, func() error {
		a.head = &h
		return nil
	})
}

// underFinalized says whether h is the finalized block or one under it. Errors:
// ErrUnknownBlock, ErrNotDescendant.
func (a *Accessor) underFinalized(h forks.Hash) error {
	b, err := a.Block(h)
	if err != nil {
		return err
	}
	a.mu.RLock()
	defer a.mu.RUnlock()
	finalized := a.tree.Finalized()
	if !a.tree.IsAncestor(finalized.Hash, h) {
		return fmt.Errorf("%w: %s at slot %d; finalized is %s at slot %d",
			ErrNotDescendant, h, b.Slot, finalized.Hash, finalized.Slot)
	}
	return nil
}

// Finalize makes one branch canonical, up to h, and gives the blocks that lose
// by it. They stay readable. If the head isn't at or under h, h's best leaf
// becomes the head. Errors: ErrUnknownBlock, ErrNotDescendant.
func (a *Accessor) Finalize(ctx context.Context, h forks.Hash) (lost []forks.Block, err error) {
	_, end, err := a.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	a.labels.Lock()
	defer a.labels.Unlock()
	if err := a.underFinalized(h); err != nil {
		return nil, err
	}
	defer a.heads.poke()
	err = a.label(metaFinalized, h, func() []Event { return a.finalizedEventsLocked(h) }, func() error {
		lost, err = a.tree.Finalize(h)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrNotDescendant, err)
		}
		if a.head != nil && !a.tree.IsAncestor(h, *a.head) {
			a.head = nil // headLocked then takes the best leaf under h
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	a.calls.Go(a.cacheAfterFinality)
	select {
	case a.finalized <- struct{}{}:
	default: // it looks anyway
	}
	return lost, nil
}

// finalizedEventsLocked are the events of a block that is about to be finalized:
// those of the head it takes along come with it.
func (a *Accessor) finalizedEventsLocked(h forks.Hash) []Event {
	b, _ := a.tree.Get(h)
	old := a.tree.Finalized()
	if old.Hash == h {
		return nil
	}
	list := []Event{{Kind: EventFinalized, Block: b, Old: old, Count: a.tree.WouldLose(h)}}
	if a.tree.IsAncestor(h, a.told.Hash) {
		return list
	}
	if head, err := a.tree.BestLeaf(h); err == nil {
		list = append(list, a.headEventsLocked(head)...)
	}
	return list
}

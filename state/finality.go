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
	if err := a.store.SetMeta(metaHead, h[:]); err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.head = &h
	a.heads.poke()
	return nil
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
	if err := a.store.SetMeta(metaFinalized, h[:]); err != nil {
		return nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	lost, err = a.tree.Finalize(h)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotDescendant, err)
	}
	defer a.calls.Go(a.cacheAfterFinality)
	select {
	case a.finalized <- struct{}{}:
	default: // it looks anyway
	}
	if a.head != nil && !a.tree.IsAncestor(h, *a.head) {
		a.head = nil // headLocked then takes the best leaf under h
	}
	a.heads.poke()
	return lost, nil
}

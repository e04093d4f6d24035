package state

import (
	"context"
	"errors"
	"fmt"

	"accessor/checkpoint"
	"accessor/forks"
)

// Verify reads everything the store holds of every block, and recomputes the
// root of every state; it changes nothing. It calls report for each thing that
// is wrong, and progress, where given, after each block. The error is that of
// the verification itself, not of the store's contents.
func (a *Accessor) Verify(ctx context.Context, report func(forks.Block, error), progress func(done, all int)) error {
	ctx, end, err := a.begin(ctx)
	if err != nil {
		return err
	}
	defer end()
	records := a.store.Records()
	for i, rec := range records {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		wrong := a.store.VerifyBlock(rec.Hash)
		if err := a.verifyState(ctx, rec.Block); err != nil {
			wrong = append(wrong, fmt.Errorf("state at block %s, slot %d: %w", rec.Hash, rec.Slot, err))
		}
		if _, err := a.Block(rec.Hash); errors.Is(err, ErrPruned) {
			wrong = nil // meanwhile
		}
		for _, err := range wrong {
			report(rec.Block, err)
		}
		if progress != nil {
			progress(i+1, len(records))
		}
	}
	return nil
}

// verifyState reads the state at a block, from its checkpoint or else from the
// nearest ancestor's, and recomputes its root.
func (a *Accessor) verifyState(ctx context.Context, b forks.Block) error {
	if p := a.enter(); p != nil {
		defer p.leave()
		return a.verifyPartial(p, b)
	}
	v, err := a.store.OpenView(b.Hash)
	if err == nil {
		defer v.Close()
		return a.verifyTrie(b, func() checkpoint.StateIterator { return v.Scan(nil, nil) }, v.Trie())
	}
	w, _, err := a.walkTo(ctx, b, reading)
	if err != nil {
		return err
	}
	// Not as a view: others would find it open and take the checkpoint for good.
	defer w.Drop()
	return a.verifyTrie(b, func() checkpoint.StateIterator { return w.Scan(nil, nil) }, w.Trie())
}

func (a *Accessor) verifyRoot(b forks.Block, it checkpoint.StateIterator) error {
	root, err := a.commitment.Root(overlay(&it, nil))
	if err = errors.Join(err, it.Close()); err != nil {
		return err
	}
	if a.commitment.Rooted() && root != b.Root {
		return &RootError{Kind: ErrWrongRoot, Block: b.Hash, Slot: b.Slot, Declared: b.Root, Actual: root}
	}
	return nil
}

// Reseal makes the checkpoints that are missing, damaged or were never sealed
// again, parents before children, and says how many. Pruned ones, and those that
// another process or import has locked, stay as they are.
func (a *Accessor) Reseal(ctx context.Context, progress func(done, all int)) (made int, err error) {
	ctx, end, err := a.begin(ctx)
	if err != nil {
		return 0, err
	}
	defer end()
	records := a.store.Records()
	for i, rec := range records {
		if err := context.Cause(ctx); err != nil {
			return made, err
		}
		sealed, err := a.reseal(ctx, rec.Block)
		if _, held := a.Block(rec.Hash); errors.Is(held, ErrPruned) {
			continue // meanwhile
		}
		if err != nil {
			return made, fmt.Errorf("make checkpoint of block %s at slot %d: %w", rec.Hash, rec.Slot, err)
		}
		if sealed {
			made++
		}
		if progress != nil {
			progress(i+1, len(records))
		}
	}
	return made, nil
}

func (a *Accessor) reseal(ctx context.Context, b forks.Block) (made bool, err error) {
	// Not by opening a view: one that is open already says nothing of the disk.
	cause := a.store.Usable(b.Hash)
	if cause == nil || leaveAlone(cause) {
		return false, nil
	}
	if w, err := a.store.Take(b.Parent); err == nil && w != nil {
		// Left there by the parent's turn, or an import's.
		if made, err = a.resealWith(w, b); err == nil {
			return made, nil
		}
	}
	w, _, err := a.walkTo(ctx, b, reading)
	if err != nil {
		return false, err
	}
	return a.resealWith(w, b)
}

// resealWith seals a block's checkpoint from a working database at or above it,
// and leaves it for the block's children. Where another is at it, nothing is done.
func (a *Accessor) resealWith(w *checkpoint.Working, b forks.Block) (made bool, err error) {
	lease, err := a.locks.TryLock(b.Slot, b.Hash, "reseal")
	if err != nil {
		a.store.Park(w)
		return false, nil
	}
	defer lease.Release()
	if cause := a.store.Usable(b.Hash); cause == nil || leaveAlone(cause) {
		a.store.Park(w)
		return false, nil
	}
	err = w.Advance(b.Hash)
	if err == nil {
		err = a.store.Seal(w)
	}
	if err != nil {
		w.Drop()
		return false, err
	}
	a.store.Park(w)
	return true, nil
}

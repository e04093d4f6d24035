package state

import (
	"context"
	"errors"
	"fmt"

	"accessor/checkpoint"
	"accessor/forks"
)

// WalkBack says from where a state was reached, and what stood in the way of
// anything nearer.
type WalkBack struct {
	// From is the ancestor whose checkpoint was used.
	From forks.Block
	// Blocks is the number of blocks replayed from there.
	Blocks int
	// Obstacles are the nearer blocks whose checkpoints could not be used,
	// nearest first.
	Obstacles []Obstacle
}

// Obstacle is a block whose checkpoint could not be used, and why: one of
// locking.ErrLocked, checkpoint.ErrLocked, ErrPruned, ErrUnsealed, ErrMissing,
// ErrDamaged, or an error of the file system.
type Obstacle struct {
	Block forks.Block
	Err   error
}

// Reasons gives the obstacles as texts.
func (w *WalkBack) Reasons() []string {
	out := make([]string, len(w.Obstacles))
	for i, o := range w.Obstacles {
		out[i] = o.Err.Error()
	}
	return out
}

// workingAt gives a working database that stands at block b: the one that
// stands there already, a clone of b's checkpoint, or one brought there from the
// nearest usable ancestor. It never waits for whoever has a checkpoint locked.
func (a *Accessor) workingAt(ctx context.Context, b forks.Block) (*checkpoint.Working, *WalkBack, error) {
	w, err := a.store.Take(b.Hash)
	if err != nil || w != nil {
		return w, nil, err
	}
	return a.walkTo(ctx, b, importing)
}

// purpose is what a database is brought to a block for.
type purpose int

const (
	reading purpose = iota
	importing
)

// walkTo clones the nearest usable checkpoint or image at or above b and replays
// from there. The guard is asked before, once it is known how many blocks that takes.
func (a *Accessor) walkTo(ctx context.Context, b forks.Block, why purpose) (*checkpoint.Working, *WalkBack, error) {
	if a.store.Partial() {
		return nil, nil, ErrPartial
	}
	walk := walk{a: a, to: b, why: why}
	defer walk.end()
	for {
		ancestors := a.ancestors(b.Hash)
		w, back, err := walk.along(ctx, ancestors)
		if err == nil || !a.cutShort(ancestors) {
			return w, back, err
		}
	}
}

// cutShort says whether a block's ancestors have become fewer: what a walk began at may
// have been pruned under it, and the new anchor's image was not there yet when it came by.
func (a *Accessor) cutShort(ancestors []forks.Block) bool {
	if len(ancestors) == 0 {
		return false
	}
	left := a.ancestors(ancestors[0].Hash)
	return len(left) > 0 && len(left) < len(ancestors)
}

// walk is a way to a block.
type walk struct {
	a   *Accessor
	to  forks.Block
	why purpose
	// done tells the guard that the replay has ended; nil until it was asked.
	done func(did bool)
}

func (w *walk) end() {
	if w.done != nil {
		w.done(true)
	}
}

// along tries a block and its ancestors, the nearest first.
func (w *walk) along(ctx context.Context, ancestors []forks.Block) (_ *checkpoint.Working, _ *WalkBack, err error) {
	var obstacles []Obstacle
	for i, anc := range ancestors {
		if err := context.Cause(ctx); err != nil {
			return nil, nil, err
		}
		// An import on a block with a checkpoint goes on from its clone: no replay.
		if (i > 0 || w.why == reading) && w.done == nil && w.a.store.Promising(anc.Hash) {
			if w.done, err = w.a.askReplay(ctx, Replay{Block: w.to, Blocks: i, Import: w.why == importing}); err != nil {
				return nil, nil, err
			}
		}
		db, err := w.a.clone(anc)
		if err != nil {
			if errors.Is(err, checkpoint.ErrNoSpace) || errors.Is(err, checkpoint.ErrClosed) {
				return nil, nil, err
			}
			obstacles = append(obstacles, Obstacle{Block: anc, Err: err})
			continue
		}
		if err := db.Advance(w.to.Hash); err != nil {
			db.Drop()
			return nil, nil, fmt.Errorf("replay from block %s: %w", anc.Hash, err)
		}
		if len(obstacles) == 0 {
			return db, nil, nil
		}
		return db, &WalkBack{From: anc, Blocks: i, Obstacles: obstacles}, nil
	}
	return nil, nil, &UnavailableError{Block: w.to, Obstacles: obstacles}
}

func (a *Accessor) ancestors(h forks.Hash) (list []forks.Block) {
	a.ReadTree(func(t *forks.Tree) {
		for b := range t.Ancestors(h) {
			list = append(list, b)
		}
	})
	if len(list) == 0 {
		// It is being pruned, and a view on it opens its state for that.
		list = a.store.Ancestors(h)
	}
	return list
}

func (a *Accessor) clone(b forks.Block) (*checkpoint.Working, error) {
	if err := a.beingWritten(b); err != nil {
		return nil, err
	}
	return a.store.Clone(b.Hash)
}

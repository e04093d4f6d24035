package state

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"

	"go.uber.org/zap"

	"accessor/checkpoint"
	"accessor/forks"
)

// View is the state at one block. It is safe for concurrent use until it is
// closed.
type View struct {
	a *Accessor
	v *checkpoint.View
}

// View opens the state at a block. Where its checkpoint can't be used, the state
// is rebuilt from the nearest usable ancestor's; a checkpoint that is missing or
// damaged is made again. Errors: ErrUnknownBlock, ErrUnavailable, and the
// store's.
func (a *Accessor) View(ctx context.Context, h forks.Hash) (*View, error) {
	ctx, end, err := a.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	b, err := a.Block(h)
	if err != nil {
		return nil, err
	}
	v, err := a.store.OpenView(h)
	if err != nil {
		v, err = a.rebuild(ctx, b, err)
	}
	if err != nil {
		return nil, fmt.Errorf("open state at block %s: %w", h, err)
	}
	return &View{a: a, v: v}, nil
}

// leaveAlone says whether a checkpoint that can't be used must stay as it is:
// pruned on purpose, or locked by another process.
func leaveAlone(err error) bool {
	return errors.Is(err, checkpoint.ErrPruned) || errors.Is(err, checkpoint.ErrLocked)
}

// rebuild brings a working database to a block whose checkpoint can't be used
// and, where nobody else is at it, seals the checkpoint again.
func (a *Accessor) rebuild(ctx context.Context, b forks.Block, cause error) (*checkpoint.View, error) {
	w, walk, err := a.walkTo(ctx, b)
	if err != nil {
		return nil, err
	}
	if walk != nil {
		a.log.Info("rebuilt a state", zap.Stringer("block", b.Hash), zap.Stringer("from", walk.From.Hash),
			zap.Int("blocks", walk.Blocks), zap.Strings("reasons", walk.Reasons()))
	}
	if leaveAlone(cause) {
		return a.store.ViewOf(w), nil
	}
	lease, err := a.locks.TryLock(b.Slot, b.Hash, "rebuild")
	if err != nil {
		return a.store.ViewOf(w), nil
	}
	defer lease.Release()
	// While this one walked, another may have sealed it, pruned it or locked it.
	err = a.store.Usable(b.Hash)
	if err == nil {
		w.Drop()
		return a.store.OpenView(b.Hash)
	}
	if leaveAlone(err) {
		return a.store.ViewOf(w), nil
	}
	if err := a.store.Seal(w); err != nil {
		a.log.Warn("seal a rebuilt checkpoint", zap.Stringer("block", b.Hash), zap.Error(err))
		return a.store.ViewOf(w), nil
	}
	return a.store.ViewOf(w), nil
}

// Block is the block that the view is about.
func (v *View) Block() forks.Block { return v.v.At() }

// Get gives the value of a key; present is false where the state has no such
// key.
func (v *View) Get(key []byte) (value []byte, present bool, err error) {
	return v.v.Get(nil, key)
}

// All yields the state's pairs with keys in [from, to), in key order; an empty
// to means no upper end. The slices are valid until the next pair. An error
// comes as the last element.
func (v *View) All(from, to []byte) iter.Seq2[Pair, error] {
	return func(yield func(Pair, error) bool) {
		it := v.v.Scan(from, to)
		for it.Next() {
			if !yield(Pair{Key: it.Key(), Value: it.Value()}, nil) {
				_ = it.Close()
				return
			}
		}
		if err := it.Close(); err != nil {
			yield(Pair{}, err)
		}
	}
}

// Close gives the view back.
func (v *View) Close() { v.v.Close() }

// Difference is a key that differs between two states. A nil value means that
// the state doesn't have the key.
type Difference struct {
	Key  []byte
	A, B []byte
}

// Diff gives the keys that differ between the states at two blocks, in key
// order, and their common ancestor. It reads only what the blocks between
// wrote. Errors: ErrUnknownBlock, and the store's.
func (a *Accessor) Diff(ctx context.Context, from, to forks.Hash) (diff []Difference, common forks.Block, err error) {
	ctx, end, err := a.begin(ctx)
	if err != nil {
		return nil, common, err
	}
	defer end()
	keys, common, err := a.written(ctx, from, to)
	if err != nil {
		return nil, common, err
	}
	va, err := a.View(ctx, from)
	if err != nil {
		return nil, common, err
	}
	defer va.Close()
	vb, err := a.View(ctx, to)
	if err != nil {
		return nil, common, err
	}
	defer vb.Close()
	for _, key := range keys {
		x, inA, err := va.Get([]byte(key))
		if err != nil {
			return nil, common, err
		}
		y, inB, err := vb.Get([]byte(key))
		if err != nil {
			return nil, common, err
		}
		if inA != inB || !bytes.Equal(x, y) {
			diff = append(diff, Difference{Key: []byte(key), A: valueOrNil(x, inA), B: valueOrNil(y, inB)})
		}
	}
	return diff, common, nil
}

// valueOrNil keeps an empty value apart from none.
func valueOrNil(v []byte, present bool) []byte {
	switch {
	case !present:
		return nil
	case v == nil:
		return []byte{}
	}
	return v
}

// written gives the keys that the blocks between two blocks wrote, sorted.
func (a *Accessor) written(ctx context.Context, from, to forks.Hash) (keys []string, common forks.Block, err error) {
	var undo, apply []forks.Block
	a.ReadTree(func(t *forks.Tree) {
		if common, err = t.CommonAncestor(from, to); err == nil {
			undo, apply, err = t.Path(from, to)
		}
	})
	if err != nil {
		return nil, common, fmt.Errorf("%w: %w", ErrUnknownBlock, err)
	}
	for _, b := range slices.Concat(undo, apply) {
		if err := context.Cause(ctx); err != nil {
			return nil, common, err
		}
		writes, err := a.store.ReadDelta(b.Hash)
		if err != nil {
			return nil, common, err
		}
		for w, err := range writes {
			if err != nil {
				return nil, common, err
			}
			keys = append(keys, string(w.Key))
		}
	}
	slices.Sort(keys)
	return slices.Compact(keys), common, nil
}

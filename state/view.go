package state

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"go.uber.org/zap"

	"accessor/checkpoint"
	"accessor/forks"
	"accessor/state/cache"
)

// View is the state at one block. All that is read of it is of that block, whatever
// is imported, finalized or pruned meanwhile. It is safe for concurrent use until it
// is closed.
type View struct {
	a *Accessor
	b forks.Block
	// path is the block's in the read cache; nil where its reads don't go there.
	path *cache.Path
	// opener has the values of the context that the view was asked for with, and no end:
	// it is that of reads which are given none.
	opener context.Context //nolint:containedctx // as said

	mu     sync.Mutex
	closed bool                            // guarded by mu
	state  atomic.Pointer[checkpoint.View] // opened by the first read that needs it
}

// View opens the state at a block. Where its checkpoint can't be used, the state
// is rebuilt from the nearest usable ancestor's; a checkpoint that is missing or
// damaged is made again. With a read cache that is left to the first read that
// needs the checkpoint. Errors: ErrUnknownBlock, ErrUnavailable, and the store's.
func (a *Accessor) View(ctx context.Context, h forks.Hash) (*View, error) {
	opener := context.WithoutCancel(ctx)
	ctx, end, err := a.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	b, err := a.Block(h)
	if err != nil {
		return nil, err
	}
	v := &View{a: a, b: b, opener: opener}
	if a.reads.cache != nil {
		v.path = a.reads.cache.At(h)
	}
	a.reads.opened(v)
	// The block may have been pruned since it was looked up: then nobody would have
	// opened the state for this view.
	if _, err = a.Block(h); err == nil && v.path == nil && !a.Partial() {
		_, err = v.open(ctx)
	}
	if err != nil {
		v.Close()
		return nil, err
	}
	return v, nil
}

// open gives the state itself.
func (v *View) open(ctx context.Context) (*checkpoint.View, error) {
	if cv := v.state.Load(); cv != nil {
		return cv, nil
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if cv := v.state.Load(); cv != nil {
		return cv, nil
	}
	if v.closed {
		return nil, errViewClosed
	}
	cv, err := v.a.store.OpenView(v.b.Hash)
	if err != nil && !errors.Is(err, ErrPartial) {
		cv, err = v.a.rebuild(ctx, v.b, err)
	}
	if err != nil {
		return nil, fmt.Errorf("open state at block %s: %w", v.b.Hash, err)
	}
	v.state.Store(cv)
	return cv, nil
}

// detach opens the state, and makes it independent of files that may go.
func (v *View) detach() error {
	cv, err := v.open(context.Background())
	if err != nil {
		return err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.closed {
		return errViewClosed
	}
	return cv.Detach()
}

// errViewClosed: nobody reads the view any more.
var errViewClosed = errors.New("view is closed")

// checkpoint gives the state itself to a read, as its context's client may read it.
// Error: checkpoint.ErrClosed.
func (v *View) checkpoint(ctx context.Context) (*checkpoint.View, error) {
	if cv := v.state.Load(); cv != nil {
		return v.asking(ctx, cv), nil
	}
	opening, end, err := v.a.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	cv, err := v.open(opening)
	if err != nil {
		return nil, err
	}
	return v.asking(ctx, cv), nil
}

// Close gives the view back. Closing twice is safe; the view is used by nobody by
// then.
func (v *View) Close() {
	defer v.a.reads.forget(v)
	v.mu.Lock()
	defer v.mu.Unlock()
	v.closed = true
	if cv := v.state.Load(); cv != nil {
		cv.Close()
	}
}

// Block is the block that the view is about.
func (v *View) Block() forks.Block { return v.b }

// leaveAlone says whether a checkpoint that can't be used must stay as it is:
// pruned on purpose, locked by another process, or not to be had yet.
func leaveAlone(err error) bool {
	return errors.Is(err, checkpoint.ErrPruned) || errors.Is(err, checkpoint.ErrLocked) || errors.Is(err, ErrPartial)
}

// rebuild brings a working database to a block whose checkpoint can't be used
// and, where nobody else is at it, seals the checkpoint again.
func (a *Accessor) rebuild(ctx context.Context, b forks.Block, cause error) (*checkpoint.View, error) {
	w, walk, err := a.walkTo(ctx, b, reading)
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

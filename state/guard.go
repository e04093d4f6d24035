package state

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"accessor/checkpoint"
	"accessor/forks"
)

// Replay is the work of bringing a database to a block that has no checkpoint which
// can be used: some 80 ms, and more with the blocks.
type Replay struct {
	// Block is where the database is brought to.
	Block forks.Block
	// Blocks is how many are replayed.
	Blocks int
	// Import says that a block is to be imported on it; else somebody reads.
	Import bool
}

// ReplayGuard is asked before a replay begins. ctx has the values of the context that
// the import, the view's opening or the draft's beginning was called with; what the
// Accessor does by itself has one of its own, with none. It may wait, but not for long:
// the reader of a draft can't call it off. Its error is that of the read or import
// (ErrReplayRefused), which can be tried again. done is called when the replay is over; did is false where
// there was no need for one in the end.
type ReplayGuard func(ctx context.Context, r Replay) (done func(did bool), err error)

// replayGuard is the guard, once there is one.
type replayGuard struct{ atomic.Pointer[ReplayGuard] }

// GuardReplays has each replay ask first, from now on; views that are open by then
// don't. nil ends that. Without a guard, replays go on as many at a time as are needed.
func (a *Accessor) GuardReplays(guard ReplayGuard) {
	if guard == nil {
		a.guard.Store(nil)
		return
	}
	a.guard.Store(&guard)
}

// ErrReplayRefused: the guard has refused a replay; its error says why.
var ErrReplayRefused = errors.New("blocks aren't replayed now")

// askReplay asks the guard, if there is one. Error: ErrReplayRefused, with the guard's.
func (a *Accessor) askReplay(ctx context.Context, r Replay) (done func(did bool), err error) {
	g := a.guard.Load()
	if g == nil {
		return func(bool) {}, nil
	}
	if done, err = (*g)(ctx, r); err != nil {
		return nil, fmt.Errorf("%w: %d up to block %s: %w", ErrReplayRefused, r.Blocks, r.Block.Hash, err)
	}
	return done, nil
}

// guarded has reads of an open state ask the guard, for whoever opened the view.
func (v *View) guarded(cv *checkpoint.View) {
	if v.a.guard.Load() == nil {
		return
	}
	ctx := context.WithoutCancel(v.opener)
	cv.AskFirst(func(blocks int) (func(bool), error) {
		return v.a.askReplay(ctx, Replay{Block: v.b, Blocks: blocks})
	})
}

// onBehalf is a context with the values of another one.
type onBehalf struct {
	context.Context //nolint:containedctx // it is one
	values          context.Context
}

// Value implements context.Context.
func (c onBehalf) Value(key any) any { return c.values.Value(key) }

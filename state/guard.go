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

// ReplayGuard is asked before a replay begins. ctx is that of the import or read, or
// has the values of the one that the view was opened with, for methods that
// take none; what the Accessor does by itself has one of its own, without values. It may
// wait, but not for long: not every reader can call it off. Its error is that of the read
// or import (ErrReplayRefused), which can be tried again. done is called when the replay
// is over; did is false where there was no need for one in the end.
type ReplayGuard func(ctx context.Context, r Replay) (done func(did bool), err error)

// replayGuard is the guard, once there is one.
type replayGuard struct{ atomic.Pointer[ReplayGuard] }

// GuardReplays has each replay ask first, from now on; nil ends that. Without a guard
// as many go on at a time as are needed.
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

// asking gives the open state for a reader, whose reads ask the guard.
func (v *View) asking(ctx context.Context, cv *checkpoint.View) *checkpoint.View {
	if !cv.MayAsk() || v.a.guard.Load() == nil {
		return cv
	}
	return cv.Asking(func(blocks int) (func(bool), error) {
		return v.a.askReplay(ctx, Replay{Block: v.b, Blocks: blocks})
	})
}

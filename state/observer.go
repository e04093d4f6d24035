package state

import (
	"errors"
	"time"

	"accessor/checkpoint"
	"accessor/forks"
)

// Observer is told of what an Accessor does, for metrics and logs. Each func may be
// nil. They are called by whoever did it, who goes on when they return: they must be
// quick, never wait, and call nothing of the Accessor but Stats. What happens with
// every read is not told, but counted: see Stats.
type Observer struct {
	// Imported: an import has ended, well or not.
	Imported func(Imported)
	// Retained: pruning has ended, well or not.
	Retained func(Pruning)
	// DraftEnded: a draft is over.
	DraftEnded func(DraftEnd)
}

// Imported is an import that has ended.
type Imported struct {
	Block  forks.Hash
	Slot   forks.Slot
	Result Result // with how long it took, also where it failed
	Err    error
	// LockWait is how long the import waited for its slot.
	LockWait time.Duration
	// Replayed is how many blocks a walk-back replayed; 0 without one.
	Replayed int
	// Bytes is the size of the delta that was written and ingested.
	Bytes int64
}

// Pruning is a run of retention, in which there may have been nothing to do.
type Pruning struct {
	Retained
	Err  error
	Took time.Duration
}

// DraftFate says how a draft ended.
type DraftFate string

// How drafts end.
const (
	DraftCommitted DraftFate = "committed"
	DraftDropped   DraftFate = "dropped"
	DraftExpired   DraftFate = "expired"
	DraftClosed    DraftFate = "closed" // with the store
)

// DraftEnd is a draft that is over, as it was then.
type DraftEnd struct {
	Draft DraftInfo
	Fate  DraftFate
}

func (a *Accessor) noteImport(b *Block, res Result, err error, seen Imported) {
	switch {
	case err == nil && !res.Held:
		a.noSpace.Store(false)
	case errors.Is(err, checkpoint.ErrNoSpace) && !errors.Is(err, ErrOverBudget):
		a.noSpace.Store(true)
	}
	if a.observer.Imported == nil {
		return
	}
	seen.Block, seen.Slot, seen.Result, seen.Err = b.Hash, b.Slot, res, err
	if w := res.WalkBack; w != nil {
		seen.Replayed = w.Blocks
	}
	a.observer.Imported(seen)
}

func (a *Accessor) noteRetained(began time.Time, done *Retained, err *error) {
	if f := a.observer.Retained; f != nil {
		f(Pruning{Retained: *done, Err: *err, Took: time.Since(began)})
	}
}

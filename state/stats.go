package state

import (
	"errors"
	"fmt"
	"time"

	"accessor/checkpoint"
	"accessor/forks"
	"accessor/locking"
)

// Stats describes an Accessor at one moment, for gauges, and what it has done since
// it was opened, for counters.
type Stats struct {
	Blocks, Leaves int // held
	LostBlocks     int // of the blocks, those that lost by finality
	LostForks      int // of the leaves
	Head           forks.Block
	Finalized      forks.Block
	Anchor         forks.Block
	HeadHeight     int // blocks from the anchor to the head
	FinalHeight    int // and to the finalized one
	Importing      int // imports on their way

	Drafts         int
	Pins           int
	PinDirectories int
	Locks          int // slots that are locked
	LockWaiters    int // imports that wait for one

	OpenViews       int // that callers have
	OpenCheckpoints int // databases, which views share
	WorkingDBs      int // that stay open between imports

	CacheBytes  int64 // that values take in the read cache
	CacheReady  bool  // the cache has its index, or there is no cache
	CacheHits   int64 // reads of keys that it answered
	CacheMisses int64 // that it could not answer
	// CheckpointReads counts keys read from checkpoints, of misses and of reads that
	// don't go through the cache; PeerReads those that only peers had.
	CheckpointReads, PeerReads int64

	Clones, Adopted, Ingested, Sealed, Runs, Images, Settles, Archived int64 // see checkpoint.Stats

	// DiskBytes is the space that the store took when it was measured last: by
	// retention where there is a budget, and by DiskUsage. 0 before that.
	DiskBytes  int64
	DiskBudget int64 // 0 for none

	Events        int    // that are kept
	OldestEvent   uint64 // position; 0 where there is none
	NewestEvent   uint64
	MissingDeltas int // write sets that were missing at the start

	// NotReady is what Ready says; nil where it is ready.
	NotReady error
}

// Stats describes the Accessor now. It does no I/O.
func (a *Accessor) Stats() Stats {
	var s Stats
	a.mu.RLock()
	t := a.tree
	s.Blocks, s.LostBlocks = t.Len(), t.LostBlocks()
	s.Leaves, s.LostForks = t.LeafCount()
	s.Head, s.Finalized, s.Anchor = a.headNowLocked(), t.Finalized(), t.Anchor()
	low := t.Height(s.Anchor.Hash)
	s.HeadHeight, s.FinalHeight = t.Height(s.Head.Hash)-low, t.Height(s.Finalized.Hash)-low
	s.Importing = len(a.inflight)
	a.mu.RUnlock()

	s.Drafts = len(a.drafts.all())
	s.Pins = len(a.pins.List())
	s.PinDirectories = a.pinDirs.count()
	for _, l := range a.locks.Locks() {
		s.Locks++
		s.LockWaiters += l.Waiters
	}
	a.reads.mu.Lock()
	s.OpenViews = len(a.reads.open)
	gone := a.reads.cacheClosed
	a.reads.mu.Unlock()
	s.OpenCheckpoints, s.WorkingDBs = a.store.Open()
	if c := a.reads.cache; c != nil && !gone {
		s.CacheBytes, s.CacheHits, s.CacheMisses = c.Bytes(), c.Hits(), c.Misses()
	}
	select {
	case <-a.reads.ready:
		s.CacheReady = true
	default:
	}
	s.CheckpointReads, s.PeerReads = a.reads.fromDisk.Load(), a.reads.fromPeers.Load()
	done := a.store.Stats()
	s.Clones, s.Adopted, s.Ingested, s.Sealed = done.Clones.Load(), done.Adopted.Load(), done.Ingested.Load(), done.Sealed.Load()
	s.Runs, s.Images, s.Settles, s.Archived = done.Runs.Load(), done.Images.Load(), done.Settles.Load(), done.Archived.Load()
	s.DiskBytes, s.DiskBudget = a.measured.Load(), a.retention.DiskBytes
	s.Events, s.OldestEvent, s.NewestEvent = a.store.EventsKept()
	s.MissingDeltas = a.store.MissingDeltas()
	s.NotReady = a.Ready()
	return s
}

// headNowLocked is the head without looking for it: the one that was told last.
func (a *Accessor) headNowLocked() forks.Block {
	if a.head != nil {
		if b, ok := a.tree.Get(*a.head); ok {
			return b
		}
	}
	return a.told
}

// DiskUsage measures the space that the store takes, in bytes, and remembers it for
// Stats. It looks at every file: a second for a day's blocks.
func (a *Accessor) DiskUsage() (int64, error) {
	used, err := a.store.DiskUsage()
	if err == nil {
		a.measured.Store(used)
	}
	return used, err
}

// ErrReadOnly: what is held can be read, and nothing be written.
var ErrReadOnly = errors.New("the store can't be written to")

// Ready says whether imports are taken. Errors: checkpoint.ErrClosed, ErrOverBudget,
// ErrReadOnly with the failure of the last write. While Open is at work, which finishes
// what a crash left, there is no Accessor to ask.
func (a *Accessor) Ready() error {
	a.mu.RLock()
	closed := a.closed
	a.mu.RUnlock()
	switch err := a.store.Unwritable(); {
	case closed:
		return checkpoint.ErrClosed
	case a.full.Load():
		return ErrOverBudget
	case err != nil:
		return fmt.Errorf("%w: %w; open the store again", ErrReadOnly, err)
	case a.noSpace.Load():
		return fmt.Errorf("%w: %w: free some; the next import that succeeds ends this", ErrReadOnly, checkpoint.ErrNoSpace)
	}
	return nil
}

// Lock is a slot that an import, or the rebuilding of a checkpoint, has locked.
type Lock struct {
	Slot    forks.Slot
	Block   forks.Hash // that is being written
	Owner   string
	Since   time.Time
	Age     time.Duration
	Waiters int // imports that wait for the slot
}

// LockList gives the locks, by slot.
func (a *Accessor) LockList() []Lock {
	infos := a.locks.Locks()
	list := make([]Lock, len(infos))
	for i, l := range infos {
		list[i] = Lock{Slot: l.Slot, Block: l.Block, Owner: l.Owner, Since: l.Since, Age: time.Since(l.Since), Waiters: l.Waiters}
	}
	return list
}

// Reservation is a slot that a draft has reserved. It binds other owners' drafts
// alone: an import takes the slot all the same.
type Reservation struct {
	Slot    forks.Slot
	Owner   string
	Age     time.Duration
	Expires time.Time // zero while the draft is being begun or committed
}

// Reservations gives those of the open drafts, by slot.
func (a *Accessor) Reservations() []Reservation {
	infos := a.drafts.slots.List()
	list := make([]Reservation, len(infos))
	for i, r := range infos {
		list[i] = Reservation{Slot: r.Slot, Owner: r.Owner, Age: time.Since(r.Since), Expires: r.Expires}
	}
	return list
}

// MaxPins is the most pins at a time.
func (a *Accessor) MaxPins() int { return a.retention.MaxPins }

// PinInfo describes a pin.
type PinInfo = locking.Pin

// Errors of pins.
var (
	ErrTooManyPins = locking.ErrTooManyPins
	ErrUnknownPin  = locking.ErrUnknownPin
	ErrPinTime     = locking.ErrPinTime
)

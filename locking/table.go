// Package locking owns timeslot locks: who may write a block into a slot, and
// since when. It doesn't know what a lock protects: no files, no states.
//
// Invariants:
//   - A slot has at most one lease, which names the block that is being written
//     and the owner who writes it.
//   - Leases of one slot are given in the order in which they were asked for. A
//     released lock goes straight to the first who waits; who comes later can't
//     get between.
//   - Whoever gives up waiting leaves nothing behind, even where the lock was
//     handed over at that very moment: it goes on to the next.
//   - A slot that nobody locks takes no memory.
//
// Beside them it owns reservations, which keep a slot for an owner's drafts and
// bind nobody else; see Reservations.
//
// Different slots are independent of each other. Who has one slot must never
// wait for a second: there is no order between slots that would keep two such
// owners from waiting for each other.
package locking

import (
	"cmp"
	"container/list"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"accessor/forks"
)

// Info describes a lock at one moment.
type Info struct {
	Slot    forks.Slot
	Block   forks.Hash // the block being written
	Owner   string     // who writes it, for people
	Since   time.Time  // when the owner got the lock
	Waiters int        // how many wait for it
}

// Table holds the locks of all slots. It is safe for concurrent use. See New.
type Table struct {
	// mu guards what stands below, and each slot's own fields. It is only taken
	// for moments: nobody waits for a slot with it.
	mu    sync.Mutex
	slots map[forks.Slot]*slot // only those that are locked
}

// slot is one locked slot.
type slot struct {
	lease *Lease    // who has it; never nil
	queue list.List // of *waiter, the first to be served in front
}

// waiter is a call of Lock that waits for its turn.
type waiter struct {
	lease *Lease        // the lease that it will get
	ready chan struct{} // closed when the slot is the lease's
	prior *LockedError  // from then on: whom it waited for last
}

// Lease is a lock of one slot for one block. Its owner must release it.
type Lease struct {
	table *Table
	slot  forks.Slot
	block forks.Hash
	owner string
	since time.Time // when it was given; guarded by table.mu
}

// New gives a table without locks.
func New() *Table { return &Table{slots: make(map[forks.Slot]*slot)} }

// Lock locks a slot for a block, and waits for its turn where others have it.
// The owner's name is shown to whoever finds the slot locked. Where ctx ends
// first, the error is a *LockedError (matching ErrLocked and the context's
// cause), or the cause alone where ctx had ended before the call.
func (t *Table) Lock(ctx context.Context, slot forks.Slot, block forks.Hash, owner string) (*Lease, error) {
	if ctx.Err() != nil {
		return nil, fmt.Errorf("lock slot %d for %q: %w", slot, owner, context.Cause(ctx))
	}
	lease := &Lease{table: t, slot: slot, block: block, owner: owner}
	w, place := t.enqueue(lease)
	if w == nil {
		return lease, nil
	}
	began := time.Now()
	select {
	case <-w.ready:
	case <-ctx.Done():
	}
	if ctx.Err() == nil {
		return lease, nil
	}
	refusal := t.abandon(w, place)
	refusal.Waited = time.Since(began)
	refusal.Cause = context.Cause(ctx)
	return nil, refusal
}

// TryLock locks a slot for a block if it is free. Else the error is a
// *LockedError, which matches ErrLocked.
func (t *Table) TryLock(slot forks.Slot, block forks.Hash, owner string) (*Lease, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if s := t.slots[slot]; s != nil {
		return nil, s.refusal()
	}
	lease := &Lease{table: t, slot: slot, block: block, owner: owner}
	t.grantFreeLocked(lease)
	return lease, nil
}

// enqueue gives the slot to the lease if it is free, and else puts the lease at
// the end of the slot's queue.
func (t *Table) enqueue(lease *Lease) (*waiter, *list.Element) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.slots[lease.slot]
	if s == nil {
		t.grantFreeLocked(lease)
		return nil, nil
	}
	w := &waiter{lease: lease, ready: make(chan struct{})}
	return w, s.queue.PushBack(w)
}

// grantFreeLocked gives a lease a slot that nobody has.
func (t *Table) grantFreeLocked(lease *Lease) {
	lease.since = time.Now()
	t.slots[lease.slot] = &slot{lease: lease}
}

// abandon takes a waiter out of the queue and says whom it waited for. If the
// slot was handed to it meanwhile, the slot goes on to the next.
func (t *Table) abandon(w *waiter, place *list.Element) *LockedError {
	t.mu.Lock()
	defer t.mu.Unlock()
	if w.prior != nil {
		t.releaseLocked(w.lease)
		return w.prior
	}
	s := t.slots[w.lease.slot]
	s.queue.Remove(place)
	return s.refusal()
}

// releaseLocked hands the lease's slot to the first waiter, or frees it. It
// does nothing where the lease hasn't the slot any more.
func (t *Table) releaseLocked(lease *Lease) {
	s := t.slots[lease.slot]
	if s == nil || s.lease != lease {
		return
	}
	first := s.queue.Front()
	if first == nil {
		delete(t.slots, lease.slot)
		return
	}
	w := first.Value.(*waiter)
	s.queue.Remove(first)
	w.prior = s.refusal()
	s.lease = w.lease
	s.lease.since = time.Now()
	close(w.ready)
}

// Release gives the slot to the first who waits for it. It is safe to call from
// any goroutine, and again: only the first call counts.
func (l *Lease) Release() {
	l.table.mu.Lock()
	defer l.table.mu.Unlock()
	l.table.releaseLocked(l)
}

// Slot is the locked slot.
func (l *Lease) Slot() forks.Slot { return l.slot }

// Block is the block for which the slot was locked.
func (l *Lease) Block() forks.Hash { return l.block }

// LockedBy says who has locked the slot, if anybody.
func (t *Table) LockedBy(slot forks.Slot) (Info, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.slots[slot]
	if s == nil {
		return Info{}, false
	}
	return s.info(), true
}

// Writing says whether that very block of that slot is being written: whether a
// lease names it. A sibling that is being written doesn't count, nor does a
// block that waits for its turn.
func (t *Table) Writing(block forks.Hash, slot forks.Slot) (Info, bool) {
	info, ok := t.LockedBy(slot)
	if !ok || info.Block != block {
		return Info{}, false
	}
	return info, true
}

// Locks gives all locks, sorted by slot.
func (t *Table) Locks() []Info {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := make([]Info, 0, len(t.slots))
	for _, s := range t.slots {
		out = append(out, s.info())
	}
	slices.SortFunc(out, func(a, b Info) int { return cmp.Compare(a.Slot, b.Slot) })
	return out
}

// info describes the slot's lock. Table.mu is locked.
func (s *slot) info() Info {
	return Info{
		Slot:    s.lease.slot,
		Block:   s.lease.block,
		Owner:   s.lease.owner,
		Since:   s.lease.since,
		Waiters: s.queue.Len(),
	}
}

// refusal is the error of who can't have the slot now. Table.mu is locked.
func (s *slot) refusal() *LockedError {
	return &LockedError{Info: s.info(), Age: time.Since(s.lease.since)}
}

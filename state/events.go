package state

import (
	"context"
	"errors"
	"fmt"
	"time"

	"accessor/checkpoint"
	"accessor/forks"
	"accessor/locking"
)

// Events of a store: see Accessor.Subscribe.
type (
	Event        = checkpoint.Event
	EventKind    = checkpoint.EventKind
	Subscription = checkpoint.Subscription
)

// Kinds of events; checkpoint says of each what its fields mean.
const (
	EventGap       = checkpoint.EventGap
	EventBlock     = checkpoint.EventBlock
	EventHead      = checkpoint.EventHead
	EventReorg     = checkpoint.EventReorg
	EventFinalized = checkpoint.EventFinalized
	EventPruned    = checkpoint.EventPruned
	EventWalkBack  = checkpoint.EventWalkBack
	EventLock      = checkpoint.EventLock
	EventComplete  = checkpoint.EventComplete
)

// Where a subscription may begin, beside after an event.
const (
	Newest = checkpoint.Newest // with what happens from now on
	Oldest = checkpoint.Oldest // with the oldest event that is kept
)

// ErrEventKind: no event has a kind of that name.
var ErrEventKind = checkpoint.ErrEventKind

// ParseEventKind reads a kind's name: block, head, reorg, finalized, pruned, walkback,
// lock, gap. Error: ErrEventKind.
func ParseEventKind(name string) (EventKind, error) { return checkpoint.ParseEventKind(name) }

// Subscribe reads the events after a position: Newest, Oldest, or that of an event
// which was read before, also before a restart. Where kinds are given, it is only
// those, and gaps. A subscription reads from memory or from disk, whenever it is
// asked, so that a slow one holds nobody up; what is too old by then is a gap. Blocks
// can be read when their event comes. After Close, Next answers checkpoint.ErrClosed.
func (a *Accessor) Subscribe(after uint64, kinds ...EventKind) *Subscription {
	return a.store.Subscribe(after, kinds...)
}

// headEvents are the events of a head that goes to another block; none where it
// stays. a.mu is locked, for reading at least.
func (a *Accessor) headEventsLocked(to forks.Block) []Event {
	from := a.told
	if from.Hash == to.Hash && a.toldAny {
		return nil
	}
	head := Event{Kind: EventHead, Block: to, Old: from}
	if _, held := a.tree.Get(from.Hash); !held || !a.toldAny || a.tree.IsAncestor(from.Hash, to.Hash) {
		return []Event{head}
	}
	reorg := Event{Kind: EventReorg, Block: to, Old: from}
	if common, err := a.tree.CommonAncestor(from.Hash, to.Hash); err == nil {
		reorg.Common = common
		reorg.Count = a.tree.Height(from.Hash) - a.tree.Height(common.Hash)
	}
	return []Event{reorg, head}
}

// tellHeadLocked announces the head where it is another one than was told last.
func (a *Accessor) tellHeadLocked() {
	if a.labelling {
		return // who labels tells of it
	}
	head := a.headLocked()
	a.store.Announce(a.headEventsLocked(head)...)
	a.told, a.toldAny = head, true
}

// tellGrownLocked is tellHeadLocked after a block has come to the tree: the head is
// the same, or that block.
func (a *Accessor) tellGrownLocked(b forks.Block) {
	if a.head != nil || a.labelling || !a.tree.IsAncestor(a.tree.Finalized().Hash, b.Hash) {
		return
	}
	higher, best := a.tree.Height(b.Hash), a.tree.Height(a.told.Hash)
	if higher < best || higher == best && b.Hash.Compare(a.told.Hash) > 0 {
		return
	}
	a.store.Announce(a.headEventsLocked(b)...)
	a.told = b
}

// startTelling takes up where the events of before the start have ended.
func (a *Accessor) startTelling() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if last := a.store.LastHead(); last != nil {
		a.told, a.toldAny = last.Block, true
	}
	a.tellHeadLocked()
}

// label writes a label of the node's, with the events that the change brings. From
// the first to the last, imports leave it to label to tell of the head. The caller
// has labels.
func (a *Accessor) label(name string, h forks.Hash, events func() []Event, change func() error) error {
	a.mu.Lock()
	a.labelling = true
	list := events()
	told := a.told
	for _, e := range list {
		if e.Kind == EventHead {
			told = e.Block
		}
	}
	a.mu.Unlock()
	publish, err := a.store.SetMetaWith(name, h[:], list...)
	defer publish()
	a.mu.Lock()
	defer a.mu.Unlock()
	a.labelling = false
	if err == nil {
		a.told, a.toldAny = told, true
		err = change()
	}
	a.tellHeadLocked() // where an import has moved it meanwhile
	return err
}

// What an EventLock says has become of who wants the slot.
const (
	LockWaiting = "waiting"
	LockGranted = "granted"
	LockGaveUp  = "gave-up"
)

// lockSlot takes the slot's lock for a block, and tells of it where somebody else has
// it.
func (a *Accessor) lockSlot(ctx context.Context, b *Block) (lease *locking.Lease, waited time.Duration, err error) {
	over := func() bool { return errors.Is(context.Cause(ctx), errWaitOver) }
	if ctx.Err() == nil || over() {
		lease, err = a.locks.TryLock(b.Slot, b.Hash, a.ownerOf(b))
	} else {
		lease, err = a.locks.Lock(ctx, b.Slot, b.Hash, a.ownerOf(b)) // which says why
	}
	var locked *locking.LockedError
	if err == nil || !errors.As(err, &locked) || over() {
		return lease, 0, err // who doesn't wait isn't told of
	}
	began := time.Now()
	tell := func(outcome string) {
		a.store.Announce(Event{
			Kind: EventLock, Block: forks.Block{Hash: b.Hash, Parent: b.Parent, Slot: b.Slot},
			Old: forks.Block{Hash: locked.Block, Slot: locked.Slot}, Owner: locked.Owner,
			Reasons: []string{outcome}, Waited: time.Since(began),
		})
	}
	tell(LockWaiting)
	lease, err = a.locks.Lock(ctx, b.Slot, b.Hash, a.ownerOf(b))
	if err != nil {
		if again := (*locking.LockedError)(nil); over() && !errors.As(err, &again) {
			err = locked // the wait was over before it began
		}
		tell(LockGaveUp)
		return nil, time.Since(began), err
	}
	tell(LockGranted)
	return lease, time.Since(began), nil
}

// walkBackEvents tells of an import's walk-back, if there was one.
func walkBackEvents(b *Block, w *WalkBack) []Event {
	if w == nil {
		return nil
	}
	return []Event{{
		Kind: EventWalkBack, Block: forks.Block{Hash: b.Hash, Parent: b.Parent, Slot: b.Slot},
		Old: w.From, Count: w.Blocks, Reasons: w.Reasons(),
	}}
}

// awaited is a block for which somebody waits.
type awaited struct {
	held    chan struct{} // closed once it is
	waiters int
}

// WaitBlock gives a block, and waits until it is held. Where ctx ends first, the
// error is ErrUnknownBlock and ctx's cause. Other errors: ErrPruned at once, and
// checkpoint.ErrClosed.
func (a *Accessor) WaitBlock(ctx context.Context, h forks.Hash) (forks.Block, error) {
	ctx, end, err := a.begin(ctx)
	if err != nil {
		return forks.Block{}, fmt.Errorf("wait for block %s: %w", h, err)
	}
	defer end()
	a.mu.Lock()
	b, err := a.blockLocked(h)
	if err == nil || errors.Is(err, ErrPruned) {
		a.mu.Unlock()
		return b, err
	}
	w := a.awaited[h]
	if w == nil {
		w = &awaited{held: make(chan struct{})}
		a.awaited[h] = w
	}
	w.waiters++
	a.mu.Unlock()

	select {
	case <-w.held:
		return a.Block(h)
	case <-ctx.Done():
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if w.waiters--; w.waiters == 0 && a.awaited[h] == w {
		delete(a.awaited, h)
	}
	if b, err = a.blockLocked(h); err != nil {
		err = fmt.Errorf("wait for it: %w: %w", err, context.Cause(ctx))
	}
	return b, err
}

// wakeAwaitedLocked wakes those who wait for a block.
func (a *Accessor) wakeAwaitedLocked(h forks.Hash) {
	if w := a.awaited[h]; w != nil {
		close(w.held)
		delete(a.awaited, h)
	}
}

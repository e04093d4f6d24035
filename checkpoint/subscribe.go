package checkpoint

import (
	"context"
	"encoding/binary"
	"fmt"
	"sort"
)

// Where a subscription may begin, beside after an event.
const (
	// Newest begins with what happens from now on.
	Newest uint64 = 0
	// Oldest begins with the oldest event that is kept.
	Oldest uint64 = 1
)

// Subscription reads events, in order. It keeps nothing but its position, so there
// is nothing to close, and the store doesn't know of it. One goroutine uses it.
type Subscription struct {
	s     *Store
	after uint64
	only  uint32 // a bit for each kind; 0 for all
}

// Subscribe reads the events after a position: Newest, Oldest, or that of an event
// that was read before, in an earlier life of the store as well. Where kinds are
// given, it is only those; gaps come in any case.
func (s *Store) Subscribe(after uint64, kinds ...EventKind) *Subscription {
	sub := &Subscription{s: s, after: after}
	for _, k := range kinds {
		sub.only |= 1 << (k & 31)
	}
	ev := &s.events
	ev.mu.Lock()
	defer ev.mu.Unlock()
	switch {
	case after == Newest, after == Oldest && len(ev.known) == 0:
		sub.after = ev.lastLocked()
	case after == Oldest:
		sub.after = ev.known[0].position - 1
	}
	return sub
}

// Position is where the subscription stands: all up to it was given, or is of other
// kinds.
func (sub *Subscription) Position() uint64 { return sub.after }

// Next gives the next event, and waits for it. A reader that comes late gets what is
// still kept, after an EventGap for what isn't. An EventGap comes too where the
// position from which it reads is not one of this store's: above the newest, since it
// is another store's or this one was brought back from a backup, or one that this
// store never gave. Errors: ErrClosed, ctx's, and the journal's.
func (sub *Subscription) Next(ctx context.Context) (Event, error) {
	for {
		if err := context.Cause(ctx); err != nil {
			return Event{}, err
		}
		e, wait, err := sub.step()
		if err != nil || wait == nil {
			return e, err
		}
		select {
		case <-wait:
		case <-ctx.Done():
		}
	}
}

// step gives the next event, or what is closed when there may be one.
func (sub *Subscription) step() (e Event, wait <-chan struct{}, err error) {
	ev := &sub.s.events
	ev.mu.Lock()
	if ev.ended {
		ev.mu.Unlock()
		return e, nil, fmt.Errorf("read events: %w", ErrClosed)
	}
	i := sort.Search(len(ev.known), func(i int) bool { return ev.known[i].position > sub.after })
	if e, found := ev.gapLocked(sub.after, i); found {
		ev.mu.Unlock()
		sub.after = e.Position
		return e, nil, nil
	}
	for ; i < len(ev.known); i++ {
		if p := ev.known[i]; p.kind == EventGap || sub.only == 0 || sub.only&(1<<p.kind) != 0 {
			break
		}
		sub.after = ev.known[i].position
	}
	if i == len(ev.known) {
		if ev.grown == nil {
			ev.grown = make(chan struct{})
		}
		defer ev.mu.Unlock()
		return e, ev.grown, nil
	}
	e, position := Event{}, ev.known[i].position
	first := len(ev.known) - len(ev.latest) // of those in memory
	inMemory := i >= first
	if inMemory {
		e = ev.latest[i-first]
	}
	ev.mu.Unlock()
	if !inMemory {
		if e, err = sub.s.readEvent(position); err != nil {
			return e, nil, err
		}
	}
	if e.Kind == EventGap {
		e.First = min(e.First, sub.after+1)
	}
	sub.after = position
	return e, nil, nil
}

// gapLocked gives the gap after a position, before the i-th event that is kept.
func (ev *events) gapLocked(after uint64, i int) (Event, bool) {
	switch {
	case i > 0 && ev.known[i-1].position == after, after == ev.base:
		return Event{}, false
	case i < len(ev.known):
		next := ev.known[i]
		// A gap that is kept is given as one with what lies before it.
		if next.position == after+1 || next.kind == EventGap {
			return Event{}, false
		}
		return gap(after+1, next.position-1), true
	}
	end := max(ev.base, ev.lastLocked())
	if after > end {
		return gap(Oldest, end), true
	}
	return gap(after+1, end), true
}

// readEvent reads an event that is not in memory; one that has just been cut off
// is a gap.
func (s *Store) readEvent(position uint64) (Event, error) {
	s.journal.RLock()
	defer s.journal.RUnlock()
	if !s.journalUp {
		return Event{}, fmt.Errorf("read events: %w", ErrClosed)
	}
	for key, value := range s.blocks.Scan(eventKey(position)) {
		e, err := decodeEvent(binary.BigEndian.Uint64(key[1:]), value)
		if err != nil {
			break
		}
		return e, nil
	}
	if err := s.blocks.Err(); err != nil {
		return Event{}, fmt.Errorf("read event %d: %w", position, err)
	}
	return gap(position, position), nil
}

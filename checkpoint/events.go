package checkpoint

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"
)

// events are the store's journal of what has happened. Each event is written in one
// batch with the records that it tells of, so that neither is there without the
// other, and synced before anybody reads it: a power cut takes none back.
//
//	assign positions │ write, synced │ publish, in order of position
//	mu               │ no lock       │ mu
//
// Nobody who writes waits for a reader: readers come for what they want, by
// position, from memory or from the journal; what has been cut off there is a gap.
//
// Positions go on where the last one was, and at each opening at least at the
// clock's milliseconds since 1970. So a store that was made anew, recovered, or
// brought back from a backup doesn't give again the positions that it had before.
type events struct {
	keep, recent, step int // how many are kept on disk and in memory, and go at a time

	mu      sync.Mutex // guards the fields below, and is kept over no I/O
	next    uint64     // the next position
	base    uint64     // below the first position of this opening
	known   []place    // of the events that can be read, ascending
	latest  []Event    // the newest of them
	writing []*batch   // that are being written, or not published yet, in order of position
	waiting []Event    // for a batch to go along with
	since   time.Time  // when the first of them came
	flusher bool       // somebody will write them
	lost    uint64     // the first position that a failed write took, since the last that did not; 0 for none
	heads   *Event     // the newest EventHead
	grown   chan struct{}
	ended   bool
}

// place is what is kept in memory of every event.
type place struct {
	position uint64
	kind     EventKind
}

// batch is a group of events that are written together.
type batch struct {
	events []Event
	done   bool // written, and to be published
	failed bool
}

const (
	// flushAfter is how long an event waits for a batch to go along with before it is
	// written by itself.
	flushAfter = 20 * time.Millisecond
	// mostWaiting bounds those that wait. More than that come only where the disk
	// hangs; they are a gap then.
	mostWaiting = 1024
)

// gap makes the event of events that can't be read.
func gap(first, last uint64) Event {
	return Event{Kind: EventGap, Position: last, Time: time.UnixMilli(time.Now().UnixMilli()), First: first, Last: last}
}

func eventKey(position uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte{prefixEvent}, position)
}

// loadEvents reads the journal's events.
func (s *Store) loadEvents() error {
	ev := &s.events
	ev.keep, ev.recent, ev.step = s.opts.Events, s.opts.RecentEvents, max(1, min(256, s.opts.Events/4))
	for key, value := range s.blocks.Scan([]byte{prefixEvent}) {
		if len(key) != 9 {
			return fmt.Errorf("%w: event key of %d bytes", ErrDamaged, len(key))
		}
		position := binary.BigEndian.Uint64(key[1:])
		e, err := decodeEvent(position, value)
		if err != nil {
			// Nothing rests on it, and readers are told.
			s.log.Warn("an event can't be read", zap.Error(err))
			e = gap(position, position)
		}
		ev.addLocked(e) // nobody else has the store yet
	}
	if err := s.blocks.Err(); err != nil {
		return fmt.Errorf("read events: %w", err)
	}
	ev.base = max(ev.lastLocked(), uint64(max(0, time.Now().UnixMilli())))
	ev.next = ev.base + 1
	return nil
}

// lastLocked is the position of the newest event that can be read.
func (ev *events) lastLocked() uint64 {
	if n := len(ev.known); n > 0 {
		return ev.known[n-1].position
	}
	return ev.base
}

func (ev *events) addLocked(e Event) {
	ev.known = append(ev.known, place{e.Position, e.Kind})
	if len(ev.latest) >= 2*ev.recent {
		ev.latest = append(make([]Event, 0, 2*ev.recent), ev.latest[len(ev.latest)-ev.recent:]...)
	}
	ev.latest = append(ev.latest, e)
	if e.Kind == EventHead {
		ev.heads = &e
	}
}

// recordWith writes changes of the records and events, all or none, synced. What it
// gives publishes the events: the caller calls it, whatever came of it, once what
// they tell of can be seen. Errors: as recordAll.
func (s *Store) recordWith(changes []Change, list ...Event) (publish func(), err error) {
	b, cutOff := s.events.assign(list)
	// Of the caller's nothing is appended to.
	changes = slices.Clip(changes)
	for i := range b.events {
		changes = append(changes, Change{Key: eventKey(b.events[i].Position), Value: b.events[i].encode()})
	}
	for _, position := range cutOff {
		changes = append(changes, Change{Key: eventKey(position)})
	}
	if len(changes) > 0 {
		err = s.recordAll(changes, true)
	}
	if err != nil {
		s.events.publish(b, true)
		return func() {}, err
	}
	return func() { s.events.publish(b, false) }, nil
}

// assign gives events, and those that wait, their positions, and says which old ones
// are to be removed.
func (ev *events) assign(list []Event) (b *batch, cutOff []uint64) {
	now := time.UnixMilli(time.Now().UnixMilli())
	ev.mu.Lock()
	defer ev.mu.Unlock()
	b = &batch{events: append(ev.waiting, list...)}
	ev.waiting = nil
	for i := range b.events {
		e := &b.events[i]
		e.Position = ev.next
		ev.next++
		if e.Time.IsZero() {
			e.Time = now
		}
	}
	if len(b.events) > 0 {
		ev.writing = append(ev.writing, b)
	}
	if over := len(ev.known) - ev.keep; over >= ev.step {
		over = min(over, 4*ev.step) // after the number was lowered
		for _, p := range ev.known[:over] {
			cutOff = append(cutOff, p.position)
		}
		ev.known = ev.known[over:]
	}
	return b, cutOff
}

// publish lets a batch be read, as soon as all before it can be.
func (ev *events) publish(b *batch, failed bool) {
	ev.mu.Lock()
	defer ev.mu.Unlock()
	b.done, b.failed = true, failed
	grown := false
	for len(ev.writing) > 0 && ev.writing[0].done {
		b := ev.writing[0]
		ev.writing = ev.writing[1:]
		if b.failed {
			// The disk may have them all the same. Whoever reads is told of that once a
			// later event is safe: until then its position could come again.
			ev.lost = cmp.Or(ev.lost, b.events[0].Position)
			continue
		}
		if ev.lost != 0 {
			ev.addLocked(gap(ev.lost, b.events[0].Position-1))
			ev.lost = 0
		}
		for _, e := range b.events {
			ev.addLocked(e)
		}
		grown = true
	}
	if grown {
		ev.wakeLocked()
	}
}

// wakeLocked wakes the readers that wait.
func (ev *events) wakeLocked() {
	if ev.grown != nil {
		close(ev.grown)
		ev.grown = nil
	}
}

// Announce tells of something that has no record of its own. It never waits: the
// events go along with the next records that are written, or by themselves, some
// 20 milliseconds later. Close writes them at last.
func (s *Store) Announce(list ...Event) {
	ev := &s.events
	now := time.UnixMilli(time.Now().UnixMilli())
	ev.mu.Lock()
	defer ev.mu.Unlock()
	for _, e := range list {
		if len(ev.waiting) >= mostWaiting {
			ev.skipLocked()
			continue
		}
		if len(ev.waiting) == 0 {
			ev.since = time.Now()
		}
		e.Time = now
		ev.waiting = append(ev.waiting, e)
	}
	if !ev.flusher && len(ev.waiting) > 0 {
		ev.flusher = true
		s.inBackground(s.flushEvents)
	}
}

// skipLocked takes a position for an event that is given up.
func (ev *events) skipLocked() {
	if n := len(ev.writing); n == 0 || !ev.writing[n-1].failed {
		ev.writing = append(ev.writing, &batch{events: []Event{{Position: ev.next}}, done: true, failed: true})
	}
	ev.next++ // the next batch says that all up to itself are lost
}

// flushEvents writes the events with which no batch has gone along in time.
func (s *Store) flushEvents() {
	ev := &s.events
	for {
		ev.mu.Lock()
		rest := time.Until(ev.since.Add(flushAfter))
		if len(ev.waiting) == 0 {
			ev.flusher = false
			ev.mu.Unlock()
			return
		}
		ev.mu.Unlock()
		if rest > 0 {
			time.Sleep(rest)
			continue
		}
		publish, err := s.recordWith(nil)
		publish()
		if err != nil && !errors.Is(err, ErrClosed) {
			s.log.Warn("write events", zap.Error(err))
		}
	}
}

// LastHead gives the newest EventHead; nil where none is kept.
func (s *Store) LastHead() *Event {
	s.events.mu.Lock()
	defer s.events.mu.Unlock()
	return s.events.heads
}

// EventsKept says how many events can be read, and which positions the oldest and
// the newest have; 0 where there is none.
func (s *Store) EventsKept() (n int, oldest, newest uint64) {
	ev := &s.events
	ev.mu.Lock()
	defer ev.mu.Unlock()
	if n = len(ev.known); n > 0 {
		oldest, newest = ev.known[0].position, ev.known[n-1].position
	}
	return n, oldest, newest
}

// endEvents wakes all readers for good.
func (s *Store) endEvents() {
	s.events.mu.Lock()
	defer s.events.mu.Unlock()
	s.events.ended = true
	s.events.wakeLocked()
}

// prunedEvent is the event of a block that becomes the anchor.
func (s *Store) prunedEvent(rec *Record, blocks int) Event {
	return Event{Kind: EventPruned, Block: rec.Block, Old: s.anchorEntry().rec.Block, Count: blocks}
}

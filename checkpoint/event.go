package checkpoint

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"accessor/forks"
)

// EventKind says what an event is about.
type EventKind uint8

// Kinds of events. The numbers are those in the store: docs/EVENTS.md.
const (
	// EventGap: events between First and Last can't be given any more, or are of
	// another store. It is made for the subscriber, and not kept.
	EventGap EventKind = iota
	// EventBlock: a block is held.
	EventBlock
	// EventHead: another block is the head.
	EventHead
	// EventReorg: the head goes to a block that doesn't descend from the old one. An
	// EventHead follows.
	EventReorg
	// EventFinalized: a block was finalized.
	EventFinalized
	// EventPruned: blocks were pruned, and a later one is the anchor.
	EventPruned
	// EventWalkBack: an import could not use its parent's checkpoint.
	EventWalkBack
	// EventLock: an import found its slot locked by another.
	EventLock
	// EventComplete: the anchor's whole state is here, of which there was only a part.
	EventComplete

	eventKinds // their number
)

var eventNames = [eventKinds]string{"gap", "block", "head", "reorg", "finalized", "pruned", "walkback", "lock", "complete"}

// String gives the kind's name, in lower case.
func (k EventKind) String() string {
	if k >= eventKinds {
		return fmt.Sprintf("kind %d", uint8(k))
	}
	return eventNames[k]
}

// ErrEventKind: no event has a kind of that name.
var ErrEventKind = errors.New("unknown kind of events")

// ParseEventKind reads a kind's name. Error: ErrEventKind.
func ParseEventKind(name string) (EventKind, error) {
	for k, n := range eventNames {
		if n == name {
			return EventKind(k), nil
		}
	}
	return 0, fmt.Errorf("%w: %.40q, want one of %s", ErrEventKind, name, strings.Join(eventNames[:], ", "))
}

// Event is something that has happened to the store. Which fields have a meaning
// depends on the kind.
type Event struct {
	// Position names the event: ascending, never used twice in a store, and below
	// 2^53. Positions may jump. A gap's is Last.
	Position uint64
	Kind     EventKind
	// Time is when it happened, to the millisecond.
	Time time.Time
	// Block is the block that is held, is the head, finalized or the anchor now, whose
	// state is complete, that walked back, or that wants a locked slot; of the last one,
	// and of a walk-back, the root is not known.
	Block forks.Block
	// Old is the head, finalized block or anchor of before; the block from which a
	// walk-back went on; the one for which a slot was locked, of which only hash and
	// slot are known. The zero Block where there was none.
	Old forks.Block
	// Common is, of a reorg, the newest block on both branches.
	Common forks.Block
	// Count is a reorg's depth: how many blocks of the old branch are no longer on
	// the head's. Of a finalized block, how many lost by it. How many blocks were
	// pruned, or replayed by a walk-back.
	Count int
	// Owner is who had the slot locked, as he calls himself.
	Owner string
	// Reasons say what stood in the way of a walk-back, the nearest block first: at
	// most 8, and 200 bytes each. Of a lock: waiting, granted or gave-up.
	Reasons []string
	// Waited is how long a lock was waited for.
	Waited time.Duration

	// First and Last are the positions that a gap stands for.
	First, Last uint64
}

const (
	eventVersion = 1
	eventFixed   = 1 + 1 + 8 + 4 + 8 + 1 // up to the blocks
	eventBlock   = 3*forks.HashSize + 4
	maxTexts     = 9 // owner and reasons
	maxText      = 200
	maxCount     = 1<<31 - 1
	maxWaited    = 1000 * time.Hour
	latestTime   = 253402300799999 // in the year 9999, in milliseconds since 1970
)

// encode is the event's form in blocks/ (docs/EVENTS.md). Its position is the key.
func (e *Event) encode() []byte {
	b := make([]byte, 0, eventFixed+3*eventBlock+16)
	b = append(b, eventVersion, byte(e.Kind))
	b = binary.LittleEndian.AppendUint64(b, uint64(max(0, e.Time.UnixMilli())))
	b = binary.LittleEndian.AppendUint32(b, uint32(min(e.Count, maxCount)))
	b = binary.LittleEndian.AppendUint64(b, uint64(min(e.Waited, maxWaited).Microseconds()))
	blocks := []forks.Block{e.Block, e.Old, e.Common}
	for len(blocks) > 0 && blocks[len(blocks)-1] == (forks.Block{}) {
		blocks = blocks[:len(blocks)-1]
	}
	b = append(b, byte(len(blocks)))
	for _, x := range blocks {
		b = append(append(append(b, x.Hash[:]...), x.Parent[:]...), x.Root[:]...)
		b = binary.LittleEndian.AppendUint32(b, uint32(x.Slot))
	}
	texts := append([]string{e.Owner}, e.Reasons...)
	if len(texts) == 1 && e.Owner == "" {
		texts = nil
	}
	texts = texts[:min(len(texts), maxTexts)]
	b = append(b, byte(len(texts)))
	for _, t := range texts {
		t = cut(t)
		b = append(append(b, byte(len(t))), t...)
	}
	return b
}

// cut shortens a text to what an event keeps, between two characters.
func cut(t string) string {
	if len(t) <= maxText {
		return t
	}
	t = t[:maxText]
	for len(t) > 0 {
		if r, n := utf8.DecodeLastRuneInString(t); r != utf8.RuneError || n != 1 {
			break
		}
		t = t[:len(t)-1]
	}
	return t
}

// decodeEvent reads the form in blocks/. Errors: ErrDamaged, ErrFormat.
func decodeEvent(position uint64, b []byte) (e Event, err error) {
	damaged := func() (Event, error) {
		return Event{}, fmt.Errorf("%w: record of event %d", ErrDamaged, position)
	}
	if len(b) < eventFixed {
		return damaged()
	}
	if b[0] != eventVersion {
		return e, fmt.Errorf("%w: event of version %d", ErrFormat, b[0])
	}
	e.Position, e.Kind = position, EventKind(b[1])
	when, count, waited := binary.LittleEndian.Uint64(b[2:]), binary.LittleEndian.Uint32(b[10:]), binary.LittleEndian.Uint64(b[14:])
	if when > latestTime || count > maxCount || waited > uint64(maxWaited.Microseconds()) {
		return damaged()
	}
	e.Time, e.Count, e.Waited = time.UnixMilli(int64(when)), int(count), time.Duration(waited)*time.Microsecond
	blocks := int(b[22])
	b = b[eventFixed:]
	if blocks > 3 || len(b) < blocks*eventBlock+1 {
		return damaged()
	}
	for _, x := range []*forks.Block{&e.Block, &e.Old, &e.Common}[:blocks] {
		for _, h := range []*forks.Hash{&x.Hash, &x.Parent, &x.Root} {
			b = b[copy(h[:], b):]
		}
		x.Slot = forks.Slot(binary.LittleEndian.Uint32(b))
		b = b[4:]
	}
	texts := int(b[0])
	b = b[1:]
	for i := range texts {
		if len(b) == 0 || b[0] > maxText || len(b) < 1+int(b[0]) {
			return damaged()
		}
		t := string(b[1 : 1+b[0]])
		b = b[1+len(t):]
		if i == 0 {
			e.Owner = t
		} else {
			e.Reasons = append(e.Reasons, t)
		}
	}
	if len(b) > 0 || e.Kind == EventGap || e.Kind >= eventKinds || texts > maxTexts {
		return damaged()
	}
	return e, nil
}

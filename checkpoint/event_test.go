package checkpoint

import (
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"accessor/forks"
)

func TestEventForm(t *testing.T) {
	a := forks.Block{Hash: forks.Hash{1}, Parent: forks.Hash{2}, Slot: forks.MaxSlot, Root: forks.Hash{3}}
	b := forks.Block{Hash: forks.Hash{4}, Slot: 9}
	now := time.UnixMilli(1_700_000_000_123)
	for name, e := range map[string]Event{
		"block":           {Kind: EventBlock, Block: a},
		"anchor":          {Kind: EventBlock},
		"head":            {Kind: EventHead, Block: a, Old: b},
		"reorg":           {Kind: EventReorg, Block: a, Old: b, Common: a, Count: 3},
		"common all zero": {Kind: EventReorg, Block: a, Old: b, Count: 1},
		"walk-back":       {Kind: EventWalkBack, Block: a, Old: b, Count: 1 << 30, Reasons: []string{"first", "", "last"}},
		"lock":            {Kind: EventLock, Block: a, Old: b, Owner: "boris", Reasons: []string{"waiting"}, Waited: 5 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			e.Position, e.Time = 77, now
			text := e.encode()
			got, err := decodeEvent(77, text)
			if err != nil || !reflect.DeepEqual(got, e) {
				t.Errorf("got %+v, %v\nwant %+v", got, err, e)
			}
			for n := range text {
				if _, err := decodeEvent(77, text[:n]); !errors.Is(err, ErrDamaged) {
					t.Errorf("cut short after %d of %d bytes: %v", n, len(text), err)
				}
			}
			if _, err := decodeEvent(77, append(text, 0)); !errors.Is(err, ErrDamaged) {
				t.Errorf("with a byte more: %v", err)
			}
			text[0] = 2
			if _, err := decodeEvent(77, text); !errors.Is(err, ErrFormat) {
				t.Errorf("of version 2: %v", err)
			}
		})
	}
	// Texts from outside are cut, between characters.
	long := Event{Kind: EventWalkBack, Owner: "\xff" + strings.Repeat("ä", 300), Reasons: make([]string, 500)}
	got, err := decodeEvent(1, long.encode())
	if err != nil || len(got.Reasons) != 8 || len(got.Owner) > maxText || utf8.ValidString(got.Owner[1:]) != true || len(got.Owner) < maxText-2 {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestEventKinds(t *testing.T) {
	for k := range eventKinds {
		if got, err := ParseEventKind(k.String()); err != nil || got != k {
			t.Errorf("%s: %v, %v", k, got, err)
		}
	}
	for _, name := range []string{"", "Block", "kind 8", strings.Repeat("x", 1<<20)} {
		if _, err := ParseEventKind(name); !errors.Is(err, ErrEventKind) || len(err.Error()) > 300 {
			t.Errorf("%.20q: %.300v", name, err)
		}
	}
	if got := EventKind(200).String(); got != "kind 200" {
		t.Error(got)
	}
}

func FuzzEvent(f *testing.F) {
	for _, e := range []Event{
		{Kind: EventReorg, Block: forks.Block{Slot: 1}, Old: forks.Block{Slot: 2}, Common: forks.Block{Slot: 3}, Count: 1},
		{Kind: EventLock, Owner: "o", Reasons: []string{"a", "b"}},
	} {
		f.Add(e.encode())
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := decodeEvent(5, b)
		if err != nil {
			return
		}
		again, err := decodeEvent(5, e.encode())
		if err != nil || !reflect.DeepEqual(again, e) {
			t.Errorf("%+v, then %+v, %v", e, again, err)
		}
	})
}

package checkpoint

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"accessor/forks"
)

func TestNewWriteSet(t *testing.T) {
	put := func(k, v string) Pair { return Pair{Key: []byte(k), Value: []byte(v)} }
	for name, tc := range map[string]struct {
		puts   []Pair
		dels   []string
		limits Limits
		want   string
		err    error
	}{
		"sorted":           {puts: []Pair{put("b", "2"), put("a", "1")}, dels: []string{"aa"}, want: "a=1 aa- b=2 "},
		"the last wins":    {puts: []Pair{put("a", "1"), put("b", "2"), put("a", "3"), put("a", "4")}, want: "a=4 b=2 "},
		"deleted twice":    {dels: []string{"a", "a"}, want: "a- "},
		"empty value":      {puts: []Pair{put("a", "")}, want: "a= "},
		"prefixes":         {puts: []Pair{put("12345678b", ""), put("12345678", ""), put("12345678a", "")}, want: "12345678= 12345678a= 12345678b= "},
		"nothing":          {want: ""},
		"put and deleted":  {puts: []Pair{put("a", "1")}, dels: []string{"a"}, err: ErrWriteSet},
		"empty key":        {puts: []Pair{put("", "1")}, err: ErrLimit},
		"long key":         {dels: []string{string(make([]byte, 256))}, err: ErrLimit},
		"longest key":      {dels: []string{string(make([]byte, 255))}, want: string(make([]byte, 255)) + "- "},
		"long value":       {puts: []Pair{put("a", "12345")}, limits: Limits{ValueSize: 4}, err: ErrLimit},
		"large write set":  {puts: []Pair{put("a", "1234"), put("b", "1234")}, limits: Limits{WriteSetSize: 9}, err: ErrLimit},
		"as large as that": {puts: []Pair{put("a", "1234"), put("b", "1234")}, limits: Limits{WriteSetSize: 10}, want: "a=1234 b=1234 "},
	} {
		t.Run(name, func(t *testing.T) {
			var dels [][]byte
			for _, d := range tc.dels {
				dels = append(dels, []byte(d))
			}
			ws, err := NewWriteSet(tc.puts, dels, tc.limits)
			if !errors.Is(err, tc.err) {
				t.Fatalf("error %v, want %v", err, tc.err)
			}
			var got bytes.Buffer
			for _, w := range ws {
				if w.Delete {
					fmt.Fprintf(&got, "%s- ", w.Key)
				} else {
					fmt.Fprintf(&got, "%s=%s ", w.Key, w.Value)
				}
			}
			if got.String() != tc.want {
				t.Errorf("got %q, want %q", got.String(), tc.want)
			}
		})
	}
}

func TestWriteSetOrder(t *testing.T) {
	const seed = 1
	rnd := rand.New(rand.NewPCG(seed, 0))
	for n := range 300 {
		// From few letters, so that many keys are equal, or begin alike.
		letters, longest := 1+rnd.IntN(4), 1+rnd.IntN(40)
		want := make(map[string]string)
		var puts []Pair
		for i := range n {
			key := make([]byte, 1+rnd.IntN(longest))
			for j := range key {
				key[j] = byte(rnd.IntN(letters))
			}
			value := fmt.Sprint(i)
			puts = append(puts, Pair{Key: key, Value: []byte(value)})
			want[string(key)] = value
		}
		ws, err := NewWriteSet(puts, nil, Limits{})
		if err != nil {
			t.Fatal(err)
		}
		keys := slices.Sorted(maps.Keys(want))
		if len(ws) != len(keys) {
			t.Fatalf("seed %d, %d puts: %d writes, want %d", seed, n, len(ws), len(keys))
		}
		for i, w := range ws {
			if string(w.Key) != keys[i] || string(w.Value) != want[keys[i]] {
				t.Fatalf("seed %d, %d puts: write %d is %x=%s, want %x=%s", seed, n, i, w.Key, w.Value, keys[i], want[keys[i]])
			}
		}
	}
}

func someRecord() Record {
	return Record{
		Block:     forks.Block{Hash: forks.Hash{1}, Parent: forks.Hash{2}, Slot: forks.MaxSlot, Root: forks.Hash{3}},
		PriorRoot: forks.Hash{4}, Anchor: true, Number: 5, Arrived: time.UnixMilli(6), Header: []byte("header"),
		DeltaSize: 7, DeltaSum: 8,
	}
}

func TestRecordRoundTrip(t *testing.T) {
	want := someRecord()
	got, err := decodeRecord(want.encode())
	if err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %v, want %v", got, want)
	}
	for n := range len(want.encode()) {
		if _, err := decodeRecord(want.encode()[:n]); !errors.Is(err, ErrDamaged) {
			t.Errorf("cut to %d bytes: %v, want ErrDamaged", n, err)
		}
	}
}

// Programs that don't know of partial anchors refuse their records by the version.
func TestPartialRecord(t *testing.T) {
	want := someRecord()
	want.Partial = true
	b := want.encode()
	if b[0] != 2 || b[1] != 3 {
		t.Errorf("a partial anchor's record has version %d and flags %d, want 2 and 3", b[0], b[1])
	}
	if got, err := decodeRecord(b); err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %v, %v, want %v", got, err, want)
	}
	for _, flags := range []byte{0, 1, 2, 7} {
		b[1] = flags
		if _, err := decodeRecord(b); !errors.Is(err, ErrFormat) {
			t.Errorf("version 2 with flags %d: %v, want ErrFormat", flags, err)
		}
	}
	whole := someRecord()
	if b := whole.encode(); b[0] != 1 || b[1] != 1 {
		t.Errorf("a whole anchor's record has version %d and flags %d, want 1 and 1", b[0], b[1])
	}
}

func FuzzDecodeRecord(f *testing.F) {
	r := someRecord()
	f.Add(r.encode())
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := decodeRecord(b)
		switch {
		case err == nil && b[1]&^flagAnchor == 0 && !bytes.Equal(r.encode(), b):
			t.Errorf("%x reads as %v, which is %x", b, r, r.encode())
		case err != nil && !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrFormat):
			t.Errorf("untyped error %v", err)
		}
	})
}

func FuzzDecodeSeal(f *testing.F) {
	f.Add((&seal{listing: 1, rest: 2, tables: 3, image: forks.Hash{4}}).encode())
	f.Add([]byte{sealThin})
	f.Add([]byte{sealArchived})
	f.Add((&image{seal: &seal{}, size: 9}).encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		if l, instead, err := decodeSeal(b); err != nil && !errors.Is(err, ErrDamaged) || err == nil && instead == 0 && !bytes.Equal(l.encode(), b) {
			t.Errorf("%x reads as %v, %v, %v", b, l, instead != 0, err)
		}
		if im, err := decodeImage(b); err != nil && !errors.Is(err, ErrDamaged) || err == nil && !bytes.Equal(im.encode(), b) {
			t.Errorf("%x reads as %v, %v", b, im, err)
		}
		if _, _, err := splitCountedKey(b); err != nil && !errors.Is(err, ErrDamaged) {
			t.Errorf("untyped error %v", err)
		}
	})
}

func FuzzParseHeads(f *testing.F) {
	f.Add([]byte(`{"format":"accessor-heads/1","head":{"slot":3},"finalized":{"slot":2},"anchor":{"slot":1},"process":7,"written":"2025-01-02T03:04:05.006Z"}`))
	f.Add([]byte(`{"format":"accessor-heads/1","head":{"hash":"0x`))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := parseHeads(b)
		if err == nil && (h.Anchor.Slot > h.Finalized.Slot || h.Finalized.Slot > h.Head.Slot) || err != nil && h != (Heads{}) {
			t.Errorf("%q reads as %+v, %v", b, h, err)
		}
	})
}

func FuzzParseName(f *testing.F) {
	f.Add(Name(forks.Block{Slot: forks.MaxSlot, Hash: forks.Hash{1}}))
	f.Fuzz(func(t *testing.T, name string) {
		if l, ok := parseName(name); ok && Name(l.block()) != name {
			t.Errorf("%q reads as %+v", name, l)
		}
	})
}

package checkpoint

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/bits"
	"slices"
)

// Pair is one entry of a state: a key and its value.
type Pair struct {
	Key, Value []byte
}

// Limits bound what a store takes in. The zero value means the defaults.
type Limits struct {
	KeySize      int // of a key, in bytes; default and most 255
	ValueSize    int // of a value, in bytes; default 16 MiB
	WriteSetSize int // of a write set's keys and values together, in bytes; default 64 MiB
}

// DefaultLimits are the limits where nothing else is said.
var DefaultLimits = Limits{KeySize: 255, ValueSize: 16 << 20, WriteSetSize: 64 << 20}

// WithDefaults replaces zero fields by the defaults.
func (l Limits) WithDefaults() Limits {
	if l.KeySize <= 0 || l.KeySize > DefaultLimits.KeySize {
		l.KeySize = DefaultLimits.KeySize
	}
	if l.ValueSize <= 0 {
		l.ValueSize = DefaultLimits.ValueSize
	}
	if l.WriteSetSize <= 0 {
		l.WriteSetSize = DefaultLimits.WriteSetSize
	}
	return l
}

// CheckPair refuses a key or value outside the limits. Error: ErrLimit.
func (l Limits) CheckPair(key, value []byte) error {
	switch {
	case len(key) == 0 || len(key) > l.KeySize:
		return fmt.Errorf("%w: key of %d bytes, want 1 to %d", ErrLimit, len(key), l.KeySize)
	case len(value) > l.ValueSize:
		return fmt.Errorf("%w: value of %d bytes at key %x, at most %d", ErrLimit, len(value), key, l.ValueSize)
	}
	return nil
}

// Write is one entry of a write set: the key's new value, or its removal.
type Write struct {
	Key    []byte
	Value  []byte
	Delete bool
}

// WriteSet is a normalised write set: strictly ascending keys, each once. Puts
// of the value that a key has already and deletes of absent keys are kept; they
// change nothing.
type WriteSet []Write

// NewWriteSet normalises puts and deletes: of a key twice in puts, the last
// wins. The slices of keys and values are kept, not copied. Errors: ErrLimit;
// ErrWriteSet for a key in both lists.
func NewWriteSet(puts []Pair, dels [][]byte, limits Limits) (WriteSet, error) {
	limits = limits.WithDefaults()
	ws := make(WriteSet, 0, len(puts)+len(dels))
	size := 0
	add := func(w Write) error {
		if err := limits.CheckPair(w.Key, w.Value); err != nil {
			return err
		}
		if size += len(w.Key) + len(w.Value); size > limits.WriteSetSize {
			return fmt.Errorf("%w: write set of more than %d bytes", ErrLimit, limits.WriteSetSize)
		}
		ws = append(ws, w)
		return nil
	}
	for _, p := range puts {
		if err := add(Write{Key: p.Key, Value: p.Value}); err != nil {
			return nil, err
		}
	}
	for _, key := range dels {
		if err := add(Write{Key: key, Delete: true}); err != nil {
			return nil, err
		}
	}
	return ws.sorted().dropRepeats()
}

// sorted gives the writes in order of their keys, equal keys in the order given.
// It sorts numbers, the keys' first bytes with the writes' places in the low
// bits, then the runs in which those bytes are equal: several times faster than
// to move and compare the writes themselves.
func (ws WriteSet) sorted() WriteSet {
	shift := bits.Len(uint(len(ws)))
	order := make([]uint64, len(ws))
	for i, w := range ws {
		var first [8]byte
		copy(first[:], w.Key)
		order[i] = binary.BigEndian.Uint64(first[:])>>shift<<shift | uint64(i)
	}
	slices.Sort(order)
	out := make(WriteSet, len(ws))
	start := 0
	for i, o := range order {
		out[i] = ws[o&(1<<shift-1)]
		if i+1 == len(order) || order[i+1]>>shift != o>>shift {
			if i > start {
				slices.SortStableFunc(out[start:i+1], func(a, b Write) int { return bytes.Compare(a.Key, b.Key) })
			}
			start = i + 1
		}
	}
	return out
}

// dropRepeats keeps the last of each run of equal keys.
func (ws WriteSet) dropRepeats() (WriteSet, error) {
	out := ws[:0]
	for _, w := range ws {
		last := len(out) - 1
		if last < 0 || !bytes.Equal(out[last].Key, w.Key) {
			out = append(out, w)
			continue
		}
		if out[last].Delete != w.Delete {
			return nil, fmt.Errorf("%w: key %x is both put and deleted", ErrWriteSet, w.Key)
		}
		out[last] = w
	}
	return out, nil
}

// Size is the number of bytes of all keys and values.
func (ws WriteSet) Size() int {
	size := 0
	for _, w := range ws {
		size += len(w.Key) + len(w.Value)
	}
	return size
}

// Equal says whether two writes do the same.
func (w Write) Equal(o Write) bool {
	return w.Delete == o.Delete && bytes.Equal(w.Key, o.Key) && bytes.Equal(w.Value, o.Value)
}

package testnet

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"

	"accessor/jam"
)

// mostFailures bounds the failures that are kept in words.
const mostFailures = 20

// verdicts are what checks have found. It is safe for concurrent use.
type verdicts struct {
	mu          sync.Mutex // guards all
	reads       int
	wrongs      int
	unavailable int
	failed      int // beside wrong answers and reads that were not available
	words       []string
	excuses     []string // why reads were not available, the first few
}

// mostExcuses bounds those.
const mostExcuses = 5

func (v *verdicts) sayLocked(format string, args ...any) {
	if len(v.words) < mostFailures {
		v.words = append(v.words, fmt.Sprintf(format, args...))
	}
}

// wrong counts an answer that the model contradicts.
func (v *verdicts) wrong(format string, args ...any) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.wrongs++
	v.sayLocked(format, args...)
}

// fail notes what else is not as it must be.
func (v *verdicts) fail(format string, args ...any) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.failed++
	v.sayLocked(format, args...)
}

// missed counts a read that ended with an error.
func (v *verdicts) missed(format string, args ...any) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.missedLocked(format, args...)
}

func (v *verdicts) missedLocked(format string, args ...any) {
	v.unavailable++
	if len(v.excuses) < mostExcuses {
		v.excuses = append(v.excuses, fmt.Sprintf(format, args...))
	}
}

// unavailableNow is how many those are.
func (v *verdicts) unavailableNow() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.unavailable
}

// read counts keys, and parts of work packages, that are as the model has them.
func (v *verdicts) read(keys int) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.reads += keys
}

// count is how much is not as it must be, beside reads that were not available.
func (v *verdicts) count() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.failed + v.wrongs
}

// compare compares a read with the model: each key counts.
func (v *verdicts) compare(n *node, b *block, keys, got [][]byte, err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	switch {
	case errors.Is(err, ErrWrong) || err == nil && len(got) != len(keys):
		v.wrongs++
		v.sayLocked("%v at %s: %d values of %d: %v", n, b.name, len(got), len(keys), err)
		return
	case err != nil:
		v.missedLocked("%v at %s: not available: %v", n, names(b), err)
		return
	}
	for i, key := range keys {
		v.reads++
		want, present := b.get(string(key))
		if present != (got[i] != nil) || !bytes.Equal(got[i], want) {
			v.wrongs++
			v.sayLocked("%v at %s, key %x: %s, the model has %s", n, b.name, key, shown(got[i]), shown(want))
		}
	}
}

// shown is a value for people.
func shown(value []byte) string {
	switch {
	case value == nil:
		return "no such key"
	case len(value) > 16:
		return fmt.Sprintf("%x… (%d bytes)", value[:16], len(value))
	}
	return fmt.Sprintf("%x (%d bytes)", value, len(value))
}

// someKeys picks keys for a read at a block: items of the chain's own, which every
// block changes; services' items of any fork, which the block's state may have with
// another value or not at all; and now and then keys that no state has.
func (c *chain) someKeys(b *block, n int, rnd *rand.Rand) [][]byte {
	var keys [][]byte
	for len(keys) < n {
		var key []byte
		switch p := rnd.IntN(10); {
		case p == 0:
			key = make([]byte, jam.KeySize)
			for i := range key {
				key[i] = byte(rnd.Uint32())
			}
		case p < 3:
			key = []byte(itemKey(items[rnd.IntN(len(items))].name))
		case p == 3:
			key = []byte(itemKey(jam.SlotItem))
		case p < 7 && len(b.Puts)+len(b.Dels) > 0: // what the block itself wrote
			if i := rnd.IntN(len(b.Puts) + len(b.Dels)); i < len(b.Puts) {
				key = b.Puts[i].Key
			} else {
				key = b.Dels[i-len(b.Puts)]
			}
		default:
			key = []byte(c.keys[rnd.IntN(len(c.keys))])
		}
		if !slices.ContainsFunc(keys, func(k []byte) bool { return bytes.Equal(k, key) }) {
			keys = append(keys, key)
		}
	}
	return keys
}

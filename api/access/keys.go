package access

import (
	"bytes"

	"accessor/jam"
)

// itemKeys are the keys of jam.ItemNames: C(1) to C(16).
var itemKeys = func() (keys [][jam.KeySize]byte) {
	for _, name := range jam.ItemNames() {
		key, _ := jam.ItemKey(name)
		keys = append(keys, [jam.KeySize]byte(key))
	}
	return keys
}()

// itemOf gives the place of a key's item in itemNames. Whatever isn't the key of
// a named item is a service's.
func itemOf(key []byte) int {
	if len(key) == jam.KeySize {
		// C(n) has n in its first byte and zeros after it.
		if n := int(key[0]) - 1; n >= 0 && n < len(itemKeys) && [jam.KeySize]byte(key) == itemKeys[n] {
			return n
		}
	}
	return len(itemKeys)
}

// within says whether a key is in [from, to); an empty to means no upper end.
func within(key, from, to []byte) bool {
	return bytes.Compare(key, from) >= 0 && (len(to) == 0 || bytes.Compare(key, to) < 0)
}

// holdsAccounts says whether [from, to) has a key, of a state key's size, that
// isn't a named item's. Named items never follow one another directly, so of the
// first two keys in a range, one is a service's.
func holdsAccounts(from, to []byte) bool {
	key, ok := firstKey(from)
	for range 2 {
		if !ok || !within(key[:], from, to) {
			return false
		}
		if itemOf(key[:]) == len(itemKeys) {
			return true
		}
		ok = increment(&key)
	}
	return false
}

// firstKey gives the smallest key of a state key's size that isn't below from; ok
// is false where there is none.
func firstKey(from []byte) (key [jam.KeySize]byte, ok bool) {
	copy(key[:], from)
	if len(from) <= jam.KeySize {
		return key, true // padded with zeros, the smallest that begins so
	}
	return key, increment(&key) // a longer one is above its own beginning
}

// increment makes a key the next one; it is false after the last.
func increment(key *[jam.KeySize]byte) bool {
	for i := len(key) - 1; i >= 0; i-- {
		key[i]++
		if key[i] != 0 {
			return true
		}
	}
	return false
}

package checkpoint

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"accessor/forks"
)

// A stored key is one tag byte and the key; a stored value is one tag byte and
// the value. A delete is a value of its own, not the engine's tombstone, so that
// merging tables never loses it. docs/FORMAT.md is the page for readers that
// open a checkpoint themselves.
const (
	tagRecord = 0 // key: the tag alone; value: the record of the block that the database is at
	tagState  = 1
	tagTrie   = 2 // the commitment's records of the state; they mean nothing to the store

	tagValue  = 0
	tagAbsent = 1
)

var recordKey = []byte{tagRecord}

// appendStateKey appends the stored form of a state key.
func appendStateKey(dst, key []byte) []byte {
	return append(append(dst, tagState), key...)
}

// The first stored keys after all state keys, and after all trie keys.
var (
	stateEnd = []byte{tagState + 1}
	trieEnd  = []byte{tagTrie + 1}
)

// appendTrieKey appends the stored form of a trie record's key.
func appendTrieKey(dst, key []byte) []byte {
	return append(append(dst, tagTrie), key...)
}

// splitValue undoes the value's tag.
func splitValue(stored []byte) (value []byte, present bool, err error) {
	if len(stored) == 0 || stored[0] > tagAbsent {
		return nil, false, fmt.Errorf("%w: stored value without a known tag", ErrDamaged)
	}
	return stored[1:], stored[0] == tagValue, nil
}

// Name is the block's name in files and folders: the slot in ten digits, so
// that listings are in order, and the hash.
func Name(b forks.Block) string { return fmt.Sprintf("%010d-%s", uint32(b.Slot), b.Hash) }

// Keys in blocks/: a prefix byte, then a block's hash; a run's and an index's end with
// the number of their blocks, a meta value's is its name, an event's its position.
const (
	prefixBlock = 'b'
	prefixSeal  = 's'
	prefixImage = 'i'
	prefixRun   = 'r'
	prefixIndex = 'x'
	prefixGone  = 'g'
	prefixMeta  = 'm'
	prefixEvent = 'e'
)

func blockKey(h forks.Hash) []byte { return append([]byte{prefixBlock}, h[:]...) }
func sealKey(h forks.Hash) []byte  { return append([]byte{prefixSeal}, h[:]...) }
func imageKey(h forks.Hash) []byte { return append([]byte{prefixImage}, h[:]...) }
func goneKey(h forks.Hash) []byte  { return append([]byte{prefixGone}, h[:]...) }
func metaKey(name string) []byte   { return append([]byte{prefixMeta}, name...) }

func runKey(h forks.Hash, count int) []byte   { return countedKey(prefixRun, h, count) }
func indexKey(h forks.Hash, count int) []byte { return countedKey(prefixIndex, h, count) }

func countedKey(prefix byte, h forks.Hash, count int) []byte {
	return binary.BigEndian.AppendUint32(append([]byte{prefix}, h[:]...), uint32(count))
}

func splitCountedKey(key []byte) (h forks.Hash, count int, err error) {
	if len(key) != 1+forks.HashSize+4 {
		return h, 0, fmt.Errorf("%w: record's key of %d bytes", ErrDamaged, len(key))
	}
	return hashOfKey(key), int(binary.BigEndian.Uint32(key[1+forks.HashSize:])), nil
}

// hashOfKey gives the hash in a key of blocks/; the zero hash for a short key,
// which no block has.
func hashOfKey(key []byte) (h forks.Hash) {
	if len(key) > forks.HashSize {
		copy(h[:], key[1:])
	}
	return h
}

// PrefixEnd is the first key after all that start with prefix; nil where there is
// none.
func PrefixEnd(prefix []byte) []byte {
	for i := len(prefix) - 1; i >= 0; i-- {
		if prefix[i] != 0xff {
			end := bytes.Clone(prefix[:i+1])
			end[i]++
			return end
		}
	}
	return nil
}

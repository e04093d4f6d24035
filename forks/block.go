// Package forks is the pure fork tree: which blocks exist, who descends from
// whom, and which branch won. It owns the words of the field (Hash, Slot,
// Block, Tree) and knows nothing of files, locks, clocks or goroutines: its
// owner guards it.
//
//	anchor 1───2───4───6      slots; a child's slot is above its parent's
//	           │   └───5a     siblings may share a slot, so a slot never
//	           └───3          identifies a block: a hash does
package forks

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"strconv"
)

// HashSize is the length of a Hash in bytes.
const HashSize = 32

// Hash is a 32-byte digest: a block's header hash or a state root.
type Hash [HashSize]byte

// String gives the hash as 64 lower-case hex digits.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// Short gives the first 8 hex digits, for people.
func (h Hash) Short() string { return hex.EncodeToString(h[:4]) }

// Compare orders hashes by their bytes: -1, 0 or 1.
func (h Hash) Compare(other Hash) int { return bytes.Compare(h[:], other[:]) }

// MarshalText writes the hash as 64 lower-case hex digits.
func (h Hash) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// UnmarshalText reads 64 hex digits, in either case, with or without 0x.
func (h *Hash) UnmarshalText(text []byte) error {
	parsed, err := ParseHash(string(text))
	if err != nil {
		return err
	}
	*h = parsed
	return nil
}

// ErrBadHash is the error of a text that is not a hash.
var ErrBadHash = errors.New("not a hash")

// ParseHash reads 64 hex digits, in either case, with or without 0x in front.
func ParseHash(s string) (Hash, error) {
	digits := s
	if len(digits) > 2 && digits[0] == '0' && (digits[1] == 'x' || digits[1] == 'X') {
		digits = digits[2:]
	}
	if len(digits) != 2*HashSize {
		return Hash{}, fmt.Errorf("%w: %d characters, want %d hex digits", ErrBadHash, len(digits), 2*HashSize)
	}
	var h Hash
	if _, err := hex.Decode(h[:], []byte(digits)); err != nil {
		return Hash{}, fmt.Errorf("%w: %w", ErrBadHash, err)
	}
	return h, nil
}

// Slot is a timeslot: the number of a fixed-length period (six seconds in JAM)
// since the chain's era.
type Slot uint32

// MaxSlot is the highest timeslot. Valid blocks exist there.
const MaxSlot Slot = math.MaxUint32

// String gives the slot in decimal digits.
func (s Slot) String() string { return strconv.FormatUint(uint64(s), 10) }

// Block is what the tree knows of a block.
type Block struct {
	Hash   Hash // header hash
	Parent Hash // the parent's header hash; of an anchor, not looked at
	Slot   Slot
	Root   Hash // root of the state after the block
}

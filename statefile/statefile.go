// Package statefile reads and writes the whole state at a block as a file, in the
// two forms of accessor-state/1: lines of JSON, and binary (docs/FORMAT.md).
//
// Invariants: a file comes as a header, pairs with strictly ascending keys, and an
// end that counts them; anything else, a file that was cut short above all, is an
// error that names file and line. Both directions are streams: memory is in
// proportion to the longest pair, whose size is checked before it is read. A file
// of pairs alone, without a header, is read too.
package statefile

import (
	"errors"
	"fmt"

	"accessor/checkpoint"
	"accessor/forks"
)

// Format is the name of what this package reads and writes. A binary file starts
// with it.
const Format = "accessor-state/1"

// Errors. Match them with errors.Is; when reading, an *Error around them says
// where.
var (
	// ErrFormat: the input is not a state file.
	ErrFormat = errors.New("not a valid state file")
	// ErrCut: the input ends before its end mark.
	ErrCut = errors.New("state file is cut short")
	// ErrLimit: a key, a value or a line is above its limit.
	ErrLimit = errors.New("above the limit")
	// ErrUnreadable: the input can't be read or decompressed.
	ErrUnreadable = errors.New("unreadable")
	// ErrOrder: the Writer was given a key that is not above the one before it, or
	// something after the end.
	ErrOrder = errors.New("pair out of order")
)

// Error says where in an input something went wrong.
type Error struct {
	File string // path, or "-"
	Line int    // from 1; 0 where it isn't about a line
	Err  error
}

// Error implements error.
func (e *Error) Error() string {
	if e.Line == 0 {
		return fmt.Sprintf("read %s: %v", e.File, e.Err)
	}
	return fmt.Sprintf("read %s:%d: %v", e.File, e.Line, e.Err)
}

// Unwrap gives the error that happened there.
func (e *Error) Unwrap() error { return e.Err }

// Header says which state a file holds. Whoever wrote the file says so: only the
// root, once it is recomputed from the pairs, proves anything.
type Header struct {
	Hash       forks.Hash // of the block
	Slot       forks.Slot
	Root       forks.Hash // of the state
	Commitment string     // how the root is computed: 1 to 16 of a-z, 0-9 and -
}

// maxCommitment is the longest name of a commitment, in bytes.
const maxCommitment = 16

// check refuses a header that a file can't hold. Error: ErrFormat.
func (h Header) check() error {
	if n := len(h.Commitment); n == 0 || n > maxCommitment {
		return fmt.Errorf("%w: name of a commitment of %d bytes, want 1 to %d", ErrFormat, n, maxCommitment)
	}
	for _, c := range []byte(h.Commitment) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return fmt.Errorf("%w: commitment %q, want a-z, 0-9 and - alone", ErrFormat, h.Commitment)
		}
	}
	return nil
}

// Form is how a file is written.
type Form int

// The forms.
const (
	NDJSON Form = iota // a line of JSON each, for people and other programs
	Binary             // half the size
)

// ParseForm gives the form of that name, ndjson or binary; ok is false for any
// other.
func ParseForm(name string) (f Form, ok bool) {
	switch name {
	case "ndjson":
		return NDJSON, true
	case "binary":
		return Binary, true
	}
	return 0, false
}

// Options of reading. The zero value means the defaults.
type Options struct {
	// Limits bound keys and values, as they bound the store's.
	Limits checkpoint.Limits
	// RequireEnd refuses pairs without a header that have no end line either. It
	// is for commitments without roots: nothing else shows that such a file was cut
	// short.
	RequireEnd bool
}

// The binary form: Format, the header's fields, pairs, and the end mark with the
// number of pairs. Numbers are little-endian.
const (
	binaryHeader = len(Format) + forks.HashSize + 4 + forks.HashSize + maxCommitment
	endMark      = 1<<32 - 1 // in place of a key's length
)

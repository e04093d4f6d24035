// Package jam has the formats of the JAM chain that the accessor meets: the
// header and its hash, the names of state items, and the published files of
// recorded steps. It reads and writes bytes; it keeps nothing, opens nothing and
// judges no block.
//
// Sources: Gray Paper 0.7.2, appendix C (encodings) and D.1 (state keys); of
// 0.6.x where a layout changed with 0.7.0. The step files are those of the
// public test vectors.
//
// Invariants: no length in an input is believed before that many bytes are seen
// to be there, so decoding takes memory in proportion to its input; what is
// decoded aliases the input, which must not change afterwards; an input is
// decoded to its last byte or refused.
package jam

import "errors"

// Errors of decoding. Match them with errors.Is.
var (
	// ErrFormat: the bytes are not what they should be.
	ErrFormat = errors.New("malformed encoding")
	// ErrShortHeader: the bytes are too few for a header.
	ErrShortHeader = errors.New("too short for a header")
)

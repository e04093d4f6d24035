// Package datest makes peers that lie or stall out of honest ones, and measures libp2p
// alone. It is for tests and benchmarks of package da, of which it knows no more than
// how an answer looks: a status byte, then messages with their lengths in front.
package datest

import (
	"encoding/binary"
	"math/rand/v2"
)

const (
	statusOK      = 0
	statusNotHeld = 1
	statusBad     = 4
	maxItem       = 16 << 20 // the length of the longest message
)

// Lie makes an invalid answer of a valid one, which has one message at least, and which
// it may change.
type Lie struct {
	Name string
	Tell func(answer []byte) []byte
}

// Lies are all ways in which an answer can break the protocol, or fail its check,
// whatever was asked.
var Lies = []Lie{
	{"wrong byte at the end", func(a []byte) []byte { a[len(a)-1] ^= 1; return a }},
	{"wrong byte in the first message", func(a []byte) []byte {
		a[5+len(split(a)[0])/2] ^= 0x10
		return a
	}},
	{"too long", func(a []byte) []byte { return append(a, 0) }},
	{"a message too many", func(a []byte) []byte { return append(a, 1, 0, 0, 0, 7) }},
	{"cut", func(a []byte) []byte { return a[:len(a)-1] }},
	{"cut after a length", func(a []byte) []byte { return a[:5] }},
	{"length a little too large", func(a []byte) []byte { a[1]++; return a }},
	{"length too small", func(a []byte) []byte { a[1]--; return a }},
	{"length of 4 GiB", func(a []byte) []byte { copy(a[1:], "\xff\xff\xff\xff"); return a }},
	{"length of 16 MiB", func(a []byte) []byte { binary.LittleEndian.PutUint32(a[1:], maxItem); return a }},
	{"no messages", func(a []byte) []byte { return a[:1] }},
	{"empty messages", func(a []byte) []byte { return append([]byte{statusOK}, make([]byte, 4*len(split(a)))...) }},
	{"unknown status", func(a []byte) []byte { a[0] = 9; return a }},
	{"says bad request", func([]byte) []byte { return []byte{statusBad} }},
	{"not held, and more", func([]byte) []byte { return []byte{statusNotHeld, 1} }},
	{"garbage", func(a []byte) []byte {
		r := rand.New(rand.NewPCG(3, 4))
		for i := range a[1:] {
			a[1+i] = byte(r.Uint32())
		}
		return append(a, byte(r.Uint32()))
	}},
}

// split cuts an answer into its messages.
func split(answer []byte) (parts [][]byte) {
	for b := answer[1:]; len(b) >= 4; {
		size := int(binary.LittleEndian.Uint32(b))
		parts = append(parts, b[4:4+size])
		b = b[4+size:]
	}
	return parts
}

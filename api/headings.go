package api

import (
	"encoding/binary"
	"encoding/hex"
	"sync/atomic"

	"golang.org/x/crypto/blake2b"

	"accessor/forks"
)

// heading is what headers say of a block. Its slices are shared by answers: nobody
// changes them.
type heading struct {
	of                forks.Block
	block, slot, root []string
	tag               [8]byte // of an ETag, which hashes block and root
}

// headings are those of the blocks that are asked for most, each in a place that its
// hash gives. The zero value has none.
type headings [64]atomic.Pointer[heading]

// at gives the heading of a block.
func (hs *headings) at(b forks.Block) *heading {
	place := &hs[(b.Hash[0]^b.Hash[31])%uint8(len(hs))]
	if h := place.Load(); h != nil && h.of == b {
		return h
	}
	h := &heading{of: b, block: []string{b.Hash.String()}, slot: []string{b.Slot.String()}, root: []string{b.Root.String()}}
	sum := blake2b.Sum256(append(append([]byte(nil), b.Hash[:]...), b.Root[:]...))
	copy(h.tag[:], sum[:])
	place.Store(h)
	return h
}

// valueTag gives the ETag of a key's value at the block. ETags are compared for one
// resource alone, so that the key needs no strong hash.
func (h *heading) valueTag(key []byte, form string) string {
	const (
		offset = 14695981039346656037 // FNV-1a
		prime  = 1099511628211
	)
	sum := uint64(offset)
	for _, b := range key {
		sum = (sum ^ uint64(b)) * prime
	}
	if form != typeBinary {
		sum = (sum ^ 1) * prime
	}
	var low [8]byte
	binary.BigEndian.PutUint64(low[:], sum)
	var tag [34]byte
	tag[0], tag[33] = '"', '"'
	hex.Encode(tag[1:], h.tag[:])
	hex.Encode(tag[17:], low[:])
	return string(tag[:])
}

// Values of headers that many answers share.
var (
	headerAccept    = []string{"Accept"}
	headerImmutable = []string{"private, max-age=31536000, immutable"}
	headerNoCache   = []string{"no-cache"}
	headerNoStore   = []string{"no-store"}
	headerNoSniff   = []string{"nosniff"}
	headerJSON      = []string{typeJSON}
	headerBinary    = []string{typeBinary}
)

// headerOf gives the value of a Content-Type.
func headerOf(media string) []string {
	switch media {
	case typeJSON:
		return headerJSON
	case typeBinary:
		return headerBinary
	}
	return []string{media}
}

package jam

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/crypto/blake2b"

	"accessor/forks"
)

// HeaderPrefixSize is the size in bytes of the fields that every header starts
// with: parent, prior root, extrinsic hash, slot.
const HeaderPrefixSize = 3*forks.HashSize + 4

// SignatureSize is the size in bytes of a Bandersnatch VRF signature: a header's
// entropy source and its seal.
const SignatureSize = 96

// MinHeaderSize is the size in bytes of the smallest header: no epoch mark, no
// tickets mark, no offenders.
const MinHeaderSize = HeaderPrefixSize + 1 + 1 + 2 + SignatureSize + 1 + SignatureSize

// Header has the fields of a header that its place in the tree needs.
type Header struct {
	Parent        forks.Hash // hash of the parent's header; zero in a genesis
	PriorRoot     forks.Hash // root of the state after the parent
	ExtrinsicHash forks.Hash
	Slot          forks.Slot
}

// HeaderHash gives the hash that identifies a block: BLAKE2b-256 of its encoded
// header, the seal included.
func HeaderHash(encoded []byte) forks.Hash { return blake2b.Sum256(encoded) }

// ParseHeader reads the first 100 bytes of an encoded header, of which all
// versions of the format have the same order: parent 32, prior root 32,
// extrinsic hash 32, slot u32. It doesn't look at what follows. Error:
// ErrShortHeader for fewer than MinHeaderSize bytes.
func ParseHeader(encoded []byte) (Header, error) {
	if len(encoded) < MinHeaderSize {
		return Header{}, fmt.Errorf("parse header: %w: %d bytes, at least %d", ErrShortHeader, len(encoded), MinHeaderSize)
	}
	return parsePrefix(encoded), nil
}

// parsePrefix reads the fields of at least HeaderPrefixSize bytes.
func parsePrefix(b []byte) Header {
	return Header{
		Parent:        forks.Hash(b[0:32]),
		PriorRoot:     forks.Hash(b[32:64]),
		ExtrinsicHash: forks.Hash(b[64:96]),
		Slot:          forks.Slot(binary.LittleEndian.Uint32(b[96:100])),
	}
}

// FullHeader is a header with all its fields.
type FullHeader struct {
	Header
	EpochMark     []byte // entropy 32, tickets entropy 32, per validator 32 + 32; nil where there is none
	TicketsMark   []byte // per slot of the epoch 32 + 1; nil where there is none
	Author        uint16 // index of the validator; 65535 in a genesis
	EntropySource [SignatureSize]byte
	Offenders     []byte // Ed25519 keys, 32 bytes each
	Seal          [SignatureSize]byte
}

// Encode gives the header as Gray Paper 0.7 encodes it: MinHeaderSize bytes and
// what its marks and offenders add.
func (h *FullHeader) Encode() []byte {
	size := MinHeaderSize + len(h.EpochMark) + len(h.TicketsMark) + len(h.Offenders)
	b := make([]byte, 0, size)
	b = append(b, h.Parent[:]...)
	b = append(b, h.PriorRoot[:]...)
	b = append(b, h.ExtrinsicHash[:]...)
	b = binary.LittleEndian.AppendUint32(b, uint32(h.Slot))
	b = appendOption(b, h.EpochMark)
	b = appendOption(b, h.TicketsMark)
	b = binary.LittleEndian.AppendUint16(b, h.Author)
	b = append(b, h.EntropySource[:]...)
	b = AppendNat(b, uint64(len(h.Offenders)/publicKeySize))
	b = append(b, h.Offenders...)
	return append(b, h.Seal[:]...)
}

func appendOption(b, value []byte) []byte {
	if value == nil {
		return append(b, 0)
	}
	return append(append(b, 1), value...)
}

package checkpoint

import (
	"encoding/binary"
	"fmt"
	"time"

	"accessor/forks"
)

// Record is what the store keeps of a block beside its write set.
type Record struct {
	forks.Block // hash, parent, slot, root of the state after the block

	// PriorRoot is the root of the parent's state.
	PriorRoot forks.Hash
	// Anchor marks the block whose whole state the store started from.
	Anchor bool
	// Partial marks an anchor whose state is not there yet: see CreatePartial.
	Partial bool
	// Number counts imports, from 1 for the anchor; never used twice.
	Number uint64
	// Arrived is when the block was imported, to the millisecond.
	Arrived time.Time
	// Header is the encoded header, where the node handed it over.
	Header []byte

	// DeltaSize and DeltaSum are the delta file's length in bytes and XXH64.
	DeltaSize int64
	DeltaSum  uint64
}

// MaxHeader is the longest encoded header that a record takes: JAM's longest,
// with an epoch mark of the full chain, has 65,865 bytes.
const MaxHeader = 1 << 20

const (
	recordVersion = 1
	// partialVersion is that of a partial anchor's record: programs that don't know of
	// those would take its state for empty.
	partialVersion = 2
	recordFixed    = 1 + 1 + 4*forks.HashSize + 4 + 8 + 8 + 4 // up to the header
	flagAnchor     = 1
	flagPartial    = 2
)

// appendBody appends the record's form in a delta (docs/FORMAT.md): all fields
// but the delta's own size and sum.
func (r *Record) appendBody(dst []byte) []byte {
	var flags, version byte = 0, recordVersion
	if r.Anchor {
		flags |= flagAnchor
	}
	if r.Partial {
		flags, version = flags|flagPartial, partialVersion
	}
	dst = append(dst, version, flags)
	dst = append(dst, r.Hash[:]...)
	dst = append(dst, r.Parent[:]...)
	dst = append(dst, r.PriorRoot[:]...)
	dst = append(dst, r.Root[:]...)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(r.Slot))
	dst = binary.LittleEndian.AppendUint64(dst, r.Number)
	dst = binary.LittleEndian.AppendUint64(dst, uint64(r.Arrived.UnixMilli()))
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(r.Header)))
	return append(dst, r.Header...)
}

// encode is the record's form in blocks/: the body, the delta's size and sum.
func (r *Record) encode() []byte {
	b := r.appendBody(make([]byte, 0, recordFixed+len(r.Header)+16))
	b = binary.LittleEndian.AppendUint64(b, uint64(r.DeltaSize))
	return binary.LittleEndian.AppendUint64(b, r.DeltaSum)
}

// decodeBody reads the form in a delta and gives what follows it.
func decodeBody(b []byte) (r Record, rest []byte, err error) {
	if len(b) < recordFixed {
		return r, nil, fmt.Errorf("%w: block record of %d bytes", ErrDamaged, len(b))
	}
	r.Anchor = b[1]&flagAnchor != 0
	switch b[0] {
	case recordVersion:
	case partialVersion:
		if b[1] != flagAnchor|flagPartial {
			return r, nil, fmt.Errorf("%w: block record of version %d with flags %#x", ErrFormat, b[0], b[1])
		}
		r.Partial = true
	default:
		return r, nil, fmt.Errorf("%w: block record of version %d", ErrFormat, b[0])
	}
	b = b[2:]
	for _, h := range []*forks.Hash{&r.Hash, &r.Parent, &r.PriorRoot, &r.Root} {
		b = b[copy(h[:], b):]
	}
	r.Slot = forks.Slot(binary.LittleEndian.Uint32(b))
	r.Number = binary.LittleEndian.Uint64(b[4:])
	r.Arrived = time.UnixMilli(int64(binary.LittleEndian.Uint64(b[12:])))
	n := binary.LittleEndian.Uint32(b[20:])
	b = b[24:]
	if n > MaxHeader || int(n) > len(b) {
		return r, nil, fmt.Errorf("%w: block record with a header of %d bytes", ErrDamaged, n)
	}
	if n > 0 {
		r.Header = append([]byte(nil), b[:n]...)
	}
	return r, b[n:], nil
}

// decodeRecord reads the form in blocks/.
func decodeRecord(b []byte) (Record, error) {
	r, rest, err := decodeBody(b)
	if err != nil {
		return r, err
	}
	if len(rest) != 16 {
		return r, fmt.Errorf("%w: block record with %d bytes at its end, want 16", ErrDamaged, len(rest))
	}
	r.DeltaSize = int64(binary.LittleEndian.Uint64(rest))
	r.DeltaSum = binary.LittleEndian.Uint64(rest[8:])
	return r, nil
}

// sameBlock says whether two records are about one block with one outcome; pruning
// makes it an anchor in between.
func (r *Record) sameBlock(o *Record) bool {
	return r.Block == o.Block && r.PriorRoot == o.PriorRoot
}

package api

import (
	"bytes"
	"encoding/binary"

	"accessor/forks"
	"accessor/state"
)

// blockMagic begins a block in binary form.
const blockMagic = "blk1"

// Bits of a binary block's flags.
const (
	hasPriorRoot = 1 << iota
	hasPostRoot
	hasHeader
)

// decodeBlock reads a block in binary form (docs/API.md). It keeps slices of the
// body. Errors: faults of kind bad-body.
func decodeBlock(body []byte) (*state.Block, error) {
	f := frames{rest: body}
	if !bytes.Equal(f.fixed(len(blockMagic), "the magic"), []byte(blockMagic)) {
		return nil, badBody("a binary block begins with %s", blockMagic)
	}
	flags := f.uint32("the flags")
	if flags&^(hasPriorRoot|hasPostRoot|hasHeader) != 0 {
		return nil, badBody("flags %#x, of which some are unknown", flags)
	}
	var b state.Block
	copy(b.Hash[:], f.fixed(forks.HashSize, "the hash"))
	copy(b.Parent[:], f.fixed(forks.HashSize, "the parent"))
	b.Slot = forks.Slot(f.uint32("the slot"))
	root := func(bit uint32, what string) *forks.Hash {
		if flags&bit == 0 {
			return nil
		}
		var h forks.Hash
		copy(h[:], f.fixed(forks.HashSize, what))
		return &h
	}
	b.PriorRoot = root(hasPriorRoot, "the prior root")
	b.PostRoot = root(hasPostRoot, "the post root")
	if flags&hasHeader != 0 {
		b.Header = f.frame("the header")
	}
	b.Puts, b.Dels = f.writes()
	if err := f.end(); err != nil {
		return nil, err
	}
	return &b, nil
}

// writes reads a write set.
func (f *frames) writes() (puts []state.Pair, dels [][]byte) {
	const emptyFrame = 4
	puts = make([]state.Pair, f.count(2*emptyFrame, "puts"))
	for i := range puts {
		puts[i] = state.Pair{Key: f.frame("a key"), Value: f.frame("a value")}
	}
	dels = make([][]byte, f.count(emptyFrame, "deletes"))
	for i := range dels {
		dels[i] = f.frame("a key")
	}
	return puts, dels
}

// decodeWrites reads a write set by itself. Errors: faults of kind bad-body.
func decodeWrites(body []byte) (puts []state.Pair, dels [][]byte, err error) {
	f := frames{rest: body}
	puts, dels = f.writes()
	if err := f.end(); err != nil {
		return nil, nil, err
	}
	return puts, dels, nil
}

// AppendBlock appends a block in the binary form that POST /v1/blocks takes.
func AppendBlock(dst []byte, b *state.Block) []byte {
	flags := uint32(0)
	for bit, has := range map[uint32]bool{
		hasPriorRoot: b.PriorRoot != nil, hasPostRoot: b.PostRoot != nil, hasHeader: b.Header != nil,
	} {
		if has {
			flags |= bit
		}
	}
	dst = append(dst, blockMagic...)
	dst = binary.LittleEndian.AppendUint32(dst, flags)
	dst = append(dst, b.Hash[:]...)
	dst = append(dst, b.Parent[:]...)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(b.Slot))
	for _, root := range []*forks.Hash{b.PriorRoot, b.PostRoot} {
		if root != nil {
			dst = append(dst, root[:]...)
		}
	}
	if b.Header != nil {
		dst = appendFrame(dst, b.Header)
	}
	return AppendWrites(dst, b.Puts, b.Dels)
}

// AppendWrites appends a write set in the binary form that drafts take.
func AppendWrites(dst []byte, puts []state.Pair, dels [][]byte) []byte {
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(puts))) //nolint:gosec // below 2^32, as bytes in memory are
	for _, p := range puts {
		dst = appendFrame(appendFrame(dst, p.Key), p.Value)
	}
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(dels))) //nolint:gosec // as above
	for _, key := range dels {
		dst = appendFrame(dst, key)
	}
	return dst
}

// AppendKeys appends keys in the binary form that batches take.
func AppendKeys(dst []byte, keys [][]byte) []byte {
	for _, key := range keys {
		dst = appendFrame(dst, key)
	}
	return dst
}

// CutValue reads the next value of a batch's answer in binary form, nil for an absent
// key, and gives the rest. Error: one of kind bad-body.
func CutValue(b []byte) (value, rest []byte, err error) {
	f := frames{rest: b}
	if len(b) >= 4 && binary.LittleEndian.Uint32(b) == absent {
		return nil, b[4:], nil
	}
	value = f.frame("a value")
	return value, f.rest, f.err
}

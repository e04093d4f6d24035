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

// decodeBlock reads a block in binary form (docs/PROTOCOL.md) of a store whose keys have
// keySize bytes, 0 for any number. It keeps slices of the body. Errors: faults of kind
// bad-body, and invalid-block for keys of another size.
func decodeBlock(body []byte, keySize int) (*state.Block, error) {
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
	b.Puts, b.Dels = f.writes(keySize)
	if err := f.end(); err != nil {
		return nil, err
	}
	return &b, nil
}

// writes reads a write set of a store whose keys have keySize bytes, 0 for any number
// above 0. The lists grow as entries come: an entry takes more memory than bytes.
func (f *frames) writes(keySize int) (puts []state.Pair, dels [][]byte) {
	const emptyFrame, listStart = 4, 4096
	const least = emptyFrame + 1 // a key has a byte at least
	n := f.count(least+emptyFrame, "puts")
	puts = make([]state.Pair, 0, min(n, listStart))
	for range n {
		p := state.Pair{Key: f.key(keySize), Value: f.frame("a value")}
		if f.err != nil {
			return nil, nil
		}
		puts = append(puts, p)
	}
	n = f.count(least, "deletes")
	dels = make([][]byte, 0, min(n, listStart))
	for range n {
		key := f.key(keySize)
		if f.err != nil {
			return nil, nil
		}
		dels = append(dels, key)
	}
	return puts, dels
}

// key reads a key, which is not empty. One that no state of the store has is refused at
// once, as that of a block in JSON is by the core: short ones would take many times the
// body's memory.
func (f *frames) key(size int) []byte {
	key := f.frame("a key")
	switch {
	case f.err != nil:
	case len(key) == 0:
		f.fail("an empty key")
	case size > 0 && len(key) != size:
		f.err = newFault("invalid-block", "key %.80x has %d bytes, this store's keys have %d", key, len(key), size)
		f.rest = nil
	}
	return key
}

// decodeWrites reads a write set by itself. Errors: as of decodeBlock.
func decodeWrites(body []byte, keySize int) (puts []state.Pair, dels [][]byte, err error) {
	f := frames{rest: body}
	puts, dels = f.writes(keySize)
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

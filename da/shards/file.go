package shards

import (
	"encoding/binary"
	"errors"
	"fmt"

	"accessor/da/erasure"
	"accessor/da/justify"
	"accessor/forks"
)

// Shard is what one holder keeps of a work package, for one index.
type Shard struct {
	Bundle   []byte                // shard of the work bundle
	Segments [][]byte              // shards of all segments: exported ones, then pages of proofs
	Path     justify.Justification // the co-path from the erasure root (CE 137)
}

// MaxSegments bounds the segments of a work package: 3,072 exported ones and their
// pages of proofs.
const MaxSegments = 3072 + 48

// A file is a head, the co-path in its wire form, the bundle shard, and the segment
// shards. The head has, in this order, a magic of 8 bytes; as u16 the number of shards of
// the code, this one's index, the number of segments, and the size of a segment shard;
// as u32 the sizes of the co-path and of the bundle shard.
const (
	magic    = "shard/1\n"
	headSize = len(magic) + 4*2 + 2*4
)

// MaxFile bounds a file, in bytes: half of a bundle, and of all segments, where any 2
// shards are enough.
const MaxFile = headSize + erasure.MaxSize/2 + MaxSegments*justify.SegmentSize/2 + 4096

// errFormat: the bytes are not a shard's file.
var errFormat = errors.New("malformed file of a shard")

// check checks a shard as a file can hold it, against the root that the spec has. Errors:
// those of justify.Spec.CheckShards; of lengths, justify.ErrWrong in such a one.
func check(spec justify.Spec, index int, sh Shard) error {
	for _, s := range sh.Segments {
		if len(s) != len(sh.Segments[0]) || len(s) > justify.SegmentSize {
			return &erasure.ShardError{Index: index, Err: fmt.Errorf("%w: segment shards of %d and %d bytes", justify.ErrWrong, len(sh.Segments[0]), len(s))}
		}
	}
	if err := spec.CheckShards(index, sh.Bundle, sh.Segments, sh.Path); err != nil {
		return err
	}
	if spec.Segments > MaxSegments || sh.Size() > MaxFile {
		return &erasure.ShardError{Index: index, Err: fmt.Errorf("%w: %d bytes and %d segments", justify.ErrWrong, len(sh.Bundle), spec.Segments)}
	}
	return nil
}

// Size is that of the shard's file, in bytes.
func (sh *Shard) Size() int {
	size := headSize + len(sh.Bundle)
	for _, entry := range sh.Path {
		size += 1 + len(entry)
	}
	for _, s := range sh.Segments {
		size += len(s)
	}
	return size
}

// encode gives the file of a shard that was checked.
func encode(shards, index int, sh *Shard) []byte {
	b := append(make([]byte, 0, sh.Size()), magic...)
	size := 0
	if len(sh.Segments) > 0 {
		size = len(sh.Segments[0])
	}
	path := sh.Path.Append(nil)
	for _, n := range []int{shards, index, len(sh.Segments), size} {
		b = binary.LittleEndian.AppendUint16(b, uint16(n))
	}
	for _, n := range []int{len(path), len(sh.Bundle)} {
		b = binary.LittleEndian.AppendUint32(b, uint32(n))
	}
	b = append(append(b, path...), sh.Bundle...)
	for _, s := range sh.Segments {
		b = append(b, s...)
	}
	return b
}

// decode reads the file of a shard, and checks it against the erasure root that it is
// kept under: every byte that is given leads to it. The shard is parts of b. Errors:
// errFormat, and those of check.
func decode(b []byte, root forks.Hash, index int) (Shard, justify.Spec, error) {
	if len(b) < headSize || len(b) > MaxFile || string(b[:len(magic)]) != magic {
		return Shard{}, justify.Spec{}, fmt.Errorf("%w: its head", errFormat)
	}
	u16 := func(i int) int { return int(binary.LittleEndian.Uint16(b[len(magic)+2*i:])) }
	u32 := func(i int) int { return int(binary.LittleEndian.Uint32(b[len(magic)+8+4*i:])) }
	spec := justify.Spec{Root: root, Shards: u16(0), Segments: u16(2)}
	segment, path, bundle := u16(3), u32(0), u32(1)
	rest := b[headSize:]
	if u16(1) != index || spec.Segments > MaxSegments || len(rest) != path+bundle+spec.Segments*segment ||
		(spec.Segments == 0) != (segment == 0) {
		return Shard{}, justify.Spec{}, fmt.Errorf("%w: shard %d of %d, %d bytes", errFormat, u16(1), spec.Shards, len(b))
	}
	j, err := justify.Parse(rest[:path], 0)
	if err != nil {
		return Shard{}, justify.Spec{}, err
	}
	sh := Shard{Bundle: rest[path : path+bundle : path+bundle], Path: j}
	for rest = rest[path+bundle:]; len(rest) > 0; rest = rest[segment:] {
		sh.Segments = append(sh.Segments, rest[:segment:segment])
	}
	return sh, spec, check(spec, index, sh)
}

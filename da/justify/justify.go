package justify

import (
	"fmt"
	"slices"

	"golang.org/x/crypto/blake2b"

	"accessor/da/erasure"
)

// Justification is the entries of a co-path, top first: of 32 bytes (a hash), of 64
// (a pair of hashes: the leaf of another shard), or of the size of a segment shard.
type Justification [][]byte

// MaxEntries bounds a justification: 10 entries for 1,023 shards, the hash of the
// bundle shard, and 12 for 3,072 exported segments and their 48 pages of proofs.
const MaxEntries = 10 + 1 + 12

// MaxBytes is the size of the longest justification on the wire; shardSize is that of
// a segment shard, 0 where there are none in it.
func MaxBytes(shardSize int) int { return MaxEntries * (1 + max(64, shardSize)) }

// Kinds of entries on the wire: each is the kind, one byte, and the entry, with no
// count in front of all.
const (
	kindHash = iota
	kindPair
	kindShard
)

// Append appends the wire form.
func (j Justification) Append(b []byte) []byte {
	for _, entry := range j {
		switch len(entry) {
		case 32:
			b = append(b, kindHash)
		case 64:
			b = append(b, kindPair)
		default:
			b = append(b, kindShard)
		}
		b = append(b, entry...)
	}
	return b
}

// Parse reads the wire form, all of b; entries are parts of it. shardSize is that of a
// segment shard, 12 or 2,052 bytes; 0 where none may be in it (CE 137 and 138).
// Error: ErrFormat.
func Parse(b []byte, shardSize int) (Justification, error) {
	var j Justification
	for len(b) > 0 {
		if len(j) == MaxEntries {
			return nil, fmt.Errorf("%w: more than %d entries", ErrFormat, MaxEntries)
		}
		size := 0
		switch b[0] {
		case kindHash:
			size = 32
		case kindPair:
			size = 64
		case kindShard:
			size = shardSize
		}
		if size == 0 {
			return nil, fmt.Errorf("%w: entry %d of kind %d", ErrFormat, len(j), b[0])
		}
		if len(b) < 1+size {
			return nil, fmt.Errorf("%w: entry %d has %d of %d bytes", ErrFormat, len(j), len(b)-1, size)
		}
		j, b = append(j, b[1:1+size:1+size]), b[1+size:]
	}
	return j, nil
}

// Leaf is what the erasure root's tree has for shard i: the hash of the bundle shard,
// and M_B of the shards i of all segments (exported ones, then pages of proofs), in
// their order. 64 bytes.
func Leaf(bundleShard []byte, segmentShards [][]byte) []byte {
	return leafOf(blake2b.Sum256(bundleShard), Root(segmentShards))
}

func leafOf(bundle, segments Hash) []byte { return append(bundle[:], segments[:]...) }

// Leaves gives every leaf: bundle has the shards of the bundle, and segments, for each
// segment, its shards, as erasure.Code.Encode gives them; all equally many. Root of
// them is the erasure root, and CoPath of them is what CE 137 sends.
func Leaves(bundle [][]byte, segments [][][]byte) [][]byte {
	leaves := make([][]byte, len(bundle))
	for i := range leaves {
		leaves[i] = Leaf(bundle[i], Column(segments, i))
	}
	return leaves
}

// Column gives shard i of each segment.
func Column(segments [][][]byte, i int) [][]byte {
	column := make([][]byte, len(segments))
	for s := range segments {
		column[s] = segments[s][i]
	}
	return column
}

// ForBundle justifies a bundle shard alone (CE 138): its co-path, as CE 137 gives it,
// and the root of the segment shards with the same index.
func ForBundle(coPath Justification, segmentShards [][]byte) Justification {
	root := Root(segmentShards)
	return append(slices.Clip(coPath), root[:])
}

// ForSegment justifies one segment shard (CE 140): the co-path of its index, as CE 137
// gives it, the hash of the bundle shard with the same index, and the co-path among
// the segment shards with that index.
func ForSegment(coPath Justification, bundle Hash, segmentShards [][]byte, segment int) Justification {
	j := append(slices.Clip(coPath), bundle[:])
	return append(j, CoPath(segmentShards, segment)...)
}

// Spec is what a reader trusts of the shards of one work package, from the
// availability specifier in its work report.
type Spec struct {
	Root     Hash // erasure root
	Shards   int  // N of the code, 6 or 1,023
	Segments int  // exported segments and pages of proofs
}

// CheckShards checks all that one assurer keeps (CE 137): the bundle shard i, and the
// shards i of all segments. Errors, in an erasure.ShardError: ErrIndex, ErrWrong.
func (s Spec) CheckShards(i int, bundleShard []byte, segmentShards [][]byte, j Justification) error {
	if err := s.bounds(i); err != nil {
		return err
	}
	if len(segmentShards) != s.Segments {
		return wrong(i, fmt.Errorf("%w: shards of %d segments, not %d", ErrWrong, len(segmentShards), s.Segments))
	}
	return s.check(i, Leaf(bundleShard, segmentShards), j)
}

// CheckBundle checks bundle shard i with its justification of CE 138. Errors, in an
// erasure.ShardError: ErrIndex, ErrWrong.
func (s Spec) CheckBundle(i int, shard []byte, j Justification) error {
	if err := s.bounds(i); err != nil {
		return err
	}
	last := len(j) - 1
	if last < 0 || len(j[last]) != 32 {
		return wrong(i, fmt.Errorf("%w: no root of segment shards at its end", ErrWrong))
	}
	return s.check(i, leafOf(blake2b.Sum256(shard), Hash(j[last])), j[:last])
}

// CheckSegment checks shard i of one segment (pages of proofs follow the exported
// ones) with its justification of CE 140. Errors, in an erasure.ShardError: ErrIndex,
// ErrWrong.
func (s Spec) CheckSegment(i, segment int, shard []byte, j Justification) error {
	if err := s.bounds(i); err != nil {
		return err
	}
	if segment < 0 || segment >= s.Segments {
		return wrong(i, fmt.Errorf("%w: segment %d of %d", ErrIndex, segment, s.Segments))
	}
	d := depth(s.Shards, i)
	if len(j) <= d || len(j[d]) != 32 {
		return wrong(i, fmt.Errorf("%w: no hash of the bundle shard at entry %d", ErrWrong, d))
	}
	node, err := climb(shard, s.Segments, segment, j[d+1:])
	if err != nil {
		return wrong(i, err)
	}
	return s.check(i, leafOf(Hash(j[d]), rootOf(s.Segments, node)), j[:d])
}

func (s Spec) bounds(i int) error {
	if i < 0 || i >= s.Shards {
		return wrong(i, fmt.Errorf("%w: %d shards", ErrIndex, s.Shards))
	}
	return nil
}

func (s Spec) check(i int, leaf []byte, path Justification) error {
	node, err := climb(leaf, s.Shards, i, path)
	if err != nil {
		return wrong(i, err)
	}
	if rootOf(s.Shards, node) != s.Root {
		return wrong(i, ErrWrong)
	}
	return nil
}

func wrong(i int, err error) error { return &erasure.ShardError{Index: i, Err: err} }

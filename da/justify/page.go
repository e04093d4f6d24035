package justify

import (
	"fmt"
	"math/bits"
)

// SegmentSize is the size of a segment in bytes.
const SegmentSize = 4104

// A page of proofs covers 64 segments, 6 levels of the tree.
const (
	pageLevels = 6
	pageItems  = 1 << pageLevels
)

// maxLevels bounds the tree over segments: 4,096 of them, where 3,072 are allowed.
const maxLevels = 12

// SegmentsRoot is M, the root of the tree of constant depth: its leaves are hashes of
// "leaf" and the item, with zero hashes up to the next power of two.
func SegmentsRoot(segments [][]byte) Hash {
	return Hash(node(constantLeaves(segments)))
}

// constantLeaves is C: at least one leaf.
func constantLeaves(items [][]byte) [][]byte {
	leaves := make([][]byte, 1<<levels(len(items)))
	for i := range leaves {
		var h Hash
		if i < len(items) {
			h = leafHash(items[i])
		}
		leaves[i] = h[:]
	}
	return leaves
}

// levels is the depth of a tree of constant depth over n items.
func levels(n int) int { return bits.Len(uint(max(1, n) - 1)) }

// ImportProof is J_0: the co-path of one segment, hashes only, top first (CE 148). The
// index is in bounds.
func ImportProof(segments [][]byte, i int) []Hash {
	return hashes(CoPath(constantLeaves(segments), i))
}

func hashes(path Justification) []Hash {
	out := make([]Hash, len(path))
	for i := range path {
		out[i] = Hash(path[i])
	}
	return out
}

// CheckImport checks a segment and its import proof against a segments root. Errors:
// ErrIndex, ErrWrong.
func CheckImport(root Hash, i int, segment []byte, proof []Hash) error {
	return climbConstant(root, i, leafHash(segment), proof)
}

// climbConstant checks node i of the level that the path leads down to.
func climbConstant(root Hash, i int, at Hash, path []Hash) error {
	if len(path) > maxLevels || i < 0 || i >= 1<<len(path) {
		return fmt.Errorf("%w: %d in a tree of %d levels", ErrIndex, i, len(path))
	}
	for level := len(path) - 1; level >= 0; level-- {
		if i&1 == 0 {
			at = Hash(join(at[:], path[level][:]))
		} else {
			at = Hash(join(path[level][:], at[:]))
		}
		i >>= 1
	}
	if at != root {
		return ErrWrong
	}
	return nil
}

// Page is one page of paged proofs: the leaf hashes of up to 64 segments, and the
// co-path of the tree over them.
type Page struct {
	Path   []Hash // J_6, top first; none where there is but one page
	Leaves []Hash // L_6, 1 to 64
}

// Pages gives the pages of all segments, page p for segments 64p to 64p+63, each as
// the segment it is stored as. (Paged proofs, Gray Paper 0.7.2, 14.)
func Pages(segments [][]byte) [][]byte {
	var pages [][]byte
	leaves := constantLeaves(segments)
	for from := 0; from < len(segments); from += pageItems {
		path := hashes(CoPath(leaves, from))
		page := Page{
			Path:   path[:max(0, len(path)-pageLevels)],
			Leaves: hashes(leaves[from:min(from+pageItems, len(segments))]),
		}
		pages = append(pages, page.segment())
	}
	return pages
}

// segment is both lists, each with its length in front (below 128: one byte), and
// zeros behind them.
func (p Page) segment() []byte {
	b := make([]byte, 0, SegmentSize)
	for _, list := range [][]Hash{p.Path, p.Leaves} {
		b = append(b, byte(len(list)))
		for _, h := range list {
			b = append(b, h[:]...)
		}
	}
	return b[:SegmentSize]
}

// ParsePage reads a page from its segment. Error: ErrFormat.
func ParsePage(b []byte) (Page, error) {
	if len(b) != SegmentSize {
		return Page{}, fmt.Errorf("%w: a page of %d bytes, not %d", ErrFormat, len(b), SegmentSize)
	}
	list := func(least, most int) []Hash {
		n := int(b[0])
		if n < least || n > most {
			return nil
		}
		out := make([]Hash, n)
		for i := range out {
			out[i] = Hash(b[1+32*i:])
		}
		b = b[1+32*n:]
		return out
	}
	var p Page
	if p.Path = list(0, maxLevels-pageLevels); p.Path == nil {
		return Page{}, fmt.Errorf("%w: a page with %d hashes in its path", ErrFormat, b[0])
	}
	if p.Leaves = list(1, pageItems); p.Leaves == nil {
		return Page{}, fmt.Errorf("%w: a page of %d segments", ErrFormat, b[0])
	}
	for _, c := range b {
		if c != 0 {
			return Page{}, fmt.Errorf("%w: a page with more behind its end", ErrFormat)
		}
	}
	return p, nil
}

// Check checks that this is the page with that number, from 0, of so many segments
// with that root. Without the count, inner nodes would pass for leaves, and refuse
// right segments later. Errors: ErrIndex, ErrWrong.
func (p Page) Check(root Hash, number, segments int) error {
	if number < 0 || number >= (segments+pageItems-1)/pageItems {
		return fmt.Errorf("%w: page %d of %d segments", ErrIndex, number, segments)
	}
	depth := levels(segments)
	below := min(depth, pageLevels)
	if len(p.Leaves) != min(segments-number*pageItems, pageItems) || len(p.Path) != depth-below {
		return fmt.Errorf("%w: a page of %d segments, path of %d", ErrWrong, len(p.Leaves), len(p.Path))
	}
	leaves := make([][]byte, 1<<below)
	for i := range leaves {
		leaves[i] = make([]byte, 32)
		if i < len(p.Leaves) {
			leaves[i] = p.Leaves[i][:]
		}
	}
	return climbConstant(root, number, Hash(node(leaves)), p.Path)
}

// CheckSegment checks a segment, by its place in the page from 0, against a page that
// was checked. Errors: ErrIndex, ErrWrong.
func (p Page) CheckSegment(at int, segment []byte) error {
	if at < 0 || at >= len(p.Leaves) {
		return fmt.Errorf("%w: segment %d of a page of %d", ErrIndex, at, len(p.Leaves))
	}
	if leafHash(segment) != p.Leaves[at] {
		return ErrWrong
	}
	return nil
}

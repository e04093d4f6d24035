// Package justify has the Merkle trees over what JAM's availability layer stores, and
// the justifications by which one shard or one segment is checked against a root.
//
// The sources are the Gray Paper 0.7.2 (appendix E: the trees M_B and M, the co-path
// T, pages J and L; chapter 14: the erasure root and paged proofs) and JAMNP-S (the
// form of justifications on the wire, CE 137, 138 and 140). There are no public
// vectors for them. H is blake2b with a digest of 32 bytes.
//
// It makes what holders send and checks what readers receive. A check takes the shape
// of the tree from what the reader trusts (counts and index), never from the answer.
// All of it is pure, and safe for concurrent use.
package justify

import (
	"errors"
	"fmt"
	"slices"

	"golang.org/x/crypto/blake2b"
)

// Hash is a digest of blake2b.
type Hash = [32]byte

var (
	// ErrFormat: bytes are not a justification, or not a page.
	ErrFormat = errors.New("malformed justification")
	// ErrIndex: an index beyond what the tree has.
	ErrIndex = errors.New("index out of bounds")
	// ErrWrong: what was given does not lead to the root.
	ErrWrong = errors.New("justification does not lead to the root")
)

// Root is M_B, the root of the well-balanced tree over items: where there is one, its
// hash, else its node. Items are all of one size, so that no item passes for a node.
func Root(items [][]byte) Hash {
	return rootOf(len(items), node(items))
}

// rootOf gives M_B of n items from their node.
func rootOf(n int, node []byte) Hash {
	if n == 1 {
		return blake2b.Sum256(node)
	}
	return Hash(node)
}

// node is N: zeros, the only item itself, or the hash of both halves, of which the
// first is the larger.
func node(items [][]byte) []byte {
	switch len(items) {
	case 0:
		return make([]byte, 32)
	case 1:
		return items[0]
	}
	half := (len(items) + 1) / 2
	return join(node(items[:half]), node(items[half:]))
}

func join(left, right []byte) []byte {
	text := make([]byte, 0, 4+2*64)
	text = append(append(append(text, "node"...), left...), right...)
	h := blake2b.Sum256(text)
	return h[:]
}

func leafHash(item []byte) Hash {
	return blake2b.Sum256(append([]byte("leaf"), item...))
}

// CoPath is T: the nodes beside the way from the root down to item i, top first. A
// node over one item is the item itself. The index is in bounds.
func CoPath(items [][]byte, i int) Justification {
	var path Justification
	for len(items) > 1 {
		half := (len(items) + 1) / 2
		if i < half {
			path = append(path, node(items[half:]))
			items = items[:half]
		} else {
			path = append(path, node(items[:half]))
			items, i = items[half:], i-half
		}
	}
	return path
}

// CoPaths gives CoPath of every item, for little more than the root's work.
func CoPaths(items [][]byte) []Justification {
	paths := make([]Justification, len(items))
	addPaths(items, nil, paths)
	return paths
}

// addPaths gives the co-paths of a subtree's items, that of the subtree in front.
func addPaths(items [][]byte, above Justification, paths []Justification) {
	if len(items) < 2 {
		for i := range items {
			paths[i] = above
		}
		return
	}
	half := (len(items) + 1) / 2
	above = slices.Clip(above)
	addPaths(items[:half], append(above, node(items[half:])), paths[:half])
	addPaths(items[half:], append(above, node(items[:half])), paths[half:])
}

// turn says of a tree of n items, two or more, whether item i is in its left half,
// where in the half it is, and how many items are in that half and in the other.
func turn(n, i int) (left bool, at, mine, other int) {
	half := (n + 1) / 2
	if i < half {
		return true, i, half, n - half
	}
	return false, i - half, n - half, half
}

// depth is how many entries the co-path of item i of n has.
func depth(n, i int) int {
	d := 0
	for ; n > 1; d++ {
		_, i, n, _ = turn(n, i)
	}
	return d
}

// climb gives the node of a tree of n items from item i and its co-path. An entry
// beside one item has the item's size, every other one is a hash.
func climb(item []byte, n, i int, path Justification) ([]byte, error) {
	if n == 1 {
		if len(path) > 0 {
			return nil, fmt.Errorf("%w: %d entries too many", ErrWrong, len(path))
		}
		return item, nil
	}
	if len(path) == 0 {
		return nil, fmt.Errorf("%w: too few entries", ErrWrong)
	}
	left, at, mine, other := turn(n, i)
	want := 32
	if other == 1 {
		want = len(item)
	}
	if len(path[0]) != want {
		return nil, fmt.Errorf("%w: an entry of %d bytes, not %d", ErrWrong, len(path[0]), want)
	}
	below, err := climb(item, mine, at, path[1:])
	switch {
	case err != nil:
		return nil, err
	case left:
		return join(below, path[0]), nil
	}
	return join(path[0], below), nil
}

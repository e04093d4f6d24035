// Package merkle is JAM's commitment to a state: the root of a binary Merkle
// trie over 31-byte keys, and the encoding of its nodes (Gray Paper 0.7.2,
// appendix D.2). It reads pairs and gives hashes; it never stores a node, and
// knows nothing of blocks or files.
//
// With H = BLAKE2b-256 without a key, and bits counted from the most
// significant bit of the first byte:
//
//	hash(node)   = H(node), node being 64 bytes; of an empty sub-trie 32 zero bytes
//	branch(l, r) = (l[0] & 0x7f) ++ l[1:32] ++ r      l is the child of bit 0, r of bit 1
//	leaf(k, v)   = (0x80 | len(v)) ++ k ++ v ++ 00…   where len(v) ≤ 32
//	             = 0xc0 ++ k ++ H(v)                  where v is longer
//	root(D, i)   = 00…                                where D has no pair
//	             = hash(leaf(k, v))                   where D has one
//	             = hash(branch(root(D with bit i 0, i+1), root(D with bit i 1, i+1)))
//
// and the root of a state D is root(D, 0). So a leaf sits at the first depth
// where it is alone, and there is no path compression: keys that share a prefix
// hang below a chain of branches with one empty child each.
//
// Invariant: equal sets of pairs give equal roots, whatever their history.
package merkle

import (
	"bytes"
	"errors"
	"fmt"
	"iter"
	"math/bits"

	"accessor/forks"
)

// Errors of Root. Match them with errors.Is.
var (
	ErrKeySize = errors.New("state key is not 31 bytes")
	ErrOrder   = errors.New("state keys are not in ascending order")
)

// Root gives the root of the state that pairs yields: keys of KeySize bytes, in
// strictly ascending order, values of any length. It makes one pass, needs the
// same memory (a few kilobytes) for any number of pairs, and keeps neither keys
// nor values, so the iterator may reuse its buffers. The root of no pairs is
// the zero hash. Errors, at the first pair that is wrong, which ends the pass:
// ErrKeySize, ErrOrder (of a key given twice too).
func Root(pairs iter.Seq2[[]byte, []byte]) (forks.Hash, error) {
	s := spine{shared: -1}
	count := 0
	for k, v := range pairs {
		if len(k) != KeySize {
			return forks.Hash{}, fmt.Errorf("state root, pair %d: %w: %d bytes", count, ErrKeySize, len(k))
		}
		if count > 0 && bytes.Compare(s.key[:], k) >= 0 {
			return forks.Hash{}, fmt.Errorf("state root, pair %d: %w: %x after %x", count, ErrOrder, k, s.key)
		}
		key := [KeySize]byte(k)
		leaf := Leaf(key, v).Hash()
		if count > 0 {
			s.close(commonBits(&s.key, &key))
		}
		s.key, s.node = key, leaf
		count++
	}
	if count == 0 {
		return forks.Hash{}, nil
	}
	s.close(-1)
	return s.node, nil
}

// spine is the trie's right edge while keys come in ascending order: the last
// key's leaf, and the finished sub-tries to the left of the path to it. All
// that is left of that path hangs, as a left child, on a branch of the path.
//
// Invariant: left[d] is zero unless bit d of key is 1; the next key can only
// turn right from the path, so nothing to its right exists yet.
type spine struct {
	key    [KeySize]byte        // the last key
	node   forks.Hash           // the last key's leaf, not yet in a branch
	shared int                  // bits that key shares with the key before it, -1 for the first
	left   [MaxDepth]forks.Hash // by depth of the branch: its left child, zero for none
}

// close ends the last key's share of the trie, when it is known how many bits
// it has in common with the next key (-1 after the last of all): the leaf goes
// to the depth where it is alone, below max(shared, common), and the branches
// above it are finished as far up as the next key doesn't pass through them.
func (s *spine) close(common int) {
	for depth := max(s.shared, common); depth > common; depth-- {
		if bit(&s.key, depth) == 0 {
			s.node = Branch(s.node, forks.Hash{}).Hash()
			continue
		}
		s.node = Branch(s.left[depth], s.node).Hash()
		s.left[depth] = forks.Hash{}
	}
	if common >= 0 {
		// The two keys part here, this one to the left.
		s.left[common] = s.node
	}
	s.shared = common
}

// bit gives bit i of a key, from the most significant bit of its first byte.
func bit(key *[KeySize]byte, i int) byte { return key[i/8] >> (7 - i%8) & 1 }

// commonBits gives the number of leading bits in which two keys agree.
func commonBits(a, b *[KeySize]byte) int {
	for i := range a {
		if x := a[i] ^ b[i]; x != 0 {
			return 8*i + bits.LeadingZeros8(x)
		}
	}
	return MaxDepth
}

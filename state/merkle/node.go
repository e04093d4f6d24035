package merkle

import (
	"accessor/forks"

	"golang.org/x/crypto/blake2b"
)

const (
	// KeySize is the length of a state key in bytes.
	KeySize = 31
	// NodeSize is the length of an encoded node in bytes.
	NodeSize = 64
	// MaxDepth is the depth of the deepest leaf: the number of bits of a key.
	MaxDepth = 8 * KeySize
	// MaxEmbedded is the length in bytes of the longest value that a leaf holds
	// itself; of a longer one it holds the hash.
	MaxEmbedded = 32
)

// The first bits of a node say what it is; the package comment has the layouts.
const (
	leafBit   = 0x80 // a leaf; with a value of its own the low six bits are its length
	hashedBit = 0x40 // of a leaf: the value's hash stands for the value
)

// Node is an encoded node of the trie, a branch or a leaf, as it is hashed and
// as it travels in proofs (Gray Paper 0.7.2, appendix D.2).
type Node [NodeSize]byte

// Hash gives the node's identity: BLAKE2b-256 over its 64 bytes.
func (n Node) Hash() forks.Hash { return blake2b.Sum256(n[:]) }

// IsLeaf says whether the node is a leaf; else it is a branch.
func (n Node) IsLeaf() bool { return n[0]&leafBit != 0 }

// Branch gives the node over two sub-tries, named by their hashes, zero where
// there is no key: left has the keys whose bit at the branch's depth is 0. The
// first bit of left's hash is lost, so who looks a left child up by the hash
// found in a branch must not compare that bit.
func Branch(left, right forks.Hash) Node {
	var n Node
	copy(n[:], left[:])
	copy(n[forks.HashSize:], right[:])
	n[0] &^= leafBit
	return n
}

// Leaf gives the node of one key with its value, which may be of any length.
func Leaf(key [KeySize]byte, value []byte) Node {
	var n Node
	copy(n[1:], key[:])
	if len(value) <= MaxEmbedded {
		n[0] = leafBit | byte(len(value))
		copy(n[1+KeySize:], value)
		return n
	}
	n[0] = leafBit | hashedBit
	digest := blake2b.Sum256(value)
	copy(n[1+KeySize:], digest[:])
	return n
}

// LeafKey gives a leaf's key; ok is false of a branch.
func (n Node) LeafKey() (key [KeySize]byte, ok bool) {
	if !n.IsLeaf() {
		return key, false
	}
	copy(key[:], n[1:])
	return key, true
}

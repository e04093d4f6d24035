package merkle

import (
	"bytes"
	"errors"
	"fmt"

	"accessor/forks"
	"accessor/jam"
)

// Proof is what proves pairs of a state, or that it has no such keys, against its
// root: nodes on the way from the root, parents before children and the left side
// before the right one, and pairs in ascending order of their keys. It has the
// form of the answer to JAMNP-S's state request (CE 129).
type Proof struct {
	Nodes []Node
	Pairs []Pair
}

// Pair is one key of a state and its value.
type Pair struct {
	Key   [KeySize]byte
	Value []byte
}

// Size is the length of the proof in binary form, in bytes.
func (p *Proof) Size() int {
	size := len(p.Nodes) * NodeSize
	for i := range p.Pairs {
		size += p.Pairs[i].size()
	}
	return size
}

func (p *Pair) size() int {
	return KeySize + len(jam.AppendNat(nil, uint64(len(p.Value)))) + len(p.Value)
}

// AppendNodes appends the nodes in CE 129's form: 64 bytes each, no count.
func (p *Proof) AppendNodes(b []byte) []byte {
	for i := range p.Nodes {
		b = append(b, p.Nodes[i][:]...)
	}
	return b
}

// AppendPairs appends the pairs in CE 129's form: key (31), length of the value
// (JAM's natural), value; no count.
func (p *Proof) AppendPairs(b []byte) []byte {
	for i := range p.Pairs {
		b = append(b, p.Pairs[i].Key[:]...)
		b = jam.AppendNat(b, uint64(len(p.Pairs[i].Value)))
		b = append(b, p.Pairs[i].Value...)
	}
	return b
}

// ErrProof is the error of an answer that proves nothing.
var ErrProof = errors.New("invalid proof")

func badProof(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrProof, fmt.Errorf(format, args...))
}

// maxPath is the most nodes on the way to a key: a branch for each bit, a leaf.
const maxPath = MaxDepth + 1

// DecodeProof reads a proof of so many keys at most, 2 for a range, from its
// nodes and pairs in CE 129's form. The values are slices of pairs. Error:
// ErrProof.
func DecodeProof(nodes, pairs []byte, keys int) (*Proof, error) {
	if len(nodes)%NodeSize != 0 || len(nodes)/NodeSize > keys*maxPath {
		return nil, badProof("%d bytes of nodes", len(nodes))
	}
	p := &Proof{Nodes: make([]Node, len(nodes)/NodeSize)}
	for i := range p.Nodes {
		copy(p.Nodes[i][:], nodes[i*NodeSize:])
	}
	for len(pairs) > 0 {
		if len(pairs) <= KeySize {
			return nil, badProof("pair %d is cut short", len(p.Pairs))
		}
		pair := Pair{Key: [KeySize]byte(pairs)}
		size, rest, err := jam.CutNat(pairs[KeySize:])
		if err != nil {
			return nil, badProof("pair %d: %w", len(p.Pairs), err)
		}
		if size > uint64(len(rest)) {
			return nil, badProof("pair %d: value of %d bytes in %d", len(p.Pairs), size, len(rest))
		}
		pair.Value, pairs = rest[:size:size], rest[size:]
		p.Pairs = append(p.Pairs, pair)
	}
	return p, nil
}

// VerifyKeys checks a proof of keys, in strictly ascending order, against a
// state's root, and gives their values, nil for a key that the state doesn't have
// (an empty value is not nil). Nothing may be missing from the proof, or be there
// in vain. Errors: ErrProof, ErrOrder.
func VerifyKeys(root forks.Hash, keys [][KeySize]byte, p *Proof) ([][]byte, error) {
	for i := range keys {
		if i > 0 && bytes.Compare(keys[i-1][:], keys[i][:]) >= 0 {
			return nil, fmt.Errorf("verify proof: %w: %x after %x", ErrOrder, keys[i], keys[i-1])
		}
	}
	v := keysVerifier{verifier{nodes: p.Nodes, pairs: p.Pairs}}
	values, err := v.verify(root, false, place{}, keys, make([][]byte, 0, len(keys)))
	if err == nil {
		err = v.done()
	}
	if err != nil {
		return nil, fmt.Errorf("verify proof: %w", err)
	}
	return values, nil
}

// verifier takes nodes and pairs in the order in which a walk from the root comes
// to them.
type verifier struct {
	nodes []Node
	pairs []Pair
}

// node takes the next node, which must have the given hash, as a left child
// without its first bit.
func (v *verifier) node(want forks.Hash, left bool, p place) (*Node, error) {
	if len(v.nodes) == 0 {
		return nil, badProof("the node at depth %d is missing", p.depth)
	}
	n := &v.nodes[0]
	v.nodes = v.nodes[1:]
	if !sameHash(n.Hash(), want, left) {
		return nil, badProof("the node at depth %d has hash %s, want %s", p.depth, n.Hash(), want)
	}
	if !n.IsLeaf() && int(p.depth) == MaxDepth {
		return nil, badProof("a branch at depth %d", p.depth)
	}
	if n.IsLeaf() {
		if key := n.key(); !p.covers(&key) {
			return nil, badProof("the leaf of %x at another place", key)
		}
	}
	return n, nil
}

// sameHash compares a hash with one found in a branch, where a left child's has
// lost its first bit.
func sameHash(got, want forks.Hash, left bool) bool {
	if left {
		got[0] &^= leafBit
	}
	return got == want
}

func (v *verifier) done() error {
	if len(v.nodes) > 0 {
		return badProof("%d nodes too many", len(v.nodes))
	}
	if len(v.pairs) > 0 {
		return badProof("%d pairs too many", len(v.pairs))
	}
	return nil
}

// key is the key of a leaf.
func (n *Node) key() [KeySize]byte { return [KeySize]byte(n[1:]) }

// children are the hashes in a branch; the left one without its first bit.
func (n *Node) children() (left, right forks.Hash) {
	return forks.Hash(n[:forks.HashSize]), forks.Hash(n[forks.HashSize:])
}

// take takes the next pair, which must be that of a leaf.
func (v *verifier) take(leaf *Node) ([]byte, error) {
	if len(v.pairs) == 0 {
		return nil, badProof("the pair of %x is missing", leaf.key())
	}
	p := &v.pairs[0]
	v.pairs = v.pairs[1:]
	if Leaf(p.Key, p.Value) != *leaf {
		return nil, badProof("the pair of %x is not that of the leaf", p.Key)
	}
	if p.Value == nil {
		return []byte{}, nil
	}
	return p.Value, nil
}

type keysVerifier struct{ verifier }

// verify walks the sub-trie at p, whose hash its parent gives, and appends the
// values of keys.
func (v *keysVerifier) verify(hash forks.Hash, left bool, p place, keys [][KeySize]byte, values [][]byte) ([][]byte, error) {
	if len(keys) == 0 {
		return values, nil
	}
	if hash == (forks.Hash{}) {
		return append(values, make([][]byte, len(keys))...), nil
	}
	n, err := v.node(hash, left, p)
	if err != nil {
		return nil, err
	}
	if n.IsLeaf() {
		for i := range keys {
			var value []byte
			if keys[i] == n.key() {
				if value, err = v.take(n); err != nil {
					return nil, err
				}
			}
			values = append(values, value)
		}
		return values, nil
	}
	lh, rh := n.children()
	lkeys, rkeys := split(p, keys, func(k *[KeySize]byte) *[KeySize]byte { return k })
	if values, err = v.verify(lh, true, p.child(0), lkeys, values); err != nil {
		return nil, err
	}
	return v.verify(rh, false, p.child(1), rkeys, values)
}

// RangeRequest asks for the pairs with keys from Start to End, both included; the
// keys need not exist. As CE 129 has it, an answer takes MaxSize bytes at most, of
// nodes and pairs, unless it has one pair (or none: it can't be smaller then).
type RangeRequest struct {
	Start, End [KeySize]byte
	MaxSize    uint32
}

// VerifyRange checks the answer to a range request against a state's root: its
// pairs are exactly those of the state from the start to the last one given. more
// says whether the state may have others above, up to the end; ask for those with
// Start one above the last key. Errors: ErrProof; ErrOrder where the request's
// start is above its end.
//
// An answer without pairs proves where the start would be, so only that key is
// known to be absent where more is true.
func VerifyRange(root forks.Hash, req RangeRequest, p *Proof) (more bool, err error) {
	if bytes.Compare(req.Start[:], req.End[:]) > 0 {
		return false, fmt.Errorf("verify range: %w: start %x is above end %x", ErrOrder, req.Start, req.End)
	}
	v := rangeVerifier{verifier: verifier{nodes: p.Nodes, pairs: p.Pairs}, start: req.Start, last: req.Start, end: req.End}
	for i := range p.Pairs {
		key := &p.Pairs[i].Key
		if bytes.Compare(key[:], req.Start[:]) < 0 || bytes.Compare(key[:], req.End[:]) > 0 {
			err = badProof("key %x is outside of the range", key)
		}
		if i > 0 && bytes.Compare(v.last[:], key[:]) >= 0 {
			err = badProof("key %x after %x", key, v.last)
		}
		v.last = *key
	}
	if size := p.Size(); err == nil && uint64(size) > uint64(req.MaxSize) && len(p.Pairs) > 1 {
		err = badProof("%d bytes, asked for at most %d", size, req.MaxSize)
	}
	if err == nil {
		err = v.verify(root, false, place{})
	}
	if err == nil {
		err = v.done()
	}
	if err != nil {
		return false, fmt.Errorf("verify range: %w", err)
	}
	return v.more, nil
}

type rangeVerifier struct {
	verifier
	start, last, end [KeySize]byte
	more             bool
}

// verify walks the sub-trie at p, whose hash its parent gives.
func (v *rangeVerifier) verify(hash forks.Hash, left bool, p place) error {
	first, final := p.bits, p.last()
	switch {
	case bytes.Compare(final[:], v.start[:]) < 0:
		return nil
	case bytes.Compare(first[:], v.last[:]) > 0:
		if hash != (forks.Hash{}) && bytes.Compare(first[:], v.end[:]) <= 0 {
			v.more = true
		}
		return nil
	case !p.covers(&v.start) && !p.covers(&v.last):
		return v.inside(hash, left, p)
	case hash == (forks.Hash{}):
		return nil
	}
	n, err := v.node(hash, left, p)
	if err != nil {
		return err
	}
	if !n.IsLeaf() {
		lh, rh := n.children()
		if err := v.verify(lh, true, p.child(0)); err != nil {
			return err
		}
		return v.verify(rh, false, p.child(1))
	}
	key := n.key()
	switch {
	case bytes.Compare(key[:], v.start[:]) < 0:
	case bytes.Compare(key[:], v.last[:]) > 0:
		if bytes.Compare(key[:], v.end[:]) <= 0 {
			v.more = true
		}
	default:
		_, err = v.take(n)
	}
	return err
}

// inside checks a sub-trie that lies wholly in the range: it is computed from the
// pairs.
func (v *rangeVerifier) inside(hash forks.Hash, left bool, p place) error {
	var list []entry
	for len(v.pairs) > 0 && p.covers(&v.pairs[0].Key) {
		pair := &v.pairs[0]
		list = append(list, entry{pair.Key, Leaf(pair.Key, pair.Value).Hash()})
		v.pairs = v.pairs[1:]
	}
	if got := entriesRoot(int(p.depth), list); !sameHash(got, hash, left && len(list) > 0) {
		return badProof("the pairs below %x, depth %d, are not those of the state", p.bits, p.depth)
	}
	return nil
}

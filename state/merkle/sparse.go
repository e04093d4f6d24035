package merkle

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"

	"accessor/forks"

	"golang.org/x/crypto/blake2b"
)

// Nodes is what is known of a trie: nodes by NodeKey of their hashes, and values
// too long for their leaves by their hashes. What it gives is compared with the hash
// that it was asked for; anything else counts as not known.
type Nodes interface {
	Node(key forks.Hash) (n Node, known bool, err error)
	Value(hash forks.Hash) (value []byte, known bool, err error)
}

// NodeKey is the name under which nodes are kept: the hash without its first bit,
// which a branch doesn't tell of its left child.
func NodeKey(hash forks.Hash) forks.Hash {
	hash[0] &^= leafBit
	return hash
}

// MissingError says what has to be known of a trie to go on: proofs of these keys, in
// ascending order, against the root that was asked about bring it. They may be keys
// that nobody asked for.
type MissingError struct {
	Keys [][KeySize]byte
}

// Error implements error.
func (e *MissingError) Error() string {
	if len(e.Keys) == 1 {
		return fmt.Sprintf("the nodes on the way to key %x are not known", e.Keys[0])
	}
	return fmt.Sprintf("the nodes on the way to %d keys are not known", len(e.Keys))
}

// known gives the node of a hash, or of one that has lost its first bit.
func known(nodes Nodes, hash forks.Hash) (Node, bool, error) {
	n, ok, err := nodes.Node(NodeKey(hash))
	return n, ok && err == nil && NodeKey(n.Hash()) == NodeKey(hash), err
}

// ValueOf gives the value that a leaf holds itself, or the hash of one that is too
// long for that.
func (n Node) ValueOf() (value []byte, hash forks.Hash, embedded bool) {
	if n[0]&hashedBit != 0 {
		return nil, forks.Hash(n[1+KeySize:]), false
	}
	size := min(int(n[0]&^(leafBit|hashedBit)), MaxEmbedded)
	return bytes.Clone(n[1+KeySize : 1+KeySize+size]), hash, true
}

// SparseGet gives the value of a key in the state with a root, as far as its trie is
// known; present is false where the trie shows that there is no such key. Errors: a
// *MissingError, ErrDamaged, and those of nodes.
func SparseGet(nodes Nodes, root forks.Hash, key [KeySize]byte) (value []byte, present bool, err error) {
	leaf, err := sparseLeaf(nodes, root, key)
	if err != nil || leaf == nil || leaf.key() != key {
		return nil, false, err
	}
	value, hash, embedded := leaf.ValueOf()
	if embedded {
		return value, true, nil
	}
	value, ok, err := nodes.Value(hash)
	if err != nil {
		return nil, false, err
	}
	if !ok || blake2b.Sum256(value) != hash {
		return nil, false, &MissingError{Keys: [][KeySize]byte{key}}
	}
	return value, true, nil
}

// sparseLeaf goes the way to a key and gives the leaf at its end, which may be another
// key's; nil where there is none.
func sparseLeaf(nodes Nodes, hash forks.Hash, key [KeySize]byte) (*Node, error) {
	for depth := 0; hash != (forks.Hash{}); depth++ {
		n, ok, err := known(nodes, hash)
		switch {
		case err != nil:
			return nil, err
		case !ok:
			return nil, &MissingError{Keys: [][KeySize]byte{key}}
		case n.IsLeaf():
			return &n, nil
		case depth == MaxDepth:
			return nil, tooDeep(key)
		}
		left, right := n.children()
		if hash = left; bit(&key, depth) == 1 {
			hash = right
		}
	}
	return nil, nil
}

func tooDeep(key [KeySize]byte) error {
	return fmt.Errorf("%w: a branch at depth %d on the way to key %x", ErrDamaged, MaxDepth, key)
}

// SparseUpdate gives the root after a write set, in strictly ascending key order, on
// the state with a root, of whose trie some nodes are known, and the nodes that the
// new trie has more. To delete a key may need its neighbour's node. Errors: a
// *MissingError, which names all that is missing as far as can be told; ErrKeySize,
// ErrOrder, ErrDamaged, and those of nodes.
func SparseUpdate(nodes Nodes, root forks.Hash, writes []Write) (after forks.Hash, added []Node, err error) {
	ops := make([]sparseOp, len(writes))
	for i, w := range writes {
		if len(w.Key) != KeySize {
			return after, nil, fmt.Errorf("update trie: %w: %d bytes", ErrKeySize, len(w.Key))
		}
		if i > 0 && bytes.Compare(writes[i-1].Key, w.Key) >= 0 {
			return after, nil, fmt.Errorf("update trie: %w: %x after %x", ErrOrder, w.Key, writes[i-1].Key)
		}
		ops[i] = sparseOp{key: [KeySize]byte(w.Key), remove: w.Delete}
		if !w.Delete {
			ops[i].leaf = Leaf(ops[i].key, w.Value)
		}
	}
	u := sparseUpdater{nodes: nodes}
	top := u.update(root, place{}, ops)
	switch {
	case u.err != nil:
		return after, nil, fmt.Errorf("update trie: %w", u.err)
	case len(u.missing) > 0:
		slices.SortFunc(u.missing, func(a, b [KeySize]byte) int { return bytes.Compare(a[:], b[:]) })
		return after, nil, &MissingError{Keys: slices.Compact(u.missing)}
	}
	return top.hash, u.added, nil
}

// sparseOp is a write, or a leaf that is there.
type sparseOp struct {
	key    [KeySize]byte
	leaf   Node
	remove bool
}

func sparseBits(o *sparseOp) *[KeySize]byte { return &o.key }

// sparseSub is a sub-trie after an update: its hash, zero where nothing is left; and
// its node where that is known. A left child that hasn't changed has no first bit.
type sparseSub struct {
	hash forks.Hash
	node *Node
}

type sparseUpdater struct {
	nodes   Nodes
	added   []Node
	missing [][KeySize]byte
	err     error
}

func (u *sparseUpdater) open(hash forks.Hash) (Node, bool) {
	n, ok, err := known(u.nodes, hash)
	u.err = cmp.Or(u.err, err)
	return n, ok
}

// update gives the sub-trie with a hash at p after ops. Where something is missing,
// it goes on as far as it can to find what else is, and what it gives means nothing.
func (u *sparseUpdater) update(hash forks.Hash, p place, ops []sparseOp) sparseSub {
	same := sparseSub{hash: hash}
	switch {
	case len(ops) == 0 || u.err != nil:
		return same
	case hash == forks.Hash{}:
		return u.build(p, sparseApply(nil, ops))
	}
	n, ok := u.open(hash)
	if !ok {
		for i := range ops {
			u.missing = append(u.missing, ops[i].key)
		}
		return same
	}
	if n.IsLeaf() {
		return u.build(p, sparseApply(&n, ops))
	}
	if int(p.depth) == MaxDepth {
		u.err = cmp.Or(u.err, tooDeep(ops[0].key))
		return same
	}
	same.node = &n
	before := len(u.missing)
	lh, rh := n.children()
	lops, rops := split(p, ops, sparseBits)
	left, right := u.update(lh, p.child(0), lops), u.update(rh, p.child(1), rops)
	switch {
	case len(u.missing) > before, NodeKey(left.hash) == lh && right.hash == rh:
		return same
	case left.hash == forks.Hash{}:
		return u.lone(right, p, 1)
	case right.hash == forks.Hash{}:
		return u.lone(left, p, 0)
	}
	return u.add(Branch(left.hash, right.hash))
}

// lone gives the sub-trie at p of which one side is left alone: a leaf moves up, a
// branch stays where it is.
func (u *sparseUpdater) lone(s sparseSub, p place, side byte) sparseSub {
	if s.hash == (forks.Hash{}) {
		return s
	}
	if s.node == nil {
		n, ok := u.open(s.hash)
		if !ok {
			u.missing = append(u.missing, p.child(side).bits)
			return s
		}
		s.node = &n
	}
	switch {
	case s.node.IsLeaf():
		return sparseSub{s.node.Hash(), s.node}
	case side == 0:
		return u.add(Branch(s.hash, forks.Hash{}))
	}
	return u.add(Branch(forks.Hash{}, s.hash))
}

func (u *sparseUpdater) add(n Node) sparseSub {
	u.added = append(u.added, n)
	return sparseSub{n.Hash(), &n}
}

// build gives the sub-trie of sorted leaves at p.
func (u *sparseUpdater) build(p place, leaves []sparseOp) sparseSub {
	switch len(leaves) {
	case 0:
		return sparseSub{}
	case 1:
		return u.add(leaves[0].leaf)
	}
	l, r := split(p, leaves, sparseBits)
	left, right := u.build(p.child(0), l), u.build(p.child(1), r)
	return u.add(Branch(left.hash, right.hash))
}

// sparseApply gives the leaves where there was one, or none, after ops.
func sparseApply(old *Node, ops []sparseOp) (leaves []sparseOp) {
	kept := sparseOp{remove: true} // nothing
	if old != nil {
		kept = sparseOp{key: old.key(), leaf: *old}
	}
	for _, o := range ops {
		if !kept.remove {
			switch order := bytes.Compare(kept.key[:], o.key[:]); {
			case order < 0:
				leaves = append(leaves, kept)
				kept.remove = true
			case order == 0:
				kept.remove = true
			}
		}
		if !o.remove {
			leaves = append(leaves, o)
		}
	}
	if !kept.remove {
		leaves = append(leaves, kept)
	}
	return leaves
}

// SparseProve gives the proof of keys, in strictly ascending order, from what is known
// of a trie. Values too long for their leaves come from values. Errors: a
// *MissingError with all keys of which something is missing, ErrOrder, ErrDamaged, and
// those of nodes and values.
func SparseProve(nodes Nodes, root forks.Hash, keys [][KeySize]byte, values Values) (*Proof, error) {
	for i := range keys {
		if i > 0 && bytes.Compare(keys[i-1][:], keys[i][:]) >= 0 {
			return nil, fmt.Errorf("prove: %w: %x after %x", ErrOrder, keys[i], keys[i-1])
		}
	}
	p := sparseProver{nodes: nodes, values: values}
	if err := p.walk(root, place{}, keys); err != nil {
		return nil, fmt.Errorf("prove: %w", err)
	}
	if len(p.missing) > 0 {
		return nil, &MissingError{Keys: p.missing}
	}
	return &p.Proof, nil
}

type sparseProver struct {
	Proof
	nodes   Nodes
	values  Values
	missing [][KeySize]byte
}

func (s *sparseProver) walk(hash forks.Hash, p place, keys [][KeySize]byte) error {
	if len(keys) == 0 || hash == (forks.Hash{}) {
		return nil
	}
	n, ok, err := known(s.nodes, hash)
	switch {
	case err != nil:
		return err
	case !ok:
		s.missing = append(s.missing, keys...)
		return nil
	}
	s.Nodes = append(s.Nodes, n)
	if n.IsLeaf() {
		return s.leaf(n, keys)
	}
	if int(p.depth) == MaxDepth {
		return tooDeep(keys[0])
	}
	lh, rh := n.children()
	lkeys, rkeys := split(p, keys, func(k *[KeySize]byte) *[KeySize]byte { return k })
	if err := s.walk(lh, p.child(0), lkeys); err != nil {
		return err
	}
	return s.walk(rh, p.child(1), rkeys)
}

func (s *sparseProver) leaf(n Node, keys [][KeySize]byte) error {
	key := n.key()
	if !slices.Contains(keys, key) {
		return nil
	}
	value, _, embedded := n.ValueOf()
	if !embedded {
		var present bool
		var err error
		if value, present, err = s.values(key[:]); err != nil {
			return err
		}
		if !present || Leaf(key, value) != n {
			s.missing = append(s.missing, key)
			return nil
		}
	}
	s.Pairs = append(s.Pairs, Pair{key, value})
	return nil
}

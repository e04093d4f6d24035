package merkle

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"

	"accessor/forks"
)

// cursor is a sub-trie, whatever it is kept as.
type cursor struct {
	t *Trie
	place
	// One of these, by kind: a vertex of the top, parts of a group, or entries of
	// a page.
	kind    cursorKind
	v       *vertex
	parts   parts
	entries []entry
}

type cursorKind uint8

const (
	inTop cursorKind = iota
	inGroup
	inPage
)

func (t *Trie) cursor() cursor { return cursor{t: t, v: t.top} }

// open reads what is needed to tell the children.
func (c cursor) open() (cursor, error) {
	var err error
	if c.kind == inTop && c.v != nil && c.v.isGroup() {
		c.kind = inGroup
		if c.parts, err = c.t.group(c.v, c.place); err != nil {
			return c, err
		}
	}
	if c.kind == inGroup && c.parts.isPage() {
		c.kind = inPage
		c.entries, err = c.t.entries(c.place, c.parts[0])
	}
	return c, err
}

func (c cursor) sum() (count int, hash forks.Hash) {
	switch c.kind {
	case inGroup:
		return c.parts.count(), c.parts.hash()
	case inPage:
		return len(c.entries), entriesRoot(int(c.depth), c.entries)
	}
	return countOf(c.v), hashOf(c.v)
}

// children gives the two sides of a sub-trie with more than one key.
func (c cursor) children() (left, right cursor, err error) {
	if c, err = c.open(); err != nil {
		return left, right, err
	}
	left, right = c, c
	left.place, right.place = c.child(0), c.child(1)
	switch c.kind {
	case inTop:
		left.v, right.v = c.v.left, c.v.right
	case inGroup:
		left.parts, right.parts = c.parts.children()
	case inPage:
		left.entries, right.entries = split(c.place, c.entries, entryBits)
	}
	return left, right, nil
}

// Values gives the value of a key of the trie's state.
type Values func(key []byte) (value []byte, present bool, err error)

// Prove gives the proof of keys, in strictly ascending order, present or not.
// Errors: ErrOrder, ErrDamaged, and those of the source and values.
func (t *Trie) Prove(keys [][KeySize]byte, values Values) (*Proof, error) {
	for i := range keys {
		if i > 0 && bytes.Compare(keys[i-1][:], keys[i][:]) >= 0 {
			return nil, fmt.Errorf("prove: %w: %x after %x", ErrOrder, keys[i], keys[i-1])
		}
	}
	var p prover
	p.values = values
	if err := p.walk(t.cursor(), keys, true); err != nil {
		return nil, fmt.Errorf("prove: %w", err)
	}
	return &p.Proof, nil
}

type prover struct {
	Proof
	values Values
}

// walk adds the nodes on the way to keys and, if asked, the pairs of those that
// are there.
func (p *prover) walk(c cursor, keys [][KeySize]byte, pairs bool) error {
	count, _ := c.sum()
	if count == 0 || len(keys) == 0 {
		return nil
	}
	if count == 1 {
		return p.leaf(c, keys, pairs)
	}
	left, right, err := c.children()
	if err != nil {
		return err
	}
	_, lh := left.sum()
	_, rh := right.sum()
	p.Nodes = append(p.Nodes, Branch(lh, rh))
	lkeys, rkeys := split(c.place, keys, func(k *[KeySize]byte) *[KeySize]byte { return k })
	if err := p.walk(left, lkeys, pairs); err != nil {
		return err
	}
	return p.walk(right, rkeys, pairs)
}

func (p *prover) leaf(c cursor, keys [][KeySize]byte, pairs bool) error {
	c, err := c.open()
	if err != nil {
		return err
	}
	if c.kind != inPage || len(c.entries) != 1 {
		return fmt.Errorf("%w: no page of one key at %x, depth %d", ErrDamaged, c.bits, c.depth)
	}
	e := &c.entries[0]
	value, present, err := p.values(e.key[:])
	if err != nil {
		return err
	}
	node := Leaf(e.key, value)
	if !present || node.Hash() != e.leaf {
		return fmt.Errorf("%w: the state's value of %x is not that of its leaf", ErrDamaged, e.key)
	}
	p.Nodes = append(p.Nodes, node)
	if pairs && slices.Contains(keys, e.key) {
		p.Pairs = append(p.Pairs, Pair{e.key, value})
	}
	return nil
}

// Walk calls yield for the state's pairs with keys at or above from, in order,
// until it gives false. The slices are valid during the call.
type Walk func(from []byte, yield func(key, value []byte) bool) error

// ProveRange answers a range request. It stops at the first pair that doesn't fit,
// and gives one pair in any case, if there is one. Errors: ErrOrder where the
// start is above the end, ErrDamaged, and those of the source, values and walk.
func (t *Trie) ProveRange(req RangeRequest, values Values, walk Walk) (*Proof, error) {
	if bytes.Compare(req.Start[:], req.End[:]) > 0 {
		return nil, fmt.Errorf("prove range: %w: start %x is above end %x", ErrOrder, req.Start, req.End)
	}
	var start prover
	start.values = values
	if err := start.walk(t.cursor(), [][KeySize]byte{req.Start}, false); err != nil {
		return nil, fmt.Errorf("prove range: %w", err)
	}
	pairs, err := t.fit(req, len(start.Nodes), walk)
	if err != nil {
		return nil, fmt.Errorf("prove range: %w", err)
	}
	edges := [][KeySize]byte{req.Start}
	if len(pairs) > 0 && pairs[len(pairs)-1].Key != req.Start {
		edges = append(edges, pairs[len(pairs)-1].Key)
	}
	var p prover
	p.values = values
	if err := p.walk(t.cursor(), edges, false); err != nil {
		return nil, fmt.Errorf("prove range: %w", err)
	}
	p.Pairs = pairs
	return &p.Proof, nil
}

// fit gives the pairs that an answer has room for beside its nodes: those on the
// way to the start, of which there are so many, and to the last pair.
func (t *Trie) fit(req RangeRequest, startPath int, walk Walk) (pairs []Pair, err error) {
	budget := int(req.MaxSize)
	size := 0 // of pairs
	// A key's leaf hangs below the deepest branch that it shares with a
	// neighbour, so the way to it is known when the next key is.
	before := -1 // bits that the last pair shares with the key before it
	fits := func(after int) bool {
		last := &pairs[len(pairs)-1]
		path := max(before, after) + 2
		shared := min(commonBits(&req.Start, &last.Key)+1, path, startPath)
		return size+NodeSize*(startPath+path-shared) <= budget
	}
	var failed error
	dropLast := func() { pairs = pairs[:len(pairs)-1] }
	ended := true // the state, not the room
	err = walk(req.Start[:], func(k, v []byte) bool {
		ended = false
		if len(k) != KeySize {
			failed = fmt.Errorf("%w: %d bytes", ErrKeySize, len(k))
			return false
		}
		key := [KeySize]byte(k)
		if len(pairs) > 0 {
			common := commonBits(&pairs[len(pairs)-1].Key, &key)
			if len(pairs) > 1 && !fits(common) {
				dropLast()
				return false
			}
			before = common
		}
		if bytes.Compare(k, req.End[:]) > 0 {
			return false
		}
		pair := Pair{key, bytes.Clone(v)}
		if len(pairs) > 0 && size+pair.size() > budget {
			return false
		}
		pairs = append(pairs, pair)
		size += pair.size()
		ended = true
		return true
	})
	if ended && len(pairs) > 1 && !fits(-1) {
		dropLast()
	}
	return pairs, cmp.Or(failed, err)
}

package merkle

import (
	"fmt"

	"accessor/forks"
)

// part is a sub-trie within a group: a branch, or a page.
type part struct {
	hash  forks.Hash
	count uint32 // of keys; pageKeys at most in a page, more in a branch
	left  uint32 // of a branch: how many parts its left side has
}

// parts is a sub-trie within a group as a list without pointers, of which there
// are too many for a garbage collector: the sub-trie itself, its left side, its
// right side. It is empty for no keys, and never changed once it is in use.
type parts []part

func (s parts) hash() forks.Hash {
	if len(s) == 0 {
		return forks.Hash{}
	}
	return s[0].hash
}

func (s parts) count() int {
	if len(s) == 0 {
		return 0
	}
	return int(s[0].count)
}

func (s parts) isPage() bool { return len(s) > 0 && s[0].count <= pageKeys }

// children gives the two sides of a branch.
func (s parts) children() (left, right parts) {
	middle := 1 + s[0].left
	return s[1:middle:middle], s[middle:]
}

// finish makes the branch s[at], whose left side starts after it and whose right
// side at middle.
func (s parts) finish(at, middle int) {
	left, right := s[at+1:middle], s[middle:]
	s[at] = part{
		hash:  Branch(left.hash(), right.hash()).Hash(),
		count: uint32(left.count() + right.count()),
		left:  uint32(len(left)),
	}
}

// split cuts a list of things below p where the bit at p's depth turns to 1.
func split[T any](p place, list []T, bits func(*T) *[KeySize]byte) (left, right []T) {
	i := 0
	for i < len(list) && bit(bits(&list[i]), int(p.depth)) == 0 {
		i++
	}
	return list[:i], list[i:]
}

func pageBits(pg *page) *[KeySize]byte  { return &pg.bits }
func entryBits(e *entry) *[KeySize]byte { return &e.key }
func opBits(o *op) *[KeySize]byte       { return &o.key }

// fold appends the sub-trie at p that has the pages.
func fold(out parts, p place, list []page) (parts, error) {
	switch {
	case len(list) == 0:
		return out, nil
	case len(list) == 1 && list[0].place == p:
		return append(out, part{hash: list[0].root, count: uint32(list[0].count)}), nil
	case list[0].depth <= p.depth:
		return nil, fmt.Errorf("%w: page %x at depth %d", ErrDamaged, list[0].bits, list[0].depth)
	}
	at := len(out)
	l, r := split(p, list, pageBits)
	out, err := fold(append(out, part{}), p.child(0), l)
	if err != nil {
		return nil, err
	}
	middle := len(out)
	if out, err = fold(out, p.child(1), r); err != nil {
		return nil, err
	}
	if out.finish(at, middle); out[at:].isPage() {
		return nil, fmt.Errorf("%w: pages of %d keys below %x", ErrDamaged, out[at].count, p.bits)
	}
	return out, nil
}

package merkle

import (
	"bytes"
	"fmt"
	"iter"

	"accessor/forks"
)

// Build computes the trie of the state that pairs yields, as Root does, and calls
// emit for each of its records, in order of their keys. It keeps no more than the
// groups in memory. Errors: ErrKeySize, ErrOrder, and emit's.
func Build(pairs iter.Seq2[[]byte, []byte], emit func(key, value []byte) error) (forks.Hash, error) {
	next, stop := iter.Pull2(pairs)
	defer stop()
	b := builder{next: next, emit: emit}
	top, err := b.build(place{})
	if err == nil {
		err = b.emitGroups()
	}
	if err != nil {
		return forks.Hash{}, fmt.Errorf("build trie: %w", err)
	}
	return hashOf(top), nil
}

type builder struct {
	next func() (key, value []byte, ok bool)
	emit func(key, value []byte) error

	ahead  []entry // read, not yet built: at most one more than a group
	last   [KeySize]byte
	read   int // pairs
	ended  bool
	groups []group
}

// build makes the sub-trie at p, of which all keys before it have been taken.
func (b *builder) build(p place) (*vertex, error) {
	inside, err := b.fill(p)
	if err != nil || inside == 0 {
		return nil, err
	}
	if inside > groupKeys {
		left, err := b.build(p.child(0))
		if err != nil {
			return nil, err
		}
		right, err := b.build(p.child(1))
		if err != nil {
			return nil, err
		}
		return newBranch(left, right), nil
	}
	root, err := b.pages(p, b.ahead[:inside])
	if err != nil {
		return nil, err
	}
	b.ahead = append(b.ahead[:0], b.ahead[inside:]...)
	v := &vertex{hash: root, count: inside}
	b.groups = append(b.groups, group{p, v})
	return v, nil
}

// fill reads ahead until it knows whether p has more keys than a group may, and
// gives their number, or one more than a group's.
func (b *builder) fill(p place) (inside int, err error) {
	for {
		for inside < len(b.ahead) && p.covers(&b.ahead[inside].key) {
			inside++
		}
		if inside < len(b.ahead) || inside > groupKeys || b.ended {
			return inside, nil
		}
		if err := b.readOne(); err != nil {
			return 0, err
		}
	}
}

func (b *builder) readOne() error {
	k, v, ok := b.next()
	if !ok {
		b.ended = true
		return nil
	}
	if len(k) != KeySize {
		return fmt.Errorf("pair %d: %w: %d bytes", b.read, ErrKeySize, len(k))
	}
	key := [KeySize]byte(k)
	if b.read > 0 && bytes.Compare(b.last[:], k) >= 0 {
		return fmt.Errorf("pair %d: %w: %x after %x", b.read, ErrOrder, k, b.last)
	}
	b.last, b.read = key, b.read+1
	b.ahead = append(b.ahead, entry{key, Leaf(key, v).Hash()})
	return nil
}

// pages emits the pages of sorted entries below p.
func (b *builder) pages(p place, list []entry) (forks.Hash, error) {
	if len(list) == 0 {
		return forks.Hash{}, nil
	}
	if len(list) <= pageKeys {
		return entriesRoot(int(p.depth), list), b.emit(pageRecord(p, list))
	}
	l, r := split(p, list, entryBits)
	left, err := b.pages(p.child(0), l)
	if err != nil {
		return forks.Hash{}, err
	}
	right, err := b.pages(p.child(1), r)
	return Branch(left, right).Hash(), err
}

func (b *builder) emitGroups() error {
	for _, g := range b.groups {
		if err := b.emit(groupRecord(g.place, g.v.count, g.v.hash)); err != nil {
			return err
		}
	}
	return nil
}

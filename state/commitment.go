package state

import (
	"bytes"
	"fmt"
	"iter"

	"accessor/checkpoint"
	"accessor/forks"
	"accessor/jam"
	"accessor/state/merkle"
)

// Commitment is how a chain commits to a state: by which root, and in which
// form its blocks come. A store is made with one and keeps it.
type Commitment interface {
	// Name is what the store remembers the commitment by.
	Name() string
	// Check refuses a block whose keys or header don't have the chain's form, and
	// gives the block with what its header states and its fields leave out.
	Check(b *Block) (*Block, error)
	// KeySize is the length of every key in bytes; 0 where they differ.
	KeySize() int
	// Rooted says whether Root computes anything. Otherwise the roots that
	// blocks state are kept as they are, unchecked.
	Rooted() bool
	// Root computes the root of a state from all its pairs in strictly
	// ascending key order.
	Root(pairs iter.Seq2[[]byte, []byte]) (forks.Hash, error)
	// Build computes the root as Root does, and calls emit for each record of the
	// state's trie, in order of their keys; emit may keep the slices.
	Build(pairs iter.Seq2[[]byte, []byte], emit func(key, value []byte) error) (forks.Hash, error)
}

// Commitments by name.
var commitments = map[string]Commitment{JAM{}.Name(): JAM{}, None{}.Name(): None{}}

// CommitmentByName gives the commitment that a store remembers; ok is false for
// a name that this program doesn't know.
func CommitmentByName(name string) (c Commitment, ok bool) {
	c, ok = commitments[name]
	return c, ok
}

// JAM commits by the binary Merkle trie of Gray Paper appendix D: 31-byte keys,
// BLAKE2b-256. A header, where a block has one, must hash to the block's hash
// and agree with its fields.
type JAM struct{}

// Name implements Commitment.
func (JAM) Name() string { return "jam" }

// KeySize implements Commitment.
func (JAM) KeySize() int { return merkle.KeySize }

// Rooted implements Commitment.
func (JAM) Rooted() bool { return true }

// Root implements Commitment.
func (JAM) Root(pairs iter.Seq2[[]byte, []byte]) (forks.Hash, error) { return merkle.Root(pairs) }

// Build implements Commitment.
func (JAM) Build(pairs iter.Seq2[[]byte, []byte], emit func(key, value []byte) error) (forks.Hash, error) {
	return merkle.Build(pairs, emit)
}

// Check implements Commitment.
func (JAM) Check(b *Block) (*Block, error) {
	for _, p := range b.Puts {
		if len(p.Key) != merkle.KeySize {
			return nil, fmt.Errorf("%w: key %s has %d bytes, want %d", ErrInvalid, keyText(p.Key), len(p.Key), merkle.KeySize)
		}
	}
	for _, key := range b.Dels {
		if len(key) != merkle.KeySize {
			return nil, fmt.Errorf("%w: key %s has %d bytes, want %d", ErrInvalid, keyText(key), len(key), merkle.KeySize)
		}
	}
	if b.Header == nil {
		return b, nil
	}
	return checkHeader(b)
}

// keyText shows a key whose length nobody has checked yet.
func keyText(key []byte) string {
	const most = 64
	if len(key) <= most {
		return fmt.Sprintf("%x", key)
	}
	return fmt.Sprintf("%x…", key[:most])
}

func checkHeader(b *Block) (*Block, error) {
	if hash := jam.HeaderHash(b.Header); hash != b.Hash {
		return nil, fmt.Errorf("%w: header hashes to %s, block says %s", ErrInvalid, hash, b.Hash)
	}
	h, err := jam.ParseHeader(b.Header)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	switch {
	case h.Parent != b.Parent:
		return nil, fmt.Errorf("%w: header has parent %s, block says %s", ErrInvalid, h.Parent, b.Parent)
	case h.Slot != b.Slot:
		return nil, fmt.Errorf("%w: header has slot %d, block says %d", ErrInvalid, h.Slot, b.Slot)
	case b.PriorRoot != nil && h.PriorRoot != *b.PriorRoot:
		return nil, fmt.Errorf("%w: header has prior root %s, block says %s", ErrInvalid, h.PriorRoot, *b.PriorRoot)
	}
	stated := *b
	stated.PriorRoot = &h.PriorRoot
	return &stated, nil
}

// None commits to nothing: any keys, roots unchecked.
type None struct{}

// Name implements Commitment.
func (None) Name() string { return "none" }

// KeySize implements Commitment.
func (None) KeySize() int { return 0 }

// Rooted implements Commitment.
func (None) Rooted() bool { return false }

// Check implements Commitment.
func (None) Check(b *Block) (*Block, error) { return b, nil }

// Build implements Commitment. It has no records.
func (n None) Build(pairs iter.Seq2[[]byte, []byte], _ func(key, value []byte) error) (forks.Hash, error) {
	return n.Root(pairs)
}

// Root implements Commitment. It gives the zero hash.
func (None) Root(pairs iter.Seq2[[]byte, []byte]) (forks.Hash, error) {
	for range pairs {
		continue
	}
	return forks.Hash{}, nil
}

// overlay yields the pairs of a state with a write set applied, in key order.
func overlay(it *checkpoint.StateIterator, ws checkpoint.WriteSet) iter.Seq2[[]byte, []byte] {
	return func(yield func([]byte, []byte) bool) {
		more := it.Next()
		for more || len(ws) > 0 {
			order := -1
			switch {
			case !more:
				order = 1
			case len(ws) > 0:
				order = bytes.Compare(it.Key(), ws[0].Key)
			}
			if order < 0 {
				if !yield(it.Key(), it.Value()) {
					return
				}
				more = it.Next()
				continue
			}
			if order == 0 {
				more = it.Next()
			}
			if w := ws[0]; !w.Delete && !yield(w.Key, w.Value) {
				return
			}
			ws = ws[1:]
		}
	}
}

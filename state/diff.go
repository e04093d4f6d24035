package state

import (
	"bytes"
	"context"
	"fmt"
	"slices"

	"accessor/forks"
)

// Difference is a key that differs between two states. A nil value means that
// the state doesn't have the key.
type Difference struct {
	Key  []byte
	A, B []byte
}

// Diff gives the keys that differ between the states at two blocks, in key
// order, and their common ancestor. It reads only what the blocks between
// wrote. Errors: ErrUnknownBlock, and the store's.
func (a *Accessor) Diff(ctx context.Context, from, to forks.Hash) (diff []Difference, common forks.Block, err error) {
	ctx, end, err := a.begin(ctx)
	if err != nil {
		return nil, common, err
	}
	defer end()
	keys, common, err := a.written(ctx, from, to)
	if err != nil {
		return nil, common, err
	}
	va, err := a.View(ctx, from)
	if err != nil {
		return nil, common, err
	}
	defer va.Close()
	vb, err := a.View(ctx, to)
	if err != nil {
		return nil, common, err
	}
	defer vb.Close()
	for _, key := range keys {
		x, inA, err := va.Get([]byte(key))
		if err != nil {
			return nil, common, err
		}
		y, inB, err := vb.Get([]byte(key))
		if err != nil {
			return nil, common, err
		}
		if inA != inB || !bytes.Equal(x, y) {
			diff = append(diff, Difference{Key: []byte(key), A: valueOrNil(x, inA), B: valueOrNil(y, inB)})
		}
	}
	return diff, common, nil
}

// valueOrNil keeps an empty value apart from none.
func valueOrNil(v []byte, present bool) []byte {
	switch {
	case !present:
		return nil
	case v == nil:
		return []byte{}
	}
	return v
}

// written gives the keys that the blocks between two blocks wrote, sorted.
func (a *Accessor) written(ctx context.Context, from, to forks.Hash) (keys []string, common forks.Block, err error) {
	var undo, apply []forks.Block
	a.ReadTree(func(t *forks.Tree) {
		if common, err = t.CommonAncestor(from, to); err == nil {
			undo, apply, err = t.Path(from, to)
		}
	})
	if err != nil {
		return nil, common, fmt.Errorf("%w: %w", ErrUnknownBlock, err)
	}
	for _, b := range slices.Concat(undo, apply) {
		if err := context.Cause(ctx); err != nil {
			return nil, common, err
		}
		writes, err := a.store.ReadDelta(b.Hash)
		if err != nil {
			return nil, common, err
		}
		for w, err := range writes {
			if err != nil {
				return nil, common, err
			}
			keys = append(keys, string(w.Key))
		}
	}
	slices.Sort(keys)
	return slices.Compact(keys), common, nil
}

// Changes gives what a block wrote, in key order: a nil value stands for a delete.
// Of the anchor, which has all of its state, it gives an error of kind ErrInvalid.
// Errors: ErrUnknownBlock, and the store's.
func (a *Accessor) Changes(ctx context.Context, h forks.Hash) (forks.Block, []Pair, error) {
	_, end, err := a.begin(ctx)
	if err != nil {
		return forks.Block{}, nil, err
	}
	defer end()
	b, err := a.Block(h)
	if err != nil {
		return b, nil, err
	}
	if b.Hash == a.Anchor().Hash {
		return b, nil, fmt.Errorf("%w: the anchor %s has a whole state, no changes", ErrInvalid, h)
	}
	writes, err := a.store.ReadDelta(h)
	if err != nil {
		return b, nil, err
	}
	var changes []Pair
	for w, err := range writes {
		if err != nil {
			return b, nil, err
		}
		p := Pair{Key: bytes.Clone(w.Key)}
		if !w.Delete {
			p.Value = append([]byte{}, w.Value...)
		}
		changes = append(changes, p)
	}
	return b, changes, nil
}

// Version is what a block made of a key. A nil value stands for a delete.
type Version struct {
	Block forks.Block
	Value []byte
}

// History gives the blocks on the way from the anchor to a block that wrote a key,
// newest first, at most limit of them (0: all). It opens no checkpoint: with a read
// cache it reads the write sets of those blocks alone, else of all. Where the anchor
// has the key it comes last, as the one from which it is known. Errors:
// ErrUnknownBlock, and the store's.
func (a *Accessor) History(ctx context.Context, h forks.Hash, key []byte, limit int) ([]Version, error) {
	ctx, end, err := a.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	if _, err := a.Block(h); err != nil {
		return nil, err
	}
	var versions []Version
	for _, b := range a.mayHaveWritten(h, key) {
		if err := context.Cause(ctx); err != nil {
			return nil, err
		}
		if limit > 0 && len(versions) == limit {
			break
		}
		value, wrote, err := a.store.Written(b.Hash, key)
		if err != nil {
			return nil, err
		}
		if wrote {
			versions = append(versions, Version{b, value})
		}
	}
	return versions, nil
}

// mayHaveWritten gives the blocks from h up to the anchor, newest first, without
// those of which the read cache knows that they didn't write the key.
func (a *Accessor) mayHaveWritten(h forks.Hash, key []byte) []forks.Block {
	all := a.ancestors(h)
	if a.reads.cache == nil {
		return all
	}
	path := a.reads.cache.At(h)
	if path == nil {
		return all
	}
	writers, ok := a.reads.cache.Writers(path, key)
	if !ok {
		return all
	}
	above := true // the base: below it nothing is known
	return slices.DeleteFunc(all, func(b forks.Block) bool {
		above = above && b.Hash != path.Base()
		return above && !slices.Contains(writers, b.Hash)
	})
}

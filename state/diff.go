package state

import (
	"bytes"
	"context"
	"fmt"
	"maps"
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
	return a.DiffWithin(ctx, from, to, Bound{})
}

// DiffWithin is Diff for a caller with room for so much; the bound counts all keys
// that the blocks between wrote, and the values that differ. Errors: those of Diff,
// ErrTooLarge, and the bound's.
func (a *Accessor) DiffWithin(ctx context.Context, from, to forks.Hash, bound Bound) (diff []Difference, common forks.Block, err error) {
	ctx, end, err := a.begin(ctx)
	if err != nil {
		return nil, common, err
	}
	defer end()
	keys, common, err := a.written(ctx, from, to, bound)
	if err != nil {
		return nil, common, err
	}
	diff, err = a.compare(ctx, from, to, keys, bound)
	return diff, common, err
}

// compare gives those of keys that differ between the states at two blocks.
func (a *Accessor) compare(ctx context.Context, from, to forks.Hash, keys []string, bound Bound) (diff []Difference, err error) {
	va, err := a.View(ctx, from)
	if err != nil {
		return nil, err
	}
	defer va.Close()
	vb, err := a.View(ctx, to)
	if err != nil {
		return nil, err
	}
	defer vb.Close()
	for i, key := range keys {
		if i%diffStep == 0 && ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		x, inA, _, err := va.AppendGetTier(ctx, nil, []byte(key))
		if err != nil {
			return nil, err
		}
		y, inB, _, err := vb.AppendGetTier(ctx, nil, []byte(key))
		if err != nil {
			return nil, err
		}
		if inA != inB || !bytes.Equal(x, y) {
			if err := bound.take(len(x) + len(y)); err != nil {
				return nil, err
			}
			diff = append(diff, Difference{Key: []byte(key), A: valueOrNil(x, inA), B: valueOrNil(y, inB)})
		}
	}
	return diff, nil
}

// diffStep is how many keys are compared between two looks at the context.
const diffStep = 256

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
func (a *Accessor) written(ctx context.Context, from, to forks.Hash, bound Bound) (keys []string, common forks.Block, err error) {
	var undo, apply []forks.Block
	a.ReadTree(func(t *forks.Tree) {
		if common, err = t.CommonAncestor(from, to); err == nil {
			undo, apply, err = t.Path(from, to)
		}
	})
	if err != nil {
		return nil, common, fmt.Errorf("%w: %w", ErrUnknownBlock, err)
	}
	between := slices.Concat(undo, apply)
	if bound.Blocks > 0 && len(between) > bound.Blocks {
		return nil, common, fmt.Errorf("%w: %d blocks are between the two, at most %d are read", ErrTooLarge, len(between), bound.Blocks)
	}
	seen := make(map[string]struct{})
	for _, b := range between {
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
			if _, ok := seen[string(w.Key)]; ok {
				continue
			}
			if err := bound.take(len(w.Key)); err != nil {
				return nil, common, err
			}
			seen[string(w.Key)] = struct{}{}
		}
	}
	return slices.Sorted(maps.Keys(seen)), common, nil
}

// Changes gives what a block wrote, in key order: a nil value stands for a delete.
// Of the anchor, which has all of its state, it gives an error of kind ErrInvalid.
// Errors: ErrUnknownBlock, and the store's.
func (a *Accessor) Changes(ctx context.Context, h forks.Hash) (forks.Block, []Pair, error) {
	return a.ChangesWithin(ctx, h, Bound{})
}

// ChangesWithin is Changes for a caller with room for so much. Errors: those of
// Changes, and the bound's.
func (a *Accessor) ChangesWithin(ctx context.Context, h forks.Hash, bound Bound) (forks.Block, []Pair, error) {
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
		if err := bound.take(len(w.Key) + len(w.Value)); err != nil {
			return b, nil, err
		}
		p := Pair{Key: bytes.Clone(w.Key)}
		if !w.Delete {
			p.Value = append([]byte{}, w.Value...)
		}
		changes = append(changes, p)
	}
	// What was read is the whole state, perhaps, if it has become the anchor meanwhile.
	if b.Hash == a.Anchor().Hash {
		return b, nil, fmt.Errorf("%w: the anchor %s has a whole state, no changes", ErrInvalid, h)
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
	return a.HistoryWithin(ctx, h, key, limit, Bound{})
}

// HistoryWithin is History for a caller with room for so much. Errors: those of
// History, ErrTooLarge, and the bound's.
func (a *Accessor) HistoryWithin(ctx context.Context, h forks.Hash, key []byte, limit int, bound Bound) ([]Version, error) {
	ctx, end, err := a.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	if _, err := a.Block(h); err != nil {
		return nil, err
	}
	var versions []Version
	for i, b := range a.mayHaveWritten(h, key) {
		if err := context.Cause(ctx); err != nil {
			return nil, err
		}
		if limit > 0 && len(versions) == limit {
			break
		}
		if bound.Blocks > 0 && i == bound.Blocks {
			return nil, fmt.Errorf("%w: %d blocks were read, down to slot %d, and there may be more versions below", ErrTooLarge, i, b.Slot+1)
		}
		value, wrote, err := a.store.Written(b.Hash, key)
		if err != nil {
			return nil, err
		}
		if wrote {
			if err := bound.take(len(value)); err != nil {
				return nil, err
			}
			versions = append(versions, Version{b, value})
		}
	}
	if p := a.enter(); p != nil && (limit <= 0 || len(versions) < limit) {
		defer p.leave()
		values, _, err := p.read(ctx, p.anchor, [][]byte{key})
		if err != nil {
			return nil, err
		}
		if values[0] != nil {
			if err := bound.take(len(values[0])); err != nil {
				return nil, err
			}
			versions = append(versions, Version{p.anchor, values[0]})
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

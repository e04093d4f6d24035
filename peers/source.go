// Package peers joins an accessor with the network of package da: Source answers peers
// from a store, Fetcher asks them for what a partial store lacks. It keeps nothing
// itself, and decides nothing about who is served.
//
// Invariants: answering a peer never asks another one, so that no two nodes wait for
// each other; whatever is not here, or can't be proven here, is da.ErrNotHeld.
package peers

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"accessor/checkpoint"
	"accessor/da"
	"accessor/forks"
	"accessor/state"
	"accessor/state/merkle"
)

// Source serves a node's peers from a store: proofs at any block held, and blocks with
// their write sets. Items and shards it hasn't got; a node serves those of its
// Config.Items by itself. It is safe for concurrent use.
type Source struct {
	acc *state.Accessor
	ask func(context.Context) context.Context
}

var _ da.Source = (*Source)(nil)

// NewSource makes a source of a store. ask, where given, says in a read's context who
// asks, for the accessor's ReplayGuard.
func NewSource(acc *state.Accessor, ask func(context.Context) context.Context) *Source {
	if ask == nil {
		ask = func(ctx context.Context) context.Context { return ctx }
	}
	return &Source{acc: acc, ask: ask}
}

// view opens the state at a block, of which nothing is fetched; its reads take the
// context that comes with it.
func (s *Source) view(ctx context.Context, block forks.Hash) (context.Context, *state.View, error) {
	ctx = state.Locally(s.ask(ctx))
	v, err := s.acc.View(ctx, block)
	return ctx, v, held(err)
}

// held makes errors of what isn't here those of package da.
func held(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, state.ErrTooLarge):
		return fmt.Errorf("%w: %w", da.ErrTooLarge, err)
	case errors.Is(err, merkle.ErrOrder):
		return fmt.Errorf("%w: %w", da.ErrRequest, err)
	}
	for _, kind := range []error{state.ErrUnknownBlock, state.ErrPruned, state.ErrNotFetched, state.ErrPartial,
		state.ErrNoTrie, state.ErrUnavailable} {
		if errors.Is(err, kind) {
			return fmt.Errorf("%w: %w", da.ErrNotHeld, err)
		}
	}
	return err
}

// Prove implements da.Source.
func (s *Source) Prove(ctx context.Context, block forks.Hash, keys [][merkle.KeySize]byte, most int) (*merkle.Proof, error) {
	ctx, v, err := s.view(ctx, block)
	if err != nil {
		return nil, err
	}
	defer v.Close()
	list := make([][]byte, len(keys))
	for i := range keys {
		list[i] = keys[i][:]
	}
	st, err := v.ProveWithin(ctx, list, state.AtMost(most))
	if err != nil {
		return nil, held(err)
	}
	return &st.Proof, nil
}

// ProveRange implements da.Source.
func (s *Source) ProveRange(ctx context.Context, block forks.Hash, req merkle.RangeRequest) (*merkle.Proof, error) {
	ctx, v, err := s.view(ctx, block)
	if err != nil {
		return nil, err
	}
	defer v.Close()
	st, err := v.ProveRangeWithin(ctx, req, state.Bound{})
	if err != nil {
		return nil, held(err)
	}
	return &st.Proof, nil
}

const (
	// mostBlocks bounds the blocks that are looked at for an answer, some
	// hundred bytes of memory each.
	mostBlocks = 8192
	// blockBytes and writeBytes are what a block and a write take beside header, keys
	// and values, at most.
	blockBytes, writeBytes = 160, 16
)

// Blocks implements da.Source. Siblings are given together or not at all, so that who
// goes on above the leaves of the answer misses none. Those right above the block, which
// may be too much for one answer, begin with the one that leads to the head.
func (s *Source) Blocks(ctx context.Context, above forks.Hash, most int) ([]da.Block, error) {
	if !s.acc.Commitment().Rooted() {
		return nil, fmt.Errorf("%w: %w", da.ErrNotHeld, state.ErrNoTrie)
	}
	families, known := s.below(above)
	if !known {
		return nil, fmt.Errorf("%w: block %s", da.ErrNotHeld, above)
	}
	var out []da.Block
	size := 0
	left := make(map[forks.Hash]bool) // not in the answer, and so is nothing above them
	for _, siblings := range families {
		if left[siblings[0].Parent] {
			for _, b := range siblings {
				left[b.Hash] = true
			}
			continue
		}
		first := len(out)
		for _, at := range siblings {
			if err := context.Cause(ctx); err != nil {
				return nil, err
			}
			b, n, err := s.block(at.Hash)
			if err != nil && first > 0 {
				return out[:first], nil // what was pruned meanwhile, or can't be read
			} else if err != nil {
				return nil, held(err)
			}
			if n > da.MaxItem {
				left[at.Hash] = true
				continue
			}
			if size += n; size > most && first > 0 {
				return out[:first], nil
			} else if size > da.MaxItem && len(out) > 0 {
				return out, nil // no answer is as long
			}
			out = append(out, b)
		}
	}
	return out, nil
}

// below gives a block's descendants, siblings together, parents before children. Of its
// children the one that leads to the head comes first.
func (s *Source) below(above forks.Hash) (families [][]forks.Block, known bool) {
	head := s.acc.Head().Hash
	s.acc.ReadTree(func(t *forks.Tree) {
		var from forks.Block
		from, known = t.Get(above)
		count := 0
		for queue := []forks.Hash{above}; len(queue) > 0 && count < mostBlocks; queue = queue[1:] {
			children := t.Children(queue[0])
			if len(children) == 0 {
				continue
			}
			families = append(families, slices.Clone(children))
			count += len(children)
			for _, c := range children {
				queue = append(queue, c.Hash)
			}
		}
		if len(families) == 0 || len(families[0]) == 1 {
			return
		}
		for b := range t.Ancestors(head) {
			if b.Parent == above {
				i := slices.Index(families[0], b)
				families[0] = slices.Insert(slices.Delete(families[0], i, i+1), 0, b)
			}
			if b.Parent == above || b.Slot <= from.Slot {
				return
			}
		}
	})
	return families, known
}

// block reads a block with its write set, and gives about how many bytes it takes.
func (s *Source) block(h forks.Hash) (b da.Block, size int, err error) {
	rec, err := s.acc.Store().Get(h)
	if errors.Is(err, checkpoint.ErrUnknown) {
		return b, 0, fmt.Errorf("%w: %w", da.ErrNotHeld, err)
	} else if err != nil {
		return b, 0, err
	}
	b = da.Block{Hash: rec.Hash, Parent: rec.Parent, Slot: rec.Slot, PriorRoot: rec.PriorRoot, PostRoot: rec.Root, Header: rec.Header}
	size = blockBytes + len(rec.Header)
	writes, err := s.acc.Store().ReadDelta(h)
	if err != nil {
		return b, 0, err
	}
	for w, err := range writes {
		if err != nil {
			return b, 0, err
		}
		// One that is too large to be served isn't read to its end.
		if size += writeBytes + len(w.Key) + len(w.Value); size > da.MaxItem {
			break
		}
		if w.Delete {
			b.Dels = append(b.Dels, slices.Clone(w.Key))
		} else {
			b.Puts = append(b.Puts, [2][]byte{slices.Clone(w.Key), slices.Clone(w.Value)})
		}
	}
	// What was read is the whole state, perhaps, if it has become the anchor meanwhile.
	if now, err := s.acc.Store().Get(h); err != nil || now.Anchor {
		return b, 0, fmt.Errorf("%w: block %s was pruned", da.ErrNotHeld, h)
	}
	return b, size, nil
}

// Item implements da.Source: it has none.
func (s *Source) Item(context.Context, forks.Hash) ([]byte, error) { return nil, da.ErrNotHeld }

// Shard implements da.Source: it has none.
func (s *Source) Shard(context.Context, forks.Hash, uint16) (da.Shard, error) {
	return da.Shard{}, da.ErrNotHeld
}

package main

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"accessor/api"
	"accessor/da"
	"accessor/da/items"
	"accessor/da/justify"
	"accessor/da/shards"
	"accessor/forks"
	"accessor/state"
)

// whoAmong says who the sidecar is among its peers, for GET /v1/status.
func (s *service) whoAmong() api.Peers {
	p := s.node.Load()
	if p == nil {
		return api.Peers{}
	}
	return api.Peers{ID: p.ID(), Addresses: p.addresses()}
}

// peering gives the node. Error: api.ErrNoStore where there is none yet.
func (s *service) peering() (*peering, error) {
	p := s.node.Load()
	if p == nil {
		return nil, api.ErrNoStore
	}
	return p, nil
}

// itemSource gives the API items: those kept here, and peers'. Without an anchor yet
// there is no node, and none of them.
type itemSource struct{ s *service }

var _ api.Items = itemSource{}

// Fetch implements api.Items.
func (i itemSource) Fetch(ctx context.Context, hash forks.Hash) ([]byte, error) {
	p, err := i.s.peering()
	if err != nil {
		return nil, err
	}
	item, err := p.FetchItem(ctx, hash)
	return item, fetchError(err)
}

// Put implements api.Items.
func (i itemSource) Put(_ context.Context, hash forks.Hash, item []byte) error {
	p, err := i.s.peering()
	if err != nil {
		return err
	}
	if p.items == nil {
		return fmt.Errorf("%w: no items are kept here (da.items_budget)", state.ErrTooLarge)
	}
	err = p.items.Put(hash, item)
	switch {
	case errors.Is(err, items.ErrBudget):
		return fmt.Errorf("%w: %w", state.ErrTooLarge, err)
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		return fmt.Errorf("%w: %w", state.ErrNoSpace, err)
	}
	return err
}

// erasureSource gives the API erasure-coded items, as itemSource gives others.
type erasureSource struct{ s *service }

var _ api.Erasure = erasureSource{}

func specOf(s api.ErasureSpec) da.Spec {
	return da.Spec{
		Root: s.ErasureRoot, Shards: s.Shards, Length: s.BundleLength, Hash: s.BundleHash,
		Exported: s.Segments, SegmentsRoot: s.SegmentsRoot,
	}
}

// Encode implements api.Erasure.
func (e erasureSource) Encode(ctx context.Context, n int, bundle, segments []byte, keep []int) (api.ErasureSpec, error) {
	var p *peering
	if len(keep) > 0 {
		var err error
		if p, err = e.s.peering(); err != nil {
			return api.ErasureSpec{}, err
		}
	}
	spec, all, err := da.Encode(n, bundle, slices.Collect(slices.Chunk(segments, justify.SegmentSize)))
	if err != nil {
		return api.ErasureSpec{}, err
	}
	if p != nil {
		if err := ctx.Err(); err != nil { // nobody would know of what
			return api.ErasureSpec{}, err
		}
		kept := make(map[int]da.Shard, len(keep))
		for _, i := range keep {
			kept[i] = all[i]
		}
		if err := p.PutShards(spec, kept); err != nil {
			return api.ErasureSpec{}, keepError(err)
		}
	}
	return api.ErasureSpec{
		ErasureRoot: spec.Root, Shards: spec.Shards, BundleLength: spec.Length, BundleHash: spec.Hash,
		SegmentsRoot: spec.SegmentsRoot, Segments: spec.Exported,
	}, nil
}

// Bundle implements api.Erasure.
func (e erasureSource) Bundle(ctx context.Context, spec api.ErasureSpec) ([]byte, error) {
	p, err := e.s.peering()
	if err != nil {
		return nil, err
	}
	b, err := p.FetchErasure(ctx, specOf(spec))
	return b, fetchError(err)
}

// Segment implements api.Erasure.
func (e erasureSource) Segment(ctx context.Context, spec api.ErasureSpec, i int) ([]byte, error) {
	p, err := e.s.peering()
	if err != nil {
		return nil, err
	}
	b, err := p.FetchSegment(ctx, specOf(spec), i)
	return b, fetchError(err)
}

// Shard implements api.Erasure.
func (e erasureSource) Shard(root forks.Hash, index int) (api.ErasureShard, error) {
	p, err := e.s.peering()
	if err != nil {
		return api.ErasureShard{}, err
	}
	sh, err := p.Shard(root, index)
	if err != nil {
		return api.ErasureShard{}, fmt.Errorf("%w: %w", api.ErrUnknownItem, err)
	}
	return api.ErasureShard{Bundle: sh.Bundle, Segments: slices.Concat(sh.Segments...), Justification: sh.Path.Append(nil)}, nil
}

// PutShard implements api.Erasure.
func (e erasureSource) PutShard(_ context.Context, spec api.ErasureSpec, index int, shard api.ErasureShard) error {
	p, err := e.s.peering()
	if err != nil {
		return err
	}
	sh, err := specOf(spec).Shard(shard.Bundle, shard.Segments, shard.Justification)
	if err == nil {
		err = p.PutShard(specOf(spec), index, sh)
	}
	return keepError(err)
}

// fetchError is the API's of what the node could not fetch.
func fetchError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, da.ErrNotFound):
		return fmt.Errorf("%w: %w", api.ErrUnknownItem, err)
	case errors.Is(err, da.ErrEncoding):
		return fmt.Errorf("%w: %w", api.ErrEncoding, err)
	}
	return fmt.Errorf("%w: %w", state.ErrNotFetched, err)
}

// keepError is the API's of a shard that isn't kept.
func keepError(err error) error {
	switch {
	case errors.Is(err, justify.ErrWrong), errors.Is(err, justify.ErrIndex), errors.Is(err, justify.ErrFormat):
		return fmt.Errorf("%w: %w", api.ErrWrongShard, err)
	case errors.Is(err, shards.ErrBudget):
		return fmt.Errorf("%w (da.shards_budget): %w", state.ErrNoSpace, err)
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		return fmt.Errorf("%w: %w", state.ErrNoSpace, err)
	}
	return err
}

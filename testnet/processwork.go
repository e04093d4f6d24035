package testnet

import (
	"bytes"
	"context"
	"errors"

	"accessor/api/client"
	"accessor/da"
	"accessor/forks"
)

// specOf is a spec as the API has it.
func specOf(s da.Spec) client.ErasureSpec {
	return client.ErasureSpec{ErasureRoot: s.Root, Shards: s.Shards, BundleLength: s.Length, BundleHash: s.Hash,
		SegmentsRoot: s.SegmentsRoot, Segments: s.Exported}
}

// shardOf is a shard as the API has it.
func shardOf(sh da.Shard) client.ErasureShard {
	return client.ErasureShard{Bundle: sh.Bundle, Segments: bytes.Join(sh.Segments, nil), Justification: sh.Path.Append(nil)}
}

// Keep implements Sidecar.
func (p *process) Keep(ctx context.Context, spec da.Spec, index int, sh da.Shard) error {
	return p.client.PutShard(ctx, specOf(spec), index, shardOf(sh))
}

// Kept implements Sidecar.
func (p *process) Kept(ctx context.Context, root forks.Hash, index int) (client.ErasureShard, error) {
	return p.client.Shard(ctx, root, index)
}

// Bundle implements Sidecar.
func (p *process) Bundle(ctx context.Context, spec da.Spec) ([]byte, error) {
	b, err := p.client.Bundle(ctx, specOf(spec))
	return b, partError(err)
}

// Segment implements Sidecar.
func (p *process) Segment(ctx context.Context, spec da.Spec, i int) ([]byte, error) {
	b, err := p.client.Segment(ctx, specOf(spec), i)
	return b, partError(err)
}

// partError tells answers that are wrong from others: no encoder lies here.
func partError(err error) error {
	if errors.Is(err, client.ErrBadAnswer) || errors.Is(err, client.ErrBadEncoding) {
		return told(ErrWrong, err)
	}
	return err
}

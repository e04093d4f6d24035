package da

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"go.uber.org/zap"
	"golang.org/x/time/rate"

	"accessor/da/erasure"
	"accessor/da/justify"
	"accessor/da/shards"
	"accessor/forks"
)

// code gives the parameters of a spec. Error: ErrRequest.
func (s Spec) code() (*erasure.Code, error) {
	if s.Exported < 0 || s.Exported+s.pages() > MaxSegments || s.Length < 0 || s.Length > erasure.MaxSize {
		return nil, fmt.Errorf("%w: %d bytes and %d segments", ErrRequest, s.Length, s.Exported)
	}
	for _, code := range []func() *erasure.Code{erasure.Tiny, erasure.Full} {
		if c := code(); c.N() == s.Shards {
			return c, nil
		}
	}
	return nil, fmt.Errorf("%w: a code of %d shards", ErrRequest, s.Shards)
}

// Encode encodes a work package: its bundle, and its exported segments of
// justify.SegmentSize bytes each, to which it adds their pages of proofs. n is the number
// of shards, 6 or 1,023. Error: ErrRequest.
func Encode(n int, bundle []byte, segments [][]byte) (Spec, []Shard, error) {
	spec := Spec{
		Shards: n, Length: len(bundle), Hash: hashOf(bundle),
		Exported: len(segments), SegmentsRoot: forks.Hash(justify.SegmentsRoot(segments)),
	}
	code, err := spec.code()
	if err != nil {
		return Spec{}, nil, err
	}
	for i, s := range segments {
		if len(s) != justify.SegmentSize {
			return Spec{}, nil, fmt.Errorf("%w: segment %d of %d bytes, not %d", ErrRequest, i, len(s), justify.SegmentSize)
		}
	}
	bundles, err := code.Encode(bundle)
	if err != nil {
		return Spec{}, nil, fmt.Errorf("%w: %w", ErrRequest, err)
	}
	all := make([]Shard, n)
	for i := range all {
		all[i] = Shard{Bundle: bundles[i], Segments: make([][]byte, 0, spec.Exported+spec.pages())}
	}
	for _, s := range append(slices.Clip(segments), justify.Pages(segments)...) {
		one, err := code.Encode(s)
		if err != nil {
			return Spec{}, nil, err
		}
		for i := range all {
			all[i].Segments = append(all[i].Segments, one[i])
		}
	}
	leaves := make([][]byte, n)
	for i := range all {
		leaves[i] = justify.Leaf(all[i].Bundle, all[i].Segments)
	}
	spec.Root = forks.Hash(justify.Root(leaves))
	for i, path := range justify.CoPaths(leaves) {
		all[i].Path = path
	}
	return spec, all, nil
}

// Check checks all that one holder keeps (CE 137), with that index, against the erasure
// root and the lengths of the spec. Errors: ErrRequest where there can't be such a spec;
// else those of justify.Spec.CheckShards.
func (s Spec) Check(index int, sh Shard) error {
	if err := s.checkSizes(index, sh); err != nil {
		return err
	}
	return s.justify().CheckShards(index, sh.Bundle, sh.Segments, sh.Path)
}

// checkSizes checks what the erasure root doesn't say.
func (s Spec) checkSizes(index int, sh Shard) error {
	code, err := s.code()
	if err != nil {
		return err
	}
	bundle, segment := code.ShardSize(s.Length), code.ShardSize(justify.SegmentSize)
	wrong := func(what string, got, want int) error {
		return &erasure.ShardError{Index: index, Err: fmt.Errorf("%w: %s of %d bytes, not %d", justify.ErrWrong, what, got, want)}
	}
	if len(sh.Bundle) != bundle {
		return wrong("a bundle shard", len(sh.Bundle), bundle)
	}
	for _, one := range sh.Segments {
		if len(one) != segment {
			return wrong("a segment shard", len(one), segment)
		}
	}
	return nil
}

// PutShard checks a shard, and keeps it: when it returns, the shard is on the disk.
// Errors: those of Spec.Check; shards.ErrBudget where there is no room for it, or none are
// kept; those of files.
func (n *Node) PutShard(spec Spec, index int, sh Shard) error {
	return n.PutShards(spec, map[int]Shard{index: sh})
}

// PutShards is PutShard for several of one work package, by their indices. Where a check
// fails, or there is no room for all, none of them is kept.
func (n *Node) PutShards(spec Spec, all map[int]Shard) error {
	for index, sh := range all {
		if err := spec.checkSizes(index, sh); err != nil {
			return err
		}
	}
	if n.config.Shards == nil {
		return fmt.Errorf("%w: none are kept here", shards.ErrBudget)
	}
	return n.config.Shards.Put(spec.justify(), all)
}

// Shard gives a shard that is kept here. Error: ErrNotHeld.
func (n *Node) Shard(root forks.Hash, index int) (Shard, error) {
	sh, _, err := n.fetch.kept.get(root, index)
	return sh, err
}

// kept are the shards of this machine; nil where none are kept.
type kept struct {
	store *shards.Store
	log   *zap.Logger
	told  rate.Sometimes // of files that can't be read: peers ask for them as often as they like
}

func newKept(store *shards.Store, log *zap.Logger) *kept {
	if store == nil {
		return nil
	}
	return &kept{store: store, log: log, told: rate.Sometimes{Interval: sourceErrorsEvery}}
}

// get gives a shard, and the spec that it was checked by. Error: ErrNotHeld; whatever
// keeps it from being read, it isn't here.
func (k *kept) get(root forks.Hash, index int) (Shard, justify.Spec, error) {
	if k == nil {
		return Shard{}, justify.Spec{}, ErrNotHeld
	}
	sh, spec, err := k.store.Get(root, index)
	if err != nil {
		if !errors.Is(err, shards.ErrAbsent) {
			k.told.Do(func() { k.log.Warn("read a shard", zap.Error(err)) })
		}
		return Shard{}, justify.Spec{}, ErrNotHeld
	}
	return sh, spec, nil
}

// takeKept takes the shards that are kept here, as many as are needed. Those that were
// checked by another spec than the reader's are left out.
func (c *collection) takeKept(ctx context.Context) {
	for i := 0; i < c.code.N() && c.have < c.code.K() && ctx.Err() == nil; i++ {
		sh, spec, err := c.kept.get(c.root, i)
		if err != nil || spec != c.spec {
			continue
		}
		piece := sh.Bundle
		if c.segment >= 0 {
			piece = sh.Segments[c.segment]
		}
		if len(piece) == c.code.ShardSize(c.length) {
			c.shards[i] = bytes.Clone(piece) // it was part of a whole file
			c.have++
		}
	}
}

// Shard puts a shard of the spec together from its parts as they travel: the shard of the
// bundle, those of all segments one after another, and the co-path in its wire form.
// They are not copied. It is not checked yet. Errors: ErrRequest, justify.ErrWrong,
// justify.ErrFormat.
func (s Spec) Shard(bundle, segments, path []byte) (Shard, error) {
	code, err := s.code()
	if err != nil {
		return Shard{}, err
	}
	size, count := code.ShardSize(justify.SegmentSize), s.Exported+s.pages()
	if len(segments) != count*size {
		return Shard{}, fmt.Errorf("%w: %d bytes of shards of %d segments, %d each", justify.ErrWrong, len(segments), count, size)
	}
	sh := Shard{Bundle: bundle}
	for one := range slices.Chunk(segments, size) {
		sh.Segments = append(sh.Segments, one)
	}
	sh.Path, err = justify.Parse(path, 0)
	return sh, err
}

package da

import (
	"context"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"golang.org/x/crypto/blake2b"

	"accessor/da/erasure"
	"accessor/da/justify"
	"accessor/forks"
)

func hashOf(b []byte) forks.Hash { return blake2b.Sum256(b) }

// FetchErasure gives a work bundle from shards kept here, and of several peers, each
// checked against the erasure root. Errors: ErrEncoding where the result hasn't spec.Hash
// (or, without one, never), and those of FetchKeys; ErrNotFound where all together have
// too few shards.
func (n *Node) FetchErasure(ctx context.Context, spec Spec) ([]byte, error) {
	code, err := spec.code()
	if err != nil {
		return nil, err
	}
	value, err := n.fetch.share(ctx, fmt.Sprintf("bundle%+v", spec), func(ctx context.Context) (any, error) {
		b, err := n.fetch.collect(ctx, spec, code, -1, spec.Length)
		if err == nil && spec.Hash != (forks.Hash{}) {
			if hashOf(b) != spec.Hash {
				return nil, ErrEncoding
			}
			n.keep(spec.Hash, b)
		}
		return b, err
	})
	if err != nil {
		return nil, fmt.Errorf("fetch bundle of %s: %w", spec.Root.Short(), err)
	}
	return value.([]byte), nil
}

// FetchSegment gives exported segment i, from shards as FetchErasure, and checks it
// with its page of proofs, fetched the same way, against spec.SegmentsRoot. Errors: as
// of FetchErasure.
func (n *Node) FetchSegment(ctx context.Context, spec Spec, i int) ([]byte, error) {
	code, err := spec.code()
	if err == nil && (i < 0 || i >= spec.Exported) {
		err = fmt.Errorf("%w: segment %d of %d", ErrRequest, i, spec.Exported)
	}
	if err != nil {
		return nil, err
	}
	value, err := n.fetch.share(ctx, fmt.Sprintf("segment%d%+v", i, spec), func(ctx context.Context) (any, error) {
		number := i / segmentsOfPage
		b, err := n.fetch.collect(ctx, spec, code, spec.Exported+number, justify.SegmentSize)
		if err != nil {
			return nil, err
		}
		page, err := justify.ParsePage(b)
		if err == nil {
			err = page.Check(justify.Hash(spec.SegmentsRoot), number, spec.Exported)
		}
		if err != nil {
			return nil, fmt.Errorf("%w: page %d: %w", ErrEncoding, number, err)
		}
		if b, err = n.fetch.collect(ctx, spec, code, i, justify.SegmentSize); err != nil {
			return nil, err
		}
		if err := page.CheckSegment(i%segmentsOfPage, b); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrEncoding, err)
		}
		return b, nil
	})
	if err != nil {
		return nil, fmt.Errorf("fetch segment %d of %s: %w", i, spec.Root.Short(), err)
	}
	return value.([]byte), nil
}

// collection gathers the shards of a bundle or segment.
//
// Several peers are asked at a time, each for a share of what is missing: it is told
// all indices that are welcome, in an order of its own, and how many it may give. So a
// peer that has but one shard is as useful as one that has all. Who is too slow is
// left behind: when others have given their share, they are asked for its share too.
type collection struct {
	*flight // who has said what, and is asked now
	spec    justify.Spec
	code    *erasure.Code
	root    forks.Hash
	segment int // -1: the bundle
	length  int

	shards   [][]byte
	have     int
	expected []bool  // shards that a peer at work is expected to give
	extra    int     // requests at work because others are slow
	yield    float64 // shards that a request brings, about
	turn     int     // of orders
	came     chan shardResult
}

// shardResult is one shard of a peer, or (index -1) the end of its answer.
type shardResult struct {
	id    peer.ID
	index int
	shard []byte
	asked []uint16 // at the end: what it was expected to give
	given int      // at the end: how many it gave
	all   bool     // at the end: that is all it has
	err   error
}

// Bounds of a collection's requests at a time.
const (
	maxCollect = 32 // where peers have few shards each
	maxExtra   = 8
)

func (f *fetcher) collect(ctx context.Context, spec Spec, code *erasure.Code, segment, length int) ([]byte, error) {
	c := &collection{
		flight: &flight{fetcher: f, final: map[peer.ID]bool{}},
		spec:   spec.justify(), code: code, root: spec.Root, segment: segment, length: length,
		shards: make([][]byte, code.N()), expected: make([]bool, code.N()), yield: float64(share(code, code.K())),
		came: make(chan shardResult),
	}
	c.op.kind, c.op.place = c.kind(), placeOfShards(spec.Root)
	c.takeKept(ctx)
	for {
		if c.have >= code.K() || c.round(ctx) == nil {
			return code.Reconstruct(c.shards, length)
		}
		pause, err := c.verdict(ctx)
		if err != nil && c.seekOthers(ctx, err) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("%w: %d of %d shards", err, c.have, code.K())
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
	}
}

// share is how many of the missing shards one peer is asked for: a part of them, but
// not so few that the end takes many small requests.
func share(code *erasure.Code, missing int) int {
	return min(missing, max((missing+maxParallel-1)/maxParallel, code.K()/20))
}

func (c *collection) kind() kind {
	if c.segment < 0 {
		return kindBundle
	}
	return kindSegment
}

// round asks peers until there are shards enough, or nobody is left to be asked.
func (c *collection) round(parent context.Context) error {
	ctx, cancel := context.WithCancelCause(parent)
	defer cancel(errSettled)
	c.asked, c.running, c.extra, c.idle = maps.Clone(c.final), 0, 0, true
	clear(c.expected)
	wait := c.usual[c.kind()].hedge()
	hedge := time.NewTicker(wait)
	defer hedge.Stop()
	for {
		for c.needsMore() && c.start(ctx) {
		}
		if c.running == 0 {
			return ErrUnavailable
		}
		select {
		case <-hedge.C:
			if c.extra < maxExtra && c.running < maxCollect && c.start(ctx) {
				c.extra++
				c.stats.hedges.Add(1)
			}
		case r := <-c.came:
			if c.take(r); c.have >= c.code.K() {
				return nil
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// needsMore says whether what is on its way is too little, but for the slow ones.
func (c *collection) needsMore() bool {
	onWay := float64(c.running-c.extra) * c.yield
	return c.running < maxCollect && onWay < float64(c.code.K()-c.have)
}

// take notes a shard, or the end of an answer.
func (c *collection) take(r shardResult) {
	if r.index >= 0 {
		if c.shards[r.index] == nil {
			c.shards[r.index] = r.shard
			c.have++
		}
		return
	}
	c.running--
	for _, i := range r.asked {
		c.expected[i] = false
	}
	switch {
	case r.err != nil:
		c.note(result{id: r.id, err: r.err})
	case r.all:
		c.said[outcomeNotHeld]++
		c.final[r.id] = true
	default:
		delete(c.asked, r.id)
	}
	if r.err == nil {
		c.yield = max(1, (c.yield+float64(r.given))/2)
	}
}

// start asks one more peer for a share of what is missing.
func (c *collection) start(ctx context.Context) bool {
	id, ok := c.book.pick(c.kind(), false, c.asked)
	if !ok {
		return false
	}
	c.asked[id] = true
	c.idle = false
	c.running++
	indices := c.wanted()
	most := min(share(c.code, c.code.K()-c.have), len(indices))
	expected := slices.Clone(indices[:most])
	for _, i := range expected {
		c.expected[i] = true
	}
	request := shardRequest{c.root, c.segment, most, indices}
	c.wg.Go(func() {
		end := shardResult{id: id, index: -1, asked: expected}
		_, end.err = c.attempt(ctx, c.kind(), id, func(ctx context.Context, id peer.ID) (_ any, err error) {
			end.given, end.all, err = c.ask(ctx, id, request)
			return nil, err
		})
		select {
		case c.came <- end:
		case <-ctx.Done():
		}
	})
	return true
}

// cheapest is the number of shards of the full code that are decoded fastest: those
// from 0 (see erasure.Code.Reconstruct).
const cheapest = 854

// wanted gives the missing shards, those first that no other peer is expected to
// give. Each call begins at another place, so that peers which have all shards give
// different ones.
func (c *collection) wanted() []uint16 {
	var fresh, expected []uint16
	add := func(i int) {
		switch {
		case c.shards[i] != nil:
		case c.expected[i]:
			expected = append(expected, uint16(i))
		default:
			fresh = append(fresh, uint16(i))
		}
	}
	n := min(cheapest, c.code.N())
	from := c.turn % maxParallel * n / maxParallel
	c.turn++
	for i := range n {
		add((from + i) % n)
	}
	for i := n; i < c.code.N(); i++ {
		add(i)
	}
	return append(fresh, expected...)
}

// ask asks one peer; its shards go to the collection one by one, each checked. all says
// that the peer has no other one that was asked for.
func (c *collection) ask(ctx context.Context, id peer.ID, q shardRequest) (given int, all bool, err error) {
	wanted := map[uint16]bool{}
	for _, i := range q.indices {
		wanted[i] = true
	}
	err = c.exchange(ctx, c.kind(), id, q.encode(), func(m messages) error {
		for ; ; given++ {
			head, err := m.nextOrEnd(2)
			if orderlyEnd(err) && given > 0 {
				return nil
			}
			if err != nil {
				return cut(err)
			}
			if all = len(head) == 0 && given > 0; all {
				return m.end()
			}
			if len(head) != 2 || given == q.most || !wanted[binary.LittleEndian.Uint16(head)] {
				return invalid("a shard that wasn't asked for")
			}
			index := binary.LittleEndian.Uint16(head)
			delete(wanted, index)
			shard, err := c.read(m, int(index))
			if err != nil {
				return err
			}
			select {
			case c.came <- shardResult{id: id, index: int(index), shard: shard}:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	})
	return given, all, err
}

// read reads a shard and its justification, and checks them against the erasure root.
func (c *collection) read(m messages, index int) ([]byte, error) {
	size := c.code.ShardSize(c.length)
	inPath := 0 // CE 138's justification has no shards in it
	if c.segment >= 0 {
		inPath = size
	}
	shard, err := m.next(size)
	if err != nil {
		return nil, err
	}
	path, err := m.next(justify.MaxBytes(inPath))
	if err != nil {
		return nil, err
	}
	if len(shard) != size {
		return nil, invalid("shard %d of %d bytes, not %d", index, len(shard), size)
	}
	j, err := justify.Parse(path, inPath)
	if err == nil && c.segment < 0 {
		err = c.spec.CheckBundle(index, shard, j)
	} else if err == nil {
		err = c.spec.CheckSegment(index, c.segment, shard, j)
	}
	if err != nil {
		return nil, invalid("%w", err)
	}
	return shard, nil
}

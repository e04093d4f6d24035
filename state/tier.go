package state

import (
	"context"
	"sync"

	"accessor/state/cache"
)

// Tier says where a read found its answer.
type Tier uint8

// The tiers, from the fastest.
const (
	// TierCache: in memory, in the read cache.
	TierCache Tier = 1 + iota
	// TierCheckpoint: in the block's checkpoint. Of several keys, at least one.
	TierCheckpoint
	// TierPeer: at peers, and verified; only of a partial state. Of several keys, at
	// least one.
	TierPeer
)

// String gives the tier's name: cache, checkpoint or peer.
func (t Tier) String() string {
	switch t {
	case TierCache:
		return "cache"
	case TierCheckpoint:
		return "checkpoint"
	case TierPeer:
		return "peer"
	}
	return "none"
}

// AppendGetTier is AppendGet, and says where the answer was found. ctx says who asks (see
// GuardReplays), and its end that of waiting for peers.
func (v *View) AppendGetTier(ctx context.Context, dst, key []byte) (value []byte, present bool, tier Tier, err error) {
	var ref cache.Ref
	var ok bool
	if v.path != nil {
		var f *cache.Fact
		if f, ref, ok = v.a.reads.cache.Get(v.path, key); f != nil {
			return append(dst, f.Value...), f.Present, TierCache, nil
		}
	}
	if p := v.a.enter(); p != nil {
		defer p.leave()
		return v.appendPartial(ctx, p, dst, key, ref, ok)
	}
	if ok {
		value, present, err = v.appendMissed(ctx, dst, key, ref)
		return value, present, TierCheckpoint, err
	}
	cv, err := v.checkpoint(ctx)
	if err != nil {
		return dst, false, 0, err
	}
	v.a.reads.fromDisk.Add(1)
	value, present, err = cv.Get(dst, key)
	return value, present, TierCheckpoint, err
}

// MultiGetTier is MultiGet, and says where the answers were found.
func (v *View) MultiGetTier(ctx context.Context, keys [][]byte) ([][]byte, Tier, error) {
	values, tier, err := v.MultiGetWithin(ctx, keys, Bound{})
	if err != nil {
		return nil, 0, err
	}
	// Copies, which are the caller's to change; of each key its own.
	size := 0
	for _, value := range values {
		size += len(value)
	}
	buf := make([]byte, 0, size)
	for i, value := range values {
		if value != nil {
			n := len(buf)
			buf = append(buf, value...)
			values[i] = buf[n:len(buf):len(buf)]
		}
	}
	return values, tier, nil
}

// factLists are used again by Each.
var factLists = sync.Pool{New: func() any { return new([]*cache.Fact) }}

// mostFacts is how long a list may be to be kept.
const mostFacts = 1024

// Each is MultiGetTier without memory for the values: visit is called with each key's
// place and value, in the order of the keys. A value is valid during the call. An
// error of visit ends it.
func (v *View) Each(ctx context.Context, keys [][]byte, visit func(i int, value []byte, present bool) error) (Tier, error) {
	list := factLists.Get().(*[]*cache.Fact)
	if cap(*list) < len(keys) {
		*list = make([]*cache.Fact, len(keys))
	}
	facts := (*list)[:len(keys)]
	defer func() {
		clear(facts) // what the cache drops is nobody's
		if cap(*list) <= mostFacts {
			factLists.Put(list)
		}
	}()
	tier, err := v.many(ctx, keys, facts, Bound{})
	if err != nil {
		return 0, err
	}
	for i, f := range facts {
		if err := visit(i, f.Value, f.Present); err != nil {
			return tier, err
		}
	}
	return tier, nil
}

// MultiGetWithin is MultiGetTier for a caller with room for so much, who doesn't write
// to the values: the one of a key that comes twice is held, and counted, once. Errors:
// those of MultiGet, and the bound's.
func (v *View) MultiGetWithin(ctx context.Context, keys [][]byte, bound Bound) ([][]byte, Tier, error) {
	facts := make([]*cache.Fact, len(keys))
	tier, err := v.many(ctx, keys, facts, bound)
	if err != nil {
		return nil, 0, err
	}
	values := make([][]byte, len(keys))
	for i, f := range facts {
		values[i] = valueOrNil(f.Value, f.Present)
	}
	return values, tier, nil
}

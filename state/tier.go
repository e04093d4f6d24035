package state

import "context"

// Tier says where a read found its answer.
type Tier uint8

// The tiers, from the fastest.
const (
	// TierCache: in memory, in the read cache.
	TierCache Tier = 1 + iota
	// TierCheckpoint: in the block's checkpoint. Of several keys, at least one.
	TierCheckpoint
)

// String gives the tier's name: cache or checkpoint.
func (t Tier) String() string {
	switch t {
	case TierCache:
		return "cache"
	case TierCheckpoint:
		return "checkpoint"
	}
	return "none"
}

// AppendGetTier is AppendGet, and says where the answer was found. ctx is for readers
// who share the view: it says who asks; see GuardReplays.
func (v *View) AppendGetTier(ctx context.Context, dst, key []byte) (value []byte, present bool, tier Tier, err error) {
	if v.path != nil {
		f, ref, ok := v.a.reads.cache.Get(v.path, key)
		if f != nil {
			return append(dst, f.Value...), f.Present, TierCache, nil
		}
		if ok {
			value, present, err = v.appendMissed(ctx, dst, key, ref)
			return value, present, TierCheckpoint, err
		}
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
	facts, size, tier, err := v.many(ctx, keys)
	if err != nil {
		return nil, 0, err
	}
	values, buf := make([][]byte, len(keys)), make([]byte, 0, size)
	for i, f := range facts {
		if f.Present {
			n := len(buf)
			buf = append(buf, f.Value...)
			values[i] = buf[n:len(buf):len(buf)]
		}
	}
	return values, tier, nil
}

package state

import (
	"bytes"
	"context"
	"slices"

	"accessor/state/cache"
)

// MultiGet gives the values of keys, which may come in any order, and twice; nil
// stands for a key that the state doesn't have, an empty value is not nil. What the
// cache doesn't have is read in one call.
func (v *View) MultiGet(ctx context.Context, keys [][]byte) ([][]byte, error) {
	values, _, err := v.MultiGetTier(ctx, keys)
	return values, err
}

// HasMany says of each key whether the state has it.
func (v *View) HasMany(ctx context.Context, keys [][]byte) ([]bool, error) {
	facts := make([]*cache.Fact, len(keys))
	_, err := v.many(ctx, keys, facts, Bound{})
	if err != nil {
		return nil, err
	}
	present := make([]bool, len(keys))
	for i, f := range facts {
		present[i] = f.Present
	}
	return present, nil
}

// missing is a key that the cache doesn't have.
type missing struct {
	at   int // in the list of keys
	key  []byte
	ref  cache.Ref
	keep bool // the cache takes it under ref
}

// many fills in what is known of keys, and says where that was found. The bound
// counts the value of each key once.
func (v *View) many(ctx context.Context, keys [][]byte, facts []*cache.Fact, bound Bound) (tier Tier, err error) {
	if err := context.Cause(ctx); err != nil {
		return 0, err
	}
	var missed []missing
	var held map[*cache.Fact]struct{}
	if bound.Take != nil {
		held = make(map[*cache.Fact]struct{})
	}
	for i, key := range keys {
		m := missing{at: i, key: key}
		if v.path != nil {
			facts[i], m.ref, m.keep = v.a.reads.cache.Get(v.path, key)
		}
		f := facts[i]
		if f == nil {
			missed = append(missed, m)
			continue
		}
		if _, ok := held[f]; !ok && held != nil {
			held[f] = struct{}{}
			if err := bound.take(len(f.Value)); err != nil {
				return 0, err
			}
		}
	}
	if len(missed) == 0 {
		return TierCache, nil
	}
	slices.SortFunc(missed, func(a, b missing) int { return bytes.Compare(a.key, b.key) })
	if p := v.a.enter(); p != nil {
		defer p.leave()
		return v.readPartial(ctx, p, facts, missed, bound)
	}
	return TierCheckpoint, v.readMissed(ctx, facts, missed, bound)
}

// readMissed reads keys in ascending order from the checkpoint into facts, each once.
func (v *View) readMissed(ctx context.Context, facts []*cache.Fact, missed []missing, bound Bound) error {
	cv, err := v.checkpoint(ctx)
	if err != nil {
		return err
	}
	unique := make([][]byte, 0, len(missed))
	for i, m := range missed {
		if i == 0 || !bytes.Equal(m.key, missed[i-1].key) {
			unique = append(unique, m.key)
		}
	}
	v.a.reads.fromDisk.Add(int64(len(unique)))
	step := len(unique)
	if bound.Take != nil {
		step = 1 // until their size is known
	}
	for len(unique) > 0 {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		part := unique[:min(step, len(unique))]
		values, err := cv.GetMany(part)
		if err != nil {
			return err
		}
		largest := 0
		for i, key := range part {
			value := values[i]
			if err := bound.take(len(value)); err != nil {
				return err
			}
			largest = max(largest, len(value))
			f := &cache.Fact{Value: value, Present: value != nil}
			if m := missed[0]; m.keep {
				v.a.reads.cache.Put(m.ref, m.key, value, value != nil)
			}
			for len(missed) > 0 && bytes.Equal(missed[0].key, key) {
				facts[missed[0].at] = f
				missed = missed[1:]
			}
		}
		unique = unique[len(part):]
		step = nextStep(step, largest)
	}
	return nil
}

// nextStep is how many keys to read at a time, after some of which the largest value
// had so many bytes: more and more while values are small, so that a batch of small
// ones is few calls, and large ones are not all in memory before they are counted.
func nextStep(step, largest int) int {
	const together, most = 4 << 20, 32 // bytes, and keys, of one call
	return max(1, min(8*step, together/max(largest, 1), most))
}

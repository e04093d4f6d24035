package state

import (
	"bytes"
	"context"
	"iter"

	"accessor/checkpoint"
	"accessor/state/cache"
)

// Get gives the value of a key; present is false where the state has no such
// key. It and all reads that take no context may wait for peers, in a partial state, as
// long as Config.FetchTimeout says: who has a deadline takes AppendGetTier.
func (v *View) Get(key []byte) (value []byte, present bool, err error) {
	return v.AppendGet(nil, key)
}

// AppendGet appends the value of a key to dst, without allocating where the cache
// has it and dst has the room; present is false, and dst unchanged, where the state
// has no such key.
func (v *View) AppendGet(dst, key []byte) (value []byte, present bool, err error) {
	value, present, _, err = v.AppendGetTier(v.opener, dst, key)
	return value, present, err
}

// appendMissed reads a key that the cache doesn't have.
func (v *View) appendMissed(ctx context.Context, dst, key []byte, ref cache.Ref) ([]byte, bool, error) {
	cv, err := v.checkpoint(ctx)
	if err != nil {
		return dst, false, err
	}
	v.a.reads.fromDisk.Add(1)
	f, err := v.a.reads.cache.Once(ref, key, func() ([]byte, bool, error) { return cv.Get(nil, key) })
	if err != nil {
		// Perhaps another view's, whose checkpoint can't be read.
		return cv.Get(dst, key)
	}
	return append(dst, f.Value...), f.Present, nil
}

// Has says whether the state has a key.
func (v *View) Has(key []byte) (bool, error) {
	if v.path != nil {
		if f, _, _ := v.a.reads.cache.Get(v.path, key); f != nil {
			return f.Present, nil
		}
	}
	_, present, err := v.AppendGet(nil, key)
	return present, err
}

// ScanOptions say which pairs of a state a scan gives. The zero value gives all.
type ScanOptions struct {
	// Prefix is what the keys begin with.
	Prefix []byte
	// From is the first key, To the first one after the last; nil for no bound.
	From, To []byte
	// Reverse gives them in descending order, from below To on.
	Reverse bool
	// Limit is the most pairs; 0 for no limit.
	Limit int
	// KeysOnly leaves the values out.
	KeysOnly bool
}

// Bounds gives the range of keys that a scan reads; an empty to means no upper end. ok
// is false where it holds none.
func (o *ScanOptions) Bounds() (from, to []byte, ok bool) {
	from, to = o.From, o.To
	if bytes.Compare(o.Prefix, from) > 0 {
		from = o.Prefix
	}
	if end := checkpoint.PrefixEnd(o.Prefix); end != nil && (to == nil || bytes.Compare(end, to) < 0) {
		to = end
	}
	if to != nil && bytes.Compare(from, to) >= 0 {
		return nil, nil, false
	}
	return from, to, true
}

// Scan yields pairs in order. The slices are valid until the next pair. An error,
// that of ctx among them, comes as the last element. A scan goes by the read cache.
func (v *View) Scan(ctx context.Context, opts ScanOptions) iter.Seq2[Pair, error] {
	return func(yield func(Pair, error) bool) {
		from, to, ok := opts.Bounds()
		if !ok {
			return
		}
		if p := v.a.enter(); p != nil {
			defer p.leave()
			v.scanPartial(ctx, p, from, to, opts, yield)
			return
		}
		cv, err := v.checkpoint(ctx)
		if err != nil {
			yield(Pair{}, err)
			return
		}
		var it checkpoint.StateIterator
		if opts.Reverse {
			it = cv.ScanBack(from, to)
		} else {
			it = cv.Scan(from, to)
		}
		const step = 1024
		for n := 0; opts.Limit <= 0 || n < opts.Limit; n++ {
			if n%step == 0 && ctx.Err() != nil {
				_ = it.Close()
				yield(Pair{}, context.Cause(ctx))
				return
			}
			if !it.Next() {
				break
			}
			p := Pair{Key: it.Key()}
			if !opts.KeysOnly {
				p.Value = it.Value()
			}
			if !yield(p, nil) {
				_ = it.Close()
				return
			}
		}
		if err := it.Close(); err != nil {
			yield(Pair{}, err)
		}
	}
}

// Page gives what Scan yields, up to the limit, and where to go on: the next page's
// From, or its To where the order is reversed; nil where there is no more.
func (v *View) Page(ctx context.Context, opts ScanOptions) (pairs []Pair, next []byte, err error) {
	limit := opts.Limit
	if limit > 0 {
		opts.Limit++
	}
	for p, err := range v.Scan(ctx, opts) {
		if err != nil {
			return nil, nil, err
		}
		if limit > 0 && len(pairs) == limit {
			if opts.Reverse {
				return pairs, append(bytes.Clone(p.Key), 0), nil // the first key after it
			}
			return pairs, bytes.Clone(p.Key), nil
		}
		pairs = append(pairs, Pair{Key: bytes.Clone(p.Key), Value: bytes.Clone(p.Value)})
	}
	return pairs, nil, nil
}

// All yields the state's pairs with keys in [from, to), in key order; an empty
// to means no upper end. The slices are valid until the next pair. An error
// comes as the last element.
func (v *View) All(from, to []byte) iter.Seq2[Pair, error] {
	if len(to) == 0 {
		to = nil
	}
	return v.Scan(v.opener, ScanOptions{From: from, To: to})
}

// Size is how large a state is.
type Size struct {
	Keys  int64 // their number
	Bytes int64 // of all keys and values
}

// Size counts the state: it reads all of it.
func (v *View) Size(ctx context.Context) (size Size, err error) {
	for p, err := range v.Scan(ctx, ScanOptions{}) {
		if err != nil {
			return Size{}, err
		}
		size.Keys++
		size.Bytes += int64(len(p.Key) + len(p.Value))
	}
	return size, nil
}

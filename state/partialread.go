package state

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"accessor/checkpoint"
	"accessor/forks"
	"accessor/state/cache"
	"accessor/state/merkle"
)

// read gives the values of keys at a block, nil for absent ones, and whether peers were
// asked. The store stays open meanwhile. Errors: ErrNotFetched, and the store's.
func (p *partial) read(ctx context.Context, b forks.Block, keys [][]byte) (values [][]byte, fetched bool, err error) {
	ctx, end, err := p.a.begin(ctx)
	if err != nil {
		return nil, false, err
	}
	defer end()
	values = make([][]byte, len(keys))
	var missing [][merkle.KeySize]byte
	for i, key := range keys {
		if len(key) != merkle.KeySize {
			continue // no state has it
		}
		value, err := p.here(b, key)
		if gap := (*merkle.MissingError)(nil); errors.As(err, &gap) {
			missing = append(missing, [merkle.KeySize]byte(key))
			continue
		}
		if err != nil {
			return nil, false, err
		}
		values[i] = value
	}
	p.a.reads.fromDisk.Add(int64(len(keys) - len(missing)))
	if len(missing) == 0 {
		return values, false, nil
	}
	slices.SortFunc(missing, func(a, b [merkle.KeySize]byte) int { return bytes.Compare(a[:], b[:]) })
	missing = slices.Compact(missing)
	got, err := p.once(ctx, b, missing)
	if err != nil {
		return nil, true, err
	}
	p.a.reads.fromPeers.Add(int64(len(missing)))
	for i, key := range keys {
		if len(key) == merkle.KeySize && values[i] == nil {
			values[i] = got[[merkle.KeySize]byte(key)]
		}
	}
	return values, true, nil
}

// here gives the value of a key at a block without peers, nil for an absent one.
// Errors: a *merkle.MissingError, and the store's.
func (p *partial) here(b forks.Block, key []byte) ([]byte, error) {
	value, wrote, err := p.written(b, key)
	if err != nil || wrote {
		return value, err
	}
	for _, root := range []forks.Hash{b.Root, p.anchor.Root} { // neither has written it
		var present bool
		value, present, err = merkle.SparseGet(p, root, [merkle.KeySize]byte(key))
		if err == nil {
			return valueOrNil(value, present), nil
		}
		if gap := (*merkle.MissingError)(nil); !errors.As(err, &gap) {
			return nil, err
		}
	}
	return nil, err
}

// written gives what the newest block from b up to the anchor that wrote a key made of
// it, nil where it was deleted; wrote is false where none did.
func (p *partial) written(b forks.Block, key []byte) (value []byte, wrote bool, err error) {
	for _, above := range p.a.mayHaveWritten(b.Hash, key) {
		if above.Hash == p.anchor.Hash {
			break
		}
		if value, wrote, err = p.a.store.Written(above.Hash, key); err != nil || wrote {
			return value, wrote, err
		}
	}
	return nil, false, nil
}

// appendPartial reads a key of a partial state that the cache doesn't have. The cache
// takes it under ref, if keep says so.
func (v *View) appendPartial(ctx context.Context, p *partial, dst, key []byte, ref cache.Ref, keep bool) ([]byte, bool, Tier, error) {
	values, fetched, err := p.read(ctx, v.b, [][]byte{key})
	if err != nil {
		return dst, false, 0, err
	}
	value := values[0]
	if keep {
		v.a.reads.cache.Put(ref, key, value, value != nil)
	}
	return append(dst, value...), value != nil, partialTier(fetched), nil
}

func partialTier(fetched bool) Tier {
	if fetched {
		return TierPeer
	}
	return TierCheckpoint
}

// readPartial reads keys of a partial state, in ascending order, into facts.
func (v *View) readPartial(ctx context.Context, p *partial, facts []*cache.Fact, missed []missing, bound Bound) (Tier, error) {
	tier := TierCheckpoint
	for len(missed) > 0 {
		part := missed[:min(fetchKeys, len(missed))]
		missed = missed[len(part):]
		keys := make([][]byte, len(part))
		for i, m := range part {
			keys[i] = m.key
		}
		values, fetched, err := p.read(ctx, v.b, keys)
		if err != nil {
			return 0, err
		}
		if fetched {
			tier = TierPeer
		}
		for i, m := range part {
			if i > 0 && bytes.Equal(m.key, part[i-1].key) {
				facts[m.at] = facts[part[i-1].at]
				continue
			}
			if err := bound.take(len(values[i])); err != nil {
				return 0, err
			}
			facts[m.at] = &cache.Fact{Value: values[i], Present: values[i] != nil}
			if m.keep {
				v.a.reads.cache.Put(m.ref, m.key, values[i], values[i] != nil)
			}
		}
	}
	return tier, nil
}

// scanPage is how many bytes of a range are asked for at a time.
const scanPage = 1 << 20

// scanPartial yields the pairs of a scan of a partial state, as peers give them. Peers
// don't walk backwards.
func (v *View) scanPartial(ctx context.Context, p *partial, from, to []byte, opts ScanOptions, yield func(Pair, error) bool) {
	if opts.Reverse {
		yield(Pair{}, fmt.Errorf("scan block %s in descending order: %w", v.b.Hash, ErrPartial))
		return
	}
	req, ok := rangeOf(from, to)
	if !ok {
		return
	}
	req.MaxSize = scanPage
	if opts.Limit > 0 {
		const atLeast, each = 16 << 10, 512 // bytes
		req.MaxSize = uint32(min(scanPage, atLeast+int64(opts.Limit)*each))
	}
	s := partialScan{p: p, at: p.a.branch(v.b), req: req}
	for n := 0; ; {
		page, more, err := s.next(ctx)
		if err != nil {
			yield(Pair{}, err)
			return
		}
		for _, pair := range page {
			if opts.KeysOnly {
				pair.Value = nil
			}
			if n++; !yield(pair, nil) || n == opts.Limit {
				return
			}
		}
		if !more {
			return
		}
	}
}

// partialScan walks over a range of the state at a block. Where peers don't have that
// block yet, it takes what they have at an ancestor, and the writes since.
type partialScan struct {
	p   *partial
	at  []forks.Block // the block, then ancestors, as partial.fetch takes them
	req merkle.RangeRequest

	chosen bool // at has one element left, and over is filled
	over   checkpoint.WriteSet
}

// next gives the next pairs, and whether there may be more. The store stays open
// meanwhile, and not while the caller looks at them.
func (s *partialScan) next(ctx context.Context) (page []Pair, more bool, err error) {
	ctx, end, err := s.p.a.begin(ctx)
	if err != nil {
		return nil, false, err
	}
	defer end()
	proof, more, err := s.fetch(ctx)
	if err != nil {
		return nil, false, err
	}
	last := s.req.End // of what is known now
	if more {
		last = proof.Pairs[len(proof.Pairs)-1].Key
	}
	over := s.over
	for i := range proof.Pairs {
		pair := &proof.Pairs[i]
		for len(over) > 0 && bytes.Compare(over[0].Key, pair.Key[:]) < 0 {
			page, over = appendWrite(page, over[0]), over[1:]
		}
		if len(over) > 0 && bytes.Equal(over[0].Key, pair.Key[:]) {
			page, over = appendWrite(page, over[0]), over[1:]
			continue
		}
		page = append(page, Pair{Key: pair.Key[:], Value: append([]byte{}, pair.Value...)})
	}
	for len(over) > 0 && bytes.Compare(over[0].Key, last[:]) <= 0 {
		page, over = appendWrite(page, over[0]), over[1:]
	}
	s.over = over
	return page, more && above(&s.req.Start, &last), nil
}

func appendWrite(page []Pair, w checkpoint.Write) []Pair {
	if w.Delete {
		return page
	}
	return append(page, Pair{Key: w.Key, Value: append([]byte{}, w.Value...)})
}

// fetch asks at the first block of which peers have the state.
func (s *partialScan) fetch(ctx context.Context) (proof *merkle.Proof, more bool, err error) {
	var failed error
	for _, b := range s.at {
		if proof, more, err = s.p.fetchPairs(ctx, b, s.req); err == nil {
			return proof, more, s.choose(b)
		}
		if failed == nil {
			failed = err
		}
		if ctx.Err() != nil {
			break
		}
	}
	return nil, false, failed
}

// mostOver bounds the writes, in bytes, that are laid over an ancestor's state.
const mostOver = 256 << 20

// choose settles for the state at a block, and gathers what was written since.
func (s *partialScan) choose(b forks.Block) error {
	if s.chosen {
		return nil
	}
	newest := make(map[string]checkpoint.Write)
	size := 0
	for _, above := range s.p.a.ancestors(s.at[0].Hash) {
		if above.Hash == b.Hash {
			break
		}
		ws, err := s.p.a.writesOf(above.Hash)
		if err != nil {
			return err
		}
		for _, w := range ws {
			if _, ok := newest[string(w.Key)]; ok || bytes.Compare(w.Key, s.req.Start[:]) < 0 || bytes.Compare(w.Key, s.req.End[:]) > 0 {
				continue
			}
			if size += len(w.Key) + len(w.Value); size > mostOver {
				return fmt.Errorf("%w: the blocks that peers lack wrote more than %d bytes", ErrPartial, mostOver)
			}
			newest[string(w.Key)] = w
		}
	}
	s.chosen, s.at = true, []forks.Block{b}
	for _, key := range slices.Sorted(maps.Keys(newest)) {
		s.over = append(s.over, newest[key])
	}
	return nil
}

// above sets a key to the first one above another; ok is false where there is none.
func above(next, key *[merkle.KeySize]byte) (ok bool) {
	*next = *key
	for i := len(next) - 1; i >= 0; i-- {
		if next[i]++; next[i] != 0 {
			return true
		}
	}
	return false
}

// rangeOf gives the range of whole keys in [from, to), of any lengths; an empty to
// means no upper end. ok is false where it has none.
func rangeOf(from, to []byte) (req merkle.RangeRequest, ok bool) {
	copy(req.Start[:], from)
	if len(from) > merkle.KeySize && !above(&req.Start, &req.Start) {
		return req, false
	}
	if len(to) == 0 {
		req.End = lastKey
		return req, true
	}
	copy(req.End[:], to)
	if len(to) <= merkle.KeySize {
		i := len(req.End) - 1
		for ; i >= 0; i-- { // one below
			if req.End[i]--; req.End[i] != 0xff {
				break
			}
		}
		if i < 0 {
			return req, false
		}
	}
	return req, bytes.Compare(req.Start[:], req.End[:]) <= 0
}

// provePartial proves keys of a partial state from what is known of its trie, and what
// peers have.
func (v *View) provePartial(ctx context.Context, p *partial, s *merkle.Statement, bound Bound) (*merkle.Statement, error) {
	proof, err := p.prove(ctx, v.b, s.Keys)
	if err == nil {
		err = takeProof(bound, proof)
	}
	if err != nil {
		return nil, fmt.Errorf("prove at block %s: %w", v.b.Hash, err)
	}
	s.Proof = *proof
	return s, nil
}

// prove makes the proof of keys, in ascending order, at a block. The store stays open
// meanwhile.
func (p *partial) prove(ctx context.Context, b forks.Block, keys [][merkle.KeySize]byte) (*merkle.Proof, error) {
	ctx, end, err := p.a.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	l := &learned{p: p, fresh: make(map[string][]byte)}
	values := func(key []byte) ([]byte, bool, error) {
		value, err := p.here(b, key)
		if gap := (*merkle.MissingError)(nil); errors.As(err, &gap) {
			return nil, false, nil
		}
		return value, value != nil, err
	}
	for range mostRounds {
		proof, err := merkle.SparseProve(l, b.Root, keys, values)
		gap := (*merkle.MissingError)(nil)
		if !errors.As(err, &gap) {
			return proof, err
		}
		_, err = p.fetch(ctx, p.a.branch(b), gap.Keys, func(proof *merkle.Proof) {
			p.absorb(proof)
			l.learn(proof.Nodes)
		})
		if err != nil {
			return nil, err
		}
	}
	return nil, &FetchError{Block: b, Keys: len(keys), Err: errNoProgress}
}

// proveRangePartial answers a range request with what peers give.
func (v *View) proveRangePartial(ctx context.Context, p *partial, s *merkle.Statement, bound Bound) (*merkle.Statement, error) {
	if bytes.Compare(s.Range.Start[:], s.Range.End[:]) > 0 {
		return nil, fmt.Errorf("prove range: %w: start %x is above end %x", merkle.ErrOrder, s.Range.Start, s.Range.End)
	}
	proof, _, err := p.fetchRange(ctx, v.b, *s.Range)
	if err == nil {
		err = takeProof(bound, proof)
	}
	if err != nil {
		return nil, fmt.Errorf("prove at block %s: %w", v.b.Hash, err)
	}
	s.Proof = *proof
	return s, nil
}

func takeProof(bound Bound, proof *merkle.Proof) error {
	for _, pair := range proof.Pairs {
		if err := bound.take(len(pair.Value)); err != nil {
			return err
		}
	}
	return bound.take(len(proof.Nodes) * merkle.NodeSize)
}

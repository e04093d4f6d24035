package state

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"

	"go.uber.org/zap"

	"accessor/checkpoint"
	"accessor/forks"
	"accessor/state/merkle"
)

// ErrNoTrie is the error of a proof that a store without roots can't give.
var ErrNoTrie = errors.New("the store's states have no roots to prove against")

// Prove proves keys of the view's state, present or not, against the root of its
// block. The keys may come in any order, and twice. Errors: ErrNoTrie, ErrInvalid
// for a key of another length, and the store's.
func (v *View) Prove(keys [][]byte) (*merkle.Statement, error) {
	return v.ProveWithin(v.opener, keys, Bound{})
}

// ProveWithin is Prove for callers with a bound on what is kept: values and nodes.
func (v *View) ProveWithin(ctx context.Context, keys [][]byte, bound Bound) (*merkle.Statement, error) {
	s := &merkle.Statement{Block: v.Block().Hash}
	for _, key := range keys {
		if len(key) != merkle.KeySize {
			return nil, fmt.Errorf("%w: key %s has %d bytes, want %d", ErrInvalid, keyText(key), len(key), merkle.KeySize)
		}
		s.Keys = append(s.Keys, [merkle.KeySize]byte(key))
	}
	slices.SortFunc(s.Keys, func(a, b [merkle.KeySize]byte) int { return bytes.Compare(a[:], b[:]) })
	s.Keys = slices.Compact(s.Keys)
	if p := v.a.enter(); p != nil {
		defer p.leave()
		return v.provePartial(ctx, p, s, bound)
	}
	return v.prove(ctx, s, bound, func(t *merkle.Trie) (*merkle.Proof, error) { return t.Prove(s.Keys, v.getWithin(ctx, bound)) })
}

// getWithin is Get that counts what it gives.
func (v *View) getWithin(ctx context.Context, bound Bound) merkle.Values {
	return func(key []byte) ([]byte, bool, error) {
		value, present, _, err := v.AppendGetTier(ctx, nil, key)
		if err == nil {
			err = bound.take(len(value))
		}
		return value, present, err
	}
}

// ProveRange answers a range request (JAMNP-S CE 129) at the view's block. Errors:
// ErrNoTrie, merkle.ErrOrder, and the store's.
func (v *View) ProveRange(req merkle.RangeRequest) (*merkle.Statement, error) {
	return v.ProveRangeWithin(v.opener, req, Bound{})
}

// ProveRangeWithin is ProveRange for callers with a bound on what is kept.
func (v *View) ProveRangeWithin(ctx context.Context, req merkle.RangeRequest, bound Bound) (*merkle.Statement, error) {
	s := &merkle.Statement{Block: v.Block().Hash, Range: &req}
	if p := v.a.enter(); p != nil {
		defer p.leave()
		return v.proveRangePartial(ctx, p, s, bound)
	}
	cv, err := v.checkpoint(ctx)
	if err != nil {
		return nil, err
	}
	walk := func(from []byte, yield func(key, value []byte) bool) error {
		it := cv.Scan(from, nil)
		var full error
		for full == nil && it.Next() && yield(it.Key(), it.Value()) {
			full = bound.take(len(it.Key()) + len(it.Value()))
		}
		return errors.Join(full, it.Close())
	}
	return v.prove(ctx, s, bound, func(t *merkle.Trie) (*merkle.Proof, error) { return t.ProveRange(req, v.getWithin(ctx, bound), walk) })
}

// prove makes a proof with the stored trie or, where that can't be used, with one
// made from the state.
func (v *View) prove(ctx context.Context, s *merkle.Statement, bound Bound, with func(*merkle.Trie) (*merkle.Proof, error)) (*merkle.Statement, error) {
	a, b := v.a, v.Block()
	if !a.commitment.Rooted() {
		return nil, fmt.Errorf("prove at block %s: %w", b.Hash, ErrNoTrie)
	}
	cv, err := v.checkpoint(ctx)
	if err != nil {
		return nil, err
	}
	var p *merkle.Proof
	trie, err := a.trieAt(b, cv.Trie())
	if err == nil {
		p, err = with(trie)
	}
	if errors.Is(err, merkle.ErrDamaged) {
		a.log.Warn("prove with a trie that is made from the state", zap.Stringer("block", b.Hash), zap.Error(err))
		if trie, err = a.trieOf(b, cv.Scan(nil, nil)); err == nil {
			p, err = with(trie)
		}
	}
	if err == nil {
		err = bound.take(len(p.Nodes) * merkle.NodeSize)
	}
	if err != nil {
		return nil, fmt.Errorf("prove at block %s: %w", b.Hash, err)
	}
	s.Proof = *p
	return s, nil
}

// trieOf makes a block's trie, in memory, from all pairs of its state. Error:
// ErrWrongRoot where that is another state.
func (a *Accessor) trieOf(b forks.Block, it checkpoint.StateIterator) (*merkle.Trie, error) {
	var spool trieSpool
	root, err := a.commitment.Build(overlay(&it, nil), spool.add)
	if err = errors.Join(err, it.Close()); err != nil {
		return nil, err
	}
	if root != b.Root {
		return nil, &RootError{Kind: ErrWrongRoot, Block: b.Hash, Slot: b.Slot, Declared: b.Root, Actual: root}
	}
	return merkle.Open(spool, root, nil)
}

// RootAfter gives the root that a write set would give on the view's state; nothing
// is imported. Errors: ErrNoTrie, ErrInvalid, and the store's.
func (v *View) RootAfter(puts []Pair, dels [][]byte) (forks.Hash, error) {
	a, b := v.a, v.Block()
	if !a.commitment.Rooted() {
		return forks.Hash{}, fmt.Errorf("root after a write set: %w", ErrNoTrie)
	}
	_, ws, err := a.writeSet(&Block{Hash: b.Hash, Puts: puts, Dels: dels})
	if err != nil {
		return forks.Hash{}, fmt.Errorf("root after a write set: %w", err)
	}
	if p := a.enter(); p != nil {
		defer p.leave()
		root, _, err := p.rootAfter(v.opener, b, ws)
		if err != nil {
			return forks.Hash{}, fmt.Errorf("root after a write set on block %s: %w", b.Hash, err)
		}
		return root, nil
	}
	cv, err := v.checkpoint(v.opener)
	if err != nil {
		return forks.Hash{}, err
	}
	trie, err := a.trieAt(b, cv.Trie())
	if err == nil {
		trie, _, err = trie.Update(trieWrites(ws))
	}
	if err != nil {
		return forks.Hash{}, fmt.Errorf("root after a write set on block %s: %w", b.Hash, err)
	}
	return trie.Root(), nil
}

// Root recomputes the root of the state at a block from all its pairs, and gives
// the block with it. Errors: a *RootError where it is not the recorded one,
// ErrNoTrie, ErrUnknownBlock, and the store's.
func (a *Accessor) Root(ctx context.Context, h forks.Hash) (forks.Block, error) {
	v, err := a.View(ctx, h)
	if err != nil {
		return forks.Block{}, err
	}
	defer v.Close()
	b := v.Block()
	if !a.commitment.Rooted() {
		return b, ErrNoTrie
	}
	cv, err := v.checkpoint(ctx)
	if err != nil {
		return b, err
	}
	return b, a.verifyRoot(b, cv.Scan(nil, nil))
}

// verifyTrie recomputes a block's root from all pairs of its state, and compares
// the stored records of its trie on the way. The error of another root names the
// first range of keys in which the state differs from the stored trie.
func (a *Accessor) verifyTrie(b forks.Block, scan func() checkpoint.StateIterator, records checkpoint.Records) error {
	if !a.commitment.Rooted() {
		return a.verifyRoot(b, scan())
	}
	next, stop := iter.Pull2(recordsOf(records))
	defer stop()
	var differs []byte
	compare := func(key, value []byte) error {
		if differs == nil {
			if r, err, ok := next(); err != nil {
				return err
			} else if !ok || !bytes.Equal(r.Key, key) || !bytes.Equal(r.Value, value) {
				differs = bytes.Clone(key)
			}
		}
		return nil
	}
	it := scan()
	root, err := a.commitment.Build(overlay(&it, nil), compare)
	if err = errors.Join(err, it.Close()); err != nil {
		return err
	}
	if root != b.Root {
		wrong := &RootError{Kind: ErrWrongRoot, Block: b.Hash, Slot: b.Slot, Declared: b.Root, Actual: root}
		from, to, err := a.firstDifference(b, root, scan(), records)
		if err != nil {
			return errors.Join(wrong, fmt.Errorf("where it differs can't be told: %w", err))
		}
		return fmt.Errorf("%w; it differs first between keys %x and %x", wrong, from, to)
	}
	if differs == nil {
		if r, err, ok := next(); err != nil {
			return err
		} else if ok {
			differs = r.Key
		}
	}
	if differs != nil {
		return fmt.Errorf("%w: record %x is not that of the state", merkle.ErrDamaged, differs)
	}
	return nil
}

// firstDifference compares the trie of the state that a walk gives with the stored
// one.
func (a *Accessor) firstDifference(b forks.Block, root forks.Hash, it checkpoint.StateIterator, records checkpoint.Records) (from, to [merkle.KeySize]byte, err error) {
	var spool trieSpool
	_, err = a.commitment.Build(overlay(&it, nil), spool.add)
	if err = errors.Join(err, it.Close()); err != nil {
		return from, to, err
	}
	actual, err := merkle.Open(spool, root, nil)
	if err != nil {
		return from, to, err
	}
	recorded, err := merkle.Open(records, b.Root, nil)
	if err != nil {
		return from, to, err
	}
	from, to, _, err = merkle.FirstDifference(recorded, actual)
	return from, to, err
}

// recordsOf yields all records in order.
func recordsOf(r checkpoint.Records) iter.Seq2[checkpoint.Pair, error] {
	return func(yield func(checkpoint.Pair, error) bool) {
		stopped := false
		err := r.Scan(nil, nil, func(key, value []byte) bool {
			stopped = !yield(checkpoint.Pair{Key: key, Value: value}, nil)
			return !stopped
		})
		if err != nil && !stopped {
			yield(checkpoint.Pair{}, err)
		}
	}
}

package state

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sync"

	"go.uber.org/zap"

	"accessor/checkpoint"
	"accessor/forks"
	"accessor/state/merkle"
)

const (
	// trieCacheSize is the most memory, in bytes, that parts of tries keep.
	trieCacheSize = 40 << 20
	// recentTries is how many blocks' tries have their top in memory: some 700 kB
	// for 2 million keys, most of it shared with the parent's.
	recentTries = 16
)

// tries keeps the tries of the blocks that were imported or asked for last.
type tries struct {
	cache *merkle.Cache

	mu     sync.Mutex
	recent []recentTrie // least recently used first
}

type recentTrie struct {
	block forks.Hash
	trie  *merkle.Trie
}

func (t *tries) get(block forks.Hash) *merkle.Trie {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i, r := range t.recent {
		if r.block == block {
			t.recent = append(append(t.recent[:i], t.recent[i+1:]...), r)
			return r.trie
		}
	}
	return nil
}

func (t *tries) add(block forks.Hash, trie *merkle.Trie) {
	if trie == nil || t.get(block) != nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.recent = append(t.recent, recentTrie{block, trie})
	if len(t.recent) > recentTries {
		t.recent = append(t.recent[:0], t.recent[1:]...)
	}
}

// ForgetTries gives up what is kept of tries in memory; it is read again when it is
// needed.
func (a *Accessor) ForgetTries() {
	a.tries.mu.Lock()
	a.tries.recent = nil
	a.tries.mu.Unlock()
	a.tries.cache.Clear()
}

// Warm reads the trie of a block, the head as a rule, into memory as far as it is
// kept there, so that the first imports after a start find it. It takes a second
// for 2 million keys, and does nothing for a commitment without roots, and in a partial
// store.
func (a *Accessor) Warm(ctx context.Context, block forks.Hash) error {
	if !a.commitment.Rooted() || a.Partial() {
		return nil
	}
	v, err := a.View(ctx, block)
	if err != nil {
		return fmt.Errorf("warm up: %w", err)
	}
	defer v.Close()
	cv, err := v.checkpoint(ctx)
	if err != nil {
		return err
	}
	trie, err := a.trieAt(v.Block(), cv.Trie())
	if err == nil {
		err = trie.Warm(ctx)
	}
	if err != nil {
		return fmt.Errorf("warm up with block %s: %w", block, err)
	}
	return nil
}

// trieAt gives the trie of a block's state, read from records that stand at it.
func (a *Accessor) trieAt(b forks.Block, records checkpoint.Records) (*merkle.Trie, error) {
	if t := a.tries.get(b.Hash); t != nil {
		return t.On(records), nil
	}
	t, err := merkle.Open(records, b.Root, a.tries.cache)
	if err == nil {
		a.tries.add(b.Hash, t.On(nil)) // the records don't stay open
	}
	return t, err
}

// trieUpdate is what a write set makes of a trie.
type trieUpdate struct {
	root    forks.Hash
	changes checkpoint.WriteSet
	after   *merkle.Trie // its top; nil where the trie was built from scratch
}

// updateTrie gives the trie after a write set on parent's state, at which w
// stands. Where the parent's records can't be used, all are made again from the
// state, and come with this block.
func (a *Accessor) updateTrie(parent forks.Block, ws checkpoint.WriteSet, w *checkpoint.Working) (trieUpdate, error) {
	var after *merkle.Trie
	var changes []merkle.Change
	trie, err := a.trieAt(parent, w.Trie())
	if err == nil {
		after, changes, err = trie.Update(trieWrites(ws))
	}
	if err != nil {
		a.log.Warn("make the trie again from the state", zap.Stringer("block", parent.Hash), zap.Error(err))
		return a.rebuildTrie(parent, ws, w)
	}
	up := trieUpdate{root: after.Root(), after: after.On(nil), changes: make(checkpoint.WriteSet, len(changes))}
	for i, c := range changes {
		up.changes[i] = checkpoint.Write{Key: c.Key, Value: c.Value, Delete: c.Value == nil}
	}
	return up, nil
}

func trieWrites(ws checkpoint.WriteSet) []merkle.Write {
	writes := make([]merkle.Write, len(ws))
	for i, each := range ws {
		writes[i] = merkle.Write(each)
	}
	return writes
}

// rebuildTrie makes all records from the state that w stands at and a write set,
// and removes those of w that are none of them.
func (a *Accessor) rebuildTrie(parent forks.Block, ws checkpoint.WriteSet, w *checkpoint.Working) (trieUpdate, error) {
	// The write set is right only on the state that the parent's root is about.
	if err := a.verifyRoot(parent, w.Scan(nil, nil)); err != nil {
		return trieUpdate{}, err
	}
	var up trieUpdate
	var made checkpoint.WriteSet
	it := w.Scan(nil, nil)
	root, err := a.commitment.Build(overlay(&it, ws), func(key, value []byte) error {
		made = append(made, checkpoint.Write{Key: key, Value: value})
		return nil
	})
	if err = errors.Join(err, it.Close()); err != nil {
		return up, err
	}
	up.root = root
	up.changes = make(checkpoint.WriteSet, 0, len(made))
	err = w.Trie().Scan(nil, nil, func(key, _ []byte) bool {
		for len(made) > 0 && bytes.Compare(made[0].Key, key) < 0 {
			up.changes, made = append(up.changes, made[0]), made[1:]
		}
		if len(made) == 0 || !bytes.Equal(made[0].Key, key) {
			up.changes = append(up.changes, checkpoint.Write{Key: bytes.Clone(key), Delete: true})
		}
		return true
	})
	up.changes = append(up.changes, made...)
	return up, err
}

// trieSpool keeps the records of a trie that is built while its state passes by,
// in order of their keys.
type trieSpool []checkpoint.Pair

var _ merkle.Source = trieSpool(nil)

// Get implements merkle.Source.
func (s trieSpool) Get(key []byte) ([]byte, bool, error) {
	i, ok := s.find(key)
	if !ok {
		return nil, false, nil
	}
	return s[i].Value, true, nil
}

// GetMany implements merkle.Source.
func (s trieSpool) GetMany(keys [][]byte) ([][]byte, error) {
	values := make([][]byte, len(keys))
	for i, k := range keys {
		values[i], _, _ = s.Get(k)
	}
	return values, nil
}

// Scan implements merkle.Source.
func (s trieSpool) Scan(from, to []byte, yield func(key, value []byte) bool) error {
	i, _ := s.find(from)
	for ; i < len(s) && bytes.Compare(s[i].Key, to) < 0 && yield(s[i].Key, s[i].Value); i++ {
		continue
	}
	return nil
}

func (s trieSpool) find(key []byte) (int, bool) {
	return slices.BinarySearchFunc(s, key, func(p checkpoint.Pair, key []byte) int { return bytes.Compare(p.Key, key) })
}

func (s *trieSpool) add(key, value []byte) error {
	*s = append(*s, checkpoint.Pair{Key: key, Value: value})
	return nil
}

func (s *trieSpool) all() iter.Seq[checkpoint.Pair] {
	return func(yield func(checkpoint.Pair) bool) {
		for _, p := range *s {
			if !yield(p) {
				return
			}
		}
	}
}

package state

import (
	"cmp"
	"context"
	"errors"
	"iter"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"go.uber.org/zap"

	"accessor/checkpoint"
	"accessor/forks"
	"accessor/state/cache"
)

// DefaultCacheBytes is a good size of the read cache for a program that serves
// others.
const DefaultCacheBytes = 64 << 20

// reads are the read cache, and the views that are open.
type reads struct {
	cache *cache.Cache // nil where it is off
	// fromDisk counts the keys that were read from checkpoints, or what a partial store
	// keeps; fromPeers those that peers were asked for, and had.
	fromDisk, fromPeers atomic.Int64
	ready               chan struct{}
	// shrinking lets one at a time move the index's base, or load it.
	shrinking sync.Mutex

	mu          sync.Mutex // guards the fields below
	open        map[*View]struct{}
	closed      bool // the last view that is closed closes the cache
	cacheClosed bool
}

func (r *reads) opened(v *View) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.open[v] = struct{}{}
}

func (r *reads) forget(v *View) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.open, v)
	r.closeLocked()
}

// closeLocked closes the cache once nobody reads any more.
func (r *reads) closeLocked() {
	if r.closed && len(r.open) == 0 && r.cache != nil && !r.cacheClosed {
		r.cacheClosed = true
		r.cache.Close()
	}
}

// openViews opens the states of the views that match, which have left that to
// their first read, or read of files: what they read of is about to go.
func (a *Accessor) openViews(match func(forks.Block) bool) {
	a.reads.mu.Lock()
	views := slices.Collect(maps.Keys(a.reads.open))
	a.reads.mu.Unlock()
	for _, v := range views {
		if !match(v.b) {
			continue
		}
		if err := v.detach(); err != nil && !errors.Is(err, errViewClosed) && !errors.Is(err, ErrPartial) {
			a.log.Warn("open the state of a view", zap.Stringer("block", v.b.Hash), zap.Error(err))
		}
	}
}

// startCache makes the read cache and begins to load its index, beside the reads,
// which go to the checkpoints until then.
func (a *Accessor) startCache(size int64) error {
	a.reads.open = make(map[*View]struct{})
	a.reads.ready = make(chan struct{})
	if size <= 0 {
		close(a.reads.ready)
		return nil
	}
	var err error
	if a.reads.cache, err = cache.New(cache.Options{Bytes: size}); err != nil {
		return err
	}
	a.calls.Go(func() {
		defer close(a.reads.ready)
		a.loadCache(a.Anchor())
	})
	return nil
}

// CacheReady is closed once the read cache has its index, or will not have one.
func (a *Accessor) CacheReady() <-chan struct{} { return a.reads.ready }

// CacheMisses is how many reads the cache could not answer though it has an index.
func (a *Accessor) CacheMisses() int64 {
	if a.reads.cache == nil {
		return 0
	}
	return a.reads.cache.Misses()
}

// loadCache gives the read cache its index of the blocks above a base.
func (a *Accessor) loadCache(base forks.Block) {
	rec, err := a.store.Get(base.Hash)
	if err == nil {
		err = a.reads.cache.Load(cache.Block{Hash: rec.Hash, Number: rec.Number}, a.writtenAbove(base))
	}
	if err != nil && a.closing.Err() == nil {
		a.log.Warn("reads go without the cache", zap.Error(err))
	}
}

// writtenAbove yields the blocks above a base in order of their numbers, and the keys
// that they wrote.
func (a *Accessor) writtenAbove(base forks.Block) iter.Seq2[cache.Block, iter.Seq2[[]byte, error]] {
	return func(yield func(cache.Block, iter.Seq2[[]byte, error]) bool) {
		records := a.store.Records()
		slices.SortFunc(records, func(a, b checkpoint.Record) int { return cmp.Compare(a.Number, b.Number) })
		for _, rec := range records {
			if rec.Slot > base.Slot && !rec.Anchor &&
				!yield(cache.Block{Hash: rec.Hash, Parent: rec.Parent, Number: rec.Number}, a.keysWritten(rec.Hash)) {
				return
			}
		}
	}
}

func (a *Accessor) keysWritten(h forks.Hash) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		if err := context.Cause(a.closing); err != nil {
			yield(nil, err)
			return
		}
		writes, err := a.store.ReadDelta(h)
		if err != nil {
			yield(nil, err)
			return
		}
		for w, err := range writes {
			if !yield(w.Key, err) {
				return
			}
		}
		// What was read is the whole state, perhaps, which doesn't say what was deleted.
		if rec, err := a.store.Get(h); err != nil || rec.Anchor {
			yield(nil, cmp.Or(err, errAnchorNow))
		}
	}
}

// errAnchorNow: a block has become the anchor while what it wrote was read.
var errAnchorNow = errors.New("it has become the anchor")

// cacheWrites tells the read cache what a block wrote, before the block can be read.
func (a *Accessor) cacheWrites(rec *checkpoint.Record, ws checkpoint.WriteSet) {
	if a.reads.cache == nil {
		return
	}
	b := cache.Block{Hash: rec.Hash, Parent: rec.Parent, Number: rec.Number}
	full, err := a.reads.cache.Add(b, func(yield func([]byte, error) bool) {
		for _, w := range ws {
			if !yield(w.Key, nil) {
				return
			}
		}
	})
	if err != nil || full {
		a.calls.Go(a.shrinkCache)
	}
}

// shrinkCache moves the base of the cache's index up, half the way to finalized.
// Where finality is too far behind for that, the cache is given up until it goes on.
func (a *Accessor) shrinkCache() {
	a.reads.shrinking.Lock()
	defer a.reads.shrinking.Unlock()
	c := a.reads.cache
	base, ok := c.Base()
	if !ok || !c.Full() {
		return // another has done it
	}
	var to forks.Hash
	a.ReadTree(func(t *forks.Tree) {
		finalized := t.Finalized()
		steps := (t.Height(finalized.Hash) - t.Height(base) + 1) / 2
		for b := range t.Ancestors(finalized.Hash) {
			if steps--; steps < 0 || b.Hash == base {
				to = b.Hash
				break
			}
		}
	})
	if to == base || (to == forks.Hash{}) {
		a.log.Warn("reads go without the cache until more is finalized: its index is full")
		c.Stop()
		return
	}
	c.Advance(to)
}

// cacheAfterFinality brings the cache back where it was given up.
func (a *Accessor) cacheAfterFinality() {
	if a.reads.cache == nil {
		return
	}
	select {
	case <-a.reads.ready:
	default:
		return
	}
	if _, ok := a.reads.cache.Base(); ok || !a.reads.shrinking.TryLock() {
		return
	}
	defer a.reads.shrinking.Unlock()
	var finalized forks.Block
	a.ReadTree(func(t *forks.Tree) { finalized = t.Finalized() })
	a.loadCache(finalized)
}

// closeCache ends the cache. Reads that are on their way in views that are open may
// still use it.
func (a *Accessor) closeCache() {
	if a.reads.cache == nil {
		return
	}
	a.reads.cache.Stop()
	a.reads.mu.Lock()
	defer a.reads.mu.Unlock()
	a.reads.closed = true
	a.reads.closeLocked()
}

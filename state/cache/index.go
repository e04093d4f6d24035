package cache

import (
	"errors"
	"hash/maphash"
	"iter"
	"math"
	"slices"
	"sync"
	"sync/atomic"

	"accessor/forks"
)

// Block is a block as the index knows it.
type Block struct {
	Hash, Parent forks.Hash
	Number       uint64 // of its import: from 1, never used twice, above its parent's
}

// index says which blocks above a base wrote a key. The base is an ancestor of the
// blocks in it; it moves up in steps (see Advance), with each of which an epoch
// begins. Blocks that don't descend from the base are not in it, and are read
// without the cache.
//
// Invariant: a path's epoch is the current one as long as no write that the path
// may ask for has been dropped. Both are looked at under a shard's lock.
type index struct {
	maxWrites int
	current   atomic.Pointer[epoch] // nil while there is no index
	shards    [64]shard
	writes    atomic.Int64

	moving sync.Mutex // one Load or Advance at a time; taken before mu

	mu      sync.Mutex // guards the fields below; taken before a shard's
	nodes   map[forks.Hash]*node
	recent  []*Path // least recently used first
	epochs  uint64  // number of the newest epoch
	loading bool
	// generation tells one index from the next: a Load that finds another has been
	// overtaken.
	generation int
	waiting    []added // what came while loading
}

// epoch is a time in which the base stayed the same.
type epoch struct {
	number uint64 // from 1
	base   *node
	// wrote has the tags of the keys that were written between the last epoch's
	// base and this one's; nil where this epoch doesn't follow on another.
	wrote map[uint64]struct{} // by tagOf
}

func (e *epoch) id() uint64 { return epochID(e.number) }

// node is a block of the index.
type node struct {
	hash   forks.Hash
	number uint64
	parent *node // nil at the base
}

// shard has the writes of some keys.
type shard struct {
	mu     sync.RWMutex
	newest map[uint64]uint64 // hash of a key → place of its last write
	writes []write           // in order of their places
	first  uint64            // place of writes[0]
}

// write is one block's write of one key.
type write struct {
	block uint32 // the lower half of its import number
	back  uint32 // how many places before it the key's last write is; 0 for none
	tag   uint32 // of the key
}

// tag is what a write remembers of its key's hash.
func tag(h uint64) uint32 { return uint32(h) }

// tagOf is a key's tag together with its shard.
func tagOf(h uint64) uint64 { return h>>58<<32 | uint64(tag(h)) }

type added struct {
	Block
	hashes []uint64
}

// maxRecent is how many paths are kept: 1.8 kB each for a day's blocks.
const maxRecent = 64

func (x *index) init(maxWrites int) {
	x.maxWrites = maxWrites
	x.nodes = make(map[forks.Hash]*node)
}

// shard gives the shard of a key's hash.
func (x *index) shard(h uint64) *shard { return &x.shards[h>>58] }

// ErrTooManyWrites is the error of a Load of more writes than there may be.
var ErrTooManyWrites = errors.New("too many writes for the index")

// Load makes the index of a base and blocks above it, in order of their numbers. What
// is added meanwhile comes after them. Until it ends, where it fails, and where Stop
// overtakes it, there is no index; one that was there before is given up. Errors:
// ErrTooManyWrites, and those of the blocks.
func (c *Cache) Load(base Block, blocks iter.Seq2[Block, iter.Seq2[[]byte, error]]) error {
	x := &c.index
	x.moving.Lock()
	defer x.moving.Unlock()
	x.mu.Lock()
	x.stopLocked()
	x.loading = true
	mine := x.generation
	root := &node{hash: base.Hash, number: base.Number}
	x.nodes[base.Hash] = root
	x.mu.Unlock()
	for b, keys := range blocks {
		a, err := c.hashed(b, keys)
		if err == nil && x.writes.Load() > int64(x.maxWrites) {
			err = ErrTooManyWrites
		}
		x.mu.Lock()
		overtaken := x.generation != mine
		switch {
		case overtaken:
		case err != nil:
			x.stopLocked()
		default:
			x.addLocked(a)
		}
		x.mu.Unlock()
		if overtaken || err != nil {
			return err
		}
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.generation != mine {
		return nil
	}
	for _, a := range x.waiting {
		x.addLocked(a)
	}
	x.loading, x.waiting = false, nil
	x.epochs++
	x.current.Store(&epoch{number: x.epochs, base: root})
	return nil
}

func (c *Cache) hashed(b Block, keys iter.Seq2[[]byte, error]) (added, error) {
	a := added{Block: b}
	for k, err := range keys {
		if err != nil {
			return a, err
		}
		a.hashes = append(a.hashes, maphash.Bytes(c.seed, k))
	}
	return a, nil
}

// Add takes in a block and the keys that it wrote, before the block can be read.
// full says that there are more writes than there may be: the base should move.
func (c *Cache) Add(b Block, keys iter.Seq2[[]byte, error]) (full bool, err error) {
	a, err := c.hashed(b, keys)
	if err != nil {
		return false, err
	}
	x := &c.index
	x.mu.Lock()
	defer x.mu.Unlock()
	switch {
	case x.loading:
		x.waiting = append(x.waiting, a)
	case x.current.Load() != nil:
		x.addLocked(a)
	}
	return x.writes.Load() > int64(x.maxWrites), nil
}

// addLocked puts a block into the index, if its parent is there.
func (x *index) addLocked(a added) {
	parent := x.nodes[a.Parent]
	if parent == nil || x.nodes[a.Hash] != nil {
		return
	}
	x.nodes[a.Hash] = &node{hash: a.Hash, number: a.Number, parent: parent}
	for _, h := range a.hashes {
		x.shard(h).add(h, uint32(a.Number))
	}
	x.writes.Add(int64(len(a.hashes)))
}

func (s *shard) add(h uint64, block uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.newest == nil {
		s.newest = make(map[uint64]uint64)
	}
	place := s.first + uint64(len(s.writes))
	w := write{block: block, tag: tag(h)}
	if last, ok := s.newest[h]; ok && last >= s.first && place-last <= math.MaxUint32 {
		w.back = uint32(place - last)
	}
	s.writes = append(s.writes, w)
	s.newest[h] = place
}

// before gives the place of the write of the same key before the one at place;
// ok is false where there is none any more.
func (s *shard) before(place uint64) (uint64, bool) {
	back := uint64(s.writes[place-s.first].back)
	return place - back, back > 0 && place-back >= s.first
}

// writer gives the number of the newest block on the path that wrote the key, 0 for
// none, and the epoch; a nil epoch says that the path can't be used any more.
func (x *index) writer(p *Path, h uint64) (number uint64, e *epoch) {
	s := x.shard(h)
	s.mu.RLock()
	defer s.mu.RUnlock()
	if e = x.current.Load(); e != p.epoch {
		return 0, nil
	}
	place, ok := s.newest[h]
	for ok = ok && place >= s.first; ok; place, ok = s.before(place) {
		if n := p.number(s.writes[place-s.first].block); n != 0 {
			return n, e
		}
	}
	return 0, e
}

// Writers gives the blocks on the path that may have written a key, newest first:
// all that did, and in rare cases one that didn't. ok is false where the index
// can't tell.
func (c *Cache) Writers(p *Path, key []byte) (blocks []forks.Hash, ok bool) {
	h := maphash.Bytes(c.seed, key)
	numbers := make(map[uint64]bool)
	s := c.shard(h)
	s.mu.RLock()
	if c.current.Load() != p.epoch {
		s.mu.RUnlock()
		return nil, false
	}
	place, ok := s.newest[h]
	for ok = ok && place >= s.first; ok; place, ok = s.before(place) {
		if n := p.number(s.writes[place-s.first].block); n != 0 {
			numbers[n] = true
		}
	}
	s.mu.RUnlock()
	for n := p.at; n.number > p.base; n = n.parent {
		if numbers[n.number] {
			blocks = append(blocks, n.hash)
		}
	}
	return blocks, true
}

// Base is the block above which the index tells writers; ok is false where there
// is no index.
func (c *Cache) Base() (h forks.Hash, ok bool) {
	e := c.current.Load()
	if e == nil {
		return h, false
	}
	return e.base.hash, true
}

// Stop gives the index up: blocks are read without the cache until the next Load.
func (c *Cache) Stop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stopLocked()
}

func (x *index) stopLocked() {
	x.generation++
	x.current.Store(nil)
	x.nodes, x.recent, x.waiting, x.loading = make(map[forks.Hash]*node), nil, nil, false
	for i := range x.shards {
		s := &x.shards[i]
		s.mu.Lock()
		s.newest, s.writes, s.first = nil, nil, 0
		s.mu.Unlock()
	}
	x.writes.Store(0)
}

// Advance moves the base up to a block of the index. Blocks that don't descend from
// it are read without the cache from then on, and so are paths that were given out
// before.
func (c *Cache) Advance(to forks.Hash) {
	x := &c.index
	x.moving.Lock()
	defer x.moving.Unlock()
	base := x.advance(to)
	if base == nil {
		return
	}
	for i := range x.shards {
		x.writes.Add(-int64(x.shards[i].drop(uint32(base.number))))
	}
}

// advance begins a new epoch. No path of the old one asks for what its base has
// left behind.
func (x *index) advance(to forks.Hash) *node {
	x.mu.Lock()
	defer x.mu.Unlock()
	old, base := x.current.Load(), x.nodes[to]
	if old == nil || base == nil || base == old.base {
		return nil
	}
	passed := x.pathTo(base)
	x.epochs++
	next := &epoch{number: x.epochs, base: &node{hash: base.hash, number: base.number}, wrote: make(map[uint64]struct{})}
	for i := range x.shards {
		x.shards[i].writtenOn(passed, uint64(i)<<32, next.wrote)
	}
	if len(next.wrote) > mostWrote {
		next.wrote = nil
	}
	x.rebase(base, next.base)
	x.current.Store(next)
	x.recent = nil
	return next.base
}

// passedBy says whether a block's number is at most the base's.
func (w write) passedBy(base uint32) bool { return int32(w.block-base) <= 0 }

// writtenOn gathers the keys that the blocks of a path wrote.
func (s *shard) writtenOn(p *Path, shard uint64, into map[uint64]struct{}) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for i := range s.writes {
		if len(into) > mostWrote {
			return
		}
		if w := &s.writes[i]; p.number(w.block) != 0 {
			into[shard|uint64(w.tag)] = struct{}{}
		}
	}
}

// mostWrote is how many written keys an epoch remembers; where it would be more,
// nothing is carried over from the one before.
const mostWrote = 1 << 20

// drop forgets the oldest writes, up to the first of a block with a number above the
// base's, and the keys that nobody has written since.
func (s *shard) drop(base uint32) (dropped int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for dropped < len(s.writes) && s.writes[dropped].passedBy(base) {
		dropped++
	}
	s.writes = append([]write(nil), s.writes[dropped:]...)
	s.first += uint64(dropped)
	for h, place := range s.newest {
		if place < s.first {
			delete(s.newest, h)
		}
	}
	return dropped
}

// rebase keeps the blocks that descend from the new base.
func (x *index) rebase(old, base *node) {
	kept := map[forks.Hash]*node{base.hash: base}
	for _, n := range x.nodes {
		var above []*node // newest first
		for ; n != nil && n != old && kept[n.hash] == nil; n = n.parent {
			above = append(above, n)
		}
		if n == nil {
			continue // it doesn't descend from the base
		}
		at := kept[n.hash]
		for _, a := range slices.Backward(above) {
			at = &node{hash: a.hash, number: a.number, parent: at}
			kept[at.hash] = at
		}
	}
	x.nodes = kept
}

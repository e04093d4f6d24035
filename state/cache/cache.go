// Package cache is the fork-aware read cache: it keeps values of keys under the
// block that wrote them, so that every block on every fork that inherits a value
// shares the entry, and a new block or a switch of heads starts warm.
//
// It holds only facts that never change, of two kinds:
//
//	(import number of W, k)   the value of k in the state at block W
//	(epoch number n, k)       the value of k in the state at the base of epoch n
//
// The index of writers (see index) says which fact answers for a key at a block:
// that of the newest block on the way from the base that wrote the key, else the
// base's. Between that block and the one that is read nobody wrote the key, so the
// values are the same. Neither kind of number is ever used twice, so nothing is
// ever invalidated; an entry that is dropped or comes late is a miss.
//
// The index tells keys apart by a 64-bit hash. Where two keys share one, a fact is
// named by the later writer of both: it still says what the key's value is in the
// state at that block. Entries are compared with the whole key.
package cache

import (
	"encoding/binary"
	"fmt"
	"hash/maphash"
	"sync/atomic"

	"github.com/dgraph-io/ristretto/v2"
	"golang.org/x/sync/singleflight"
)

// Options of a Cache.
type Options struct {
	// Bytes is how much memory the values take at most, about. Required.
	Bytes int64
	// MaxWrites is how many writes of keys the index should hold at most; each takes 12
	// bytes, each key some 30 more. Default 12 million: a day of 14,400 blocks with 500
	// each, and half as many again.
	MaxWrites int
}

// entryCost is what an entry takes beside its key and value, in bytes.
const entryCost = 160

// Cache is safe for concurrent use.
type Cache struct {
	index
	values *ristretto.Cache[uint64, *Fact]
	seed   maphash.Seed
	flight singleflight.Group
	misses atomic.Int64
	hits   [hitCounters]hitCounter
	front  [frontSlots]atomic.Pointer[Fact]
}

// Of the front: small values that were just found, in places that their names give.
// They cost less there than in ristretto, which notes each use and weighs it later.
const (
	frontSlots = 4096
	frontValue = 512 // bytes at most
	// noted is which part of the uses ristretto still gets to know, so that it keeps
	// what is used.
	noted = 16
)

// hitCounters is how many counters share the hits: several cores that read at once
// seldom meet at one, which would cost more than the counting.
const hitCounters = 32

// hitCounter has two cache lines of its own, since processors fetch them in pairs.
type hitCounter struct {
	n atomic.Int64
	_ [120]byte
}

// Fact is the value of a key in one state; Present is false where the state has no
// such key. It must not be changed.
type Fact struct {
	Value   []byte
	Present bool

	id  uint64
	key []byte
}

// Ref names a fact that the cache may hold.
type Ref struct {
	id, hash uint64
}

// New gives an empty cache. Close gives its memory back.
func New(opts Options) (*Cache, error) {
	if opts.MaxWrites <= 0 {
		opts.MaxWrites = 12_000_000
	}
	values, err := ristretto.NewCache(&ristretto.Config[uint64, *Fact]{
		NumCounters: max(1000, 10*opts.Bytes/(2*entryCost)),
		MaxCost:     opts.Bytes,
		BufferItems: 64,
		// What an entry costs is counted here.
		IgnoreInternalCost: true,
	})
	if err != nil {
		return nil, fmt.Errorf("make read cache: %w", err)
	}
	c := &Cache{values: values, seed: maphash.MakeSeed()}
	c.init(opts.MaxWrites)
	return c, nil
}

// Close gives the cache's memory back. From Stop on, nobody looks for facts in it.
func (c *Cache) Close() {
	c.values.Close()
	for i := range c.front {
		c.front[i].Store(nil)
	}
}

// Misses is how many facts were not there when they were asked for.
func (c *Cache) Misses() int64 { return c.misses.Load() }

// Hits is how many facts were there when they were asked for.
func (c *Cache) Hits() (n int64) {
	for i := range c.hits {
		n += c.hits[i].n.Load()
	}
	return n
}

// Bytes is about how much memory the values take now.
func (c *Cache) Bytes() int64 { return max(0, c.values.MaxCost()-c.values.RemainingCost()) }

// Get gives what the cache knows of a key at a path's block. Where f is nil, the
// value must be read from that block's state, and may be given to Put under ref if
// ok says that there is one.
func (c *Cache) Get(p *Path, key []byte) (f *Fact, ref Ref, ok bool) {
	h := maphash.Bytes(c.seed, key)
	number, epoch := c.writer(p, h)
	switch {
	case epoch == nil:
		return nil, ref, false
	case number != 0:
		ref = Ref{writerID(number), h}
		f = c.find(ref, key)
	default:
		ref = Ref{epoch.id(), h}
		if f = c.find(ref, key); f == nil {
			f = c.carryOver(epoch, ref, key)
		}
	}
	if f == nil {
		c.misses.Add(1)
	} else {
		c.hits[h>>32%hitCounters].n.Add(1)
	}
	return f, ref, true
}

// carryOver looks for what the epoch before knew, of a key that nobody wrote
// between its base and this one's.
func (c *Cache) carryOver(e *epoch, ref Ref, key []byte) *Fact {
	if e.wrote == nil {
		return nil
	}
	if _, written := e.wrote[tagOf(ref.hash)]; written {
		return nil
	}
	f := c.find(Ref{epochID(e.number - 1), ref.hash}, key)
	if f == nil {
		return nil
	}
	return c.put(ref, key, f.Value, f.Present)
}

// Facts have one space of names: import numbers are even, epochs odd.
func writerID(number uint64) uint64 { return number << 1 }
func epochID(number uint64) uint64  { return number<<1 | 1 }

func (r Ref) slot() uint64 { return r.hash ^ r.id*0x9e3779b97f4a7c15 }

func (c *Cache) find(ref Ref, key []byte) *Fact {
	slot := ref.slot()
	place := &c.front[slot%frontSlots]
	f := place.Load()
	if f != nil && f.id == ref.id && string(f.key) == string(key) && c.hits[ref.hash>>32%hitCounters].n.Load()%noted != 0 {
		return f
	}
	f, ok := c.values.Get(slot)
	if !ok || f.id != ref.id || string(f.key) != string(key) {
		return nil
	}
	if len(f.Value) <= frontValue {
		place.Store(f)
	}
	return f
}

func (c *Cache) put(ref Ref, key, value []byte, present bool) *Fact {
	buf := make([]byte, 0, len(key)+len(value))
	buf = append(append(buf, key...), value...)
	f := &Fact{id: ref.id, key: buf[:len(key):len(key)], Value: buf[len(key):], Present: present}
	c.values.Set(ref.slot(), f, int64(len(buf))+entryCost)
	return f
}

// Put gives the cache a fact that was read.
func (c *Cache) Put(ref Ref, key, value []byte, present bool) { c.put(ref, key, value, present) }

// Once reads a fact that Get did not find, for all who ask for it at the same time
// by one call of read, and keeps it.
func (c *Cache) Once(ref Ref, key []byte, read func() (value []byte, present bool, err error)) (*Fact, error) {
	name := make([]byte, 0, 8+len(key))
	name = append(binary.LittleEndian.AppendUint64(name, ref.id), key...)
	f, err, _ := c.flight.Do(string(name), func() (any, error) {
		value, present, err := read()
		if err != nil {
			return nil, err
		}
		return c.put(ref, key, value, present), nil
	})
	if err != nil {
		return nil, err
	}
	return f.(*Fact), nil
}

// Full says that the index has more writes than it should: its base is to move.
func (c *Cache) Full() bool { return c.writes.Load() > int64(c.maxWrites) }

// Wait returns once what was put before is to be found, or dropped: for tests and
// benchmarks.
func (c *Cache) Wait() { c.values.Wait() }

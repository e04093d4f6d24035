package cache_test

import (
	"errors"
	"fmt"
	"iter"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"accessor/forks"
	"accessor/state/cache"
)

// chain is a plain model: whole states by block.
type chain struct {
	t      *testing.T
	rnd    *rand.Rand
	cache  *cache.Cache
	number uint64

	mu     sync.Mutex
	blocks []*block
}

type block struct {
	cache.Block
	parent *block
	wrote  []string
	state  map[string]string
}

func (b *block) on(base *block) bool {
	for ; b != nil; b = b.parent {
		if b == base {
			return true
		}
	}
	return false
}

func keysOf(keys []string) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		for _, k := range keys {
			if !yield([]byte(k), nil) {
				return
			}
		}
	}
}

func newChain(t *testing.T, seed uint64, opts cache.Options) *chain {
	t.Helper()
	c, err := cache.New(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	ch := &chain{t: t, rnd: rand.New(rand.NewPCG(seed, 0)), cache: c, number: 1}
	state := make(map[string]string)
	for i := range 40 {
		state[fmt.Sprint("key ", i)] = fmt.Sprint("anchor's ", i)
	}
	ch.blocks = []*block{{Block: cache.Block{Hash: forks.Hash{1}, Number: 1}, state: state}}
	return ch
}

// grow makes a block on a parent; numbers have gaps.
func (c *chain) grow(parent *block) *block {
	c.number += 1 + c.rnd.Uint64N(3)
	b := &block{parent: parent, state: maps.Clone(parent.state)}
	b.Hash, b.Parent, b.Number = forks.Hash{2, byte(c.number >> 8), byte(c.number)}, parent.Hash, c.number
	for range c.rnd.IntN(6) {
		k := fmt.Sprint("key ", c.rnd.IntN(50))
		if slices.Contains(b.wrote, k) {
			continue
		}
		b.wrote = append(b.wrote, k)
		if c.rnd.IntN(4) == 0 {
			delete(b.state, k)
		} else {
			b.state[k] = fmt.Sprint("of block ", c.number)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.blocks = append(c.blocks, b)
	return b
}

func (c *chain) add(b *block) {
	if _, err := c.cache.Add(b.Block, keysOf(b.wrote)); err != nil {
		c.t.Error(err)
	}
}

// read reads a key at a block as a view does, and compares.
func (c *chain) read(b *block, p *cache.Path, key string) (hit bool) {
	f, ref, ok := c.cache.Get(p, []byte(key))
	want, present := b.state[key]
	if !ok {
		return false
	}
	hit = f != nil
	if !hit {
		var err error
		f, err = c.cache.Once(ref, []byte(key), func() ([]byte, bool, error) {
			v, ok := b.state[key]
			return []byte(v), ok, nil
		})
		if err != nil {
			c.t.Error(err)
			return false
		}
	}
	if f.Present != present || string(f.Value) != want {
		c.t.Errorf("%s at block %d: %q, %t; want %q, %t", key, b.Number, f.Value, f.Present, want, present)
	}
	return hit
}

// Random forks, reads at any block, moving bases: no read is ever of another block.
func TestReadsEqualTheModel(t *testing.T) {
	for _, bytes := range []int64{2_000, 1 << 20} {
		hits := 0
		for seed := range uint64(20) {
			c := newChain(t, seed, cache.Options{Bytes: bytes})
			base := c.blocks[0]
			load := func(blocks []*block) {
				err := c.cache.Load(base.Block, func(yield func(cache.Block, iter.Seq2[[]byte, error]) bool) {
					for _, b := range blocks {
						if b != base && !yield(b.Block, keysOf(b.wrote)) {
							return
						}
					}
				})
				if err != nil {
					t.Fatal(err)
				}
			}
			load(nil)
			for range 600 {
				switch n := c.rnd.IntN(40); {
				case n < 6:
					parent := c.blocks[len(c.blocks)-1]
					if n == 0 {
						parent = c.blocks[c.rnd.IntN(len(c.blocks))]
					}
					c.add(c.grow(parent))
				case n == 6 && c.rnd.IntN(4) == 0:
					to := c.blocks[c.rnd.IntN(len(c.blocks))]
					if to.on(base) {
						c.cache.Advance(to.Hash)
						base = to
					}
				case n == 7 && c.rnd.IntN(20) == 0:
					load(c.blocks)
				default:
					b := c.blocks[c.rnd.IntN(len(c.blocks))]
					p := c.cache.At(b.Hash)
					if (p != nil) != b.on(base) {
						t.Fatalf("block %d has a path: %t", b.Number, p != nil)
					}
					for range 20 {
						if p != nil && c.read(b, p, fmt.Sprint("key ", c.rnd.IntN(50))) {
							hits++
						}
					}
				}
			}
			if t.Failed() {
				t.Fatalf("seed %d, %d bytes", seed, bytes)
			}
		}
		if bytes > 1000_000 && hits < 10_000 {
			t.Errorf("%d hits", hits)
		}
	}
}

// The same with readers, an importer and a mover of the base side by side.
func TestReadersBesideAMovingBase(t *testing.T) {
	c := newChain(t, 1, cache.Options{Bytes: 1 << 20})
	if err := c.cache.Load(c.blocks[0].Block, func(func(cache.Block, iter.Seq2[[]byte, error]) bool) {}); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	var readers sync.WaitGroup
	for i := range 3 {
		rnd := rand.New(rand.NewPCG(uint64(i), 1))
		readers.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				c.mu.Lock()
				b := c.blocks[max(0, len(c.blocks)-1-rnd.IntN(40))]
				c.mu.Unlock()
				if p := c.cache.At(b.Hash); p != nil {
					for range 50 {
						c.read(b, p, fmt.Sprint("key ", rnd.IntN(50)))
					}
				}
			}
		})
	}
	for i := range 2000 {
		parent := c.blocks[max(0, len(c.blocks)-1-c.rnd.IntN(3))]
		c.add(c.grow(parent))
		if i%16 == 15 {
			at := c.blocks[len(c.blocks)-1]
			for range 20 {
				if at.parent != nil {
					at = at.parent
				}
			}
			c.cache.Advance(at.Hash)
		}
	}
	close(done)
	readers.Wait()
}

// What nobody wrote is found after a new block, on a fork, and after the base has
// moved; what was written, under its writer.
func TestWhatStaysWarm(t *testing.T) {
	c := newChain(t, 1, cache.Options{Bytes: 1 << 20})
	anchor := c.blocks[0]
	if err := c.cache.Load(anchor.Block, func(func(cache.Block, iter.Seq2[[]byte, error]) bool) {}); err != nil {
		t.Fatal(err)
	}
	next := func(parent *block, wrote ...string) *block {
		b := c.grow(parent)
		b.wrote, b.state = wrote, maps.Clone(parent.state)
		for _, k := range wrote {
			b.state[k] = "by " + b.Hash.Short()
		}
		c.add(b)
		return b
	}
	warm := func(what string, b *block, key string, want bool) {
		t.Helper()
		c.cache.Wait()
		if hit := c.read(b, c.cache.At(b.Hash), key); hit != want {
			t.Errorf("%s: hit %t, want %t", what, hit, want)
		}
	}
	warm("first read", anchor, "key 1", false)
	a := next(anchor, "key 2")
	warm("not written", a, "key 1", true)
	warm("just written", a, "key 2", false)
	b := next(anchor, "key 3")
	warm("on a fork", b, "key 1", true)
	warm("written on the other fork", b, "key 2", false)
	a2 := next(a, "key 4")
	warm("inherited", a2, "key 2", true)
	c.cache.Advance(a.Hash)
	warm("carried over", a2, "key 1", true)
	warm("carried over again", a2, "key 1", true)
	warm("written before the base moved", a2, "key 2", false)
	if c.cache.At(b.Hash) != nil {
		t.Error("a block beside the base has a path")
	}
	if writers, ok := c.cache.Writers(c.cache.At(a2.Hash), []byte("key 4")); !ok || !slices.Equal(writers, []forks.Hash{a2.Hash}) {
		t.Errorf("writers %v, %t", writers, ok)
	}
	old := c.cache.At(a2.Hash)
	c.cache.Advance(a2.Hash)
	if _, _, ok := c.cache.Get(old, []byte("key 1")); ok {
		t.Error("a path is used after the base has left it")
	}
	c.cache.Stop()
	if c.cache.At(a2.Hash) != nil {
		t.Error("a path without an index")
	}
}

// Concurrent misses of one fact make one read.
func TestOnce(t *testing.T) {
	c := newChain(t, 1, cache.Options{Bytes: 1 << 20})
	if err := c.cache.Load(c.blocks[0].Block, func(func(cache.Block, iter.Seq2[[]byte, error]) bool) {}); err != nil {
		t.Fatal(err)
	}
	_, ref, _ := c.cache.Get(c.cache.At(c.blocks[0].Hash), []byte("key"))
	reads := 0
	release := make(chan struct{})
	var wg, started sync.WaitGroup
	for range 8 {
		started.Add(1)
		wg.Go(func() {
			started.Done()
			f, err := c.cache.Once(ref, []byte("key"), func() ([]byte, bool, error) {
				reads++
				<-release
				return []byte("value"), true, nil
			})
			if err != nil || string(f.Value) != "value" {
				t.Errorf("%v, %v", f, err)
			}
		})
	}
	started.Wait()
	time.Sleep(50 * time.Millisecond)
	close(release)
	wg.Wait()
	if reads != 1 {
		t.Errorf("%d reads", reads)
	}
}

func keyed(k string) iter.Seq2[[]byte, error] { return keysOf([]string{k}) }

func numbered(n int) forks.Hash { return forks.Hash{9, byte(n >> 16), byte(n >> 8), byte(n)} }

// A fork that was imported late, and is loaded before what is above it, hides no
// write from a base that moves.
func TestMovingBasePastALateFork(t *testing.T) {
	c, err := cache.New(cache.Options{Bytes: 1 << 24})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	err = c.Load(cache.Block{Hash: numbered(0), Number: 1}, func(yield func(cache.Block, iter.Seq2[[]byte, error]) bool) {
		parent, side := numbered(0), numbered(0)
		for i := 1; i <= 6000; i++ {
			k := fmt.Sprint("other ", i)
			if i == 3000 {
				k = "k"
			}
			if !yield(cache.Block{Hash: numbered(i), Parent: parent, Number: uint64(1 + i)}, keyed(k)) {
				return
			}
			parent = numbered(i)
			if i <= 300 {
				late := cache.Block{Hash: numbered(100_000 + i), Parent: side, Number: uint64(12_000 + i)}
				if !yield(late, keyed(fmt.Sprint("other ", i))) {
					return
				}
				side = late.Hash
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	_, ref, ok := c.Get(c.At(numbered(1000)), []byte("k"))
	if !ok {
		t.Fatal("no name for a fact")
	}
	c.Put(ref, []byte("k"), []byte("old"), true)
	c.Wait()
	c.Advance(numbered(4000))
	if f, _, _ := c.Get(c.At(numbered(4500)), []byte("k")); f != nil {
		t.Fatalf("k, written at 3000, reads %q at 4500", f.Value)
	}
}

// A Load that Stop overtakes publishes nothing; one that comes after it works.
func TestOvertakenLoad(t *testing.T) {
	c, err := cache.New(cache.Options{Bytes: 1 << 20, MaxWrites: 3})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	load := func(blocks int, between func()) error {
		return c.Load(cache.Block{Hash: numbered(0), Number: 1}, func(yield func(cache.Block, iter.Seq2[[]byte, error]) bool) {
			for i := 1; i <= blocks; i++ {
				if !yield(cache.Block{Hash: numbered(i), Parent: numbered(i - 1), Number: uint64(1 + i)}, keyed(fmt.Sprint(i))) {
					return
				}
				between()
			}
		})
	}
	if err := load(2, c.Stop); err != nil || c.At(numbered(1)) != nil {
		t.Errorf("overtaken: %v, path %v", err, c.At(numbered(1)))
	}
	if err := load(2, func() {}); err != nil || c.At(numbered(2)) == nil {
		t.Errorf("afterwards: %v", err)
	}
	if err := load(9, func() {}); !errors.Is(err, cache.ErrTooManyWrites) || c.At(numbered(2)) != nil {
		t.Errorf("too many writes: %v", err)
	}
}

// TestFront: what is read again and again is found and counted, large values too,
// and not at a block that wrote it.
func TestFront(t *testing.T) {
	c := newChain(t, 1, cache.Options{Bytes: 1 << 20})
	anchor := c.blocks[0]
	anchor.state["key 0"] = strings.Repeat("large ", 1000)
	if err := c.cache.Load(anchor.Block, func(func(cache.Block, iter.Seq2[[]byte, error]) bool) {}); err != nil {
		t.Fatal(err)
	}
	keys := slices.Sorted(maps.Keys(anchor.state))
	for _, k := range keys {
		c.read(anchor, c.cache.At(anchor.Hash), k)
	}
	c.cache.Wait()
	before := c.cache.Hits()
	const rounds = 50
	for range rounds {
		for _, k := range keys {
			if !c.read(anchor, c.cache.At(anchor.Hash), k) {
				t.Fatalf("%s is not found", k)
			}
		}
	}
	if got := c.cache.Hits() - before; got != int64(rounds*len(keys)) {
		t.Errorf("%d hits, want %d", got, rounds*len(keys))
	}
	b := c.grow(anchor)
	b.wrote, b.state = []string{"key 0"}, maps.Clone(anchor.state)
	b.state["key 0"] = "another"
	c.add(b)
	if c.read(b, c.cache.At(b.Hash), "key 0") {
		t.Error("a value that was just written is found before it was read")
	}
}

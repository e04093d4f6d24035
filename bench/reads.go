package bench

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"time"

	"github.com/dgraph-io/ristretto/v2"

	"accessor/checkpoint/rocks"
	"accessor/forks"
	"accessor/state"
)

// Reads are the figures of the benchmark "read".
type Reads struct {
	HitNanos    float64 `json:"hit_ns"`  // median of a read that the cache has
	BareNanos   float64 `json:"bare_ns"` // the same of a bare ristretto, []byte keys of the same length, the same copy
	HitRatio    float64 `json:"hit_over_bare"`
	HitAllocs   float64 `json:"hit_allocs"`
	ManyWarm    float64 `json:"many_warm_ms"` // 1,000 keys at once, median
	ManyCold    float64 `json:"many_cold_ms"` // in a store that was just opened
	CacheOn     float64 `json:"cache_on_reads_per_second"`
	CacheOff    float64 `json:"cache_off_reads_per_second"` // with the same memory, all of it RocksDB's
	Gain        float64 `json:"on_over_off"`
	HitsBefore  float64 `json:"hits_before"`      // percent of 1,000 reads
	HitsBlock   float64 `json:"hits_after_block"` // of the 1,000 after a new block
	HitsSwitch  float64 `json:"hits_after_switch"`
	ViewBack    float64 `json:"view_back_ms"` // a view one block back, median, p99 below
	ViewBackP99 float64 `json:"view_back_p99_ms"`
	ViewSibling float64 `json:"view_sibling_ms"` // the head moved to a sibling, and a view of it
	SiblingP99  float64 `json:"view_sibling_p99_ms"`
}

// The memory that reads have in all, and how much of it is the read cache's.
const (
	readMemory = 96 << 20
	readCache  = 72 << 20
)

// read measures reads of keys that are drawn by Zipf's law from a state larger than
// the memory for it.
func (r *run) read() error {
	r.res.Reads = &Reads{}
	r.Commitment = state.None{}.Name()
	chain, err := r.chain()
	if err != nil {
		return err
	}
	head := chain[len(chain)-1]
	zipf := rand.NewZipf(r.rnd, 1.1, 1, uint64(r.Keys-1))
	draw := func() []byte { return key(int(zipf.Uint64())) }
	// Off first: what it reads from the disk is in the system's cache for both.
	if r.res.Reads.CacheOff, err = r.readsPerSecond(head, 0, draw); err != nil {
		return err
	}
	if r.res.Reads.CacheOn, err = r.readsPerSecond(head, readCache, draw); err != nil {
		return err
	}
	r.res.Reads.Gain = r.res.Reads.CacheOn / r.res.Reads.CacheOff
	if err := errors.Join(r.hits(head, draw), r.many(head), r.warmth(head, draw), r.views(head)); err != nil {
		return err
	}
	r.finish()
	return nil
}

// reopenWith opens the store anew with so much memory for the read cache, and the
// rest for RocksDB's.
func (r *run) reopenWith(cache int64) error {
	if err := r.reopen(rocks.Options{BlockCache: readMemory - cache}, cache, state.Retention{}); err != nil {
		return err
	}
	<-r.acc.CacheReady()
	return r.quiesce()
}

func (r *run) readsPerSecond(head forks.Block, cache int64, draw func() []byte) (float64, error) {
	if err := r.reopenWith(cache); err != nil {
		return 0, err
	}
	v, err := r.acc.View(r.ctx, head.Hash)
	if err != nil {
		return 0, err
	}
	defer v.Close()
	var dst []byte
	read := func(what string, count int) (time.Duration, error) {
		keys := make([][]byte, 1_000)
		var took time.Duration
		for done := 0; done < count; done += len(keys) {
			r.Progress(what, int64(done), int64(count))
			for i := range keys {
				keys[i] = draw()
			}
			start := time.Now()
			for _, k := range keys {
				var err error
				if dst, _, err = v.AppendGet(dst[:0], k); err != nil {
					return 0, err
				}
			}
			took += time.Since(start)
		}
		return took, nil
	}
	// Until what is read often has been read.
	if _, err := read("warm up", 2*r.Keys); err != nil {
		return 0, err
	}
	count := max(1_000, r.Keys/5)
	took, err := read("read", count)
	return float64(count) / took.Seconds(), err
}

// hits measures reads of keys that the cache has, in batches, since a clock's tick is
// as long as some reads; and the same of a bare ristretto, in turn.
func (r *run) hits(head forks.Block, draw func() []byte) error {
	v, err := r.acc.View(r.ctx, head.Hash)
	if err != nil {
		return err
	}
	defer v.Close()
	bare, err := ristretto.NewCache(&ristretto.Config[[]byte, []byte]{NumCounters: 1_000_000, MaxCost: readCache, BufferItems: 64})
	if err != nil {
		return err
	}
	defer bare.Close()
	const batch = 64
	keys := make([][]byte, batch)
	var ours, theirs []time.Duration
	dst := make([]byte, 0, r.ValueSize)
	for range 2_000 {
		for i := range keys {
			keys[i] = draw()
		}
		for range 3 { // until both have them; a cache may drop what is new
			for _, k := range keys {
				value, _, err := v.AppendGet(nil, k)
				if err != nil {
					return err
				}
				bare.Set(k, value, int64(len(value)))
			}
			bare.Wait()
		}
		before := r.acc.CacheMisses()
		start := time.Now()
		for _, k := range keys {
			dst, _, _ = v.AppendGet(dst[:0], k)
		}
		mine := time.Since(start) / batch
		start = time.Now()
		found := 0
		for _, k := range keys {
			if value, ok := bare.Get(k); ok {
				dst = append(dst[:0], value...)
				found++
			}
		}
		if r.acc.CacheMisses() == before && found == batch {
			ours, theirs = append(ours, mine), append(theirs, time.Since(start)/batch)
		}
	}
	if len(ours) == 0 {
		return fmt.Errorf("the cache never had all of %d keys", batch)
	}
	slices.Sort(ours)
	slices.Sort(theirs)
	reads := r.res.Reads
	reads.HitNanos, reads.BareNanos = float64(ours[len(ours)/2]), float64(theirs[len(theirs)/2])
	reads.HitRatio = reads.HitNanos / reads.BareNanos
	reads.HitAllocs = allocations(func() { dst, _, _ = v.AppendGet(dst[:0], keys[0]) })
	return nil
}

// allocations is how many times f allocates, on average.
func allocations(f func()) float64 {
	const runs = 1000
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range runs {
		f()
	}
	runtime.ReadMemStats(&after)
	return float64((after.Mallocs - before.Mallocs) / runs)
}

// many measures reads of 1,000 random keys at once: in a store that was just opened,
// and again.
func (r *run) many(head forks.Block) error {
	var cold, warm []time.Duration
	for range 10 {
		if err := r.reopenWith(readCache); err != nil {
			return err
		}
		keys := make([][]byte, 1_000)
		for i := range keys {
			keys[i] = key(r.rnd.IntN(r.Keys))
		}
		v, err := r.acc.View(r.ctx, head.Hash)
		if err != nil {
			return err
		}
		for i := range 22 {
			start := time.Now()
			_, err := v.MultiGet(r.ctx, keys)
			switch took := time.Since(start); {
			case err != nil:
				v.Close()
				return err
			case i == 0:
				cold = append(cold, took)
			case i > 1: // the cache takes entries in a while after
				warm = append(warm, took)
			default:
				time.Sleep(20 * time.Millisecond)
			}
		}
		v.Close()
	}
	r.res.Reads.ManyCold, r.res.Reads.ManyWarm = percentile(cold, 50), percentile(warm, 50)
	r.cold, r.ours = append(r.cold, cold...), append(r.ours, warm...)
	return nil
}

// warmth measures how many of 1,000 reads the cache answers: before a new block,
// after it, and after the head has moved to a fork of ten blocks.
func (r *run) warmth(head forks.Block, draw func() []byte) error {
	ratio := func(b forks.Block) (float64, error) {
		v, err := r.acc.View(r.ctx, b.Hash)
		if err != nil {
			return 0, err
		}
		defer v.Close()
		const reads = 1_000
		before := r.acc.CacheMisses()
		for range reads {
			if _, _, err := v.AppendGet(nil, draw()); err != nil {
				return 0, err
			}
		}
		return 100 * (1 - float64(r.acc.CacheMisses()-before)/reads), nil
	}
	for range 100 { // warm up
		if _, err := ratio(head); err != nil {
			return err
		}
	}
	var before, block, changed float64
	for i := range r.Repeat {
		r.Progress("warmth", int64(i), int64(r.Repeat))
		was, err := ratio(head)
		if err != nil {
			return err
		}
		res, err := r.importOne(r.block(head, r.Puts))
		if err != nil {
			return err
		}
		after, err := ratio(res.Block)
		if err != nil {
			return err
		}
		side, err := r.grow(head, 10)
		if err != nil {
			return err
		}
		if err := r.acc.SetHead(side[9].Hash); err != nil {
			return err
		}
		moved, err := ratio(r.acc.Head())
		if err != nil {
			return err
		}
		before, block, changed = before+was, block+after, changed+moved
		head = res.Block
	}
	n := float64(r.Repeat)
	r.res.Reads.HitsBefore, r.res.Reads.HitsBlock, r.res.Reads.HitsSwitch = before/n, block/n, changed/n
	return nil
}

// views measures how long it takes to see a parent's state, and that of a sibling
// which becomes the head, with one read that the cache has.
func (r *run) views(head forks.Block) error {
	var back, sibling []time.Duration
	known := key(1)
	see := func(f func() (forks.Block, error)) (time.Duration, error) {
		start := time.Now()
		b, err := f()
		if err != nil {
			return 0, err
		}
		v, err := r.acc.View(context.Background(), b.Hash)
		if err != nil {
			return 0, err
		}
		defer v.Close()
		_, _, err = v.AppendGet(nil, known)
		return time.Since(start), err
	}
	for i := range r.Repeat {
		r.Progress("views", int64(i), int64(r.Repeat))
		a, err := r.importOne(r.block(head, r.Puts))
		if err != nil {
			return err
		}
		b, err := r.importOne(r.block(head, r.Puts))
		if err != nil {
			return err
		}
		if err := r.acc.SetHead(a.Block.Hash); err != nil {
			return err
		}
		if _, err := see(func() (forks.Block, error) { return a.Block, nil }); err != nil {
			return err
		}
		took, err := see(func() (forks.Block, error) { return head, nil })
		if err != nil {
			return err
		}
		back = append(back, took)
		if took, err = see(func() (forks.Block, error) {
			err := r.acc.SetHead(b.Block.Hash)
			return r.acc.Head(), err
		}); err != nil {
			return err
		}
		sibling = append(sibling, took)
		head = b.Block
	}
	reads := r.res.Reads
	reads.ViewBack, reads.ViewBackP99 = percentile(back, 50), percentile(back, 99)
	reads.ViewSibling, reads.SiblingP99 = percentile(sibling, 50), percentile(sibling, 99)
	return nil
}

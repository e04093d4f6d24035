package state

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"go.uber.org/zap"

	"accessor/checkpoint"
	"accessor/forks"
	"accessor/state/merkle"
)

// FillOptions of a Fill. The zero value works.
type FillOptions struct {
	// Parallel is how many ranges are fetched at a time. Default 4, at most 64.
	Parallel int
	// BytesPerSecond bounds what is fetched, keys, values and proofs. 0: no bound.
	BytesPerSecond int64
	// PageBytes is how much is asked for at a time. Default 1 MiB, at most 16 MiB.
	PageBytes uint32
	// Patience is how long all peers may say that they haven't got the anchor's state
	// until that is an ErrAnchorGone. Default 30 s.
	Patience time.Duration
	// Progress is called from one goroutine, four times a second, and at the end.
	Progress func(FillProgress)
}

// FillProgress is how far a Fill is.
type FillProgress struct {
	Pairs   int64   // that are here
	Bytes   int64   // of their keys and values
	Covered float64 // of all possible keys, from 0 to 1
	// Completing says that all pairs are here, and the store is made complete.
	Completing bool
	// Err is why the last fetch failed, where none has succeeded since; an ErrAnchorGone
	// where that is no use any more.
	Err error
}

func (o FillOptions) withDefaults() FillOptions {
	if o.Parallel <= 0 {
		o.Parallel = 4
	}
	if o.PageBytes == 0 {
		o.PageBytes = 1 << 20
	}
	if o.Patience <= 0 {
		o.Patience = 30 * time.Second
	}
	o.Parallel, o.PageBytes = min(o.Parallel, 64), min(o.PageBytes, 16<<20)
	return o
}

// errSpoiled: the pairs on disk are not those that were fetched.
var errSpoiled = errors.New("what was fetched is damaged")

// mostRefills is how often a Fill begins anew where what it had on disk was damaged.
const mostRefills = 3

// Fill fetches the anchor's whole state, by ranges, and makes the store complete; reads
// and imports go on meanwhile. It goes on where an earlier one was stopped, even by a
// kill. While peers fail it tries again, until ctx ends. A complete store is left as it
// is. A second Fill waits for the first. Errors: ctx's, and the store's.
func (a *Accessor) Fill(ctx context.Context, opts FillOptions) error {
	opts = opts.withDefaults()
	ctx, end, err := a.begin(ctx)
	if err != nil {
		return err
	}
	defer end()
	p := a.enter()
	if p == nil {
		return nil
	}
	defer p.leave()
	select {
	case <-p.filling:
	case <-ctx.Done():
		return fmt.Errorf("fill: wait for another: %w", context.Cause(ctx))
	}
	defer func() { p.filling <- struct{}{} }()
	f := &filler{p: p, opts: opts, spool: p.fill.Spool(), pace: pacer{rate: opts.BytesPerSecond}}
	for tries := 1; a.store.Partial(); tries++ {
		err := f.run(ctx)
		if err == nil {
			break
		}
		if !errors.Is(err, errSpoiled) || tries == mostRefills {
			return fmt.Errorf("fill: %w", err)
		}
		// Each range was proven when it came.
		a.log.Warn("fetch the state again", zap.Error(err))
		if err := f.spool.Reset(); err != nil {
			return fmt.Errorf("fill: %w", err)
		}
	}
	return nil
}

// filler is one Fill.
type filler struct {
	p     *partial
	opts  FillOptions
	spool *checkpoint.Spool
	pace  pacer

	mu         sync.Mutex // guards the fields below
	err        error      // of the last fetch
	nowhere    time.Time  // since when all peers say that they haven't got it; zero: they don't
	completing bool
}

func (f *filler) run(ctx context.Context) error {
	stop := f.report()
	defer stop()
	if f.p.anchor.Root != (forks.Hash{}) {
		if err := f.spool.Begin(f.opts.Parallel, merkle.KeySize); err != nil {
			return err
		}
		if err := f.fetchAll(ctx); err != nil {
			return err
		}
	}
	f.note(func() { f.completing = true })
	return f.p.a.complete(ctx, f.p)
}

// fetchAll fetches all that the spool lacks. The first worker that fails ends the
// others.
func (f *filler) fetchAll(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	for range f.opts.Parallel {
		wg.Go(func() {
			if err := f.worker(ctx); err != nil {
				cancel(err)
			}
		})
	}
	wg.Wait()
	return context.Cause(ctx)
}

func (f *filler) note(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

// report calls Progress until stop is called.
func (f *filler) report() (stop func()) {
	if f.opts.Progress == nil {
		return func() {}
	}
	tell := func() {
		var now FillProgress
		now.Pairs, now.Bytes, now.Covered = f.spool.Progress()
		f.note(func() { now.Err, now.Completing = f.err, f.completing })
		f.opts.Progress(now)
	}
	ended := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(time.Second / 4)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				tell()
			case <-ended:
				tell()
				return
			}
		}
	})
	return func() {
		close(ended)
		wg.Wait()
	}
}

// worker fetches one part after the other, until there is none left.
func (f *filler) worker(ctx context.Context) error {
	const look = 20 * time.Millisecond // for parts of others that can be cut in two
	for {
		part, whole, err := f.spool.Take()
		switch {
		case err != nil:
			return err
		case whole:
			return nil
		case part == nil:
			if err := sleep(ctx, look); err != nil {
				return err
			}
			continue
		}
		err = f.fillPart(ctx, part)
		part.Release()
		if err != nil {
			return err
		}
	}
}

func (f *filler) fillPart(ctx context.Context, part *checkpoint.SpoolPart) error {
	for {
		from, to, ok := part.Range()
		if !ok {
			return nil
		}
		req, ok := rangeOf(from, to)
		if !ok {
			return fmt.Errorf("%w: a part of the spool from %x to %x", checkpoint.ErrDamaged, from, to)
		}
		req.MaxSize = f.opts.PageBytes
		proof, more, err := f.fetch(ctx, req)
		if err != nil {
			return err
		}
		pairs := make([]Pair, len(proof.Pairs))
		for i := range proof.Pairs {
			pairs[i] = Pair{Key: proof.Pairs[i].Key[:], Value: proof.Pairs[i].Value}
		}
		next := to
		if more {
			var key [merkle.KeySize]byte
			if above(&key, &proof.Pairs[len(pairs)-1].Key) {
				next = key[:]
			}
		}
		if err := part.Append(pairs, next); err != nil {
			return err
		}
	}
}

// fetch fetches a range, and tries again until it has it. Errors: ctx's.
func (f *filler) fetch(ctx context.Context, req merkle.RangeRequest) (*merkle.Proof, bool, error) {
	const first, longest = 100 * time.Millisecond, 10 * time.Second
	for wait := first; ; wait = min(2*wait, longest) {
		if err := f.pace.wait(ctx); err != nil {
			return nil, false, err
		}
		proof, more, err := f.p.fetchPairs(ctx, f.p.anchor, req)
		f.fetched(err)
		if err == nil {
			f.pace.took(int64(proof.Size()))
			return proof, more, nil
		}
		if ctx.Err() != nil {
			return nil, false, context.Cause(ctx)
		}
		// Between half of it and all, so that workers don't come all at once.
		if err := sleep(ctx, wait/2+rand.N(wait/2)); err != nil {
			return nil, false, err
		}
	}
}

// fetched notes how a fetch ended, and tells the operator where peers don't have the
// anchor's state any more: that doesn't change by waiting.
func (f *filler) fetched(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now()
	switch {
	case !errors.Is(err, ErrNobodyHas):
		f.nowhere = time.Time{}
	case f.nowhere.IsZero():
		f.nowhere = now
	}
	gone := !f.nowhere.IsZero() && now.Sub(f.nowhere) >= f.opts.Patience
	if f.p.anchorGone.Swap(gone) != gone && gone {
		f.p.a.log.Error("peers don't have the state at the trusted block any more: trust a later block, by --trust",
			zap.Stringer("block", f.p.anchor.Hash), zap.Stringer("slot", f.p.anchor.Slot))
	}
	if f.err = err; err != nil && gone {
		f.err = fmt.Errorf("%w: %w", ErrAnchorGone, err)
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// pacer keeps what is taken within a rate, in bytes per second; 0 is any.
type pacer struct {
	rate int64

	mu   sync.Mutex
	free time.Time // when what was taken is paid for
}

func (p *pacer) took(n int64) {
	if p.rate <= 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if now := time.Now(); p.free.Before(now) {
		p.free = now
	}
	p.free = p.free.Add(time.Duration(float64(n) / float64(p.rate) * float64(time.Second)))
}

func (p *pacer) wait(ctx context.Context) error {
	p.mu.Lock()
	free := p.free
	p.mu.Unlock()
	if d := time.Until(free); d > 0 {
		return sleep(ctx, d)
	}
	return context.Cause(ctx)
}

// complete makes the store complete with what the spool has: the anchor's state, whose
// root is computed once more, and the tries of the blocks above, which were not known
// yet. Errors: errSpoiled, ctx's, and the store's.
func (a *Accessor) complete(ctx context.Context, p *partial) error {
	anchor := Anchor{Hash: p.anchor.Hash, Slot: p.anchor.Slot, Root: p.anchor.Root, Pairs: p.fill.Spool().Pairs()}
	var trie trieSpool
	c, err := a.store.BeginCompletion(ctx, checked(a.commitment, anchor, trie.add), trie.all())
	for _, kind := range []error{ErrWrongRoot, ErrInvalid, checkpoint.ErrDamaged} {
		if errors.Is(err, kind) {
			return fmt.Errorf("%w: %w", errSpoiled, err)
		}
	}
	if err != nil {
		return err
	}
	defer c.Abort()
	if err := a.completeBlocks(ctx, c); err != nil { // while others are imported
		return err
	}
	p.switching.Lock()
	defer p.switching.Unlock()
	publish := func() {}
	if err = a.completeBlocks(ctx, c); err == nil {
		publish, err = c.Commit()
	}
	defer publish()
	if a.store.Partial() {
		return err
	}
	p.retire()
	if err != nil {
		a.log.Error("the store is complete; the next start finishes what is left", zap.Error(err))
	} else {
		a.log.Info("the store is complete", zap.Stringer("anchor", p.anchor.Hash), zap.Stringer("slot", p.anchor.Slot))
	}
	return nil
}

// completeBlocks adds all blocks that are held to a completion.
func (a *Accessor) completeBlocks(ctx context.Context, c *checkpoint.Completion) error {
	for {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		rec, w, ok, err := c.Next()
		if err != nil || !ok {
			return err
		}
		ws, err := a.writesOf(rec.Hash)
		if err != nil {
			return err
		}
		up, err := a.updateTrie(w.At(), ws, w)
		if err != nil {
			return err
		}
		if up.root != rec.Root {
			return &RootError{Kind: ErrWrongRoot, Block: rec.Hash, Slot: rec.Slot, Declared: rec.Root, Actual: up.root}
		}
		if err := c.Add(rec, up.changes); err != nil {
			return err
		}
		if up.after != nil {
			a.tries.add(rec.Hash, up.after.Commit())
		}
	}
}

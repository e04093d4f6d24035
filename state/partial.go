package state

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"golang.org/x/crypto/blake2b"

	"accessor/checkpoint"
	"accessor/forks"
	"accessor/state/merkle"
)

// partial is what an Accessor has beside a partial store: what is known of the tries of
// its blocks, and who is asked for the rest. A key's value at a block is
//
//	the newest write set on the way from the anchor that has it
//	else what the nodes that are known show, from the block's root or the anchor's
//	else what peers prove against one of the roots on that way
//
// It goes once the store is complete and the last one who reads by it has left.
type partial struct {
	a       *Accessor
	fill    *checkpoint.Fill
	fetcher Fetcher // nil: there is nobody to ask
	timeout time.Duration
	anchor  forks.Block

	// switching is kept for reading while a block is recorded as one of a partial store,
	// and for writing while the store becomes complete.
	switching sync.RWMutex
	filling   chan struct{} // has one element while nobody fills
	wake      chan struct{} // something is pending
	ended     chan struct{} // closed once the store is complete

	anchorGone atomic.Bool // peers don't have the anchor's state any more

	mu           sync.Mutex // guards the fields below
	over         bool       // the store is complete: nobody enters any more
	users        int
	flights      map[flightKey]*batch
	pending      map[string][]byte // what is on its way to the disk
	pendingBytes int
}

var _ merkle.Nodes = (*partial)(nil)

func newPartial(a *Accessor) *partial {
	p := &partial{
		a: a, fill: a.store.Fill(), fetcher: a.fetcher, timeout: a.fetchTimeout, anchor: a.tree.Anchor(),
		filling: make(chan struct{}, 1), wake: make(chan struct{}, 1), ended: make(chan struct{}),
		flights: make(map[flightKey]*batch), pending: make(map[string][]byte),
	}
	p.filling <- struct{}{}
	return p
}

// Partial says whether the anchor's whole state is not here yet, so that peers are
// asked for what is missing.
func (a *Accessor) Partial() bool { return a.part.Load() != nil }

// enter gives what a partial store is read by; nil where the store is complete. The
// caller calls leave.
func (a *Accessor) enter() *partial {
	p := a.part.Load()
	if p == nil {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.over {
		return nil
	}
	p.users++
	return p
}

// leave ends the use that enter has begun.
func (p *partial) leave() {
	p.mu.Lock()
	p.users--
	last := p.over && p.users == 0
	p.mu.Unlock()
	if !last {
		return
	}
	p.a.leaving.CompareAndSwap(p, nil)
	if err := p.fill.Done(); err != nil && !errors.Is(err, checkpoint.ErrClosed) {
		p.a.log.Warn("remove what peers have given", zap.Error(err))
	}
}

// retire makes the store one that asks nobody any more. The caller has entered.
func (p *partial) retire() {
	p.a.leaving.Store(p)
	p.a.part.Store(nil)
	p.mu.Lock()
	p.over = true
	p.mu.Unlock()
	close(p.ended)
}

// Keys of what is kept of tries: a kind, then a hash.
const (
	keptNode  = 'n' // by merkle.NodeKey: 64 bytes
	keptValue = 'v' // by its hash: a value that is too long for its leaf
)

func keptKey(kind byte, h forks.Hash) []byte { return append([]byte{kind}, h[:]...) }

// kept gives what is kept of tries. What can't be read is not known: peers have it.
func (p *partial) kept(key []byte) (value []byte, pending bool, err error) {
	p.mu.Lock()
	value, pending = p.pending[string(key)]
	p.mu.Unlock()
	if pending {
		return value, true, nil
	}
	value, found, err := p.fill.Kept(nil, key)
	switch {
	case errors.Is(err, checkpoint.ErrClosed):
		return nil, false, err
	case err != nil:
		p.a.log.Warn("read what peers have given", zap.Error(err))
		return nil, false, nil
	case !found:
		return nil, false, nil
	case value == nil:
		value = []byte{}
	}
	return value, false, nil
}

// Node implements merkle.Nodes.
func (p *partial) Node(key forks.Hash) (n merkle.Node, known bool, err error) {
	b, _, err := p.kept(keptKey(keptNode, key))
	return n, copy(n[:], b) == len(n) && len(b) == len(n), err
}

// Value implements merkle.Nodes.
func (p *partial) Value(hash forks.Hash) (value []byte, known bool, err error) {
	value, _, err = p.kept(keptKey(keptValue, hash))
	return value, value != nil, err
}

// mostPending bounds the bytes that wait for the disk. What comes on top is fetched
// again when it is needed again.
const mostPending = 64 << 20

// absorb takes what a verified proof says of tries to be known, and has it written in
// the background.
func (p *partial) absorb(proof *merkle.Proof) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for key, value := range proven(proof) {
		if p.pendingBytes > mostPending {
			p.a.counts.unkept.Add(1)
			continue
		}
		if _, ok := p.pending[key]; !ok {
			p.pending[key] = value
			p.pendingBytes += len(key) + len(value)
		}
	}
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// proven yields what a verified proof says of tries, under the keys by which it is kept.
func proven(proof *merkle.Proof) func(yield func(string, []byte) bool) {
	return func(yield func(string, []byte) bool) {
		for _, n := range proof.Nodes {
			if !yield(string(keptKey(keptNode, merkle.NodeKey(n.Hash()))), n[:]) {
				return
			}
		}
		for _, pair := range proof.Pairs {
			if len(pair.Value) > merkle.MaxEmbedded &&
				!yield(string(keptKey(keptValue, blake2b.Sum256(pair.Value))), pair.Value) {
				return
			}
		}
	}
}

// keepPending writes what is pending until the store is closed or complete.
func (p *partial) keepPending() {
	for {
		select {
		case <-p.wake:
			p.writePending()
		case <-p.ended:
			return
		case <-p.a.closing.Done():
			p.writePending()
			return
		}
	}
}

// writePending writes all that is pending. What fails is logged, counted and
// forgotten.
func (p *partial) writePending() {
	const together = 4 << 20 // bytes of one write
	for {
		var changes []checkpoint.Change
		size := 0
		p.mu.Lock()
		for key, value := range p.pending {
			if size += len(key) + len(value); size > together && len(changes) > 0 {
				break
			}
			changes = append(changes, checkpoint.Change{Key: []byte(key), Value: value})
		}
		p.mu.Unlock()
		if len(changes) == 0 {
			return
		}
		err := p.fill.Keep(p.unknown(changes), false)
		if errors.Is(err, checkpoint.ErrClosed) {
			return // the store is complete by now
		}
		if err != nil {
			p.a.counts.unkept.Add(int64(len(changes)))
			p.a.log.Warn("keep what peers have given", zap.Int("entries", len(changes)), zap.Error(err))
		}
		p.mu.Lock()
		for _, c := range changes {
			p.pendingBytes -= len(c.Key) + len(c.Value)
			delete(p.pending, string(c.Key))
		}
		p.mu.Unlock()
	}
}

// unknown leaves out what is on disk already: proofs share the nodes near the root.
func (p *partial) unknown(changes []checkpoint.Change) (list []checkpoint.Change) {
	for _, c := range changes {
		if c.Value == nil {
			c.Value = []byte{}
		}
		if old, found, err := p.fill.Kept(nil, c.Key); err != nil || !found || string(old) != string(c.Value) {
			list = append(list, c)
		}
	}
	return list
}

// fetchCounts count since the Accessor was opened.
type fetchCounts struct {
	fetches, rejected, failed, unkept atomic.Int64
}

// PartialStats describes a partial store, and counts what was fetched for it since it
// was opened.
type PartialStats struct {
	// Partial says that the store is partial now.
	Partial bool
	// Fetches counts requests for keys and ranges, Rejected answers that proved nothing,
	// Failed what could not be had, Unkept entries that could not be written.
	Fetches, Rejected, Failed, Unkept int64
	// Pairs, Bytes and Covered are how far the fill is: see FillProgress. They are 0 in
	// a complete store.
	Pairs, Bytes int64
	Covered      float64
	// AnchorGone says that the fill can't go on: see ErrAnchorGone.
	AnchorGone bool
}

// PartialStats describes a partial store. It does no I/O.
func (a *Accessor) PartialStats() PartialStats {
	c := &a.counts
	s := PartialStats{Fetches: c.fetches.Load(), Rejected: c.rejected.Load(), Failed: c.failed.Load(), Unkept: c.unkept.Load()}
	if p := a.enter(); p != nil {
		defer p.leave()
		s.Partial = true
		s.Pairs, s.Bytes, s.Covered = p.fill.Spool().Progress()
		s.AnchorGone = p.anchorGone.Load()
	}
	return s
}

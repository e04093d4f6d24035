package testnet

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"accessor/da"
	"accessor/da/datest"
	"accessor/forks"
	"accessor/state/merkle"
)

// way is how a liar spoils its answers: what is proven, what a block wrote, or how it is
// handed over.
type way struct {
	spoil  func(p *merkle.Proof)
	block  func(b *da.Block)
	shard  func(index uint16, sh *da.Shard)
	manner datest.Manner
}

// ways are what a scenario can ask of a liar.
var ways = map[string]way{
	"value": {spoil: func(p *merkle.Proof) {
		if len(p.Pairs) == 0 {
			spoilNode(p) // that a key is absent shows in the nodes alone
			return
		}
		one := &p.Pairs[len(p.Pairs)/2]
		one.Value = append(bytes.Clone(one.Value), 7)
	}},
	"proof": {spoil: spoilNode},
	"range": {spoil: func(p *merkle.Proof) { // with a hole
		if at := len(p.Pairs) / 2; at < len(p.Pairs) {
			p.Pairs = slices.Delete(p.Pairs, at, at+1)
			return
		}
		p.Nodes = p.Nodes[:len(p.Nodes)-1]
	}},
	"length": {manner: datest.Telling(datest.Lie{Tell: func(a []byte) []byte {
		copy(a[1:], "\xff\xff\xff\xff")
		return a
	}})},
	"block": {block: func(b *da.Block) { // the root is the model's still
		one := &b.Puts[len(b.Puts)/2]
		one[1] = append(bytes.Clone(one[1]), 7)
	}},
	"shard": {shard: func(index uint16, sh *da.Shard) { // itself, or what is to justify it
		if index%2 == 1 {
			sh.Path[0] = bytes.Clone(sh.Path[0])
			sh.Path[0][3] ^= 1
			return
		}
		sh.Bundle[0] ^= 1
		for _, one := range sh.Segments {
			one[0] ^= 1
		}
	}},
	"stall": {manner: datest.Silent},
}

func spoilNode(p *merkle.Proof) { p.Nodes[len(p.Nodes)/2][7] ^= 1 }

// parseLie: lie WAY [COUNT]
func parseLie(a *wording) (action, error) {
	word := a.next()
	how, ok := ways[word]
	if !ok {
		return nil, fmt.Errorf("lie %q: want %s", word, strings.Join(slices.Sorted(maps.Keys(ways)), ", "))
	}
	count := 1
	if len(a.rest) > 0 {
		var err error
		if count, err = a.number("liars", 1, MaxNodes); err != nil {
			return nil, err
		}
	}
	return func(ctx context.Context, r *run) error {
		if r.opts.Peers == nil {
			return errNeedsPeers
		}
		for range count {
			if len(r.liars) == MaxNodes {
				return fmt.Errorf("there are %d liars already", MaxNodes)
			}
			h, err := r.opts.Peers.Host(len(r.liars))
			if err != nil {
				return err
			}
			l, err := newLiar(ctx, h, how)
			if err != nil {
				return err
			}
			for _, b := range r.chain.blocks[1:] {
				l.learnBlock(b)
			}
			for _, w := range r.works {
				l.learnWork(w)
			}
			r.liars = append(r.liars, l)
		}
		r.event("peers that lie: %s, %d of them", word, count)
		if r.met {
			return r.meet(ctx)
		}
		return nil
	}, nil
}

// errNeedsPeers is the error of a lie that nobody could hear.
var errNeedsPeers = errors.New("needs sidecars with peers")

// liar is a peer that has states, blocks and shards from the model, and spoils what it
// gives of one of them. Its methods are safe for concurrent use.
type liar struct {
	node  *da.Node
	close func() error
	how   way

	mu     sync.Mutex // guards what it knows
	states map[forks.Hash]*provable
	blocks []*block // parents before children
	works  []*work
}

var _ da.Source = (*liar)(nil)

// newLiar makes a liar on a host, which it closes.
func newLiar(ctx context.Context, h datest.Host, how way) (*liar, error) {
	h.Manner = how.manner
	l := &liar{close: h.Close, how: how, states: make(map[forks.Hash]*provable)}
	var err error
	if l.node, err = da.New(ctx, da.Config{Host: h, Serve: da.Serve{State: da.Anyone, Blocks: da.Anyone, Shards: da.Anyone}}, l); err != nil {
		return nil, errors.Join(err, h.Close())
	}
	return l, nil
}

// Close ends it.
func (l *liar) Close() error { return errors.Join(l.node.Close(), l.close()) }

// learn gives it a block's state to lie about.
func (l *liar) learn(b *block, p *provable) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.states[b.Hash] = p
}

// learnBlock gives it a block to lie about.
func (l *liar) learnBlock(b *block) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.blocks = append(l.blocks, b)
}

// answer makes a proof, and spoils it.
func (l *liar) answer(block forks.Hash, prove func(p *provable) (*merkle.Proof, error)) (*merkle.Proof, error) {
	l.mu.Lock()
	state := l.states[block]
	l.mu.Unlock()
	if state == nil {
		return nil, da.ErrNotHeld
	}
	p, err := prove(state)
	if err == nil && l.how.spoil != nil {
		p = &merkle.Proof{Nodes: slices.Clone(p.Nodes), Pairs: slices.Clone(p.Pairs)}
		l.how.spoil(p)
	}
	return p, err
}

// Prove implements da.Source.
func (l *liar) Prove(_ context.Context, block forks.Hash, keys [][merkle.KeySize]byte, _ int) (*merkle.Proof, error) {
	return l.answer(block, func(p *provable) (*merkle.Proof, error) { return p.trie.Prove(keys, p.state.Get) })
}

// ProveRange implements da.Source.
func (l *liar) ProveRange(_ context.Context, block forks.Hash, req merkle.RangeRequest) (*merkle.Proof, error) {
	return l.answer(block, func(p *provable) (*merkle.Proof, error) {
		return p.trie.ProveRange(req, p.state.Get, func(from []byte, yield func(key, value []byte) bool) error {
			return p.state.Scan(from, nil, yield)
		})
	})
}

// Blocks implements da.Source.
func (l *liar) Blocks(_ context.Context, above forks.Hash, most int) (list []da.Block, err error) {
	l.mu.Lock()
	known := l.blocks
	l.mu.Unlock()
	parents := map[forks.Hash]bool{above: true}
	for _, b := range known {
		if !parents[b.Parent] || l.how.block == nil {
			continue
		}
		if most -= b.size(); most < 0 && len(list) > 0 {
			break
		}
		parents[b.Hash] = true
		list = append(list, b.given())
		l.how.block(&list[len(list)-1])
	}
	if len(list) == 0 {
		return nil, da.ErrNotHeld
	}
	return list, nil
}

// given is a block as peers give it.
func (b *block) given() da.Block {
	out := da.Block{Hash: b.Hash, Parent: b.Parent, Slot: b.Slot, PriorRoot: *b.PriorRoot, PostRoot: b.root, Dels: b.Dels, Header: b.Header}
	for _, put := range b.Puts {
		out.Puts = append(out.Puts, [2][]byte{put.Key, put.Value})
	}
	return out
}

// size is about how many bytes that takes.
func (b *block) size() int {
	size := 200 + len(b.Header) + 40*len(b.Dels)
	for _, put := range b.Puts {
		size += 40 + len(put.Value)
	}
	return size
}

// Item implements da.Source.
func (*liar) Item(context.Context, forks.Hash) ([]byte, error) { return nil, da.ErrNotHeld }

// learnWork gives it shards to lie about.
func (l *liar) learnWork(w *work) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.works = append(l.works, w)
}

// Shard implements da.Source. Honest ones are the nodes' business.
func (l *liar) Shard(_ context.Context, root forks.Hash, index uint16) (da.Shard, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	at := slices.IndexFunc(l.works, func(w *work) bool { return w.spec.Root == root })
	if at < 0 || int(index) >= workShards || l.how.shard == nil {
		return da.Shard{}, da.ErrNotHeld
	}
	sh := l.works[at].shards[index]
	sh = da.Shard{Bundle: bytes.Clone(sh.Bundle), Segments: slices.Clone(sh.Segments), Path: slices.Clone(sh.Path)}
	for i := range sh.Segments {
		sh.Segments[i] = bytes.Clone(sh.Segments[i])
	}
	l.how.shard(index, &sh)
	return sh, nil
}

// provable is a state with its trie.
type provable struct {
	state ordered
	trie  *merkle.Trie
}

func newProvable(all map[string][]byte) (*provable, error) {
	nodes := make(map[string][]byte)
	root, err := merkle.Build(sorted(all), func(key, value []byte) error {
		nodes[string(key)] = bytes.Clone(value)
		return nil
	})
	if err != nil {
		return nil, err
	}
	trie, err := merkle.Open(newOrdered(nodes), root, nil)
	return &provable{newOrdered(all), trie}, err
}

// ordered is pairs in memory, which don't change.
type ordered struct {
	values map[string][]byte
	keys   []string
}

func newOrdered(values map[string][]byte) ordered {
	return ordered{values, slices.Sorted(maps.Keys(values))}
}

// Get gives a value, and whether it is there.
func (o ordered) Get(key []byte) ([]byte, bool, error) {
	value, ok := o.values[string(key)]
	return value, ok, nil
}

// GetMany gives values, nil where there is none.
func (o ordered) GetMany(keys [][]byte) ([][]byte, error) {
	out := make([][]byte, len(keys))
	for i, key := range keys {
		out[i] = o.values[string(key)]
	}
	return out, nil
}

// Scan yields pairs in order, from a key up to one that is left out; nil is no bound.
func (o ordered) Scan(from, to []byte, yield func(key, value []byte) bool) error {
	at, _ := slices.BinarySearch(o.keys, string(from))
	for _, key := range o.keys[at:] {
		if to != nil && key >= string(to) || !yield([]byte(key), o.values[key]) {
			break
		}
	}
	return nil
}

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

// way is how a liar spoils its answers: what is proven, or how it is handed over.
type way struct {
	spoil  func(p *merkle.Proof)
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
		if r.opts.Join == nil {
			return errNeedsPeers
		}
		for range count {
			if len(r.liars) == MaxNodes {
				return fmt.Errorf("there are %d liars already", MaxNodes)
			}
			l, err := newLiar(ctx, how)
			if err != nil {
				return err
			}
			r.liars = append(r.liars, l)
		}
		r.event("peers that lie: %s, %d of them", word, count)
		return nil
	}, nil
}

// errNeedsPeers is the error of a lie that nobody could hear.
var errNeedsPeers = errors.New("needs sidecars with peers, which those in one process are not")

// liar is a peer that has states from the model, and gives no honest answer. It has no
// blocks. Its methods are safe for concurrent use.
type liar struct {
	node  *da.Node
	close func() error
	spoil func(p *merkle.Proof) // may be nil

	mu     sync.Mutex // guards states
	states map[forks.Hash]*provable
}

var _ da.Source = (*liar)(nil)

func newLiar(ctx context.Context, how way) (*liar, error) {
	h, err := datest.NewHost()
	if err != nil {
		return nil, err
	}
	l := &liar{close: h.Close, spoil: how.spoil, states: make(map[forks.Hash]*provable)}
	config := da.Config{Host: h, Serve: da.Serve{State: da.Anyone}}
	if how.manner != nil {
		config.Host = datest.Host{Host: h, Manner: how.manner}
	}
	if l.node, err = da.New(ctx, config, l); err != nil {
		return nil, errors.Join(err, h.Close())
	}
	return l, nil
}

// Close ends it.
func (l *liar) Close() error { return errors.Join(l.node.Close(), l.close()) }

// learn gives it a block's state to lie about.
func (l *liar) learn(b *block) error {
	p, err := newProvable(b.state())
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.states[b.Hash] = p
	return nil
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
	if err == nil && l.spoil != nil {
		p = &merkle.Proof{Nodes: slices.Clone(p.Nodes), Pairs: slices.Clone(p.Pairs)}
		l.spoil(p)
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
func (*liar) Blocks(context.Context, forks.Hash, int) ([]da.Block, error) {
	return nil, da.ErrNotHeld
}

// Item implements da.Source.
func (*liar) Item(context.Context, forks.Hash) ([]byte, error) { return nil, da.ErrNotHeld }

// Shard implements da.Source.
func (*liar) Shard(context.Context, forks.Hash, uint16) (da.Shard, error) {
	return da.Shard{}, da.ErrNotHeld
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

package state_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"accessor/checkpoint"
	"accessor/forks"
	"accessor/state"
	"accessor/state/merkle"
)

// manner is how peers behave.
type manner int32

const (
	honest manner = iota
	gone
	stalling
	lying
	lacking
)

var errGone = errors.New("no peer answers")

// peers is a Fetcher that serves from another Accessor, in the manner that a test
// wants.
type peers struct {
	from   *state.Accessor
	manner atomic.Int32
	lie    atomic.Int32 // which of the lies; below 0 for any
	asked  atomic.Int64 // requests for keys and ranges
	asking atomic.Int64 // of these, those that go on
	pairs  atomic.Int64 // given in ranges
	hold   atomic.Pointer[chan struct{}]

	refusals atomic.Int64 // of blocks
	deaf     atomic.Bool  // nobody answers requests for blocks

	mu  sync.Mutex // guards rng
	rng *rand.Rand
}

var _ state.Fetcher = (*peers)(nil)

func (p *peers) be(m manner) { p.manner.Store(int32(m)) }

// meet behaves as it should before an answer is given.
func (p *peers) meet(ctx context.Context) error {
	if hold := p.hold.Load(); hold != nil {
		select {
		case <-*hold:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	switch manner(p.manner.Load()) {
	case gone:
		return errGone
	case lacking:
		return fmt.Errorf("%w: %w", state.ErrNobodyHas, errGone)
	case stalling:
		<-ctx.Done()
		return ctx.Err()
	}
	return nil
}

func (p *peers) FetchKeys(ctx context.Context, at forks.Block, keys [][merkle.KeySize]byte) (*merkle.Proof, error) {
	p.asked.Add(1)
	p.asking.Add(1)
	defer p.asking.Add(-1)
	if err := p.meet(ctx); err != nil {
		return nil, err
	}
	v, err := p.from.View(ctx, at.Hash)
	if err != nil {
		return nil, err
	}
	defer v.Close()
	list := make([][]byte, len(keys))
	for i := range keys {
		list[i] = keys[i][:]
	}
	s, err := v.Prove(list)
	if err != nil {
		return nil, err
	}
	return p.corrupt(&s.Proof), nil
}

func (p *peers) FetchRange(ctx context.Context, at forks.Block, req merkle.RangeRequest) (*merkle.Proof, bool, error) {
	p.asked.Add(1)
	p.asking.Add(1)
	defer p.asking.Add(-1)
	if err := p.meet(ctx); err != nil {
		return nil, false, err
	}
	v, err := p.from.View(ctx, at.Hash)
	if err != nil {
		return nil, false, err
	}
	defer v.Close()
	s, err := v.ProveRange(req)
	if err != nil {
		return nil, false, err
	}
	p.pairs.Add(int64(len(s.Proof.Pairs)))
	more, err := merkle.VerifyRange(at.Root, req, &s.Proof)
	return p.corrupt(&s.Proof), more, err
}

func (p *peers) FetchBlocks(ctx context.Context, above forks.Hash, most int) (list []*state.Block, err error) {
	if err := p.meet(ctx); err != nil {
		return nil, err
	}
	if p.deaf.Load() {
		return nil, errGone
	}
	var below []forks.Block
	p.from.ReadTree(func(t *forks.Tree) {
		for queue := t.Children(above); len(queue) > 0; queue = queue[1:] {
			below = append(below, queue[0])
			queue = append(queue, t.Children(queue[0].Hash)...)
		}
	})
	size := 0
	for _, b := range below {
		_, changes, err := p.from.Changes(ctx, b.Hash)
		if err != nil {
			return nil, err
		}
		out := &state.Block{Hash: b.Hash, Parent: b.Parent, Slot: b.Slot, PostRoot: &b.Root}
		for _, c := range changes {
			size += len(c.Key) + len(c.Value)
			if c.Value == nil {
				out.Dels = append(out.Dels, c.Key)
			} else {
				out.Puts = append(out.Puts, c)
			}
		}
		if n := p.refusals.Load(); manner(p.manner.Load()) == lying && n < 2 {
			out.Puts = append(out.Puts, put(key("lie"), 1))
		}
		if list = append(list, out); size > most || len(list) == 3 {
			break
		}
	}
	return list, nil
}

// RefuseBlock implements state.BlockRefuser: after two refusals the liar is banned.
func (p *peers) RefuseBlock(*state.Block, error) { p.refusals.Add(1) }

// lies are all that can be wrong about a proof.
var lies = []struct {
	name string
	tell func(rng *rand.Rand, p *merkle.Proof)
}{
	{"a byte of a node", func(rng *rand.Rand, p *merkle.Proof) {
		p.Nodes[rng.IntN(len(p.Nodes))][rng.IntN(merkle.NodeSize)] ^= 1 << rng.IntN(8)
	}},
	{"nothing", func(_ *rand.Rand, p *merkle.Proof) { *p = merkle.Proof{} }},
	{"a node less", func(_ *rand.Rand, p *merkle.Proof) { p.Nodes = p.Nodes[:len(p.Nodes)-1] }},
	{"a node more", func(_ *rand.Rand, p *merkle.Proof) { p.Nodes = append(p.Nodes, p.Nodes[0]) }},
	{"another value, or a pair that isn't there", func(_ *rand.Rand, p *merkle.Proof) {
		if len(p.Pairs) == 0 {
			p.Pairs = []merkle.Pair{{Value: []byte("lie")}}
		} else {
			p.Pairs[0].Value = append(bytes.Clone(p.Pairs[0].Value), 1)
		}
	}},
	{"no pairs, or one", func(_ *rand.Rand, p *merkle.Proof) {
		if len(p.Pairs) > 0 {
			p.Pairs = nil
		} else {
			p.Pairs = []merkle.Pair{{}}
		}
	}},
}

func (p *peers) corrupt(proof *merkle.Proof) *merkle.Proof {
	if manner(p.manner.Load()) != lying || len(proof.Nodes) == 0 {
		return proof
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.rng.IntN(10) == 0 && p.lie.Load() < 0 {
		return nil
	}
	which := int(p.lie.Load())
	if which < 0 {
		which = p.rng.IntN(len(lies))
	}
	lies[which].tell(p.rng, proof)
	return proof
}

// newcomer is a partial store beside a chain whose node is its peers. It shares the
// model's blocks; what it imports it has to be given by itself.
type newcomer struct {
	*chain
	peers *peers
}

func (c *chain) newcomer(t testing.TB, opts checkpoint.Options) *newcomer {
	t.Helper()
	engine, closeEngine := c.engine.open()
	n := &newcomer{
		chain: &chain{t: t, engine: c.engine, anchor: c.anchor, nodes: c.nodes},
		peers: &peers{from: c.Accessor, rng: rand.New(rand.NewPCG(1, 2))},
	}
	n.peers.lie.Store(-1)
	opts.FileHook = n.hook.ask
	n.cfg = state.Config{Dir: t.TempDir(), Engine: engine, Commitment: state.JAM{}, Store: opts, CacheBytes: cacheBytes(t),
		Fetcher: n.peers, FetchTimeout: 5 * time.Second}
	anchor := n.anchor
	anchor.Pairs = nil
	var err error
	if n.Accessor, err = state.CreatePartial(n.cfg, anchor); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
		closeEngine()
		makeRemovable(n.cfg.Dir)
	})
	return n
}

// follow imports blocks that the chain has.
func (n *newcomer) follow(names ...string) {
	n.t.Helper()
	for _, name := range names {
		res, err := n.Import(context.Background(), n.node(name).block)
		if err != nil || res.Held || res.Block.Root != n.node(name).root || (res.Unsealed == nil) == n.Partial() {
			n.t.Fatalf("import %s: %+v, %v", name, res, err)
		}
	}
}

// get reads a key at a block, and compares it with the model.
func (n *newcomer) get(at, text string) error {
	v, err := n.View(context.Background(), hash(at))
	if err != nil {
		return err
	}
	defer v.Close()
	value, present, err := v.Get([]byte(key(text)))
	if err != nil {
		return err
	}
	if want, ok := n.node(at).state[key(text)]; present != ok || string(value) != want {
		return fmt.Errorf("wrong: %q at %s is %q, %v; want %q, %v", text, at, value, present, want, ok)
	}
	return nil
}

func (n *newcomer) wantGet(at, text string) {
	n.t.Helper()
	if err := n.get(at, text); err != nil {
		n.t.Fatal(err)
	}
}

// wantComplete wants the store to be complete, all states to be right, and nobody to be
// asked for them.
func (n *newcomer) wantComplete() {
	n.t.Helper()
	if n.Partial() || n.Store().Partial() {
		n.t.Fatal("the store is partial")
	}
	asked := n.peers.asked.Load()
	for _, rec := range n.Store().Records() {
		if err := n.compare(n.node(nameOf(rec.Hash))); err != nil {
			n.t.Error(err)
		}
	}
	err := n.Verify(context.Background(), func(b forks.Block, err error) { n.t.Errorf("verify %s: %v", nameOf(b.Hash), err) }, nil)
	if err != nil {
		n.t.Fatal(err)
	}
	if more := n.peers.asked.Load() - asked; more != 0 {
		n.t.Errorf("a complete store asked its peers %d times", more)
	}
}

package peers

import (
	"bytes"
	"context"
	"errors"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"go.uber.org/goleak"

	"accessor/checkpoint/checkpointtest"
	"accessor/da"
	"accessor/forks"
	"accessor/state"
	"accessor/state/merkle"
	"accessor/trace"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type key = [merkle.KeySize]byte

// chain is a made-up chain with the state of each block.
type chain struct {
	anchor state.Anchor
	blocks []*state.Block
	states map[forks.Hash]map[key][]byte
}

func newChain(t *testing.T, opts trace.GenerateOptions) *chain {
	t.Helper()
	var text bytes.Buffer
	w := trace.NewWriter(&text)
	if err := trace.Generate(w, opts, nil); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	src, err := trace.NewReader("made up", &text, 0, trace.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	c := &chain{states: make(map[forks.Hash]map[key][]byte)}
	for {
		entry, err := src.Next()
		if err == io.EOF {
			return c
		} else if err != nil {
			t.Fatal(err)
		}
		switch e := entry.(type) {
		case *trace.Anchor:
			c.anchor = state.Anchor{Hash: e.Hash, Slot: e.Slot, Root: e.Root, Header: e.Header, Pairs: pairs(e.Pairs)}
			c.note(e.Hash, nil, e.Pairs, nil)
		case *trace.Block:
			c.blocks = append(c.blocks, &e.Block)
			c.note(e.Hash, c.states[e.Parent], e.Puts, e.Dels)
		}
	}
}

func (c *chain) note(h forks.Hash, prior map[key][]byte, puts []state.Pair, dels [][]byte) {
	now := make(map[key][]byte, len(prior)+len(puts))
	maps.Copy(now, prior)
	for _, p := range puts {
		now[key(p.Key)] = p.Value
	}
	for _, k := range dels {
		delete(now, key(k))
	}
	c.states[h] = now
}

func pairs(list []state.Pair) func(func(state.Pair, error) bool) {
	return func(yield func(state.Pair, error) bool) {
		for _, p := range list {
			if !yield(p, nil) {
				return
			}
		}
	}
}

// sidecar is a store with its node.
type sidecar struct {
	*state.Accessor
	fetcher *Fetcher
	node    *da.Node
	t       *testing.T
	chain   *chain
}

// sidecar makes a store, partial or with the first blocks, and a node that serves what
// serve makes of its source to everybody.
func (c *chain) sidecar(t *testing.T, partial bool, blocks int, serve func(da.Source) da.Source) *sidecar {
	t.Helper()
	s := &sidecar{fetcher: &Fetcher{}, t: t, chain: c}
	cfg := state.Config{Dir: filepath.Join(t.TempDir(), "store"), Engine: checkpointtest.Engine{}, Commitment: state.JAM{},
		CacheBytes: 1 << 20, Fetcher: s.fetcher, FetchTimeout: 5 * time.Second}
	create := state.Create
	if partial {
		create = state.CreatePartial
	}
	var err error
	if s.Accessor, err = create(cfg, c.anchor); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	for _, b := range c.blocks[:blocks] {
		s.take(b)
	}
	everybody := da.Serve{State: da.Anyone, Blocks: da.Anyone}
	var src da.Source = NewSource(s.Accessor, nil)
	if serve != nil {
		src = serve(src)
	}
	s.node, err = da.New(context.Background(), da.Config{Listen: []string{"/ip4/127.0.0.1/tcp/0"}, Serve: everybody}, src)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.node.Close(); err != nil {
			t.Error(err)
		}
	})
	s.fetcher.Use(s.node)
	return s
}

func (s *sidecar) asks(peers ...*sidecar) {
	s.t.Helper()
	for _, p := range peers {
		if err := s.node.AddPeer(p.node.Addrs()[0]); err != nil {
			s.t.Fatal(err)
		}
	}
}

func (s *sidecar) take(b *state.Block) {
	s.t.Helper()
	if res, err := s.Import(s.t.Context(), b); err != nil || res.Block.Root != *b.PostRoot {
		s.t.Fatalf("import of slot %d: %+v, %v", b.Slot, res, err)
	}
}

// wantState compares all keys of a block that any block has.
func (s *sidecar) wantState(h forks.Hash) {
	s.t.Helper()
	v, err := s.View(s.t.Context(), h)
	if err != nil {
		s.t.Fatal(err)
	}
	defer v.Close()
	want := s.chain.states[h]
	var keys [][]byte
	for _, st := range s.chain.states {
		for k := range st {
			keys = append(keys, k[:])
		}
	}
	keys = append(keys, bytes.Repeat([]byte{0xab}, merkle.KeySize))
	values, err := v.MultiGet(s.t.Context(), keys)
	if err != nil {
		s.t.Fatal(err)
	}
	for i, k := range keys {
		if w, ok := want[key(k)]; ok != (values[i] != nil) || !bytes.Equal(values[i], w) {
			s.t.Fatalf("key %x at %s: %x, want %x (%v)", k, h.Short(), values[i], w, ok)
		}
	}
}

var options = trace.GenerateOptions{Seed: 7, Blocks: 24, Keys: 300, Writes: 12, ValueSize: 200, ForkEvery: 4}

// A sidecar that knows a trusted block alone reads, imports, fills and catches up from
// another one, and serves a third one then.
func TestFromAPeer(t *testing.T) {
	c := newChain(t, options)
	old := c.sidecar(t, false, len(c.blocks), nil)
	young := c.sidecar(t, true, 0, nil)
	if _, err := new(Fetcher).FetchKeys(t.Context(), forks.Block{}, []key{{}}); !errors.Is(err, da.ErrNoPeers) {
		t.Errorf("without a node: %v", err)
	}
	young.asks(old)
	young.wantState(c.anchor.Hash)
	young.take(c.blocks[0])
	young.wantState(c.blocks[0].Hash)
	if s := young.PartialStats(); !s.Partial || s.Fetches == 0 || s.Failed+s.Rejected > 0 {
		t.Errorf("%+v", s)
	}
	if err := young.Sync(t.Context(), state.SyncOptions{CatchUp: true}); err != nil {
		t.Fatal(err)
	}
	third := c.sidecar(t, true, 0, nil)
	third.asks(young)
	if err := third.Sync(t.Context(), state.SyncOptions{CatchUp: true}); err != nil {
		t.Fatal(err)
	}
	for _, s := range []*sidecar{young, third} {
		if s.Partial() {
			t.Fatal("the store is partial still")
		}
		for _, b := range c.blocks {
			s.wantState(b.Hash)
		}
	}
	rec, err := third.Store().Get(c.blocks[3].Hash)
	if err != nil || !bytes.Equal(rec.Header, c.blocks[3].Header) {
		t.Errorf("header %x, %v", rec.Header, err)
	}
}

// liar is a source that says something else than the one it has.
type liar struct {
	da.Source
	proofs, blocks bool
}

func (l *liar) Prove(ctx context.Context, block forks.Hash, keys [][merkle.KeySize]byte, most int) (*merkle.Proof, error) {
	p, err := l.Source.Prove(ctx, block, keys, most)
	if err == nil && l.proofs {
		p.Nodes[len(p.Nodes)-1][40] ^= 1
	}
	return p, err
}

func (l *liar) Blocks(ctx context.Context, above forks.Hash, most int) ([]da.Block, error) {
	list, err := l.Source.Blocks(ctx, above, most)
	if err == nil && l.blocks && len(list) > 2 {
		list[2].Puts[0][1] = append(list[2].Puts[0][1], 1)
	}
	return list, err
}

func (s *sidecar) banned(t *testing.T) (list []string) {
	t.Helper()
	for _, p := range s.node.Peers() {
		if !p.Banned.IsZero() {
			list = append(list, p.ID)
		}
	}
	return list
}

func TestLiarsAreBanned(t *testing.T) {
	for name, lie := range map[string]liar{"proofs": {proofs: true}, "blocks": {blocks: true}} {
		t.Run(name, func(t *testing.T) {
			c := newChain(t, options)
			bad := c.sidecar(t, false, len(c.blocks), func(src da.Source) da.Source {
				lie.Source = src
				return &lie
			})
			young := c.sidecar(t, true, 0, nil)
			young.asks(bad)
			if lie.proofs {
				v, err := young.View(t.Context(), c.anchor.Hash)
				if err != nil {
					t.Fatal(err)
				}
				defer v.Close()
				if _, _, err := v.Get(make([]byte, merkle.KeySize)); !errors.Is(err, state.ErrNotFetched) {
					t.Errorf("read from a liar: %v", err)
				}
			} else if err := young.Sync(t.Context(), state.SyncOptions{CatchUp: true}); !errors.Is(err, state.ErrNotFetched) {
				t.Errorf("catch up with a liar: %v", err)
			}
			if got := young.banned(t); !slices.Equal(got, []string{bad.node.ID()}) {
				t.Errorf("banned are %v, the liar is %s", got, bad.node.ID())
			}
			young.asks(c.sidecar(t, false, len(c.blocks), nil))
			young.wantState(c.anchor.Hash)
			if err := young.Sync(t.Context(), state.SyncOptions{CatchUp: true}); err != nil {
				t.Fatal(err)
			}
			for _, b := range c.blocks {
				young.wantState(b.Hash)
			}
		})
	}
}

// What a store hasn't got it doesn't fetch for others.
func TestSourceAsksNobody(t *testing.T) {
	c := newChain(t, options)
	old, young := c.sidecar(t, false, 3, nil), c.sidecar(t, true, 0, nil)
	young.asks(old)
	young.take(c.blocks[0])
	before := young.node.Stats().Requests
	src := NewSource(young.Accessor, nil)
	ctx := t.Context()
	_, prove := src.Prove(ctx, c.anchor.Hash, []key{{1}, {2}}, da.MaxAnswer)
	_, inRange := src.ProveRange(ctx, c.anchor.Hash, merkle.RangeRequest{End: key{9}, MaxSize: 1000})
	_, unknown := src.Prove(ctx, forks.Hash{1}, []key{{1}}, da.MaxAnswer)
	_, blocks := src.Blocks(ctx, forks.Hash{1}, da.MaxAnswer)
	_, item := src.Item(ctx, forks.Hash{1})
	_, shard := src.Shard(ctx, forks.Hash{1}, 0)
	for what, err := range map[string]error{"keys": prove, "range": inRange, "unknown block": unknown, "blocks": blocks, "item": item, "shard": shard} {
		if !errors.Is(err, da.ErrNotHeld) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if got := young.node.Stats().Requests; got != before {
		t.Errorf("%d requests", got-before)
	}
	// Its own block it has.
	if list, err := src.Blocks(ctx, c.anchor.Hash, da.MaxAnswer); err != nil || len(list) != 1 || list[0].Hash != c.blocks[0].Hash {
		t.Errorf("%+v, %v", list, err)
	}
}

// However few fit into an answer, who goes on above its leaves gets all.
func TestBlocksKeepSiblingsTogether(t *testing.T) {
	opts := options
	opts.Blocks, opts.ForkEvery = 60, 2
	c := newChain(t, opts)
	old := c.sidecar(t, false, len(c.blocks), nil)
	src := NewSource(old.Accessor, nil)
	for _, most := range []int{1, 5000, 20_000, da.MaxAnswer} {
		got := make(map[forks.Hash]bool)
		for tips := []forks.Hash{c.anchor.Hash}; len(tips) > 0; tips = tips[1:] {
			list, err := src.Blocks(t.Context(), tips[0], most)
			if err != nil {
				t.Fatal(err)
			}
			parents := map[forks.Hash]bool{tips[0]: true}
			for _, b := range list {
				if got[b.Hash] {
					t.Fatalf("%s twice", b.Hash)
				}
				got[b.Hash], parents[b.Parent] = true, true
			}
			for _, b := range list {
				if !parents[b.Hash] {
					tips = append(tips, b.Hash)
				}
			}
		}
		if len(got) != len(c.blocks) {
			t.Errorf("%d bytes at a time: %d blocks, want %d", most, len(got), len(c.blocks))
		}
	}
}

// Of siblings that are too much for one answer the one that leads to the head is given,
// and not much more is read of the others.
func TestBlocksOfManySiblings(t *testing.T) {
	c := newChain(t, options)
	old := c.sidecar(t, false, 0, nil)
	src := NewSource(old.Accessor, nil)
	large := bytes.Repeat([]byte{1}, da.MaxItem/2+1<<20)
	for i := range 3 {
		b := &state.Block{Hash: forks.Hash{byte(i + 1)}, Parent: c.anchor.Hash, Slot: c.anchor.Slot + 1,
			Puts: []state.Pair{{Key: make([]byte, merkle.KeySize), Value: large[i:]}}}
		if _, err := old.Import(t.Context(), b); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 3 {
		want := forks.Hash{byte(i + 1)}
		if err := old.SetHead(want); err != nil {
			t.Fatal(err)
		}
		list, err := src.Blocks(t.Context(), c.anchor.Hash, da.MaxAnswer)
		if err != nil || len(list) != 1 || list[0].Hash != want {
			t.Errorf("head is %s: %d blocks, %v", want, len(list), err)
		}
	}
}

// Values that don't fit into one answer together are fetched in parts.
func TestLargeValues(t *testing.T) {
	c := newChain(t, options)
	var list []state.Pair
	for i := range 5 {
		list = append(list, state.Pair{Key: append([]byte{byte(40 * i)}, make([]byte, merkle.KeySize-1)...), Value: bytes.Repeat([]byte{byte(i)}, 3<<20)})
	}
	root, err := merkle.Root(func(yield func([]byte, []byte) bool) {
		for _, p := range list {
			if !yield(p.Key, p.Value) {
				return
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	c.anchor, c.blocks, c.states = state.Anchor{Hash: forks.Hash{1}, Root: root, Pairs: pairs(list)}, nil, make(map[forks.Hash]map[key][]byte)
	c.note(c.anchor.Hash, nil, list, nil)
	old, young := c.sidecar(t, false, 0, nil), c.sidecar(t, true, 0, nil)
	young.asks(old)
	young.wantState(c.anchor.Hash)
	if got := young.banned(t); len(got) > 0 {
		t.Errorf("banned: %v", got)
	}
}

// Who gives what contradicts a block that is held may be the honest one.
func TestBlame(t *testing.T) {
	c := newChain(t, options)
	old, young := c.sidecar(t, false, len(c.blocks), nil), c.sidecar(t, true, 0, nil)
	young.asks(old)
	from := &state.Block{Owner: old.node.ID()}
	for _, why := range []error{state.ErrPriorRoot, state.ErrConflict, state.ErrSlotOrder, state.ErrUnknownParent, state.ErrLimit} {
		young.fetcher.RefuseBlock(from, why)
		if got := young.banned(t); len(got) > 0 {
			t.Fatalf("%v: banned are %v", why, got)
		}
	}
	young.fetcher.RefuseBlock(from, state.ErrWrongRoot)
	if got := young.banned(t); len(got) != 1 {
		t.Errorf("banned are %v", got)
	}
}

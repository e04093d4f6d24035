package testnet

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"

	"accessor/checkpoint"
	"accessor/da/datest"
	"accessor/forks"
	"accessor/peers"
	"accessor/state"
	"accessor/state/merkle"
)

// Local makes sidecars in this process: an Accessor each. Nothing in one process can be
// killed, so Kill closes the Accessor, which ends the imports that wait; Processes has
// the real thing.
type Local struct {
	dir       string
	engine    checkpoint.Engine
	net       datest.Network
	addresses addresses
	all       []*inProcess
	met       bool // each is a peer of all others, and of:
	liars     []string
}

// InProcess makes sidecars on the engine, in folders of dir, with hosts of a network:
// then the result is Options.Peers as well. net may be nil: they have no peers.
func InProcess(dir string, engine checkpoint.Engine, net datest.Network) *Local {
	return &Local{dir: dir, engine: engine, net: net}
}

// New makes a node's sidecar, for Options.New.
func (l *Local) New(node int, anchor *Anchor) (Sidecar, error) {
	p := l.make(node)
	p.anchor = anchor
	return p, nil
}

func (l *Local) make(node int) *inProcess {
	cfg := state.Config{Dir: filepath.Join(l.dir, fmt.Sprintf("node%d", node)), Engine: l.engine, Commitment: state.JAM{},
		CacheBytes: 1 << 20, Retention: state.Retention{All: true}}
	p := &inProcess{of: l, node: node, cfg: cfg}
	l.all = append(l.all, p)
	return p
}

// inProcess is a sidecar in this process.
type inProcess struct {
	of     *Local
	node   int
	cfg    state.Config
	anchor *Anchor                        // nil of one that joined:
	joined *Joining                       // nil of others
	acc    atomic.Pointer[state.Accessor] // nil while it doesn't run
	peers  atomic.Pointer[peering]        // nil as well where there is no network
}

var _ Sidecar = (*inProcess)(nil)

func (p *inProcess) Start(ctx context.Context) error {
	fetcher := &peers.Fetcher{}
	cfg := p.cfg
	cfg.Fetcher = fetcher
	acc, err := p.open(cfg)
	if err != nil {
		return err
	}
	if p.of.net != nil {
		peering, err := p.startPeers(ctx, acc, fetcher)
		if err != nil {
			return errors.Join(err, acc.Close())
		}
		p.peers.Store(peering)
	}
	p.acc.Store(acc)
	return nil
}

// open opens the store, or makes it.
func (p *inProcess) open(cfg state.Config) (*state.Accessor, error) {
	if _, err := os.Stat(cfg.Dir); err == nil {
		return state.Open(cfg)
	}
	if p.joined != nil {
		return createTrusting(cfg, p.joined.Trusted)
	}
	a := state.Anchor{Hash: p.anchor.Hash, Slot: p.anchor.Slot, Root: p.anchor.Root, Header: p.anchor.Header}
	a.Pairs = func(yield func(state.Pair, error) bool) {
		for _, pair := range p.anchor.Pairs {
			if !yield(pair, nil) {
				return
			}
		}
	}
	return state.Create(cfg, a)
}

func (p *inProcess) Kill() error { return p.end(true) }

func (p *inProcess) Close() error { return p.end(true) }

func (p *inProcess) Stop() error { return p.end(false) }

func (p *inProcess) end(atOnce bool) (err error) {
	if peering := p.peers.Swap(nil); peering != nil {
		err = peering.stop(atOnce)
	}
	if acc := p.acc.Swap(nil); acc != nil {
		err = errors.Join(err, acc.Close())
	}
	return err
}

var errDown = errors.New("the sidecar doesn't run")

// running gives the Accessor, which may be closed at any time.
func (p *inProcess) running() (*state.Accessor, error) {
	if acc := p.acc.Load(); acc != nil {
		return acc, nil
	}
	return nil, errDown
}

// view gives the state at a block.
func (p *inProcess) view(ctx context.Context, at forks.Hash) (*state.View, error) {
	acc, err := p.running()
	if err != nil {
		return nil, err
	}
	v, err := acc.View(ctx, at)
	return v, readError(err)
}

func (p *inProcess) Import(ctx context.Context, b *state.Block) (Imported, error) {
	acc, err := p.running()
	if err != nil {
		return Imported{}, err
	}
	res, err := acc.Import(ctx, b)
	switch {
	case errors.Is(err, state.ErrUnknownParent):
		return Imported{}, told(ErrUnknownParent, err)
	case errors.Is(err, state.ErrNotFetched):
		return Imported{}, told(ErrNotFetched, err)
	case err != nil:
		return Imported{}, err
	}
	return Imported{Root: res.Block.Root, WalkBack: res.WalkBack != nil}, nil
}

func (p *inProcess) SetHead(_ context.Context, h forks.Hash) error {
	acc, err := p.running()
	if err != nil {
		return err
	}
	return acc.SetHead(h)
}

func (p *inProcess) Finalize(ctx context.Context, h forks.Hash) error {
	acc, err := p.running()
	if err == nil {
		_, err = acc.Finalize(ctx, h)
	}
	return err
}

func (p *inProcess) Read(ctx context.Context, at forks.Hash, keys [][]byte) ([][]byte, error) {
	v, err := p.view(ctx, at)
	if err != nil {
		return nil, err
	}
	defer v.Close()
	values, err := v.MultiGet(ctx, keys)
	return values, readError(err)
}

func (p *inProcess) ReadProven(ctx context.Context, at, root forks.Hash, keys [][]byte) ([][]byte, error) {
	v, err := p.view(ctx, at)
	if err != nil {
		return nil, err
	}
	defer v.Close()
	s, err := v.Prove(keys)
	if err != nil {
		return nil, readError(err)
	}
	answer, err := s.Verify(root)
	if err != nil {
		return nil, readError(err)
	}
	// The answer has each key once, in order.
	proven := make(map[string][]byte, len(answer.Pairs))
	for _, pair := range answer.Pairs {
		proven[string(pair.Key[:])] = pair.Value
	}
	values := make([][]byte, len(keys))
	for i, key := range keys {
		value, ok := proven[string(key)]
		if !ok {
			return nil, fmt.Errorf("%w: the proof has no key %x", ErrWrong, key)
		}
		values[i] = value
	}
	return values, nil
}

func (p *inProcess) Scan(ctx context.Context, at forks.Hash, pair func(key, value []byte) bool) error {
	v, err := p.view(ctx, at)
	if err != nil {
		return err
	}
	defer v.Close()
	for got, err := range v.All(nil, nil) {
		if err != nil {
			return readError(err)
		}
		if !pair(got.Key, got.Value) {
			break
		}
	}
	return nil
}

func (p *inProcess) Roots(context.Context) (map[forks.Hash]forks.Hash, error) {
	acc, err := p.running()
	if err != nil {
		return nil, err
	}
	roots := make(map[forks.Hash]forks.Hash)
	for _, rec := range acc.Store().Records() {
		roots[rec.Hash] = rec.Root
	}
	return roots, nil
}

func (p *inProcess) Status(context.Context) (Status, error) {
	acc, err := p.running()
	if err != nil {
		return Status{}, err
	}
	s := acc.Stats()
	out := Status{Head: acc.Head(), Finalized: s.Finalized, Blocks: s.Blocks, Heads: s.Leaves, Locks: s.Locks + len(acc.Reservations()),
		Partial: acc.Partial()}
	if peering := p.peers.Load(); peering != nil {
		peering.noteStatus(&out)
	}
	return out, nil
}

// readError tells answers that are wrong from others.
func readError(err error) error {
	if errors.Is(err, merkle.ErrProof) || errors.Is(err, state.ErrUnknownBlock) {
		return told(ErrWrong, err)
	}
	return err
}

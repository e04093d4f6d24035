package testnet

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"

	"accessor/checkpoint"
	"accessor/forks"
	"accessor/state"
	"accessor/state/merkle"
)

// InProcess gives sidecars in this process, for Options.New: an Accessor each on the
// engine, in folders of dir. Nothing in one process can be killed, so Kill closes the
// Accessor, which ends the imports that wait; Processes has the real thing.
func InProcess(dir string, engine checkpoint.Engine) func(int, *Anchor) (Sidecar, error) {
	return func(node int, anchor *Anchor) (Sidecar, error) {
		cfg := state.Config{Dir: filepath.Join(dir, fmt.Sprintf("node%d", node)), Engine: engine, Commitment: state.JAM{},
			CacheBytes: 1 << 20, Retention: state.Retention{All: true}}
		return &inProcess{cfg: cfg, anchor: anchor}, nil
	}
}

type inProcess struct {
	cfg    state.Config
	anchor *Anchor
	acc    atomic.Pointer[state.Accessor] // nil while it doesn't run
}

var _ Sidecar = (*inProcess)(nil)

func (p *inProcess) Start(context.Context) error {
	if _, err := os.Stat(p.cfg.Dir); err == nil {
		acc, err := state.Open(p.cfg)
		p.acc.Store(acc)
		return err
	}
	a := state.Anchor{Hash: p.anchor.Hash, Slot: p.anchor.Slot, Root: p.anchor.Root, Header: p.anchor.Header}
	a.Pairs = func(yield func(state.Pair, error) bool) {
		for _, pair := range p.anchor.Pairs {
			if !yield(pair, nil) {
				return
			}
		}
	}
	acc, err := state.Create(p.cfg, a)
	p.acc.Store(acc)
	return err
}

func (p *inProcess) Kill() error { return p.Stop() }

func (p *inProcess) Close() error { return p.Stop() }

func (p *inProcess) Stop() error {
	if acc := p.acc.Swap(nil); acc != nil {
		return acc.Close()
	}
	return nil
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
	return Status{Head: acc.Head(), Finalized: s.Finalized, Blocks: s.Blocks, Heads: s.Leaves, Locks: s.Locks + len(acc.Reservations())}, nil
}

// readError tells answers that are wrong from others.
func readError(err error) error {
	if errors.Is(err, merkle.ErrProof) || errors.Is(err, state.ErrUnknownBlock) {
		return told(ErrWrong, err)
	}
	return err
}

// RemoveAll removes a folder with stores, whose checkpoints are read-only.
func RemoveAll(dir string) error {
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			return os.Chmod(path, 0o700)
		}
		return nil
	})
	return os.RemoveAll(dir)
}

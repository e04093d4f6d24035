package state

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"accessor/checkpoint"
	"accessor/forks"
	"accessor/state/merkle"
)

// CreatePartial makes a store that grows from a trusted block without its state, which
// is fetched from peers as it is needed: anchor.Pairs is not looked at. The root is what
// everything is verified against. Errors: those of checkpoint.CreatePartial, ErrNoTrie
// for a commitment without roots, ErrCommitment.
func CreatePartial(cfg Config, anchor Anchor) (*Accessor, error) {
	c := cfg.Commitment
	switch {
	case c == nil:
		return nil, fmt.Errorf("%w: a new store needs one", ErrCommitment)
	case !c.Rooted():
		return nil, fmt.Errorf("create a partial store: %w", ErrNoTrie)
	}
	a := &Accessor{commitment: c}
	opts := cfg.Store
	opts.Log, opts.CheckRoot = cfg.Log, a.checkRoot
	store, err := checkpoint.CreatePartial(cfg.Dir, cfg.Engine, c.Name(), checkpoint.Record{
		Block:  forks.Block{Hash: anchor.Hash, Slot: anchor.Slot, Root: anchor.Root},
		Header: anchor.Header,
	}, opts)
	if err != nil {
		return nil, err
	}
	if err := a.init(cfg, store, c); err != nil {
		return nil, errors.Join(err, store.Close())
	}
	a.heads.start(a)
	return a, nil
}

// learned is what is known of a trie while a root is computed: what is kept, and what
// was fetched for that.
type learned struct {
	p *partial
	// fresh is what may not be on disk yet of what was needed.
	fresh map[string][]byte
}

// Node implements merkle.Nodes.
func (l *learned) Node(key forks.Hash) (n merkle.Node, known bool, err error) {
	id := keptKey(keptNode, key)
	b, ok := l.fresh[string(id)]
	if !ok {
		var pending bool
		if b, pending, err = l.p.kept(id); pending {
			l.fresh[string(id)] = b
		}
	}
	return n, copy(n[:], b) == len(n) && len(b) == len(n), err
}

// Value implements merkle.Nodes. No root needs one.
func (l *learned) Value(forks.Hash) ([]byte, bool, error) { return nil, false, nil }

// learn takes nodes to be known.
func (l *learned) learn(nodes []merkle.Node) {
	for key, value := range proven(&merkle.Proof{Nodes: nodes}) {
		l.fresh[key] = value
	}
}

// errNoProgress: an ancestor's trie doesn't show what is missing of a block's.
var errNoProgress = errors.New("the proofs don't bring what is missing")

// mostRounds bounds the fetches for one root: the keys that are written, the neighbours
// of those that are deleted, and once more each where only an ancestor's trie is to be
// had.
const mostRounds = 8

// rootAfter computes the root after a write set on a block's state, and gives the nodes
// that make it possible to go on from there. Errors: ErrNotFetched, and the store's.
func (p *partial) rootAfter(ctx context.Context, b forks.Block, ws checkpoint.WriteSet) (forks.Hash, []checkpoint.Change, error) {
	l := &learned{p: p, fresh: make(map[string][]byte)}
	writes := trieWrites(ws)
	for range mostRounds {
		root, added, err := merkle.SparseUpdate(l, b.Root, writes)
		if err == nil {
			l.learn(added)
			changes := make([]checkpoint.Change, 0, len(l.fresh))
			for key, value := range l.fresh {
				changes = append(changes, checkpoint.Change{Key: []byte(key), Value: value})
			}
			return root, changes, nil
		}
		gap := (*merkle.MissingError)(nil)
		if !errors.As(err, &gap) {
			return forks.Hash{}, nil, err
		}
		_, err = p.fetch(ctx, p.a.branch(b), gap.Keys, func(proof *merkle.Proof) { l.learn(proof.Nodes) })
		if err != nil {
			return forks.Hash{}, nil, err
		}
	}
	return forks.Hash{}, nil, &FetchError{Block: b, Keys: len(ws), Err: errNoProgress}
}

// importPartial imports a block onto a partial state: its root is computed from the
// nodes that are known, and those that peers have. again says that the store has become
// complete meanwhile, and nothing was written.
func (a *Accessor) importPartial(ctx context.Context, p *partial, b *Block, ws checkpoint.WriteSet, parent forks.Block, flight *inflight, seen *Imported) (res Result, again bool, err error) {
	root, nodes, err := p.rootAfter(ctx, parent, ws)
	if err != nil {
		return res, false, fmt.Errorf("import block %s: %w", b.Hash, err)
	}
	if b.PostRoot != nil && *b.PostRoot != root {
		return res, false, &RootError{Kind: ErrWrongRoot, Block: b.Hash, Slot: b.Slot, Declared: *b.PostRoot, Actual: root}
	}
	p.switching.RLock()
	defer p.switching.RUnlock()
	if !a.store.Partial() {
		return res, true, nil
	}
	// Before the block: its children need them, and perhaps nobody else has them.
	if err := p.fill.Keep(nodes, true); err != nil {
		return res, false, fmt.Errorf("import block %s: %w", b.Hash, err)
	}
	rec := &checkpoint.Record{
		Block:     forks.Block{Hash: b.Hash, Parent: b.Parent, Slot: b.Slot, Root: root},
		PriorRoot: parent.Root,
		Header:    slices.Clone(b.Header),
	}
	if err := a.store.WriteDelta(rec, ws, nil); err != nil {
		return res, false, fmt.Errorf("import block %s: %w", b.Hash, err)
	}
	publish, err := a.store.RecordWith(rec)
	if err != nil {
		publish()
		return res, false, fmt.Errorf("import block %s: %w", b.Hash, err)
	}
	a.cacheWrites(rec, ws)
	seen.Bytes = rec.DeltaSize
	a.settle(rec.Block, flight)
	publish()
	a.heads.poke()
	return Result{Block: rec.Block, Unsealed: ErrPartial}, false, nil
}

// verifyPartial computes a block's root once more, as far as the nodes that are known
// allow.
func (a *Accessor) verifyPartial(p *partial, b forks.Block) error {
	if b.Hash == p.anchor.Hash {
		return nil
	}
	rec, err := a.store.Get(b.Hash)
	if err != nil {
		return err
	}
	ws, err := a.writesOf(b.Hash)
	if err != nil {
		return err
	}
	root, _, err := merkle.SparseUpdate(p, rec.PriorRoot, trieWrites(ws))
	if gap := (*merkle.MissingError)(nil); errors.As(err, &gap) {
		return nil
	}
	if err == nil && root != b.Root {
		err = &RootError{Kind: ErrWrongRoot, Block: b.Hash, Slot: b.Slot, Declared: b.Root, Actual: root}
	}
	return err
}

// writesOf reads a block's write set.
func (a *Accessor) writesOf(h forks.Hash) (ws checkpoint.WriteSet, err error) {
	writes, err := a.store.ReadDelta(h)
	if err != nil {
		return nil, err
	}
	for w, err := range writes {
		if err != nil {
			return nil, err
		}
		ws = append(ws, checkpoint.Write{Key: slices.Clone(w.Key), Value: slices.Clone(w.Value), Delete: w.Delete})
	}
	return ws, nil
}

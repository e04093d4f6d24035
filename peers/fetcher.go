package peers

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"accessor/da"
	"accessor/forks"
	"accessor/state"
	"accessor/state/merkle"
)

// Fetcher asks peers for what a store lacks. A store is opened with it before there is
// a node, which serves from that store: until Use it has nobody to ask (da.ErrNoPeers).
// The zero value works. It is safe for concurrent use.
type Fetcher struct{ node atomic.Pointer[da.Node] }

var (
	_ state.Fetcher      = (*Fetcher)(nil)
	_ state.BlockRefuser = (*Fetcher)(nil)
)

// Use has the node's peers asked from now on.
func (f *Fetcher) Use(node *da.Node) { f.node.Store(node) }

// mostSplit bounds the proof of keys that don't fit into one answer, in bytes.
const mostSplit = 64 << 20

// FetchKeys implements state.Fetcher. Keys whose proof is too large for one answer are
// asked for in parts. Errors: those of da.Node.FetchKeys.
func (f *Fetcher) FetchKeys(ctx context.Context, at forks.Block, keys [][merkle.KeySize]byte) (*merkle.Proof, error) {
	node := f.node.Load()
	if node == nil {
		return nil, da.ErrNoPeers
	}
	p, err := node.FetchKeys(ctx, at, keys)
	if len(keys) < 2 || !errors.Is(err, da.ErrTooLarge) {
		return p, nobody(err)
	}
	all := parts{nodes: make(map[forks.Hash]merkle.Node), values: make(map[[merkle.KeySize]byte][]byte)}
	if err := all.fetch(ctx, node, at, keys); err != nil {
		return nil, nobody(err)
	}
	return merkle.SparseProve(&all, at.Root, keys, all.value)
}

// parts are the parts of one proof.
type parts struct {
	nodes  map[forks.Hash]merkle.Node
	values map[[merkle.KeySize]byte][]byte
	size   int
}

// fetch fetches keys in halves, and these again where they are too large.
func (p *parts) fetch(ctx context.Context, node *da.Node, at forks.Block, keys [][merkle.KeySize]byte) error {
	for _, half := range [][][merkle.KeySize]byte{keys[:len(keys)/2], keys[len(keys)/2:]} {
		proof, err := node.FetchKeys(ctx, at, half)
		switch {
		case len(half) > 1 && errors.Is(err, da.ErrTooLarge):
			if err := p.fetch(ctx, node, at, half); err != nil {
				return err
			}
			continue
		case err != nil:
			return err
		}
		if p.size += proof.Size(); p.size > mostSplit {
			return fmt.Errorf("%w: the proofs take more than %d bytes", da.ErrTooLarge, mostSplit)
		}
		for _, n := range proof.Nodes {
			p.nodes[merkle.NodeKey(n.Hash())] = n
		}
		for _, pair := range proof.Pairs {
			p.values[pair.Key] = pair.Value
		}
	}
	return nil
}

// Node implements merkle.Nodes.
func (p *parts) Node(key forks.Hash) (merkle.Node, bool, error) {
	n, known := p.nodes[key]
	return n, known, nil
}

// Value implements merkle.Nodes. Values are known by their keys.
func (p *parts) Value(forks.Hash) ([]byte, bool, error) { return nil, false, nil }

func (p *parts) value(key []byte) ([]byte, bool, error) {
	value, present := p.values[[merkle.KeySize]byte(key)]
	return value, present, nil
}

// FetchRange implements state.Fetcher. Errors: those of da.Node.FetchRange.
func (f *Fetcher) FetchRange(ctx context.Context, at forks.Block, req merkle.RangeRequest) (*merkle.Proof, bool, error) {
	node := f.node.Load()
	if node == nil {
		return nil, false, da.ErrNoPeers
	}
	p, more, err := node.FetchRange(ctx, at, req)
	return p, more, nobody(err)
}

// nobody makes the error that all peers lack something that of package state.
func nobody(err error) error {
	if errors.Is(err, da.ErrNotFound) {
		return fmt.Errorf("%w: %w", state.ErrNobodyHas, err)
	}
	return err
}

// FetchBlocks implements state.Fetcher. Where the peers know of no block above it gives
// none. Errors: those of da.Node.FetchBlocks but da.ErrNotFound.
func (f *Fetcher) FetchBlocks(ctx context.Context, above forks.Hash, most int) ([]*state.Block, error) {
	node := f.node.Load()
	if node == nil {
		return nil, da.ErrNoPeers
	}
	list, err := node.FetchBlocks(ctx, above, most)
	if errors.Is(err, da.ErrNotFound) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	out := make([]*state.Block, len(list))
	for i := range list {
		b := &list[i]
		out[i] = &state.Block{
			Hash: b.Hash, Parent: b.Parent, Slot: b.Slot, PriorRoot: &b.PriorRoot, PostRoot: &b.PostRoot,
			Dels: b.Dels, Header: b.Header, Owner: b.From,
		}
		for _, p := range b.Puts {
			out[i].Puts = append(out[i].Puts, state.Pair{Key: p[0], Value: p[1]})
		}
		if len(b.Header) == 0 {
			out[i].Header = nil
		}
	}
	return out, nil
}

// lies are the errors of imports that a block's giver is to blame for: it has checked
// the same before it held the block. This store's own limits aren't among them, nor what
// contradicts a block that is held: perhaps that was the lie, of another.
var lies = []error{state.ErrWrongRoot, state.ErrInvalid}

// RefuseBlock implements state.BlockRefuser: who gave the block is banned.
func (f *Fetcher) RefuseBlock(b *state.Block, why error) {
	node := f.node.Load()
	if node == nil || errors.Is(why, state.ErrLimit) {
		return
	}
	for _, kind := range lies {
		if errors.Is(why, kind) {
			node.Blame(b.Owner, why)
			return
		}
	}
}

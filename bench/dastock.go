package bench

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"

	"golang.org/x/crypto/blake2b"

	"accessor/da"
	"accessor/da/erasure"
	"accessor/da/justify"
	"accessor/forks"
	"accessor/state/merkle"
)

// Of the stock.
const (
	stockItems  = 16
	stockItem   = 64 << 10 // bytes
	stockWorks  = 4
	stockBundle = 16 << 10
	stockRange  = 16 << 10
)

// stock is what honest peers serve: the complete store, items, and shards of work
// packages for 1,023 validators.
type stock struct {
	da.Source
	items []([]byte)
	works []work
}

// work is a work package without segments.
type work struct {
	spec   da.Spec
	bundle []byte
	shards []da.Shard
}

func (r *daRun) newStock() (*stock, error) {
	s := &stock{Source: r.source()}
	for range stockItems {
		item := make([]byte, stockItem)
		_, _ = r.chacha.Read(item)
		s.items = append(s.items, item)
	}
	code := erasure.Full()
	for range stockWorks {
		bundle := make([]byte, stockBundle)
		_, _ = r.chacha.Read(bundle)
		shards, err := code.Encode(bundle)
		if err != nil {
			return nil, err
		}
		leaves := justify.Leaves(shards, nil)
		w := work{bundle: bundle, spec: da.Spec{
			Root: forks.Hash(justify.Root(leaves)), Shards: code.N(), Length: len(bundle), Hash: blake2b.Sum256(bundle),
		}}
		for i := range shards {
			w.shards = append(w.shards, da.Shard{Bundle: shards[i], Path: justify.CoPath(leaves, i)})
		}
		s.works = append(s.works, w)
	}
	return s, nil
}

// Item implements da.Source.
func (s *stock) Item(_ context.Context, hash forks.Hash) ([]byte, error) {
	i := slices.IndexFunc(s.items, func(item []byte) bool { return blake2b.Sum256(item) == hash })
	if i < 0 {
		return nil, da.ErrNotHeld
	}
	return s.items[i], nil
}

// Shard implements da.Source.
func (s *stock) Shard(_ context.Context, root forks.Hash, index uint16) (da.Shard, error) {
	i := slices.IndexFunc(s.works, func(w work) bool { return w.spec.Root == root })
	if i < 0 || int(index) >= len(s.works[i].shards) {
		return da.Shard{}, da.ErrNotHeld
	}
	return s.works[i].shards[index], nil
}

// Kinds of fetches.
const (
	ofKey = iota
	ofRange
	ofItem
	ofBundle
	fetchKinds
)

var fetchNames = [fetchKinds]string{"keys", "ranges", "items", "bundles"}

// fetch fetches something of a kind, and compares it with what is right. Errors:
// errAnswer, and the node's.
func (r *daRun) fetch(n *da.Node, s *stock, kind int, rnd *rand.Rand) error {
	switch kind {
	case ofKey:
		k := key(rnd.IntN(r.Keys))
		keys := [][merkle.KeySize]byte{[merkle.KeySize]byte(k)}
		proof, err := n.FetchKeys(r.ctx, r.at, keys)
		if err != nil {
			return err
		}
		values, err := merkle.VerifyKeys(r.at.Root, keys, proof)
		if err != nil {
			return fmt.Errorf("%w: %w", errAnswer, err)
		}
		return r.right(k, values[0])
	case ofRange:
		return r.fetchRange(n, key(rnd.IntN(r.Keys)))
	case ofItem:
		want := s.items[rnd.IntN(len(s.items))]
		got, err := n.FetchItem(r.ctx, blake2b.Sum256(want))
		return same(got, want, err)
	default:
		w := s.works[rnd.IntN(len(s.works))]
		got, err := n.FetchErasure(r.ctx, w.spec)
		return same(got, w.bundle, err)
	}
}

func same(got, want []byte, err error) error {
	if err == nil && !bytes.Equal(got, want) {
		err = errAnswer
	}
	return err
}

// fetchRange fetches a range that starts at a key, and compares all pairs.
func (r *daRun) fetchRange(n *da.Node, from []byte) error {
	req := merkle.RangeRequest{Start: [merkle.KeySize]byte(from), MaxSize: stockRange}
	for i := range req.End {
		req.End[i] = 0xff
	}
	proof, more, err := n.FetchRange(r.ctx, r.at, req)
	if err != nil {
		return err
	}
	got := proof.Pairs
	for p, err := range r.view.All(from, nil) {
		switch {
		case err != nil:
			return err
		case len(got) == 0 && more:
			return nil
		case len(got) == 0 || !bytes.Equal(got[0].Key[:], p.Key) || !bytes.Equal(got[0].Value, p.Value):
			return fmt.Errorf("%w: range at %x", errAnswer, p.Key)
		}
		got = got[1:]
	}
	if len(got) > 0 {
		return fmt.Errorf("%w: a range with %d pairs too many", errAnswer, len(got))
	}
	return nil
}

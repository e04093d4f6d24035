package testnet

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"

	"accessor/da"
	"accessor/da/justify"
)

// work is a work package that was encoded, and who keeps its shards. It doesn't change
// once it is given away.
type work struct {
	name     string
	spec     da.Spec
	bundle   []byte
	segments [][]byte
	shards   []da.Shard
	keepers  map[*node][]int // indices of the shards that each was given, and acknowledged
}

// Shards of a work package: the chain spec tiny's, of which any two give it back.
const (
	workShards = 6
	workEnough = 2
)

// mostWork bounds a bundle, in bytes, and mostSegments what is exported: the model keeps
// them in memory.
const (
	mostWork     = 1 << 20
	mostSegments = 64
	mostWorks    = 256 << 20 // bytes of all
)

// parseWork: work [size N] [segments N] [as NAME]
func parseWork(a *wording) (action, error) {
	size, err := a.spanAfter("size", 0, mostWork, span{10_000, 10_000})
	if err != nil {
		return nil, err
	}
	segments, err := a.spanAfter("segments", 0, mostSegments, span{2, 2})
	if err != nil {
		return nil, err
	}
	name, err := a.as()
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, r *run) error {
		if r.opts.Peers == nil {
			return errNeedsPeers
		}
		w, err := r.makeWork(name, size.pick(r.rnd.IntN), segments.pick(r.rnd.IntN))
		if err != nil {
			return err
		}
		if !r.met {
			r.met = true
			if err := r.meet(ctx); err != nil {
				return err
			}
		}
		r.giveWork(ctx, w)
		return nil
	}, nil
}

// meet makes all nodes peers of each other and of the liars, of which most ask nobody
// otherwise: their states are complete.
func (r *run) meet(ctx context.Context) error {
	var addresses []string
	for _, l := range r.liars {
		addresses = append(addresses, l.node.Addrs()...)
	}
	return r.opts.Peers.Meet(ctx, addresses)
}

// makeWork makes up a work package, and encodes it.
func (r *run) makeWork(name string, size, segments int) (*work, error) {
	if name == "" {
		name = fmt.Sprintf("w%d", len(r.works)+1)
	}
	if slices.ContainsFunc(r.works, func(w *work) bool { return w.name == name }) {
		return nil, fmt.Errorf("a work package is called %s already", name)
	}
	if r.worked += size + segments*justify.SegmentSize; r.worked > mostWorks {
		return nil, fmt.Errorf("work packages take more than %d bytes", mostWorks)
	}
	w := &work{name: name, bundle: r.chain.random(size), keepers: make(map[*node][]int)}
	for range segments {
		w.segments = append(w.segments, r.chain.random(justify.SegmentSize))
	}
	var err error
	w.spec, w.shards, err = da.Encode(workShards, w.bundle, w.segments)
	return w, err
}

// giveWork gives the nodes that are up one shard after the other, in turn.
func (r *run) giveWork(ctx context.Context, w *work) {
	up, _ := r.pick(nodeSet{all: true}, (*node).works)
	for i, sh := range w.shards {
		if len(up) == 0 {
			break
		}
		n := up[i%len(up)]
		err := n.car.Keep(ctx, w.spec, i, sh)
		switch {
		case err == nil:
			w.keepers[n] = append(w.keepers[n], i)
		case ctx.Err() == nil && n.works():
			n.broken = true
			r.tell.fail("%v, shard %d of %s: %v", n, i, w.name, err)
		}
	}
	for _, l := range r.liars {
		l.learnWork(w)
	}
	r.works = append(r.works, w)
	r.event("%s: %d bytes and %d segments, kept by %d nodes", w.name, len(w.bundle), len(w.segments), len(w.keepers))
}

// within gives the work packages that a node can have: those on its side that are up,
// and stay up in this slot, have enough of their shards.
func (r *run) within(n *node) (list []*work) {
	for _, w := range r.works {
		shards := 0
		for keeper, indices := range w.keepers {
			if keeper.works() && !keeper.dying && r.sideOf(keeper) == r.sideOf(n) {
				shards += len(indices)
			}
		}
		if shards >= workEnough {
			list = append(list, w)
		}
	}
	return list
}

func (r *run) sideOf(n *node) *side {
	i := slices.IndexFunc(r.sides, func(s *side) bool { return slices.Contains(s.nodes, n) })
	return r.sides[i]
}

// fetchWork has a node fetch a part of one work package: its bundle or a segment.
func (n *node) fetchWork(ctx context.Context, list []*work, rnd *rand.Rand, tell *verdicts) {
	if len(list) == 0 {
		return
	}
	w := list[rnd.IntN(len(list))]
	n.fetchPart(ctx, w, rnd.IntN(1+len(w.segments))-1, tell)
}

// fetchPart fetches a segment, or -1, the bundle, and compares it with the model.
func (n *node) fetchPart(ctx context.Context, w *work, i int, tell *verdicts) {
	what, want := "bundle", w.bundle
	var got []byte
	var err error
	if i < 0 {
		got, err = n.car.Bundle(ctx, w.spec)
	} else {
		what, want = fmt.Sprintf("segment %d", i), w.segments[i]
		got, err = n.car.Segment(ctx, w.spec, i)
	}
	switch {
	case ctx.Err() != nil:
	case errors.Is(err, ErrWrong):
		tell.wrong("%v, %s of %s: %v", n, what, w.name, err)
	case err != nil:
		tell.missed("%v, %s of %s: %v", n, what, w.name, err)
	case !bytes.Equal(got, want):
		tell.wrong("%v, %s of %s: %s, the model has %s", n, what, w.name, shown(got), shown(want))
	default:
		tell.read(1)
	}
}

// keepsAll compares the shards that a node has acknowledged with what it has now.
func (r *run) keepsAll(ctx context.Context, n *node) {
	for _, w := range r.works {
		for _, i := range w.keepers[n] {
			got, err := n.car.Kept(ctx, w.spec.Root, i)
			want := shardOf(w.shards[i])
			switch {
			case ctx.Err() != nil:
				return
			case err != nil:
				r.tell.wrong("%v, at the end: shard %d of %s, which it acknowledged: %v", n, i, w.name, err)
			case !bytes.Equal(got.Bundle, want.Bundle) || !bytes.Equal(got.Segments, want.Segments) || !bytes.Equal(got.Justification, want.Justification):
				r.tell.wrong("%v, at the end: shard %d of %s is another", n, i, w.name)
			default:
				r.tell.read(1)
			}
		}
	}
}

// hasWork fetches all of a work package.
func (r *run) hasWork(ctx context.Context, n *node, name string) error {
	at := slices.IndexFunc(r.works, func(w *work) bool { return w.name == name })
	if at < 0 {
		return fmt.Errorf("no work package is called %q", name)
	}
	w := r.works[at]
	before, missed := r.tell.count(), r.tell.unavailableNow()
	for i := -1; i < len(w.segments); i++ {
		n.fetchPart(ctx, w, i, r.tell)
	}
	if r.tell.count() > before || r.tell.unavailableNow() > missed {
		return errors.New("it can't be had whole")
	}
	return nil
}

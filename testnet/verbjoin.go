package testnet

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"
)

// parseJoin: join [COUNT] [trust|follow [BLOCK]]
func parseJoin(a *wording) (action, error) {
	count, trust := 1, ""
	if len(a.rest) > 0 && a.rest[0] != "trust" && a.rest[0] != "follow" {
		var err error
		if count, err = a.number("nodes", 1, MaxNodes); err != nil {
			return nil, err
		}
	}
	follow := a.take("follow")
	if follow || a.take("trust") {
		trust = cmp.Or(a.next(), "finalized")
	}
	return func(ctx context.Context, r *run) error {
		for range count {
			if len(r.nodes) == MaxNodes {
				return fmt.Errorf("there are %d nodes already", MaxNodes)
			}
			if err := r.join(ctx, trust, follow); err != nil {
				return err
			}
		}
		return nil
	}, nil
}

// join starts a new node, from the anchor or from the block called trust, and has it
// given all blocks above, unless it follows its peers.
func (r *run) join(ctx context.Context, trust string, follow bool) error {
	first, how := r.chain.anchor(), "from the anchor"
	var n *node
	var err error
	if trust != "" && r.opts.Peers != nil {
		if first, err = r.block(trust); err != nil {
			return err
		}
		if !r.final.above(first) {
			return fmt.Errorf("%s is not final", names(first))
		}
		how = "trusting " + names(first) + ", with nothing"
		n, err = r.addTrusting(first, follow)
	} else if follow {
		return errNeedsPeers
	} else {
		n, err = r.addNode()
	}
	if err != nil {
		return err
	}
	if err := r.wire(ctx); err != nil { // it may join one side
		return err
	}
	if err := n.start(ctx); err != nil {
		return err
	}
	if r.met { // those that were here first get to know it
		if err := r.meet(ctx); err != nil {
			return err
		}
	}
	if follow {
		r.event("%v joins, %s, and follows its peers", n, how)
		return nil
	}
	for seq, b := range r.chain.blocks[1:] {
		i := item{seq: seq, block: b}
		switch {
		case b == first || !b.above(first):
		case b.made != r.sides[0] && slices.Contains(r.sides, b.made):
			n.missed = append(n.missed, i)
		default:
			n.queue = append(n.queue, i)
		}
	}
	n.queue = append(n.queue, item{seq: r.seq, kind: itemFinal, block: r.final}, item{seq: r.seq, kind: itemHead, block: r.sides[0].head})
	r.event("%v joins, %s", n, how)
	return nil
}

// followPatience is how long a node may take to have what its peers have.
const followPatience = 2 * time.Minute // a peer that was unreachable is left alone for up to a minute and a half

// learn notes which blocks a node that follows has by now.
func (n *node) learn(ctx context.Context, c *chain, tell *verdicts) error {
	roots, err := n.car.Roots(ctx)
	if err != nil {
		return fmt.Errorf("%v: its blocks: %w", n, err)
	}
	for _, b := range c.blocks {
		if root, ok := roots[b.Hash]; ok && !n.has[b] {
			n.acknowledged(b, Imported{Root: root}, tell)
		}
	}
	return nil
}

// caughtUp waits until a node that follows has all blocks above its first one that
// nodes on its side have.
func (r *run) caughtUp(ctx context.Context, n *node) error {
	for began := time.Now(); ; {
		if err := n.learn(ctx, r.chain, r.tell); err != nil {
			return err
		}
		lacks := r.lacks(n)
		if lacks == nil {
			return nil
		}
		if time.Since(began) > followPatience {
			return fmt.Errorf("it has not got %s from its peers after %v", names(lacks), followPatience)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// lacks gives a block that a node which follows should have, and hasn't.
func (r *run) lacks(n *node) *block {
	for _, s := range r.sides {
		if !slices.Contains(s.nodes, n) {
			continue
		}
		for _, other := range s.nodes {
			if !other.works() || other.follows {
				continue
			}
			for _, b := range other.held {
				if b.above(n.held[0]) && !n.has[b] {
					return b
				}
			}
		}
	}
	return nil
}

// best is the head of a node that nobody tells one: of its leaves that with most
// ancestors, then that with the smallest hash.
func (n *node) best() *block {
	return slices.MinFunc(n.held, func(a, b *block) int {
		return cmp.Or(cmp.Compare(b.height, a.height), bytes.Compare(a.Hash[:], b.Hash[:]))
	})
}

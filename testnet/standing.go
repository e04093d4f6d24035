package testnet

import (
	"context"
	"fmt"
	"slices"

	"accessor/forks"
)

// look asks each node how it stands, checks its head, and shows it all.
func (r *run) look(ctx context.Context) {
	v := View{Slot: min(r.slot, r.slots), Slots: r.slots}
	for _, n := range r.nodes {
		known, state := n.askStatus(ctx, r.tell), "up"
		switch {
		case n.broken:
			state = "broken"
		case !n.up:
			state = "down"
		case len(r.sides) > 1 && !slices.Contains(r.sides[0].nodes, n):
			state = "cut"
		}
		if known {
			s := &n.status
			if n.head != nil && s.Head.Hash != n.head.Hash {
				r.tell.wrong("%v: head %s, it was told %s (%s)", n, s.Head.Hash.Short(), n.head.Hash.Short(), n.head.name)
			}
			if s.Finalized.Hash != n.final.Hash {
				r.tell.wrong("%v: finalized %s, it was told %s (%s)", n, s.Finalized.Hash.Short(), n.final.Hash.Short(), n.final.name)
			}
		}
		v.Nodes = append(v.Nodes, NodeView{Node: n.id, State: state, Head: n.status.Head, Heads: n.status.Heads, Blocks: n.status.Blocks,
			Locks: n.locks, WalkBacks: n.walkBacks, Fetches: n.fetches + n.status.Fetches, Rejected: n.rejected + n.status.Rejected, Waiting: n.waiting()})
	}
	v.Result = r.result()
	if r.opts.Shown != nil {
		r.opts.Shown(v)
	}
}

// askStatus asks a node that works how it stands. One that doesn't say is broken.
func (n *node) askStatus(ctx context.Context, tell *verdicts) bool {
	if !n.works() {
		return false
	}
	s, err := n.car.Status(ctx)
	if err == nil {
		n.status = s
	} else if ctx.Err() == nil {
		n.broken = true
		tell.fail("%v: status: %v", n, err)
	}
	return err == nil
}

// result is what came out so far.
func (r *run) result() Result {
	out := r.res
	out.Nodes, out.Slots = len(r.nodes), min(r.slot, r.slots)
	out.Blocks, out.Forks = len(r.chain.blocks)-1, r.chain.late
	for _, n := range r.nodes {
		out.WalkBacks += n.walkBacks
		out.Fetches += n.fetches + n.status.Fetches
		out.Rejected += n.rejected + n.status.Rejected
		out.Banned += n.status.Banned
	}
	r.tell.mu.Lock()
	defer r.tell.mu.Unlock()
	out.ReadsChecked, out.WrongAnswers, out.Unavailable = r.tell.reads, r.tell.wrongs, r.tell.unavailable
	out.Failures, out.Excuses = slices.Clone(r.tell.words), slices.Clone(r.tell.excuses)
	return out
}

// rootsAgree says whether every node that is up holds exactly the blocks that it was
// to be given, each with the model's root.
func (r *run) rootsAgree(ctx context.Context) bool {
	agree, any := true, false
	for _, n := range r.nodes {
		if n.broken {
			agree = false
		}
		if !n.works() {
			continue
		}
		any = true
		r.keepsAll(ctx, n)
		if err := r.hasAll(ctx, n); err != nil {
			r.tell.fail("%v, at the end: %v", n, err)
			agree = false
			continue
		}
		roots, err := n.car.Roots(ctx)
		if err != nil {
			r.tell.fail("%v: its blocks: %v", n, err)
			agree = false
			continue
		}
		for _, b := range n.held {
			if root, ok := roots[b.Hash]; !ok || root != b.root {
				r.tell.fail("%v: %s has root %s, held %t; the model has %s", n, b.name, root.Short(), ok, b.root.Short())
				agree = false
			}
		}
		if n.trusts {
			agree = r.knownRoots(n, roots) && agree
		} else if len(roots) != len(n.held) {
			r.tell.fail("%v holds %d blocks, it acknowledged %d", n, len(roots), len(n.held))
			agree = false
		}
	}
	return agree && any
}

// hasAll says what a node still lacks of what it could be given, or had from its peers.
func (r *run) hasAll(ctx context.Context, n *node) error {
	if n.follows {
		return r.caughtUp(ctx, n)
	}
	if left := n.nextBlocks(r.slot, 1); len(left) > 0 {
		return fmt.Errorf("%s could not be given to it", names(left[0]))
	}
	return nil
}

// knownRoots says whether a node that takes blocks from peers holds none but the
// model's: it may have some that it was not given yet.
func (r *run) knownRoots(n *node, roots map[forks.Hash]forks.Hash) bool {
	model := make(map[forks.Hash]forks.Hash, len(r.chain.blocks))
	for _, b := range r.chain.blocks {
		model[b.Hash] = b.root
	}
	for h, root := range roots {
		if want, made := model[h]; !made || root != want {
			r.tell.fail("%v: block %s has root %s, the model: made %t, %s", n, h.Short(), root.Short(), made, want.Short())
			return false
		}
	}
	return true
}

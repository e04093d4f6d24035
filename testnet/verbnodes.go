package testnet

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// pick gives the nodes that are meant; random takes one of the candidates.
func (r *run) pick(s nodeSet, candidate func(*node) bool) ([]*node, error) {
	var among, out []*node
	for _, n := range r.nodes {
		if candidate(n) {
			among = append(among, n)
		}
	}
	switch {
	case s.all:
		return among, nil
	case s.random && len(among) == 0:
		return nil, nil
	case s.random:
		return []*node{among[r.rnd.IntN(len(among))]}, nil
	}
	for _, id := range s.list {
		if id >= len(r.nodes) {
			return nil, fmt.Errorf("there is no node %d", id)
		}
		out = append(out, r.nodes[id])
	}
	return out, nil
}

// parseWithhold: withhold from NODES for SLOTS
func parseWithhold(a *wording) (action, error) {
	if !a.take("from") {
		return nil, errors.New("want: withhold from NODES for SLOTS")
	}
	from, err := a.nodes()
	if err != nil {
		return nil, err
	}
	if !a.take("for") {
		return nil, errors.New("want: withhold from NODES for SLOTS")
	}
	slots, err := a.span("for", 1, MaxSlots)
	if err != nil {
		return nil, err
	}
	return func(_ context.Context, r *run) error {
		list, err := r.pick(from, func(*node) bool { return true })
		if err != nil || len(list) == 0 {
			return err
		}
		w := withheld{list, r.slot + slots.pick(r.rnd.IntN)}
		r.held = append(r.held, w)
		for _, n := range list {
			for i := range n.queue { // made before this line
				if n.queue[i].kind == itemBlock && n.queue[i].block.Slot == r.slotNow() {
					n.queue[i].until = max(n.queue[i].until, w.until)
				}
			}
		}
		r.event("blocks of this slot are withheld from %s until slot %d", nodesText(list), w.until)
		return nil
	}, nil
}

// parsePartition: partition random, or partition NODES | NODES…, or | rest
func parsePartition(a *wording) (action, error) {
	random := a.take("random")
	var sets [][]int
	rest := false
	for !random {
		if rest {
			return nil, errors.New("rest comes last")
		}
		if rest = a.take("rest"); !rest {
			list, err := nodeList(a.next())
			if err != nil {
				return nil, err
			}
			sets = append(sets, list)
		}
		if !a.take("|") {
			break
		}
	}
	if !random && (len(sets) < 1 || len(sets) < 2 && !rest) {
		return nil, errors.New("want: partition random, or sides such as 0,1 | 2,3 or 0 | rest")
	}
	return func(ctx context.Context, r *run) error {
		if len(r.nodes) < 2 {
			return errors.New("one node can't be divided")
		}
		sides := sets
		if random {
			order := r.rnd.Perm(len(r.nodes))
			sides = [][]int{order[:(len(order)+1)/2], order[(len(order)+1)/2:]}
		}
		return r.divide(ctx, sides, rest)
	}, nil
}

// divide makes sides of the nodes. Those that are not named are one more side with rest,
// else of the first.
func (r *run) divide(ctx context.Context, ids [][]int, rest bool) error {
	r.unite()
	count, others := len(ids), 0
	if rest {
		count, others = count+1, count
	}
	sides := make([]*side, count)
	for i := range sides {
		sides[i] = &side{head: r.sides[0].head}
	}
	sides[0] = r.sides[0] // the same, so that its branches go on
	sides[0].nodes = nil
	of := make(map[int]int)
	for i, list := range ids {
		for _, id := range list {
			if _, twice := of[id]; twice || id >= len(r.nodes) {
				return fmt.Errorf("there is no node %d, or it is on two sides", id)
			}
			of[id] = i
		}
	}
	for _, n := range r.nodes {
		i, named := of[n.id]
		if !named {
			i = others
		}
		sides[i].nodes = append(sides[i].nodes, n)
	}
	var words []string
	for _, s := range sides {
		if len(s.nodes) == 0 {
			return errors.New("a side has no node")
		}
		words = append(words, nodesText(s.nodes))
	}
	r.sides = sides
	r.res.Partitions++
	r.event("partition: %s", strings.Join(words, " | "))
	return r.wire(ctx)
}

// wire has nodes reach those of their own side as peers, and no others.
func (r *run) wire(ctx context.Context) error {
	if r.opts.Peers == nil {
		return nil
	}
	var sides [][]int
	if len(r.sides) > 1 {
		for _, s := range r.sides {
			var ids []int
			for _, n := range s.nodes {
				ids = append(ids, n.id)
			}
			sides = append(sides, ids)
		}
	}
	return r.opts.Peers.Divide(ctx, sides)
}

// parseHeal: heal
func parseHeal(*wording) (action, error) {
	return func(ctx context.Context, r *run) error { return r.heal(ctx) }, nil
}

// heal ends a partition, and gives what was withheld.
func (r *run) heal(ctx context.Context) error {
	divided := len(r.sides) > 1
	r.unite()
	for _, n := range r.nodes {
		for i := range n.queue {
			n.queue[i].until = 0
		}
	}
	if divided {
		return r.wire(ctx)
	}
	return nil
}

// unite makes one side of all: every node gets what it missed, and all follow the
// longest chain.
func (r *run) unite() {
	if len(r.sides) == 1 {
		return
	}
	best := r.sides[0]
	for _, s := range r.sides[1:] {
		if s.head.height > best.head.height {
			best = s
		}
	}
	one := r.sides[0]
	one.nodes = slices.Clone(r.nodes)
	for _, n := range r.nodes {
		n.queue = append(n.queue, n.missed...)
		n.missed = nil
		slices.SortStableFunc(n.queue, func(a, b item) int { return a.seq - b.seq })
	}
	r.sides = []*side{one}
	r.event("heal: all follow %s", names(best.head))
	r.setHead(one, best.head)
}

// killWithin is the longest time after which a kill meets a node that imports.
const killWithin = 12 * time.Millisecond

// parseKill: kill NODES [for SLOTS]
func parseKill(a *wording) (action, error) {
	who, err := a.nodes()
	if err != nil {
		return nil, err
	}
	slots, err := a.spanAfter("for", 1, MaxSlots, span{})
	if err != nil {
		return nil, err
	}
	return func(_ context.Context, r *run) error {
		list, err := r.pick(who, func(n *node) bool { return n.works() && !n.dying })
		if err != nil {
			return err
		}
		for _, n := range list {
			if !n.works() || n.dying {
				continue
			}
			// More often soon after the first block has come than late.
			u := r.rnd.Float64()
			n.dying, n.killed = true, time.Duration(u*u*float64(killWithin))
			until := ""
			if slots.low > 0 {
				n.revives = r.slot + slots.pick(r.rnd.IntN)
				until = fmt.Sprintf(", until slot %d", n.revives)
			}
			r.res.Kills++
			r.event("kill -9 %v%s", n, until)
		}
		return nil
	}, nil
}

// parseRestart: restart NODES
func parseRestart(a *wording) (action, error) {
	who, err := a.nodes()
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, r *run) error {
		list, err := r.pick(who, func(n *node) bool { return !n.up })
		if err != nil {
			return err
		}
		for _, n := range list {
			if n.broken || n.dying {
				continue
			}
			if n.up {
				r.event("stop %v in order", n)
				if err := n.end(n.car.Stop); err != nil {
					return err
				}
			}
			r.event("%v is started again", n)
			if err := n.start(ctx); err != nil {
				return err
			}
		}
		return nil
	}, nil
}

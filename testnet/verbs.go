package testnet

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// verbs are what a line can say after the colon. Each reads its words.
var verbs map[string]func(a *wording) (action, error)

func init() {
	verbs = map[string]func(a *wording) (action, error){
		"produce": parseProduce, "fork": parseFork, "equivocate": parseEquivocate, "withhold": parseWithhold,
		"partition": parsePartition, "heal": parseHeal, "kill": parseKill, "restart": parseRestart,
		"join": parseJoin, "lie": parseLie, "finalize": parseFinalize, "expect": parseExpect,
	}
}

func parseVerb(words []string) (action, error) {
	a := &wording{rest: words}
	verb := a.next()
	parse, ok := verbs[verb]
	if !ok {
		return nil, fmt.Errorf("%q is no verb", verb)
	}
	do, err := parse(a)
	if err == nil {
		err = a.done()
	}
	return do, err
}

// errNeedsPeers is the error of what sidecars can't do without peers.
var errNeedsPeers = errors.New("needs sidecars with peers, which this version doesn't run")

func parseLie(*wording) (action, error) { return nil, fmt.Errorf("lie: %w", errNeedsPeers) }

// name reads the name that a block is given.
func (a *wording) name() (string, error) {
	word := a.next()
	switch {
	case word == "" || slices.Contains([]string{"head", "finalized", "anchor", "all"}, word), isNumbered(word):
		return "", fmt.Errorf("%q can't name a block", word)
	}
	return word, nil
}

// isNumbered says whether a name is of the form that blocks have by themselves.
func isNumbered(word string) bool {
	digits, ok := strings.CutPrefix(word, "b")
	return ok && digits != "" && strings.Trim(digits, "0123456789") == ""
}

// free says whether a block can get a name.
func (r *run) free(name string) error {
	if r.chain.byName[name] != nil || slices.ContainsFunc(r.asides, func(a *branch) bool { return name != "" && a.name == name }) {
		return fmt.Errorf("a block is called %s already", name)
	}
	return nil
}

// block gives the block of a name.
func (r *run) block(name string) (*block, error) {
	switch name {
	case "head":
		return r.sides[0].head, nil
	case "finalized":
		return r.final, nil
	}
	if b := r.chain.byName[name]; b != nil {
		return b, nil
	}
	return nil, fmt.Errorf("no block is called %q", name)
}

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

// parseProduce: produce [on BLOCK] [writes N] [as NAME]
func parseProduce(a *wording) (action, error) {
	on, name, writes := "", "", -1
	var err error
	if a.take("on") {
		on = a.next()
	}
	if a.take("writes") {
		if writes, err = a.number("writes", 0, 10_000); err != nil {
			return nil, err
		}
	}
	if a.take("as") {
		if name, err = a.name(); err != nil {
			return nil, err
		}
	}
	return func(_ context.Context, r *run) error {
		n := writes
		if n < 0 {
			n = r.s.Writes
		}
		if err := r.free(name); err != nil {
			return err
		}
		if on != "" {
			parent, err := r.block(on)
			if err != nil {
				return err
			}
			b, err := r.make(r.sides[0], parent, n, name)
			if err == nil && parent == r.sides[0].head {
				r.setHead(r.sides[0], b)
			}
			return err
		}
		for i, s := range r.sides {
			own := name
			if i > 0 {
				own = "" // the first side's has the name
			}
			b, err := r.make(s, s.head, n, own)
			if err != nil {
				return err
			}
			r.setHead(s, b)
		}
		return nil
	}, nil
}

// parseFork: fork [depth N] [length N] [wins] [as NAME]
func parseFork(a *wording) (do action, err error) {
	depth, length, name := span{1, 1}, span{1, 1}, ""
	if a.take("depth") {
		if depth, err = a.span("depth", 1, 1000); err != nil {
			return nil, err
		}
	}
	if a.take("length") {
		if length, err = a.span("length", 1, 1000); err != nil {
			return nil, err
		}
	}
	wins := a.take("wins")
	if a.take("as") {
		if name, err = a.name(); err != nil {
			return nil, err
		}
	}
	return func(_ context.Context, r *run) error {
		if err := r.free(name); err != nil {
			return err
		}
		s := r.sides[r.rnd.IntN(len(r.sides))]
		from := s.head.back(depth.pick(r.rnd.IntN), r.final)
		b := &branch{of: s, tip: from, left: length.pick(r.rnd.IntN), wins: wins, name: name}
		if from.Slot >= r.slotNow() {
			return nil // everything below is final
		}
		r.asides = append(r.asides, b)
		r.event("fork at %s, %d below the head, of %d blocks", names(from), s.head.height-from.height, b.left)
		return nil
	}, nil
}

// parseEquivocate: equivocate [as NAME]
func parseEquivocate(a *wording) (do action, err error) {
	name := ""
	if a.take("as") {
		if name, err = a.name(); err != nil {
			return nil, err
		}
	}
	return func(_ context.Context, r *run) error {
		if err := r.free(name); err != nil {
			return err
		}
		s := r.sides[r.rnd.IntN(len(r.sides))]
		if s.head.Slot < r.slotNow() {
			b, err := r.make(s, s.head, r.s.Writes, "")
			if err != nil {
				return err
			}
			r.setHead(s, b)
		}
		if !s.head.parent.above(r.final) {
			return nil // nobody builds on what has lost
		}
		b, err := r.make(s, s.head.parent, r.s.Writes, name)
		if err == nil {
			r.event("%s and %s are both of slot %d", s.head.name, b.name, b.Slot)
		}
		return err
	}, nil
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
	return func(_ context.Context, r *run) error {
		if len(r.nodes) < 2 {
			return errors.New("one node can't be divided")
		}
		sides := sets
		if random {
			order := r.rnd.Perm(len(r.nodes))
			sides = [][]int{order[:(len(order)+1)/2], order[(len(order)+1)/2:]}
		}
		return r.divide(sides)
	}, nil
}

// divide makes sides of the nodes; those that no side names are one more, or of the
// first side where there are others.
func (r *run) divide(ids [][]int) error {
	r.heal()
	all := &side{head: r.sides[0].head}
	sides := []*side{r.sides[0]} // the same, so that its branches go on
	of := make(map[*node]*side)
	for i, list := range ids {
		s := r.sides[0]
		if i > 0 {
			s = &side{head: all.head}
			sides = append(sides, s)
		}
		for _, id := range list {
			if id >= len(r.nodes) {
				return fmt.Errorf("there is no node %d", id)
			}
			if of[r.nodes[id]] != nil {
				return fmt.Errorf("node %d is on two sides", id)
			}
			of[r.nodes[id]] = s
		}
	}
	if len(ids) == 1 {
		sides = append(sides, all)
	}
	last := sides[0]
	if len(ids) == 1 {
		last = all
	}
	for _, s := range sides {
		s.nodes = nil
	}
	for _, n := range r.nodes {
		s := of[n]
		if s == nil {
			s = last
		}
		s.nodes = append(s.nodes, n)
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
	return nil
}

// parseHeal: heal
func parseHeal(*wording) (action, error) {
	return func(_ context.Context, r *run) error {
		r.heal()
		return nil
	}, nil
}

// heal ends a partition: every node gets what it missed, and what was withheld from it,
// and all follow the longest chain.
func (r *run) heal() {
	for _, n := range r.nodes {
		for i := range n.queue {
			n.queue[i].until = 0
		}
	}
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

// parseKill: kill NODES [for SLOTS]
func parseKill(a *wording) (action, error) {
	who, err := a.nodes()
	if err != nil {
		return nil, err
	}
	var slots span
	if a.take("for") {
		if slots, err = a.span("for", 1, MaxSlots); err != nil {
			return nil, err
		}
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

// parseJoin: join [COUNT]
func parseJoin(a *wording) (action, error) {
	count := 1
	if slices.Contains(a.rest, "trust") {
		return nil, fmt.Errorf("join trust: %w", errNeedsPeers)
	}
	if len(a.rest) > 0 {
		var err error
		if count, err = a.number("nodes", 1, MaxNodes); err != nil {
			return nil, err
		}
	}
	return func(ctx context.Context, r *run) error {
		for range count {
			if len(r.nodes) == MaxNodes {
				return fmt.Errorf("there are %d nodes already", MaxNodes)
			}
			friend := r.sides[0].nodes[0]
			n, err := r.addNode()
			if err != nil {
				return err
			}
			if err := n.start(ctx); err != nil {
				return err
			}
			for seq, b := range r.chain.blocks[1:] {
				i := item{seq: seq, block: b}
				if slices.ContainsFunc(friend.missed, func(m item) bool { return m.block == b }) {
					n.missed = append(n.missed, i)
				} else {
					n.queue = append(n.queue, i)
				}
			}
			n.queue = append(n.queue, item{seq: r.seq, kind: itemFinal, block: r.final}, item{seq: r.seq, kind: itemHead, block: r.sides[0].head})
			r.event("%v joins, from the anchor", n)
		}
		return nil
	}, nil
}

// parseFinalize: finalize [depth N]
func parseFinalize(a *wording) (do action, err error) {
	depth := span{}
	if a.take("depth") {
		if depth, err = a.span("depth", 0, MaxSlots); err != nil {
			return nil, err
		}
	}
	return func(_ context.Context, r *run) error {
		b := r.sides[0].head
		for _, s := range r.sides[1:] {
			b = common(b, s.head)
		}
		// So far below the head of all, and never more than all sides have.
		if most := r.sides[0].head.back(depth.pick(r.rnd.IntN), r.final); b.above(most) {
			b = most
		}
		if b == r.final || !b.above(r.final) {
			return nil
		}
		r.final = b
		for _, s := range r.sides {
			r.publish(s, itemFinal, b)
		}
		r.event("finalize %s", names(b))
		return nil
	}, nil
}

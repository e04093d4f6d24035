package testnet

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"

	"accessor/forks"
)

// run is a scenario at work. Its fields are one goroutine's, but what concurrent checks
// find goes to tell.
type run struct {
	opts  Options
	s     *Scenario
	slots int
	slot  int
	rnd   *rand.Rand // all decisions of the scenario
	chain *chain
	tell  *verdicts
	res   Result

	nodes  []*node
	sides  []*side   // of a partition; one without
	asides []*branch // side branches that still grow
	final  *block
	seq    int // of what was published
	held   []withheld
	liars  []*liar
	works  []*work
	worked int  // bytes of all
	met    bool // all nodes are peers of each other
}

// side is nodes that hear of each other's blocks, and the chain that they follow.
type side struct {
	nodes []*node
	head  *block
}

// branch is a side branch that grows by a block in each slot.
type branch struct {
	of   *side
	tip  *block
	left int // blocks that are to come
	wins bool
	name string // of its last block
}

// withheld says from whom the blocks of this slot are kept, and until which slot.
type withheld struct {
	nodes []*node
	until int
}

var errOptions = errors.New("invalid option")

func newRun(opts Options) (*run, error) {
	s := opts.Scenario
	r := &run{opts: opts, s: s, slots: s.Slots, tell: &verdicts{}, rnd: rand.New(rand.NewPCG(opts.Seed, 0))}
	if opts.Slots != 0 {
		r.slots = opts.Slots
	}
	count := s.Nodes
	if opts.Nodes != 0 {
		count = opts.Nodes
	}
	if count < 1 || count > MaxNodes || r.slots < 1 || r.slots > MaxSlots || opts.SlotTime < 0 {
		return nil, fmt.Errorf("testnet: %w: 1 to %d nodes, 1 to %d slots", errOptions, MaxNodes, MaxSlots)
	}
	err := s.reaches(r.slots)
	if err != nil {
		return nil, err
	}
	if r.chain, err = newChain(opts.Seed, s.Keys); err != nil {
		return nil, err
	}
	r.final = r.chain.anchor()
	r.sides = []*side{{head: r.chain.anchor()}}
	for range count {
		if _, err := r.addNode(); err != nil {
			return nil, errors.Join(err, r.close())
		}
	}
	return r, nil
}

// addNode makes a node, which starts from the anchor and was told nothing yet.
func (r *run) addNode() (*node, error) {
	car, err := r.opts.New(len(r.nodes), r.chain.anchorState())
	if err != nil {
		return nil, fmt.Errorf("make node %d: %w", len(r.nodes), err)
	}
	return r.add(car, r.chain.anchor()), nil
}

// addTrusting makes a node that knows of a block what it takes to trust it, and no more.
func (r *run) addTrusting(b *block, follow bool) (*node, error) {
	how := Joining{Trusted: forks.Block{Hash: b.Hash, Slot: b.Slot, Root: b.root}, Follow: follow}
	if len(r.liars) > 0 {
		p, err := newProvable(b.state())
		if err != nil {
			return nil, err
		}
		for _, l := range r.liars {
			l.learn(b, p)
			how.Liars = append(how.Liars, l.node.Addrs()...)
		}
	}
	car, err := r.opts.Peers.Join(len(r.nodes), how)
	if err != nil {
		return nil, fmt.Errorf("make node %d: %w", len(r.nodes), err)
	}
	n := r.add(car, b)
	n.trusts, n.follows = true, follow
	return n, nil
}

// add adds a node that starts from a block.
func (r *run) add(car Sidecar, first *block) *node {
	n := newNode(len(r.nodes), car, first)
	r.nodes = append(r.nodes, n)
	r.sides[0].nodes = append(r.sides[0].nodes, n)
	return n
}

func (r *run) startAll(ctx context.Context) error {
	var wg sync.WaitGroup
	errs := make([]error, len(r.nodes))
	for i, n := range r.nodes {
		wg.Go(func() { errs[i] = n.start(ctx) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

func (r *run) close() error {
	var errs []error
	for _, n := range r.nodes {
		errs = append(errs, n.car.Close())
	}
	for _, l := range r.liars {
		errs = append(errs, l.Close())
	}
	return errors.Join(errs...)
}

func (r *run) slotNow() forks.Slot { return forks.Slot(r.slot) }

// event tells what happens.
func (r *run) event(format string, args ...any) {
	if r.opts.Event != nil {
		r.opts.Event(r.slot, fmt.Sprintf(format, args...))
	}
}

// playSlot does what the scenario says for the slot, and delivers it.
func (r *run) playSlot(ctx context.Context) error {
	for _, n := range r.nodes {
		if n.revives == r.slot && !n.up {
			r.event("%v is started again", n)
			if err := n.start(ctx); err != nil {
				return err
			}
		}
	}
	r.held = nil
	for i := range r.s.rules {
		rule := &r.s.rules[i]
		if rule.when.fires(r.slot, r.slots, r.rnd.IntN) {
			if err := r.do(ctx, rule); err != nil {
				return err
			}
		}
	}
	if err := r.growAsides(); err != nil {
		return err
	}
	if err := r.deliver(ctx, r.s.Reads); err != nil {
		return err
	}
	r.look(ctx)
	return context.Cause(ctx)
}

func (r *run) do(ctx context.Context, rule *rule) error {
	if err := rule.do(ctx, r); err != nil {
		return fmt.Errorf("%s, line %d (%s): %w", r.s.Name, rule.line, rule.text, err)
	}
	return nil
}

// playEnd does what is to be done in the slot after the last, and compares what all nodes hold
// with the model.
func (r *run) playEnd(ctx context.Context) error {
	for i := range r.s.rules {
		if rule := &r.s.rules[i]; rule.when.end {
			if err := r.do(ctx, rule); err != nil {
				return err
			}
		}
	}
	if err := r.deliver(ctx, r.s.Reads); err != nil {
		return err
	}
	r.look(ctx)
	r.res.RootsAgree = r.rootsAgree(ctx)
	return context.Cause(ctx)
}

// deliver gives all nodes what they can be given, at the same time, while others read
// from them.
func (r *run) deliver(ctx context.Context, reads int) error {
	var wg sync.WaitGroup
	errs := make([]error, len(r.nodes))
	readers := make([]func(), len(r.nodes)) // made first: a feed changes what they go by
	for i, n := range r.nodes {
		if n.works() && !n.dying && reads > 0 {
			readers[i] = r.reader(ctx, n, reads)
		}
	}
	for i, n := range r.nodes {
		if readers[i] != nil {
			wg.Go(readers[i])
		}
		if n.works() {
			wg.Go(func() { errs[i] = n.feed(ctx, r.slot, &feeding{max(1, r.opts.Parallel), r.tell}) })
		}
	}
	wg.Wait()
	return errors.Join(append(errs, context.Cause(ctx))...)
}

// reader gives what reads from a node that works, at what it has by now.
func (r *run) reader(ctx context.Context, n *node, reads int) func() {
	if n.follows {
		if err := n.learn(ctx, r.chain, r.tell); err != nil {
			if ctx.Err() == nil {
				n.broken = true
				r.tell.fail("%v", err)
			}
			return nil
		}
	}
	held, works := slices.Clone(n.held), r.within(n)
	chance := func(read int) *rand.Rand {
		return rand.New(rand.NewPCG(r.opts.Seed, uint64(read)<<32|uint64(r.slot)<<16|uint64(n.id)<<1|1))
	}
	return func() {
		n.readsPerSlot(ctx, r.chain, reads, chance, held, r.tell)
		n.fetchWork(ctx, works, chance(reads), r.tell)
	}
}

// publish tells the nodes of a side. Others miss blocks until all is healed; heads are
// each side's own.
func (r *run) publish(to *side, kind itemKind, b *block) {
	r.seq++
	if kind == itemBlock {
		b.made = to
		for _, l := range r.liars {
			l.learnBlock(b)
		}
	}
	for _, n := range r.nodes {
		if n.follows {
			continue
		}
		i := item{seq: r.seq, kind: kind, block: b}
		for _, w := range r.held {
			if kind == itemBlock && slices.Contains(w.nodes, n) {
				i.until = max(i.until, w.until)
			}
		}
		switch {
		case slices.Contains(to.nodes, n):
			n.queue = append(n.queue, i)
		case kind == itemBlock:
			n.missed = append(n.missed, i)
		}
	}
}

// setHead makes a side follow a chain.
func (r *run) setHead(s *side, b *block) {
	s.head = b
	r.publish(s, itemHead, b)
}

// grow makes a block on a side's chain, in the slot that the run is at.
func (r *run) grow(s *side, parent *block, writes int, name string) (*block, error) {
	slot := r.slotNow()
	if parent.Slot >= slot {
		return nil, fmt.Errorf("a block on %s, which is of slot %d, can't be of slot %d", parent.name, parent.Slot, slot)
	}
	if name == "" {
		name = fmt.Sprintf("b%d", len(r.chain.blocks))
	}
	b, err := r.chain.grow(parent, slot, writes, name)
	if err != nil {
		return nil, err
	}
	r.publish(s, itemBlock, b)
	return b, nil
}

// growAsides makes the blocks of side branches.
func (r *run) growAsides() error {
	r.asides = slices.DeleteFunc(r.asides, func(a *branch) bool {
		return !slices.Contains(r.sides, a.of) || !a.tip.above(r.final) // nobody builds on what has lost
	})
	for _, a := range r.asides {
		name := ""
		if a.left == 1 {
			name = a.name
		}
		b, err := r.grow(a.of, a.tip, r.s.Writes, name)
		if err != nil {
			return err
		}
		a.tip = b
		if a.left--; a.left == 0 && a.wins && b != a.of.head {
			r.event("%s wins: the head moves from %s to %s", names(a.tip), a.of.head.name, b.name)
			r.setHead(a.of, b)
		}
	}
	r.asides = slices.DeleteFunc(r.asides, func(a *branch) bool { return a.left == 0 })
	return nil
}

// names is a block with the place where its branch is.
func names(b *block) string { return fmt.Sprintf("%s (slot %d)", b.name, b.Slot) }

func nodesText(list []*node) string {
	words := make([]string, len(list))
	for i, n := range list {
		words[i] = fmt.Sprint(n.id)
	}
	if len(list) == 1 {
		return "node " + words[0]
	}
	return "nodes " + strings.Join(words, ",")
}

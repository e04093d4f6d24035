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
	var err error
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
func (r *run) addTrusting(b *block) (*node, error) {
	var liars []string
	for _, l := range r.liars {
		if err := l.learn(b); err != nil {
			return nil, err
		}
		liars = append(liars, l.node.Addrs()...)
	}
	car, err := r.opts.Join(len(r.nodes), forks.Block{Hash: b.Hash, Slot: b.Slot, Root: b.root}, liars)
	if err != nil {
		return nil, fmt.Errorf("make node %d: %w", len(r.nodes), err)
	}
	n := r.add(car, b)
	n.trusts = true
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
	for i, n := range r.nodes {
		if !n.works() {
			continue
		}
		held := slices.Clone(n.held) // before: the reader has no business with the feed
		if !n.dying && reads > 0 {
			rnd := rand.New(rand.NewPCG(r.opts.Seed, uint64(r.slot)<<16|uint64(n.id)<<1|1))
			wg.Go(func() { n.readsPerSlot(ctx, r.chain, reads, rnd, held, r.tell) })
		}
		wg.Go(func() { errs[i] = n.feed(ctx, r.slot, &feeding{max(1, r.opts.Parallel), r.tell}) })
	}
	wg.Wait()
	return errors.Join(append(errs, context.Cause(ctx))...)
}

// look asks each node how it stands, checks its head, and shows it all.
func (r *run) look(ctx context.Context) {
	v := View{Slot: min(r.slot, r.slots), Slots: r.slots}
	for _, n := range r.nodes {
		state := "up"
		switch {
		case n.broken:
			state = "broken"
		case !n.up:
			state = "down"
		case len(r.sides) > 1 && !slices.Contains(r.sides[0].nodes, n):
			state = "cut"
		}
		if n.works() {
			s, err := n.car.Status(ctx)
			switch {
			case err != nil && ctx.Err() == nil:
				n.broken = true
				r.tell.fail("%v: status: %v", n, err)
			case err == nil:
				n.status = s
				if n.head != nil && s.Head.Hash != n.head.Hash {
					r.tell.wrong("%v: head %s, it was told %s (%s)", n, s.Head.Hash.Short(), n.head.Hash.Short(), n.head.name)
				}
				if s.Finalized.Hash != n.final.Hash {
					r.tell.wrong("%v: finalized %s, it was told %s (%s)", n, s.Finalized.Hash.Short(), n.final.Hash.Short(), n.final.name)
				}
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

// publish tells the nodes of a side. Others miss blocks until all is healed; heads are
// each side's own.
func (r *run) publish(to *side, kind itemKind, b *block) {
	r.seq++
	for _, n := range r.nodes {
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

package testnet

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// item is something that nodes are told: of a block, that one is the head, or that one
// is final.
type item struct {
	seq   int // in the order in which they were published
	kind  itemKind
	block *block
	until int // withheld: given in this slot, or when all is healed
}

type itemKind uint8

const (
	itemBlock itemKind = iota
	itemHead
	itemFinal
)

// node is a sidecar and what it was told. What it has acknowledged it must know for
// good, whatever happens to it.
type node struct {
	id      int
	car     Sidecar
	up      bool
	broken  bool // failed by itself: it is left alone
	trusts  bool // started from a block without its state; may have blocks from peers
	follows bool // trusts, and has all its blocks from peers: it is told nothing
	revives int  // slot in which it is started again; 0 for none
	killed  time.Duration
	dying   bool // is killed in this slot, that long after its items begin to come

	queue  []item // to be given, in order, each once its block or its parent is held
	missed []item // of other sides of a partition

	has       map[*block]bool // acknowledged
	held      []*block        // the same, in that order
	refused   map[*block]bool // was offered without its parent, which was refused
	head      *block          // as it was told; nil where that can't be foretold
	headSeq   int
	final     *block
	finalSeq  int
	walkBacks int
	status    Status
	locks     int    // in the middle of the slot
	fetches   uint64 // of processes that were killed since
	rejected  uint64
}

func newNode(id int, car Sidecar, anchor *block) *node {
	return &node{id: id, car: car, has: map[*block]bool{anchor: true}, held: []*block{anchor},
		refused: make(map[*block]bool), final: anchor}
}

func (n *node) String() string { return fmt.Sprintf("node %d", n.id) }

// works says whether the node can be asked.
func (n *node) works() bool { return n.up && !n.broken }

func (n *node) start(ctx context.Context) error {
	if err := n.car.Start(ctx); err != nil {
		return fmt.Errorf("start %v: %w", n, err)
	}
	n.up, n.revives = true, 0
	return nil
}

// end takes the node down, by Kill or Stop.
func (n *node) end(by func() error) error {
	n.up = false
	n.fetches, n.rejected = n.fetches+n.status.Fetches, n.rejected+n.status.Rejected
	n.status.Fetches, n.status.Rejected, n.status.Banned = 0, 0, 0
	if err := by(); err != nil {
		return fmt.Errorf("end %v: %w", n, err)
	}
	return nil
}

// feeding is how nodes are given what they are given.
type feeding struct {
	parallel int // blocks at the same time
	tell     *verdicts
}

// ready says whether the node can be told a head, or a final block: it holds it.
func (n *node) ready(i *item, slot int) bool {
	return i.until <= slot && n.has[i.block]
}

// feed gives the node what it can be given, and kills it in the middle where that is
// due. What it didn't acknowledge stays in the queue.
func (n *node) feed(ctx context.Context, slot int, f *feeding) error {
	if !n.dying {
		n.feedAll(ctx, slot, f, func() bool { return false })
		return nil
	}
	n.dying = false
	var dead atomic.Bool
	killed := make(chan error, 1)
	go func() {
		time.Sleep(n.killed)
		dead.Store(true)
		killed <- n.car.Kill()
	}()
	n.feedAll(ctx, slot, f, dead.Load)
	if err := <-killed; err != nil {
		f.tell.fail("%v, killed: %v", n, err)
	}
	return n.end(func() error { return nil })
}

// feedAll gives items until nothing more can be given, or dead says that the node is
// gone.
func (n *node) feedAll(ctx context.Context, slot int, f *feeding, dead func() bool) {
	for progress := true; progress; {
		gone := func() bool { return ctx.Err() != nil || n.broken || dead() }
		progress = n.giveBlocks(ctx, n.nextBlocks(slot, f.parallel), f.tell, gone)
		for at := 0; at < len(n.queue) && !gone(); at++ {
			i := &n.queue[at]
			if i.kind == itemBlock || !n.ready(i, slot) {
				continue
			}
			if err := n.tellLabel(ctx, i); err != nil {
				n.failed(f.tell, i.block, err, gone)
				break
			}
			n.queue = slices.Delete(n.queue, at, at+1)
			progress = true
			at--
		}
	}
	n.offerOrphans(ctx, slot, f.tell, dead)
}

// failed notes that the node is broken, unless it is gone on purpose.
func (n *node) failed(tell *verdicts, b *block, err error, gone func() bool) {
	if !gone() {
		n.broken = true
		tell.fail("%v, %s: %v", n, names(b), err)
	}
}

// nextBlocks gives blocks that can be given at the same time, in order: their parents
// are held, or among them.
func (n *node) nextBlocks(slot, most int) (list []*block) {
	for at := range n.queue {
		i := &n.queue[at]
		if len(list) == most {
			break
		}
		if i.kind == itemBlock && i.until <= slot && (n.has[i.block.parent] || slices.Contains(list, i.block.parent)) {
			list = append(list, i.block)
		}
	}
	return list
}

// giveBlocks gives blocks at the same time, and takes those that are acknowledged out of
// the queue; progress says whether there was any.
func (n *node) giveBlocks(ctx context.Context, list []*block, tell *verdicts, gone func() bool) (progress bool) {
	if len(list) == 0 || gone() {
		return false
	}
	got, errs := make([]Imported, len(list)), make([]error, len(list))
	var wg sync.WaitGroup
	for at, b := range list {
		wg.Go(func() { got[at], errs[at] = n.car.Import(ctx, &b.Block) })
	}
	wg.Wait()
	for at, b := range list {
		switch err := errs[at]; {
		case err == nil:
			n.acknowledged(b, got[at], tell)
			progress = true
		case errors.Is(err, ErrUnknownParent) && slices.Contains(list[:at], b.parent):
			// It overtook its parent.
		case n.trusts && errors.Is(err, ErrNotFetched):
			// It stays in the queue.
		default:
			n.failed(tell, b, err, gone)
		}
	}
	n.queue = slices.DeleteFunc(n.queue, func(i item) bool { return i.kind == itemBlock && n.has[i.block] })
	return progress
}

// acknowledged compares the answer to an import with the model.
func (n *node) acknowledged(b *block, got Imported, tell *verdicts) {
	if got.Root != b.root {
		tell.wrong("%v: root %s at %s, the model has %s", n, got.Root.Short(), names(b), b.root.Short())
	}
	if got.WalkBack {
		n.walkBacks++
	}
	n.has[b] = true
	n.held = append(n.held, b)
}

// offerOrphans gives blocks whose parents are not held, once each: they must be refused
// for that.
func (n *node) offerOrphans(ctx context.Context, slot int, tell *verdicts, dead func() bool) {
	for _, i := range n.queue {
		if ctx.Err() != nil || n.broken || dead() {
			return
		}
		if i.kind != itemBlock || i.until > slot || n.refused[i.block] || n.has[i.block.parent] {
			continue
		}
		_, err := n.car.Import(ctx, &i.block.Block)
		switch {
		case errors.Is(err, ErrUnknownParent), n.trusts && (err == nil || errors.Is(err, ErrNotFetched)):
			n.refused[i.block] = true // or its parent came from a peer: it is given once more
		case err == nil:
			tell.wrong("%v took %s without its parent", n, names(i.block))
		default:
			n.failed(tell, i.block, err, func() bool { return dead() || ctx.Err() != nil })
		}
	}
}

// tellLabel tells the node a head, or a block that is final.
func (n *node) tellLabel(ctx context.Context, i *item) error {
	b := i.block
	if i.kind == itemHead {
		// One that came late, because its block was withheld, is not the head any more.
		if i.seq < n.headSeq || !b.above(n.final) {
			return nil
		}
		if err := n.car.SetHead(ctx, b.Hash); err != nil {
			return fmt.Errorf("head: %w", err)
		}
		n.head, n.headSeq = b, i.seq
		return nil
	}
	if i.seq < n.finalSeq {
		return nil
	}
	if err := n.car.Finalize(ctx, b.Hash); err != nil {
		return fmt.Errorf("finalize: %w", err)
	}
	n.final, n.finalSeq = b, i.seq
	if n.head != nil && !n.head.above(b) {
		n.head = nil // the best leaf that it has, until it is told another
	}
	return nil
}

// waiting is how many blocks it was not given yet.
func (n *node) waiting() int { return blocksAmong(n.queue) + blocksAmong(n.missed) }

func blocksAmong(list []item) int {
	count := 0
	for i := range list {
		if list[i].kind == itemBlock {
			count++
		}
	}
	return count
}

// newest is how many blocks back most reads are.
const newest = 50

// readsPerSlot reads at blocks that the node had before the slot, and compares all
// with the model. How many keys a read has is the seed's alone, whatever the node has.
func (n *node) readsPerSlot(ctx context.Context, c *chain, reads int, chance func(read int) *rand.Rand, held []*block, tell *verdicts) {
	for i := range reads {
		if ctx.Err() != nil {
			return
		}
		if i == reads/2 {
			if s, err := n.car.Status(ctx); err == nil {
				n.locks = s.Locks
			}
		}
		rnd := chance(i)
		count, proven := 1+rnd.IntN(4), rnd.IntN(4) == 0
		b := held[rnd.IntN(len(held))]
		if rnd.IntN(4) > 0 { // mostly where forks still are
			b = held[max(0, len(held)-newest)+rnd.IntN(min(len(held), newest))]
		}
		keys := c.someKeys(b, count, rnd)
		var got [][]byte
		var err error
		if proven {
			got, err = n.car.ReadProven(ctx, b.Hash, b.root, keys)
		} else {
			got, err = n.car.Read(ctx, b.Hash, keys)
		}
		if ctx.Err() == nil {
			tell.compare(n, b, keys, got, err)
		}
	}
}

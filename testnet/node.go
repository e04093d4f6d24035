package testnet

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
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
	n.status.Fetches, n.status.Rejected = 0, 0
	if err := by(); err != nil {
		return fmt.Errorf("end %v: %w", n, err)
	}
	return nil
}

// ready says whether an item can be given: what it needs is held, and it is not
// withheld any more.
func (n *node) ready(i *item, slot int) bool {
	switch {
	case i.until > slot:
		return false
	case i.kind == itemBlock:
		return n.has[i.block.parent]
	}
	return n.has[i.block]
}

// feed gives the node what it can be given, and kills it in the middle where that is
// due. What it didn't acknowledge stays in the queue.
func (n *node) feed(ctx context.Context, slot int, tell *verdicts) error {
	if !n.dying {
		n.feedAll(ctx, slot, tell, func() bool { return false })
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
	n.feedAll(ctx, slot, tell, dead.Load)
	err := <-killed
	return errors.Join(err, n.end(func() error { return nil }))
}

func (n *node) feedAll(ctx context.Context, slot int, tell *verdicts, dead func() bool) {
	for progress := true; progress; {
		progress = false
		var left []item
		for at, i := range n.queue {
			if ctx.Err() != nil || n.broken || dead() {
				left = append(left, n.queue[at:]...)
				break
			}
			if !n.ready(&i, slot) {
				n.offer(ctx, &i, slot, tell, dead)
				left = append(left, i)
				continue
			}
			err := n.give(ctx, &i, tell)
			if err == nil {
				progress = true
				continue
			}
			left = append(left, i)
			if !dead() && ctx.Err() == nil {
				n.broken = true
				tell.fail("%v, %s: %v", n, i.block.name, err)
			}
		}
		n.queue = left
	}
}

// offer gives a block whose parent is not held, once: it must be refused for that.
func (n *node) offer(ctx context.Context, i *item, slot int, tell *verdicts, dead func() bool) {
	if i.kind != itemBlock || i.until > slot || n.refused[i.block] {
		return
	}
	_, err := n.car.Import(ctx, &i.block.Block)
	switch {
	case errors.Is(err, ErrUnknownParent):
		n.refused[i.block] = true
	case err == nil:
		tell.wrong("%v took %s, without its parent", n, i.block.name)
	case !dead() && ctx.Err() == nil:
		n.broken = true
		tell.fail("%v, %s without its parent: %v", n, i.block.name, err)
	}
}

// give gives an item, and compares the answer with the model.
func (n *node) give(ctx context.Context, i *item, tell *verdicts) error {
	switch b := i.block; i.kind {
	case itemBlock:
		got, err := n.car.Import(ctx, &b.Block)
		if err != nil {
			return err
		}
		if got.Root != b.root {
			tell.wrong("%v: root %s at %s, the model has %s", n, got.Root.Short(), b.name, b.root.Short())
		}
		if got.WalkBack {
			n.walkBacks++
		}
		if !n.has[b] {
			n.has[b] = true
			n.held = append(n.held, b)
		}
	case itemHead:
		// One that came late, because its block was withheld, is not the head any more.
		if i.seq < n.headSeq || !b.above(n.final) {
			return nil
		}
		if err := n.car.SetHead(ctx, b.Hash); err != nil {
			return fmt.Errorf("head: %w", err)
		}
		n.head, n.headSeq = b, i.seq
	case itemFinal:
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
	}
	return nil
}

// waiting is how many blocks it was not given yet.
func (n *node) waiting() int {
	count := 0
	for _, list := range [][]item{n.queue, n.missed} {
		for _, i := range list {
			if i.kind == itemBlock {
				count++
			}
		}
	}
	return count
}

// readsPerSlot reads at blocks that the node had before the slot, and compares all
// with the model.
func (n *node) readsPerSlot(ctx context.Context, c *chain, reads int, rnd *rand.Rand, held []*block, tell *verdicts) {
	for range reads {
		if ctx.Err() != nil {
			return
		}
		b := held[rnd.IntN(len(held))]
		keys := c.someKeys(b, 1+rnd.IntN(4), rnd)
		var got [][]byte
		var err error
		proven := rnd.IntN(4) == 0
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

package testnet

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// check is what an expectation asks of a node that is up; an error says what is not so,
// errExempt that it can't be asked of this one.
type check func(ctx context.Context, r *run, n *node) error

// counts are what can be compared with a number.
var counts = map[string]func(*Result) int{
	"nodes":      func(r *Result) int { return r.Nodes },
	"blocks":     func(r *Result) int { return r.Blocks },
	"forks":      func(r *Result) int { return r.Forks },
	"walkbacks":  func(r *Result) int { return r.WalkBacks },
	"kills":      func(r *Result) int { return r.Kills },
	"partitions": func(r *Result) int { return r.Partitions },
	"reads":      func(r *Result) int { return r.ReadsChecked },
	"fetched":    func(r *Result) int { return int(r.Fetches) },
	"rejected":   func(r *Result) int { return int(r.Rejected) },
	"banned":     func(r *Result) int { return r.Banned },
}

// parseExpect: expect agree; expect head|held|missing|state BLOCK; expect work NAME; each
// with [on NODES]; expect COUNT = N, or >=, <=
func parseExpect(a *wording) (action, error) {
	what := a.next()
	if count, ok := counts[what]; ok {
		return parseCount(a, what, count)
	}
	var ask check
	name := ""
	if what != "agree" {
		name = a.next()
	}
	switch what {
	case "agree":
		ask = agrees
	case "head", "held", "missing", "state", "work":
		ask = func(ctx context.Context, r *run, n *node) error { return asks(ctx, r, n, what, name) }
		if name == "" {
			return nil, fmt.Errorf("want: expect %s NAME", what)
		}
	default:
		return nil, fmt.Errorf("expect %q: want agree, head, held, missing, state, work, or one of %s", what,
			strings.Join(slices.Sorted(maps.Keys(counts)), ", "))
	}
	who := nodeSet{all: true}
	if a.take("on") {
		var err error
		if who, err = a.nodes(); err != nil {
			return nil, err
		}
	}
	text := strings.TrimSpace(what + " " + name)
	return func(ctx context.Context, r *run) error { return r.expect(ctx, who, text, ask) }, nil
}

// expect asks nodes once they were given all that they can be given. What is not so
// is a failure of the run, which goes on.
func (r *run) expect(ctx context.Context, who nodeSet, text string, ask check) error {
	if err := r.deliver(ctx, 0); err != nil {
		return err
	}
	list, err := r.pick(who, (*node).works)
	if err != nil {
		return err
	}
	before, asked := r.tell.count(), 0
	for _, n := range list {
		if !n.works() {
			r.tell.fail("slot %d: expect %s: %v is not up", r.slot, text, n)
			continue
		}
		var err error
		if n.follows {
			err = r.caughtUp(ctx, n)
		}
		if err == nil {
			err = ask(ctx, r, n)
		}
		if errors.Is(err, errExempt) {
			continue
		}
		if asked++; err != nil {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			r.tell.fail("slot %d: expect %s: %v: %v", r.slot, text, n, err)
		}
	}
	switch {
	case r.tell.count() > before:
	case asked == 0:
		r.tell.fail("slot %d: expect %s: no node is up that can be asked", r.slot, text)
	default:
		r.event("%s: as expected", text)
	}
	return nil
}

// errExempt: what is withheld from a node others can't have in common with it.
var errExempt = errors.New("blocks are withheld from it")

// agrees: the node has all blocks, each with the model's root, and follows its side's
// head and finality.
func agrees(ctx context.Context, r *run, n *node) error {
	if slices.ContainsFunc(n.queue, func(i item) bool { return i.until > r.slot }) {
		return errExempt
	}
	if waiting := blocksAmong(n.queue); waiting > 0 { // of its own side
		return fmt.Errorf("%d blocks could not be given to it yet", waiting)
	}
	s, err := n.car.Status(ctx)
	if err != nil {
		return err
	}
	want, final := r.sideOf(n).head, r.final
	if n.follows {
		want, final = n.best(), n.final
	}
	if s.Head.Hash != want.Hash || s.Head.Root != want.root {
		return fmt.Errorf("head %s with root %s, not %s, %s with %s", s.Head.Hash.Short(), s.Head.Root.Short(), names(want), want.Hash.Short(), want.root.Short())
	}
	if s.Finalized.Hash != final.Hash {
		return fmt.Errorf("finalized %s, not %s, %s", s.Finalized.Hash.Short(), names(final), final.Hash.Short())
	}
	roots, err := n.car.Roots(ctx)
	if err != nil {
		return err
	}
	for _, b := range n.held {
		if root, ok := roots[b.Hash]; !ok || root != b.root {
			return fmt.Errorf("%s: root %s, held %t; the model has %s", names(b), root.Short(), ok, b.root.Short())
		}
	}
	return nil
}

// asks compares one thing at one block, or at all that the node has.
func asks(ctx context.Context, r *run, n *node, what, name string) error {
	if what == "state" && name == "all" {
		for _, b := range n.held {
			if err := sameState(ctx, r, n, b); err != nil {
				return err
			}
		}
		return nil
	}
	if what == "work" {
		return r.hasWork(ctx, n, name)
	}
	b, err := r.block(name)
	if err != nil {
		return err
	}
	switch what {
	case "state":
		return sameState(ctx, r, n, b)
	case "head":
		s, err := n.car.Status(ctx)
		if err == nil && s.Head.Hash != b.Hash {
			err = fmt.Errorf("its head is %s at slot %d", s.Head.Hash.Short(), s.Head.Slot)
		}
		return err
	}
	roots, err := n.car.Roots(ctx)
	if err != nil {
		return err
	}
	root, held := roots[b.Hash]
	switch {
	case held != (what == "held"):
		return fmt.Errorf("held: %t", held)
	case held && root != b.root:
		return fmt.Errorf("its root is %s, the model has %s", root.Short(), b.root.Short())
	}
	return nil
}

// fillPatience is how long a node may take to fetch a state.
const fillPatience = time.Minute

// filled waits until the node has all of its first block's state.
func (n *node) filled(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, fillPatience, fmt.Errorf("a part of the state is missing after %v", fillPatience))
	defer cancel()
	for {
		s, err := n.car.Status(ctx)
		if err != nil || !s.Partial {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// sameState compares the whole state at a block with the model.
func sameState(ctx context.Context, r *run, n *node, b *block) error {
	if err := n.filled(ctx); err != nil {
		return err
	}
	want := b.state()
	got := 0
	var last []byte
	var differs error
	err := n.car.Scan(ctx, b.Hash, func(key, value []byte) bool {
		model, ok := want[string(key)]
		switch {
		case bytes.Compare(key, last) <= 0 && got > 0:
			differs = fmt.Errorf("key %x after %x", key, last)
		case !ok || !bytes.Equal(value, model):
			differs = fmt.Errorf("key %x: %s, the model has %s", key, shown(value), shown(model))
		}
		last = append(last[:0], key...)
		got++
		return differs == nil
	})
	if err == nil && differs == nil && got != len(want) {
		differs = fmt.Errorf("%d keys, the model has %d", got, len(want))
	}
	if differs != nil || errors.Is(err, ErrWrong) {
		r.tell.wrong("%v, state at %s: %v", n, names(b), errors.Join(differs, err))
		return nil
	}
	if err == nil {
		r.tell.read(got)
	}
	return err
}

// parseCount: forks >= 3
func parseCount(a *wording, what string, count func(*Result) int) (action, error) {
	op := a.next()
	want, err := strconv.Atoi(a.next())
	if err != nil || want < 0 || !slices.Contains([]string{"=", ">=", "<="}, op) {
		return nil, fmt.Errorf("want: expect %s = N, or >=, or <=", what)
	}
	return func(ctx context.Context, r *run) error {
		for _, n := range r.nodes {
			n.askStatus(ctx, r.tell)
		}
		res := r.result()
		got := count(&res)
		if op == "=" && got != want || op == ">=" && got < want || op == "<=" && got > want {
			r.tell.fail("slot %d: expect %s %s %d: there are %d", r.slot, what, op, want, got)
		} else {
			r.event("%s %s %d: as expected", what, op, want)
		}
		return nil
	}, nil
}

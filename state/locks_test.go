package state_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"accessor/checkpoint"
	"accessor/forks"
	"accessor/locking"
	"accessor/state"
)

// lock takes a slot for an operator who is no import.
func (c *chain) lock(slot forks.Slot) *locking.Lease {
	c.t.Helper()
	lease, err := c.Locks().TryLock(slot, hash("elsewhere"), "operator")
	if err != nil {
		c.t.Fatal(err)
	}
	return lease
}

// waiters waits until that many wait for a slot.
func (c *chain) waiters(slot forks.Slot, n int) {
	c.t.Helper()
	c.until(fmt.Sprintf("%d waiters for slot %d", n, slot), func() bool {
		info, _ := c.Locks().LockedBy(slot)
		return info.Waiters == n
	})
}

// arrivals gives the blocks below the anchor in order of their import.
func (c *chain) arrivals() string {
	records := c.Store().Records()
	slices.SortFunc(records, func(a, b checkpoint.Record) int { return cmp.Compare(a.Number, b.Number) })
	var blocks []forks.Block
	for _, rec := range records[1:] {
		blocks = append(blocks, rec.Block)
	}
	return names(blocks)
}

func TestOneSlotOneAfterAnother(t *testing.T) {
	overEngines(t, func(t *testing.T, e engineCase) {
		c := newChain(t, e, noImages)
		lease := c.lock(1)
		var sent []*flying
		want := []string{"s5", "s2", "s9", "s1", "s7", "s3"}
		for i, name := range want {
			sent = append(sent, c.send(context.Background(), c.block(name, "alfred")))
			c.waiters(1, i+1)
		}
		// Another slot is nobody's business.
		far := c.block("far", "alfred")
		far.Slot = 2
		c.wantWalk(c.accept(far), "")
		for _, f := range sent {
			c.wantFlying(f)
		}
		lease.Release()
		for _, f := range sent {
			c.wantNew(c.join(f), f.block)
		}
		if got := c.arrivals(); got != "far "+strings.Join(want, " ") {
			t.Errorf("imported in the order %s", got)
		}
		c.wantStates()
	})
}

// Imports into different slots are at work at the same time: one is stopped
// midway, and the others come through.
func TestDifferentSlotsAtOnce(t *testing.T) {
	overEngines(t, func(t *testing.T, e engineCase) {
		for _, kind := range []string{"delta", "seal"} {
			c := newChain(t, e, noImages)
			c.grow("alfred", "b1", "b2", "b3")
			stop := c.haltAt(making(kind))
			slow := c.send(context.Background(), c.block("slow", "b1")) // slot 2
			stop.wait()
			sibling := c.send(context.Background(), c.block("sibling", "b1")) // slot 2 too
			c.waiters(2, 1)
			c.grow("b3", "b4", "b5")
			c.grow("b2", "c3", "c4")
			c.wantFlying(slow)
			c.wantFlying(sibling)
			stop.free(nil)
			c.wantNew(c.join(slow), slow.block)
			c.wantNew(c.join(sibling), sibling.block)
			c.wantStates()
		}
	})
}

func TestCancelledWhileWaitingForASlot(t *testing.T) {
	c := newChain(t, engines[0], noImages)
	c.grow("alfred", "b1")
	lease := c.lock(2)
	time.Sleep(5 * time.Millisecond)
	cause := errors.New("the node goes down")
	ctx, cancel := context.WithCancelCause(context.Background())
	b := c.block("b2", "b1")
	f := c.send(ctx, b)
	c.waiters(2, 1)
	before := c.footprint()
	cancel(cause)
	err := c.fate(f)
	var locked *locking.LockedError
	if !errors.As(err, &locked) || !errors.Is(err, locking.ErrLocked) || !errors.Is(err, cause) {
		t.Fatalf("error %v", err)
	}
	if locked.Owner != "operator" || locked.Block != hash("elsewhere") || locked.Slot != 2 || locked.Age < 5*time.Millisecond || locked.Waiters != 0 {
		t.Errorf("error %+v", locked)
	}
	for _, w := range []string{b.Hash.String(), "slot 2", "operator", hash("elsewhere").String(), "ms"} {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("error %q doesn't name %q", err, w)
		}
	}
	if after := c.footprint(); !slices.Equal(before, after) {
		t.Errorf("a cancelled import left something: %v, then %v", before, after)
	}
	c.waiters(2, 0)
	lease.Release()
	if locks := c.Locks().Locks(); len(locks) != 0 {
		t.Errorf("locks are left: %+v", locks)
	}
	// Cancelled before it began.
	if _, err := c.Import(ctx, b); !errors.Is(err, cause) {
		t.Errorf("import with an ended context: %v", err)
	}
	c.wantWalk(c.accept(b), "")
	c.wantStates()
}

// A child whose parent is not recorded yet waits for it, without a lock: nobody
// has one slot and waits for another.
func TestChildWaitsForItsParent(t *testing.T) {
	overEngines(t, func(t *testing.T, e engineCase) {
		c := newChain(t, e, noImages)
		stop := c.haltAt(making("delta"))
		parent := c.block("parent", "alfred")
		parentFlies := c.send(context.Background(), parent)
		stop.wait()
		c.take(parent) // for the model to make children; it isn't held yet
		child := c.block("child", "parent")
		childFlies := c.send(context.Background(), child)
		impatient, cancel := context.WithTimeout(context.Background(), 40*time.Millisecond)
		defer cancel()
		other := c.send(impatient, c.block("other", "parent"))
		c.wantFlying(childFlies)
		if info, ok := c.Locks().LockedBy(child.Slot); ok {
			t.Errorf("the waiting child has slot %d locked: %+v", child.Slot, info)
		}
		err := c.fate(other)
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), parent.Hash.String()) {
			t.Errorf("the impatient child: %v", err)
		}
		if _, err := c.Block(parent.Hash); !errors.Is(err, state.ErrUnknownBlock) {
			t.Errorf("the parent is held before it was recorded: %v", err)
		}
		stop.free(nil)
		c.wantWalk(c.join(parentFlies), "")
		c.wantNew(c.join(childFlies), child)
		c.wantStates()
		if got := c.arrivals(); got != "parent child" {
			t.Errorf("held: %s", got)
		}
	})
}

func TestChildOfAFailingParent(t *testing.T) {
	c := newChain(t, engines[0], noImages)
	before := c.footprint()
	stop := c.haltAt(making("delta"))
	parent := c.block("parent", "alfred")
	parentFlies := c.send(context.Background(), parent)
	stop.wait()
	c.take(parent)
	child := c.send(context.Background(), c.block("child", "parent"))
	grandchild := c.send(context.Background(), &state.Block{Hash: hash("grandchild"), Parent: hash("child"), Slot: 3})
	c.wantFlying(child)
	fault := errors.New("disk fell out")
	stop.free(fault)
	if err := c.fate(parentFlies); !errors.Is(err, fault) {
		t.Errorf("the parent: %v", err)
	}
	for _, f := range []*flying{child, grandchild} {
		if err := c.fate(f); !errors.Is(err, state.ErrUnknownParent) {
			t.Errorf("%s: %v", nameOf(f.block.Hash), err)
		}
	}
	if after := c.footprint(); !slices.Equal(before, after) {
		t.Errorf("failed imports left something: %v, then %v", before, after)
	}
	c.grow("alfred", "parent", "child")
	c.wantStates()
}

func TestSameBlockTwiceAtOnce(t *testing.T) {
	overEngines(t, func(t *testing.T, e engineCase) {
		c := newChain(t, e, noImages)
		stop := c.haltAt(making("delta"))
		first := c.send(context.Background(), c.block("twin", "alfred"))
		stop.wait()
		second := c.send(context.Background(), c.block("twin", "alfred"))
		elsewhere := c.block("twin", "alfred")
		elsewhere.Slot = 7
		third := c.send(context.Background(), elsewhere)
		c.wantFlying(second)
		c.wantFlying(third)
		stop.free(nil)
		c.wantNew(c.join(first), first.block)
		if res := c.join(second); !res.Held {
			t.Errorf("the second is new: %+v", res)
		}
		if err := c.fate(third); !errors.Is(err, state.ErrConflict) {
			t.Errorf("the third, with another slot: %v", err)
		}
		c.wantStates()

		// And without anybody's help, many at a time.
		b := c.block("many", "twin")
		var wg sync.WaitGroup
		results := make([]state.Result, 8)
		for i := range results {
			wg.Go(func() {
				res, err := c.Import(context.Background(), b)
				if err != nil {
					t.Error(err)
				}
				results[i] = res
			})
		}
		wg.Wait()
		fresh := slices.DeleteFunc(results, func(r state.Result) bool { return r.Held })
		if len(fresh) != 1 {
			t.Fatalf("%d of 8 imports were new", len(fresh))
		}
		c.wantNew(fresh[0], b)
		c.wantStates()
	})
}

// The first of two fails: the second is judged by itself.
func TestSecondAfterAFailedFirst(t *testing.T) {
	c := newChain(t, engines[0], noImages)
	stop := c.haltAt(making("delta"))
	first := c.send(context.Background(), c.block("twin", "alfred"))
	stop.wait()
	second := c.send(context.Background(), c.block("twin", "alfred"))
	c.wantFlying(second)
	stop.free(errors.New("fault"))
	if err := c.fate(first); err == nil {
		t.Error("the first succeeded")
	}
	c.wantNew(c.join(second), second.block)
	c.wantStates()
}

// Many branches at once, all imports in arbitrary order: children find or await
// their parents.
func TestManyImportsAtOnce(t *testing.T) {
	overEngines(t, func(t *testing.T, e engineCase) {
		c := newChain(t, e, small)
		c.grow("alfred", "root")
		var wg sync.WaitGroup
		errs := make(chan error, 8)
		for i := range 8 {
			wg.Go(func() {
				parent := "root"
				for n := range 10 {
					name := fmt.Sprintf("%c%d", 'a'+i, n)
					b := c.block(name, parent)
					res, err := c.Import(context.Background(), b)
					if err != nil || res.Held || res.Unsealed != nil {
						errs <- fmt.Errorf("import %s: %+v, %w", name, res, err)
						return
					}
					c.take(b)
					parent = name
				}
			})
		}
		wg.Wait()
		close(errs)
		for err := range errs {
			t.Error(err)
		}
		c.wantStates()
		c.reopen()
		c.wantStates()
	})
}

// Close lets what is at work come to its end, and ends what only waits.
func TestCloseDuringImports(t *testing.T) {
	overEngines(t, func(t *testing.T, e engineCase) {
		for _, kind := range []string{"delta", "seal"} {
			c := newChain(t, e, noImages)
			c.grow("alfred", "b1")
			stop := c.haltAt(making(kind))
			slow := c.send(context.Background(), c.block("slow", "b1"))
			stop.wait()
			waits := c.send(context.Background(), c.block("waits", "b1"))
			c.waiters(2, 1)
			closed := make(chan error, 1)
			go func() { closed <- c.Close() }()
			if err := c.fate(waits); !errors.Is(err, checkpoint.ErrClosed) {
				t.Errorf("the waiting import: %v", err)
			}
			c.until("later calls to be refused", func() bool {
				_, err := c.View(context.Background(), hash("b1"))
				return errors.Is(err, checkpoint.ErrClosed)
			})
			select {
			case err := <-closed:
				t.Fatalf("closed under an import's feet: %v", err)
			case <-time.After(30 * time.Millisecond):
			}
			stop.free(nil)
			c.wantNew(c.join(slow), slow.block)
			if err := <-closed; err != nil {
				t.Error(err)
			}
			c.wantClosed()
			c.reopen() // closes again, which does nothing
			c.wantStates()
		}
	})
}

// wantClosed wants every call to answer that the store is closed.
func (c *chain) wantClosed() {
	c.t.Helper()
	ctx := context.Background()
	b1 := hash("b1")
	for name, call := range map[string]func() error{
		"Import":   func() error { _, err := c.Import(ctx, c.block("x", "b1")); return err },
		"View":     func() error { _, err := c.View(ctx, b1); return err },
		"Diff":     func() error { _, _, err := c.Diff(ctx, b1, hash("alfred")); return err },
		"Verify":   func() error { return c.Verify(ctx, nil, nil) },
		"Reseal":   func() error { _, err := c.Reseal(ctx, nil); return err },
		"SetHead":  func() error { return c.SetHead(b1) },
		"Finalize": func() error { _, err := c.Finalize(ctx, b1); return err },
	} {
		if err := call(); !errors.Is(err, checkpoint.ErrClosed) {
			c.t.Errorf("%s after Close: %v", name, err)
		}
	}
}

package state_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"accessor/locking"
	"accessor/state"
)

// The story that the project began with, whose last line once failed with "lock
// hold by current process … ./tree/boris/LOCK":
//
//	alfred → benny → chase → dian → elly
//	alfred → boris → claire
//	         boris → chris → diaz
//	         boris → cory

func TestStoryAllFree(t *testing.T) {
	overEngines(t, func(t *testing.T, e engineCase) {
		c := newChain(t, e, noImages)
		c.grow("alfred", "benny", "chase", "dian", "elly")
		clones := c.Store().Stats().Clones.Load()
		if clones > 1 {
			t.Errorf("a chain that just grows cloned %d times", clones)
		}
		c.grow("alfred", "boris", "claire")
		c.grow("boris", "chris", "diaz")
		c.grow("boris", "cory")
		if got := c.Store().Stats().Clones.Load() - clones; got != 3 {
			t.Errorf("three forks cloned %d times", got)
		}
		if got := c.Store().Stats().Ingested.Load(); got != 9 {
			t.Errorf("nine blocks ingested %d tables", got)
		}
		c.wantStates()
		c.reopen()
		c.wantStates()
		c.wantDraws("alfred", "benny boris")
		c.wantDraws("boris", "claire chris cory")
	})
}

// wantDraws wants a block's children, in order of their arrival.
func (c *chain) wantDraws(name, children string) {
	c.t.Helper()
	if got := c.children(name); got != children {
		c.t.Errorf("children of %s: %s, want %s", name, got, children)
	}
}

func TestStoryBorisBeingSealed(t *testing.T) {
	overEngines(t, func(t *testing.T, e engineCase) {
		c := newChain(t, e, noImages)
		c.grow("alfred", "benny", "chase", "dian", "elly")

		stop := c.haltAt(making("seal"))
		boris := c.block("boris", "alfred")
		borisFlies := c.send(context.Background(), boris)
		stop.wait()
		c.take(boris) // recorded: its children may come
		if info, ok := c.Locks().Writing(boris.Hash, boris.Slot); !ok || info.Owner != "import" {
			t.Fatalf("lease of boris: %+v, %v", info, ok)
		}
		if c.Store().HasCheckpoint(boris.Hash) {
			t.Fatal("boris is sealed already")
		}

		// All three side by side, and into one slot.
		var sent []*flying
		for _, name := range []string{"claire", "chris", "cory"} {
			sent = append(sent, c.send(context.Background(), c.block(name, "boris")))
		}
		for _, f := range sent {
			res := c.join(f)
			c.wantNew(res, f.block)
			c.wantWalk(res, "alfred +1: boris being written")
			c.wantLockedError(res.WalkBack.Obstacles[0].Err, boris)
		}
		c.grow("chris", "diaz")
		// Reading boris doesn't wait either, nor does it seal under the other's
		// hands.
		c.wantState("boris")
		if c.Store().HasCheckpoint(boris.Hash) {
			t.Error("a view sealed boris while his import did")
		}
		c.wantFlying(borisFlies)

		stop.free(nil)
		c.wantWalk(c.join(borisFlies), "")
		if !c.Store().HasCheckpoint(boris.Hash) {
			t.Error("boris has no checkpoint")
		}
		c.wantStates()
		c.reopen()
		c.wantStates()
		c.grow("boris", "carol")
		c.wantStates()
	})
}

// wantLockedError wants an obstacle to say who writes the block.
func (c *chain) wantLockedError(err error, b *state.Block) {
	c.t.Helper()
	var locked *locking.LockedError
	if !errors.As(err, &locked) {
		c.t.Fatalf("obstacle %v of type %T", err, err)
	}
	if locked.Owner != "import" || locked.Block != b.Hash || locked.Slot != b.Slot || locked.Age <= 0 {
		c.t.Errorf("obstacle %+v", locked)
	}
}

func TestStoryBorisOpenedByAnotherProcess(t *testing.T) {
	overEngines(t, func(t *testing.T, e engineCase) {
		c := newChain(t, e, noImages)
		c.grow("alfred", "benny", "chase", "dian", "elly")
		c.grow("alfred", "boris")
		pid, leave := c.occupy("boris")

		// The working database stands at boris: nobody needs his checkpoint.
		c.grow("boris", "claire")
		for _, name := range []string{"chris", "cory"} {
			res := c.accept(c.block(name, "boris"))
			c.wantWalk(res, "alfred +1: boris locked")
			if text := res.WalkBack.Reasons()[0]; !strings.Contains(text, fmt.Sprint("process ", pid)) || !strings.Contains(text, "LOCK") {
				t.Errorf("reason %q doesn't name process %d and its lock", text, pid)
			}
		}
		c.grow("chris", "diaz")
		// Sealed siblings and children of boris stay usable.
		c.grow("benny", "cecil")
		c.grow("claire", "dora")
		before := c.listing("checkpoints", "boris")
		c.wantStates()
		if after := c.listing("checkpoints", "boris"); after != before {
			t.Errorf("the other process's directory was touched: %s, then %s", before, after)
		}

		// It goes, and leaves a directory that is not sealed any more.
		leave()
		c.wantWalk(c.accept(c.block("caspar", "boris")), "alfred +1: boris damaged")
		c.reopen()
		c.wantState("boris") // makes it again
		c.grow("boris", "conrad")
		c.wantStates()
	})
}

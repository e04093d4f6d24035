package state_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"accessor/checkpoint"
	"accessor/forks"
	"accessor/state"
)

// A checkpoint that can't be used, for each cause: an import under its block
// walks back to the parent's; a view at it works.
func TestWalkBackCauses(t *testing.T) {
	overEngines(t, func(t *testing.T, e engineCase) {
		for _, s := range spoilers {
			t.Run(s.name, func(t *testing.T) {
				c := newChain(t, e, noImages)
				c.grow("alfred", "benny", "boris", "claire", "cory")
				c.spoil(s, "boris")
				c.wantWalk(c.accept(c.block("chris", "boris")), "benny +1: boris "+s.reason)
				// The tip's working database needs no checkpoint.
				c.spoil(s, "claire", "chris")
				c.grow("chris", "diaz")
				c.wantStates() // at every block, the spoilt ones too
				c.wantResealed(s, "boris", "claire", "chris")
			})
		}
	})
}

// wantResealed wants the views to have made missing and damaged checkpoints
// again, and pruned ones not.
func (c *chain) wantResealed(s spoiler, blocks ...string) {
	c.t.Helper()
	c.reopen()
	for _, name := range blocks {
		_, err := os.Stat(c.dirOf("checkpoints", name))
		if made := err == nil; made != (s.reason != "pruned") {
			c.t.Errorf("%s, %s: checkpoint made again: %v", name, s.name, made)
		}
		res := c.accept(c.block("heir of "+name, name))
		if walked := res.WalkBack != nil; walked != (s.reason == "pruned") {
			c.t.Errorf("%s, %s: walked back after the view: %+v", name, s.name, res.WalkBack)
		}
	}
	c.wantStates()
}

func TestWalkBackOverSeveral(t *testing.T) {
	overEngines(t, func(t *testing.T, e engineCase) {
		c := newChain(t, e, noImages)
		c.grow("alfred", "b1", "b2", "b3", "b4", "b5", "b6", "b7")
		c.grow("b3", "side") // a usable sibling is no ancestor
		c.spoil(prune, "b6")
		c.spoil(remove, "b5")
		c.spoil(changeByte, "b4")
		c.spoil(addFile, "b3")
		_, leave := c.occupy("b2")
		c.wantWalk(c.accept(c.block("fork", "b6")),
			"b1 +5: b6 pruned, b5 missing, b4 damaged, b3 damaged, b2 locked")
		leave()
		c.wantStates()
		made, err := c.Reseal(context.Background(), nil)
		if err != nil || made != 0 {
			t.Errorf("after views at all blocks %d checkpoints were made again, %v", made, err)
		}
	})
}

// After a recovery, when nothing but deltas is left, the bound on tables holds for
// the checkpoints that are made again.
func TestResealKeepsTheBoundOnTables(t *testing.T) {
	overEngines(t, func(t *testing.T, e engineCase) {
		c := newChain(t, e, small)
		line := []string{"alfred"}
		for i := 1; i <= 60; i++ {
			line = append(line, fmt.Sprintf("b%02d", i))
		}
		c.grow(line...)
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := checkpoint.Recover(c.cfg.Dir, c.cfg.Engine, c.cfg.Store, false, nil); err != nil {
			t.Fatal(err)
		}
		c.reopen()
		if _, err := c.Reseal(context.Background(), nil); err != nil {
			t.Fatal(err)
		}
		for _, name := range line {
			if n := c.Store().Tables(hash(name)); n > small.MaxTables+1 {
				t.Errorf("%s has %d tables, want at most %d", name, n, small.MaxTables)
			}
		}
		c.wantStates()
	})
}

// Reseal makes again what is missing or damaged, leaves alone what is pruned or
// locked, and Verify says what is wrong before and after.
func TestReseal(t *testing.T) {
	overEngines(t, func(t *testing.T, e engineCase) {
		c := newChain(t, e, noImages)
		c.grow("alfred", "b1", "b2", "b3", "b4", "b5")
		c.wantProblems()
		c.reopen() // a state that is open for reading doesn't miss its checkpoint
		c.spoil(remove, "b1", "b5")
		c.spoil(changeByte, "b2")
		c.spoil(prune, "b3")
		_, leave := c.occupy("b4")
		problems := []string{"b1 missing", "b2 damaged", "b4 locked", "b5 missing"}
		c.wantProblems(problems...)
		c.wantProblems(problems...) // looking changes nothing
		steps := 0
		made, err := c.Reseal(context.Background(), func(done, all int) {
			if steps++; done != steps || all != 6 {
				t.Errorf("step %d: %d of %d", steps, done, all)
			}
		})
		if err != nil || made != 3 || steps != 6 {
			t.Errorf("made %d in %d steps, %v; want 3 in 6", made, steps, err)
		}
		c.wantProblems("b4 locked")
		leave()
		if made, err := c.Reseal(context.Background(), nil); err != nil || made != 1 {
			t.Errorf("made %d, %v; want b4 alone", made, err)
		}
		c.wantProblems()
		c.wantStates()

		ctx, cancel := context.WithCancelCause(context.Background())
		cause := errors.New("enough")
		cancel(cause)
		if _, err := c.Reseal(ctx, nil); !errors.Is(err, cause) {
			t.Errorf("cancelled reseal: %v", err)
		}
		if err := c.Verify(ctx, nil, nil); !errors.Is(err, cause) {
			t.Errorf("cancelled verify: %v", err)
		}
	})
}

// wantProblems wants Verify to report just these.
func (c *chain) wantProblems(want ...string) {
	c.t.Helper()
	got, all := c.problems()
	if diff := cmp.Diff(append([]string{}, want...), got); diff != "" {
		c.t.Fatalf("problems (-want +got):\n%s\n%v", diff, all)
	}
}

func TestNoAncestorUsable(t *testing.T) {
	overEngines(t, func(t *testing.T, e engineCase) {
		c := newChain(t, e, noImages)
		c.grow("alfred", "b1", "b2", "b3", "b4")
		c.reopen() // or the background, still at work, makes the image again
		c.spoil(remove, "alfred", "b2")
		c.removeImage("alfred")
		c.spoil(prune, "b3")
		c.spoil(addFile, "b1")

		fork := c.block("fork", "b3")
		err := c.refuse(fork, state.ErrUnavailable, "pruned", "missing", "damaged")
		c.wantUnavailable(err, "b3", "b3 pruned, b2 missing, b1 damaged, alfred missing")
		for _, name := range []string{"b1", "b3"} {
			if err := c.scan(name); !errors.Is(err, state.ErrUnavailable) {
				t.Errorf("scan at %s: %v", name, err)
			}
		}
		got, _ := c.problems()
		want := []string{"alfred missing", "alfred missing", "alfred state", "b1 damaged", "b1 state", "b2 missing", "b2 state", "b3 state"}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("problems (-want +got):\n%s", diff)
		}
		if _, err := c.Reseal(context.Background(), nil); !errors.Is(err, state.ErrUnavailable) {
			t.Errorf("reseal: %v", err)
		}
		c.wantState("b4")
		c.grow("b4", "b5") // from b4's own checkpoint

		// A start makes the anchor's image again, from its delta.
		c.reopen()
		c.wantWalk(c.accept(fork), "alfred +3: b3 pruned, b2 missing, b1 damaged")
		c.wantStates()
	})
}

func (c *chain) wantUnavailable(err error, block, want string) {
	c.t.Helper()
	var u *state.UnavailableError
	if !errors.As(err, &u) {
		c.t.Fatalf("error of type %T", err)
	}
	if nameOf(u.Block.Hash) != block || obstacles(u.Obstacles) != want {
		c.t.Errorf("unavailable %s: %s, want %s: %s", nameOf(u.Block.Hash), obstacles(u.Obstacles), block, want)
	}
}

// Where a table's bytes themselves are damaged, its delta is too. The error says
// so, and nothing is written or hangs.
func TestDamagedDelta(t *testing.T) {
	overEngines(t, func(t *testing.T, e engineCase) {
		c := newChain(t, e, noImages)
		c.grow("alfred", "b1", "b2", "b3", "b4")
		delta := filepath.Join(c.cfg.Dir, "deltas", filepath.Base(c.dirOf("checkpoints", "b2"))+".sst")
		info, err := os.Stat(delta)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(delta, info.Size()/2); err != nil {
			t.Fatal(err)
		}
		c.refuse(c.block("fork", "b2"), checkpoint.ErrDamaged, hash("b1").String())
		if err := c.scan("b3"); !errors.Is(err, checkpoint.ErrDamaged) {
			t.Errorf("scan at b3: %v", err)
		}
		got, _ := c.problems()
		want := []string{"b2 damaged", "b2 damaged", "b2 state", "b3 damaged", "b3 state", "b4 damaged", "b4 state"}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("problems (-want +got):\n%s", diff)
		}
		// What doesn't need it goes on.
		c.wantState("b1")
		c.grow("b1", "other", "branch")
		c.wantState("branch")
		again := c.block("b2", "b1")
		again.PostRoot = nil // so that the write sets are compared
		if _, err := c.Import(context.Background(), again); !errors.Is(err, checkpoint.ErrDamaged) {
			t.Errorf("import of b2 again: %v", err)
		}
	})
}

// Over runs and images, which the background makes.
func TestWalkBackOverImages(t *testing.T) {
	overEngines(t, func(t *testing.T, e engineCase) {
		c := newChain(t, e, small)
		line := []string{"alfred"}
		for i := 1; i <= 30; i++ {
			line = append(line, fmt.Sprintf("b%02d", i))
		}
		c.grow(line...)
		c.until("an image near the tip", func() bool { return c.imageAtOrAbove(line[:31]) >= 21 })
		c.reopen() // so that nothing stands anywhere
		if runs, err := os.ReadDir(filepath.Join(c.cfg.Dir, "runs")); err != nil || len(runs) < 4 {
			t.Errorf("%d runs of 30 blocks, %v", len(runs), err)
		}

		for _, fork := range []int{29, 19, 9, 3} {
			c.spoil(prune, line[fork])
			c.spoil(remove, line[fork-1])
			c.spoil(changeByte, line[fork-2])
			c.wantWalk(c.accept(c.block(fmt.Sprintf("fork%02d", fork), line[fork])), c.expectWalk(line, fork))
		}
		c.spoil(prune, line[10:29]...)
		c.wantWalk(c.accept(c.block("late", line[27])), c.expectWalk(line, 27))
		c.wantStates()
		c.reopen()
		c.wantStates()
	})
}

// small options make runs and images all the time.
var small = checkpoint.Options{RunLength: 4, ImageEvery: 8, MaxTables: 8, WorkingDBs: 2, OpenViews: 3, ImageRate: 1 << 30}

// imageAtOrAbove gives the last index in line of a block with an image.
func (c *chain) imageAtOrAbove(line []string) int {
	for i := len(line) - 1; i >= 0; i-- {
		if _, err := os.Stat(c.dirOf("images", line[i])); err == nil {
			return i
		}
	}
	return -1
}

// expectWalk says which walk-back an import under line[at] should report:
// blocks at or below it are used up to the first whose checkpoint is as it was
// sealed, or that has an image.
func (c *chain) expectWalk(line []string, at int) string {
	c.t.Helper()
	var stand []string
	for i := at; i >= 0; i-- {
		if c.imageAtOrAbove(line[i:i+1]) == 0 {
			return walkText(line, at, i, stand)
		}
		why := ""
		for _, err := range c.Store().VerifyBlock(hash(line[i])) {
			why = reason(err)
		}
		if !c.Store().HasCheckpoint(hash(line[i])) {
			why = "pruned"
		}
		if why == "" {
			return walkText(line, at, i, stand)
		}
		stand = append(stand, line[i]+" "+why)
	}
	c.t.Fatal("the anchor has no image")
	return ""
}

func walkText(line []string, at, from int, stand []string) string {
	if from == at {
		return ""
	}
	return fmt.Sprintf("%s +%d: %s", line[from], at-from, strings.Join(stand, ", "))
}

// problems gives what Verify reports as "block kind", sorted by Verify's order,
// and the full texts.
func (c *chain) problems() (short []string, full []error) {
	c.t.Helper()
	short = []string{}
	err := c.Verify(context.Background(), func(b forks.Block, err error) {
		kind := reason(err)
		if strings.HasPrefix(err.Error(), "state at block") {
			kind = "state"
		}
		short = append(short, nameOf(b.Hash)+" "+kind)
		full = append(full, err)
	}, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	return short, full
}

// A walk that has begun at an ancestor which is pruned meanwhile begins anew at what is
// left: the new anchor. It doesn't take the whole state that the anchor's file has then for
// a delta, in which deletes would be.
func TestPrunedWhileWalking(t *testing.T) {
	for _, one := range []struct {
		when    string
		missing int // checkpoints from this one on
		match   func(call checkpoint.FileCall) bool
	}{
		{"clone", 9, func(call checkpoint.FileCall) bool { return call.Op == "mkdir" && call.Applied }},
		{"ingest", 12, func(call checkpoint.FileCall) bool {
			return call.Op == "link" && !call.Applied && strings.HasPrefix(filepath.Base(call.Path), "in-")
		}},
	} {
		t.Run(one.when, func(t *testing.T) {
			overEngines(t, func(t *testing.T, e engineCase) {
				c := newAging(t, e, state.Retention{Slots: 1, Step: 1})
				c.line("a", "alfred", 1, 14)
				for i := one.missing; i <= 14; i++ {
					c.spoil(remove, fmt.Sprint("a", i))
				}
				v, err := c.View(context.Background(), hash("a14"))
				if err != nil {
					t.Fatal(err)
				}
				defer v.Close()
				var begun atomic.Bool
				moved := make(chan struct{})
				pruned := make(chan error, 1)
				anchor := filepath.Base(c.dirOf("deltas", "a12")) + ".sst"
				c.hook.set(func(call checkpoint.FileCall) error {
					switch {
					case call.Op == "rename" && call.Applied && filepath.Base(call.Path) == anchor:
						close(moved)
					case one.match(call) && begun.CompareAndSwap(false, true):
						go func() {
							_, err := c.Finalize(context.Background(), hash("a14"))
							if err == nil {
								_, err = c.Retain(context.Background())
							}
							pruned <- err
						}()
						select {
						case <-moved:
						case <-time.After(2 * time.Second): // the call is the background's, which pruning waits for
						}
					}
					return nil
				})
				err = c.compareOpen(v, c.node("a14"))
				if err := errors.Join(err, <-pruned); err != nil {
					t.Fatal(err)
				}
				c.wantAnchor("a12")
				c.hook.set(nil)
			})
		})
	}
}

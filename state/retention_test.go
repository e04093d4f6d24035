package state_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"accessor/checkpoint"
	"accessor/checkpoint/checkpointtest"
	"accessor/forks"
	"accessor/locking"
	"accessor/state"
)

// newAging is a chain that keeps few slots.
func newAging(t *testing.T, e engineCase, r state.Retention) *chain {
	c := newChain(t, e, small)
	c.cfg.Retention = r
	c.reopen()
	return c
}

// line grows a line of blocks called prefix and a number, and gives the last name.
func (c *chain) line(prefix, parent string, from, to int) string {
	c.t.Helper()
	for i := from; i <= to; i++ {
		name := fmt.Sprint(prefix, i)
		c.grow(parent, name)
		parent = name
	}
	return parent
}

// retain prunes, and takes what has gone out of the model.
func (c *chain) retain() {
	c.t.Helper()
	if _, err := c.Retain(context.Background()); err != nil {
		c.t.Fatal(err)
	}
	anchor := c.Anchor()
	for _, n := range c.held() {
		if _, err := c.Block(n.block.Hash); err == nil {
			continue
		}
		c.mu.Lock()
		delete(c.nodes, n.name)
		c.mu.Unlock()
		_, err := c.View(context.Background(), n.block.Hash)
		var gone *state.NoBlockError
		if !errors.Is(err, state.ErrPruned) || !errors.As(err, &gone) || gone.Nearest == nil || *gone.Nearest != anchor {
			c.t.Errorf("view at %s, which was pruned: %v", n.name, err)
		}
		if _, err := c.Resolve("0x" + n.block.Hash.String()); !errors.Is(err, state.ErrPruned) {
			c.t.Errorf("resolve %s, which was pruned: %v", n.name, err)
		}
	}
}

// settleAt finalizes a block, whoever loses by it.
func (c *chain) settleAt(name string) {
	c.t.Helper()
	if _, err := c.Finalize(context.Background(), hash(name)); err != nil {
		c.t.Fatal(err)
	}
}

func (c *chain) wantAnchor(name string) {
	c.t.Helper()
	if got := c.Anchor(); got.Hash != hash(name) {
		c.t.Errorf("anchor is %s at slot %d, want %s", nameOf(got.Hash), got.Slot, name)
	}
}

func TestRetention(t *testing.T) {
	overEngines(t, func(t *testing.T, e engineCase) {
		c := newAging(t, e, state.Retention{Slots: 10, Step: 4})
		c.line("a", "alfred", 1, 40)
		c.line("lost", "a5", 1, 8)     // leaves below the window
		c.line("kept", "a33", 1, 3)    // leaves within it
		c.line("child", "lost8", 1, 2) // grows where it has lost
		old, err := c.View(context.Background(), hash("lost3"))
		if err != nil {
			t.Fatal(err)
		}
		defer old.Close()
		oldNode := c.node("lost3")

		c.settleAt("a40")
		c.retain()
		c.wantAnchor("a28") // slot 30, at which runs end
		c.wantStates()
		if err := c.compareOpen(old, oldNode); err != nil {
			t.Errorf("a view that was open: %v", err)
		}
		if _, err := c.Resolve("7"); !errors.Is(err, state.ErrPruned) {
			t.Errorf("slot 7: %v", err)
		}
		if _, err := c.Import(context.Background(), c.declareless("late", hash("a5"), 9)); !errors.Is(err, state.ErrUnknownParent) {
			t.Errorf("import on a pruned block: %v", err)
		}
		for range 2 {
			c.line("b", "a40", 1, 3)
			c.line("more", "kept3", 1, 2)
			c.wantStates()
			c.wantProblems()
			c.spoil(remove, "b1", "a28")
			c.removeImage("a28") // made again from the anchor's whole state
			c.reopen()
			c.wantStates()
			c.wantProblems()
			c.forget("b1", "b2", "b3", "more1", "more2")
			c.wantAnchor("a28")
			c.recover()
		}
	})
}

// forget takes blocks out of the model and starts from a store without them: it is
// recovered from the deltas that are left.
func (c *chain) forget(names ...string) {
	c.t.Helper()
	if err := c.Close(); err != nil {
		c.t.Fatal(err)
	}
	for _, name := range names {
		n := c.node(name)
		delta := filepath.Join(c.cfg.Dir, "deltas", checkpoint.Name(forks.Block{Hash: n.block.Hash, Slot: n.block.Slot})+".sst")
		if err := os.Remove(delta); err != nil {
			c.t.Fatal(err)
		}
		c.mu.Lock()
		delete(c.nodes, name)
		c.mu.Unlock()
	}
}

// recover rebuilds the closed store's records from its deltas.
func (c *chain) recover() {
	c.t.Helper()
	if _, err := checkpoint.Recover(c.cfg.Dir, c.cfg.Engine, c.cfg.Store, false, nil); err != nil {
		c.t.Fatal(err)
	}
	acc, err := state.Open(c.cfg)
	if err != nil {
		c.t.Fatal(err)
	}
	c.Accessor = acc
	c.wantStates()
}

// declareless is a block without a root of its own.
func (c *chain) declareless(name string, parent forks.Hash, slot forks.Slot) *state.Block {
	return &state.Block{Hash: hash(name), Parent: parent, Slot: slot}
}

// compareOpen compares what an open view reads with the model.
func (c *chain) compareOpen(v *state.View, n *node) error {
	return compareMany(v, n.state)
}

func TestRetentionByAge(t *testing.T) {
	c := newAging(t, engines[0], state.Retention{Age: 2 * time.Second, Step: 4})
	c.line("a", "alfred", 1, 12)
	c.settleAt("a12")
	c.retain()
	c.wantAnchor("alfred")
	time.Sleep(2100 * time.Millisecond)
	c.line("b", "a12", 1, 4)
	c.settleAt("b4")
	c.retain()
	c.wantAnchor("a12")
	c.wantStates()
}

func TestNothingIsPrunedAboveFinalized(t *testing.T) {
	c := newAging(t, engines[0], state.Retention{Slots: 2, Step: 1})
	c.line("a", "alfred", 1, 20)
	c.retain()
	c.wantAnchor("alfred")
	c.settleAt("a9")
	c.retain()
	c.wantAnchor("a4") // two slots back, then where runs end
	c.wantStates()
}

func TestPinsHoldRetentionBack(t *testing.T) {
	overEngines(t, func(t *testing.T, e engineCase) {
		c := newAging(t, e, state.Retention{Slots: 5, Step: 4, MaxPins: 2})
		c.line("a", "alfred", 1, 30)
		c.line("lost", "a10", 1, 3)
		pin, err := c.Pin(hash("lost3"), "auditor", time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Pin(forks.Hash{7}, "auditor", time.Hour); !errors.Is(err, state.ErrUnknownBlock) {
			t.Errorf("pin an unknown block: %v", err)
		}
		if _, err := c.Pin(hash("a3"), "brief", time.Millisecond); err != nil {
			t.Error(err)
		}
		if _, err := c.Pin(hash("a3"), "third", time.Hour); err != nil && !errors.Is(err, locking.ErrTooManyPins) {
			t.Error(err)
		}
		time.Sleep(5 * time.Millisecond)
		c.settleAt("a30")
		c.reopen() // pins outlive it
		for _, p := range c.Pins() {
			if p.Owner == "third" {
				_ = c.Unpin(p.ID)
			}
		}
		c.retain()
		c.wantAnchor("a8")
		c.wantStates()
		if err := c.Unpin(pin.ID); err != nil {
			t.Error(err)
		}
		if err := c.Unpin(pin.ID); !errors.Is(err, locking.ErrUnknownPin) {
			t.Errorf("unpin twice: %v", err)
		}
		c.retain()
		c.wantAnchor("a24")
		c.wantStates()
		if _, err := c.Pin(hash("a3"), "late", time.Hour); !errors.Is(err, state.ErrPruned) {
			t.Errorf("pin a pruned block: %v", err)
		}
	})
}

func TestDraftsHoldRetentionBack(t *testing.T) {
	c := newAging(t, engines[0], state.Retention{Slots: 5, Step: 4})
	c.line("a", "alfred", 1, 30)
	d, err := c.BeginDraft(context.Background(), hash("a10"), 50, state.DraftOptions{})
	if err != nil {
		t.Fatal(err)
	}
	c.settleAt("a30")
	c.retain()
	c.wantAnchor("a8")
	if _, err := d.Commit(context.Background(), forks.Hash{9}, nil, nil); err != nil {
		t.Error(err)
	}
	c.retain()
	c.wantAnchor("a24")
	if _, err := c.BeginDraft(context.Background(), hash("a10"), 50, state.DraftOptions{}); !errors.Is(err, state.ErrUnknownParent) {
		t.Errorf("a draft on a pruned block: %v", err)
	}
}

// With a budget of disk the window shrinks; where nothing is finalized, checkpoints
// go, then imports are refused, and reads go on.
func TestDiskBudget(t *testing.T) {
	overEngines(t, func(t *testing.T, e engineCase) {
		c := newAging(t, e, state.Retention{Step: 4})
		c.line("a", "alfred", 1, 30)
		c.reopen()
		used, err := c.Store().DiskUsage()
		if err != nil {
			t.Fatal(err)
		}
		c.settleAt("a20")
		c.cfg.Retention.DiskBytes = used * 9 / 10
		c.reopen()
		c.retain()
		if got := c.Anchor(); got.Hash == hash("alfred") {
			t.Error("nothing was pruned")
		}
		c.wantStates()

		c.cfg.Retention.DiskBytes = 1
		c.reopen()
		logs := c.watched()
		c.retain()
		c.wantAnchor("a20")
		c.wantStates()
		if logs.FilterMessageSnippet("imports are refused").Len() != 1 {
			t.Errorf("log: %v", logs.All())
		}
		b := c.block("b", "a30")
		if _, err := c.Import(context.Background(), b); !errors.Is(err, state.ErrOverBudget) {
			t.Errorf("import over the budget: %v", err)
		}
		c.cfg.Retention.DiskBytes = 1 << 40
		c.reopen()
		c.retain()
		c.accept(b)
		c.wantStates()
	})
}

// A view on a block without a checkpoint, which has read nothing yet, stays readable
// when the block is pruned.
func TestThinViewOutlivesPruning(t *testing.T) {
	overEngines(t, func(t *testing.T, e engineCase) {
		c := newAging(t, e, state.Retention{Slots: 10, Step: 4})
		<-c.CacheReady()
		c.line("a", "alfred", 1, 40)
		if _, err := c.Store().Thin([]forks.Hash{hash("a9"), hash("a10"), hash("a11")}); err != nil {
			t.Fatal(err)
		}
		v, err := c.View(context.Background(), hash("a10"))
		if err != nil {
			t.Fatal(err)
		}
		defer v.Close()
		n := c.node("a10")
		c.settleAt("a40")
		c.retain()
		if err := c.compareOpen(v, n); err != nil {
			t.Error(err)
		}
	})
}

// What waits to be removed doesn't count: no more is pruned than the budget asks for.
func TestDiskBudgetWithSlowRemoval(t *testing.T) {
	c := newAging(t, engines[0], state.Retention{Step: 4})
	c.line("a", "alfred", 1, 100)
	c.settleAt("a100")
	c.retain() // archives
	c.reopen()
	used, err := c.Store().DiskUsage()
	if err != nil {
		t.Fatal(err)
	}
	c.cfg.Retention.DiskBytes = used * 19 / 20
	c.reopen()
	c.hook.set(func(call checkpoint.FileCall) error {
		if call.Op == "remove" && !call.Applied && strings.Contains(filepath.Dir(call.Path), "trash") {
			time.Sleep(300 * time.Millisecond)
		}
		return nil
	})
	c.retain()
	c.hook.set(nil)
	if at := c.Anchor().Slot; at == 0 || at > 60 {
		t.Errorf("the anchor is at slot %d", at)
	}
	c.accept(c.block("b", "a100"))
}

// Pruning that is cut short anywhere: the store opens and goes on.
func TestPruningCutShort(t *testing.T) {
	c := newLadderChain()
	cfg := func(dir string, hook func(checkpoint.FileCall) error) state.Config {
		return state.Config{Dir: dir, Engine: checkpointtest.Engine{}, Commitment: state.None{},
			Store:     checkpoint.Options{RunLength: 2, ImageEvery: 4, MaxTables: 4, FileHook: hook},
			Retention: state.Retention{Slots: 2, Step: 1}}
	}
	template := t.TempDir()
	if _, err := c.run(template, nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { makeRemovable(template) })
	prune := func(dir string, hook func(checkpoint.FileCall) error) error {
		var armed atomic.Bool
		acc, err := state.Open(cfg(dir, func(call checkpoint.FileCall) error {
			if hook == nil || !armed.Load() {
				return nil
			}
			return hook(call)
		}))
		if err != nil {
			return err
		}
		armed.Store(true)
		_, err = acc.Finalize(context.Background(), c.blocks[6].Hash)
		_, err2 := acc.Retain(context.Background())
		return errors.Join(err, err2, acc.Close())
	}
	copyTo := func(from string) string {
		to := filepath.Join(t.TempDir(), "store")
		// What is in trash/ may go meanwhile.
		if out, err := exec.Command("cp", "-a", from, to).CombinedOutput(); err != nil && !bytes.Contains(out, []byte("No such file")) {
			t.Fatalf("copy: %v\n%s", err, out)
		}
		t.Cleanup(func() { makeRemovable(to) })
		return to
	}
	kept := []forks.Hash{c.blocks[4].Hash, c.blocks[5].Hash, c.blocks[6].Hash, c.blocks[7].Hash}
	check := func(what, dir string) {
		t.Helper()
		c.check(t, dir, kept)
		if err := prune(dir, nil); err != nil {
			t.Errorf("%s: prune again: %v", what, err)
		}
		c.check(t, dir, kept)
		acc, err := state.Open(cfg(dir, nil))
		if err != nil {
			t.Fatal(err)
		}
		if acc.Anchor().Hash != c.blocks[3].Hash {
			t.Errorf("%s: the anchor is at slot %d", what, acc.Anchor().Slot)
		}
		if err := acc.Close(); err != nil {
			t.Error(err)
		}
		if lost, _ := os.ReadDir(filepath.Join(dir, "lost")); len(lost) > 0 {
			t.Errorf("%s: %d things in lost/", what, len(lost))
		}
	}
	for nth := int64(1); ; nth++ {
		fired := false
		for _, applied := range []bool{false, true} {
			dir, f := copyTo(template), &fault{nth: nth, applied: applied}
			_ = prune(dir, f.hook)
			fired = fired || f.fired.Load()
			check(fmt.Sprintf("call %d fails, applied %t", nth, applied), dir)
		}
		// As a crash there would leave it.
		dir, crashed := copyTo(template), ""
		f := &fault{nth: nth}
		if err := prune(dir, func(call checkpoint.FileCall) error {
			if f.hook(call) != nil {
				crashed = copyTo(dir)
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if crashed != "" {
			check(fmt.Sprintf("crash at call %d", nth), crashed)
		}
		if !fired || t.Failed() {
			t.Logf("%d file calls", nth-1)
			return
		}
	}
}

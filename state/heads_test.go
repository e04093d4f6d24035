package state_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"accessor/checkpoint"
)

// label gives a block as HEADS should have it.
func (c *chain) label(name string) checkpoint.Label {
	c.t.Helper()
	n := c.node(name)
	return checkpoint.Label{Hash: n.block.Hash, Slot: n.block.Slot, Root: n.root}
}

// wantHeads wants HEADS to say so soon, and nothing else after that.
func (c *chain) wantHeads(head, finalized, anchor string) {
	c.t.Helper()
	want := [3]checkpoint.Label{c.label(head), c.label(finalized), c.label(anchor)}
	var got checkpoint.Heads
	var err error
	c.until(fmt.Sprintf("HEADS with head %s, finalized %s", head, finalized), func() bool {
		got, err = checkpoint.ReadHeads(c.cfg.Dir)
		return err == nil && [3]checkpoint.Label{got.Head, got.Finalized, got.Anchor} == want
	})
	if got.Process != os.Getpid() || time.Since(got.Written) > time.Minute || time.Since(got.Written) < 0 {
		c.t.Errorf("written by process %d at %v", got.Process, got.Written)
	}
}

func TestHeadsFollow(t *testing.T) {
	overEngines(t, func(t *testing.T, e engineCase) {
		c := newChain(t, e, noImages)
		c.wantHeads("alfred", "alfred", "alfred")
		c.grow("alfred", "b1", "b2", "b3")
		c.wantHeads("b3", "alfred", "alfred")
		c.accept(c.block("a2", "b1")) // a shorter branch
		c.accept(c.block("a3", "a2")) // as long: the smaller hash is the best leaf
		c.wantHeads("a3", "alfred", "alfred")
		c.setHead("b3")
		c.wantHeads("b3", "alfred", "alfred")
		c.accept(c.block("a4", "a3")) // the node's word counts
		c.finalize("b1", "")
		c.wantHeads("b3", "b1", "alfred")
		c.finalize("a2", "b2 b3") // and takes the head with it
		c.wantHeads("a4", "a2", "alfred")
		if err := os.Remove(filepath.Join(c.cfg.Dir, "HEADS")); err != nil {
			t.Fatal(err)
		}
		c.reopen()
		c.wantHeads("a4", "a2", "alfred")
	})
}

// The last state is there when the store is closed, however fast it came.
func TestHeadsWhenClosed(t *testing.T) {
	c := newChain(t, engines[0], noImages)
	line := []string{"alfred"}
	for i := range 20 {
		line = append(line, fmt.Sprint("n", i))
	}
	c.grow(line...)
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	got, err := checkpoint.ReadHeads(c.cfg.Dir)
	if err != nil || got.Head != c.label("n19") {
		t.Errorf("%+v, %v", got, err)
	}
	if err := c.Close(); err != nil { // again does nothing
		t.Error(err)
	}
}

// headsCalls counts the times that HEADS is written, or lets that fail.
type headsCalls struct {
	renames atomic.Int64
	fail    atomic.Bool
}

func (h *headsCalls) hook(call checkpoint.FileCall) error {
	if filepath.Base(call.Path) != "HEADS" || call.Op != "rename" || call.Applied {
		return nil
	}
	h.renames.Add(1)
	if h.fail.Load() {
		return errors.New("no more")
	}
	return nil
}

// A chain that comes fast writes HEADS some times a second, and its end is told.
func TestHeadsAreWrittenSometimes(t *testing.T) {
	c := newChain(t, engines[0], noImages)
	c.wantHeads("alfred", "alfred", "alfred")
	var calls headsCalls
	c.hook.set(calls.hook)
	start := time.Now()
	last := "alfred"
	for n := 0; n < 30 || time.Since(start) < 600*time.Millisecond; n++ {
		c.grow(last, fmt.Sprint("n", n))
		last = fmt.Sprint("n", n)
	}
	c.wantHeads(last, "alfred", "alfred")
	// One at once, then one each quarter of a second.
	most := int64(2 + time.Since(start)/(250*time.Millisecond))
	if n := calls.renames.Load(); n > most {
		t.Errorf("written %d times in %v, want %d at most", n, time.Since(start), most)
	}
	// A branch that changes neither head nor finalized is no reason.
	before := calls.renames.Load()
	c.accept(c.block("side", "alfred"))
	time.Sleep(300 * time.Millisecond)
	if n := calls.renames.Load(); n != before {
		t.Errorf("written %d times more though nothing moved", n-before)
	}
}

// Imports go on whether HEADS can be written or not; one line is logged, and
// readers find no old state.
func TestHeadsThatCantBeWritten(t *testing.T) {
	c := newChain(t, engines[0], noImages)
	logs := c.watched()
	var calls headsCalls
	calls.fail.Store(true)
	c.hook.set(calls.hook)
	c.grow("alfred", "b1", "b2", "b3")
	c.until("two tries", func() bool { return calls.renames.Load() > 1 })
	c.grow("b3", "b4")
	if n := logs.FilterMessageSnippet("head and finalized").Len(); n != 1 {
		t.Errorf("logged %d times", n)
	}
	if _, err := checkpoint.ReadHeads(c.cfg.Dir); !errors.Is(err, checkpoint.ErrHeads) {
		t.Errorf("there is one: %v", err)
	}
	calls.fail.Store(false)
	c.wantHeads("b4", "alfred", "alfred") // by itself
}

// A disk that takes HEADS slowly holds nobody up.
func TestHeadsDelayNobody(t *testing.T) {
	c := newChain(t, engines[0], noImages)
	stop := c.haltAt(func(call checkpoint.FileCall) bool {
		return call.Op == "write" && filepath.Base(call.Path) == "HEADS.tmp"
	})
	c.grow("alfred", "b1")
	stop.wait()
	for i := range 10 {
		c.grow(fmt.Sprint("b", i+1), fmt.Sprint("b", i+2))
	}
	c.setHead("b7")
	c.finalize("b5", "")
	stop.free(nil)
	c.wantHeads("b7", "b5", "alfred")
}

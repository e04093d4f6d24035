package state_test

import (
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
	"accessor/state"
)

// trusted is a block as an operator trusts it.
func (n *newcomer) trusted(name string) forks.Block {
	at := n.node(name)
	return forks.Block{Hash: at.block.Hash, Slot: at.block.Slot, Root: at.root}
}

// reanchor has a newcomer that nobody has open grow from a later block, and opens it.
func (n *newcomer) reanchor(name string) error {
	n.t.Helper()
	if err := n.Close(); err != nil {
		n.t.Fatal(err)
	}
	err := state.Reanchor(n.cfg, n.trusted(name))
	acc, openErr := state.Open(n.cfg)
	if openErr != nil {
		n.t.Fatal(openErr)
	}
	n.Accessor = acc
	if err == nil {
		n.node(name).block.Parent = acc.Anchor().Parent // who trusts a block may not know
	}
	return err
}

func (n *newcomer) names() string {
	var list []string
	for _, rec := range n.Store().Records() {
		list = append(list, nameOf(rec.Hash))
	}
	slices.Sort(list)
	return strings.Join(list, " ")
}

// A store whose peers have pruned the block that it grows from goes on from a later one,
// with what descends from that, and what was proven before.
func TestReanchor(t *testing.T) {
	overEngines(t, func(t *testing.T, e engineCase) {
		for name, want := range map[string]string{"chase": "chase dian elly", "fred": "fred"} {
			t.Run(name, func(t *testing.T) {
				c, n := grown(t, e)
				c.grow("elly", "fred", "gina")
				ctx := context.Background()
				n.wantGet("elly", "anchor 17")
				pin, err := n.Pin(hash("elly"), "tester", time.Minute)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := n.Finalize(ctx, hash("dian")); err != nil {
					t.Fatal(err)
				}
				if err := n.reanchor(name); err != nil {
					t.Fatal(err)
				}
				if got := n.names(); got != want || n.Anchor().Hash != hash(name) || !n.Partial() || !n.Syncing() {
					t.Errorf("blocks are %s, want %s; the anchor is %+v", got, want, n.Anchor())
				}
				if pins := n.Pins(); (len(pins) == 1 && pins[0].ID == pin.ID) != strings.Contains(want, "elly") {
					t.Errorf("pins: %+v", pins)
				}
				if final := n.Stats().Finalized.Hash; (final == hash("dian")) != strings.Contains(want, "dian") {
					t.Errorf("finalized is %s", nameOf(final))
				}
				if _, err := n.Block(hash("alfred")); !errors.Is(err, state.ErrPruned) {
					t.Errorf("the old anchor: %v", err)
				}
				if name == "chase" { // whose nodes came with its import
					n.peers.be(gone)
					n.wantGet(name, "anchor 17")
					n.peers.be(honest)
				}
				if err := n.Sync(ctx, state.SyncOptions{CatchUp: true}); err != nil {
					t.Fatal(err)
				}
				if got := n.names(); !strings.Contains(got, "fred gina") {
					t.Errorf("after a sync: %s", got)
				}
				n.wantComplete()
				n.reopen()
				n.wantComplete()
			})
		}
	})
}

func TestReanchorRefuses(t *testing.T) {
	_, n := grown(t, engines[0])
	if err := n.reanchor("alfred"); !errors.Is(err, checkpoint.ErrOlder) {
		t.Errorf("the anchor itself: %v", err)
	}
	other := n.trusted("chase")
	other.Root = hash("other")
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	if err := state.Reanchor(n.cfg, other); !errors.Is(err, checkpoint.ErrConflict) {
		t.Errorf("another root: %v", err)
	}
	acc, err := state.Open(n.cfg)
	if err != nil {
		t.Fatal(err)
	}
	n.Accessor = acc
	n.wantStates()
	if err := n.Fill(context.Background(), state.FillOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := n.reanchor("chase"); !errors.Is(err, checkpoint.ErrComplete) {
		t.Errorf("a complete store: %v", err)
	}
	n.wantComplete()
}

// What the node has called final isn't thrown away for a block beside it, whose hash may
// be mistyped.
func TestReanchorKeepsFinality(t *testing.T) {
	_, n := grown(t, engines[0])
	if _, err := n.Finalize(context.Background(), hash("dian")); err != nil {
		t.Fatal(err)
	}
	all := n.names()
	beside := n.trusted("dian")
	beside.Hash = hash("mistyped")
	late := n.trusted("claire") // on a fork that lost
	for _, b := range []forks.Block{beside, late} {
		if err := n.Close(); err != nil {
			t.Fatal(err)
		}
		if err := state.Reanchor(n.cfg, b); !errors.Is(err, state.ErrNotDescendant) {
			t.Errorf("block %s: %v", nameOf(b.Hash), err)
		}
		acc, err := state.Open(n.cfg)
		if err != nil {
			t.Fatal(err)
		}
		n.Accessor = acc
		if got := n.names(); got != all || n.Anchor().Hash != hash("alfred") {
			t.Fatalf("blocks are %s, the anchor is %s", got, nameOf(n.Anchor().Hash))
		}
	}
	if err := n.reanchor("elly"); err != nil {
		t.Errorf("a descendant of the finalized block: %v", err)
	}
}

// Whatever call to the disk fails, the store opens, and grows from one of the two.
func TestReanchorLadder(t *testing.T) {
	const name, want = "chase", "chase dian elly"
	for failed, fail := "none yet", 1; failed != ""; fail++ {
		c, n := grown(t, engines[0])
		c.grow("elly", "fred")
		calls := 0
		failed = ""
		var mu sync.Mutex // what goes is removed in the background
		count := func(call checkpoint.FileCall) error {
			mu.Lock()
			defer mu.Unlock()
			if calls++; calls == fail {
				failed = fmt.Sprint(call.Op, " ", call.Path)
				return errFault
			}
			return nil
		}
		if err := n.Close(); err != nil {
			t.Fatal(err)
		}
		n.hook.set(count)
		err := state.Reanchor(n.cfg, n.trusted(name))
		n.hook.set(nil)
		acc, openErr := state.Open(n.cfg)
		if openErr != nil {
			t.Fatalf("%s failed: %v", failed, openErr)
		}
		n.Accessor = acc
		switch anchor := n.Anchor().Hash; {
		case anchor == hash(name):
			n.node(name).block.Parent = n.Anchor().Parent
		case anchor == hash("alfred") && err != nil:
			n.wantStatesAt("alfred", "elly", "claire")
			if err := n.reanchor(name); err != nil {
				t.Fatalf("again, after %s failed: %v", failed, err)
			}
		default:
			t.Fatalf("%s failed, %v: the anchor is %s", failed, err, nameOf(anchor))
		}
		if got := n.names(); got != want {
			t.Errorf("%s failed: blocks are %s, want %s", failed, got, want)
		}
		if err := n.Fill(context.Background(), state.FillOptions{}); err != nil {
			t.Fatal(err)
		}
		n.wantComplete()
	}
}

// wantStatesAt wants the states at some blocks.
func (n *newcomer) wantStatesAt(names ...string) {
	n.t.Helper()
	for _, name := range names {
		if err := n.compare(n.node(name)); err != nil {
			n.t.Error(err)
		}
	}
}

// A fill whose peers have pruned the block says so, as long as that is so.
func TestFillWhoseAnchorIsGone(t *testing.T) {
	_, n := grown(t, engines[0])
	n.peers.be(lacking)
	var mu sync.Mutex
	var last error
	done := make(chan error, 1)
	go func() {
		done <- n.Fill(context.Background(), state.FillOptions{Patience: 300 * time.Millisecond, Progress: func(p state.FillProgress) {
			mu.Lock()
			defer mu.Unlock()
			last = p.Err
		}})
	}()
	told := func() bool {
		mu.Lock()
		defer mu.Unlock()
		return errors.Is(last, state.ErrAnchorGone)
	}
	n.until("a failure", func() bool { return n.PartialStats().Failed > 0 })
	if told() || n.PartialStats().AnchorGone {
		t.Error("the anchor is taken for gone at once")
	}
	n.until("the anchor to be told gone", func() bool { return told() && n.PartialStats().AnchorGone })
	n.peers.be(honest)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	n.wantComplete()
	if n.PartialStats().AnchorGone {
		t.Error("the anchor of a complete store is gone")
	}
}

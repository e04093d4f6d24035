package state_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"accessor/state"
)

func TestSync(t *testing.T) {
	c := newChain(t, engines[0], small)
	n := c.newcomer(t, small)
	c.grow("alfred", "benny", "chase", "dian", "elly", "fred", "gina", "hugo")
	c.grow("benny", "boris", "claire")
	var got []string
	err := n.Sync(context.Background(), state.SyncOptions{CatchUp: true, Imported: func(r state.Result) { got = append(got, nameOf(r.Block.Hash)) }})
	if err != nil {
		t.Fatal(err)
	}
	n.wantComplete()
	slices.Sort(got)
	if want := "benny boris chase claire dian elly fred gina hugo"; strings.Join(got, " ") != want {
		t.Errorf("caught up with %v, want %s", got, want)
	}
	if more, err := n.CatchUp(context.Background(), nil); more != 0 || err != nil {
		t.Errorf("again: %d, %v", more, err)
	}
	n.peers.be(gone)
	if _, err := n.CatchUp(context.Background(), nil); !errors.Is(err, state.ErrNotFetched) {
		t.Errorf("without peers: %v", err)
	}
}

// A wrong write set is refused, and the blocks are asked for again.
func TestCatchUpWithALiar(t *testing.T) {
	c := newChain(t, engines[0], small)
	n := c.newcomer(t, small)
	c.grow("alfred", "benny", "chase", "dian", "elly")
	if err := n.Fill(context.Background(), state.FillOptions{}); err != nil {
		t.Fatal(err)
	}
	n.peers.be(lying)
	if blocks, err := n.CatchUp(context.Background(), nil); blocks != 4 || err != nil {
		t.Fatalf("%d blocks, %v", blocks, err)
	}
	if got := n.peers.refusals.Load(); got != 2 {
		t.Errorf("%d blocks were refused, want 2", got)
	}
	n.wantComplete()
	n.peers.refusals.Store(-100)
	c.grow("elly", "fred")
	if blocks, err := n.CatchUp(context.Background(), nil); blocks != 0 || !errors.Is(err, state.ErrNotFetched) || !errors.Is(err, state.ErrWrongRoot) {
		t.Errorf("from a liar alone: %d blocks, %v", blocks, err)
	}
}

// A sync that is killed after the state is whole, and before it has caught up, is known
// at the next start.
func TestSyncGoesOn(t *testing.T) {
	c, n := grown(t, engines[0])
	c.grow("elly", "fred")
	if !n.Syncing() {
		t.Error("a partial store has nothing to sync")
	}
	n.peers.deaf.Store(true)
	opts := state.SyncOptions{CatchUp: true}
	if err := n.Sync(context.Background(), opts); !errors.Is(err, state.ErrNotFetched) {
		t.Fatalf("sync without blocks: %v", err)
	}
	n.wantComplete()
	for range 2 {
		n.reopen()
		if !n.Syncing() {
			t.Fatal("after a restart nobody knows that it has to catch up")
		}
	}
	n.peers.deaf.Store(false)
	if err := n.Sync(context.Background(), opts); err != nil {
		t.Fatal(err)
	}
	if _, err := n.Block(hash("fred")); err != nil {
		t.Error(err)
	}
	n.reopen()
	if n.Syncing() {
		t.Error("it has caught up, and goes on")
	}
}

// Peers fill no disk: above the finalized block no more is taken from them than there may
// be.
func TestCatchUpIsBounded(t *testing.T) {
	for name, limits := range map[string]state.CatchUpLimits{"blocks": {Blocks: 3}, "bytes": {Bytes: 900}} {
		t.Run(name, func(t *testing.T) {
			c := newChain(t, engines[0], small)
			n := c.newcomer(t, small)
			c.grow("alfred", "benny", "chase", "dian", "elly", "fred", "gina", "hugo")
			n.cfg.CatchUp = limits
			n.reopen()
			ctx := context.Background()
			blocks, err := n.CatchUp(ctx, nil)
			if !errors.Is(err, state.ErrAhead) || blocks == 0 || blocks > 3 {
				t.Fatalf("%d blocks, %v", blocks, err)
			}
			if more, err := n.CatchUp(ctx, nil); more != 0 || !errors.Is(err, state.ErrAhead) {
				t.Errorf("again: %d blocks, %v", more, err)
			}
			if _, err := n.Finalize(ctx, n.Head().Hash); err != nil {
				t.Fatal(err)
			}
			if more, err := n.CatchUp(ctx, nil); more != blocks || !errors.Is(err, state.ErrAhead) {
				t.Errorf("after finality: %d blocks, %v, want %d more", more, err, blocks)
			}
			for _, rec := range n.Store().Records() {
				if err := n.compare(n.node(nameOf(rec.Hash))); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// Forks that come late, far below the leaves and far above finalized, are found as well,
// however little fits into an answer.
func TestCatchUpFindsForks(t *testing.T) {
	c := newChain(t, engines[0], small)
	n := c.newcomer(t, small)
	ctx := context.Background()
	line := []string{"alfred"}
	for i := range 14 {
		line = append(line, fmt.Sprint("b", i))
	}
	c.grow(line...)
	if blocks, err := n.CatchUp(ctx, nil); blocks != 14 || err != nil {
		t.Fatalf("%d blocks, %v", blocks, err)
	}
	for _, at := range []int{1, 5, 9, 12} {
		c.grow(line[at], fmt.Sprint("f", at), fmt.Sprint("g", at), fmt.Sprint("h", at))
	}
	found := 0
	for range 16 {
		blocks, err := n.CatchUp(ctx, nil)
		if err != nil {
			t.Fatal(err)
		}
		found += blocks
	}
	if found != 4*3 {
		t.Errorf("%d blocks of forks were found, of %d", found, 4*3)
	}
	n.wantStates()
}

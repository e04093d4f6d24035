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

	"accessor/checkpoint"
	"accessor/checkpoint/checkpointtest"
	"accessor/forks"
	"accessor/state"
)

// death makes the nth file call, and all after it, fail, as if the process had ended
// there: before the call, or right after it.
type death struct {
	nth     int64
	applied bool
	calls   atomic.Int64
	dead    atomic.Bool
}

var errDead = errors.New("the process is dead")

func (d *death) hook(c checkpoint.FileCall) error {
	if d.dead.Load() {
		return fmt.Errorf("%w: %s %s", errDead, c.Op, c.Path)
	}
	if strings.HasPrefix(filepath.Base(c.Path), "HEADS") || c.Applied != d.applied || d.calls.Add(1) != d.nth {
		return nil
	}
	d.dead.Store(true)
	return fmt.Errorf("%w: %s %s", errDead, c.Op, c.Path)
}

// checkEvents wants an event for each block that is held, none for others, each after
// its parent's, and no gap; it gives the position of the newest event.
func checkEvents(t *testing.T, acc *state.Accessor, after uint64, seen map[forks.Hash]bool) uint64 {
	t.Helper()
	// What waits to be written goes along with this.
	if err := acc.Store().SetMeta("test", nil); err != nil {
		t.Fatal(err)
	}
	_, _, newest := acc.Store().EventsKept()
	sub := acc.Subscribe(after)
	for sub.Position() < newest {
		e, err := sub.Next(context.Background())
		switch {
		case err != nil:
			t.Fatal(err)
		case e.Kind == state.EventGap:
			t.Errorf("gap from %d to %d", e.First, e.Last)
		case e.Kind == state.EventBlock:
			if seen[e.Block.Hash] || len(seen) > 0 && !seen[e.Block.Parent] {
				t.Errorf("event of block %s comes twice, or before its parent's", e.Block.Hash.Short())
			}
			seen[e.Block.Hash] = true
		case e.Kind != state.EventWalkBack && !seen[e.Block.Hash]:
			t.Errorf("event %s of a block that has none yet", e.Kind)
		}
	}
	held := 0
	for _, rec := range acc.Store().Records() {
		held++
		if !seen[rec.Hash] {
			t.Errorf("block %s is held without an event", rec.Hash.Short())
		}
	}
	if held != len(seen) {
		t.Errorf("%d blocks are held, %d have events", held, len(seen))
	}
	return newest
}

// TestEventsAfterDeath ends the process at each of its file calls. The next start has
// the events of all blocks that are held then, those taken in from deltas as well, and
// a reader who had come to some position goes on from there, without a gap.
func TestEventsAfterDeath(t *testing.T) {
	stride := int64(1)
	if testing.Short() {
		stride = 17
	}
	chain := newLadderChain()
	cfg := func(dir string) state.Config {
		return state.Config{Dir: dir, Engine: checkpointtest.Engine{}, Commitment: state.None{}}
	}
	taken := 0 // starts that took a delta in
	for _, applied := range []bool{false, true} {
		for nth := int64(1); ; nth += stride {
			d := &death{nth: nth, applied: applied}
			dir := ladderDir(t)
			acknowledged, _ := chain.run(dir, d.hook)
			if !d.dead.Load() {
				break
			}
			acc, err := state.Open(cfg(dir))
			if errors.Is(err, checkpoint.ErrEmpty) {
				os.RemoveAll(dir)
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			seen := make(map[forks.Hash]bool)
			at := checkEvents(t, acc, state.Oldest, seen)
			if len(seen) > len(acknowledged) {
				taken++
			}
			if err := acc.Close(); err != nil {
				t.Error(err)
			}
			if _, err := chain.run(dir, nil); err != nil {
				t.Error(err)
			}
			if acc, err = state.Open(cfg(dir)); err != nil {
				t.Fatal(err)
			}
			checkEvents(t, acc, at, seen)
			if len(seen) != len(chain.blocks)+1 {
				t.Errorf("%d blocks have events", len(seen))
			}
			acc.Close()
			if t.Failed() {
				t.Fatalf("with the end at call %d, after it: %t", nth, applied)
			}
			os.RemoveAll(dir)
		}
	}
	if stride == 1 && taken < len(chain.blocks)/2 {
		t.Errorf("only %d starts took a delta in", taken)
	}
}

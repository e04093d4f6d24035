package state_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"accessor/checkpoint"
	"accessor/checkpoint/checkpointtest"
	"accessor/forks"
	"accessor/state"
)

// errFault is what the ladder's file calls fail with.
var errFault = errors.New("injected fault")

// fault makes the nth file call fail: before it takes effect, or after.
type fault struct {
	nth     int64
	applied bool
	calls   atomic.Int64
	fired   atomic.Bool
}

func (f *fault) hook(c checkpoint.FileCall) error {
	if strings.HasPrefix(filepath.Base(c.Path), "HEADS") {
		return nil // written beside the others, at any time: heads_test.go
	}
	if c.Applied != f.applied || f.calls.Add(1) != f.nth {
		return nil
	}
	f.fired.Store(true)
	return fmt.Errorf("%w: %s %s", errFault, c.Op, c.Path)
}

// ladderChain is the chain that the ladder imports: a line of eight blocks, and a
// branch of four from the third.
type ladderChain struct {
	blocks []*state.Block
	states map[forks.Hash]map[string]string // at each block, the anchor included
}

func newLadderChain() *ladderChain {
	c := &ladderChain{states: map[forks.Hash]map[string]string{{}: {"a": "0", "b": "0", "c": "0"}}}
	line := []forks.Hash{{}}
	add := func(n byte, parent forks.Hash, slot forks.Slot) forks.Hash {
		b := &state.Block{Hash: forks.Hash{n}, Parent: parent, Slot: slot,
			Puts: []state.Pair{{Key: []byte("a"), Value: []byte{n}}, {Key: []byte{'k', n}, Value: bytes.Repeat([]byte{n}, 40)}}}
		after := maps.Clone(c.states[parent])
		for _, p := range b.Puts {
			after[string(p.Key)] = string(p.Value)
		}
		if n%3 == 0 {
			b.Dels = [][]byte{{'k', n - 1}}
			delete(after, string(b.Dels[0]))
		}
		c.blocks, c.states[b.Hash] = append(c.blocks, b), after
		return b.Hash
	}
	for n := byte(1); n <= 8; n++ {
		line = append(line, add(n, line[n-1], forks.Slot(n)))
	}
	parent := line[3]
	for n := byte(1); n <= 4; n++ {
		parent = add(16+n, parent, forks.Slot(3+n))
	}
	return c
}

// run creates or opens the store and imports the chain, as far as that goes, and
// gives the blocks that were acknowledged.
func (c *ladderChain) run(dir string, hook func(checkpoint.FileCall) error) (acknowledged []forks.Hash, err error) {
	cfg := state.Config{Dir: dir, Engine: checkpointtest.Engine{}, Commitment: state.None{},
		Store: checkpoint.Options{RunLength: 2, ImageEvery: 4, MaxTables: 4, FileHook: hook}}
	acc, err := state.Open(cfg)
	if errors.Is(err, checkpoint.ErrEmpty) {
		acc, err = state.Create(cfg, state.Anchor{Pairs: func(yield func(state.Pair, error) bool) {
			for _, k := range slices.Sorted(maps.Keys(c.states[forks.Hash{}])) {
				if !yield(state.Pair{Key: []byte(k), Value: []byte("0")}, nil) {
					return
				}
			}
		}})
	}
	if err != nil {
		return nil, err
	}
	acknowledged = append(acknowledged, forks.Hash{})
	var failed error
	for i, b := range c.blocks {
		res, err := acc.Import(context.Background(), b)
		if err == nil {
			acknowledged = append(acknowledged, b.Hash)
			err = res.Unsealed
		}
		failed = errors.Join(failed, err)
		if i == 6 { // then the branch must walk back
			failed = errors.Join(failed, acc.Store().DropCheckpoint(c.blocks[2].Hash))
		}
	}
	return acknowledged, errors.Join(failed, acc.Close())
}

// check opens the store without faults: every acknowledged block is there, all
// states are right, and nothing is listed that was never imported.
func (c *ladderChain) check(t *testing.T, dir string, acknowledged []forks.Hash) {
	t.Helper()
	acc, err := state.Open(state.Config{Dir: dir, Engine: checkpointtest.Engine{}})
	if errors.Is(err, checkpoint.ErrEmpty) && len(acknowledged) == 0 {
		return
	}
	if err != nil {
		t.Fatalf("open after the fault: %v", err)
	}
	defer acc.Close()
	for _, h := range acknowledged {
		if _, err := acc.Block(h); err != nil {
			t.Errorf("acknowledged block %s is lost: %v", h.Short(), err)
		}
	}
	for _, rec := range acc.Store().Records() {
		want, known := c.states[rec.Hash]
		if !known {
			t.Errorf("block %s is listed and was never imported", rec.Hash.Short())
			continue
		}
		v, err := acc.View(context.Background(), rec.Hash)
		if err != nil {
			t.Errorf("view of block %s: %v", rec.Hash.Short(), err)
			continue
		}
		got := make(map[string]string)
		for p, err := range v.All(nil, nil) {
			if err != nil {
				t.Error(err)
				break
			}
			got[string(p.Key)] = string(p.Value)
		}
		v.Close()
		if !maps.Equal(got, want) {
			t.Errorf("state at block %s is %q, want %q", rec.Hash.Short(), got, want)
		}
	}
}

// TestFaultLadder fails the first of the store's own file calls, then the second,
// and so on until a whole run has fewer: each both without having taken effect
// and after it has. Whatever fails, no acknowledged block is lost, the store
// opens, and the chain can be imported to its end.
func TestFaultLadder(t *testing.T) {
	stride := int64(1)
	if testing.Short() {
		stride = 17
	}
	chain := newLadderChain()
	for _, applied := range []bool{false, true} {
		t.Run(map[bool]string{false: "call fails", true: "call succeeds and says it failed"}[applied], func(t *testing.T) {
			steps := 0
			for nth := int64(1); ; nth += stride {
				f := &fault{nth: nth, applied: applied}
				dir := ladderDir(t)
				acknowledged, err := chain.run(dir, f.hook)
				if !f.fired.Load() {
					if err != nil {
						t.Fatalf("without a fault: %v", err)
					}
					t.Logf("%d file calls failed in turn", steps)
					if steps < 100 && stride == 1 {
						t.Errorf("the run makes only %d file calls", steps)
					}
					return
				}
				steps++
				chain.check(t, dir, acknowledged)
				acknowledged, err = chain.run(dir, nil)
				if err != nil || len(acknowledged) != len(chain.blocks)+1 {
					t.Errorf("again after the fault: %d blocks, %v", len(acknowledged), err)
				}
				chain.check(t, dir, acknowledged)
				if t.Failed() {
					t.Fatalf("with the fault at call %d", nth)
				}
				os.RemoveAll(dir)
			}
		})
	}
}

// ladderDir gives a new folder, in memory where there is such a file system: what
// is looked at is the order of calls, not the disk.
func ladderDir(t *testing.T) string {
	t.Helper()
	base := "/dev/shm"
	if _, err := os.Stat(base); err != nil {
		base = ""
	}
	dir, err := os.MkdirTemp(base, "ladder-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

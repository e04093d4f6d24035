package state_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"accessor/checkpoint"
	"accessor/state"
)

func TestFill(t *testing.T) {
	overEngines(t, func(t *testing.T, e engineCase) {
		c, n := grown(t, e)
		ctx := context.Background()
		v, err := n.View(ctx, hash("boris")) // that lives through all of it
		if err != nil {
			t.Fatal(err)
		}
		defer v.Close()
		hold := make(chan struct{})
		n.peers.hold.Store(&hold)
		var progress []state.FillProgress
		filled := make(chan error, 1)
		go func() {
			filled <- n.Fill(ctx, state.FillOptions{Parallel: 3, PageBytes: 300,
				Progress: func(p state.FillProgress) { progress = append(progress, p) }})
		}()
		close(hold)
		c.grow("elly", "fred", "gina")
		n.follow("fred", "gina")
		if err := <-filled; err != nil {
			t.Fatal(err)
		}
		last := progress[len(progress)-1]
		if last.Pairs != 20 || last.Covered != 1 || !last.Completing || last.Err != nil {
			t.Errorf("progress ends with %+v", last)
		}
		if err := compareMany(v, n.node("boris").state); err != nil {
			t.Error(err)
		}
		n.wantComplete()
		if err := n.Fill(ctx, state.FillOptions{}); err != nil {
			t.Errorf("fill a complete store: %v", err)
		}
		if left, _ := os.ReadDir(filepath.Join(n.cfg.Dir, "fill")); len(left) > 0 {
			t.Errorf("fill/ has %v", left)
		}
		c.grow("gina", "hugo")
		c.grow("claire", "ivan")
		n.follow("hugo", "ivan")
		n.wantComplete()
		n.reopen()
		n.wantComplete()
		if s := n.PartialStats(); s != (state.PartialStats{}) {
			t.Errorf("%+v", s)
		}
	})
}

// Most keys of a large state lie close together: the parts are cut where they are.
func TestFillOfALargeState(t *testing.T) {
	kv := make(contents)
	for i := range 1500 {
		k := []byte(key(fmt.Sprint("anchor ", i)))
		if i%5 > 0 {
			k[0], k[1] = 7, byte(i%2)
		}
		kv[string(k)] = strings.Repeat("v", i%90)
	}
	c := newChainOf(t, engines[0], small, "alfred", 0, kv)
	n := c.newcomer(t, small)
	c.grow("alfred", "benny", "chase", "dian")
	c.grow("benny", "boris")
	n.follow("benny", "chase", "dian", "boris")
	if err := n.Fill(context.Background(), state.FillOptions{Parallel: 4, PageBytes: 8000}); err != nil {
		t.Fatal(err)
	}
	n.wantComplete()
	if got := n.peers.pairs.Load(); got > 1500*5/4 {
		t.Errorf("%d pairs were fetched, of 1500", got)
	}
	c.grow("dian", "elly")
	n.follow("elly")
	n.reopen()
	n.wantComplete()
}

// A fill goes on where a restart stopped it, and asks for nothing twice; what is
// damaged meanwhile comes again.
func TestFillGoesOn(t *testing.T) {
	for _, damage := range []bool{false, true} {
		t.Run(fmt.Sprint("damaged ", damage), func(t *testing.T) {
			kv := make(contents)
			for i := range 300 {
				kv[key(fmt.Sprint("anchor ", i))] = strings.Repeat("v", i%50)
			}
			n := newChainOf(t, engines[0], small, "alfred", 0, kv).newcomer(t, small)
			ctx, stop := context.WithCancel(context.Background())
			opts := state.FillOptions{Parallel: 2, PageBytes: 1, Progress: func(p state.FillProgress) {}}
			done := make(chan error, 1)
			before := n.peers.pairs.Load()
			go func() { done <- n.Fill(ctx, opts) }()
			n.until("some pairs", func() bool { return n.PartialStats().Pairs >= 100 })
			stop()
			if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
				t.Fatal(err)
			}
			if !n.Partial() {
				t.Skip("the fill was faster than its end")
			}
			kept := n.PartialStats().Pairs
			if damage {
				n.damageSpool()
			}
			n.reopen()
			if got := n.PartialStats().Pairs; (got == kept) == damage {
				t.Errorf("%d pairs after the restart, %d before", got, kept)
			}
			if err := n.Fill(context.Background(), opts); err != nil {
				t.Fatal(err)
			}
			// Each worker may have had an answer on its way, and where a part ends the first
			// pair of the next one comes twice.
			if got := n.peers.pairs.Load() - before; !damage && got > 300+60 {
				t.Errorf("%d pairs were fetched, of 300", got)
			}
			n.wantComplete()
		})
	}
}

// damageSpool changes a byte of each file.
func (n *newcomer) damageSpool() {
	n.t.Helper()
	files, err := filepath.Glob(filepath.Join(n.cfg.Dir, "fill", "spool", "*"))
	if err != nil || len(files) == 0 {
		n.t.Fatalf("%v, %v", files, err)
	}
	for _, path := range files {
		data, err := os.ReadFile(path)
		if err != nil {
			n.t.Fatal(err)
		}
		if len(data) == 0 {
			continue
		}
		data[len(data)/2] ^= 1
		if err := os.WriteFile(path, data, 0o644); err != nil {
			n.t.Fatal(err)
		}
	}
}

// While a fill runs, what it has on disk is changed under it: the root tells, and it
// comes again.
func TestFillChecksTheRoot(t *testing.T) {
	_, n := grown(t, engines[0])
	opts := state.FillOptions{Parallel: 1, Progress: func(p state.FillProgress) {}}
	once := sync.OnceFunc(n.damageSpool)
	n.hook.set(func(call checkpoint.FileCall) error {
		if call.Op == "create" && strings.HasPrefix(filepath.Base(call.Path), "full-") {
			once()
		}
		return nil
	})
	if err := n.Fill(context.Background(), opts); err != nil {
		t.Fatal(err)
	}
	n.hook.set(nil)
	n.wantComplete()
}

func TestFillWaitsForPeers(t *testing.T) {
	_, n := grown(t, engines[0])
	n.peers.be(gone)
	var mu sync.Mutex
	var last state.FillProgress
	done := make(chan error, 1)
	go func() {
		done <- n.Fill(context.Background(), state.FillOptions{Progress: func(p state.FillProgress) {
			mu.Lock()
			defer mu.Unlock()
			last = p
		}})
	}()
	n.until("the failure to be told", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return errors.Is(last.Err, errGone)
	})
	n.peers.be(honest)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	n.wantComplete()
}

func TestFillKeepsToItsRate(t *testing.T) {
	_, n := grown(t, engines[0])
	began := time.Now()
	if err := n.Fill(context.Background(), state.FillOptions{Parallel: 2, PageBytes: 300, BytesPerSecond: 20_000}); err != nil {
		t.Fatal(err)
	}
	// 20 keys with 570 bytes of values, and their proofs: 10 kB at least.
	if took := time.Since(began); took < 100*time.Millisecond {
		t.Errorf("took %v", took)
	}
	n.wantComplete()
}

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

func TestSyncInBackground(t *testing.T) {
	c, n := grown(t, engines[0])
	c.grow("elly", "fred")
	n.peers.be(gone)
	n.cfg.Sync = &state.SyncOptions{CatchUp: true}
	n.reopen()
	n.wantGet("elly", "last writer")
	n.peers.be(honest)
	n.until("the store to be complete", func() bool { return !n.Partial() })
	n.until("fred to be there", func() bool { _, err := n.Block(hash("fred")); return err == nil })
	n.wantComplete()
}

package state_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
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
		told := make(chan error, 1)
		sub := n.Subscribe(state.Newest, state.EventComplete)
		go func() {
			e, err := sub.Next(ctx)
			if err == nil && (e.Block.Hash != hash("alfred") || n.Partial()) {
				err = fmt.Errorf("the store is partial %v, and told to be complete: %+v", n.Partial(), e)
			}
			told <- err
		}()
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
		if err := <-told; err != nil {
			t.Error(err)
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

// Where what is damaged can't be removed the fill fails, and goes on once it can.
func TestFillAfterAFailedRemoval(t *testing.T) {
	_, n := grown(t, engines[0])
	once := sync.OnceFunc(n.damageSpool)
	n.hook.set(func(call checkpoint.FileCall) error {
		switch {
		case call.Op == "create" && strings.HasPrefix(filepath.Base(call.Path), "full-"):
			once()
		case call.Op == "remove" && filepath.Base(filepath.Dir(call.Path)) == "spool":
			return errFault
		}
		return nil
	})
	if err := n.Fill(context.Background(), state.FillOptions{}); !errors.Is(err, errFault) {
		t.Fatal(err)
	}
	n.hook.set(nil)
	if err := n.Fill(context.Background(), state.FillOptions{}); err != nil {
		t.Fatal(err)
	}
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

// Who began to read while the store was partial goes by its anchor to the end: until
// then that is not pruned, though the store is complete.
func TestPruningWaitsForReadersOfBefore(t *testing.T) {
	c, n := grown(t, engines[0])
	ctx := context.Background()
	n.cfg.Retention = state.Retention{Slots: 1, Step: 1}
	n.reopen()
	c.grow("elly", "f1", "f2", "f3", "f4", "f5", "f6")
	n.follow("f1", "f2", "f3", "f4", "f5", "f6")
	if _, err := n.Finalize(ctx, hash("f6")); err != nil {
		t.Fatal(err)
	}
	v, err := n.View(ctx, hash("f6"))
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	seen := make(contents)
	for pair, err := range v.Scan(ctx, state.ScanOptions{}) {
		if err != nil {
			t.Fatal(err)
		}
		if len(seen) == 0 {
			if err := n.Fill(ctx, state.FillOptions{}); err != nil {
				t.Fatal(err)
			}
			if done, err := n.Retain(ctx); n.Partial() || done.Pruned > 0 || err != nil {
				t.Errorf("partial %v, pruned %+v, %v", n.Partial(), done, err)
			}
		}
		seen[string(pair.Key)] = string(pair.Value)
	}
	if !maps.Equal(seen, n.node("f6").state) {
		t.Errorf("read %v, want %v", seen, n.node("f6").state)
	}
	n.until("the anchor to be pruned", func() bool {
		_, err := n.Retain(ctx)
		return err == nil && n.Anchor().Hash != hash("alfred")
	})
	n.wantComplete()
}

// A reader who leaves makes an end to what is fetched for it alone, and closing waits
// until that has ended.
func TestCloseWaitsForFetches(t *testing.T) {
	_, n := grown(t, engines[0])
	n.peers.be(stalling)
	before := n.peers.asked.Load()
	ctx, leave := context.WithCancel(context.Background())
	read := make(chan error, 1)
	go func() {
		v, err := n.View(ctx, hash("alfred"))
		if err == nil {
			_, _, _, err = v.AppendGetTier(ctx, nil, []byte(key("anchor 5")))
			v.Close()
		}
		read <- err
	}()
	n.until("the request", func() bool { return n.peers.asked.Load() > before })
	leave()
	if err := <-read; !errors.Is(err, context.Canceled) {
		t.Errorf("who left: %v", err)
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	if n := n.peers.asking.Load(); n != 0 {
		t.Errorf("%d requests after the end", n)
	}
}

// Reads of a partial state end before the store is closed, and begin no more after that;
// who is in the middle of a scan may close it.
func TestCloseEndsPartialReads(t *testing.T) {
	_, n := grown(t, engines[0])
	ctx := context.Background()
	v, err := n.View(ctx, hash("elly"))
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	n.peers.be(stalling)
	before := n.peers.asked.Load()
	read := make(chan error, 1)
	go func() {
		_, err := v.MultiGet(ctx, [][]byte{[]byte(key("anchor 5"))})
		read <- err
	}()
	n.until("the request", func() bool { return n.peers.asked.Load() > before })
	n.peers.be(honest)
	for range v.Scan(ctx, state.ScanOptions{}) {
		if err := n.Close(); err != nil {
			t.Fatal(err)
		}
		break
	}
	if n := n.peers.asking.Load(); n != 0 {
		t.Errorf("%d requests after the end", n)
	}
	if err := <-read; !errors.Is(err, checkpoint.ErrClosed) {
		t.Errorf("a read while the store was closed: %v", err)
	}
	if _, _, err := v.Get([]byte(key("last writer"))); !errors.Is(err, checkpoint.ErrClosed) {
		t.Errorf("a read after that: %v", err)
	}
}

// failing is an engine whose writes of records fail while a test says so.
type failing struct {
	checkpoint.Engine
	records atomic.Bool
}

func (e *failing) OpenJournal(dir string) (checkpoint.Journal, error) {
	j, err := e.Engine.OpenJournal(dir)
	if filepath.Base(dir) == "blocks" {
		j = failingJournal{j, &e.records}
	}
	return j, err
}

type failingJournal struct {
	checkpoint.Journal
	fail *atomic.Bool
}

func (j failingJournal) Write(changes []checkpoint.Change, sync bool) error {
	if j.fail.Load() {
		return errFault
	}
	return j.Journal.Write(changes, sync)
}

// Where nobody knows whether the records of a complete store reached the disk, nothing is
// imported until the next start knows.
func TestUndecidedCompletion(t *testing.T) {
	c, n := grown(t, engines[0])
	c.grow("elly", "fred")
	engine := &failing{Engine: n.cfg.Engine}
	n.cfg.Engine = engine
	n.reopen()
	engine.records.Store(true)
	if err := n.Fill(context.Background(), state.FillOptions{}); err == nil {
		t.Fatal("completed without records")
	}
	engine.records.Store(false)
	n.refuse(c.node("fred").block, checkpoint.ErrUndecided)
	n.reopen()
	n.follow("fred")
	if err := n.Fill(context.Background(), state.FillOptions{}); err != nil {
		t.Fatal(err)
	}
	n.wantComplete()
}

package state_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"accessor/checkpoint"
	"accessor/state"
)

// watched is what an observer has seen.
type watched struct {
	mu       sync.Mutex
	imported []state.Imported
	retained []state.Pruning
	drafts   []string
}

func (w *watched) observer() state.Observer {
	return state.Observer{
		Imported: func(i state.Imported) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.imported = append(w.imported, i)
		},
		Retained: func(p state.Pruning) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.retained = append(w.retained, p)
		},
		DraftEnded: func(e state.DraftEnd) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.drafts = append(w.drafts, string(e.Fate)+" "+e.Draft.Owner)
		},
	}
}

func (w *watched) last() state.Imported {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.imported[len(w.imported)-1]
}

// watch opens the store again with an observer.
func (c *chain) watch() *watched {
	w := &watched{}
	c.cfg.Observer = w.observer()
	c.reopen()
	return w
}

func TestObserverOfImports(t *testing.T) {
	overEngines(t, func(t *testing.T, e engineCase) {
		c := newChain(t, e, noImages)
		w := c.watch()
		c.grow("alfred", "a1", "a2", "a3")
		got := w.last()
		if got.Block != hash("a3") || got.Slot != 3 || got.Err != nil || got.Bytes <= 0 || got.LockWait != 0 || got.Replayed != 0 ||
			got.Result.Took <= 0 || got.Result.Block.Root != c.node("a3").root {
			t.Errorf("observed %+v", got)
		}
		c.wantHeld(c.node("a3").block)
		if got := w.last(); !got.Result.Held || got.Bytes != 0 {
			t.Errorf("observed %+v", got)
		}
		orphan := c.block("orphan", "a3")
		orphan.Parent = hash("nobody")
		c.refuse(orphan, state.ErrUnknownParent)
		if got := w.last(); !errors.Is(got.Err, state.ErrUnknownParent) || got.Slot != 4 || got.Result.Took <= 0 {
			t.Errorf("observed %+v", got)
		}
		if err := errors.Join(c.Store().DropCheckpoint(hash("a2")), c.Store().DropCheckpoint(hash("a1"))); err != nil {
			t.Fatal(err)
		}
		lease := c.lock(3)
		f := c.send(context.Background(), c.block("b3", "a2"))
		c.waiters(3, 1)
		time.Sleep(5 * time.Millisecond)
		lease.Release()
		c.wantNew(c.join(f), f.block)
		if got := w.last(); got.Replayed != 2 || got.LockWait < 5*time.Millisecond || got.Result.Took < got.LockWait {
			t.Errorf("observed %+v", got)
		}
		if len(w.imported) != 6 {
			t.Errorf("observed %d imports", len(w.imported))
		}
	})
}

func TestObserverOfDraftsAndPruning(t *testing.T) {
	c := newAging(t, engines[0], state.Retention{Slots: 4, Step: 1})
	w := c.watch()
	ctx := context.Background()
	begin := func(owner string, ttl time.Duration) *state.Draft {
		d, err := c.BeginDraft(ctx, hash("alfred"), 1, state.DraftOptions{Owner: owner, TTL: ttl})
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	if _, err := begin("a", 0).Commit(ctx, hash("c"), nil, nil); err != nil {
		t.Fatal(err)
	}
	if err := begin("b", 0).Drop(); err != nil {
		t.Fatal(err)
	}
	begin("c", time.Millisecond)
	c.until("a draft to expire", func() bool { return c.Stats().Drafts == 0 })
	begin("d", 0)
	if got := c.Stats().Drafts; got != 1 {
		t.Errorf("%d drafts", got)
	}
	c.reopen()
	want := "committed a, dropped b, expired c, closed d"
	w.mu.Lock()
	if got := strings.Join(w.drafts, ", "); got != want {
		t.Errorf("drafts: %s; want %s", got, want)
	}
	w.mu.Unlock()
	c.settleAt(c.line("a", "alfred", 1, 12))
	if _, err := c.Retain(ctx); err != nil {
		t.Fatal(err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	pruned := 0
	for _, p := range w.retained {
		if pruned += p.Pruned; p.Err != nil || p.Anchor.Hash == hash("") {
			t.Errorf("observed %+v", p)
		}
	}
	if pruned == 0 {
		t.Errorf("observed %+v", w.retained)
	}
}

func TestStats(t *testing.T) {
	overEngines(t, func(t *testing.T, e engineCase) {
		c := newChain(t, e, noImages)
		c.cfg.CacheBytes = 1 << 20
		c.reopen()
		<-c.CacheReady()
		c.grow("alfred", "a1", "a2", "a3")
		c.grow("a1", "b2", "b3")
		c.settleAt("a2")
		v, err := c.View(context.Background(), hash("a3"))
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			if _, _, err := v.Get([]byte(key("last writer"))); err != nil {
				t.Fatal(err)
			}
			c.until("the cache to have it", func() bool { return c.Stats().CacheBytes > 0 })
		}
		s := c.Stats()
		if s.Blocks != 6 || s.Leaves != 2 || s.LostBlocks != 2 || s.LostForks != 1 || s.Head.Hash != hash("a3") || s.Finalized.Hash != hash("a2") ||
			s.Anchor.Hash != hash("alfred") || s.HeadHeight != 3 || s.FinalHeight != 2 || s.Importing != 0 {
			t.Errorf("stats %+v", s)
		}
		if s.OpenViews != 1 || s.OpenCheckpoints < 1 || s.WorkingDBs < 1 || !s.CacheReady || s.CacheHits != 2 || s.CacheMisses != 1 ||
			s.CheckpointReads < 1 || s.Sealed != 5 || s.Ingested < 5 || s.Events == 0 || s.OldestEvent == 0 || s.NotReady != nil {
			t.Errorf("stats %+v", s)
		}
		v.Close()
		if n := testing.AllocsPerRun(20, func() { _ = c.Ready() }); n != 0 {
			t.Errorf("Ready allocates %v times", n)
		}
	})
}

// A read that the cache answers allocates nothing, counted as it is.
func TestHitsAllocateNothing(t *testing.T) {
	c := newChain(t, engines[0], noImages)
	c.cfg.CacheBytes = 1 << 20
	c.reopen()
	<-c.CacheReady()
	c.grow("alfred", "a1")
	v, err := c.View(context.Background(), hash("a1"))
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	k, dst := []byte(key("last writer")), make([]byte, 0, 64)
	c.until("a hit", func() bool {
		_, _, err := v.AppendGet(dst, k)
		return err == nil && c.Stats().CacheHits > 0
	})
	before := c.Stats()
	if n := testing.AllocsPerRun(100, func() { _, _, _ = v.AppendGet(dst, k) }); n >= 1 {
		t.Errorf("a hit allocates %v times", n)
	}
	if after := c.Stats(); after.CacheHits-before.CacheHits != 101 || after.CheckpointReads != before.CheckpointReads {
		t.Errorf("%d hits, %d reads of checkpoints", after.CacheHits-before.CacheHits, after.CheckpointReads-before.CheckpointReads)
	}
}

func TestReady(t *testing.T) {
	c := newChain(t, engines[0], noImages)
	if err := c.Ready(); err != nil {
		t.Fatal(err)
	}
	c.hook.set(func(call checkpoint.FileCall) error {
		if call.Op == "write" {
			return unix.ENOSPC
		}
		return nil
	})
	if _, err := c.Import(context.Background(), c.block("a1", "alfred")); !errors.Is(err, checkpoint.ErrNoSpace) {
		t.Fatal(err)
	}
	c.hook.set(nil)
	if err := c.Ready(); !errors.Is(err, state.ErrReadOnly) || !errors.Is(err, checkpoint.ErrNoSpace) {
		t.Errorf("the disk is full: %v", err)
	}
	c.grow("alfred", "a1")
	if err := c.Ready(); err != nil {
		t.Errorf("there is space again: %v", err)
	}
	c.cfg.Retention.DiskBytes = 1
	c.reopen()
	if _, err := c.Retain(context.Background()); err != nil {
		t.Fatal(err)
	}
	if err := c.Ready(); !errors.Is(err, state.ErrOverBudget) || errors.Is(err, state.ErrReadOnly) {
		t.Errorf("over budget: %v", err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if err := c.Ready(); !errors.Is(err, checkpoint.ErrClosed) {
		t.Errorf("closed: %v", err)
	}
}

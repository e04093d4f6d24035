package state_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"accessor/checkpoint"
	"accessor/forks"
	"accessor/locking"
	"accessor/state"
)

// tell gives an event in words: "reorg b2 from a2 at alfred, 2".
func tell(e state.Event) string {
	words := []string{e.Kind.String()}
	if e.Kind == state.EventGap {
		return "gap"
	}
	words = append(words, nameOf(e.Block.Hash))
	if e.Old.Hash != (forks.Hash{}) {
		words = append(words, "from "+nameOf(e.Old.Hash))
	}
	if e.Common.Hash != (forks.Hash{}) {
		words = append(words, "at "+nameOf(e.Common.Hash))
	}
	if e.Count > 0 {
		words = append(words, fmt.Sprint(e.Count))
	}
	if e.Owner != "" {
		words = append(words, "of "+e.Owner)
	}
	if len(e.Reasons) > 0 && e.Kind == state.EventLock {
		words = append(words, e.Reasons...)
	}
	return strings.Join(words, " ")
}

// next wants the next events to be these.
func (c *chain) next(sub *state.Subscription, want ...string) (last state.Event) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for _, w := range want {
		e, err := sub.Next(ctx)
		if err != nil {
			c.t.Fatalf("%v, want event %q", err, w)
		}
		if got := tell(e); got != w {
			c.t.Fatalf("event %q, want %q", got, w)
		}
		if e.Position != sub.Position() || e.Position <= last.Position {
			c.t.Fatalf("event %q has position %d after %d; the subscription is at %d", w, e.Position, last.Position, sub.Position())
		}
		if time.Since(e.Time).Abs() > time.Hour {
			c.t.Fatalf("event %q is of %v", w, e.Time)
		}
		last = e
	}
	return last
}

// silent wants nothing to have happened.
func (c *chain) silent(sub *state.Subscription) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Millisecond)
	defer cancel()
	if e, err := sub.Next(ctx); !errors.Is(err, context.DeadlineExceeded) {
		c.t.Fatalf("event %q, %v; want none", tell(e), err)
	}
}

func TestEventsTellTheStory(t *testing.T) {
	overEngines(t, func(t *testing.T, e engineCase) {
		c := newChain(t, e, noImages)
		all := c.Subscribe(state.Oldest)
		c.next(all, "block alfred", "head alfred")
		c.grow("alfred", "a1")
		c.next(all, "block a1", "head a1 from alfred")
		c.grow("a1", "a2")
		c.next(all, "block a2", "head a2 from a1")
		// A branch as long is no better; a longer one is.
		c.grow("alfred", "b1", "b2")
		c.next(all, "block b1", "block b2")
		c.silent(all)
		c.grow("b2", "b3")
		c.next(all, "block b3", "reorg b3 from a2 at alfred 2", "head b3 from a2")
		// What the node says counts.
		c.setHead("a1")
		c.next(all, "reorg a1 from b3 at alfred 3", "head a1 from b3")
		c.setHead("a1")
		c.grow("b3", "b4")
		c.next(all, "block b4")
		c.setHead("a2")
		c.next(all, "head a2 from a1")
		c.setHead("a1") // back on the same branch
		c.next(all, "reorg a1 from a2 at a1 1", "head a1 from a2")
		c.settleAt("b1")
		c.next(all, "finalized b1 from alfred 2", "reorg b4 from a1 at alfred 1", "head b4 from a1")
		c.settleAt("b1")
		c.settleAt("b2")
		c.next(all, "finalized b2 from b1")
		c.grow("b4", "b5")
		c.next(all, "block b5", "head b5 from b4")
		c.silent(all)
		if s := c.Stats(); s.Head != c.Head() || s.NewestEvent != all.Position() {
			t.Errorf("stats %+v; head %+v, position %d", s, c.Head(), all.Position())
		}
	})
}

func TestEventsOfAWalkBack(t *testing.T) {
	overEngines(t, func(t *testing.T, e engineCase) {
		c := newChain(t, e, noImages)
		c.grow("alfred", "a1", "a2", "a3")
		if err := c.Store().DropCheckpoint(hash("a2")); err != nil {
			t.Fatal(err)
		}
		sub := c.Subscribe(state.Newest, state.EventWalkBack, state.EventBlock)
		c.accept(c.block("b3", "a2"))
		got := c.next(sub, "walkback b3 from a1 1", "block b3")
		if got.Block.Parent != hash("a2") {
			t.Errorf("event %+v", got)
		}
		again := c.Subscribe(state.Oldest, state.EventWalkBack)
		if e := c.next(again, "walkback b3 from a1 1"); len(e.Reasons) != 1 || !strings.Contains(e.Reasons[0], "pruned") {
			t.Errorf("reasons %q", e.Reasons)
		}
	})
}

func TestEventsOfLocks(t *testing.T) {
	c := newChain(t, engines[0], noImages)
	sub := c.Subscribe(state.Newest, state.EventLock)
	lease := c.lock(1)
	ctx, cancel := context.WithCancel(context.Background())
	first := c.send(context.Background(), c.block("a1", "alfred"))
	c.next(sub, "lock a1 from elsewhere of operator waiting")
	second := c.send(ctx, c.block("b1", "alfred"))
	c.next(sub, "lock b1 from elsewhere of operator waiting")
	list := c.LockList()
	if len(list) != 1 || list[0].Slot != 1 || list[0].Owner != "operator" || list[0].Block != hash("elsewhere") || list[0].Waiters != 2 {
		t.Errorf("locks %+v", list)
	}
	if s := c.Stats(); s.Locks != 1 || s.LockWaiters != 2 || s.Importing != 2 {
		t.Errorf("stats %+v", s)
	}
	cancel()
	if err := c.fate(second); !errors.Is(err, locking.ErrLocked) {
		t.Error(err)
	}
	c.next(sub, "lock b1 from elsewhere of operator gave-up")
	lease.Release()
	c.wantNew(c.join(first), first.block)
	if e := c.next(sub, "lock a1 from elsewhere of operator granted"); e.Waited <= 0 {
		t.Errorf("waited %v", e.Waited)
	}
}

func TestEventsResumeAfterARestart(t *testing.T) {
	overEngines(t, func(t *testing.T, e engineCase) {
		c := newChain(t, e, noImages)
		c.grow("alfred", "a1", "a2")
		sub := c.Subscribe(state.Oldest)
		at := c.next(sub, "block alfred", "head alfred", "block a1").Position
		c.reopen()
		sub = c.Subscribe(at)
		c.next(sub, "head a1 from alfred", "block a2", "head a2 from a1")
		c.silent(sub)
		at = sub.Position()
		c.reopen()
		c.reopen()
		sub = c.Subscribe(at)
		c.silent(sub)
		c.grow("a2", "a3")
		c.next(sub, "block a3", "head a3 from a2")
		// A position of another store, of whichever kind.
		for _, foreign := range []uint64{2, 77, at + 1, sub.Position() + 1, 1 << 60} {
			if foreign > sub.Position() {
				gap := c.next(c.Subscribe(foreign), "gap")
				if gap.Last != max(sub.Position(), gap.Last) || gap.First != state.Oldest {
					t.Errorf("after %d: gap %d to %d", foreign, gap.First, gap.Last)
				}
				c.silent(c.Subscribe(gap.Position))
				continue
			}
			gap := c.next(c.Subscribe(foreign), "gap")
			if gap.First != foreign+1 || gap.Last != gap.Position {
				t.Errorf("after %d: gap %d to %d", foreign, gap.First, gap.Last)
			}
		}
	})
}

// A reader that is closed out in the middle of waiting, or comes late.
func TestEventsEndWithTheStore(t *testing.T) {
	c := newChain(t, engines[0], noImages)
	sub := c.Subscribe(state.Newest, state.EventPruned)
	done := make(chan error)
	go func() {
		_, err := sub.Next(context.Background())
		done <- err
	}()
	time.Sleep(10 * time.Millisecond)
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; !errors.Is(err, checkpoint.ErrClosed) {
		t.Error(err)
	}
	if _, err := c.Subscribe(state.Oldest).Next(context.Background()); !errors.Is(err, checkpoint.ErrClosed) {
		t.Error(err)
	}
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := sub.Next(ended); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// A slow reader holds no import up; it goes on from the journal, and gets a gap for
// what has been cut off there.
func TestSlowSubscriber(t *testing.T) {
	overEngines(t, func(t *testing.T, e engineCase) {
		opts := noImages
		opts.Events, opts.RecentEvents = 40, 4
		c := newChain(t, e, opts)
		slow, quick := c.Subscribe(state.Oldest), c.Subscribe(state.Newest, state.EventBlock)
		c.next(slow, "block alfred")
		c.next(slow, "head alfred")
		at := slow.Position()
		parent := "alfred"
		for i := range 12 {
			name := fmt.Sprint("n", i)
			c.grow(parent, name)
			c.next(quick, "block "+name)
			parent = name
		}
		// Most of it is on disk alone.
		for i := range 4 {
			c.next(slow, "block n"+fmt.Sprint(i))
			c.next(slow, fmt.Sprint("head n", i, " from ", map[bool]string{true: "alfred", false: fmt.Sprint("n", i-1)}[i == 0]))
		}
		for i := range 60 {
			c.setHead(fmt.Sprint("n", 10+i%2))
		}
		n, oldest, _ := c.Store().EventsKept()
		if n < 40 || n > 40+20 {
			t.Errorf("%d events are kept", n)
		}
		gap := c.next(c.Subscribe(slow.Position()), "gap")
		if gap.First != slow.Position()+1 || gap.Last != oldest-1 {
			t.Errorf("gap %d to %d after %d, kept from %d", gap.First, gap.Last, slow.Position(), oldest)
		}
		c.next(slow, "gap")
		if e, err := slow.Next(context.Background()); err != nil || e.Position != oldest {
			t.Errorf("event %+v, %v; want position %d", e, err, oldest)
		}
		c.reopen()
		if gap := c.next(c.Subscribe(at), "gap"); gap.First != at+1 {
			t.Errorf("gap from %d after %d", gap.First, at)
		}
	})
}

// Readers of all paces beside imports on several branches: each sees every block
// once, after its parent, in the same order, and each block can be read.
func TestEventsBesideImports(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	opts := noImages
	opts.RecentEvents = 4
	c := newChain(t, engines[0], opts)
	const branches, length, readers = 4, 12, 6
	ctx, cancel := context.WithCancel(context.Background())
	orders := make([][]string, readers)
	var wg, imports sync.WaitGroup
	for r := range readers {
		sub := c.Subscribe(state.Oldest, state.EventBlock)
		wg.Go(func() {
			seen := map[forks.Hash]bool{}
			for len(seen) < branches*length+1 {
				e, err := sub.Next(ctx)
				if err != nil || e.Kind != state.EventBlock || seen[e.Block.Hash] || len(seen) > 0 && !seen[e.Block.Parent] {
					t.Errorf("reader %d: event %q at %d, %v", r, tell(e), e.Position, err)
					return
				}
				if b, err := c.Block(e.Block.Hash); err != nil || b != e.Block {
					t.Errorf("reader %d: block of event %q: %+v, %v", r, tell(e), b, err)
				}
				seen[e.Block.Hash] = true
				orders[r] = append(orders[r], nameOf(e.Block.Hash))
				time.Sleep(time.Duration(r) * time.Millisecond)
			}
		})
	}
	for b := range branches {
		imports.Go(func() {
			parent := "alfred"
			for i := range length {
				name := fmt.Sprintf("%c%d", 'a'+b, i)
				block := c.block(name, parent)
				if _, err := c.Import(ctx, block); err != nil {
					t.Error(err)
					return
				}
				c.take(block)
				parent = name
			}
		})
	}
	imports.Wait()
	wg.Wait()
	cancel()
	for r := range orders {
		if strings.Join(orders[r], " ") != strings.Join(orders[0], " ") {
			t.Errorf("reader %d: %v\nreader 0: %v", r, orders[r], orders[0])
		}
	}
	// Beside the blocks the head of the last event is the head.
	c.until("the head's event", func() bool {
		last := c.Store().LastHead()
		return last != nil && last.Block == c.Head()
	})
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}

func TestWaitBlock(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	c := newChain(t, engines[0], noImages)
	ctx := context.Background()
	if b, err := c.WaitBlock(ctx, hash("alfred")); err != nil || b.Hash != hash("alfred") {
		t.Fatalf("%+v, %v", b, err)
	}
	type answer struct {
		b   forks.Block
		err error
	}
	wait := func(ctx context.Context, name string) chan answer {
		out := make(chan answer, 1)
		go func() {
			b, err := c.WaitBlock(ctx, hash(name))
			out <- answer{b, err}
		}()
		return out
	}
	one, two, never := wait(ctx, "a1"), wait(ctx, "a1"), wait(ctx, "never")
	short, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
	defer cancel()
	if got := <-wait(short, "a1"); !errors.Is(got.err, state.ErrUnknownBlock) || !errors.Is(got.err, context.DeadlineExceeded) {
		t.Errorf("%+v", got)
	}
	c.grow("alfred", "a1")
	for _, w := range []chan answer{one, two} {
		if got := <-w; got.err != nil || got.b.Hash != hash("a1") {
			t.Errorf("%+v", got)
		}
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if got := <-never; !errors.Is(got.err, checkpoint.ErrClosed) {
		t.Errorf("%+v", got)
	}
	if _, err := c.WaitBlock(ctx, hash("a1")); !errors.Is(err, checkpoint.ErrClosed) {
		t.Error(err)
	}
}

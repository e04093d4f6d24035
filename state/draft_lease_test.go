package state_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"accessor/checkpoint"
	"accessor/forks"
	"accessor/locking"
	"accessor/state"
)

// A finished block goes into a reserved slot at once, beside the draft.
func TestImportIntoAReservedSlot(t *testing.T) {
	overEngines(t, func(t *testing.T, e engineCase) {
		c := newChain(t, e, noImages)
		c.grow("alfred", "b1")
		d := c.begin("b1", state.DraftOptions{Owner: "author", TTL: time.Minute})
		d.put(padded("by the draft"), "x")
		c.grow("b1", "finished", "its child")
		d.commit("drafted")
		c.wantStates()
	})
}

// A draft on a block whose import is on its way waits for it.
func TestDraftOnAParentBeingImported(t *testing.T) {
	c := newChain(t, engines[0], noImages)
	for _, ok := range []bool{true, false} {
		name := fmt.Sprint("parent ", ok)
		stop := c.haltAt(making("delta"))
		f := c.send(context.Background(), c.block(name, "alfred"))
		stop.wait()
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if _, err := c.BeginDraft(ctx, hash(name), 2, state.DraftOptions{}); !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled: %v", err)
		}
		begun := make(chan error, 1)
		go func() {
			_, err := c.BeginDraft(context.Background(), hash(name), 2, state.DraftOptions{Owner: "author"})
			begun <- err
		}()
		select {
		case err := <-begun:
			t.Fatalf("didn't wait: %v", err)
		case <-time.After(30 * time.Millisecond):
		}
		if ok {
			stop.free(nil)
			c.wantNew(c.join(f), f.block)
			if err := <-begun; err != nil {
				t.Error(err)
			}
		} else {
			stop.free(errors.New("disk is full"))
			if err := c.fate(f); err == nil {
				t.Error("imported")
			}
			if err := <-begun; !errors.Is(err, state.ErrUnknownParent) {
				t.Errorf("error %v", err)
			}
		}
	}
}

func TestDraftExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, open := countViews(engines[0])
		c := newChain(t, e, noImages)
		c.grow("alfred", "b1")
		d := c.begin("b1", state.DraftOptions{Owner: "author"})
		d.put(padded("k"), "v")
		if info := d.info(); !info.Expires.Equal(time.Now().Add(state.DefaultDraftTTL)) {
			t.Errorf("info %+v", info)
		}
		time.Sleep(29 * time.Second)
		if err := d.Renew(60 * time.Second); err != nil {
			t.Fatal(err)
		}
		time.Sleep(59 * time.Second)
		if err := d.Renew(0); err != nil {
			t.Fatal(err)
		}
		time.Sleep(29 * time.Second)
		synctest.Wait()
		if info := d.info(); info.Age != 117*time.Second || !info.Expires.Equal(time.Now().Add(time.Second)) {
			t.Errorf("info %+v", info)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		// By itself: nobody has touched it.
		if n := len(c.Drafts()); n != 0 {
			t.Errorf("%d drafts", n)
		}
		d.wantOver(state.ErrDraftExpired)
		short := c.begin("b1", state.DraftOptions{Owner: "somebody else", TTL: time.Millisecond})
		time.Sleep(time.Millisecond)
		synctest.Wait()
		short.wantOver(state.ErrDraftExpired)
		c.wantStates()
		if err := c.Close(); err != nil || open.Load() != 0 {
			t.Errorf("%v; %d states are still open", err, open.Load())
		}
	})
}

// A commit waits for the slot as an import does, and meanwhile the draft neither
// expires nor changes.
func TestCommitOutlastsTheLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newChain(t, engines[0], noImages)
		c.grow("alfred", "b1")
		d := c.begin("b1", state.DraftOptions{Owner: "author", TTL: time.Second})
		d.put(padded("k"), "v")
		lease := c.lock(2)
		root := d.state.root(t)
		var res state.Result
		var err error
		done := make(chan struct{})
		go func() {
			defer close(done)
			res, err = d.Commit(context.Background(), hash("b2"), &root, nil)
		}()
		synctest.Wait()
		time.Sleep(time.Hour)
		synctest.Wait()
		if info := d.info(); !info.Expires.IsZero() {
			t.Errorf("info %+v", info)
		}
		d.wantRange("", "")
		d.wantKey(padded("k"))
		for name, call := range map[string]func() error{
			"Put":          func() error { return d.Put([]byte(padded("k")), nil) },
			"Delete":       func() error { return d.Delete([]byte(padded("k"))) },
			"DeletePrefix": func() error { _, err := d.DeletePrefix(context.Background(), nil); return err },
			"Savepoint":    func() error { _, err := d.Savepoint(); return err },
			"Rollback":     func() error { return d.Rollback(1) },
			"Commit":       func() error { _, err := d.Commit(context.Background(), hash("x"), nil, nil); return err },
			"Drop":         func() error { return d.Drop() },
		} {
			if err := call(); !errors.Is(err, state.ErrDraftCommitting) {
				t.Errorf("%s: %v", name, err)
			}
		}
		if _, err := c.BeginDraft(context.Background(), hash("b1"), 2, state.DraftOptions{}); !errors.Is(err, state.ErrReserved) {
			t.Errorf("the slot is free: %v", err)
		}
		lease.Release()
		<-done
		if err != nil {
			t.Fatal(err)
		}
		d.committed("b2", res)
		c.wantStates()
		time.Sleep(time.Hour)
	})
}

// A commit that fails leaves the draft as it was, for what its lease had left.
func TestFailedCommitCanBeTriedAgain(t *testing.T) {
	for _, test := range []struct {
		name string
		// prepare spoils the commit; it is given its context.
		prepare func(c *chain, d *draft, b *state.Block, cancel func())
		want    error
	}{
		{"wrong root", func(_ *chain, _ *draft, b *state.Block, _ func()) { b.PostRoot = &other }, state.ErrWrongRoot},
		{"conflict", func(_ *chain, _ *draft, b *state.Block, _ func()) { b.Hash = hash("b1") }, state.ErrConflict},
		{"header of another", func(_ *chain, _ *draft, b *state.Block, _ func()) { b.Header = header(hash("x"), forks.Hash{}, 9) }, state.ErrInvalid},
		{"cancelled", func(_ *chain, _ *draft, _ *state.Block, cancel func()) { cancel() }, context.Canceled},
	} {
		for _, rest := range []time.Duration{time.Second, 20 * time.Second} {
			t.Run(fmt.Sprint(test.name, ", rest ", rest), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					c := newChain(t, engines[0], noImages)
					c.grow("alfred", "b1")
					d := c.begin("b1", state.DraftOptions{Owner: "author"})
					d.put(padded("k"), "v")
					time.Sleep(state.DefaultDraftTTL - rest)
					ctx, cancel := context.WithCancel(context.Background())
					defer cancel()
					root := d.state.root(t)
					b := &state.Block{Hash: hash("b2"), PostRoot: &root}
					test.prepare(c, d, b, cancel)
					before := c.footprint()
					_, err := d.Commit(ctx, b.Hash, b.PostRoot, b.Header)
					if !errors.Is(err, test.want) || !strings.Contains(err.Error(), d.ID()) {
						t.Fatalf("error %v, want %v", err, test.want)
					}
					if after := c.footprint(); strings.Join(before, "\n") != strings.Join(after, "\n") {
						t.Errorf("left %s", after)
					}
					left := max(rest, 5*time.Second)
					if got := time.Until(d.info().Expires); got > left || got < left-time.Second {
						t.Errorf("lease of %v, want %v", got, left)
					}
					d.wantRange("", "")
					d.put(padded("k"), "better")
					d.commit("b2")
					c.wantStates()

					// And where nobody tries again, it expires.
					d = c.begin("b2", state.DraftOptions{})
					if _, err := d.Commit(context.Background(), hash("b3"), &other, nil); err == nil {
						t.Error("committed")
					}
					time.Sleep(time.Minute)
					synctest.Wait()
					d.wantOver(state.ErrDraftExpired)
				})
			})
		}
	}
}

// A renewal during a commit counts from the moment at which it fails.
func TestRenewDuringCommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newChain(t, engines[0], noImages)
		d := c.begin("alfred", state.DraftOptions{TTL: time.Second})
		ctx, cancel := context.WithCancel(context.Background())
		lease := c.lock(1)
		done := make(chan error)
		go func() {
			_, err := d.Commit(ctx, hash("b1"), nil, nil)
			done <- err
		}()
		synctest.Wait()
		time.Sleep(10 * time.Second)
		if err := d.Renew(40 * time.Second); err != nil {
			t.Error(err)
		}
		time.Sleep(10 * time.Second)
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) || !errors.Is(err, locking.ErrLocked) {
			t.Errorf("error %v", err)
		}
		synctest.Wait()
		if got := time.Until(d.info().Expires); got != 40*time.Second {
			t.Errorf("lease of %v", got)
		}
		lease.Release()
	})
}

// A block that came in meanwhile, the very one, is what the commit wanted.
func TestCommitOfAHeldBlock(t *testing.T) {
	c := newChain(t, engines[0], noImages)
	b := c.block("b1", "alfred")
	d := c.begin("alfred", state.DraftOptions{})
	for _, p := range b.Puts {
		d.put(string(p.Key), string(p.Value))
	}
	for _, k := range b.Dels {
		d.delete(string(k))
	}
	c.accept(b)
	res, err := d.Commit(context.Background(), b.Hash, b.PostRoot, nil)
	if err != nil || !res.Held {
		t.Errorf("%+v, %v", res, err)
	}
	d.wantOver(state.ErrDraftOver)
	c.wantStates()
}

// Where a commit and the expiry meet, one of them wins, wholly.
func TestCommitRacesExpiry(t *testing.T) {
	c := newChain(t, engines[0], noImages)
	committed, expired := 0, 0
	// How long before the expiry the commit comes: less after it has won, more after
	// it has lost, so that the two meet.
	lead := time.Duration(0)
	for i := 0; i < 500 && (committed < 10 || expired < 10); i++ {
		name := fmt.Sprint("b", i)
		d := c.begin("alfred", state.DraftOptions{Owner: name, TTL: 10 * time.Millisecond})
		time.Sleep(10*time.Millisecond - lead)
		_, err := d.Commit(context.Background(), hash(name), nil, nil)
		_, held := c.Block(hash(name))
		switch {
		case err == nil && held == nil:
			committed++
			lead -= 100 * time.Microsecond
			d.wantOver(state.ErrDraftOver)
		case errors.Is(err, state.ErrDraftExpired) && held != nil:
			expired++
			lead = min(lead+100*time.Microsecond, 10*time.Millisecond)
			c.until("the draft to go", func() bool {
				_, err := c.DraftByID(d.ID())
				return errors.Is(err, state.ErrUnknownDraft)
			})
			d.wantOver(state.ErrDraftExpired)
		default:
			t.Fatalf("commit: %v; block: %v", err, held)
		}
	}
	t.Logf("%d committed, %d expired", committed, expired)
	if committed == 0 || expired == 0 {
		t.Errorf("%d committed, %d expired: both were meant to happen", committed, expired)
	}
}

// Close ends all drafts, those that are being committed and walked over too.
func TestCloseWithOpenDrafts(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	overEngines(t, func(t *testing.T, e engineCase) {
		e, open := countViews(e)
		c := newChain(t, e, noImages)
		c.grow("alfred", "b1", "b2")
		idle := c.begin("b1", state.DraftOptions{})
		idle.put(padded("k"), "v")
		committing := c.begin("b2", state.DraftOptions{})
		c.lock(3)
		done := make(chan error)
		go func() {
			_, err := committing.Commit(context.Background(), hash("b3"), nil, nil)
			done <- err
		}()
		c.waiters(3, 1)
		closed := make(chan error)
		var last error
		n := 0
		for _, err := range c.begin("alfred", state.DraftOptions{}).All(context.Background(), nil, nil) {
			if n++; n == 1 {
				go func() { closed <- c.Close() }()
				if err := <-done; !errors.Is(err, checkpoint.ErrClosed) {
					t.Errorf("commit: %v", err)
				}
				if err := <-closed; err != nil {
					t.Error(err)
				}
			}
			last = err
		}
		if n != 2 || !errors.Is(last, state.ErrDraftOver) {
			t.Errorf("%d pairs, then %v", n, last)
		}
		for _, d := range []*draft{idle, committing} {
			d.wantOver(state.ErrDraftOver)
			d.wantOver(checkpoint.ErrClosed)
		}
		if open.Load() != 0 {
			t.Errorf("%d states are still open", open.Load())
		}
		if _, err := c.BeginDraft(context.Background(), hash("b1"), 9, state.DraftOptions{}); !errors.Is(err, checkpoint.ErrClosed) {
			t.Errorf("begun after Close: %v", err)
		}
		c.reopen()
		if n := len(c.Drafts()); n != 0 {
			t.Errorf("%d drafts after a restart", n)
		}
		c.wantStates()
	})
}

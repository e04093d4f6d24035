package locking_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"accessor/forks"
	"accessor/locking"

	"github.com/google/go-cmp/cmp"
)

func TestFirstComeFirstServed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tb := newTable(t)
		lease := tb.lock(7, "alfred")
		names := []string{"benny", "chase", "dian", "elly"}
		var queue []<-chan result
		for _, name := range names {
			queue = append(queue, tb.wait(t.Context(), 7, name))
		}
		tb.wantOwners("7:alfred+4")
		for i, name := range names {
			lease.Release()
			lease = tb.mustGet(queue[i])
			tb.wantOwners(fmt.Sprintf("7:%s+%d", name, len(names)-1-i))
		}
		lease.Release()
		tb.wantOwners()
	})
}

// Between a release and the moment the first waiter runs, nobody else may take
// the slot.
func TestNobodyGetsInBeforeTheFirstWaiter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tb := newTable(t)
		lease := tb.lock(7, "alfred")
		boris := tb.wait(t.Context(), 7, "boris")
		lease.Release()
		_, err := tb.TryLock(7, hash("x"), "barger")
		if got := asLocked(t, err); got.Owner != "boris" {
			t.Errorf("locked by %q, want boris", got.Owner)
		}
		tb.mustGet(boris).Release()
		tb.wantOwners()
	})
}

func TestSlotsAreIndependent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tb := newTable(t)
		seven, last := tb.lock(7, "alfred"), tb.lock(forks.MaxSlot, "boris")
		zero := tb.lock(0, "chris")
		boris := tb.wait(t.Context(), 7, "boris")
		tb.wantOwners("0:chris+0", "7:alfred+1", "4294967295:boris+0")
		last.Release()
		zero.Release()
		tb.wantOwners("7:alfred+1")
		seven.Release()
		tb.mustGet(boris).Release()
		tb.wantOwners()
	})
}

func TestLockOfAFreeSlotDoesNotWait(t *testing.T) {
	tb := newTable(t)
	lease, err := tb.Lock(t.Context(), 7, hash("b"), "alfred")
	if err != nil {
		t.Fatal(err)
	}
	if lease.Slot() != 7 || lease.Block() != hash("b") {
		t.Errorf("lease of slot %d, block %s", lease.Slot(), lease.Block())
	}
	lease.Release()
	tb.wantOwners()
}

func TestCancelledWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tb := newTable(t)
		lease := tb.lock(7, "alfred")
		time.Sleep(10 * time.Second)

		shutdown := errors.New("shutting down")
		ctx, cancel := context.WithCancelCause(t.Context())
		boris := tb.wait(ctx, 7, "boris")
		chris := tb.wait(t.Context(), 7, "chris")
		time.Sleep(2500 * time.Millisecond)
		cancel(shutdown)

		got := tb.mustFail(boris)
		if !errors.Is(got, shutdown) {
			t.Errorf("error %v doesn't wrap the context's cause", got)
		}
		if got.Slot != 7 || got.Owner != "alfred" || got.Block != hash("block of alfred") || got.Waiters != 1 ||
			got.Age != 12500*time.Millisecond || got.Waited != 2500*time.Millisecond {
			t.Errorf("error %+v", got)
		}
		want := `lock slot 7: locked by "alfred" for 12.5s, writing block ` + hash("block of alfred").String() +
			"; gave up after 2.5s: shutting down"
		if got.Error() != want {
			t.Errorf("text\n%s, want\n%s", got, want)
		}

		tb.wantOwners("7:alfred+1")
		lease.Release()
		tb.mustGet(chris).Release()
		tb.wantOwners()
	})
}

func TestDeadlineOfAWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tb := newTable(t)
		defer tb.lock(7, "alfred").Release()
		ctx, cancel := context.WithTimeout(t.Context(), 6*time.Second)
		defer cancel()
		_, err := tb.Lock(ctx, 7, hash("b"), "boris")
		if got := asLocked(t, err); !errors.Is(err, context.DeadlineExceeded) || got.Waited != 6*time.Second {
			t.Errorf("error %v, waited %v", err, got.Waited)
		}
		tb.wantOwners("7:alfred+0")
	})
}

func TestContextThatHasEndedBefore(t *testing.T) {
	tb := newTable(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := tb.Lock(ctx, 7, hash("b"), "boris")
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	if errors.Is(err, locking.ErrLocked) {
		t.Errorf("error %v says locked; the slot was free", err)
	}
	tb.wantOwners()
}

// endsAt is a context that ends at a chosen moment of Lock: after the wait
// began, it has ended whenever it is asked.
type endsAt struct {
	context.Context
	done  chan struct{}
	asked int
	ended func() // called when Lock sees the end
}

func (c *endsAt) Done() <-chan struct{} { return c.done }

func (c *endsAt) Err() error {
	if c.asked++; c.asked == 1 {
		return nil // before the wait
	}
	c.ended()
	return context.Canceled
}

// A waiter that was handed the slot and cancelled before it could look must
// pass the slot on: to the next, or to nobody.
func TestHandOverToACancelledWaiter(t *testing.T) {
	tests := []struct {
		name string
		// act makes the waiter run, with the hand-over done by the time it looks.
		act func(ctx *endsAt, lease *locking.Lease)
	}{
		{"woken by the hand-over", func(_ *endsAt, lease *locking.Lease) {
			lease.Release()
		}},
		{"woken by the cancellation", func(ctx *endsAt, lease *locking.Lease) {
			ctx.ended = lease.Release
			close(ctx.done)
		}},
	}
	for _, test := range tests {
		for _, next := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, next %v", test.name, next), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					tb := newTable(t)
					lease := tb.lock(7, "alfred")
					ctx := &endsAt{Context: t.Context(), done: make(chan struct{}), ended: func() {}}
					boris := tb.wait(ctx, 7, "boris")
					var chris <-chan result
					if next {
						chris = tb.wait(t.Context(), 7, "chris")
					}
					time.Sleep(time.Second)
					test.act(ctx, lease)
					got := tb.mustFail(boris)
					if !errors.Is(got, context.Canceled) || got.Owner != "alfred" || got.Age != time.Second {
						t.Errorf("error %v", got)
					}
					if next {
						tb.wantOwners("7:chris+0")
						tb.mustGet(chris).Release()
					}
					tb.wantOwners()
				})
			})
		}
	}
}

// The lock passes through a whole queue of waiters cancelled at once.
func TestHandOverThroughManyCancelledWaiters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tb := newTable(t)
		lease := tb.lock(7, "alfred")
		ctx, cancel := context.WithCancel(t.Context())
		var quitters []<-chan result
		for i := range 20 {
			quitters = append(quitters, tb.wait(ctx, 7, fmt.Sprint("quitter ", i)))
		}
		stayer := tb.wait(t.Context(), 7, "stayer")
		cancel()
		lease.Release()
		for _, quitter := range quitters {
			tb.mustFail(quitter)
		}
		tb.mustGet(stayer).Release()
		tb.wantOwners()
	})
}

func TestAgeStartsWhenTheLockIsGiven(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tb := newTable(t)
		begin := time.Now()
		lease := tb.lock(7, "alfred")
		boris := tb.wait(t.Context(), 7, "boris")
		time.Sleep(5 * time.Second)

		_, err := tb.TryLock(7, hash("x"), "chris")
		got := asLocked(t, err)
		if got.Age != 5*time.Second || got.Waited != 0 || got.Cause != nil || got.Waiters != 1 {
			t.Errorf("error %+v", got)
		}
		if text := got.Error(); strings.Contains(text, "gave up") || !strings.Contains(text, `"alfred" for 5s`) {
			t.Errorf("text %s", text)
		}

		lease.Release()
		defer tb.mustGet(boris).Release()
		time.Sleep(time.Second)
		info, ok := tb.LockedBy(7)
		want := locking.Info{Slot: 7, Block: hash("block of boris"), Owner: "boris", Since: begin.Add(5 * time.Second)}
		if diff := cmp.Diff(want, info); !ok || diff != "" {
			t.Errorf("locked %v (-want +got):\n%s", ok, diff)
		}
	})
}

func TestWritingNamesTheVeryBlock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tb := newTable(t)
		lease := tb.lock(7, "alfred")
		boris := tb.wait(t.Context(), 7, "boris")
		for _, test := range []struct {
			block string
			slot  forks.Slot
			want  bool
		}{
			{"block of alfred", 7, true},
			{"block of alfred", 8, false}, // another slot
			{"block of boris", 7, false},  // a sibling that only waits
			{"block of chris", 7, false},
		} {
			info, ok := tb.Writing(hash(test.block), test.slot)
			if ok != test.want || ok && info.Owner != "alfred" || !ok && info != (locking.Info{}) {
				t.Errorf("writing %s at %d: %v, %+v", test.block, test.slot, ok, info)
			}
		}
		lease.Release()
		tb.mustGet(boris).Release()
		if _, ok := tb.LockedBy(7); ok {
			t.Error("locked although all released")
		}
	})
}

func TestOnlyTheFirstReleaseCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tb := newTable(t)
		lease := tb.lock(7, "alfred")
		boris := tb.wait(t.Context(), 7, "boris")
		chris := tb.wait(t.Context(), 7, "chris")
		var all sync.WaitGroup
		for range 10 {
			all.Go(lease.Release)
		}
		all.Wait()
		next := tb.mustGet(boris)
		tb.wantOwners("7:boris+1")
		next.Release()
		next.Release()
		last := tb.mustGet(chris)
		lease.Release()
		next.Release()
		tb.wantOwners("7:chris+0")
		last.Release()
		tb.wantOwners()
		last.Release()
		tb.wantOwners()
	})
}

// Many owners lock, give up and release at random; the race detector and a
// count per slot watch that no two have one slot.
func TestExclusiveUnderLoad(t *testing.T) {
	const slots, workers, rounds = 4, 32, 300
	tb := newTable(t)
	var inside [slots]atomic.Int32
	var written [slots]int // without any lock but the slot's: for the race detector
	var locked, refused atomic.Int64
	var all sync.WaitGroup
	for worker := range workers {
		all.Go(func() {
			random := rand.New(rand.NewPCG(1, uint64(worker)))
			for range rounds {
				slot := random.IntN(slots)
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(random.IntN(300))*time.Microsecond)
				lease, err := tb.Lock(ctx, forks.Slot(slot), hash("b"), "worker")
				if err == nil {
					if n := inside[slot].Add(1); n != 1 {
						t.Errorf("%d owners of slot %d", n, slot)
					}
					written[slot]++
					time.Sleep(time.Duration(random.IntN(20)) * time.Microsecond)
					inside[slot].Add(-1)
					lease.Release()
					locked.Add(1)
				} else {
					refused.Add(1)
				}
				cancel()
			}
		})
	}
	all.Wait()
	t.Logf("%d locked, %d gave up", locked.Load(), refused.Load())
	if locked.Load() == 0 || refused.Load() == 0 {
		t.Errorf("%d locked, %d gave up: both were meant to happen", locked.Load(), refused.Load())
	}
	total := 0
	for _, n := range written {
		total += n
	}
	if int64(total) != locked.Load() {
		t.Errorf("%d writes for %d locks", total, locked.Load())
	}
	tb.wantOwners()
}

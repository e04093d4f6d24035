package locking_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"

	"accessor/forks"
	"accessor/locking"

	"github.com/google/go-cmp/cmp"
)

// table is a lock table with verbs for stories: blocks and owners are names.
type table struct {
	*locking.Table
	t *testing.T
}

func newTable(t *testing.T) table { return table{locking.New(), t} }

func hash(name string) (h forks.Hash) {
	copy(h[:], name)
	return h
}

// lock locks a slot that must be free.
func (tb table) lock(slot forks.Slot, owner string) *locking.Lease {
	tb.t.Helper()
	lease, err := tb.TryLock(slot, hash("block of "+owner), owner)
	if err != nil {
		tb.t.Fatal(err)
	}
	return lease
}

// result is what a Lock came to.
type result struct {
	lease *locking.Lease
	err   error
}

// wait starts a Lock that has to wait and returns when it does.
func (tb table) wait(ctx context.Context, slot forks.Slot, owner string) <-chan result {
	done := make(chan result, 1)
	go func() {
		lease, err := tb.Lock(ctx, slot, hash("block of "+owner), owner)
		done <- result{lease, err}
	}()
	synctest.Wait()
	select {
	case <-done:
		tb.t.Fatalf("%s didn't wait for slot %d", owner, slot)
	default:
	}
	return done
}

// mustGet takes the lease that a Lock must have got by now.
func (tb table) mustGet(done <-chan result) *locking.Lease {
	tb.t.Helper()
	synctest.Wait()
	select {
	case r := <-done:
		if r.err != nil {
			tb.t.Fatal(r.err)
		}
		return r.lease
	default:
		tb.t.Fatal("still waits")
		return nil
	}
}

// mustFail takes the error with which a Lock must have ended by now.
func (tb table) mustFail(done <-chan result) *locking.LockedError {
	tb.t.Helper()
	synctest.Wait()
	select {
	case r := <-done:
		if r.err == nil {
			tb.t.Fatal("locked although cancelled")
		}
		return asLocked(tb.t, r.err)
	default:
		tb.t.Fatal("still waits")
		return nil
	}
}

func asLocked(t *testing.T, err error) *locking.LockedError {
	t.Helper()
	if !errors.Is(err, locking.ErrLocked) {
		t.Fatalf("error %v, want ErrLocked", err)
	}
	var locked *locking.LockedError
	if !errors.As(err, &locked) {
		t.Fatalf("error of type %T", err)
	}
	return locked
}

// wantOwners checks who has which slot: "slot:owner+waiters", in order.
func (tb table) wantOwners(want ...string) {
	tb.t.Helper()
	got := []string{}
	for _, info := range tb.Locks() {
		got = append(got, fmt.Sprintf("%d:%s+%d", info.Slot, info.Owner, info.Waiters))
	}
	if diff := cmp.Diff(append([]string{}, want...), got); diff != "" {
		tb.t.Fatalf("locks (-want +got):\n%s", diff)
	}
}

package api

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"accessor/api/access"
	"accessor/state"
)

// newReplays makes a budget of 100 blocks, 10 a second, with a clock that is set.
func newReplays(rebuilds int) (*replays, *time.Time) {
	clock := time.Unix(1_700_000_000, 0)
	r := &replays{}
	r.init(&Limits{Replay: 100, ReplayRate: 10, Rebuilds: rebuilds})
	r.now = func() time.Time { return clock }
	return r, &clock
}

func clientContext(c access.Client) context.Context {
	return access.WithClient(context.Background(), c)
}

// carla reads and albert is somebody else.
var (
	carla  = clientContext(access.Client{Roles: access.Of(access.Auditing), UID: 1})
	albert = clientContext(access.Client{Roles: access.Of(access.Auditing), UID: 2})
)

// refusedFor wants a fault of kind replay-limit, and gives its Retry-After.
func refusedFor(t *testing.T, err error, limit string) time.Duration {
	t.Helper()
	var f *fault
	if !errors.As(err, &f) || f.Kind != "replay-limit" || f.Status != 429 || f.limit != limit {
		t.Fatalf("%v, want a refusal by the limit %q", err, limit)
	}
	return f.retry
}

// TestReplayBudget: a client's blocks are counted, come back with time, and are its own.
func TestReplayBudget(t *testing.T) {
	r, clock := newReplays(4)
	steps := []struct {
		after  time.Duration
		ctx    context.Context
		blocks int
		unused bool
		retry  time.Duration // 0 where it is allowed
	}{
		{0, carla, 60, false, 0},
		{0, carla, 41, false, time.Second}, // 40 are left
		{0, carla, 1, false, 0},            // takes 16
		{0, carla, 24, true, 0},            // are given back
		{0, carla, 24, false, 0},
		{0, carla, 1, false, 2 * time.Second},
		{0, albert, 100, false, 0}, // has a budget of its own
		{1600 * time.Millisecond, carla, 16, false, 0},
		{time.Hour, carla, 500, false, 0}, // more than there can be: all, and a debt of 400
		{10 * time.Second, carla, 1, false, 32 * time.Second},
		{32 * time.Second, carla, 1, false, 0},
	}
	for i, s := range steps {
		*clock = clock.Add(s.after)
		done, err := r.guard(s.ctx, state.Replay{Blocks: s.blocks})
		switch {
		case s.retry > 0:
			if retry := refusedFor(t, err, ""); retry != s.retry {
				t.Errorf("step %d: try again in %v, want %v", i, retry, s.retry)
			}
		case err != nil:
			t.Errorf("step %d: %v", i, err)
		default:
			done(!s.unused)
		}
	}
}

// TestReplaysAtOnce: reads wait for a turn, and are refused after a while, without cost;
// imports wait for turns of their own; the accessor itself for nobody.
func TestReplaysAtOnce(t *testing.T) {
	r, _ := newReplays(1)
	work := state.Replay{Blocks: 50}
	done, err := r.guard(carla, work)
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	_, err = r.guard(albert, work)
	if retry := refusedFor(t, err, limitRebuilds); retry < time.Second || time.Since(began) < replayWait {
		t.Errorf("refused after %v, try again in %v", time.Since(began), retry)
	}
	gone, cancel := context.WithCancel(albert)
	cancel()
	if _, err := r.guard(gone, work); !errors.Is(err, context.Canceled) {
		t.Errorf("who has gone gets %v", err)
	}
	if _, err := r.guard(context.Background(), work); err != nil {
		t.Errorf("the accessor itself: %v", err)
	}
	done(true)
	for range 2 { // 100 blocks: nothing was taken for what was refused
		if done, err = r.guard(albert, work); err != nil {
			t.Fatal(err)
		}
		done(true)
	}
}

// TestReplaysOfImports: those of importing clients cost nothing, and wait as long as
// the import does; those of others are as reads.
func TestReplaysOfImports(t *testing.T) {
	r, _ := newReplays(1)
	node := clientContext(access.Client{Roles: access.Of(access.Importing)})
	work := state.Replay{Blocks: 1000, Import: true}
	done, err := r.guard(node, work)
	if err != nil {
		t.Fatal(err)
	}
	read, err := r.guard(node, state.Replay{Blocks: 10}) // reads have turns of their own
	if err != nil {
		t.Fatal(err)
	}
	read(true)
	waiting, cancel := context.WithTimeout(node, 10*time.Millisecond)
	defer cancel()
	if _, err := r.guard(waiting, work); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("an import that isn't waited for any longer: %v", err)
	}
	done(true)
	for range 5 {
		if done, err = r.guard(node, work); err != nil {
			t.Fatal(err)
		}
		done(true)
	}
	producer := clientContext(access.Client{Roles: access.Of(access.Producing), UID: 9})
	if done, err = r.guard(producer, work); err != nil {
		t.Fatal(err)
	}
	done(true)
	_, err = r.guard(producer, work)
	refusedFor(t, err, "")
}

// TestReplayAccountsAreFew: clients that owe nothing are forgotten.
func TestReplayAccountsAreFew(t *testing.T) {
	r, clock := newReplays(1)
	for i := range 10 * mostAccounts {
		if wait := r.take(fmt.Sprint("client ", i), 20); wait > 0 {
			t.Fatalf("client %d waits %v", i, wait)
		}
		*clock = clock.Add(20 * time.Millisecond)
	}
	if n := len(r.accounts); n > mostAccounts {
		t.Errorf("%d clients are remembered, want at most %d", n, mostAccounts)
	}
}

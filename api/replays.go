package api

import (
	"context"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"accessor/api/access"
	"accessor/state"
)

const (
	// leastReplay is what a replay costs at least, in blocks: opening the database takes
	// as long as that many.
	leastReplay = 16
	// replayWait is how long a read waits for others' replays to be done.
	replayWait = 2 * time.Second
	// mostAccounts is from how many clients on those are forgotten who owe nothing.
	mostAccounts = 1024
)

// replays bounds the work of bringing databases to blocks without a checkpoint: of each
// client by a budget of blocks that refills, of all together by how many run at once.
type replays struct {
	most, rate float64 // a client's blocks, and blocks that come back a second
	now        func() time.Time
	// Imports have turns of their own: reads never keep them waiting.
	reads, imports *semaphore.Weighted

	mu       sync.Mutex
	accounts map[string]account // by client; who isn't there has all; guarded by mu
}

// account is what a client had left at a time.
type account struct {
	left float64 // blocks
	at   time.Time
}

func (r *replays) init(l *Limits) {
	r.most, r.rate, r.now = float64(l.Replay), float64(l.ReplayRate), time.Now
	r.reads, r.imports = semaphore.NewWeighted(int64(l.Rebuilds)), semaphore.NewWeighted(int64(l.Rebuilds))
	r.accounts = make(map[string]account)
}

// guard is a state.ReplayGuard. Errors: a fault of kind replay-limit, and that of ctx.
func (r *replays) guard(ctx context.Context, work state.Replay) (done func(did bool), err error) {
	client := access.ClientOf(ctx)
	switch {
	case client.Roles == 0: // the accessor by itself: a client without roles gets this far nowhere
		return func(bool) {}, nil
	case work.Import && client.May(access.Import):
		if err := r.imports.Acquire(ctx, 1); err != nil {
			return nil, context.Cause(ctx)
		}
		return func(bool) { r.imports.Release(1) }, nil
	}
	who, cost := whoIs(&client), float64(max(work.Blocks, leastReplay))
	if wait := r.take(who, cost); wait > 0 {
		f := newFault("replay-limit", "block %s has no checkpoint any more: %d blocks would be replayed for it, "+
			"and this client has used up its share; in %v it has enough again", work.Block.Hash, work.Blocks, wait)
		f.retry = wait
		return nil, f
	}
	if err := r.turn(ctx); err != nil {
		r.giveBack(who, cost)
		return nil, err
	}
	return func(did bool) {
		r.reads.Release(1)
		if !did {
			r.giveBack(who, cost)
		}
	}, nil
}

// turn waits a moment for one of the replays that may run at once.
func (r *replays) turn(ctx context.Context) error {
	if r.reads.TryAcquire(1) {
		return nil
	}
	waiting, cancel := context.WithTimeout(ctx, replayWait)
	defer cancel()
	if r.reads.Acquire(waiting, 1) == nil {
		return nil
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	f := newFault("replay-limit", "as many states of old blocks are being rebuilt as may be at once; try again")
	f.retry, f.limit = replayWait, limitRebuilds
	return f
}

// take takes blocks of a client's budget, and gives how long it must wait where there
// aren't so many; 0 where it took them. What costs more than the whole budget takes all
// of it, and the rest as a debt.
func (r *replays) take(who string, cost float64) (wait time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.now()
	left := r.leftLocked(who, now)
	if short := min(cost, r.most) - left; short > 0 {
		wait = time.Duration(short / r.rate * float64(time.Second))
		return max(wait.Truncate(time.Second)+time.Second, time.Second)
	}
	if len(r.accounts) >= mostAccounts {
		for other := range r.accounts {
			if r.leftLocked(other, now) >= r.most {
				delete(r.accounts, other)
			}
		}
	}
	r.accounts[who] = account{left - cost, now}
	return 0
}

// giveBack returns what was taken for nothing.
func (r *replays) giveBack(who string, cost float64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.now()
	r.accounts[who] = account{min(r.leftLocked(who, now)+cost, r.most), now}
}

// leftLocked is what a client has now. r.mu is locked.
func (r *replays) leftLocked(who string, now time.Time) float64 {
	a, ok := r.accounts[who]
	if !ok {
		return r.most
	}
	return min(a.left+now.Sub(a.at).Seconds()*r.rate, r.most)
}

// whoIs names a client for limits and ownership: by its token or, on a Unix socket, by
// its user.
func whoIs(c *access.Client) string {
	if c.TCP {
		return "tcp " + c.Name
	}
	return "uid " + strconv.Itoa(c.UID) + " " + c.Name
}

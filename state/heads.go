package state

import (
	"sync"
	"time"

	"go.uber.org/zap"

	"accessor/checkpoint"
)

// Head and finalized are told to other processes (Beside) at once when they move,
// and then at most this often. Where that fails, it is tried again less often.
const (
	headsEvery = 250 * time.Millisecond
	headsRetry = 2 * time.Second
)

// headsKeeper keeps the store's file of head and finalized up to date, beside the
// imports: who moves them says so and goes on.
type headsKeeper struct {
	a     *Accessor
	moved chan struct{} // has one element where something may have moved
	done  chan struct{}
	ended sync.WaitGroup
	once  sync.Once

	// Of start, then of the goroutine, then of stop.
	written checkpoint.Heads // the last that was written
	failing bool             // it could not be written, and that was logged
}

// start writes the file and keeps it from here on.
func (k *headsKeeper) start(a *Accessor) {
	k.a = a
	k.moved = make(chan struct{}, 1)
	k.done = make(chan struct{})
	k.write()
	if k.failing {
		k.poke()
	}
	k.ended.Go(k.run)
}

// poke says that head or finalized may have moved. It never waits.
func (k *headsKeeper) poke() {
	select {
	case k.moved <- struct{}{}:
	default:
	}
}

// stop writes the last state. Nothing moves any more.
func (k *headsKeeper) stop() {
	k.once.Do(func() {
		close(k.done)
		k.ended.Wait()
		k.write()
	})
}

func (k *headsKeeper) run() {
	for {
		select {
		case <-k.done:
			return
		case <-k.moved:
		}
		k.write()
		pause := headsEvery
		if k.failing {
			k.poke()
			pause = headsRetry
		}
		select {
		case <-k.done:
			return
		case <-time.After(pause):
		}
	}
}

// write writes the file where it is not up to date. A failure is logged once.
func (k *headsKeeper) write() {
	k.a.mu.RLock()
	now := checkpoint.Heads{
		Head:      checkpoint.LabelOf(k.a.headLocked()),
		Finalized: checkpoint.LabelOf(k.a.tree.Finalized()),
		Anchor:    checkpoint.LabelOf(k.a.tree.Anchor()),
	}
	k.a.mu.RUnlock()
	if now == k.written && !k.failing {
		return
	}
	err := k.a.store.WriteHeads(now)
	if err != nil && !k.failing {
		k.a.log.Warn("readers in other processes can't find head and finalized", zap.Error(err))
	}
	k.written, k.failing = now, err != nil
}

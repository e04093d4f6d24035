package da

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"accessor/forks"
	"accessor/state/merkle"
)

// slowSource takes a second for a proof.
type slowSource struct {
	Source
	atWork, most atomic.Int64
}

func (s *slowSource) Prove(context.Context, forks.Hash, [][merkle.KeySize]byte, int) (*merkle.Proof, error) {
	s.most.Store(max(s.most.Load(), s.atWork.Add(1)))
	defer s.atWork.Add(-1)
	time.Sleep(time.Second)
	return &merkle.Proof{}, nil
}

// Few proofs are made at a time, however many are asked for; who waits for its turn
// waits no longer than its context.
func TestWorkOnFewThreads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base, cancel := context.WithCancel(t.Context())
		src := &slowSource{}
		w := newWorking(base, src)
		threads := max(1, runtime.GOMAXPROCS(0)/2)
		var wg sync.WaitGroup
		var inTime, late atomic.Int64
		for range 10 * threads {
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(base, 4500*time.Millisecond)
				defer cancel()
				switch _, err := w.Prove(ctx, forks.Hash{}, nil, 0); {
				case err == nil:
					inTime.Add(1)
				case errors.Is(err, context.DeadlineExceeded):
					late.Add(1)
				default:
					t.Error(err)
				}
			})
		}
		start := time.Now()
		wg.Wait()
		if took := time.Since(start); src.most.Load() != int64(threads) || inTime.Load() != int64(5*threads) || late.Load() != int64(5*threads) ||
			took != 5*time.Second {
			t.Errorf("%d at a time, %d in time, %d late, took %v", src.most.Load(), inTime.Load(), late.Load(), took)
		}
		cancel()
		synctest.Wait() // the threads end: else the test doesn't
		if _, err := w.Prove(base, forks.Hash{}, nil, 0); !errors.Is(err, context.Canceled) {
			t.Errorf("after the end: %v", err)
		}
	})
}

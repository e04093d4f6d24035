package da

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// Little is done at a time, however much there is to do; who waits for its turn waits no
// longer than its context.
func TestFewWorkers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base, cancel := context.WithCancel(t.Context())
		w := newWorkers()
		threads := cap(w)
		var atWork, most atomic.Int64
		job := func() (int, error) {
			most.Store(max(most.Load(), atWork.Add(1)))
			defer atWork.Add(-1)
			time.Sleep(time.Second)
			return 7, nil
		}
		var wg sync.WaitGroup
		var inTime, late atomic.Int64
		for range 10 * threads {
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(base, 4500*time.Millisecond)
				defer cancel()
				switch got, err := onWorker(ctx, w, job); {
				case err == nil && got == 7:
					inTime.Add(1)
				case errors.Is(err, context.DeadlineExceeded):
					late.Add(1)
				default:
					t.Error(got, err)
				}
			})
		}
		start := time.Now()
		wg.Wait()
		if took := time.Since(start); most.Load() != int64(threads) || inTime.Load() != int64(5*threads) || late.Load() != int64(5*threads) ||
			took != 5*time.Second {
			t.Errorf("%d at a time, %d in time, %d late, took %v", most.Load(), inTime.Load(), late.Load(), took)
		}
		cancel()
		if _, err := onWorker(base, w, job); !errors.Is(err, context.Canceled) {
			t.Errorf("after the end: %v", err)
		}
	})
}

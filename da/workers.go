package da

import (
	"context"
	"runtime"

	"golang.org/x/sys/unix"
)

// workersNice is what the workers' threads give way by, as the store's maintenance does.
const workersNice = 10

// workers are few threads of low priority: what peers want done leaves the processors to
// the reads and imports that this process is there for, however many answers are being
// sent. It has a place for each: half as many as there are processors, or one.
type workers chan struct{}

func newWorkers() workers { return make(workers, max(1, runtime.GOMAXPROCS(0)/2)) }

// onWorker has f done by a worker. Errors: f's, and ctx's while it waits for its turn.
func onWorker[T any](ctx context.Context, w workers, f func() (T, error)) (v T, err error) {
	if ctx.Err() != nil {
		return v, context.Cause(ctx)
	}
	select {
	case w <- struct{}{}:
	case <-ctx.Done():
		return v, context.Cause(ctx)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() { <-w }()
		// With a single processor the others of this process would wait while other programs
		// keep the thread from going on.
		if runtime.GOMAXPROCS(0) > 1 {
			// The thread ends with this goroutine: who may not raise a priority can't give it
			// back. That costs some 30 µs, less than a proof.
			runtime.LockOSThread()
			// Without it, what peers ask for is only faster than it should be.
			_ = unix.Setpriority(unix.PRIO_PROCESS, unix.Gettid(), workersNice)
		}
		v, err = f()
	}()
	<-done
	return v, err
}

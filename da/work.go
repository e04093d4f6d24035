package da

import (
	"context"
	"runtime"
	"sync"

	"golang.org/x/sys/unix"

	"accessor/forks"
	"accessor/state/merkle"
)

// workNice is what answers' threads give way by, as the store's maintenance does.
const workNice = 10

// working is a source whose proofs and blocks are made on few threads of low priority,
// however many answers are being sent: what peers want done leaves the processor to the
// reads and imports that this process is there for.
type working struct {
	Source
	base  context.Context // ends the threads
	jobs  chan func()
	begin sync.Once
}

func newWorking(base context.Context, src Source) *working {
	return &working{Source: src, base: base, jobs: make(chan func())}
}

// start starts the threads: half as many as there are cores, or one.
func (w *working) start() {
	for range max(1, runtime.GOMAXPROCS(0)/2) {
		go w.thread()
	}
}

func (w *working) thread() {
	// With a single core the others of this process would wait while other programs
	// keep the thread from going on.
	if runtime.GOMAXPROCS(0) > 1 {
		runtime.LockOSThread() // it ends with this goroutine
		// Without it, what peers ask for is only faster than it should be.
		_ = unix.Setpriority(unix.PRIO_PROCESS, unix.Gettid(), workNice)
	}
	for {
		select {
		case f := <-w.jobs:
			f()
		case <-w.base.Done():
			return
		}
	}
}

// onThread runs f on one of the threads. Errors: f's, and ctx's, which ends with base.
func onThread[T any](ctx context.Context, w *working, f func() (T, error)) (v T, err error) {
	w.begin.Do(w.start)
	done := make(chan struct{})
	job := func() {
		defer close(done)
		v, err = f()
	}
	select {
	case w.jobs <- job:
		<-done
		return v, err
	case <-ctx.Done():
		return v, context.Cause(ctx)
	}
}

// Prove implements Source.
func (w *working) Prove(ctx context.Context, block forks.Hash, keys [][merkle.KeySize]byte, most int) (*merkle.Proof, error) {
	return onThread(ctx, w, func() (*merkle.Proof, error) { return w.Source.Prove(ctx, block, keys, most) })
}

// ProveRange implements Source.
func (w *working) ProveRange(ctx context.Context, block forks.Hash, req merkle.RangeRequest) (*merkle.Proof, error) {
	return onThread(ctx, w, func() (*merkle.Proof, error) { return w.Source.ProveRange(ctx, block, req) })
}

// Blocks implements Source.
func (w *working) Blocks(ctx context.Context, above forks.Hash, most int) ([]Block, error) {
	return onThread(ctx, w, func() ([]Block, error) { return w.Source.Blocks(ctx, above, most) })
}

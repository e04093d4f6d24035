package state_test

import (
	"context"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"accessor/checkpoint"
	"accessor/state"
)

// flying is an import in another goroutine.
type flying struct {
	block *state.Block
	done  chan struct{}
	res   state.Result
	err   error
}

// send imports a block in another goroutine.
func (c *chain) send(ctx context.Context, b *state.Block) *flying {
	f := &flying{block: b, done: make(chan struct{})}
	go func() {
		defer close(f.done)
		f.res, f.err = c.Import(ctx, b)
	}()
	return f
}

// patience is how long a test waits for what should happen at once.
const patience = 20 * time.Second

// join waits for a sent import, which must succeed.
func (c *chain) join(f *flying) state.Result {
	c.t.Helper()
	if err := c.fate(f); err != nil {
		c.t.Fatal(err)
	}
	return f.res
}

// fate waits for a sent import and gives its error.
func (c *chain) fate(f *flying) error {
	c.t.Helper()
	select {
	case <-f.done:
		return f.err
	case <-time.After(patience):
		c.t.Fatalf("import %s hangs", nameOf(f.block.Hash))
		return nil
	}
}

// wantFlying wants a sent import to wait, as far as a short look shows.
func (c *chain) wantFlying(f *flying) {
	c.t.Helper()
	select {
	case <-f.done:
		c.t.Fatalf("import %s ended instead of waiting: %+v, %v", nameOf(f.block.Hash), f.res, f.err)
	case <-time.After(30 * time.Millisecond):
	}
}

// until waits for a condition.
func (c *chain) until(what string, f func() bool) {
	c.t.Helper()
	for end := time.Now().Add(patience); !f(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			c.t.Fatalf("waited in vain for %s", what)
		}
	}
}

// hook makes the store's file calls stop or fail.
type hook struct {
	mu sync.Mutex
	f  func(checkpoint.FileCall) error
}

func (h *hook) ask(call checkpoint.FileCall) error {
	h.mu.Lock()
	f := h.f
	h.mu.Unlock()
	if f == nil {
		return nil
	}
	return f(call)
}

func (h *hook) set(f func(checkpoint.FileCall) error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.f = f
}

// making matches the creation of a file or folder in tmp/ of that kind: delta,
// seal.
func making(kind string) func(checkpoint.FileCall) bool {
	return func(call checkpoint.FileCall) bool {
		return call.Op == "create" && !call.Applied && strings.HasPrefix(filepath.Base(call.Path), kind+"-")
	}
}

// halt stops the next matching file call midway.
type halt struct {
	c       *chain
	reached chan struct{}
	resume  chan error
	once    sync.Once
}

func (c *chain) haltAt(match func(checkpoint.FileCall) bool) *halt {
	h := &halt{c: c, reached: make(chan struct{}), resume: make(chan error, 1)}
	c.t.Cleanup(func() { h.free(nil) }) // where the test has failed before
	var once sync.Once
	c.hook.set(func(call checkpoint.FileCall) (err error) {
		first := false
		if match(call) {
			once.Do(func() { first = true })
		}
		if first {
			close(h.reached)
			err = <-h.resume
		}
		return err
	})
	return h
}

// wait waits until the call has stopped.
func (h *halt) wait() {
	h.c.t.Helper()
	select {
	case <-h.reached:
	case <-time.After(patience):
		h.c.t.Fatal("nothing came to the halt")
	}
}

// free lets the call go on, or fail with err; only the first time counts.
func (h *halt) free(err error) {
	h.once.Do(func() {
		h.c.hook.set(nil)
		h.resume <- err
	})
}

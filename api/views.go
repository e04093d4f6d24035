package api

import (
	"context"
	"sync"
	"time"

	"accessor/forks"
	"accessor/state"
)

// Of views.
const (
	// viewAge is how long a state stays open for more readers: short, so that nothing
	// that is pruned stays on the disk for it, and that a view which was opened before
	// the read cache had its index, or moved it, is soon followed by a better one.
	viewAge = time.Second
	// viewsKept is how many states are kept open: the head, finalized and a few forks.
	viewsKept = 8
)

// views are states that readers share for a moment. Whether a block is still held is
// asked by each reader before. The zero value has none.
type views struct {
	mu     sync.Mutex
	open   map[forks.Hash]*openView
	timer  *time.Timer // that closes what is old; nil while nothing is open
	closed bool        // nothing is kept any more
}

// openView is a state with its readers. All but the view is guarded by views.mu.
type openView struct {
	*state.View
	readers int
	opened  time.Time
	gone    bool // the last reader closes it
}

// take gives the state at a block to a reader, who gives it back by release.
func (l *views) take(ctx context.Context, core Core, h forks.Hash, now time.Time) (*openView, error) {
	l.mu.Lock()
	if o := l.open[h]; o != nil && now.Sub(o.opened) < viewAge {
		o.readers++
		l.mu.Unlock()
		return o, nil
	}
	l.mu.Unlock()
	v, err := core.View(ctx, h)
	if err != nil {
		return nil, err
	}
	o := &openView{View: v, readers: 1, opened: now}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		o.gone = true
		return o, nil
	}
	if l.open == nil {
		l.open = make(map[forks.Hash]*openView)
	}
	l.dropLocked(h)
	if len(l.open) == viewsKept {
		l.dropLocked(l.oldestLocked())
	}
	l.open[h] = o
	if l.timer == nil {
		l.timer = time.AfterFunc(viewAge, l.sweep)
	}
	return o, nil
}

// release gives a state back.
func (l *views) release(o *openView) {
	l.mu.Lock()
	o.readers--
	last := o.gone && o.readers == 0
	l.mu.Unlock()
	if last {
		o.Close()
	}
}

// dropLocked stops keeping a state. Closing it takes the store's locks, none of which
// is held while l.mu is asked for.
func (l *views) dropLocked(h forks.Hash) {
	o := l.open[h]
	if o == nil {
		return
	}
	delete(l.open, h)
	if o.gone = true; o.readers == 0 {
		o.Close()
	}
}

func (l *views) oldestLocked() (oldest forks.Hash) {
	var opened time.Time
	for h, o := range l.open {
		if opened.IsZero() || o.opened.Before(opened) {
			oldest, opened = h, o.opened
		}
	}
	return oldest
}

// sweep closes what is old, and comes again while anything is open.
func (l *views) sweep() {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	for h, o := range l.open {
		if now.Sub(o.opened) >= viewAge {
			l.dropLocked(h)
		}
	}
	if l.timer = nil; len(l.open) > 0 {
		l.timer = time.AfterFunc(viewAge, l.sweep)
	}
}

// close closes all that nobody reads; what is read now its reader closes.
func (l *views) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	if l.timer != nil {
		l.timer.Stop()
		l.timer = nil
	}
	for h := range l.open {
		l.dropLocked(h)
	}
}

package state

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"accessor/checkpoint"
	"accessor/locking"
)

// PinAccess says who may read a pin's directory: see checkpoint.PinAccess.
type PinAccess = checkpoint.PinAccess

// pinDirs are the directories of pins, and see to it that they go with them.
type pinDirs struct {
	// making lets one be made or removed at a time. Taken before mu.
	making sync.Mutex
	moved  chan struct{} // has one element where a pin's end may have moved

	mu   sync.Mutex // guards have
	have map[string]bool
}

func (p *pinDirs) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.have)
}

func (p *pinDirs) names() (list []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for name := range p.have {
		list = append(list, name)
	}
	return list
}

func (p *pinDirs) set(name string, has bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if has {
		p.have[name] = true
	} else {
		delete(p.have, name)
	}
}

func (p *pinDirs) has(name string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.have[name]
}

// poke says that a pin's end may have moved.
func (p *pinDirs) poke() {
	select {
	case p.moved <- struct{}{}:
	default:
	}
}

// findPinDirs takes over the directories of before the start: those whose pins have
// ended go.
func (a *Accessor) findPinDirs() error {
	a.pinDirs.moved = make(chan struct{}, 1)
	a.pinDirs.have = make(map[string]bool)
	names, err := a.store.Pinned()
	if err != nil {
		return err
	}
	for _, name := range names {
		a.pinDirs.have[name] = true
	}
	a.sweepPinDirs()
	return nil
}

// PinDirectory gives the directory of a pin, and makes it where there is none: a copy
// of the pinned block's checkpoint, which a reader on this machine may open read-only
// with a RocksDB of its own, until the pin ends (docs/FORMAT.md). Its tables are hard
// links. It outlives a restart as the pin does. Errors: ErrUnknownPin, ErrUnavailable, ErrPartial,
// checkpoint.ErrLinks, checkpoint.ErrAccess, and the store's.
func (a *Accessor) PinDirectory(ctx context.Context, id string, access PinAccess) (dir string, err error) {
	ctx, end, err := a.begin(ctx)
	if err != nil {
		return "", err
	}
	defer end()
	a.pinDirs.making.Lock()
	defer a.pinDirs.making.Unlock()
	pin, err := a.livePin(id)
	if err != nil {
		return "", err
	}
	b, err := a.Block(pin.Block)
	if err != nil {
		return "", err
	}
	old := a.pinDirs.has(id)
	a.pinDirs.set(id, true) // whatever of it is made
	err = a.store.PinCheckpoint(b.Hash, id, access)
	if err != nil && !leaveAsIs(err) {
		w, _, walkErr := a.walkTo(ctx, b, reading)
		if err = walkErr; err == nil {
			err = a.store.PinWorking(w, id, access)
			w.Drop()
		}
	}
	if err == nil {
		_, err = a.livePin(id) // it may have ended meanwhile
	}
	a.pinDirs.poke()
	switch {
	case err != nil && old:
		return "", err // somebody may be reading there
	case err != nil:
		return "", errors.Join(err, a.dropPinDir(id))
	}
	return a.store.PinnedPath(id), nil
}

// leaveAsIs says whether a walk-back would change nothing about an error.
func leaveAsIs(err error) bool {
	for _, kind := range []error{ErrPartial, checkpoint.ErrAccess, checkpoint.ErrLinks, checkpoint.ErrNoSpace, checkpoint.ErrClosed, checkpoint.ErrUnknown} {
		if errors.Is(err, kind) {
			return true
		}
	}
	return false
}

// PinDir gives the directory of a pin, if one was made.
func (a *Accessor) PinDir(id string) (dir string, ok bool) {
	if !a.pinDirs.has(id) {
		return "", false
	}
	if _, err := a.livePin(id); err != nil {
		return "", false
	}
	return a.store.PinnedPath(id), true
}

// livePin finds a pin. Error: ErrUnknownPin.
func (a *Accessor) livePin(id string) (PinInfo, error) {
	pins := a.pins.List()
	i := slices.IndexFunc(pins, func(p locking.Pin) bool { return p.ID == id })
	if i < 0 {
		return PinInfo{}, fmt.Errorf("%w: %.40q", ErrUnknownPin, id)
	}
	return pins[i], nil
}

// dropPinDir removes a pin's directory. The caller has making.
func (a *Accessor) dropPinDir(id string) error {
	err := a.store.DropPinned(id)
	if err == nil {
		a.pinDirs.set(id, false)
	}
	return err
}

// sweepRetry is when the removal of a directory that failed is tried again.
const sweepRetry = 10 * time.Second

// sweepPinDirs removes the directories of pins that have ended, and says when to look
// again; the zero time for never.
func (a *Accessor) sweepPinDirs() (next time.Time) {
	a.pinDirs.making.Lock()
	defer a.pinDirs.making.Unlock()
	live := make(map[string]time.Time)
	for _, p := range a.pins.List() {
		live[p.ID] = p.Expires
	}
	for _, id := range a.pinDirs.names() {
		end, lives := live[id]
		if !lives {
			err := a.dropPinDir(id)
			if err == nil {
				continue
			}
			a.log.Warn("remove the directory of a pin that has ended", zap.String("pin", id), zap.Error(err))
			end = time.Now().Add(sweepRetry)
		}
		if next.IsZero() || end.Before(next) {
			next = end
		}
	}
	return next
}

// keepPinDirs removes directories when their pins end.
func (a *Accessor) keepPinDirs() {
	for {
		next := a.sweepPinDirs()
		var over <-chan time.Time
		if !next.IsZero() {
			// Not before it is over by the clock that pins go by.
			over = time.After(time.Until(next) + time.Millisecond)
		}
		select {
		case <-a.closing.Done():
			return
		case <-a.pinDirs.moved:
		case <-over:
		}
	}
}

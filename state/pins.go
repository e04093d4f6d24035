package state

import (
	"context"
	"encoding/json"
	"time"

	"go.uber.org/zap"

	"accessor/forks"
	"accessor/locking"
)

// longestPin bounds a pin's time: as long as a day's blocks are kept without one.
const longestPin = 24 * time.Hour

// metaPins is where pins are kept in the store: they outlive a restart.
const metaPins = "pins"

func (a *Accessor) loadPins(most int) {
	var old []locking.Pin
	if text := a.store.Meta(metaPins); len(text) > 0 {
		if err := json.Unmarshal(text, &old); err != nil {
			a.log.Warn("the pins of before the restart can't be read", zap.Error(err))
		}
	}
	a.pins = locking.NewPins(most, longestPin, old)
}

// savePins keeps the pins in the store.
func (a *Accessor) savePins() error {
	a.pinning.Lock()
	defer a.pinning.Unlock()
	text, err := json.Marshal(a.pins.List())
	if err != nil {
		return err
	}
	return a.store.SetMeta(metaPins, text)
}

// Pin keeps a block readable for so long, at most a day, whatever retention says: it
// and all between it and the canonical branch stay. Errors: ErrUnknownBlock,
// ErrPruned, locking.ErrTooManyPins, locking.ErrPinTime, and the store's.
func (a *Accessor) Pin(h forks.Hash, owner string, ttl time.Duration) (locking.Pin, error) {
	_, end, err := a.begin(context.Background())
	if err != nil {
		return locking.Pin{}, err
	}
	defer end()
	pin, err := a.addPin(h, owner, ttl)
	if err != nil {
		return pin, err
	}
	if err := a.savePins(); err != nil {
		_ = a.pins.Release(pin.ID)
		return locking.Pin{}, err
	}
	return pin, nil
}

// addPin pins a block of the tree, which can't be pruned meanwhile.
func (a *Accessor) addPin(h forks.Hash, owner string, ttl time.Duration) (locking.Pin, error) {
	a.mu.RLock()
	defer a.mu.RUnlock()
	if _, err := a.blockLocked(h); err != nil {
		return locking.Pin{}, err
	}
	return a.pins.Add(h, owner, ttl)
}

// RenewPin lets a pin end so long from now. Errors: locking.ErrUnknownPin,
// locking.ErrPinTime, and the store's.
func (a *Accessor) RenewPin(id string, ttl time.Duration) (locking.Pin, error) {
	_, end, err := a.begin(context.Background())
	if err != nil {
		return locking.Pin{}, err
	}
	defer end()
	pin, err := a.pins.Renew(id, ttl)
	if err != nil {
		return pin, err
	}
	a.pinDirs.poke()
	return pin, a.savePins()
}

// Unpin ends a pin, and soon after its directory. Errors: locking.ErrUnknownPin, and the store's.
func (a *Accessor) Unpin(id string) error {
	_, end, err := a.begin(context.Background())
	if err != nil {
		return err
	}
	defer end()
	if err := a.pins.Release(id); err != nil {
		return err
	}
	defer a.pinDirs.poke() // it goes at once, beside the caller
	return a.savePins()
}

// Pins gives the pins, the first to expire first.
func (a *Accessor) Pins() []locking.Pin { return a.pins.List() }

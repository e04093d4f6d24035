package locking

import (
	"cmp"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"accessor/forks"
)

// Errors of Pins. Match them with errors.Is.
var (
	// ErrTooManyPins: the limit refuses the new pin; the old ones stay.
	ErrTooManyPins = errors.New("too many pins")
	// ErrUnknownPin: no pin has that name, or it has expired.
	ErrUnknownPin = errors.New("unknown pin")
	// ErrPinTime: a pin's time limit is not above zero and within the longest.
	ErrPinTime = errors.New("pin's time limit")
)

// Pin is a lease that keeps a block readable until it is released or expires.
type Pin struct {
	ID      string     `json:"id"`
	Block   forks.Hash `json:"block"`
	Owner   string     `json:"owner"` // for people
	Since   time.Time  `json:"since"`
	Expires time.Time  `json:"expires"`
}

// Pins are the pins of a store. It is safe for concurrent use.
type Pins struct {
	most    int
	longest time.Duration

	mu   sync.Mutex
	list []Pin // in order of their making
}

// NewPins gives a list with at most so many pins, each for at most so long. Pins of
// an earlier life may be given; those that have expired are left out.
func NewPins(most int, longest time.Duration, old []Pin) *Pins {
	p := &Pins{most: most, longest: longest, list: slices.Clone(old)}
	p.expireLocked()
	return p
}

func (p *Pins) expireLocked() {
	now := time.Now()
	p.list = slices.DeleteFunc(p.list, func(each Pin) bool { return !each.Expires.After(now) })
}

// Add pins a block. Errors: ErrTooManyPins, ErrPinTime.
func (p *Pins) Add(block forks.Hash, owner string, ttl time.Duration) (Pin, error) {
	if ttl <= 0 || ttl > p.longest {
		return Pin{}, fmt.Errorf("%w: %v, want above 0 and at most %v", ErrPinTime, ttl, p.longest)
	}
	var id [16]byte
	_, _ = rand.Read(id[:]) // never fails
	p.mu.Lock()
	defer p.mu.Unlock()
	p.expireLocked()
	if len(p.list) >= p.most {
		return Pin{}, fmt.Errorf("%w: there are %d, the oldest of %q; release one, or wait until %s", ErrTooManyPins,
			len(p.list), p.list[0].Owner, p.firstExpiryLocked().Format(time.RFC3339))
	}
	now := time.Now()
	pin := Pin{ID: hex.EncodeToString(id[:]), Block: block, Owner: owner, Since: now, Expires: now.Add(ttl)}
	p.list = append(p.list, pin)
	return pin, nil
}

func (p *Pins) firstExpiryLocked() time.Time {
	return slices.MinFunc(p.list, func(a, b Pin) int { return a.Expires.Compare(b.Expires) }).Expires
}

// Renew lets a pin end so long from now. Errors: ErrUnknownPin, ErrPinTime.
func (p *Pins) Renew(id string, ttl time.Duration) (Pin, error) {
	if ttl <= 0 || ttl > p.longest {
		return Pin{}, fmt.Errorf("%w: %v, want above 0 and at most %v", ErrPinTime, ttl, p.longest)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	i, err := p.findLocked(id)
	if err != nil {
		return Pin{}, err
	}
	p.list[i].Expires = time.Now().Add(ttl)
	return p.list[i], nil
}

// Release ends a pin. Error: ErrUnknownPin.
func (p *Pins) Release(id string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	i, err := p.findLocked(id)
	if err != nil {
		return err
	}
	p.list = slices.Delete(p.list, i, i+1)
	return nil
}

func (p *Pins) findLocked(id string) (int, error) {
	p.expireLocked()
	i := slices.IndexFunc(p.list, func(each Pin) bool { return each.ID == id })
	if i < 0 {
		return 0, fmt.Errorf("%w: %q", ErrUnknownPin, id)
	}
	return i, nil
}

// List gives the pins, the first to expire first.
func (p *Pins) List() []Pin {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.expireLocked()
	return slices.SortedFunc(slices.Values(p.list), func(a, b Pin) int {
		return cmp.Or(a.Expires.Compare(b.Expires), cmp.Compare(a.ID, b.ID))
	})
}

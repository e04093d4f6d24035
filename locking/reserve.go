package locking

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"accessor/forks"
)

var (
	// ErrReserved is the error of a slot that another owner has reserved.
	ErrReserved = errors.New("slot is reserved")
	// ErrReservationOver is the error of a reservation that was released or has
	// expired.
	ErrReservationOver = errors.New("reservation is over")
)

// ReservationInfo describes a reservation at one moment.
type ReservationInfo struct {
	Slot    forks.Slot
	Owner   string
	Since   time.Time // when it was made
	Expires time.Time // zero where it can't expire now
}

// ReservedError says who has reserved a slot that was asked for. It matches
// ErrReserved.
type ReservedError struct {
	ReservationInfo               // of the owner's reservations the one that lasts longest
	Age             time.Duration // how long that one has stood
}

// Error names slot, owner, age and expiry.
func (e *ReservedError) Error() string {
	text := fmt.Sprintf("reserve slot %d: reserved by %q for %v", e.Slot, e.Owner, e.Age.Round(time.Millisecond))
	if e.Expires.IsZero() {
		return text + ", and can't expire now"
	}
	left := e.Expires.Sub(e.Since) - e.Age
	return text + fmt.Sprintf(", expires in %v", left.Round(time.Millisecond))
}

// Unwrap gives ErrReserved.
func (e *ReservedError) Unwrap() error { return ErrReserved }

// Reservations say for whom slots are kept free. They bind only those who ask
// here: a Table gives a reserved slot to whoever locks it.
//
// Invariants:
//   - All reservations of one slot have the same owner.
//   - A reservation ends once: released, or expired. Whoever holds it back from
//     expiring in time keeps it.
//   - A slot that nobody has reserved takes no memory.
//
// The zero value has no reservations. It is safe for concurrent use.
type Reservations struct {
	mu    sync.Mutex // guards what stands below, and each reservation's own fields
	slots map[forks.Slot][]*Reservation
}

// Reservation keeps a slot for its owner, who must release it or let it expire.
type Reservation struct {
	all     *Reservations
	slot    forks.Slot
	owner   string
	since   time.Time
	expired func() // nil where nobody wants to know

	// all.mu guards what follows.
	over    bool
	expires time.Time // zero where it can't expire
	timer   *time.Timer
	turn    int // counts the timers, so that one that fires late is told
}

// Reserve keeps a slot for an owner, beside the owner's other reservations of it.
// It can't expire until ExpireAfter; where it does expire, expired is called
// (unless nil) in a goroutine of its own, after the slot is free. The error is a
// *ReservedError, which matches ErrReserved.
func (r *Reservations) Reserve(slot forks.Slot, owner string, expired func()) (*Reservation, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	if others := r.slots[slot]; len(others) > 0 && others[0].owner != owner {
		longest := slices.MaxFunc(others, lastsLonger)
		return nil, &ReservedError{ReservationInfo: longest.info(), Age: now.Sub(longest.since)}
	}
	res := &Reservation{all: r, slot: slot, owner: owner, since: now, expired: expired}
	if r.slots == nil {
		r.slots = make(map[forks.Slot][]*Reservation)
	}
	r.slots[slot] = append(r.slots[slot], res)
	return res, nil
}

// lastsLonger compares by expiry; what can't expire lasts longest.
func lastsLonger(a, b *Reservation) int {
	switch {
	case a.expires.IsZero() && b.expires.IsZero():
		return 0
	case a.expires.IsZero():
		return 1
	case b.expires.IsZero():
		return -1
	}
	return a.expires.Compare(b.expires)
}

// ExpireAfter lets the reservation expire after that time, whatever was said of
// its expiry before. Error: ErrReservationOver.
func (r *Reservation) ExpireAfter(ttl time.Duration) error {
	r.all.mu.Lock()
	defer r.all.mu.Unlock()
	if r.overLocked() {
		return r.overError()
	}
	r.stopLocked()
	turn := r.turn
	r.expires = time.Now().Add(ttl)
	r.timer = time.AfterFunc(ttl, func() { r.expire(turn) })
	return nil
}

// Hold keeps the reservation from expiring until ExpireAfter, and says how long
// it would have lasted; zero where it couldn't expire. Error: ErrReservationOver.
func (r *Reservation) Hold() (rest time.Duration, err error) {
	r.all.mu.Lock()
	defer r.all.mu.Unlock()
	if r.overLocked() {
		return 0, r.overError()
	}
	if !r.expires.IsZero() {
		rest = time.Until(r.expires)
	}
	r.stopLocked()
	return rest, nil
}

// Release ends the reservation. It is safe to call again, and after it has
// expired.
func (r *Reservation) Release() {
	r.all.mu.Lock()
	defer r.all.mu.Unlock()
	r.endLocked()
}

// Info describes the reservation.
func (r *Reservation) Info() ReservationInfo {
	r.all.mu.Lock()
	defer r.all.mu.Unlock()
	return r.info()
}

// overLocked says whether the reservation is over, or would be if its timer were
// not late: whoever comes after the expiry comes too late in any case.
func (r *Reservation) overLocked() bool {
	return r.over || !r.expires.IsZero() && !time.Now().Before(r.expires)
}

func (r *Reservation) overError() error {
	return fmt.Errorf("%w: slot %d, owner %q", ErrReservationOver, r.slot, r.owner)
}

// stopLocked makes the reservation one that can't expire.
func (r *Reservation) stopLocked() {
	if r.timer != nil {
		r.timer.Stop()
	}
	r.timer, r.expires = nil, time.Time{}
	r.turn++
}

// expire ends the reservation, unless it was renewed, held or released while the
// timer fired.
func (r *Reservation) expire(turn int) {
	r.all.mu.Lock()
	late := r.over || r.turn != turn
	if !late {
		r.endLocked()
	}
	r.all.mu.Unlock()
	if !late && r.expired != nil {
		r.expired()
	}
}

func (r *Reservation) endLocked() {
	if r.over {
		return
	}
	r.over = true
	r.stopLocked()
	left := slices.DeleteFunc(r.all.slots[r.slot], func(other *Reservation) bool { return other == r })
	if len(left) == 0 {
		delete(r.all.slots, r.slot)
		return
	}
	r.all.slots[r.slot] = left
}

// List gives all reservations, sorted by slot, those of one slot by age.
func (r *Reservations) List() []ReservationInfo {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := []ReservationInfo{}
	for _, slot := range r.slots {
		for _, res := range slot {
			out = append(out, res.info())
		}
	}
	slices.SortStableFunc(out, func(a, b ReservationInfo) int { return cmp.Compare(a.Slot, b.Slot) })
	return out
}

// info describes the reservation. Reservations.mu is locked.
func (r *Reservation) info() ReservationInfo {
	return ReservationInfo{Slot: r.slot, Owner: r.owner, Since: r.since, Expires: r.expires}
}

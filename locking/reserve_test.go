package locking_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"accessor/forks"
	"accessor/locking"

	"github.com/google/go-cmp/cmp"
)

// desk is a set of reservations with verbs for stories.
type desk struct {
	locking.Reservations
	t *testing.T
}

func (d *desk) reserve(slot forks.Slot, owner string, expired func()) *locking.Reservation {
	d.t.Helper()
	r, err := d.Reserve(slot, owner, expired)
	if err != nil {
		d.t.Fatal(err)
	}
	return r
}

// refused wants a slot to be another's.
func (d *desk) refused(slot forks.Slot, owner string) *locking.ReservedError {
	d.t.Helper()
	_, err := d.Reserve(slot, owner, nil)
	var reserved *locking.ReservedError
	if !errors.Is(err, locking.ErrReserved) || !errors.As(err, &reserved) {
		d.t.Fatalf("slot %d for %s: error %v, want ErrReserved", slot, owner, err)
	}
	return reserved
}

// want wants reservations as "slot:owner", in order.
func (d *desk) want(want ...string) {
	d.t.Helper()
	got := []string{}
	for _, info := range d.List() {
		got = append(got, fmt.Sprintf("%d:%s", info.Slot, info.Owner))
	}
	if diff := cmp.Diff(append([]string{}, want...), got); diff != "" {
		d.t.Fatalf("reservations (-want +got):\n%s", diff)
	}
}

func TestReservedForOneOwner(t *testing.T) {
	d := &desk{t: t}
	first := d.reserve(7, "alfred", nil)
	second := d.reserve(7, "alfred", nil)
	other := d.reserve(forks.MaxSlot, "boris", nil)
	d.want("7:alfred", "7:alfred", "4294967295:boris")
	d.refused(7, "boris")
	first.Release()
	first.Release() // counts once
	d.refused(7, "boris")
	second.Release()
	boris := d.reserve(7, "boris", nil)
	second.Release()
	d.refused(7, "alfred")
	boris.Release()
	other.Release()
	d.want()
}

func TestReservationExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &desk{t: t}
		var expired []string
		r := d.reserve(7, "alfred", func() {
			// The slot is free by now.
			d.reserve(7, "boris", nil).Release()
			expired = append(expired, "alfred")
		})
		time.Sleep(time.Hour) // not without a lease
		synctest.Wait()
		d.want("7:alfred")
		for range 3 { // renewed in time, each time
			if err := r.ExpireAfter(10 * time.Second); err != nil {
				t.Fatal(err)
			}
			time.Sleep(9 * time.Second)
		}
		d.want("7:alfred")
		time.Sleep(time.Second)
		synctest.Wait()
		d.want()
		if len(expired) != 1 {
			t.Errorf("expired %v", expired)
		}
		if err := r.ExpireAfter(time.Second); !errors.Is(err, locking.ErrReservationOver) {
			t.Errorf("renewed: %v", err)
		}
		if _, err := r.Hold(); !errors.Is(err, locking.ErrReservationOver) {
			t.Errorf("held: %v", err)
		}
		r.Release()
		time.Sleep(time.Hour)
		if len(expired) != 1 {
			t.Errorf("expired %v", expired)
		}
	})
}

func TestHeldReservationDoesNotExpire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &desk{t: t}
		expired := false
		r := d.reserve(7, "alfred", func() { expired = true })
		if rest, err := r.Hold(); rest != 0 || err != nil {
			t.Errorf("rest %v, %v of no lease", rest, err)
		}
		if err := r.ExpireAfter(10 * time.Second); err != nil {
			t.Fatal(err)
		}
		time.Sleep(4 * time.Second)
		if rest, err := r.Hold(); rest != 6*time.Second || err != nil {
			t.Errorf("rest %v, %v", rest, err)
		}
		time.Sleep(time.Hour)
		d.want("7:alfred")
		if info := r.Info(); !info.Expires.IsZero() || info.Owner != "alfred" || info.Slot != 7 {
			t.Errorf("held: %+v", info)
		}
		if err := r.ExpireAfter(time.Second); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if d.want(); !expired {
			t.Error("nobody was told")
		}
	})
}

// Who holds a reservation at the moment of its expiry comes too late, though its
// timer is late too.
func TestHoldAtTheMomentOfExpiry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &desk{t: t}
		r := d.reserve(7, "alfred", nil)
		var held error
		// This timer is set first, so it fires first.
		time.AfterFunc(10*time.Second, func() { _, held = r.Hold() })
		if err := r.ExpireAfter(10 * time.Second); err != nil {
			t.Fatal(err)
		}
		time.Sleep(11 * time.Second)
		synctest.Wait()
		if !errors.Is(held, locking.ErrReservationOver) {
			t.Errorf("held: %v", held)
		}
		d.want()
	})
}

func TestReleasedReservationTellsNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &desk{t: t}
		r := d.reserve(7, "alfred", func() { t.Error("expired although released") })
		if err := r.ExpireAfter(time.Second); err != nil {
			t.Fatal(err)
		}
		r.Release()
		time.Sleep(time.Hour)
		if err := r.ExpireAfter(time.Second); !errors.Is(err, locking.ErrReservationOver) {
			t.Errorf("renewed: %v", err)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
	})
}

func TestReservedErrorNamesTheLongest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		d := &desk{t: t}
		d.reserve(7, "alfred", nil).ExpireAfter(40 * time.Second)
		time.Sleep(10 * time.Second)
		d.reserve(7, "alfred", nil).ExpireAfter(50 * time.Second)
		d.reserve(7, "alfred", nil).ExpireAfter(20 * time.Second)
		time.Sleep(2500 * time.Millisecond)

		got := d.refused(7, "boris")
		want := &locking.ReservedError{
			ReservationInfo: locking.ReservationInfo{
				Slot: 7, Owner: "alfred", Since: begin.Add(10 * time.Second), Expires: begin.Add(60 * time.Second),
			},
			Age: 2500 * time.Millisecond,
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("error (-want +got):\n%s", diff)
		}
		if text := `reserve slot 7: reserved by "alfred" for 2.5s, expires in 47.5s`; got.Error() != text {
			t.Errorf("text %s, want %s", got, text)
		}

		held := d.reserve(7, "alfred", nil)
		got = d.refused(7, "boris")
		if text := `reserve slot 7: reserved by "alfred" for 0s, and can't expire now`; got.Error() != text {
			t.Errorf("text %s, want %s", got, text)
		}
		held.Release()
		time.Sleep(time.Minute)
		synctest.Wait()
		d.want()
	})
}

// Locks know nothing of reservations.
func TestReservedSlotCanBeLocked(t *testing.T) {
	d := &desk{t: t}
	defer d.reserve(7, "alfred", nil).Release()
	newTable(t).lock(7, "boris").Release()
}

// Many owners reserve, hold, renew and release at random; no two may have one
// slot, and each reservation ends once.
func TestReservationsUnderLoad(t *testing.T) {
	const slots, workers, rounds = 4, 16, 400
	d := &desk{t: t}
	var inside [slots]struct {
		mu    sync.Mutex
		owner int
		count int
	}
	var ends, made, refused, expired atomic.Int64
	var all sync.WaitGroup
	for worker := range workers {
		owner := worker % 4
		all.Go(func() {
			random := rand.New(rand.NewPCG(2, uint64(worker)))
			for range rounds {
				slot := random.IntN(slots)
				gone := make(chan struct{})
				r, err := d.Reserve(forks.Slot(slot), fmt.Sprint(owner), func() { expired.Add(1); ends.Add(1); close(gone) })
				if err != nil {
					refused.Add(1)
					continue
				}
				made.Add(1)
				in := &inside[slot]
				in.mu.Lock()
				if in.count > 0 && in.owner != owner {
					t.Errorf("slot %d is %d's and %d's", slot, in.owner, owner)
				}
				in.owner, in.count = owner, in.count+1
				in.mu.Unlock()
				// Out of the count before the slot can be another's.
				leave := func() { in.mu.Lock(); in.count--; in.mu.Unlock() }
				lease := time.Duration(random.IntN(100)) * time.Microsecond
				if random.IntN(2) == 0 {
					leave()
					if err := r.ExpireAfter(lease); err != nil {
						t.Error(err)
					}
					if random.IntN(2) == 0 {
						time.Sleep(lease)
						if _, err := r.Hold(); err == nil {
							ends.Add(1)
							r.Release()
							continue
						}
					}
					<-gone
					continue
				}
				leave()
				r.Release()
				ends.Add(1)
			}
		})
	}
	all.Wait()
	t.Logf("%d made, %d refused, %d expired", made.Load(), refused.Load(), expired.Load())
	if made.Load() != ends.Load() || expired.Load() == 0 {
		t.Errorf("%d made, %d ended, %d expired", made.Load(), ends.Load(), expired.Load())
	}
	d.want()
}

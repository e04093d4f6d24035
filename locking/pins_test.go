package locking_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"accessor/forks"
	"accessor/locking"
)

func TestPins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := locking.NewPins(2, time.Hour, nil)
		a, err := p.Add(forks.Hash{1}, "prover", time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		b, err := p.Add(forks.Hash{2}, "auditor", time.Second)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := p.Add(forks.Hash{3}, "late", time.Second); !errors.Is(err, locking.ErrTooManyPins) {
			t.Errorf("a third pin: %v", err)
		}
		if list := p.List(); len(list) != 2 || list[0] != b || list[1] != a {
			t.Errorf("pins %v", list)
		}
		time.Sleep(2 * time.Second)
		if _, err := p.Renew(b.ID, time.Second); !errors.Is(err, locking.ErrUnknownPin) {
			t.Errorf("renew an expired pin: %v", err)
		}
		if _, err := p.Renew(a.ID, 30*time.Minute); err != nil {
			t.Error(err)
		}
		time.Sleep(10 * time.Minute)
		old := p.List()
		if len(old) != 1 || old[0].Block != a.Block || old[0].Owner != "prover" {
			t.Errorf("pins %v", old)
		}
		for _, ttl := range []time.Duration{0, -1, time.Hour + 1} {
			if _, err := p.Add(forks.Hash{}, "", ttl); !errors.Is(err, locking.ErrPinTime) {
				t.Errorf("pin for %v: %v", ttl, err)
			}
			if _, err := p.Renew(a.ID, ttl); !errors.Is(err, locking.ErrPinTime) {
				t.Errorf("renew for %v: %v", ttl, err)
			}
		}
		if again := locking.NewPins(2, time.Hour, old); len(again.List()) != 1 || again.Release(a.ID) != nil || len(again.List()) != 0 {
			t.Error("a pin of an earlier life can't be released")
		}
		if err := p.Release("nobody's"); !errors.Is(err, locking.ErrUnknownPin) {
			t.Errorf("release an unknown pin: %v", err)
		}
		time.Sleep(time.Hour)
		if again := locking.NewPins(2, time.Hour, old); len(again.List()) != 0 {
			t.Error("an expired pin is back")
		}
	})
}

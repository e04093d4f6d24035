package state_test

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"accessor/checkpoint"
	"accessor/state"
)

// TestDraftWrite: a batch is written as a whole, or not at all.
func TestDraftWrite(t *testing.T) {
	c := newChain(t, engines[0], checkpoint.Options{})
	d, err := c.BeginDraft(t.Context(), c.anchor.Hash, 1, state.DraftOptions{})
	if err != nil {
		t.Fatal(err)
	}
	one, two, three := []byte(key("one")), []byte(key("two")), []byte(key("three"))
	large := make([]byte, 16<<20)
	for _, tt := range []struct {
		name string
		puts []state.Pair
		dels [][]byte
		want error
	}{
		{"key of another length", []state.Pair{{Key: one}, {Key: []byte("short")}}, nil, state.ErrInvalid},
		{"in both lists", []state.Pair{{Key: one}}, [][]byte{one}, state.ErrInvalid},
		{"empty key", []state.Pair{{Key: one}}, [][]byte{nil}, state.ErrInvalid},
		{"more than a draft takes", []state.Pair{
			{Key: one, Value: large}, {Key: two, Value: large}, {Key: three, Value: large}, {Key: []byte(key("four")), Value: large[500:]},
		}, nil, state.ErrDraftTooLarge},
		{"more than a write set takes", slices.Repeat([]state.Pair{{Key: one, Value: large}}, 5), nil, state.ErrDraftTooLarge},
	} {
		if err := d.Write(tt.puts, tt.dels); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
		if info, _ := d.Info(); info.Writes != 0 {
			t.Fatalf("%s: %d writes were left behind", tt.name, info.Writes)
		}
	}
	puts := []state.Pair{{Key: two, Value: []byte("first")}, {Key: one, Value: []byte{}}, {Key: two, Value: []byte("last")}}
	if err := d.Write(puts, [][]byte{three}); err != nil {
		t.Fatal(err)
	}
	if info, _ := d.Info(); info.Writes != 3 {
		t.Errorf("%d writes, want 3", info.Writes)
	}
	if v, present, err := d.Get(context.Background(), two); err != nil || !present || !bytes.Equal(v, []byte("last")) {
		t.Errorf("two is %q, %v, %v", v, present, err)
	}
	if v, present, _ := d.Get(context.Background(), one); !present || len(v) != 0 {
		t.Errorf("one is %q, %v", v, present)
	}
}

// TestImportWithin: who doesn't wait is told who has the slot.
func TestImportWithin(t *testing.T) {
	c := newChain(t, engines[0], checkpoint.Options{})
	boris, benny := c.block("boris", "alfred"), c.block("benny", "alfred")
	lease, err := c.Locks().TryLock(boris.Slot, boris.Hash, "another")
	if err != nil {
		t.Fatal(err)
	}
	for _, wait := range []time.Duration{0, -1, 5 * time.Millisecond} {
		_, err := c.ImportWithin(t.Context(), benny, wait)
		var locked *state.LockedError
		if !errors.As(err, &locked) || locked.Owner != "another" || locked.Block != boris.Hash {
			t.Fatalf("wait %v: %v, want the lock of another", wait, err)
		}
	}
	lease.Release()
	res, err := c.ImportWithin(t.Context(), benny, 0)
	if err != nil {
		t.Fatal(err)
	}
	c.wantNew(res, benny)
	if res, err := c.ImportWithin(t.Context(), benny, 0); err != nil || !res.Held {
		t.Errorf("again: %+v, %v", res, err)
	}
}

// TestTier: a read says where its answer was found.
func TestTier(t *testing.T) {
	c := newChain(t, engines[0], checkpoint.Options{})
	<-c.CacheReady()
	c.accept(c.block("benny", "alfred"))
	v, err := c.View(t.Context(), hash("benny"))
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	k := []byte(key("last writer"))
	first := state.Tier(0)
	for deadline := time.Now().Add(10 * time.Second); ; {
		value, present, tier, err := v.AppendGetTier(context.Background(), nil, k)
		if err != nil || !present || string(value) != "benny" {
			t.Fatalf("%q, %v, %v", value, present, err)
		}
		first = cmp.Or(first, tier)
		values, many, err := v.MultiGetTier(t.Context(), [][]byte{k})
		if err != nil || string(values[0]) != "benny" {
			t.Fatalf("%q, %v", values, err)
		}
		if cacheBytes(t) < 1<<20 {
			break // it may never be kept
		}
		if tier == state.TierCache && many == state.TierCache {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("still read from the %s, many from the %s", tier, many)
		}
	}
	if first != state.TierCheckpoint {
		t.Errorf("first read from the %s", first)
	}
	if got := state.Tier(0).String(); got != "none" {
		t.Errorf("no tier is called %s", got)
	}
}

package state_test

import (
	"bytes"
	"context"
	"errors"
	"testing"

	"accessor/forks"
	"accessor/state"
)

// TestBounds: what is too large is refused before it is gathered, and the value of a
// key that comes twice counts once.
func TestBounds(t *testing.T) {
	overEngines(t, func(t *testing.T, e engineCase) {
		c := newChain(t, e, noImages)
		<-c.CacheReady()
		ctx, k, value := context.Background(), []byte(key("k")), bytes.Repeat([]byte("v"), 1000)
		parent := "alfred"
		for slot, name := range []string{"b1", "b2", "b3", "b4"} {
			b := &state.Block{Hash: hash(name), Parent: hash(parent), Slot: forks.Slot(slot + 1)} //nolint:gosec // few
			b.Puts = []state.Pair{{Key: k, Value: append(value, byte(slot))}, {Key: []byte(key("l" + name)), Value: value}}
			if _, err := c.Import(ctx, b); err != nil {
				t.Fatal(err)
			}
			parent = name
		}
		v, err := c.View(ctx, hash("b4"))
		if err != nil {
			t.Fatal(err)
		}
		defer v.Close()
		many := func(bound state.Bound, keys ...[]byte) error {
			values, _, err := v.MultiGetWithin(ctx, keys, bound)
			if err == nil && (len(values) != len(keys) || len(values[0]) < 1000) {
				t.Errorf("%d values", len(values))
			}
			return err
		}
		for name, tt := range map[string]struct {
			call   func(state.Bound) error
			enough int // bytes
		}{
			"history": {func(b state.Bound) error {
				_, err := c.HistoryWithin(ctx, hash("b4"), k, 0, b)
				return err
			}, 4004},
			"diff": {func(b state.Bound) error {
				_, _, err := c.DiffWithin(ctx, hash("alfred"), hash("b4"), b)
				return err
			}, 5*31 + 5001},
			"changes": {func(b state.Bound) error {
				_, _, err := c.ChangesWithin(ctx, hash("b4"), b)
				return err
			}, 2*31 + 2001},
			"one key twenty times": {func(b state.Bound) error {
				return many(b, bytes.Split(bytes.Repeat(append(bytes.Clone(k), ' '), 20), []byte(" "))[:20]...)
			}, 1001},
			"two keys": {func(b state.Bound) error { return many(b, k, []byte(key("lb2")), k) }, 2001},
		} {
			for range 2 { // from the checkpoint, and from the cache
				if err := tt.call(state.AtMost(tt.enough)); err != nil {
					t.Errorf("%s: %v", name, err)
				}
				if err := tt.call(state.AtMost(tt.enough - 1)); !errors.Is(err, state.ErrTooLarge) {
					t.Errorf("%s: %v, want ErrTooLarge", name, err)
				}
			}
		}
		if _, _, err := c.DiffWithin(ctx, hash("alfred"), hash("b4"), state.Bound{Blocks: 3}); !errors.Is(err, state.ErrTooLarge) {
			t.Errorf("a diff over 4 blocks: %v", err)
		}
		_, err = c.HistoryWithin(ctx, hash("b4"), []byte(key("never")), 0, state.Bound{Blocks: 3})
		if c.CacheMisses() == 0 && err != nil && !errors.Is(err, state.ErrTooLarge) {
			t.Errorf("a history over 5 blocks: %v", err)
		}
	})
}

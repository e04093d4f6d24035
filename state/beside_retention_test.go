package state_test

import (
	"errors"
	"fmt"
	"testing"

	"accessor/state"
)

// The anchor that pruning moves is told too, and what lies below it is unknown.
func TestBesideAnOwnerThatPrunes(t *testing.T) {
	overEngines(t, func(t *testing.T, e engineCase) {
		c := newChain(t, e, small)
		c.cfg.Retention = state.Retention{Slots: 4, Step: 1}
		line := []string{"alfred"}
		for i := 1; i <= 30; i++ {
			line = append(line, fmt.Sprintf("a%02d", i))
		}
		c.grow(line...)
		c.accept(c.block("lost", "a03"))
		c.reopen()
		b := c.beside()
		c.wantHeads("a30", "alfred", "alfred")
		if _, err := b.Resolve("2"); err != nil {
			t.Error(err)
		}
		c.finalize("a30", "lost")
		c.retain()
		anchor := nameOf(c.Anchor().Hash)
		if anchor == "alfred" {
			t.Fatal("nothing was pruned")
		}
		c.wantHeads("a30", "a30", anchor)
		for slot := 0; slot <= 31; slot++ {
			want, wantErr := c.Resolve(fmt.Sprint(slot))
			got, err := b.Resolve(fmt.Sprint(slot))
			if (err == nil) != (wantErr == nil) || err == nil && got != want.Hash || err != nil && !errors.Is(err, state.ErrUnknownBlock) {
				t.Errorf("resolve %d: %q, %v; the owner: %q, %v", slot, nameOf(got), err, nameOf(want.Hash), wantErr)
			}
			if err == nil {
				if err := compareBeside(b, c.node(nameOf(got))); err != nil {
					t.Error(err)
				}
			}
		}
	})
}

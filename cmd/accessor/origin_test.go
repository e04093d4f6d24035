package main

import (
	"testing"

	"accessor/forks"
	"accessor/state"
)

// A crash before a store knows the later block that it grows from leaves none that it
// doesn't grow from: that would refuse the right one once blocks were pruned.
func TestReanchorForgetsTheOrigin(t *testing.T) {
	engine := newEngine()
	defer engine.Close()
	cfg := state.Config{Dir: t.TempDir(), Engine: engine, Retention: state.Retention{All: true}}
	acc, err := createPartial(cfg, forks.Block{Hash: forks.Hash{1}, Slot: 1, Root: forks.Hash{2}})
	if err != nil {
		t.Fatal(err)
	}
	if acc, err = reanchor(acc, cfg, forks.Block{Hash: forks.Hash{3}, Slot: 4, Root: forks.Hash{5}}); err != nil {
		t.Fatal(err)
	}
	if known := acc.Store().Meta(metaOrigin); known != nil {
		t.Errorf("it is taken to grow from %x", known)
	}
	if err := acc.Close(); err != nil {
		t.Fatal(err)
	}
}

package state_test

import (
	"context"
	"fmt"
	"log"
	"os"

	"accessor/checkpoint/rocks"
	"accessor/forks"
	"accessor/state"
)

// A program embeds the accessor: it makes a store, imports a block, and reads the
// state at it, and at its parent, through the cache.
func Example() {
	dir, err := os.MkdirTemp("", "accessor-example-")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	defer makeRemovable(dir)
	engine := rocks.New(rocks.Options{})
	defer engine.Close()
	genesis := state.Anchor{Hash: forks.Hash{1}, Pairs: func(yield func(state.Pair, error) bool) {
		yield(state.Pair{Key: []byte("balance"), Value: []byte("10")}, nil)
	}}
	acc, err := state.Create(state.Config{Dir: dir, Engine: engine, Commitment: state.None{}, CacheBytes: state.DefaultCacheBytes}, genesis)
	if err != nil {
		log.Fatal(err)
	}
	defer acc.Close()

	ctx := context.Background()
	block := &state.Block{Hash: forks.Hash{2}, Parent: forks.Hash{1}, Slot: 1,
		Puts: []state.Pair{{Key: []byte("balance"), Value: []byte("7")}}}
	if _, err := acc.Import(ctx, block); err != nil {
		log.Fatal(err)
	}
	for _, name := range []string{"head", "genesis"} {
		b, err := acc.Resolve(name) // once: the view is of that block whatever comes
		if err != nil {
			log.Fatal(err)
		}
		v, err := acc.View(ctx, b.Hash)
		if err != nil {
			log.Fatal(err)
		}
		value, present, err := v.Get([]byte("balance"))
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%s: slot %d, balance %s, %t\n", name, v.Block().Slot, value, present)
		v.Close()
	}
	// Output:
	// head: slot 1, balance 7, true
	// genesis: slot 0, balance 10, true
}

package state

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"accessor/checkpoint"
	"accessor/forks"
	"accessor/locking"
)

// Reanchor makes a partial store, which nobody has open, grow from a later trusted block,
// for when peers have pruned the one that it grows from. What descends from the block
// stays where that is held, and so do nodes and values that peers gave; all other blocks
// go, and the fill begins anew. Open opens it then. Errors: ErrNotDescendant for a block
// that contradicts finality, those of checkpoint.Open and of checkpoint.Store.Reanchor.
func Reanchor(cfg Config, trusted forks.Block) error {
	opts := cfg.Store
	opts.Log = cfg.Log
	store, err := checkpoint.Open(cfg.Dir, cfg.Engine, opts)
	if err != nil {
		return err
	}
	err = reanchor(store, trusted)
	if err = errors.Join(err, store.Close()); err != nil {
		return fmt.Errorf("store in %s: %w", cfg.Dir, err)
	}
	return nil
}

func reanchor(store *checkpoint.Store, trusted forks.Block) error {
	above := func(h, ancestor forks.Hash) bool {
		at := func(b forks.Block) bool { return b.Hash == ancestor }
		return slices.ContainsFunc(store.Ancestors(h), at)
	}
	kept := func(h forks.Hash) bool { return above(h, trusted.Hash) }
	// A mistyped hash must not throw away what the node has called final. A later block
	// that isn't held may well descend from that.
	if h := store.Meta(metaFinalized); len(h) == forks.HashSize && !kept(forks.Hash(h)) {
		final, err := store.Get(forks.Hash(h))
		_, unknown := store.Get(trusted.Hash)
		if err == nil && (trusted.Slot <= final.Slot || unknown == nil && !above(trusted.Hash, final.Hash)) {
			return fmt.Errorf("%w: %s at slot %d; finalized is %s at slot %d",
				ErrNotDescendant, trusted.Hash, trusted.Slot, final.Hash, final.Slot)
		}
	}
	meta := map[string][]byte{metaSync: {1}, metaPins: keptPins(store.Meta(metaPins), kept)}
	for _, name := range []string{metaHead, metaFinalized} {
		if h := store.Meta(name); len(h) != forks.HashSize || !kept(forks.Hash(h)) {
			meta[name] = nil
		}
	}
	return store.Reanchor(checkpoint.Record{Block: trusted}, meta)
}

// keptPins gives the pins of blocks that stay.
func keptPins(text []byte, kept func(forks.Hash) bool) []byte {
	var pins []locking.Pin
	if err := json.Unmarshal(text, &pins); err != nil {
		return nil // there are none, or none that can be read
	}
	pins = slices.DeleteFunc(pins, func(p locking.Pin) bool { return !kept(p.Block) })
	text, err := json.Marshal(pins)
	if err != nil {
		return nil
	}
	return text
}

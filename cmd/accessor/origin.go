package main

import (
	"encoding/hex"
	"errors"
	"fmt"

	"accessor/forks"
	"accessor/state"
)

// metaOrigin is the name under which a store remembers the anchor that it was made
// from: hash and root. The tree's own anchor moves up as old blocks are pruned.
const metaOrigin = "origin"

func originOf(hash, root forks.Hash) []byte { return append(hash[:len(hash):len(hash)], root[:]...) }

// checkOrigin says whether a store grew from an anchor, which a flag names in some
// place. Error: state.ErrOtherAnchor.
func checkOrigin(acc *state.Accessor, dir, flag, place string, anchor forks.Block) error {
	want := originOf(anchor.Hash, anchor.Root)
	oldest := acc.Anchor()
	if oldest.Hash == anchor.Hash && oldest.Root == anchor.Root {
		if string(acc.Store().Meta(metaOrigin)) != string(want) {
			return acc.Store().SetMeta(metaOrigin, want)
		}
		return nil
	}
	known := acc.Store().Meta(metaOrigin)
	if string(known) == string(want) {
		return nil
	}
	if known == nil {
		// Made by another command, and pruned since: it remembers some of what went.
		if _, err := acc.Block(anchor.Hash); errors.Is(err, state.ErrPruned) {
			return nil
		}
		known = originOf(oldest.Hash, oldest.Root)
	}
	return fmt.Errorf("%w: %s grew from %s with root %s, %s has %s with root %s: "+
		"leave --%s out to serve that store, or give the other chain a --data of its own",
		state.ErrOtherAnchor, dir, hex.EncodeToString(known[:forks.HashSize]), hex.EncodeToString(known[forks.HashSize:]),
		place, anchor.Hash, anchor.Root, flag)
}

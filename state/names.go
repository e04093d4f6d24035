package state

import (
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	"accessor/forks"
)

// minPrefix is the fewest hex digits that may stand for a hash.
const minPrefix = 8

// maxName is the longest name: a hash with 0x in front.
const maxName = 2 + 2*forks.HashSize

// Resolve finds the block that people and programs name in one of these ways:
//
//	head, finalized, anchor   and genesis, where the anchor is one (slot 0)
//	123                       a slot: decimal digits only
//	2bf11dc5…, 0x2bf11dc5…    a hash, or 8 or more of its first hex digits; 0x
//	                          in front is needed where they hold no letter
//
// A slot at or below finalized is the canonical block of exactly that slot;
// above it is the only held block of that slot. Errors: ErrBadName,
// ErrUnknownBlock (a *NoBlockError, with the nearest block below), ErrAmbiguous
// (an *AmbiguousError, with the candidates).
func (a *Accessor) Resolve(name string) (forks.Block, error) {
	a.mu.RLock()
	defer a.mu.RUnlock()
	switch name {
	case "head":
		return a.headLocked(), nil
	case "finalized":
		return a.tree.Finalized(), nil
	case "anchor":
		return a.tree.Anchor(), nil
	case "genesis":
		if b := a.tree.Anchor(); b.Slot == 0 {
			return b, nil
		}
		return forks.Block{}, &NoBlockError{Name: "genesis (the anchor is not one)"}
	}
	if len(name) > maxName {
		return forks.Block{}, fmt.Errorf("%w: a text of %d bytes", ErrBadName, len(name))
	}
	if name != "" && strings.Trim(name, "0123456789") == "" {
		slot, err := strconv.ParseUint(name, 10, 32)
		if err != nil {
			return forks.Block{}, fmt.Errorf("%w: slot %s is above %d (a hash of digits only needs 0x in front)", ErrBadName, name, forks.MaxSlot)
		}
		return a.atSlotLocked(forks.Slot(slot))
	}
	return a.byPrefixLocked(name)
}

func (a *Accessor) atSlotLocked(slot forks.Slot) (forks.Block, error) {
	name := fmt.Sprintf("slot %d", slot)
	finalized := a.tree.Finalized()
	if slot <= finalized.Slot {
		b, ok := a.tree.AncestorAt(finalized.Hash, slot)
		switch {
		case !ok && a.tree.Anchor().Parent != (forks.Hash{}):
			// The anchor is where pruning has moved it.
			err := &NoBlockError{Name: name}
			err.prunedBelow(a.tree.Anchor())
			return forks.Block{}, err
		case !ok:
			return forks.Block{}, &NoBlockError{Name: name}
		case b.Slot != slot:
			return forks.Block{}, &NoBlockError{Name: name + " on the canonical branch", Nearest: &b}
		}
		return b, nil
	}
	switch blocks := a.tree.AtSlot(slot); len(blocks) {
	case 0:
		nearest, _ := a.tree.AncestorAt(a.headLocked().Hash, slot)
		return forks.Block{}, &NoBlockError{Name: name, Nearest: &nearest}
	case 1:
		return blocks[0], nil
	default:
		return forks.Block{}, &AmbiguousError{Name: name, Candidates: blocks}
	}
}

func (a *Accessor) byPrefixLocked(name string) (forks.Block, error) {
	digits := strings.TrimPrefix(strings.ToLower(name), "0x")
	even := digits
	if len(even)%2 != 0 {
		even += "0"
	}
	if _, err := hex.DecodeString(even); err != nil || len(digits) > 2*forks.HashSize {
		return forks.Block{}, fmt.Errorf("%w: %q (want head, finalized, anchor, genesis, a slot, or a hash)", ErrBadName, name)
	}
	if len(digits) == 2*forks.HashSize {
		h, err := forks.ParseHash(digits)
		if err != nil {
			return forks.Block{}, fmt.Errorf("%w: %w", ErrBadName, err)
		}
		return a.blockLocked(h)
	}
	if len(digits) < minPrefix {
		return forks.Block{}, fmt.Errorf("%w: %q has %d hex digits, want %d or more", ErrBadName, name, len(digits), minPrefix)
	}
	var found []forks.Block
	for b := range a.tree.All() {
		if strings.HasPrefix(b.Hash.String(), digits) {
			found = append(found, b)
		}
	}
	switch len(found) {
	case 0:
		return forks.Block{}, &NoBlockError{Name: name}
	case 1:
		return found[0], nil
	default:
		return forks.Block{}, &AmbiguousError{Name: name, Candidates: found}
	}
}

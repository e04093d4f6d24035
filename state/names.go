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
	if h, ok := wholeHash(name); ok {
		return a.Block(h) // as most readers name it
	}
	n, err := parseName(name)
	if err != nil {
		return forks.Block{}, err
	}
	a.mu.RLock()
	defer a.mu.RUnlock()
	switch n.kind {
	case nameHead:
		return a.headLocked(), nil
	case nameFinalized:
		return a.tree.Finalized(), nil
	case nameAnchor:
		return a.tree.Anchor(), nil
	case nameGenesis:
		if b := a.tree.Anchor(); b.Slot == 0 {
			return b, nil
		}
		return forks.Block{}, errNoGenesis()
	case nameSlot:
		return a.atSlotLocked(n.slot)
	}
	return a.byDigitsLocked(n)
}

func errNoGenesis() error { return &NoBlockError{Name: "genesis (the anchor is not one)"} }

// blockName is the text that names a block, understood.
type blockName struct {
	text   string
	kind   nameKind
	slot   forks.Slot // of a nameSlot
	digits string     // of a nameHash, lower-case hex: a whole hash's, or its first
}

type nameKind int

const (
	nameHash nameKind = iota
	nameSlot
	nameHead
	nameFinalized
	nameAnchor
	nameGenesis
)

// parseName reads a block's name, without looking for the block. Error:
// ErrBadName.
func parseName(text string) (blockName, error) {
	n := blockName{text: text}
	switch text {
	case "head":
		n.kind = nameHead
	case "finalized":
		n.kind = nameFinalized
	case "anchor":
		n.kind = nameAnchor
	case "genesis":
		n.kind = nameGenesis
	}
	switch {
	case n.kind != nameHash:
		return n, nil
	case len(text) > maxName:
		return n, fmt.Errorf("%w: a text of %d bytes", ErrBadName, len(text))
	case text != "" && strings.Trim(text, "0123456789") == "":
		slot, err := strconv.ParseUint(text, 10, 32)
		if err != nil {
			return n, fmt.Errorf("%w: slot %s is above %d (a hash of digits only needs 0x in front)", ErrBadName, text, forks.MaxSlot)
		}
		n.kind, n.slot = nameSlot, forks.Slot(slot)
		return n, nil
	}
	n.digits = strings.TrimPrefix(strings.ToLower(text), "0x")
	even := n.digits
	if len(even)%2 != 0 {
		even += "0"
	}
	if _, err := hex.DecodeString(even); err != nil || len(n.digits) > 2*forks.HashSize {
		return n, fmt.Errorf("%w: %q (want head, finalized, anchor, genesis, a slot, or a hash)", ErrBadName, text)
	}
	if len(n.digits) < minPrefix {
		return n, fmt.Errorf("%w: %q has %d hex digits, want %d or more", ErrBadName, text, len(n.digits), minPrefix)
	}
	return n, nil
}

// wholeHash reads a name that is a whole hash, and can be nothing else.
func wholeHash(name string) (h forks.Hash, ok bool) {
	digits := strings.TrimPrefix(name, "0x")
	if len(digits) != 2*forks.HashSize {
		return h, false
	}
	letters := len(digits) < len(name)
	for i := range h {
		high, low := hexDigits[digits[2*i]], hexDigits[digits[2*i+1]]
		if high|low > 15 {
			return h, false
		}
		h[i] = high<<4 | low
		letters = letters || high > 9 || low > 9
	}
	return h, letters
}

// hexDigits gives what a hex digit stands for, above 15 where it is none.
var hexDigits = func() (table [256]byte) {
	for c := range table {
		table[c] = 255
	}
	for i, c := range []byte("0123456789abcdef") {
		table[c] = byte(i)
	}
	for i, c := range []byte("ABCDEF") {
		table[c] = byte(10 + i)
	}
	return table
}()

// matches says whether a hash begins with the name's digits.
func (n *blockName) matches(h forks.Hash) bool { return strings.HasPrefix(h.String(), n.digits) }

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

func (a *Accessor) byDigitsLocked(n blockName) (forks.Block, error) {
	if h, err := forks.ParseHash(n.digits); err == nil {
		return a.blockLocked(h)
	}
	var found []forks.Block
	for b := range a.tree.All() {
		if n.matches(b.Hash) {
			found = append(found, b)
		}
	}
	return onlyOne(n.text, found)
}

// onlyOne gives the block that a name fits. Errors: ErrUnknownBlock, ErrAmbiguous.
func onlyOne(name string, found []forks.Block) (forks.Block, error) {
	switch len(found) {
	case 0:
		return forks.Block{}, &NoBlockError{Name: name}
	case 1:
		return found[0], nil
	default:
		return forks.Block{}, &AmbiguousError{Name: name, Candidates: found}
	}
}

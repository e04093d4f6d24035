package state

import (
	"errors"
	"fmt"
	"strings"

	"accessor/forks"
)

// Kinds of errors that an Accessor answers with. Match them with errors.Is; the
// types below carry the details.
var (
	// ErrUnknownParent: the block's parent is not held.
	ErrUnknownParent = errors.New("unknown parent")
	// ErrSlotOrder: the block's slot is not above its parent's.
	ErrSlotOrder = errors.New("slot is not above the parent's")
	// ErrPriorRoot: the block's prior root is not its parent's root.
	ErrPriorRoot = errors.New("prior root is not the parent's root")
	// ErrWrongRoot: the write set leads to another root than the block states.
	ErrWrongRoot = errors.New("wrong state root")
	// ErrConflict: the block is held with other content.
	ErrConflict = errors.New("block is held with other content")
	// ErrInvalid: the block breaks the chain's form or the store's limits.
	ErrInvalid = errors.New("invalid block")
	// ErrOtherAnchor: the store grows from another anchor.
	ErrOtherAnchor = errors.New("store has another anchor")
	// ErrCommitment: the store was made with another commitment.
	ErrCommitment = errors.New("store has another commitment")

	// ErrUnknownBlock: no such block is held.
	ErrUnknownBlock = errors.New("unknown block")
	// ErrPruned: the block was held, and is too old now.
	ErrPruned = errors.New("block was pruned")
	// ErrAmbiguous: several blocks answer to that name.
	ErrAmbiguous = errors.New("ambiguous block")
	// ErrBadName: the text can't name a block.
	ErrBadName = errors.New("not a block's name")
	// ErrNotDescendant: the block is not the finalized one's descendant.
	ErrNotDescendant = errors.New("not a descendant of the finalized block")
	// ErrUnavailable: no ancestor's checkpoint can be used to reach a block.
	ErrUnavailable = errors.New("state can't be reached")
)

// RootError says which root was stated and which one came out.
type RootError struct {
	Kind             error // ErrWrongRoot or ErrPriorRoot
	Block            forks.Hash
	Slot             forks.Slot
	Declared, Actual forks.Hash
}

// Error implements error.
func (e *RootError) Error() string {
	return fmt.Sprintf("%v: block %s at slot %d states %s, actual is %s", e.Kind, e.Block, e.Slot, e.Declared, e.Actual)
}

// Unwrap gives the kind.
func (e *RootError) Unwrap() error { return e.Kind }

// UnavailableError lists what stood in the way at each ancestor.
type UnavailableError struct {
	Block     forks.Block
	Obstacles []Obstacle
}

// Error implements error.
func (e *UnavailableError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%v: block %s at slot %d; tried", ErrUnavailable, e.Block.Hash, e.Block.Slot)
	for i, o := range e.Obstacles {
		if i == 8 {
			fmt.Fprintf(&b, "; and %d more", len(e.Obstacles)-i)
			break
		}
		fmt.Fprintf(&b, "; %s at slot %d: %v", o.Block.Hash.Short(), o.Block.Slot, o.Err)
	}
	return b.String()
}

// Unwrap gives the kind.
func (e *UnavailableError) Unwrap() error { return ErrUnavailable }

// AmbiguousError lists the blocks that a name fits.
type AmbiguousError struct {
	Name       string
	Candidates []forks.Block
}

// Error implements error.
func (e *AmbiguousError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%v: %s is", ErrAmbiguous, e.Name)
	for i, c := range e.Candidates {
		if i > 0 {
			b.WriteString(" or")
		}
		fmt.Fprintf(&b, " %s (slot %d)", c.Hash, c.Slot)
	}
	return b.String()
}

// Unwrap gives the kind.
func (e *AmbiguousError) Unwrap() error { return ErrAmbiguous }

// NoBlockError says that no block answers to a name, or none any more, and which
// held one is nearest: below it, or, of a pruned one, the oldest that is kept.
type NoBlockError struct {
	Name    string
	Nearest *forks.Block
	Pruned  bool
}

// prunedBelow makes it the error of a block that was pruned.
func (e *NoBlockError) prunedBelow(anchor forks.Block) { e.Pruned, e.Nearest = true, &anchor }

// Error implements error.
func (e *NoBlockError) Error() string {
	switch {
	case e.Pruned:
		return fmt.Sprintf("%v: %s; the oldest that is kept is %s at slot %d", ErrPruned, e.Name, e.Nearest.Hash, e.Nearest.Slot)
	case e.Nearest == nil:
		return fmt.Sprintf("%v: %s", ErrUnknownBlock, e.Name)
	}
	return fmt.Sprintf("%v: %s; nearest below is %s at slot %d", ErrUnknownBlock, e.Name, e.Nearest.Hash, e.Nearest.Slot)
}

// Unwrap gives the kind.
func (e *NoBlockError) Unwrap() error {
	if e.Pruned {
		return ErrPruned
	}
	return ErrUnknownBlock
}

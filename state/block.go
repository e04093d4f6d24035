package state

import (
	"accessor/checkpoint"
	"accessor/forks"
)

// Pair is one entry of a state: a key and its value.
type Pair = checkpoint.Pair

// Block is a block as a node hands it over: who it is, where it hangs, and the
// write set that turns the parent's state into its own.
type Block struct {
	Hash   forks.Hash // header hash
	Parent forks.Hash
	Slot   forks.Slot

	// PriorRoot is the root of the parent's state as the block states it; nil
	// where it doesn't.
	PriorRoot *forks.Hash
	// PostRoot is the root of the state after the block as the block (or who
	// executed it) states it; nil leaves it to be computed.
	PostRoot *forks.Hash

	// Puts are keys with their new values: of one key twice, the last wins.
	Puts []Pair
	// Dels are keys to remove. A key in both lists is refused.
	Dels [][]byte

	// Header is the encoded header, where the node hands it over; it is checked
	// against the fields above and kept.
	Header []byte

	// Owner names who imports the block, for others who find its slot locked. It is
	// not kept. Default: Config.Owner.
	Owner string
}

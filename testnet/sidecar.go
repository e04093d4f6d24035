package testnet

import (
	"context"
	"errors"
	"fmt"

	"accessor/api/client"
	"accessor/da"
	"accessor/forks"
	"accessor/state"
)

// Errors of sidecars that the runner tells apart; all others say that there was no answer.
var (
	// ErrUnknownParent: the block's parent is not held.
	ErrUnknownParent = errors.New("parent is not held")
	// ErrNotFetched: peers could not be asked for what is missing. Later they may be.
	ErrNotFetched = errors.New("not fetched from peers")
	// ErrWrong: an answer that is wrong by itself, such as an invalid proof, or one that a
	// block that was acknowledged is not held.
	ErrWrong = errors.New("wrong answer")
)

// told gives an error the kind that the runner goes by.
func told(kind, err error) error { return fmt.Errorf("%w: %w", kind, err) }

// Sidecar is a node's accessor. The runner calls Start, Kill, Stop and Close from one
// goroutine at a time; the others, while it runs, from several.
type Sidecar interface {
	// Start starts it, and returns when it answers. The first time it makes its store
	// from the anchor; then it has what it acknowledged.
	Start(ctx context.Context) error
	// Kill ends it at once, as a power cut would, whatever it is doing.
	Kill() error
	// Stop ends it in order.
	Stop() error
	// Close kills it where it runs.
	Close() error

	// Import hands a block over. Errors: ErrUnknownParent and ErrNotFetched, among others.
	Import(ctx context.Context, b *state.Block) (Imported, error)
	SetHead(ctx context.Context, h forks.Hash) error
	Finalize(ctx context.Context, h forks.Hash) error

	// Read gives the values of keys at a block, nil for absent ones. Error of all reads:
	// ErrWrong, among others.
	Read(ctx context.Context, at forks.Hash, keys [][]byte) ([][]byte, error)
	// ReadProven is Read that believes nothing but a root: proofs are asked for and
	// checked.
	ReadProven(ctx context.Context, at, root forks.Hash, keys [][]byte) ([][]byte, error)
	// Scan gives the whole state at a block, in the order of the keys.
	Scan(ctx context.Context, at forks.Hash, pair func(key, value []byte) bool) error
	// Keep hands a shard over: when it returns, the shard is kept for good.
	Keep(ctx context.Context, spec da.Spec, index int, sh da.Shard) error
	// Kept gives a shard that is kept here.
	Kept(ctx context.Context, root forks.Hash, index int) (client.ErasureShard, error)
	// Bundle and Segment give parts of a work package, from shards that are kept here or
	// by peers. Error: ErrWrong, among others.
	Bundle(ctx context.Context, spec da.Spec) ([]byte, error)
	Segment(ctx context.Context, spec da.Spec, i int) ([]byte, error)

	// Roots gives the root of each block that is held.
	Roots(ctx context.Context) (map[forks.Hash]forks.Hash, error)
	// Status says how it stands.
	Status(ctx context.Context) (Status, error)
}

// Imported is what a sidecar says of an import.
type Imported struct {
	Root     forks.Hash
	WalkBack bool // the parent's state had to be reached from further back
}

// Status is how a sidecar stands.
type Status struct {
	Head, Finalized forks.Block
	Blocks, Heads   int
	Locks           int
	Fetches         uint64 // from peers
	Rejected        uint64 // peers' answers that were refused
	Banned          int    // peers that are banned
	Partial         bool   // a part of the state is missing: peers are asked for it
}

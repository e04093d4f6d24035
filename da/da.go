// Package da fetches from peers what this machine doesn't have, and serves peers what
// it has, over libp2p: keys and ranges of a state with their proofs, blocks, items by
// hash, and erasure-coded shards. PROTOCOL.md has every byte that travels. It is the
// only package that knows libp2p.
//
// Invariants:
//   - What a fetch returns has been checked against what the caller named: a state's
//     root, a hash, an erasure root. A peer whose answer fails the check is banned.
//     Blocks are the exception, see Node.FetchBlocks.
//   - Every length is bounded before it is read, every stream has a deadline, and an
//     answer that comes slower than Config.MinRate is given up.
//   - Equal fetches at one time are one fetch. What they return is shared: treat it as
//     read-only.
//   - That nobody has something is an error, never kept, and never says that it doesn't
//     exist.
//   - Serving has limits of its own (Config.Serve), and is off until switched on.
package da

import (
	"context"
	"errors"

	"accessor/da/justify"
	"accessor/da/shards"
	"accessor/forks"
	"accessor/state/merkle"
)

// Errors of fetches. Match them with errors.Is.
var (
	// ErrNotFound: every peer that serves such things said that it hasn't this one.
	ErrNotFound = errors.New("no peer has it")
	// ErrNoPeers: there is no peer that could be asked: none is known, or all are banned
	// or don't serve such things to this node.
	ErrNoPeers = errors.New("no peers")
	// ErrUnavailable: no answer came in time, or none is to be expected because all
	// peers failed lately. It wraps ctx's error where ctx ended.
	ErrUnavailable = errors.New("data is not available from peers")
	// ErrTooLarge: the proof of these keys is above MaxAnswer. Ask for fewer at once.
	ErrTooLarge = errors.New("answer is too large")
	// ErrRequest: the request itself is wrong (no keys, not ascending, out of bounds).
	ErrRequest = errors.New("invalid request")
	// ErrEncoding: every shard is justified, yet together they don't give the item. So
	// who encoded it is at fault, and no peer.
	ErrEncoding = errors.New("item was encoded wrongly")
	// ErrClosed: the node is closed.
	ErrClosed = errors.New("node is closed")
)

// ErrNotHeld is what a Source says of things it hasn't: the peer asks another.
var ErrNotHeld = errors.New("not held here")

// Bounds of requests and answers, in bytes unless they say otherwise. They are parts
// of the protocol.
const (
	// MaxAnswer bounds an answer about a state or with blocks, but for one that has to
	// hold a single larger value or block.
	MaxAnswer = 8 << 20
	// MaxItem bounds an item, a single value and a single block. The largest work
	// bundle of the Gray Paper has 13,791,360 bytes.
	MaxItem = 16 << 20
	// MaxKeys bounds the keys of a request.
	MaxKeys = 4096
	// MaxSegments bounds the segments of a work package: 3,072 exported ones and their
	// pages of proofs.
	MaxSegments = shards.MaxSegments
)

// Block is a block with its write set, as it is kept and handed on.
type Block struct {
	Hash, Parent        forks.Hash
	Slot                forks.Slot
	PriorRoot, PostRoot forks.Hash
	Puts                [][2][]byte // keys of 31 bytes with their new values
	Dels                [][]byte    // keys of 31 bytes
	Header              []byte      // encoded; empty where the peer hasn't got it
	From                string      // of a fetched block: who gave it, for Node.Blame
}

// Shard is what one holder keeps of a work package, for one index.
type Shard = shards.Shard

// Source is what a node serves from. Its methods are called by many goroutines at a
// time, as many as Config.Serve says; a nil Source serves nothing. ErrNotHeld says:
// not here. Any other error is told to the peer as "try again", and counted.
type Source interface {
	// Prove gives the proof of keys, ascending, in the state after a block.
	// ErrTooLarge where it is above most bytes.
	Prove(ctx context.Context, block forks.Hash, keys [][merkle.KeySize]byte, most int) (*merkle.Proof, error)
	// ProveRange answers a range request.
	ProveRange(ctx context.Context, block forks.Hash, req merkle.RangeRequest) (*merkle.Proof, error)
	// Blocks gives held descendants of a block, parents before children, in about most
	// bytes, and one at least if there is one. ErrNotHeld where the block is unknown.
	Blocks(ctx context.Context, above forks.Hash, most int) ([]Block, error)
	// Item gives what has that BLAKE2b-256 hash.
	Item(ctx context.Context, hash forks.Hash) ([]byte, error)
	// Shard gives the shard with that index, from 0.
	Shard(ctx context.Context, erasureRoot forks.Hash, index uint16) (Shard, error)
}

// Spec is what a reader trusts of a work package, from the availability specifier in
// its work report.
type Spec struct {
	Root         forks.Hash // erasure root
	Shards       int        // validators: 6 or 1,023
	Length       int        // of the bundle, in bytes
	Hash         forks.Hash // BLAKE2b-256 of the bundle; zero: not checked
	Exported     int        // segments, without the pages of proofs
	SegmentsRoot forks.Hash
}

// pages is the number of segments that hold proofs of the others.
func (s Spec) pages() int { return (s.Exported + segmentsOfPage - 1) / segmentsOfPage }

// segmentsOfPage is how many segments one page of proofs covers.
const segmentsOfPage = 64

func (s Spec) justify() justify.Spec {
	return justify.Spec{Root: s.Root, Shards: s.Shards, Segments: s.Exported + s.pages()}
}

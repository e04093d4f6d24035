// Package erasure is JAM's erasure coding: it turns data into the shards that
// validators hold, and any K of the N shards back into the data.
//
// The source is the Gray Paper 0.7.2, appendix H: 16-bit words over GF(2^16), a
// polynomial through the K original words of each position, its values at further
// points as parity. The published vectors are the last word where the text differs:
// they pad the K originals with zeros to P points, the next power of two (2 and 512),
// and take parity shard K+j at point P+j. For the full parameters the text has it
// at point K+j; no published vector agrees with that.
//
// Nothing here is authenticated: a wrong shard of the right size gives wrong data.
// Package justify checks shards before they are used. The package keeps no state but
// tables and buffers, does no I/O, and all of it is safe for concurrent use.
package erasure

import (
	"errors"
	"fmt"
	"sync"
)

// MaxSize bounds the data of one item, in bytes: the largest work bundle of the Gray
// Paper has 13,791,360.
const MaxSize = 16 << 20

var (
	// ErrSize: the length of the data is negative or above MaxSize.
	ErrSize = errors.New("length of data out of bounds")
	// ErrShards: the list of shards has not one place for each shard.
	ErrShards = errors.New("wrong number of places for shards")
	// ErrTooFew: fewer than K shards are there.
	ErrTooFew = errors.New("too few shards")
	// ErrShardSize: a shard has another size than the length of the data implies. It
	// comes in a ShardError.
	ErrShardSize = errors.New("wrong size of shard")
)

// ShardError says which shard is at fault; errors.Is finds the reason.
type ShardError struct {
	Index int // of the shard, from 0
	Err   error
}

func (e *ShardError) Error() string { return fmt.Sprintf("shard %d: %v", e.Index, e.Err) }
func (e *ShardError) Unwrap() error { return e.Err }

// Code is one set of parameters. There are two: Tiny and Full.
//
// The points of a polynomial are seen as chunks of P: the originals are at the front
// of chunk 0, with zeros behind them, the parity is all of chunk 1 and the front of
// chunk 2.
type Code struct {
	k, n, p int
	leopard func() *leopard // made by the first item that needs it: 74 MiB of tables
}

var (
	tiny = sync.OnceValue(func() *Code { return newCode(2, 6, 2) })
	full = sync.OnceValue(func() *Code { return newCode(342, 1023, 512) })
)

// Tiny has the parameters of 6 validators: any 2 of 6 shards.
func Tiny() *Code { return tiny() }

// Full has the parameters of 1,023 validators: any 342 of 1,023 shards.
func Full() *Code { return full() }

func newCode(k, n, p int) *Code {
	return &Code{k, n, p, sync.OnceValue(func() *leopard { return newLeopard(p) })}
}

// K is the number of shards that give the data back, and of original shards.
func (c *Code) K() int { return c.k }

// N is the number of shards.
func (c *Code) N() int { return c.n }

// ShardSize is the size in bytes of each shard of that many bytes of data: even, and
// at least 2.
func (c *Code) ShardSize(length int) int {
	return 2 * max(1, (length+2*c.k-1)/(2*c.k))
}

// point is where the polynomial has the words of a shard.
func (c *Code) point(shard int) int {
	if shard < c.k {
		return shard
	}
	return shard - c.k + c.p
}

// Encode gives the N shards of the data, ShardSize bytes each. The first K are the
// data itself with zeros behind it. They are copies. Error: ErrSize.
func (c *Code) Encode(data []byte) ([][]byte, error) {
	if len(data) > MaxSize {
		return nil, fmt.Errorf("encode: %w: %d bytes, at most %d", ErrSize, len(data), MaxSize)
	}
	size := c.ShardSize(len(data))
	all := make([]byte, c.n*size)
	copy(all, data)
	shards := make([][]byte, c.n)
	for i := range shards {
		shards[i] = all[i*size : (i+1)*size : (i+1)*size]
	}
	c.encodeParity(shards, size)
	return shards, nil
}

// Reconstruct gives the data of that length from any K shards. shards has N places;
// shard i is at place i, a missing one is nil or empty. Originals are taken first,
// then parity shards in their order; of what is beyond K only the size is looked at.
//
// All originals cost a copy. A segment costs the same from any other set; of larger
// data, 1 MiB takes about half the time if all shards taken are below point 2P, which for
// Full means shards 0 to 853.
// Errors: ErrSize, ErrShards, ErrTooFew; ErrShardSize in a ShardError.
func (c *Code) Reconstruct(shards [][]byte, length int) ([]byte, error) {
	if length < 0 || length > MaxSize {
		return nil, fmt.Errorf("reconstruct: %w: %d bytes, at most %d", ErrSize, length, MaxSize)
	}
	if len(shards) != c.n {
		return nil, fmt.Errorf("reconstruct: %w: %d, not %d", ErrShards, len(shards), c.n)
	}
	size := c.ShardSize(length)
	have := make([]int, 0, c.k)
	present := 0
	for i, shard := range shards {
		switch {
		case len(shard) == 0:
			continue
		case len(shard) != size:
			return nil, &ShardError{i, fmt.Errorf("%w: %d bytes, not %d", ErrShardSize, len(shard), size)}
		case present < c.k:
			have = append(have, i)
		}
		present++
	}
	if present < c.k {
		return nil, fmt.Errorf("reconstruct: %w: %d of %d", ErrTooFew, present, c.k)
	}
	out := make([]byte, c.k*size)
	for _, i := range have {
		if i < c.k {
			copy(out[i*size:], shards[i])
		}
	}
	switch last := have[c.k-1]; {
	case last < c.k: // all originals
	case size <= solveBelow:
		c.solve(out, shards, have, size)
	case c.point(last) < 2*c.p:
		c.rebuildNext(out, shards, have, size)
	default:
		c.rebuildWhole(out, shards, have, size)
	}
	return out[:length], nil
}

package da

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/libp2p/go-libp2p/core/protocol"

	"accessor/forks"
	"accessor/jam"
	"accessor/state/merkle"
)

// kind is one of the protocols.
type kind int

const (
	kindRange   kind = iota // CE 129: a range of a state
	kindKeys                // keys of a state
	kindBlocks              // blocks above a block
	kindItem                // an item by hash
	kindBundle              // CE 138: shards of a bundle
	kindSegment             // CE 140: shards of a segment
	kinds                   // how many there are
)

var protocols = [kinds]protocol.ID{
	"/accessor/state/1", "/accessor/keys/1", "/accessor/blocks/1",
	"/accessor/item/1", "/accessor/shard/1", "/accessor/segment/1",
}

// Status is an answer's first byte.
const (
	statusOK         = iota
	statusNotHeld    // ask another
	statusOverloaded // u32 follows: milliseconds until it makes sense to ask again
	statusRefused    // this node doesn't serve that to this peer
	statusBad        // the request is malformed
	statusTooLarge   // the answer would be above the bound
)

// overloadedError: ask again after a while.
type overloadedError struct{ after time.Duration }

func (e *overloadedError) Error() string { return fmt.Sprintf("overloaded for %v", e.after) }

var (
	errRefused     = errors.New("refused")
	errUnsupported = errors.New("peer doesn't serve that")
)

// maxBackOff bounds what an overloaded peer may ask for.
const maxBackOff = 10 * time.Second

// readStatus reads how an answer starts: nil where messages follow.
func readStatus(r io.Reader) error {
	var b [4]byte
	if _, err := io.ReadFull(r, b[:1]); err != nil {
		// An end here is not held against the peer: it may be shutting down.
		return fmt.Errorf("read answer: %w", err)
	}
	m := messages{r}
	var err error
	switch b[0] {
	case statusOK:
		return nil
	case statusNotHeld:
		err = ErrNotHeld
	case statusOverloaded:
		if _, err := io.ReadFull(r, b[:]); err != nil {
			return cut(err)
		}
		after := time.Duration(binary.LittleEndian.Uint32(b[:])) * time.Millisecond
		err = &overloadedError{min(after, maxBackOff)}
	case statusRefused:
		err = errRefused
	case statusTooLarge:
		err = ErrTooLarge
	case statusBad:
		// The request came from this node's own encoder.
		return invalid("it calls a request malformed")
	default:
		return invalid("status %d", b[0])
	}
	if e := m.end(); e != nil {
		return e
	}
	return err
}

// rangeRequestSize is the size of CE 129's request.
const rangeRequestSize = 32 + 2*merkle.KeySize + 4

func encodeRange(block forks.Hash, req merkle.RangeRequest) []byte {
	b := append(make([]byte, 0, rangeRequestSize), block[:]...)
	b = append(append(b, req.Start[:]...), req.End[:]...)
	return binary.LittleEndian.AppendUint32(b, req.MaxSize)
}

func decodeRange(b []byte) (block forks.Hash, req merkle.RangeRequest, err error) {
	if len(b) != rangeRequestSize {
		return block, req, fmt.Errorf("%w: %d bytes", ErrRequest, len(b))
	}
	req.Start = [merkle.KeySize]byte(b[32:])
	req.End = [merkle.KeySize]byte(b[32+merkle.KeySize:])
	req.MaxSize = binary.LittleEndian.Uint32(b[32+2*merkle.KeySize:])
	if bytes.Compare(req.Start[:], req.End[:]) > 0 {
		return block, req, fmt.Errorf("%w: start above end", ErrRequest)
	}
	return forks.Hash(b), req, nil
}

// encodeKeys: header hash ++ maximum size u32 ++ keys, ascending.
func encodeKeys(block forks.Hash, keys [][merkle.KeySize]byte, most int) []byte {
	b := append(make([]byte, 0, 36+len(keys)*merkle.KeySize), block[:]...)
	b = binary.LittleEndian.AppendUint32(b, uint32(most))
	for i := range keys {
		b = append(b, keys[i][:]...)
	}
	return b
}

func decodeKeys(b []byte) (block forks.Hash, keys [][merkle.KeySize]byte, most int, err error) {
	if len(b) < 36+merkle.KeySize || (len(b)-36)%merkle.KeySize != 0 {
		return block, nil, 0, fmt.Errorf("%w: %d bytes", ErrRequest, len(b))
	}
	most = int(min(binary.LittleEndian.Uint32(b[32:]), MaxItem))
	keys = make([][merkle.KeySize]byte, (len(b)-36)/merkle.KeySize)
	for i := range keys {
		keys[i] = [merkle.KeySize]byte(b[36+i*merkle.KeySize:])
	}
	return forks.Hash(b), keys, most, checkKeys(keys)
}

// checkKeys checks the number and order of the keys of a request.
func checkKeys(keys [][merkle.KeySize]byte) error {
	if len(keys) == 0 || len(keys) > MaxKeys {
		return fmt.Errorf("%w: %d keys, at most %d", ErrRequest, len(keys), MaxKeys)
	}
	for i := 1; i < len(keys); i++ {
		if bytes.Compare(keys[i-1][:], keys[i][:]) >= 0 {
			return fmt.Errorf("%w: key %x after %x", ErrRequest, keys[i], keys[i-1])
		}
	}
	return nil
}

// encodeBlocks: hash of the block below ++ maximum size u32.
func encodeBlocks(above forks.Hash, most int) []byte {
	return binary.LittleEndian.AppendUint32(above[:], uint32(most))
}

func decodeBlocks(b []byte) (above forks.Hash, most int, err error) {
	if len(b) != 36 {
		return above, 0, fmt.Errorf("%w: %d bytes", ErrRequest, len(b))
	}
	return forks.Hash(b), int(min(binary.LittleEndian.Uint32(b[32:]), MaxAnswer)), nil
}

// shardRequest asks for shards of a bundle, or of one segment (CE 138 and 140, for
// several indices at once).
type shardRequest struct {
	root    forks.Hash
	segment int // -1: of the bundle
	most    int // how many of them at most
	indices []uint16
}

// maxShards is the largest number of shards: indices are below it.
const maxShards = 1023

// encode: erasure root ++ [segment index u16] ++ at most u16 ++ shard indices u16.
func (q shardRequest) encode() []byte {
	b := append(make([]byte, 0, 36+2*len(q.indices)), q.root[:]...)
	if q.segment >= 0 {
		b = binary.LittleEndian.AppendUint16(b, uint16(q.segment))
	}
	b = binary.LittleEndian.AppendUint16(b, uint16(q.most))
	for _, i := range q.indices {
		b = binary.LittleEndian.AppendUint16(b, i)
	}
	return b
}

func decodeShards(k kind, b []byte) (q shardRequest, err error) {
	head := 34
	if k == kindSegment {
		head = 36
	}
	n := (len(b) - head) / 2
	if len(b) < head+2 || len(b)%2 != 0 || n > maxShards {
		return q, fmt.Errorf("%w: %d bytes", ErrRequest, len(b))
	}
	q = shardRequest{root: forks.Hash(b), segment: -1, indices: make([]uint16, n)}
	if k == kindSegment {
		q.segment = int(binary.LittleEndian.Uint16(b[32:]))
	}
	q.most = int(binary.LittleEndian.Uint16(b[head-2:]))
	seen := map[uint16]bool{}
	for i := range q.indices {
		at := binary.LittleEndian.Uint16(b[head+2*i:])
		if at >= maxShards || seen[at] {
			return q, fmt.Errorf("%w: shard %d, or twice", ErrRequest, at)
		}
		q.indices[i], seen[at] = at, true
	}
	if q.most == 0 || q.segment >= MaxSegments {
		return q, fmt.Errorf("%w: %d shards of segment %d", ErrRequest, q.most, q.segment)
	}
	return q, nil
}

// appendBlock: hash ++ parent ++ slot u32 ++ prior root ++ posterior root ++
// len++header ++ len++[key ++ len++value] ++ len++[key].
func appendBlock(b []byte, block *Block) ([]byte, error) {
	b = append(append(b, block.Hash[:]...), block.Parent[:]...)
	b = binary.LittleEndian.AppendUint32(b, uint32(block.Slot))
	b = append(append(b, block.PriorRoot[:]...), block.PostRoot[:]...)
	b = append(jam.AppendNat(b, uint64(len(block.Header))), block.Header...)
	b = jam.AppendNat(b, uint64(len(block.Puts)))
	for _, put := range block.Puts {
		if len(put[0]) != merkle.KeySize {
			return nil, fmt.Errorf("block %s: key of %d bytes", block.Hash, len(put[0]))
		}
		b = append(b, put[0]...)
		b = append(jam.AppendNat(b, uint64(len(put[1]))), put[1]...)
	}
	b = jam.AppendNat(b, uint64(len(block.Dels)))
	for _, key := range block.Dels {
		if len(key) != merkle.KeySize {
			return nil, fmt.Errorf("block %s: key of %d bytes", block.Hash, len(key))
		}
		b = append(b, key...)
	}
	return b, nil
}

// blockHead is the size of a block's fixed fields.
const blockHead = 4*forks.HashSize + 4

// decodeBlock reads all of b; what it gives are parts of it.
func decodeBlock(b []byte) (Block, error) {
	if len(b) < blockHead {
		return Block{}, invalid("a block of %d bytes", len(b))
	}
	block := Block{
		Hash: forks.Hash(b), Parent: forks.Hash(b[32:]),
		Slot:      forks.Slot(binary.LittleEndian.Uint32(b[64:])),
		PriorRoot: forks.Hash(b[68:]), PostRoot: forks.Hash(b[100:]),
	}
	c := cutter{b: b[blockHead:]}
	block.Header = c.bytes()
	// A put takes 32 bytes at least and a delete 31, so their numbers are bounded by
	// what is there.
	for n := c.count(merkle.KeySize + 1); n > 0 && c.err == nil; n-- {
		key := c.take(merkle.KeySize)
		block.Puts = append(block.Puts, [2][]byte{key, c.bytes()})
	}
	for n := c.count(merkle.KeySize); n > 0 && c.err == nil; n-- {
		block.Dels = append(block.Dels, c.take(merkle.KeySize))
	}
	if c.err == nil && len(c.b) > 0 {
		c.err = fmt.Errorf("%d bytes too many", len(c.b))
	}
	if c.err != nil {
		return Block{}, invalid("block %s: %w", block.Hash, c.err)
	}
	return block, nil
}

// cutter takes parts from the front of b. Its first error stays.
type cutter struct {
	b   []byte
	err error
}

func (c *cutter) take(n int) []byte {
	if c.err == nil && n > len(c.b) {
		c.err = fmt.Errorf("%d bytes where %d are left", n, len(c.b))
	}
	if c.err != nil {
		return nil
	}
	part := c.b[:n:n]
	c.b = c.b[n:]
	return part
}

// count reads the number of things that take so many bytes at least.
func (c *cutter) count(least int) int {
	if c.err != nil {
		return 0
	}
	n, rest, err := jam.CutNat(c.b)
	if err == nil && n > uint64(len(rest)/least) {
		err = fmt.Errorf("%d things in %d bytes", n, len(rest))
	}
	if err != nil {
		c.err = err
		return 0
	}
	c.b = rest
	return int(n)
}

func (c *cutter) bytes() []byte { return c.take(c.count(1)) }

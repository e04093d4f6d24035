package testnet

import (
	"encoding/binary"
	"iter"
	"maps"
	"math/rand/v2"
	"slices"

	"accessor/forks"
	"accessor/jam"
	"accessor/state"
	"accessor/state/merkle"
)

// Anchor is the block that the chain grows from, with its whole state.
type Anchor struct {
	forks.Block
	Header []byte
	Pairs  []state.Pair // in ascending order of the keys
}

// block is a block that was made. Its state is exact: what the block wrote, over what
// its parent's state has.
type block struct {
	state.Block
	name   string // b7, the seventh that was made; or what the scenario calls it
	root   forks.Hash
	parent *block // nil of the anchor
	height int
	kids   int
	late   bool              // sibling of an earlier one
	made   *side             // on which it was published
	writes map[string][]byte // nil for a deleted key
	// whole is the state as one map: of the anchor, of the newest blocks, and of each
	// wholeEvery-th height, so that looking a key up goes a few blocks back at most.
	whole map[string][]byte
}

const (
	wholeEvery  = 32
	wholeNewest = 64
)

// get is the model: a key's value at the block.
func (b *block) get(key string) (value []byte, present bool) {
	for ; b.whole == nil; b = b.parent {
		if value, written := b.writes[key]; written {
			return value, value != nil
		}
	}
	value, present = b.whole[key]
	return value, present
}

// state gives the whole state as a map, which nobody may change.
func (b *block) state() map[string][]byte {
	if b.whole != nil {
		return b.whole
	}
	all := maps.Clone(b.parent.state())
	for key, value := range b.writes {
		if value == nil {
			delete(all, key)
		} else {
			all[key] = value
		}
	}
	return all
}

// sorted yields a state in the order of its keys.
func sorted(all map[string][]byte) iter.Seq2[[]byte, []byte] {
	keys := slices.Sorted(maps.Keys(all))
	return func(yield func(key, value []byte) bool) {
		for _, key := range keys {
			if !yield([]byte(key), all[key]) {
				return
			}
		}
	}
}

// above says whether the block is other or a descendant of it.
func (b *block) above(other *block) bool {
	for b != nil && b.height > other.height {
		b = b.parent
	}
	return b == other
}

// back is the ancestor so many blocks back, no further than least.
func (b *block) back(depth int, least *block) *block {
	for ; depth > 0 && b != least && b.parent != nil; depth-- {
		b = b.parent
	}
	return b
}

// common is the newest block that both grow from.
func common(a, b *block) *block {
	for a != b {
		if a.height >= b.height {
			a = a.parent
		} else {
			b = b.parent
		}
	}
	return a
}

// chain makes blocks, and keeps all of them.
type chain struct {
	bits   *rand.ChaCha8 // the one source of contents
	rnd    *rand.Rand    // over bits
	blocks []*block      // the anchor, then in the order in which they were made
	byName map[string]*block
	keys   []string // every service's item that any state ever had
	late   int      // blocks that are siblings of an earlier one
}

// tinyValidators is the number of validators of the chain spec tiny.
const tinyValidators = 6

// items are the state items of the chain's own that every block writes, and the sizes
// of their values in bytes.
var items = []struct {
	name string
	size int
}{{"recent", 1790}, {"entropy", 128}, {"statistics", 200}}

func newChain(seed uint64, keys int) (*chain, error) {
	var s [32]byte
	binary.LittleEndian.PutUint64(s[:], seed)
	c := &chain{bits: rand.NewChaCha8(s), byName: make(map[string]*block)}
	c.rnd = rand.New(c.bits)
	first := make(map[string][]byte, keys+16)
	for _, name := range jam.ItemNames() {
		first[itemKey(name)] = c.random(64)
	}
	for _, item := range items {
		first[itemKey(item.name)] = c.random(item.size)
	}
	first[itemKey(jam.SlotItem)] = make([]byte, 4)
	for range keys {
		first[c.newKey()] = c.value()
	}
	root, err := merkle.Root(sorted(first))
	if err != nil {
		return nil, err
	}
	header := jam.FullHeader{EpochMark: c.random(2*forks.HashSize + tinyValidators*64), Author: 1<<16 - 1}
	anchor := &block{name: "anchor", root: root, whole: first}
	anchor.Header = header.Encode()
	anchor.Hash = jam.HeaderHash(anchor.Header)
	c.add(anchor)
	return c, nil
}

func itemKey(name string) string {
	key, ok := jam.ItemKey(name)
	if !ok {
		panic("no state item " + name)
	}
	return string(key)
}

func (c *chain) anchor() *block { return c.blocks[0] }

func (c *chain) anchorState() *Anchor {
	b := c.anchor()
	out := &Anchor{Block: forks.Block{Hash: b.Hash, Slot: b.Slot, Root: b.root}, Header: b.Header}
	for key, value := range sorted(b.whole) {
		out.Pairs = append(out.Pairs, state.Pair{Key: key, Value: value})
	}
	return out
}

func (c *chain) add(b *block) {
	c.byName[b.name] = b
	c.blocks = append(c.blocks, b)
	if old := len(c.blocks) - wholeNewest; old > 0 {
		if o := c.blocks[old]; o.height%wholeEvery != 0 {
			o.whole = nil
		}
	}
}

func (c *chain) random(n int) []byte {
	b := make([]byte, n)
	_, _ = c.bits.Read(b) // never fails
	return b
}

// newKey makes the key of some service's item.
func (c *chain) newKey() string {
	key := string(c.random(jam.KeySize))
	c.keys = append(c.keys, key)
	return key
}

// value makes one of a size as it comes in real states: often tiny, once in a while
// empty or large.
func (c *chain) value() []byte {
	switch p := c.rnd.IntN(100); {
	case p == 0:
		return []byte{}
	case p < 50:
		return c.random(1 + c.rnd.IntN(merkle.MaxEmbedded))
	case p < 97:
		return c.random(1 + c.rnd.IntN(300))
	}
	return c.random(1 + c.rnd.IntN(5000))
}

// grow makes a block on a parent, and its state. The root is not stated in the block:
// the sidecars must find it.
func (c *chain) grow(parent *block, slot forks.Slot, writes int, name string) (*block, error) {
	b := &block{name: name, parent: parent, height: parent.height + 1, late: parent.kids > 0}
	b.writes = c.writeSet(parent, slot, writes)
	b.whole = b.state()
	var err error
	if b.root, err = merkle.Root(sorted(b.whole)); err != nil {
		return nil, err
	}
	header := jam.FullHeader{
		Header: jam.Header{Parent: parent.Hash, PriorRoot: parent.root, Slot: slot},
		Author: uint16(slot % tinyValidators),
	}
	header.ExtrinsicHash = forks.Hash(c.random(forks.HashSize))
	_, _ = c.bits.Read(header.Seal[:])
	encoded := header.Encode()
	b.Block = state.Block{
		Hash: jam.HeaderHash(encoded), Parent: parent.Hash, Slot: slot, PriorRoot: &parent.root, Header: encoded,
	}
	for _, key := range slices.Sorted(maps.Keys(b.writes)) {
		if value := b.writes[key]; value == nil {
			b.Dels = append(b.Dels, []byte(key))
		} else {
			b.Puts = append(b.Puts, state.Pair{Key: []byte(key), Value: value})
		}
	}
	parent.kids++
	if b.late {
		c.late++
	}
	c.add(b)
	return b, nil
}

// writeSet makes up what a block writes: some items of the chain's own, and so many of
// services, of which some are new and some go.
func (c *chain) writeSet(parent *block, slot forks.Slot, n int) map[string][]byte {
	out := make(map[string][]byte, n+4)
	out[itemKey(jam.SlotItem)] = binary.LittleEndian.AppendUint32(nil, uint32(slot))
	for _, item := range items {
		out[itemKey(item.name)] = c.random(item.size)
	}
	for range n {
		key := c.keys[c.rnd.IntN(len(c.keys))]
		_, there := parent.get(key)
		switch p := c.rnd.IntN(100); {
		case p < 15:
			out[c.newKey()] = c.value()
		case p < 35 && there:
			out[key] = nil
		default:
			out[key] = c.value() // one that was deleted comes back
		}
	}
	return out
}

package da

import (
	"bytes"
	"context"
	"encoding/binary"
	"iter"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"accessor/da/erasure"
	"accessor/da/justify"
	"accessor/forks"
	"accessor/jam"
	"accessor/state/merkle"
)

type key = [merkle.KeySize]byte

// records is a trie's Source in memory.
type records map[string][]byte

func (r records) Get(key []byte) ([]byte, bool, error) {
	v, ok := r[string(key)]
	return v, ok, nil
}

func (r records) GetMany(keys [][]byte) ([][]byte, error) {
	values := make([][]byte, len(keys))
	for i, k := range keys {
		values[i] = r[string(k)]
	}
	return values, nil
}

func (r records) Scan(from, to []byte, yield func(key, value []byte) bool) error {
	for _, k := range slices.Sorted(maps.Keys(r)) {
		if k >= string(from) && k < string(to) && !yield([]byte(k), r[k]) {
			break
		}
	}
	return nil
}

// library is a Source that has everything: one state, blocks above it with a fork, items,
// and the shards of two work packages, one of each code.
type library struct {
	at     forks.Block
	keys   []key // of the state, ascending
	values map[key][]byte
	trie   *merkle.Trie
	blocks []Block
	items  map[forks.Hash][]byte
	works  map[forks.Hash]*work

	delay time.Duration // of each answer
}

// work is a work package: what it is, and its shards.
type work struct {
	spec     Spec
	bundle   []byte
	segments [][]byte
	shards   []Shard
}

func filled(r *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// books is one library that all tests read.
var books = sync.OnceValue(func() *library {
	r := rand.New(rand.NewPCG(1, 2))
	l := &library{values: map[key][]byte{}, items: map[forks.Hash][]byte{}, works: map[forks.Hash]*work{}}
	for range 500 {
		// The top bit is 0: so there is an empty side.
		k := key(filled(r, merkle.KeySize))
		k[0] &= 0x7f
		l.values[k] = filled(r, 1+r.IntN(200))
	}
	l.keys = slices.SortedFunc(maps.Keys(l.values), func(a, b key) int { return bytes.Compare(a[:], b[:]) })
	recs := records{}
	root, err := merkle.Build(l.pairs(), func(k, v []byte) error { recs[string(k)] = bytes.Clone(v); return nil })
	if err != nil {
		panic(err)
	}
	if l.trie, err = merkle.Open(recs, root, nil); err != nil {
		panic(err)
	}
	l.at = forks.Block{Hash: forks.Hash{1}, Slot: 7, Root: root}
	l.addBlocks(r)
	for _, size := range []int{0, 1, 1000, 300_000} {
		b := filled(r, size)
		l.items[hashOf(b)] = b
	}
	for _, code := range []*erasure.Code{erasure.Tiny(), erasure.Full()} {
		w := newWork(r, code, 20_001, 66)
		l.works[w.spec.Root] = w
	}
	return l
})

func (l *library) pairs() iter.Seq2[[]byte, []byte] {
	return func(yield func(k, v []byte) bool) {
		for _, k := range l.keys {
			if !yield(k[:], l.values[k]) {
				return
			}
		}
	}
}

// addBlocks adds a line of four blocks, and a sibling of the second.
func (l *library) addBlocks(r *rand.Rand) {
	parent := Block{Hash: l.at.Hash, Slot: l.at.Slot, PostRoot: l.at.Root}
	var second Block
	for i := range 5 {
		if i == 4 {
			parent = second // the one below it
		}
		header := filled(r, jam.MinHeaderSize)
		copy(header, parent.Hash[:])
		copy(header[32:], parent.PostRoot[:])
		binary.LittleEndian.PutUint32(header[96:], uint32(parent.Slot+1))
		b := Block{
			Hash: jam.HeaderHash(header), Parent: parent.Hash, Slot: parent.Slot + 1,
			PriorRoot: parent.PostRoot, PostRoot: forks.Hash(filled(r, 32)), Header: header,
			Puts: [][2][]byte{{filled(r, 31), filled(r, 100*i)}, {filled(r, 31), filled(r, 3)}},
			Dels: [][]byte{filled(r, 31)},
		}
		if i == 0 {
			second = b
		}
		l.blocks = append(l.blocks, b)
		parent = b
	}
}

func newWork(r *rand.Rand, code *erasure.Code, length, exported int) *work {
	w := &work{bundle: filled(r, length)}
	for range exported {
		w.segments = append(w.segments, filled(r, justify.SegmentSize))
	}
	encode := func(b []byte) [][]byte {
		shards, err := code.Encode(b)
		if err != nil {
			panic(err)
		}
		return shards
	}
	bundle := encode(w.bundle)
	var segments [][][]byte
	for _, s := range append(slices.Clone(w.segments), justify.Pages(w.segments)...) {
		segments = append(segments, encode(s))
	}
	leaves := justify.Leaves(bundle, segments)
	for i := range bundle {
		w.shards = append(w.shards, Shard{Bundle: bundle[i], Segments: justify.Column(segments, i), Path: justify.CoPath(leaves, i)})
	}
	w.spec = Spec{
		Root: forks.Hash(justify.Root(leaves)), Shards: code.N(), Length: length, Hash: hashOf(w.bundle),
		Exported: exported, SegmentsRoot: forks.Hash(justify.SegmentsRoot(w.segments)),
	}
	return w
}

// work gives the work package encoded by a code.
func (l *library) work(code *erasure.Code) *work {
	for _, w := range l.works {
		if w.spec.Shards == code.N() {
			return w
		}
	}
	panic("no such work package")
}

func (l *library) pause(ctx context.Context) error {
	if l.delay == 0 {
		return nil
	}
	select {
	case <-time.After(l.delay):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (l *library) value(k []byte) ([]byte, bool, error) {
	v, ok := l.values[key(k)]
	return v, ok, nil
}

func (l *library) walk(from []byte, yield func(k, v []byte) bool) error {
	at, _ := slices.BinarySearchFunc(l.keys, key(from), func(a, b key) int { return bytes.Compare(a[:], b[:]) })
	for _, k := range l.keys[at:] {
		if !yield(k[:], l.values[k]) {
			break
		}
	}
	return nil
}

func (l *library) Prove(ctx context.Context, block forks.Hash, keys []key, most int) (*merkle.Proof, error) {
	if err := l.pause(ctx); err != nil || block != l.at.Hash {
		return nil, orNotHeld(err)
	}
	return l.trie.Prove(keys, l.value)
}

func (l *library) ProveRange(ctx context.Context, block forks.Hash, req merkle.RangeRequest) (*merkle.Proof, error) {
	if err := l.pause(ctx); err != nil || block != l.at.Hash {
		return nil, orNotHeld(err)
	}
	return l.trie.ProveRange(req, l.value, l.walk)
}

func (l *library) Blocks(ctx context.Context, above forks.Hash, most int) ([]Block, error) {
	if err := l.pause(ctx); err != nil {
		return nil, err
	}
	known := map[forks.Hash]bool{above: true}
	var found []Block
	for _, b := range l.blocks {
		if known[b.Parent] {
			known[b.Hash] = true
			found = append(found, b)
		}
	}
	if len(found) == 0 {
		return nil, ErrNotHeld
	}
	return found, nil
}

func (l *library) Item(ctx context.Context, hash forks.Hash) ([]byte, error) {
	b, ok := l.items[hash]
	if err := l.pause(ctx); err != nil || !ok {
		return nil, orNotHeld(err)
	}
	return b, nil
}

func (l *library) Shard(ctx context.Context, root forks.Hash, index uint16) (Shard, error) {
	w := l.works[root]
	if w == nil || int(index) >= len(w.shards) {
		return Shard{}, ErrNotHeld
	}
	return w.shards[index], nil
}

func orNotHeld(err error) error {
	if err != nil {
		return err
	}
	return ErrNotHeld
}

// part is a library of which only some shards are there.
type part struct {
	*library
	has func(index uint16) bool
}

func (p part) Shard(ctx context.Context, root forks.Hash, index uint16) (Shard, error) {
	if !p.has(index) {
		return Shard{}, ErrNotHeld
	}
	return p.library.Shard(ctx, root, index)
}

// empty has nothing.
type empty struct{}

func (empty) Prove(context.Context, forks.Hash, []key, int) (*merkle.Proof, error) {
	return nil, ErrNotHeld
}
func (empty) ProveRange(context.Context, forks.Hash, merkle.RangeRequest) (*merkle.Proof, error) {
	return nil, ErrNotHeld
}
func (empty) Blocks(context.Context, forks.Hash, int) ([]Block, error) { return nil, ErrNotHeld }
func (empty) Item(context.Context, forks.Hash) ([]byte, error)         { return nil, ErrNotHeld }
func (empty) Shard(context.Context, forks.Hash, uint16) (Shard, error) { return Shard{}, ErrNotHeld }

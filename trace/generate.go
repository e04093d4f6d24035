package trace

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"

	"accessor/forks"
	"accessor/jam"
	"accessor/state"
	"accessor/state/merkle"
)

// GenerateOptions say what chain to make up. Equal options make equal recordings.
type GenerateOptions struct {
	Seed uint64
	Name string // of the recording; default "generated"

	Blocks    int // of all branches, 1 to 10 million
	Keys      int // service items in the anchor's state, which keeps about that many, beside the chain's own; to 10 million
	Writes    int // service items that a block puts or deletes, beside the chain's own; to 1 million
	ValueSize int // bytes: half the values have at most 32, most others at most this, a few four times that; to 16 MiB

	// ForkEvery is one block in how many, on average, that doesn't go on from the
	// head but from some block beside or below it; at least 2, or 0 for none.
	ForkEvery int
	// ForkDepth is how far below the head, and how long, a side branch can be, in
	// blocks. Default 4, at most 1,000.
	ForkDepth int
	// SameSlot gives all siblings the same slot. Otherwise most have it, as in
	// JAM, and some don't.
	SameSlot bool

	// Rejects is the number of rejects: one of each kind that a store can refuse
	// (slot, prior root, unknown parent, posterior root), then one that only an
	// executor can, and so on in turns.
	Rejects int
	// NoRoots leaves all roots zero, for stores without a commitment: computing
	// a root takes time in proportion to the whole state, at each block. There
	// are then no rejects for a wrong root.
	NoRoots bool
}

// ErrOptions is the error of options out of bounds.
var ErrOptions = errors.New("invalid option")

// complete puts in defaults and checks bounds.
func (o *GenerateOptions) complete() error {
	if o.Name == "" {
		o.Name = "generated"
	}
	if o.ForkDepth == 0 {
		o.ForkDepth = 4
	}
	for _, f := range []struct {
		name            string
		value, min, max int
	}{
		{"blocks", o.Blocks, 1, 10_000_000},
		{"keys", o.Keys, 0, 10_000_000},
		{"writes", o.Writes, 0, 1_000_000},
		{"value size", o.ValueSize, 0, 16 << 20},
		{"fork every", o.ForkEvery, 0, 1 << 30},
		{"fork depth", o.ForkDepth, 1, 1000},
		{"rejects", o.Rejects, 0, 10_000_000},
	} {
		if f.value < f.min || f.value > f.max {
			return fmt.Errorf("generate recording: %w: %s %d, want %d to %d", ErrOptions, f.name, f.value, f.min, f.max)
		}
	}
	if o.ForkEvery == 1 {
		return fmt.Errorf("generate recording: %w: a fork at every block, so that the chain would never grow", ErrOptions)
	}
	return nil
}

// Generate makes up a recording and writes it, but for the end line: Close is the
// caller's. State keys are JAM's, values random; write sets are exact, roots
// right, headers those of Gray Paper 0.7 (tiny) with random seals. It keeps the
// state in memory, once. progress, where given, is called with the blocks written
// so far and in all. Errors: ErrOptions, and the Writer's, such as ErrTooLong for
// a state of more than about 128 MiB, which is one line.
func Generate(w *Writer, opts GenerateOptions, progress func(done, all int)) error {
	if err := opts.complete(); err != nil {
		return err
	}
	g := newGenerator(w, opts)
	if err := g.writeAnchor(); err != nil {
		return err
	}
	for i := range opts.Blocks {
		if err := g.writeBlock(); err != nil {
			return err
		}
		// As many rejects as the blocks so far have earned.
		for due := opts.Rejects * (i + 1) / opts.Blocks; g.rejects < due; {
			if err := g.writeReject(); err != nil {
				return err
			}
		}
		if progress != nil {
			progress(i+1, opts.Blocks)
		}
	}
	return nil
}

// generator makes up a chain. Its model stands at the block at, and is moved from
// branch to branch by the blocks' own write sets.
type generator struct {
	w    *Writer
	opts GenerateOptions
	bits *rand.ChaCha8 // the one source of chance
	rnd  *rand.Rand    // over bits

	model    model
	services []uint32
	at       *node
	head     *node   // tip of the main line
	recent   []*node // that can be built on or moved over
	rejects  int
}

// node is a block that has been made.
type node struct {
	forks.Block
	parent *node
	height int // above the anchor
	aside  int // blocks since it left the main line; 0 on it
	writes []write
	undo   []write
}

func newGenerator(w *Writer, opts GenerateOptions) *generator {
	var seed [32]byte
	binary.LittleEndian.PutUint64(seed[:], opts.Seed)
	g := &generator{w: w, opts: opts, bits: rand.NewChaCha8(seed)}
	g.rnd = rand.New(g.bits)
	return g
}

func (g *generator) random(n int) []byte {
	b := make([]byte, n)
	g.fill(b)
	return b
}

func (g *generator) fill(b []byte) {
	_, _ = g.bits.Read(b) // never fails
}

func (g *generator) writeAnchor() error {
	g.firstState()
	header := jam.FullHeader{
		EpochMark: g.random(2*forks.HashSize + tinyValidators*64),
		Author:    1<<16 - 1, // nobody's, as of any genesis
	}
	encoded := header.Encode()
	root, err := g.root()
	if err != nil {
		return err
	}
	n := &node{Block: forks.Block{Hash: jam.HeaderHash(encoded), Root: root}}
	g.at, g.head, g.recent = n, n, []*node{n}
	judged := 0
	for i := range g.opts.Rejects {
		if g.kindOf(i).judged {
			judged++
		}
	}
	note := ""
	if g.opts.Rejects > 0 {
		note = fmt.Sprintf("of %d rejects a store can judge %d", g.opts.Rejects, judged)
	}
	if err := g.w.Header(&Header{Name: g.opts.Name, GP: "0.7.2", Spec: "tiny", Note: note}); err != nil {
		return err
	}
	a := Anchor{Hash: n.Hash, Root: root, Header: encoded, Pairs: make([]state.Pair, 0, len(g.model.keys))}
	for key, value := range g.model.all() {
		a.Pairs = append(a.Pairs, state.Pair{Key: slices.Clone(key), Value: value})
	}
	return g.w.Anchor(&a)
}

func (g *generator) root() (forks.Hash, error) {
	if g.opts.NoRoots {
		return forks.Hash{}, nil
	}
	return merkle.Root(g.model.all())
}

// header makes the header of a block on a parent.
func (g *generator) header(parent forks.Hash, prior forks.Hash, slot forks.Slot) []byte {
	h := jam.FullHeader{
		Header: jam.Header{Parent: parent, PriorRoot: prior, Slot: slot},
		Author: uint16(g.rnd.IntN(tinyValidators)),
	}
	g.fill(h.ExtrinsicHash[:])
	g.fill(h.EntropySource[:])
	g.fill(h.Seal[:])
	return h.Encode()
}

func (g *generator) writeBlock() error {
	parent := g.pickParent()
	g.moveTo(parent)
	n := &node{parent: parent, height: parent.height + 1, aside: parent.aside + 1}
	n.Parent, n.Slot = parent.Hash, g.slotAfter(parent)
	if parent == g.head {
		n.aside = 0
	}
	header := g.header(parent.Hash, parent.Root, n.Slot)
	n.Hash = jam.HeaderHash(header)
	n.writes = g.makeWrites(n.Slot)
	n.undo = g.model.apply(n.writes)
	var err error
	if n.Root, err = g.root(); err != nil {
		return err
	}
	g.at = n
	b := Block{Keys: len(g.model.keys), Bytes: g.model.size}
	b.Block = state.Block{Hash: n.Hash, Parent: parent.Hash, Slot: n.Slot, PriorRoot: &parent.Root, PostRoot: &n.Root, Header: header}
	b.Puts, b.Dels = writeSet(n.writes)
	g.add(n)
	return g.w.Block(&b)
}

// writeSet splits sorted writes into puts and deletes.
func writeSet(writes []write) (puts []state.Pair, dels [][]byte) {
	for _, w := range writes {
		if w.value == nil {
			dels = append(dels, []byte(w.key))
		} else {
			puts = append(puts, state.Pair{Key: []byte(w.key), Value: w.value})
		}
	}
	return puts, dels
}

// pickParent gives the head, and now and then a block beside or below it.
func (g *generator) pickParent() *node {
	if g.opts.ForkEvery == 0 || g.rnd.IntN(g.opts.ForkEvery) > 0 {
		return g.head
	}
	var others []*node
	for _, n := range g.recent {
		if n != g.head && n.height >= g.head.height-g.opts.ForkDepth && n.aside < g.opts.ForkDepth {
			others = append(others, n)
		}
	}
	if len(others) == 0 {
		return g.head
	}
	return others[g.rnd.IntN(len(others))]
}

// slotAfter gives a slot for a child. One in eight slots is missed: by all the
// siblings, or, unless they are to have the same, by each on its own.
func (g *generator) slotAfter(parent *node) forks.Slot {
	missed := parent.Hash[0] < 32
	if !g.opts.SameSlot {
		missed = g.rnd.IntN(8) == 0
	}
	if missed {
		return parent.Slot + 2
	}
	return parent.Slot + 1
}

// add makes a new block one to build on, and forgets those too far below.
func (g *generator) add(n *node) {
	g.recent = append(g.recent, n)
	if n.aside > 0 {
		return
	}
	g.head = n
	// A side branch leaves the main line at most that far below the head, and is
	// at most that long: no way between two tips goes deeper than both.
	lowest := n.height - 2*g.opts.ForkDepth - 2
	g.recent = slices.DeleteFunc(g.recent, func(n *node) bool {
		if n.height >= lowest {
			return false
		}
		n.parent, n.writes, n.undo = nil, nil, nil
		return true
	})
}

// moveTo takes the model to another block, back to the common ancestor and up.
func (g *generator) moveTo(target *node) {
	var up []*node
	to := target
	for from := g.at; from != to; {
		if from.height >= to.height {
			g.model.apply(from.undo)
			from = from.parent
		} else {
			up = append(up, to)
			to = to.parent
		}
	}
	for _, n := range slices.Backward(up) {
		g.model.apply(n.writes)
	}
	g.at = target
}

// rejectKind is a way in which a block is wrong.
type rejectKind struct {
	reason   string
	judged   bool // a store can tell
	rootless bool // can be told without roots
	spoil    func(g *generator, b *state.Block)
}

var rejectKinds = []rejectKind{
	{"slot is not above the parent's", true, true, func(g *generator, b *state.Block) {
		b.Slot = g.at.Slot - min(g.at.Slot, forks.Slot(g.rnd.IntN(2)))
	}},
	{"prior root is not the parent's posterior root", true, false, func(g *generator, b *state.Block) {
		b.PriorRoot = new(forks.Hash)
		g.fill(b.PriorRoot[:])
	}},
	{"unknown parent", true, true, func(g *generator, b *state.Block) { g.fill(b.Parent[:]) }},
	{"posterior root is not that of the write set", true, false, nil},
	{"seal is not that of the slot's author", false, true, func(*generator, *state.Block) {}},
}

// kindOf gives the kind of the nth reject.
func (g *generator) kindOf(n int) rejectKind {
	if !g.opts.NoRoots {
		return rejectKinds[n%len(rejectKinds)]
	}
	kinds := slices.DeleteFunc(slices.Clone(rejectKinds), func(k rejectKind) bool { return !k.rootless })
	return kinds[n%len(kinds)]
}

// writeReject writes a wrong block on the block where the model stands.
func (g *generator) writeReject() error {
	kind := g.kindOf(g.rejects)
	g.rejects++
	parent := g.at
	r := Reject{Reason: kind.reason}
	r.Block = state.Block{Parent: parent.Hash, Slot: g.slotAfter(parent), PriorRoot: &parent.Root}
	if kind.spoil != nil {
		kind.spoil(g, &r.Block)
	} else if err := g.addWrongRoot(&r); err != nil {
		return err
	}
	r.Header = g.header(r.Parent, *r.PriorRoot, r.Slot)
	r.Hash = jam.HeaderHash(r.Header)
	return g.w.Reject(&r)
}

// addWrongRoot gives a reject a write set and claims another root for it.
func (g *generator) addWrongRoot(r *Reject) error {
	writes := g.makeWrites(r.Slot)
	undo := g.model.apply(writes)
	root, err := g.root()
	g.model.apply(undo)
	if err != nil {
		return err
	}
	r.HasWriteSet, r.RealPostRoot, r.ClaimedPostRoot = true, &root, new(forks.Hash)
	g.fill(r.ClaimedPostRoot[:])
	r.PostRoot = r.ClaimedPostRoot
	r.Puts, r.Dels = writeSet(writes)
	return nil
}

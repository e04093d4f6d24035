package forks

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// DefaultFold is the length from which Draw folds a run of blocks by default:
// shorter ones take about as many lines as they are worth.
const DefaultFold = 4

// DrawOptions says what a drawing shows. The zero value works.
type DrawOptions struct {
	// Label gives the text of a block's line, without line breaks. Default:
	// the slot and the first digits of the hash.
	Label func(Block) string
	// Keep marks blocks that must have a line of their own, such as the head.
	// Default: none.
	Keep func(Block) bool
	// Fold is the number of blocks from which a run is folded into one line. 0
	// means DefaultFold; below 0 nothing is folded.
	Fold int
}

// String draws the tree as Draw does with its defaults.
func (t *Tree) String() string { return t.Draw(DrawOptions{}) }

// Draw gives a drawing of the tree for people, a line per block, parents above
// their children, each line with its line break:
//
//	● 1 a3f09c11
//	● 2 77b2d405
//	├─● 3 0e4c5a9b         a branch that leaves the line at slot 2,
//	│ ├─● 4 c81f6d20       with a branch of its own
//	│ ● 5 1d7735ee
//	● 4 9a0b61f3
//	┆ 12 blocks, slots 5–16
//	● 17 f2c8800d
//
// Straight down goes the child with the longest chain below it, of several the
// one with the smallest hash. The other children stand before it, one level to
// the right, shorter ones first, then by hash; so the width depends on how
// deeply forks are nested, not on their number, and the drawing not on the
// order in which blocks came. A run of blocks without siblings, each with one
// child, is folded, save those that options.Keep marks; so what stands above
// and below a fold is a block with a line of its own.
func (t *Tree) Draw(options DrawOptions) string {
	d := drawing{options: options, lengths: t.lengths()}
	if d.options.Label == nil {
		d.options.Label = func(b Block) string { return b.Slot.String() + " " + b.Hash.Short() }
	}
	if d.options.Keep == nil {
		d.options.Keep = func(Block) bool { return false }
	}
	if d.options.Fold == 0 {
		d.options.Fold = DefaultFold
	}
	d.todo = []stretch{{from: t.anchor}}
	for len(d.todo) > 0 {
		last := len(d.todo) - 1
		next := d.todo[last]
		d.todo = d.todo[:last]
		d.stretch(next)
	}
	return d.text.String()
}

// lengths gives for each block the number of blocks on the longest chain from
// it downwards, itself included.
func (t *Tree) lengths() map[*node]int {
	order := slices.AppendSeq(make([]*node, 0, len(t.nodes)), t.anchor.walk())
	lengths := make(map[*node]int, len(order))
	for _, n := range slices.Backward(order) { // children before parents
		lengths[n]++
		if n.parent != nil {
			lengths[n.parent] = max(lengths[n.parent], lengths[n])
		}
	}
	return lengths
}

// drawing is a Draw in progress. It keeps its own stack, as chains are too long
// and forks may be too deeply nested to recurse.
type drawing struct {
	options DrawOptions
	lengths map[*node]int
	text    strings.Builder
	todo    []stretch // the next one last
	run     []*node   // blocks that may be folded, not yet written
}

// stretch is a piece of a line from one fork to the next.
type stretch struct {
	from   *node
	indent string // what stands before its lines
	branch string // what stands before its first line instead, if anything
}

// stretch writes the blocks of s down to the next fork, and puts off what
// follows there.
func (d *drawing) stretch(s stretch) {
	n := s.from
	d.block(n, cmp.Or(s.branch, s.indent))
	for len(n.children) == 1 {
		n = n.children[0]
		if len(n.children) == 1 && !d.options.Keep(n.block) {
			d.run = append(d.run, n)
			continue
		}
		d.flush(s.indent)
		d.block(n, s.indent)
	}
	if len(n.children) == 0 {
		return
	}
	main := slices.MinFunc(n.children, func(a, b *node) int {
		return cmp.Or(cmp.Compare(d.lengths[b], d.lengths[a]), a.block.Hash.Compare(b.block.Hash))
	})
	d.todo = append(d.todo, stretch{from: main, indent: s.indent})
	// What is put off last is drawn first: the shortest side branch.
	for _, side := range slices.SortedFunc(slices.Values(n.children), func(a, b *node) int {
		return cmp.Or(cmp.Compare(d.lengths[b], d.lengths[a]), b.block.Hash.Compare(a.block.Hash))
	}) {
		if side != main {
			d.todo = append(d.todo, stretch{from: side, indent: s.indent + "│ ", branch: s.indent + "├─"})
		}
	}
}

// flush writes the run that has been collected, folded if it is long enough.
func (d *drawing) flush(indent string) {
	switch count := len(d.run); {
	case d.options.Fold < 0 || count < d.options.Fold:
		for _, n := range d.run {
			d.block(n, indent)
		}
	case count == 1:
		fmt.Fprintf(&d.text, "%s┆ 1 block, slot %d\n", indent, d.run[0].block.Slot)
	case count > 1:
		fmt.Fprintf(&d.text, "%s┆ %d blocks, slots %d–%d\n", indent,
			count, d.run[0].block.Slot, d.run[count-1].block.Slot)
	}
	d.run = d.run[:0]
}

func (d *drawing) block(n *node, before string) {
	d.text.WriteString(before)
	d.text.WriteString("● ")
	d.text.WriteString(d.options.Label(n.block))
	d.text.WriteByte('\n')
}

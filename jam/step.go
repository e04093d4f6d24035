package jam

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"accessor/forks"
)

// Pair is one entry of a state: a key of KeySize bytes and its value.
type Pair struct {
	Key, Value []byte
}

// RawState is a state as the published files have it, with its root:
//
//	root 32 ++ nat(count) ++ count × (key 31 ++ nat(length) ++ value)
type RawState struct {
	Root  forks.Hash
	Pairs []Pair // in the file's order
}

// Value gives the value of a key, by a search through all pairs.
func (s *RawState) Value(key []byte) ([]byte, bool) {
	for _, p := range s.Pairs {
		if bytes.Equal(p.Key, key) {
			return p.Value, true
		}
	}
	return nil, false
}

// minPairSize is that of a pair with an empty value.
const minPairSize = KeySize + 1

func (d *decoder) state() RawState {
	var s RawState
	copy(s.Root[:], d.take(forks.HashSize))
	n := d.count(minPairSize)
	if d.err != nil {
		return s
	}
	s.Pairs = make([]Pair, 0, n)
	for range n {
		key := d.take(KeySize)
		value := d.blob()
		if d.err != nil {
			return s
		}
		s.Pairs = append(s.Pairs, Pair{Key: key, Value: value})
	}
	return s
}

// Step is what a published step file holds: a block with the states before and
// after it. Of a block that was rejected the two are the same.
type Step struct {
	Pre, Post RawState
	Block     []byte // encoded header and extrinsic
	Header    Header
	// Encoded is the encoded header; nil where an opaque block's header doesn't
	// decode, so that nobody can tell where it ends.
	Encoded []byte
	// Opaque says that the block doesn't decode. Such a block was rejected.
	Opaque bool
	// GP and Spec say in which layout the file was found to be: "0.7" or "0.6",
	// "tiny" or "full"; empty where it fits several, or is opaque.
	GP, Spec string
}

// DecodeStep decodes a published step file, in the layouts of Gray Paper 0.7 and
// 0.6, chain spec tiny or full, whichever takes it to its last byte:
//
//	RawState before ++ header ++ extrinsic ++ RawState after
//
// A block that decodes in none is read all the same where the state after it is,
// byte for byte, the state before: the block is then what stands between. Any
// other state after a block has the block's slot in C(11), as in all of JAM.
// Error: ErrFormat.
func DecodeStep(b []byte) (Step, error) {
	d := decoder{b: b}
	step := Step{Pre: d.state()}
	if d.err != nil {
		return Step{}, fmt.Errorf("decode step: state before: %w", d.err)
	}
	start := d.off
	fits := fitting{}
	for i := range layouts {
		d := decoder{b: b, off: start}
		header := layouts[i].header(&d)
		headerEnd := d.off
		layouts[i].extrinsic(&d)
		blockEnd := d.off
		switch {
		case d.err != nil:
			continue
		case fits.n > 0 && blockEnd != start+len(step.Block):
			continue
		case fits.n == 0:
			post := d.state()
			if d.err != nil || d.left() > 0 || !follows(&post, header.Slot) && !bytes.Equal(b[blockEnd:], b[:start]) {
				continue
			}
			step.Post = post
			step.Encoded, step.Block = b[start:headerEnd:headerEnd], b[start:blockEnd:blockEnd]
		}
		fits.add(&layouts[i], header.Author)
	}
	if fits.n == 0 {
		return decodeOpaque(b, start, step.Pre)
	}
	step.Header = parsePrefix(step.Encoded)
	step.GP, step.Spec = fits.gp, fits.spec
	return step, nil
}

// follows says whether a state is one after a block of that slot. It is what
// keeps a wrong layout from fitting by chance, and ending in some empty state.
func follows(post *RawState, slot forks.Slot) bool {
	value, ok := post.Value(slotKey)
	return ok && len(value) == 4 && forks.Slot(binary.LittleEndian.Uint32(value)) == slot
}

// fitting collects the layouts that an input fits.
type fitting struct {
	n        int
	likely   bool   // whether gp and spec are of layouts with a likely author
	gp, spec string // empty where they differ
}

// add takes in a layout, in which the header has that author. An author that
// cannot be, where another layout has one that can, is a wrong reading: the
// fields in front of which the offenders stood before 0.7.0 begin with it.
func (f *fitting) add(l *layout, author uint16) {
	likely := l.likely(author)
	f.n++
	switch {
	case f.n == 1 || likely && !f.likely:
		f.likely, f.gp, f.spec = likely, l.gp, l.name
		return
	case f.likely && !likely:
		return
	}
	if f.gp != l.gp {
		f.gp = ""
	}
	if f.spec != l.name {
		f.spec = ""
	}
}

// decodeOpaque reads a step whose block decodes in no layout. before is the size
// of the encoded state before it, pre.
func decodeOpaque(b []byte, before int, pre RawState) (Step, error) {
	end := len(b) - before
	if end-before < HeaderPrefixSize || !bytes.Equal(b[:before], b[end:]) {
		return Step{}, fmt.Errorf("decode step: %w: no known layout takes the block at byte %d, with a state after it that has its slot, to the end, and the end is not the state before", ErrFormat, before)
	}
	block := b[before:end:end]
	step := Step{Pre: pre, Post: pre, Block: block, Header: parsePrefix(block), Opaque: true}
	// Of the layouts in which the header decodes, the first with an author that
	// can be; else the first.
	for i := range layouts {
		d := decoder{b: block}
		header := layouts[i].header(&d)
		likely := layouts[i].likely(header.Author)
		if d.err != nil || step.Encoded != nil && !likely {
			continue
		}
		step.Encoded = block[:d.off:d.off]
		if likely {
			break
		}
	}
	return step, nil
}

// Genesis is what a published genesis file holds.
type Genesis struct {
	Header  Header
	Encoded []byte // the encoded header, whose hash names the block
	State   RawState
	// GP and Spec are as in Step.
	GP, Spec string
}

// DecodeGenesis decodes a published genesis file: header ++ RawState, in any of
// the layouts that DecodeStep knows. Error: ErrFormat.
func DecodeGenesis(b []byte) (Genesis, error) {
	var g Genesis
	var first error
	fits := fitting{}
	for i := range layouts {
		d := decoder{b: b}
		header := layouts[i].header(&d)
		encoded := b[:d.off:d.off]
		state := d.state()
		if d.left() > 0 {
			d.fail("%d bytes after the state", d.left())
		}
		switch {
		case d.err != nil:
			if first == nil {
				first = d.err
			}
			continue
		case fits.n > 0 && len(encoded) != len(g.Encoded):
			continue
		}
		if fits.n == 0 {
			g = Genesis{Header: header.Header, Encoded: encoded, State: state}
		}
		fits.add(&layouts[i], header.Author)
	}
	if fits.n == 0 {
		return Genesis{}, fmt.Errorf("decode genesis: %w", first)
	}
	g.GP, g.Spec = fits.gp, fits.spec
	return g, nil
}

package trace

import (
	"bufio"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"

	"accessor/forks"
	"accessor/state"
)

// ErrOrder is the Writer's error of an entry out of its place.
var ErrOrder = errors.New("entry out of order")

// Writer writes a jamtrace/1 recording: Header, Anchor, then Block and Reject as
// often as need be, then Close, which adds the end line, or Abort. It keeps the
// blocks' hashes, for the end line, and nothing else. The first error of writing
// comes again from every later call. It is not safe for concurrent use.
type Writer struct {
	out   *bufio.Writer
	close []func() error // from the stream to the file
	final string         // the file's name, once it is whole; empty for a stream
	temp  string         // until then
	done  bool           // closed

	buf   []byte // of a line
	stage int    // header, anchor, blocks, after the end
	err   error

	blocks, rejects int
	arrival         []forks.Hash // the anchor, then the blocks
	known           map[forks.Hash]bool
	kids            map[forks.Hash][]forks.Hash
}

// Stages of a Writer: what it expects next.
const (
	wantHeader = iota
	wantAnchor
	wantBlocks
	wantNothing
)

// NewWriter writes a recording to a stream, uncompressed. Close doesn't close
// the stream.
func NewWriter(w io.Writer) *Writer {
	return &Writer{
		out:   bufio.NewWriterSize(w, 256<<10),
		known: make(map[forks.Hash]bool),
		kids:  make(map[forks.Hash][]forks.Hash),
	}
}

// want checks that an entry is in its place and moves on.
func (w *Writer) want(stage, next int, what string) error {
	if w.err != nil {
		return w.err
	}
	if w.stage != stage {
		return fmt.Errorf("write recording: %w: %s", ErrOrder, what)
	}
	w.stage = next
	return nil
}

// Header writes the first line. The format is always Format.
func (w *Writer) Header(h *Header) error {
	if err := w.want(wantHeader, wantAnchor, "header"); err != nil {
		return err
	}
	w.begin("trace")
	w.text("format", Format)
	w.text("name", h.Name)
	w.text("gp", h.GP)
	w.text("spec", h.Spec)
	if h.Source != nil {
		// Marshal makes one line of it, and sees that it is JSON.
		source, err := json.Marshal(h.Source)
		if err != nil {
			w.err = fmt.Errorf("write recording: source: %w", err)
			return w.err
		}
		w.member("source")
		w.buf = append(w.buf, source...)
	}
	if h.Note != "" {
		w.text("note", h.Note)
	}
	return w.line()
}

// Anchor writes the second line.
func (w *Writer) Anchor(a *Anchor) error {
	if err := w.want(wantAnchor, wantBlocks, "anchor"); err != nil {
		return err
	}
	w.begin("anchor")
	w.hash("hash", a.Hash)
	w.number("slot", int64(a.Slot))
	w.hash("state_root", a.Root)
	w.pairs("kvs", a.Pairs)
	if a.Header != nil {
		w.hex("header", a.Header)
	}
	w.addBlock(a.Hash)
	return w.line()
}

// Block writes a block. Its Seq is given by the Writer, which counts blocks
// and rejects; a nil root is written as zero.
func (w *Writer) Block(b *Block) error {
	if err := w.want(wantBlocks, wantBlocks, "block"); err != nil {
		return err
	}
	w.begin("block")
	w.identity(b.Src, &b.Block)
	w.root("post_root", b.PostRoot)
	w.writes(&b.Block)
	if b.Header != nil {
		w.hex("header", b.Header)
	}
	w.number("keys", int64(b.Keys))
	w.number("bytes", b.Bytes)
	w.blocks++
	w.kids[b.Parent] = append(w.kids[b.Parent], b.Hash)
	w.addBlock(b.Hash)
	return w.line()
}

func (w *Writer) addBlock(h forks.Hash) {
	if !w.known[h] {
		w.known[h] = true
		w.arrival = append(w.arrival, h)
	}
}

// Reject writes a rejected block, Seq and roots as in Block.
func (w *Writer) Reject(r *Reject) error {
	if err := w.want(wantBlocks, wantBlocks, "reject"); err != nil {
		return err
	}
	w.begin("reject")
	w.identity(r.Src, &r.Block)
	if r.Header != nil {
		w.hex("header", r.Header)
	}
	w.text("reason", r.Reason)
	if r.HasWriteSet {
		w.writes(&r.Block)
		claimed := r.ClaimedPostRoot
		if claimed == nil {
			claimed = r.PostRoot
		}
		w.root("claimed_post_root", claimed)
	}
	if r.RealPostRoot != nil {
		w.root("real_post_root", r.RealPostRoot)
	}
	w.rejects++
	return w.line()
}

// finish writes the last line.
func (w *Writer) finish() error {
	if err := w.want(wantBlocks, wantNothing, "end"); err != nil {
		return err
	}
	var leaves []forks.Hash
	var branching []Fork
	for _, h := range w.arrival {
		switch kids := w.kids[h]; len(kids) {
		case 0:
			leaves = append(leaves, h)
		case 1:
		default:
			branching = append(branching, Fork{Parent: h, Children: kids})
		}
	}
	slices.SortFunc(leaves, forks.Hash.Compare)
	w.begin("end")
	w.number("blocks", int64(w.blocks))
	w.number("rejects", int64(w.rejects))
	w.member("leaves")
	w.hashes(leaves)
	w.member("forks")
	w.list(len(branching), func(i int) {
		w.buf = append(w.buf, '[')
		w.quoted(branching[i].Parent[:])
		w.buf = append(w.buf, ',')
		w.hashes(branching[i].Children)
		w.buf = append(w.buf, ']')
	})
	return w.line()
}

// begin starts a line.
func (w *Writer) begin(kind string) {
	w.buf = append(w.buf[:0], `{"type":"`...)
	w.buf = append(w.buf, kind...)
	w.buf = append(w.buf, '"')
}

// line ends a line and writes it. A line that readers would refuse by default is
// refused.
func (w *Writer) line() error {
	w.buf = append(w.buf, '}', '\n')
	if int64(len(w.buf)) > DefaultOptions.LineLimit {
		w.err = fmt.Errorf("write recording: %w: line of %d bytes, at most %d", ErrTooLong, len(w.buf), DefaultOptions.LineLimit)
		return w.err
	}
	if _, err := w.out.Write(w.buf); err != nil {
		w.err = fmt.Errorf("write recording: %w", err)
	}
	return w.err
}

func (w *Writer) member(name string) {
	w.buf = append(w.buf, ',', '"')
	w.buf = append(w.buf, name...)
	w.buf = append(w.buf, '"', ':')
}

func (w *Writer) text(name, value string) {
	w.member(name)
	quoted, err := json.Marshal(value)
	if err != nil {
		panic(err) // a string
	}
	w.buf = append(w.buf, quoted...)
}

func (w *Writer) number(name string, x int64) {
	w.member(name)
	w.buf = strconv.AppendInt(w.buf, x, 10)
}

func (w *Writer) quoted(b []byte) {
	w.buf = append(w.buf, '"')
	w.buf = hex.AppendEncode(w.buf, b)
	w.buf = append(w.buf, '"')
}

func (w *Writer) hex(name string, b []byte) {
	w.member(name)
	w.quoted(b)
}

func (w *Writer) hash(name string, h forks.Hash) { w.hex(name, h[:]) }

func (w *Writer) root(name string, h *forks.Hash) {
	var root forks.Hash
	if h != nil {
		root = *h
	}
	w.hash(name, root)
}

func (w *Writer) list(n int, element func(i int)) {
	w.buf = append(w.buf, '[')
	for i := range n {
		if i > 0 {
			w.buf = append(w.buf, ',')
		}
		element(i)
	}
	w.buf = append(w.buf, ']')
}

func (w *Writer) hashes(hs []forks.Hash) {
	w.list(len(hs), func(i int) { w.quoted(hs[i][:]) })
}

func (w *Writer) pairs(name string, pairs []state.Pair) {
	w.member(name)
	w.list(len(pairs), func(i int) {
		w.buf = append(w.buf, '[')
		w.quoted(pairs[i].Key)
		w.buf = append(w.buf, ',')
		w.quoted(pairs[i].Value)
		w.buf = append(w.buf, ']')
	})
}

// identity writes what says who a block is.
func (w *Writer) identity(src string, b *state.Block) {
	w.number("seq", int64(w.blocks+w.rejects+1))
	w.text("src", src)
	w.hash("hash", b.Hash)
	w.hash("parent", b.Parent)
	w.number("slot", int64(b.Slot))
	w.root("prior_root", b.PriorRoot)
}

func (w *Writer) writes(b *state.Block) {
	w.pairs("puts", b.Puts)
	w.member("dels")
	w.list(len(b.Dels), func(i int) { w.quoted(b.Dels[i]) })
}

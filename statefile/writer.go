package statefile

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"

	"accessor/checkpoint"
	"accessor/forks"
)

// Writer writes a state file: the header at once, then pairs, then Close. The
// first error of writing comes again from every later call. It is not safe for
// concurrent use.
type Writer struct {
	out    *bufio.Writer
	form   Form
	buf    []byte // of a line; used again for the next
	last   []byte // key
	pairs  uint64
	closed bool
	err    error
}

// NewWriter starts a file on a stream. Close doesn't close the stream. Error:
// ErrFormat for a header that no file can hold.
func NewWriter(w io.Writer, form Form, h Header) (*Writer, error) {
	if err := h.check(); err != nil {
		return nil, fmt.Errorf("write state file: %w", err)
	}
	out := &Writer{out: bufio.NewWriterSize(w, 256<<10), form: form}
	if form == Binary {
		out.buf = appendHeader(out.buf, h)
	} else {
		line, err := json.Marshal(struct {
			Format     string     `json:"format"`
			Hash       forks.Hash `json:"hash"`
			Slot       forks.Slot `json:"slot"`
			Root       forks.Hash `json:"root"`
			Commitment string     `json:"commitment"`
		}{Format, h.Hash, h.Slot, h.Root, h.Commitment})
		if err != nil {
			panic(err) // plain fields
		}
		out.buf = append(line, '\n')
	}
	return out, out.flush()
}

// flush passes on what stands in buf.
func (w *Writer) flush() error {
	if _, err := w.out.Write(w.buf); err != nil {
		w.err = fmt.Errorf("write state file: %w", err)
	}
	return w.err
}

// Put writes the next pair, of which it keeps nothing. Errors: ErrOrder; ErrLimit
// for a pair that readers refuse by default.
func (w *Writer) Put(key, value []byte) error {
	switch {
	case w.err != nil:
		return w.err
	case w.closed:
		w.err = fmt.Errorf("write state file: %w: pair after the end", ErrOrder)
	case w.pairs > 0 && bytes.Compare(key, w.last) <= 0:
		w.err = fmt.Errorf("write state file: %w: key %x after %x", ErrOrder, key, w.last)
	default:
		if err := checkpoint.DefaultLimits.CheckPair(key, value); err != nil {
			w.err = fmt.Errorf("write state file: %w: %w", ErrLimit, err)
		}
	}
	if w.err != nil {
		return w.err
	}
	w.last = append(w.last[:0], key...)
	w.pairs++
	w.buf = w.buf[:0]
	if w.form == Binary {
		w.buf = binary.LittleEndian.AppendUint32(w.buf, uint32(len(key)))
		w.buf = append(w.buf, key...)
		w.buf = binary.LittleEndian.AppendUint32(w.buf, uint32(len(value)))
		w.buf = append(w.buf, value...)
	} else {
		w.buf = append(w.buf, `["`...)
		w.buf = hex.AppendEncode(w.buf, key)
		w.buf = append(w.buf, `","`...)
		w.buf = hex.AppendEncode(w.buf, value)
		w.buf = append(w.buf, "\"]\n"...)
	}
	return w.flush()
}

// Pairs is how many pairs have been written.
func (w *Writer) Pairs() uint64 { return w.pairs }

// Close writes the end, without which the file is none. Closing twice is safe.
func (w *Writer) Close() error {
	if w.closed || w.err != nil {
		return w.err
	}
	w.closed = true
	w.buf = w.buf[:0]
	if w.form == Binary {
		w.buf = binary.LittleEndian.AppendUint32(w.buf, endMark)
		w.buf = binary.LittleEndian.AppendUint64(w.buf, w.pairs)
	} else {
		w.buf = fmt.Appendf(w.buf, "{\"pairs\":%d}\n", w.pairs)
	}
	if err := w.flush(); err != nil {
		return err
	}
	if err := w.out.Flush(); err != nil {
		w.err = fmt.Errorf("write state file: %w", err)
	}
	return w.err
}

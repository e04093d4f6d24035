package statefile

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"

	"accessor/checkpoint"
	"accessor/internal/packed"
)

// Reader reads a state file from a stream. It is not safe for concurrent use.
type Reader struct {
	name string // for errors
	in   *packed.Reader
	file io.Closer // nil where the caller owns the stream
	size int64
	opts Options

	binary bool
	header *Header // nil where the file has none

	buf        []byte // of a line; used again for the next
	line       int    // number of the last line read
	again      bool   // that line is still to be used: it is no header
	key, value []byte // of the pair handed out; used again for the next
	last       []byte // the key before it
	pairs      uint64
	err        error // that ended reading
}

// Open opens a state file, plain or compressed with zstd or gzip whatever its name
// says, and reads its header. Errors are *Error.
func Open(path string, opts Options) (*Reader, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, &Error{File: path, Err: readError(err)}
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, &Error{File: path, Err: readError(err)}
	}
	size := int64(0)
	if info.Mode().IsRegular() {
		size = info.Size()
	}
	r, err := NewReader(path, f, size, opts)
	if err != nil {
		f.Close()
		return nil, err
	}
	r.file = f
	return r, nil
}

// NewReader reads a state file from a stream, plain or compressed with zstd or
// gzip, its header at once. The name is for errors; size is the stream's in bytes,
// 0 where it is unknown. Errors are *Error.
func NewReader(name string, in io.Reader, size int64, opts Options) (*Reader, error) {
	opts.Limits = opts.Limits.WithDefaults()
	r := &Reader{name: name, size: size, opts: opts}
	var err error
	if r.in, err = packed.NewReader(in); err != nil {
		return nil, r.failed(readError(err))
	}
	if err := r.begin(); err != nil {
		r.in.Close()
		return nil, r.failed(err)
	}
	return r, nil
}

// begin finds out the form and reads the header.
func (r *Reader) begin() error {
	start, err := r.in.Peek(len(Format))
	switch {
	case err != nil && !errors.Is(err, io.EOF):
		return readError(err)
	case len(start) == 0:
		return fmt.Errorf("%w: it is empty", ErrCut)
	case start[0] == '{' || start[0] == '[':
		return r.beginLines()
	case string(start) == Format:
		r.binary = true
		return r.beginBinary()
	case len(start) < len(Format) && bytes.HasPrefix([]byte(Format), start):
		return fmt.Errorf("%w: within the header", ErrCut)
	}
	return fmt.Errorf("%w: it starts with neither %s nor a line of JSON", ErrFormat, Format)
}

// readError gives an error of the input one of this package's kinds.
func readError(err error) error {
	kind := ErrUnreadable
	switch {
	case errors.Is(err, io.EOF):
		return fmt.Errorf("%w: input ends early", ErrCut) // without io.EOF, which is the good end
	case errors.Is(err, io.ErrUnexpectedEOF):
		kind = ErrCut
	case packed.TooLarge(err):
		kind = ErrLimit
	}
	return fmt.Errorf("%w: %w", kind, err)
}

// failed says where an error happened.
func (r *Reader) failed(err error) error { return &Error{File: r.name, Line: r.line, Err: err} }

// Header says which state the file holds; nil for pairs without a header.
func (r *Reader) Header() *Header { return r.header }

// Pairs is how many pairs have been read.
func (r *Reader) Pairs() uint64 { return r.pairs }

// Progress is how much has been read of how much, in bytes of the input as it is
// stored; total is 0 where it is unknown.
func (r *Reader) Progress() (done, total int64) { return r.in.Stored(), r.size }

// Next gives the next pair, and io.EOF after the last, once the end has been seen
// and counts right. The slices are good until the next call. Any other error is an
// *Error, and comes again if asked again.
func (r *Reader) Next() (checkpoint.Pair, error) {
	if r.err != nil {
		return checkpoint.Pair{}, r.err
	}
	pair, err := r.next()
	if err != nil {
		if !errors.Is(err, io.EOF) {
			err = r.failed(err)
		}
		r.err = err
	}
	return pair, err
}

func (r *Reader) next() (checkpoint.Pair, error) {
	read := r.nextLine
	if r.binary {
		read = r.nextBinary
	}
	pair, err := read()
	if err == nil {
		r.pairs++
	}
	return pair, err
}

// All yields the pairs that are still to be read; an error comes as the last
// element. The slices are good until the next pair.
func (r *Reader) All() iter.Seq2[checkpoint.Pair, error] {
	return func(yield func(checkpoint.Pair, error) bool) {
		for {
			pair, err := r.Next()
			if errors.Is(err, io.EOF) || !yield(pair, err) || err != nil {
				return
			}
		}
	}
}

// checkKey refuses a key that is not above the one before it.
func (r *Reader) checkKey() error {
	if r.pairs > 0 && bytes.Compare(r.key, r.last) <= 0 {
		return fmt.Errorf("%w: key %x after %x, want strictly ascending ones", ErrFormat, r.key, r.last)
	}
	return nil
}

// checkCount compares the end's number of pairs with what was there.
func (r *Reader) checkCount(n uint64) error {
	if n != r.pairs {
		return fmt.Errorf("%w: the end counts %d pairs, there were %d", ErrFormat, n, r.pairs)
	}
	return nil
}

// Close ends reading, at any time, and frees what it took.
func (r *Reader) Close() error {
	r.in.Close()
	if r.err == nil {
		r.err = r.failed(fmt.Errorf("%w: reader is closed", ErrUnreadable))
	}
	if r.file == nil {
		return nil
	}
	err := r.file.Close()
	r.file = nil
	return err
}

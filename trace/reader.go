package trace

import (
	"bufio"
	"errors"
	"fmt"
	"io"

	"accessor/internal/packed"
)

// reader reads jamtrace/1 from a stream.
type reader struct {
	path string // for errors
	name string // of the recording
	opts Options

	lines *packed.Reader
	size  int64
	file  io.Closer // nil where the caller owns the stream

	buf   []byte // of a line; used again for the next
	line  int    // number of the last line read
	total int64  // decompressed bytes read
	err   error  // that ended reading

	anchored        bool
	headed          bool
	ended           bool
	blocks, rejects int
}

func newReader(path string, in io.Reader, size int64, opts Options) (*reader, error) {
	lines, err := packed.NewReader(in)
	if err != nil {
		return nil, &Error{File: path, Err: readError(err)}
	}
	return &reader{path: path, name: baseName(path), opts: opts.withDefaults(), lines: lines, size: size}, nil
}

// readError gives an error of the input one of this package's kinds.
func readError(err error) error {
	kind := ErrUnreadable
	switch {
	case errors.Is(err, io.EOF):
		return fmt.Errorf("%w: input ends early", ErrNoEnd) // without io.EOF, which is the good end
	case errors.Is(err, io.ErrUnexpectedEOF):
		kind = ErrNoEnd
	case packed.TooLarge(err):
		kind = ErrTooLong
	}
	return fmt.Errorf("%w: %w", kind, err)
}

// Name implements Source.
func (r *reader) Name() string { return r.name }

// Position implements Source.
func (r *reader) Position() string { return position(r.path, r.line) }

// Progress implements Source.
func (r *reader) Progress() (done, total int64) { return r.lines.Stored(), r.size }

// Close implements Source.
func (r *reader) Close() error {
	r.lines.Close()
	if r.err == nil {
		r.err = &Error{File: r.path, Line: r.line, Err: fmt.Errorf("%w: reader is closed", ErrUnreadable)}
	}
	if r.file == nil {
		return nil
	}
	err := r.file.Close()
	r.file = nil
	return err
}

// Next implements Source.
func (r *reader) Next() (Entry, error) {
	if r.err != nil {
		return nil, r.err
	}
	entry, err := r.next()
	if err != nil {
		if !errors.Is(err, io.EOF) {
			err = &Error{File: r.path, Line: r.line, Err: err}
		}
		r.err = err
		return nil, err
	}
	return entry, nil
}

func (r *reader) next() (Entry, error) {
	line, whole, err := r.readLine()
	switch {
	case errors.Is(err, io.EOF) && r.ended:
		return nil, io.EOF
	case errors.Is(err, io.EOF):
		return nil, fmt.Errorf("%w: no end line", ErrNoEnd)
	case err != nil:
		return nil, err
	case r.ended:
		return nil, fmt.Errorf("%w: data after the end line", ErrFormat)
	}
	entry, err := parseLine(line)
	if err != nil {
		if !whole {
			err = fmt.Errorf("%w: last line has no line feed: %w", ErrNoEnd, err)
		}
		return nil, err
	}
	return entry, r.check(entry)
}

// readLine gives the next line without its line feed; whole says whether it had
// one. The bytes are good until the next call. Error: io.EOF itself where there
// is no more.
func (r *reader) readLine() (line []byte, whole bool, err error) {
	r.buf = r.buf[:0]
	for {
		part, err := r.lines.ReadSlice('\n')
		if len(r.buf) == 0 && len(part) > 0 {
			r.line++
		}
		r.total += int64(len(part))
		switch {
		case r.total > r.opts.TotalLimit:
			return nil, false, fmt.Errorf("%w: input of more than %d bytes", ErrTooLong, r.opts.TotalLimit)
		case int64(len(r.buf)+len(part)) > r.opts.LineLimit:
			return nil, false, fmt.Errorf("%w: line of more than %d bytes", ErrTooLong, r.opts.LineLimit)
		}
		if err == nil && len(r.buf) == 0 {
			return part[:len(part)-1], true, nil // the usual case, without a copy
		}
		r.buf = append(r.buf, part...)
		switch {
		case err == nil:
			return r.buf[:len(r.buf)-1], true, nil
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case !errors.Is(err, io.EOF):
			return nil, false, readError(err)
		case len(r.buf) == 0:
			return nil, false, io.EOF
		}
		return r.buf, false, nil
	}
}

// check sees to the order of the lines and to the end's counts.
func (r *reader) check(entry Entry) error {
	switch e := entry.(type) {
	case *Header:
		if r.headed {
			return fmt.Errorf("%w: second trace line", ErrFormat)
		}
		r.headed = true
		if e.Name != "" {
			r.name = e.Name
		}
		return nil
	case *Anchor:
		if !r.headed || r.anchored {
			return fmt.Errorf("%w: anchor line out of place: it is the second", ErrFormat)
		}
		r.anchored = true
		return nil
	}
	if !r.anchored {
		return fmt.Errorf("%w: the first line is a trace line, the second an anchor line", ErrFormat)
	}
	switch e := entry.(type) {
	case *Block:
		r.blocks++
	case *Reject:
		r.rejects++
	case *End:
		if e.Blocks != r.blocks || e.Rejects != r.rejects {
			return fmt.Errorf("%w: end line counts %d blocks and %d rejects, there were %d and %d",
				ErrFormat, e.Blocks, e.Rejects, r.blocks, r.rejects)
		}
		r.ended = true
	}
	return nil
}

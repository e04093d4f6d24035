package api

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net/http"
	"time"
)

// lineIdle is how long a stream may be silent between two lines: a node sends a block
// every few seconds.
const lineIdle = 5 * time.Minute

// lineReader reads the lines of a stream: one at a time in memory, which comes from
// the budget of bodies.
type lineReader struct {
	c       *call
	control *http.ResponseController
	in      *bufio.Reader
	buf     []byte
	taken   int64
}

func newLineReader(c *call, control *http.ResponseController) (*lineReader, error) {
	if err := c.s.bodies.take(c.r.Context(), 2*smallBody); err != nil {
		return nil, err
	}
	return &lineReader{c: c, control: control, in: bufio.NewReaderSize(c.r.Body, smallBody), taken: 2 * smallBody}, nil
}

func (l *lineReader) close() { l.c.s.bodies.giveBack(l.taken) }

// next gives the next line that isn't empty, nil at the end. It is good until the next
// call. Any error ends the stream.
func (l *lineReader) next() ([]byte, error) {
	if cap(l.buf) > smallBody {
		l.buf = nil // a long line's memory isn't kept for short ones
		l.c.s.bodies.giveBack(l.taken - 2*smallBody)
		l.taken = 2 * smallBody
	}
	for {
		line, err := l.read()
		if line = bytes.TrimSpace(line); err != nil || len(line) > 0 {
			return line, err
		}
		if _, err := l.in.Peek(1); errors.Is(err, io.EOF) {
			return nil, nil
		}
	}
}

// read reads a line, or what is left of the stream.
func (l *lineReader) read() ([]byte, error) {
	limit := l.c.s.limits.Body
	l.buf = l.buf[:0]
	_ = l.control.SetReadDeadline(time.Now().Add(lineIdle))
	// Else the deadline would end the request's context while the line is imported.
	defer func() { _ = l.control.SetReadDeadline(time.Time{}) }()
	for {
		part, err := l.in.ReadSlice('\n')
		size := int64(len(l.buf) + len(part))
		if size > limit {
			return nil, newFault("too-large", "a line of more than %d bytes", limit)
		}
		if more := size - (l.taken - smallBody); more > 0 {
			// As append may make it: twice as much as there was.
			more = max(more, int64(cap(l.buf)))
			if err := l.c.s.bodies.more(more); err != nil {
				return nil, err
			}
			l.taken += more
		}
		begun := len(l.buf) > 0
		l.buf = append(l.buf, part...)
		switch {
		case err == nil || errors.Is(err, io.EOF):
			return l.buf, nil
		case !errors.Is(err, bufio.ErrBufferFull):
			return nil, bodyError(err)
		case !begun:
			_ = l.control.SetReadDeadline(time.Now().Add(l.c.s.opts.BodyTime + time.Duration(limit/bodyPace)*time.Second))
		}
	}
}

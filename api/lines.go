package api

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"time"
)

// lineIdle is how long a stream may be silent between two lines: a node sends a block
// every few seconds.
const lineIdle = 5 * time.Minute

// lineLinger is how long the rest of a stream that ended by an error is read, so that
// the client gets to see the error.
const lineLinger = time.Second

// lineReader reads the lines of a stream: one at a time in memory, which comes from
// the budget of bodies. While it reads there is a deadline at all times; the server's
// end ends the reading.
type lineReader struct {
	c       *call
	control *http.ResponseController
	in      *bufio.Reader
	buf     []byte
	memory  stake
	lines   int // that were read, empty ones among them

	mu      sync.Mutex // guards the fields below, and the order of deadlines
	reading bool
	ended   bool // the server stops
	forget  func() bool
}

func newLineReader(c *call, control *http.ResponseController) (*lineReader, error) {
	l := &lineReader{c: c, control: control, memory: c.stake()}
	if err := l.memory.take(c.r.Context(), 2*smallBody); err != nil {
		return nil, err
	}
	l.in = bufio.NewReaderSize(c.r.Body, smallBody)
	l.forget = context.AfterFunc(c.s.closing, l.stop)
	return l, nil
}

func (l *lineReader) close() {
	l.forget()
	l.memory.end()
	l.deadline(lineLinger) // of net/http, which reads what is left
}

// drain ends a stream that was answered by an error: what the client still sends is
// read for a moment, else it may not see the error. Where it goes on sending, the
// connection is closed: the rest must not be taken for a request.
func (l *lineReader) drain() {
	l.deadline(lineLinger)
	if _, err := io.Copy(io.Discard, l.in); err != nil {
		panic(http.ErrAbortHandler)
	}
}

// stop ends a read that is waiting; an import that is on its way goes on.
func (l *lineReader) stop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended = true
	if l.reading {
		_ = l.control.SetReadDeadline(time.Now())
	}
}

// deadline bounds the reads that follow.
func (l *lineReader) deadline(after time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.reading = true
	if l.ended {
		after = 0
	}
	_ = l.control.SetReadDeadline(time.Now().Add(after))
}

// pause takes the deadline back: else it would end the request's context while a line
// is imported.
func (l *lineReader) pause() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.reading = false
	_ = l.control.SetReadDeadline(time.Time{})
}

// next gives the next line that isn't empty, nil at the end. It is good until the next
// call. Any error ends the stream.
func (l *lineReader) next() ([]byte, error) {
	if cap(l.buf) > smallBody {
		l.buf = nil // a long line's memory isn't kept for short ones
		l.memory.giveBack(l.memory.n - 2*smallBody)
	}
	line, err := l.find()
	if l.c.s.closing.Err() != nil && (err != nil || line != nil) {
		return nil, newFault("closing", "the server is stopping")
	}
	if err != nil {
		return nil, err // the deadline stays
	}
	l.pause()
	return line, nil
}

// find reads lines until one isn't empty.
func (l *lineReader) find() ([]byte, error) {
	for {
		l.deadline(lineIdle)
		if _, err := l.in.Peek(1); errors.Is(err, io.EOF) {
			return nil, nil
		}
		if l.lines++; l.lines > l.c.s.limits.Stream {
			return nil, newFault("too-large", "a stream of more than %d lines, empty ones among them: begin another", l.c.s.limits.Stream)
		}
		line, err := l.read()
		if line = bytes.TrimSpace(line); err != nil || len(line) > 0 {
			return line, err
		}
	}
}

// read reads a line, or what is left of the stream.
func (l *lineReader) read() ([]byte, error) {
	limit := l.c.s.limits.Body
	l.buf = l.buf[:0]
	for {
		part, err := l.in.ReadSlice('\n')
		size := int64(len(l.buf) + len(part))
		if size > limit {
			return nil, newFault("too-large", "a line of more than %d bytes", limit)
		}
		if more := size - (l.memory.n - smallBody); more > 0 {
			// As append may make it: twice as much as there was.
			if err := l.memory.more(max(more, int64(cap(l.buf)))); err != nil {
				return nil, err
			}
		}
		begun := len(l.buf) > 0
		l.buf = append(l.buf, part...)
		switch {
		case err == nil || errors.Is(err, io.EOF):
			return l.buf, nil
		case !errors.Is(err, bufio.ErrBufferFull):
			return nil, bodyError(err)
		case !begun:
			l.deadline(l.c.s.opts.BodyTime + time.Duration(limit/bodyPace)*time.Second)
		}
	}
}

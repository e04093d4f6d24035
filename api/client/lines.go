package client

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"iter"
	"sync"
	"time"
)

// LineResult is what became of a line of ImportLines.
type LineResult struct {
	Line     int // from 1, empty ones counted
	Status   int // as it were of a request with this block alone
	Imported     // unless there is an Err
	Err      *Error
}

// ImportLines sends lines of JSON, a block each (a recording's block lines, as they
// stand), and gives the answer to each line as it comes, while the lines are read. A
// block that is refused doesn't end it; a line whose Err is about the stream (too large,
// or the server stops) is the last one. A wait below 0 waits as long as it takes, as
// Import does. Who stops ranging ends the request; r may be read once more then. Error:
// ErrBadAnswer where a line has no answer, or one about another block, among others.
func (c *Client) ImportLines(ctx context.Context, r io.Reader, wait time.Duration) iter.Seq2[LineResult, error] {
	return func(yield func(LineResult, error) bool) {
		sent := &sentLines{r: r, news: make(chan struct{}, 1)}
		k, err := c.do(ctx, &request{method: "POST", path: importPath(wait), media: typeLines, accept: typeLines, stream: sent, endless: true})
		if err != nil {
			yield(LineResult{}, err)
			return
		}
		if k.head.media != typeLines {
			err := badAnswer("the answer to lines as %.80q", k.head.media)
			k.end(err)
			yield(LineResult{}, err)
			return
		}
		err = errStopped // the caller's loop may panic, too
		defer func() { k.end(err) }()
		in := bufio.NewReader(k.rest)
		for {
			var line []byte
			if line, err = wholeLine(in); err != nil {
				if err = k.lineError(err); err == nil {
					err = k.allAnswered(sent)
				}
				if err != nil {
					yield(LineResult{}, err)
				}
				return
			}
			var result LineResult
			if result, err = parseLine(line); err == nil {
				err = k.answers(sent, result)
			}
			if err != nil {
				yield(result, err)
				return
			}
			err = errStopped
			if !yield(result, nil) {
				return
			}
		}
	}
}

// errStopped ends a request whose answer the caller doesn't read to its end.
var errStopped = errors.New("stopped")

// lineError gives the error of a stream of lines that ended; nil for its proper end.
// Where the caller's reader failed, that is the error.
func (k *conn) lineError(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	select {
	case sent := <-k.sent:
		if errors.As(sent, new(*sourceError)) {
			err = sent
		}
		k.sent = nil
	default:
	}
	return broken(k.ctx, err)
}

// wholeLine reads a line of an answer, which is bounded. Its end is io.EOF where there
// is nothing after the last line.
func wholeLine(in *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		part, err := in.ReadSlice('\n')
		if len(line)+len(part) > maxProblem {
			return nil, badAnswer("a line of more than %d bytes", maxProblem)
		}
		line = append(line, part...)
		switch {
		case err == nil:
			return bytes.TrimSpace(line), nil
		case errors.Is(err, io.EOF) && len(line) > 0:
			return nil, io.ErrUnexpectedEOF
		case !errors.Is(err, bufio.ErrBufferFull):
			return nil, err
		}
	}
}

// parseLine reads the answer to a line.
func parseLine(text []byte) (LineResult, error) {
	var in struct {
		Line   int
		Status int
		Error  *Error
		Imported
	}
	if err := json.Unmarshal(text, &in); err != nil {
		return LineResult{}, badAnswer("%.80q: %v", text, err)
	}
	out := LineResult{Line: in.Line, Status: in.Status, Imported: in.Imported, Err: in.Error}
	switch {
	case out.Err != nil && out.Err.Kind == "", out.Err == nil && out.Hash == (Hash{}):
		return out, badAnswer("%.80q is no answer to a line", text)
	case out.Err != nil:
		out.Err.Status = in.Status
	default:
		out.New = in.Status == 201
	}
	return out, nil
}

// sentLines reads the lines of a request, and keeps those that have no answer yet.
type sentLines struct {
	r    io.Reader
	news chan struct{} // there is a line more, or the end

	mu     sync.Mutex // guards the fields below
	open   []sentLine // without an answer
	number int        // of lines that were read, empty ones counted
	begin  []byte     // of the line that is being read
	text   bool       // that line isn't empty
	ended  bool
	failed bool // the last answer was an error, with which the server may end the stream
}

type sentLine struct {
	number int
	hash   Hash
	known  bool // whether the hash was found
}

// lineBegin is where a line's hash is looked for: a recording has it in front.
const lineBegin = 512

// Read implements io.Reader.
func (l *sentLines) Read(b []byte) (int, error) {
	n, err := l.r.Read(b)
	l.mu.Lock()
	defer l.mu.Unlock()
	for part := range bytes.Lines(b[:n]) {
		l.begin = append(l.begin, part[:min(len(part), lineBegin-len(l.begin))]...)
		l.text = l.text || len(bytes.TrimSpace(part)) > 0
		if part[len(part)-1] == '\n' {
			l.line()
		}
	}
	if l.ended = errors.Is(err, io.EOF); l.ended && l.text {
		l.line()
	}
	select {
	case l.news <- struct{}{}:
	default:
	}
	return n, err
}

// line takes in a line that was read to its end.
func (l *sentLines) line() {
	l.number++
	if l.text {
		hash, known := hashIn(l.begin)
		l.open = append(l.open, sentLine{l.number, hash, known})
	}
	l.begin, l.text = l.begin[:0], false
}

// hashIn finds the member hash of a JSON object in its first bytes.
func hashIn(begin []byte) (h Hash, ok bool) {
	d := json.NewDecoder(bytes.NewReader(begin))
	if token, err := d.Token(); err != nil || token != json.Delim('{') {
		return h, false
	}
	for {
		name, err := d.Token()
		if err != nil {
			return h, false
		}
		if name == "hash" {
			return h, d.Decode(&h) == nil
		}
		var other json.RawMessage
		if d.Decode(&other) != nil {
			return h, false
		}
	}
}

// answers looks whether an answer is that to the next line. An error may be about the
// stream: then it has any number.
func (k *conn) answers(l *sentLines, result LineResult) error {
	for over := false; ; {
		l.mu.Lock()
		if len(l.open) > 0 || l.ended || over || result.Err != nil {
			break
		}
		l.mu.Unlock()
		select {
		case <-l.news: // the answer was faster than the goroutine that reads the lines
		case err := <-k.sent:
			k.sent <- err // for the end
			over = true
		case <-k.ctx.Done():
			return broken(k.ctx, k.ctx.Err())
		}
	}
	defer l.mu.Unlock()
	l.failed = result.Err != nil
	if len(l.open) > 0 && l.open[0].number == result.Line {
		line := l.open[0]
		l.open = l.open[1:]
		if result.Err == nil && line.known && line.hash != result.Hash {
			return badAnswer("line %d is about block %s, its answer about %s", line.number, line.hash, result.Hash)
		}
		return nil
	}
	if result.Err == nil {
		return badAnswer("an answer to line %d, which has none to come", result.Line)
	}
	return nil
}

// sendTime is how long the sending of a body may go on once its answer has ended.
const sendTime = time.Second

// allAnswered looks whether all lines had answers, once these have ended.
func (k *conn) allAnswered(l *sentLines) error {
	l.mu.Lock()
	ended, failed := l.ended, l.failed
	l.mu.Unlock()
	if failed {
		return nil // the caller knows; its reader may give no more for a long time
	}
	if !ended && k.sent != nil {
		select {
		case err := <-k.sent: // the server has closed, and there may be nothing more to send
			k.sent = nil
			if errors.As(err, new(*sourceError)) {
				return broken(k.ctx, err)
			}
		case <-time.After(sendTime):
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.open) > 0 || !l.ended {
		return badAnswer("the answers end after line %d, there are others without one", l.number-len(l.open))
	}
	return nil
}

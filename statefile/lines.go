package statefile

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"accessor/checkpoint"
	"accessor/forks"
)

const (
	// lineSpare is how many bytes a line may have beside its hex digits.
	lineSpare = 64
	// maxObject bounds the header's and the end's line, in bytes.
	maxObject = 4 << 10
)

// beginLines reads the first line, which is the header where it is an object with
// a format.
func (r *Reader) beginLines() error {
	line, whole, err := r.readLine()
	if err != nil {
		return err
	}
	if line[0] != '{' {
		r.again = whole
		if !whole {
			return fmt.Errorf("%w: the first line has no line feed", ErrCut)
		}
		return nil
	}
	members, err := object(line, whole)
	if err != nil {
		return err
	}
	if _, ok := members["format"]; !ok {
		r.again = true // the end line of an empty state without a header, or nothing at all
		return nil
	}
	r.header, err = parseHeader(members)
	return err
}

// object reads a line's object by the names of its members as they are.
func object(line []byte, whole bool) (map[string]json.RawMessage, error) {
	if len(line) > maxObject {
		return nil, fmt.Errorf("%w: line of %d bytes that is no pair, at most %d", ErrLimit, len(line), maxObject)
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(line, &members); err != nil {
		if !whole {
			return nil, fmt.Errorf("%w: the last line is no whole line", ErrCut)
		}
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	return members, nil
}

// member reads a member of a line's object. Error: ErrFormat.
func member(members map[string]json.RawMessage, name string, into any) error {
	raw, ok := members[name]
	if !ok || string(raw) == "null" {
		return fmt.Errorf("%w: no %s", ErrFormat, name)
	}
	if err := json.Unmarshal(raw, into); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrFormat, name, err)
	}
	return nil
}

func parseHeader(members map[string]json.RawMessage) (*Header, error) {
	var h Header
	var format, hash, root string
	var slot uint32
	for _, m := range []struct {
		name string
		into any
	}{{"format", &format}, {"hash", &hash}, {"slot", &slot}, {"root", &root}, {"commitment", &h.Commitment}} {
		if err := member(members, m.name, m.into); err != nil {
			return nil, err
		}
		if format != Format { // before anything that another format may write otherwise
			return nil, fmt.Errorf("%w: format %q, want %q", ErrFormat, format, Format)
		}
	}
	h.Slot = forks.Slot(slot)
	var err error
	if h.Hash, err = forks.ParseHash(hash); err != nil {
		return nil, fmt.Errorf("%w: hash: %w", ErrFormat, err)
	}
	if h.Root, err = forks.ParseHash(root); err != nil {
		return nil, fmt.Errorf("%w: root: %w", ErrFormat, err)
	}
	return &h, h.check()
}

// nextLine reads the next pair, or the end.
func (r *Reader) nextLine() (checkpoint.Pair, error) {
	line, whole := r.buf, true
	if !r.again {
		var err error
		line, whole, err = r.readLine()
		switch {
		case errors.Is(err, io.EOF) && r.header == nil && !r.opts.RequireEnd:
			return checkpoint.Pair{}, io.EOF
		case errors.Is(err, io.EOF):
			return checkpoint.Pair{}, fmt.Errorf("%w: no end line after %d pairs", ErrCut, r.pairs)
		case err != nil:
			return checkpoint.Pair{}, err
		}
	}
	r.again = false
	if len(line) > 0 && line[0] == '{' {
		return checkpoint.Pair{}, r.endLine(line, whole)
	}
	if !whole {
		return checkpoint.Pair{}, fmt.Errorf("%w: the last line has no line feed", ErrCut)
	}
	return r.parsePair(line)
}

// endLine reads the last line, and gives io.EOF where all is well.
func (r *Reader) endLine(line []byte, whole bool) error {
	members, err := object(line, whole)
	if err != nil {
		return err
	}
	var n uint64
	if err := member(members, "pairs", &n); err != nil {
		return err
	}
	if err := r.checkCount(n); err != nil {
		return err
	}
	if _, _, err := r.readLine(); !errors.Is(err, io.EOF) {
		if err == nil {
			err = fmt.Errorf("%w: data after the end line", ErrFormat)
		}
		return err
	}
	return io.EOF
}

// readLine gives the next line without its line feed; whole says whether it had
// one. The bytes are good until the next call. Error: io.EOF itself where there is
// no more.
func (r *Reader) readLine() (line []byte, whole bool, err error) {
	r.buf = r.buf[:0]
	limits := r.opts.Limits
	most := 2*(limits.KeySize+limits.ValueSize) + lineSpare
	for {
		part, err := r.in.ReadSlice('\n')
		if len(r.buf) == 0 && len(part) > 0 {
			r.line++
		}
		if len(r.buf)+len(part) > most {
			return nil, false, fmt.Errorf("%w: line of more than %d bytes", ErrLimit, most)
		}
		r.buf = append(r.buf, part...)
		switch {
		case err == nil:
			r.buf = r.buf[:len(r.buf)-1]
			return r.buf, true, nil
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

// parsePair reads ["key","value"] into the Reader's own memory.
func (r *Reader) parsePair(line []byte) (checkpoint.Pair, error) {
	l := lineScanner(line)
	r.key, r.last = r.last[:0], r.key
	r.value = r.value[:0]
	ok := l.take('[')
	var err error
	if ok {
		if r.key, ok, err = l.hex(r.key, r.opts.Limits.KeySize, "key"); err != nil {
			return checkpoint.Pair{}, err
		}
	}
	if ok = ok && l.take(','); ok {
		if r.value, ok, err = l.hex(r.value, r.opts.Limits.ValueSize, "value"); err != nil {
			return checkpoint.Pair{}, err
		}
	}
	if !ok || !l.take(']') || !l.done() {
		return checkpoint.Pair{}, fmt.Errorf(`%w: line is no ["key","value"] in hex`, ErrFormat)
	}
	if len(r.key) == 0 {
		return checkpoint.Pair{}, fmt.Errorf("%w: empty key", ErrFormat)
	}
	return checkpoint.Pair{Key: r.key, Value: r.value}, r.checkKey()
}

// lineScanner is what is left of a line.
type lineScanner []byte

func (l *lineScanner) space() { *l = bytes.TrimLeft(*l, " \t\r") }

// done says whether nothing is left.
func (l *lineScanner) done() bool {
	l.space()
	return len(*l) == 0
}

// take passes over a byte, if that is what follows.
func (l *lineScanner) take(c byte) bool {
	if l.done() || (*l)[0] != c {
		return false
	}
	*l = (*l)[1:]
	return true
}

// hex reads a string of hex digits and appends its bytes to dst; ok is false where
// there is none. Error: ErrLimit.
func (l *lineScanner) hex(dst []byte, most int, what string) (_ []byte, ok bool, err error) {
	if !l.take('"') {
		return dst, false, nil
	}
	n := bytes.IndexByte(*l, '"')
	if n < 0 {
		return dst, false, nil
	}
	if n > 2*most {
		return dst, false, fmt.Errorf("%w: %s of %d bytes, at most %d", ErrLimit, what, n/2, most)
	}
	out, err := hex.AppendDecode(dst, (*l)[:n])
	if err != nil {
		return dst, false, nil
	}
	*l = (*l)[n+1:]
	return out, true, nil
}

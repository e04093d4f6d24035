package client

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"iter"
	"time"
)

// Import imports a block; where its slot is locked it waits for as long as that takes.
// To import a held block again is no error.
func (c *Client) Import(ctx context.Context, b *Block) (Imported, error) {
	return c.imports(ctx, b, -1)
}

// ImportWithin is Import that waits for others who have the slot, or import the parent,
// for so long at most. Error: ErrLocked or ErrUnknownBlock then, among others.
func (c *Client) ImportWithin(ctx context.Context, b *Block, wait time.Duration) (Imported, error) {
	return c.imports(ctx, b, max(wait, 0))
}

func (c *Client) imports(ctx context.Context, b *Block, wait time.Duration) (Imported, error) {
	r := &request{method: "POST", path: importPath(wait), media: typeBinary, body: appendBlock(nil, b), wait: max(wait, 0)}
	return c.importedBy(ctx, r, nil, b.Hash)
}

// importedBy sends a request that imports a block.
func (c *Client) importedBy(ctx context.Context, r *request, in any, hash Hash) (Imported, error) {
	var out Imported
	h, err := c.json(ctx, r, in, &out)
	out.New = h.status == 201
	return out, named(out.Hash, hash, err)
}

// importPath is that of imports; a wait below 0 is not said.
func importPath(wait time.Duration) string {
	if wait < 0 {
		return "/v1/blocks"
	}
	return "/v1/blocks?wait=" + wait.String()
}

// appendBlock appends a block in binary form (docs/API.md).
func appendBlock(dst []byte, b *Block) []byte {
	var flags uint32
	var roots []byte
	if b.PriorRoot != nil {
		flags |= 1
		roots = append(roots, b.PriorRoot[:]...)
	}
	if b.PostRoot != nil {
		flags |= 2
		roots = append(roots, b.PostRoot[:]...)
	}
	if b.Header != nil {
		flags |= 4
	}
	size := len("blk1") + 5*4 + 2*len(b.Hash) + len(roots) + len(b.Header)
	dst = append(append(dst, make([]byte, 0, size+writesSize(b.Puts, b.Dels))...), "blk1"...)
	dst = binary.LittleEndian.AppendUint32(dst, flags)
	dst = append(append(dst, b.Hash[:]...), b.Parent[:]...)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(b.Slot))
	dst = append(dst, roots...)
	if b.Header != nil {
		dst = appendFrame(dst, b.Header)
	}
	return appendWrites(dst, b.Puts, b.Dels)
}

func writesSize(puts []Pair, dels [][]byte) int {
	size := 8 + 8*len(puts) + 4*len(dels)
	for i := range puts {
		size += len(puts[i].Key) + len(puts[i].Value)
	}
	for _, key := range dels {
		size += len(key)
	}
	return size
}

// appendWrites appends a write set in binary form.
func appendWrites(dst []byte, puts []Pair, dels [][]byte) []byte {
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(puts))) //nolint:gosec // the server refuses more
	for i := range puts {
		dst = appendFrame(appendFrame(dst, puts[i].Key), puts[i].Value)
	}
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(dels))) //nolint:gosec // as above
	for _, key := range dels {
		dst = appendFrame(dst, key)
	}
	return dst
}

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
// Import does. Who stops ranging ends the request; r may be read once more then.
func (c *Client) ImportLines(ctx context.Context, r io.Reader, wait time.Duration) iter.Seq2[LineResult, error] {
	return func(yield func(LineResult, error) bool) {
		k, err := c.do(ctx, &request{method: "POST", path: importPath(wait), media: typeLines, accept: typeLines, stream: r, endless: true})
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
				if err = k.lineError(err); err != nil {
					yield(LineResult{}, err)
				}
				return
			}
			var result LineResult
			if result, err = parseLine(line); err != nil {
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

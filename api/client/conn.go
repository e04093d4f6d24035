package client

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http/httputil"
	"strconv"
	"strings"
	"time"

	"accessor/forks"
)

// conn is a connection, with one request on its way at most. HTTP/1.1 is spoken by
// hand: net/http's client has two goroutines a connection, and hands each request
// through both, which costs more than the rest of a small read.
type conn struct {
	net.Conn
	c    *Client
	in   *bufio.Reader
	out  []byte // memory of requests' heads and small bodies
	used bool   // an answer came over it before

	// Of the request on its way.
	ctx   context.Context
	stop  func() bool // ends the watch of ctx; nil where it can't end
	timed bool        // the connection has a deadline
	begun bool        // the first byte of the answer is here
	sent  chan error  // of the goroutine that sends the body; nil without one
	whole bool        // that body is bytes, not a reader
	head  head
	rest  io.Reader // of the answer's body
	size  limited   // behind rest, for a body with a length
}

// head is what the client reads of an answer's head.
type head struct {
	status     int
	length     int64 // of the body; -1 where it isn't said
	chunked    bool
	close      bool // the server closes the connection afterwards
	media      string
	retryAfter time.Duration

	about       bool // whether the answer names a block:
	block, root [2 * forks.HashSize]byte
	slot        uint32
}

// Bounds of what is read before the body.
const (
	maxHead   = 64 << 10
	bufferIn  = 16 << 10
	maxInform = 8 // 1xx answers before the answer
)

// inline is the most bytes of a body that are sent with the head, and in one piece: the
// server reads that much whatever it thinks of it, or closes.
const inline = 64 << 10

// readHead reads the answer's head, once it comes. Error: of kind bad-answer, or the
// connection's.
func (k *conn) readHead() error {
	if _, err := k.in.Peek(1); err != nil {
		return err
	}
	k.begun = true
	left := maxHead
	for range maxInform {
		if err := k.head.read(k.in, &left); err != nil {
			return err
		}
		if k.head.status >= 200 {
			return nil
		}
	}
	return badAnswer("more than %d heads before the answer", maxInform)
}

// read reads one head. left is how many bytes it may have.
func (h *head) read(in *bufio.Reader, left *int) error {
	*h = head{length: -1}
	line, err := readLine(in, left)
	if err != nil {
		return err
	}
	const version = "HTTP/1.1 "
	if len(line) < len(version)+3 || string(line[:len(version)]) != version ||
		len(line) > len(version)+3 && line[len(version)+3] != ' ' {
		return badAnswer("%.40q is no answer of HTTP/1.1", line)
	}
	status, ok := parseNumber(line[len(version):len(version)+3], 999)
	if !ok || status < 100 || status == 101 {
		return badAnswer("%.40q has no status", line)
	}
	h.status = int(status)
	var named int
	for {
		line, err := readLine(in, left)
		if err != nil {
			return err
		}
		if len(line) == 0 {
			break
		}
		colon := bytes.IndexByte(line, ':')
		if colon < 1 || line[0] == ' ' || line[0] == '\t' || line[colon-1] == ' ' || line[colon-1] == '\t' {
			return badAnswer("%.80q is no header", line)
		}
		n, err := h.field(line[:colon], bytes.Trim(line[colon+1:], " \t"))
		if err != nil {
			return err
		}
		named += n
	}
	if h.about = named == 3; named != 3 && named != 0 {
		return badAnswer("the headers that name the block are %d, want 3", named)
	}
	if h.chunked && h.length >= 0 {
		return badAnswer("both Content-Length and Transfer-Encoding")
	}
	if h.status < 200 || h.status == 204 || h.status == 304 {
		h.length, h.chunked = 0, false
	}
	return nil
}

// field takes one header; it counts those that name the block.
func (h *head) field(name, value []byte) (named int, err error) {
	switch {
	case is(name, "Content-Length"):
		n, ok := parseNumber(value, 1<<62)
		if !ok || h.length >= 0 && h.length != int64(n) {
			return 0, badAnswer("Content-Length %.40q", value)
		}
		h.length = int64(n)
	case is(name, "Transfer-Encoding"):
		if h.chunked || !is(value, "chunked") {
			return 0, badAnswer("Transfer-Encoding %.40q", value)
		}
		h.chunked = true
	case is(name, "Connection"):
		h.close = h.close || strings.Contains(strings.ToLower(string(value)), "close")
	case is(name, "Content-Type"):
		media, _, _ := bytes.Cut(value, []byte(";"))
		h.media = mediaOf(media)
	case is(name, "Retry-After"):
		if n, ok := parseNumber(value, 1<<31); ok {
			h.retryAfter = time.Duration(n) * time.Second
		}
	case is(name, "Accessor-Block"):
		if copy(h.block[:], value) != len(value) || !isHex(value, len(h.block)) {
			return 0, badAnswer("Accessor-Block %.80q is no hash", value)
		}
		return 1, nil
	case is(name, "Accessor-Root"):
		if copy(h.root[:], value) != len(value) || !isHex(value, len(h.root)) {
			return 0, badAnswer("Accessor-Root %.80q is no hash", value)
		}
		return 1, nil
	case is(name, "Accessor-Slot"):
		n, ok := parseNumber(value, 1<<32-1)
		if !ok {
			return 0, badAnswer("Accessor-Slot %.40q is no slot", value)
		}
		h.slot = uint32(n)
		return 1, nil
	}
	return 0, nil
}

// binary says that the answer has the form that was asked for, or doesn't say another.
func (h *head) binary() bool { return h.media == typeBinary || h.media == "" }

// at is the block that the answer names.
func (h *head) at() About {
	about := About{Slot: forks.Slot(h.slot)}
	_ = about.Block.UnmarshalText(h.block[:]) // field has looked at both
	_ = about.Root.UnmarshalText(h.root[:])
	return about
}

// readLine reads a line without its end. It is good until the next read.
func readLine(in *bufio.Reader, left *int) ([]byte, error) {
	line, err := in.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		whole := bytes.Clone(line)
		for errors.Is(err, bufio.ErrBufferFull) && len(whole) <= *left {
			line, err = in.ReadSlice('\n')
			whole = append(whole, line...)
		}
		line = whole
	}
	if *left -= len(line); *left < 0 {
		return nil, badAnswer("a head of more than %d bytes", maxHead)
	}
	if err != nil {
		return nil, cutShort(err)
	}
	line = line[:len(line)-1]
	return bytes.TrimSuffix(line, []byte("\r")), nil
}

// cutShort says that an answer ended where it may not.
func cutShort(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// is compares a header's name.
func is(name []byte, want string) bool {
	return len(name) == len(want) && (string(name) == want || strings.EqualFold(string(name), want))
}

// mediaOf gives a media type as text, without making one for those that are usual.
func mediaOf(b []byte) string {
	for _, known := range []string{typeBinary, typeJSON, typeProblem, typeLines, typeEvents} {
		if is(b, known) {
			return known
		}
	}
	return strings.ToLower(strings.TrimSpace(string(b)))
}

// parseNumber reads decimal digits alone.
func parseNumber(b []byte, most uint64) (uint64, bool) {
	if len(b) == 0 || len(b) > 19 {
		return 0, false
	}
	n := uint64(0)
	for _, d := range b {
		if d < '0' || d > '9' {
			return 0, false
		}
		n = 10*n + uint64(d-'0')
	}
	return n, n <= most
}

// isHex says whether bytes are so many lower-case hex digits.
func isHex(b []byte, n int) bool {
	for _, d := range b {
		if (d < '0' || d > '9') && (d < 'a' || d > 'f') {
			return false
		}
	}
	return len(b) == n
}

// limited reads so many bytes; fewer are an error.
type limited struct {
	from *bufio.Reader
	left int64
}

// Read implements io.Reader.
func (l *limited) Read(b []byte) (int, error) {
	if l.left == 0 {
		return 0, io.EOF
	}
	n, err := l.from.Read(b[:min(int64(len(b)), l.left)])
	if l.left -= int64(n); err != nil {
		err = cutShort(err)
	}
	return n, err
}

// openBody makes the reader of the answer's body.
func (k *conn) openBody() error {
	switch {
	case k.head.chunked:
		k.rest = &chunks{k.in, httputil.NewChunkedReader(k.in)}
	case k.head.length >= 0:
		k.size = limited{k.in, k.head.length}
		k.rest = &k.size
	case k.head.status < 400:
		return badAnswer("status %d, and neither Content-Length nor chunks: nobody knows where it ends", k.head.status)
	default:
		k.head.close = true
		k.rest = k.in
	}
	return nil
}

// chunks reads a body in chunks, and what follows the last one.
type chunks struct {
	in   *bufio.Reader
	body io.Reader
}

// Read implements io.Reader.
func (c *chunks) Read(b []byte) (int, error) {
	n, err := c.body.Read(b)
	if errors.Is(err, io.EOF) {
		for left := maxHead; ; {
			line, lerr := readLine(c.in, &left)
			if lerr != nil {
				return n, lerr
			}
			if len(line) == 0 {
				break
			}
		}
		return n, io.EOF
	}
	var net net.Error
	if err != nil && !errors.As(err, &net) && !errors.Is(err, io.ErrUnexpectedEOF) {
		err = badAnswer("chunks: %v", err)
	}
	return n, err
}

// bodyStep is how much memory a body gets before any of it is here.
const bodyStep = 1 << 20

// body appends the whole body to dst, at most so many bytes, and ends the request.
func (k *conn) body(dst []byte, most int64) ([]byte, error) {
	if k.head.length > most {
		err := badAnswer("a body of %d bytes, at most %d are read", k.head.length, most)
		k.end(err)
		return dst, err
	}
	begin := len(dst)
	if k.head.length >= 0 {
		dst = grow(dst, int(min(k.head.length, bodyStep)))
	}
	for {
		if len(dst) == cap(dst) {
			if k.head.length >= 0 && int64(len(dst)-begin) == k.head.length {
				break
			}
			dst = grow(dst, max(512, len(dst)))
		}
		n, err := k.rest.Read(dst[len(dst):cap(dst)])
		if dst = dst[:len(dst)+n]; int64(len(dst)-begin) > most {
			err = badAnswer("a body of more than %d bytes", most)
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			err = broken(k.ctx, err)
			k.end(err)
			return dst, err
		}
	}
	k.end(nil)
	return dst, nil
}

// grow makes room for so many bytes more, and hardly more than that.
func grow(dst []byte, n int) []byte {
	if cap(dst)-len(dst) >= n {
		return dst
	}
	return append(make([]byte, 0, len(dst)+n), dst...)
}

// appendHead appends a request's head.
func (c *Client) appendHead(dst []byte, r *request) ([]byte, error) {
	dst = append(append(append(dst, r.method...), ' '), r.path...)
	dst = append(append(dst, " HTTP/1.1\r\nHost: "...), c.host...)
	if r.accept != "" {
		dst = append(append(dst, "\r\nAccept: "...), r.accept...)
	}
	if r.media != "" {
		dst = append(append(dst, "\r\nContent-Type: "...), r.media...)
	}
	if r.stream != nil {
		dst = append(dst, "\r\nTransfer-Encoding: chunked"...)
	} else if r.body != nil || r.method != "GET" {
		dst = strconv.AppendInt(append(dst, "\r\nContent-Length: "...), int64(len(r.body)), 10)
	}
	if r.lastEvent != "" {
		dst = append(append(dst, "\r\nLast-Event-ID: "...), r.lastEvent...)
	}
	if c.token != nil {
		token, err := c.token()
		if err != nil {
			return dst, err
		}
		if strings.ContainsAny(token, "\r\n") {
			return dst, clientError(ErrUnauthenticated, nil, "the token has a line's end in it")
		}
		dst = append(append(dst, "\r\nAuthorization: Bearer "...), token...)
	}
	return append(dst, "\r\n\r\n"...), nil
}

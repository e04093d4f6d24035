package client

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http/httputil"
	"reflect"
	"strings"
	"time"
)

// Media types.
const (
	typeJSON    = "application/json"
	typeBinary  = "application/octet-stream"
	typeLines   = "application/x-ndjson"
	typeEvents  = "text/event-stream"
	typeProblem = "application/problem+json"
)

// request is a request to be sent.
type request struct {
	method, path string // path with its query
	accept       string // media type
	media        string // of the body
	body         []byte
	stream       io.Reader // a body of unknown length, instead
	lastEvent    string
	once         bool          // it must not be sent twice
	endless      bool          // the client's own timeout isn't for it
	wait         time.Duration // how long the server may wait before it answers
	silence      time.Duration // of an endless request: how long until the answer begins; 0 for no bound
}

// open sends a request and reads the answer's head. The caller reads the body and ends
// the request, or ends it at once. A request on a connection that was kept is sent
// again where the server has closed that without a word. Error: of kind connection,
// deadline or bad-answer; never the server's.
func (c *Client) open(ctx context.Context, r *request) (*conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, broken(ctx, err)
	}
	fresh := r.once || r.stream != nil
	for {
		k, err := c.connection(ctx, fresh)
		if err != nil {
			return nil, err
		}
		k.watch(ctx, r)
		if err = k.exchange(r); err == nil {
			return k, nil
		}
		again := k.used && !k.begun && !isTimeout(err) && ctx.Err() == nil
		err = broken(ctx, err)
		k.end(err)
		if !again || fresh {
			return nil, err
		}
		fresh = true
		c.dropIdle() // of the same age, or older
	}
}

// connection gives an idle connection, or a new one.
func (c *Client) connection(ctx context.Context, fresh bool) (*conn, error) {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return nil, clientError(ErrConnection, nil, "the client is closed")
	}
	if n := len(c.idle); n > 0 && !fresh {
		k := c.idle[n-1]
		c.idle = c.idle[:n-1]
		c.mu.Unlock()
		return k, nil
	}
	c.mu.Unlock()
	if c.timeout > 0 {
		if _, ok := ctx.Deadline(); !ok {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, c.timeout)
			defer cancel()
		}
	}
	nc, err := c.dial(ctx)
	if err != nil {
		return nil, broken(ctx, err)
	}
	return &conn{Conn: nc, c: c, in: bufio.NewReaderSize(nc, bufferIn)}, nil
}

// dropIdle closes the idle connections.
func (c *Client) dropIdle() {
	c.mu.Lock()
	idle := c.idle
	c.idle = nil
	c.mu.Unlock()
	for _, k := range idle {
		_ = k.Close()
	}
}

// past is a deadline that is over.
var past = time.Unix(1, 0)

// watch bounds the request by its context.
func (k *conn) watch(ctx context.Context, r *request) {
	k.ctx, k.begun, k.sent = ctx, false, nil
	most := k.c.timeout + r.wait
	if _, ok := ctx.Deadline(); ok || k.c.timeout <= 0 || r.endless {
		most = 0
	}
	if r.silence > 0 {
		most = r.silence
	}
	if most > 0 {
		k.timed = true
		_ = k.SetDeadline(time.Now().Add(most))
	}
	if ctx.Done() != nil { // afterwards: its deadline is the one that counts
		k.stop = context.AfterFunc(ctx, func() { _ = k.SetDeadline(past) })
	}
}

// exchange sends the request and reads the answer's head. While a large body is on its
// way the answer is waited for: the server may refuse it early, and close.
func (k *conn) exchange(r *request) error {
	out, err := k.c.appendHead(k.out[:0], r)
	k.out = out
	if err != nil {
		return clientError(ErrUnauthenticated, err, "no token: %v", err)
	}
	small := r.stream == nil && len(r.body) <= inline
	if small {
		k.out = append(k.out, r.body...)
	}
	_, sendErr := k.Write(k.out)
	if cap(k.out) > 2*inline {
		k.out = nil
	}
	if k.whole = r.stream == nil; sendErr == nil && !small {
		k.sent = make(chan error, 1)
		go k.send(r, k.sent)
	}
	err = k.readHead()
	if err == nil {
		return k.openBody()
	}
	if k.sent != nil {
		select {
		case sendErr = <-k.sent: // why there is no answer, perhaps
			k.sent = nil
		default:
		}
	}
	var ours *Error
	if sendErr != nil && (!errors.As(err, &ours) || errors.As(sendErr, new(*sourceError))) {
		return sendErr
	}
	if k.begun {
		err = cutShort(err)
	}
	return err
}

// sourceError is the error of the caller's reader, of which a body was to come.
type sourceError struct{ error }

func (e *sourceError) Unwrap() error { return e.error }

// send sends a body. The caller's reader may fail: then there is no way to go on.
func (k *conn) send(r *request, done chan<- error) {
	if r.stream == nil {
		_, err := k.Write(r.body)
		done <- err
		return
	}
	out := bufio.NewWriterSize(k.Conn, inline)
	body := httputil.NewChunkedWriter(out)
	buf := make([]byte, inline)
	for {
		n, err := r.stream.Read(buf)
		if n > 0 {
			_, werr := body.Write(buf[:n])
			if werr == nil {
				werr = out.Flush()
			}
			if werr != nil {
				done <- werr
				return
			}
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			done <- &sourceError{err}
			_ = k.Close() // wakes who waits for the answer
			return
		}
	}
	_, err := out.WriteString("0\r\n\r\n")
	if err == nil {
		err = out.Flush()
	}
	done <- err
}

// end ends the request: the connection is kept where the answer was read to its end.
func (k *conn) end(err error) {
	keep := err == nil && !k.head.close && k.in.Buffered() == 0
	if k.stop != nil && !k.stop() {
		keep = false // its deadline may come yet
	}
	k.stop = nil
	sending := k.sent
	if sending != nil {
		select {
		case err := <-sending:
			keep, sending = keep && err == nil, nil
		default:
			keep = false // the server didn't want all of the body
		}
	}
	if keep && k.timed {
		keep = k.SetDeadline(time.Time{}) == nil
	}
	if keep {
		k.timed, k.used, k.ctx, k.rest, k.sent = false, true, nil, nil, nil
		keep = k.c.keepIdle(k)
	}
	if !keep {
		_ = k.Close()
	}
	if sending != nil && k.whole {
		<-sending //nolint:errcheck // whatever became of it: the body is the caller's again
	}
}

// keepIdle keeps a connection for the next request, unless there are enough.
func (c *Client) keepIdle(k *conn) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || len(c.idle) >= c.keep {
		return false
	}
	c.idle = append(c.idle, k)
	return true
}

// do sends a request, and gives the server's refusal as an error.
func (c *Client) do(ctx context.Context, r *request) (*conn, error) {
	k, err := c.open(ctx, r)
	if err != nil {
		return nil, err
	}
	if k.head.status >= 300 {
		return nil, k.problem()
	}
	return k, nil
}

// done sends a request whose answer has nothing in it.
func (c *Client) done(ctx context.Context, r *request) error {
	k, err := c.do(ctx, r)
	if err == nil {
		_, err = k.body(nil, maxProblem)
	}
	return err
}

// json sends a request, with a body as JSON unless that is nil, and reads the answer's
// JSON into out, unless that is nil. It gives the answer's head.
func (c *Client) json(ctx context.Context, r *request, in, out any) (head, error) {
	if in != nil {
		body, err := json.Marshal(in)
		if err != nil {
			return head{}, clientError(ErrBadRequest, err, "%v", err)
		}
		r.body, r.media = body, typeJSON
	}
	r.accept = typeJSON
	k, err := c.do(ctx, r)
	if err != nil {
		return head{}, err
	}
	h := k.head
	return h, k.decode(out)
}

// decode reads the answer's JSON, and ends the request.
func (k *conn) decode(out any) error {
	media, status := k.head.media, k.head.status
	text, err := k.body(nil, k.c.most)
	if err != nil || out == nil {
		return err
	}
	if media != typeJSON {
		return badAnswer("status %d with %.80q, want JSON", status, media)
	}
	if err := json.Unmarshal(text, out); err != nil {
		return badAnswer("%v", err)
	}
	if name := missing(reflect.ValueOf(out).Elem()); name != "" {
		return badAnswer("no member %s in %.80q", strings.ToLower(name), text)
	}
	return nil
}

// missing names a list that an answer doesn't have: it would pass for an empty one.
func missing(v reflect.Value) string {
	if v.Kind() != reflect.Struct {
		return ""
	}
	for i := range v.NumField() {
		field := v.Type().Field(i)
		if field.Anonymous {
			if name := missing(v.Field(i)); name != "" {
				return name
			}
		}
		if strings.HasSuffix(field.Tag.Get("json"), ",omitempty") {
			continue
		}
		if field.Type.Kind() == reflect.Slice && field.Type != reflect.TypeFor[hexBytes]() && v.Field(i).IsNil() {
			return field.Name
		}
	}
	return ""
}

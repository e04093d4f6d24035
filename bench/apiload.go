package bench

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"
)

// request is one that a client sends, as bytes, and the body that must come back; a
// nil body may be anything. A status of 0 stands for 200.
type request struct {
	bytes  []byte
	status int
	want   []byte
}

// answerReader reads one answer into body.
type answerReader func(in *bufio.Reader, body []byte) (status int, _ []byte, err error)

// client is a connection on which requests go one after the other. All protocols have
// the same: bytes that are ready are written, and no more of the answer is understood
// than is needed to compare it.
type client struct {
	net.Conn
	in   *bufio.Reader
	body []byte
	read answerReader
}

// clientPatience bounds each request: nothing that is measured takes so long.
const clientPatience = time.Minute

func dialClient(ctx context.Context, path string, read answerReader) (*client, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "unix", path)
	if err != nil {
		return nil, err
	}
	return &client{Conn: conn, in: bufio.NewReaderSize(conn, 32<<10), read: read}, nil
}

var errAnswer = errors.New("unexpected answer")

// do sends a request and compares the answer.
func (c *client) do(r *request) error {
	if _, err := c.Write(r.bytes); err != nil {
		return err
	}
	status, body, err := c.read(c.in, c.body[:0])
	c.body = body
	if err != nil {
		return err
	}
	want := r.status
	if want == 0 {
		want = 200
	}
	if status != want || r.want != nil && !bytes.Equal(body, r.want) {
		return fmt.Errorf("%w to %.80q: status %d, want %d: %.200q", errAnswer, r.bytes, status, want, body)
	}
	return nil
}

// readHTTP reads an answer of HTTP/1.1 with a Content-Length.
func readHTTP(in *bufio.Reader, body []byte) (int, []byte, error) {
	line, err := in.ReadSlice('\n')
	if err != nil {
		return 0, body, err
	}
	if len(line) < 14 || string(line[:9]) != "HTTP/1.1 " {
		return 0, body, fmt.Errorf("%w: %.80q", errAnswer, line)
	}
	status, err := strconv.Atoi(string(line[9:12]))
	if err != nil {
		return 0, body, err
	}
	size := -1
	for {
		line, err := in.ReadSlice('\n')
		if err != nil {
			return 0, body, err
		}
		if len(line) <= 2 {
			break
		}
		const name = "Content-Length: "
		if len(line) > len(name) && line[0] == 'C' && string(line[:len(name)]) == name {
			if size, err = strconv.Atoi(string(bytes.TrimSpace(line[len(name):]))); err != nil {
				return 0, body, err
			}
		}
	}
	if size < 0 {
		return 0, body, fmt.Errorf("%w: no Content-Length", errAnswer)
	}
	return readBody(in, status, size, body)
}

func readBody(in *bufio.Reader, status, size int, body []byte) (int, []byte, error) {
	body = slices.Grow(body, size)
	n := len(body)
	body = body[:n+size]
	_, err := io.ReadFull(in, body[n:])
	return status, body, err
}

// load is a number of connections to one server that send requests as fast as they
// are answered.
type load struct {
	path     string
	read     answerReader
	requests []request
	conns    int
	each     int // requests of a connection
}

// measured is what a load took.
type measured struct {
	times []time.Duration // of each request, ascending
	rate  float64         // requests a second
}

func (m *measured) micros(percent int) float64 {
	return float64(m.times[max(0, (len(m.times)*percent+99)/100-1)].Nanoseconds()) / 1000
}

// run sends the load. The first tenth of it isn't measured.
func (l *load) run(ctx context.Context) (measured, error) {
	clients := make([]*client, l.conns)
	defer func() {
		for _, c := range clients {
			if c != nil {
				_ = c.Close()
			}
		}
	}()
	for i := range clients {
		var err error
		if clients[i], err = dialClient(ctx, l.path, l.read); err != nil {
			return measured{}, err
		}
	}
	times := make([][]time.Duration, l.conns)
	send := func(count int, keep bool) error {
		group, ctx := errgroup.WithContext(ctx)
		for i, c := range clients {
			group.Go(func() error {
				var err error
				times[i], err = l.send(ctx, c, i, count, keep)
				return err
			})
		}
		return group.Wait()
	}
	if err := send(l.each/10+1, false); err != nil {
		return measured{}, err
	}
	start := time.Now()
	err := send(l.each, true)
	m := measured{rate: float64(l.conns*l.each) / time.Since(start).Seconds(), times: slices.Concat(times...)}
	slices.Sort(m.times)
	return m, err
}

// send sends the requests of one connection; each begins at another one of the list.
func (l *load) send(ctx context.Context, c *client, from, count int, keep bool) ([]time.Duration, error) {
	var times []time.Duration
	if keep {
		times = make([]time.Duration, 0, count)
	}
	_ = c.SetDeadline(time.Now().Add(clientPatience + time.Duration(count)*time.Millisecond))
	at := from * 37
	for range count {
		if err := context.Cause(ctx); err != nil {
			return nil, err
		}
		r := &l.requests[at%len(l.requests)]
		at++
		start := time.Now()
		if err := c.do(r); err != nil {
			return nil, err
		}
		if keep {
			times = append(times, time.Since(start))
		}
	}
	return times, nil
}

package listen

import (
	"context"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"accessor/api/access"
)

// gate counts the connections of each listener, and makes room: where a listener has
// as many as it may have, the one of them that has waited longest without a request
// goes. No listener's clients can take another's place.
type gate struct {
	most  int // of each listener
	stall time.Duration
	log   *zap.Logger

	// turning are the connections that are just being told to go: a few, so that
	// who is turned away can't make work.
	turning   chan struct{}
	farewells sync.WaitGroup

	// waits counts the times that a connection has begun to wait: each request's ends in
	// one, so that is all that it costs to know who has waited longest.
	waits atomic.Int64

	mu     sync.Mutex
	open   map[*Listener]map[*conn]struct{} // of listeners with connections
	turned uint64                           // connections turned away or made to go
}

// conn is a connection with its client, as far as it is known.
type conn struct {
	net.Conn
	gate   *gate
	from   *Listener
	client access.Client // over TCP without roles: each request has a token
	once   sync.Once

	waiting atomic.Int64 // since which of the gate's waits it has no request; 0: it has one
	// until is the deadline of writes, in nanoseconds since 1970; 0 where there is none.
	until atomic.Int64
}

// turnAtOnce bounds turning.
const turnAtOnce = 32

func newGate(most int, stall time.Duration, log *zap.Logger) *gate {
	return &gate{most: most, stall: stall, log: log,
		turning: make(chan struct{}, turnAtOnce), open: make(map[*Listener]map[*conn]struct{})}
}

// gated is a listener behind the gate.
type gated struct {
	*Listener
	inner net.Listener // the socket itself
	gate  *gate
}

// Accept gives the next connection that may stay.
func (g gated) Accept() (net.Conn, error) {
	for {
		inner, err := g.inner.Accept()
		if err != nil {
			return nil, err
		}
		c := &conn{Conn: inner, gate: g.gate, from: g.Listener}
		if g.fixed != nil {
			c.client = *g.fixed
		}
		if u := g.unix; u != nil {
			p, err := peerOf(inner.(*net.UnixConn))
			if err != nil {
				g.gate.log.Debug("peer of a connection", zap.String("socket", u.Name), zap.Error(err))
				_ = inner.Close() // gone already
				continue
			}
			client, ok := u.client(p)
			if !ok {
				g.gate.log.Warn("connection refused: neither its user nor one of its groups is listed",
					zap.String("socket", u.Name), zap.Int("uid", p.uid), zap.Int("gid", p.gid), zap.Int("pid", p.pid))
				g.gate.turn(c, answerForbidden)
				continue
			}
			c.client = client
		}
		if !g.gate.admit(c) {
			g.gate.turn(c, answerFull)
			continue
		}
		return c, nil
	}
}

// admit lets a connection in, as one that waits for its first request. It is
// false where there is no room, since all have requests.
func (g *gate) admit(c *conn) bool {
	g.mu.Lock()
	open := g.open[c.from]
	if open == nil {
		open = make(map[*conn]struct{})
		g.open[c.from] = open
	}
	var goes *conn
	if len(open) >= g.most {
		if goes = longest(open); goes == nil {
			g.mu.Unlock()
			return false
		}
		delete(open, goes)
		g.turned++
	}
	open[c] = struct{}{}
	g.idle(c)
	g.mu.Unlock()
	if goes != nil {
		_ = goes.Conn.Close() // its server sees the end
	}
	return true
}

// longest gives the connection that has waited longest; nil where none waits.
func longest(open map[*conn]struct{}) (goes *conn) {
	var since int64
	for c := range open {
		if w := c.waiting.Load(); w != 0 && (goes == nil || w < since) {
			goes, since = c, w
		}
	}
	return goes
}

// busy and idle say that a connection has a request, or waits for the next.
func (g *gate) busy(c *conn) { c.waiting.Store(0) }
func (g *gate) idle(c *conn) { c.waiting.Store(g.waits.Add(1)) }

func (g *gate) forget(c *conn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	open := g.open[c.from]
	if delete(open, c); len(open) == 0 {
		delete(g.open, c.from)
	}
}

// closeWaiting ends all connections without a request.
func (g *gate) closeWaiting() {
	g.mu.Lock()
	var all []*conn
	for _, open := range g.open {
		for c := range open {
			if c.waiting.Load() != 0 {
				all = append(all, c)
			}
		}
	}
	g.mu.Unlock()
	for _, c := range all {
		_ = c.Conn.Close()
	}
}

// counts gives the connections that are open, and those that had to go.
func (g *gate) counts() (open int, turned uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, conns := range g.open {
		open += len(conns)
	}
	return open, g.turned
}

// stateChanged is the server's ConnState hook.
func (g *gate) stateChanged(nc net.Conn, state http.ConnState) {
	c := connOf(nc)
	if c == nil {
		return
	}
	switch state {
	case http.StateActive:
		g.busy(c)
	case http.StateIdle:
		g.idle(c)
	case http.StateClosed, http.StateHijacked:
		g.forget(c)
	}
}

// Close closes the connection, once.
func (c *conn) Close() error {
	err := net.ErrClosed
	c.once.Do(func() {
		c.gate.forget(c)
		err = c.Conn.Close()
	})
	return err
}

// stretch is how many bytes of a long answer a client has to take within the stall
// timeout at least: 17 KiB a second where that is a minute.
const stretch = 1 << 20

// Write writes an answer, however long that takes. A client that doesn't take it, or
// hardly any of it, must not keep what the answer is made of. A deadline that is far
// enough stays: moving it costs more than looking.
func (c *conn) Write(b []byte) (n int, err error) {
	for {
		now := time.Now()
		if c.until.Load() < now.Add(c.gate.stall).UnixNano() {
			if err := c.SetWriteDeadline(now.Add(c.gate.stall + c.gate.stall/4)); err != nil {
				return n, err
			}
		}
		wrote, err := c.Conn.Write(b[n:min(len(b), n+stretch)])
		if n += wrote; err != nil || n == len(b) {
			return n, err
		}
	}
}

// SetWriteDeadline is that of net.Conn, but that there is always one: net/http takes
// it away after each answer, and Write would make it again for the next.
func (c *conn) SetWriteDeadline(t time.Time) error {
	if t.IsZero() {
		return nil
	}
	c.until.Store(t.UnixNano())
	return c.Conn.SetWriteDeadline(t)
}

// SetDeadline is that of net.Conn.
func (c *conn) SetDeadline(t time.Time) error {
	if err := c.SetWriteDeadline(t); err != nil {
		return err
	}
	return c.SetReadDeadline(t)
}

// connOf finds the connection below TLS.
func connOf(nc net.Conn) *conn {
	if t, ok := nc.(interface{ NetConn() net.Conn }); ok {
		nc = t.NetConn()
	}
	c, _ := nc.(*conn)
	return c
}

// connKey is the context key of a *conn.
type connKey struct{}

// withConn is the server's ConnContext hook. All requests of a connection are one
// client's, but where each has a token.
func withConn(ctx context.Context, nc net.Conn) context.Context {
	c := connOf(nc)
	if c == nil {
		return ctx
	}
	ctx = context.WithValue(ctx, connKey{}, c)
	if c.from.tcp == nil {
		ctx = access.WithClient(ctx, c.client)
	}
	return ctx
}

// turn tells a connection why it has to go, and ends it. Where many have to at a
// time, it ends them without a word.
func (g *gate) turn(c *conn, answer string) {
	g.mu.Lock()
	g.turned++
	g.mu.Unlock()
	select {
	case g.turning <- struct{}{}:
	default:
		_ = c.Conn.Close()
		return
	}
	g.farewells.Go(func() {
		defer func() { <-g.turning }()
		if c.from.tls == nil {
			farewell(c.Conn, answer)
		}
		_ = c.Conn.Close()
	})
}

// farewell sends an answer to a request that nobody looks at. It reads some of
// that, since closing before would take the answer away.
func farewell(c net.Conn, answer string) {
	if c.SetDeadline(time.Now().Add(time.Second)) != nil {
		return
	}
	if _, err := io.WriteString(c, answer); err != nil {
		return
	}
	if half, ok := c.(interface{ CloseWrite() error }); ok && half.CloseWrite() == nil {
		_, _ = io.CopyN(io.Discard, c, 64<<10)
	}
}

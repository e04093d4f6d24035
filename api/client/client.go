// Package client talks to a running accessor over its HTTP API (docs/API.md), on a
// Unix socket or over TCP.
//
//	c, err := client.New("unix:///run/accessor/accessor.sock")
//	head := c.At("head")
//	value, present, err := head.Get(ctx, key)
//
// A View reads one block's state: the first answer binds it to a block, and it stays
// there whatever happens to the head. Answers that name another block are refused. A
// View made by WithVerification believes nothing but a root: what it gives was proved.
//
// A sidecar that hasn't got the whole state yet (Status, Partial) asks its peers for what a
// call lacks. What it can't have is ErrNotFetched, never an absent key: try again.
//
// Every error of the server has a Kind, and errors.Is(err, client.ErrPruned) asks for
// it; errors.As to *Error gives the rest. What a server sends is bounded before it is
// read, and never trusted.
//
// A request has a connection of its own while it is on its way; idle ones are kept and
// used again. There are no goroutines behind the caller's back but while a large body
// is sent.
package client

import (
	"context"
	"net"
	"strings"
	"sync"
	"time"

	"accessor/forks"
)

// Hash is a block's header hash, or a state's root.
type Hash = forks.Hash

// Client is a client of one accessor. It is safe for concurrent use.
type Client struct {
	dial    func(context.Context) (net.Conn, error)
	host    string // for the header of that name
	token   func() (string, error)
	timeout time.Duration
	most    int64 // bytes of an answer's body
	keep    int   // idle connections

	mu     sync.Mutex // guards the fields below
	idle   []*conn    // the one used last is taken first
	closed bool
}

// Defaults of the options.
const (
	defaultAnswer = 256 << 20
	defaultPool   = 16
)

// Option changes what New makes.
type Option func(*Client)

// WithSecret signs each request as a client that the server's configuration names kid,
// over TCP (docs/SERVE.md). The secret is what the file has in hex, as bytes.
func WithSecret(kid string, secret []byte) Option {
	return WithToken(func() (string, error) { return sign(kid, secret, time.Now()), nil })
}

// WithToken takes each request's token from a function, which must be safe for
// concurrent use.
func WithToken(token func() (string, error)) Option { return func(c *Client) { c.token = token } }

// WithTimeout bounds a request whose context has no deadline, but not streams: events,
// ImportLines and PutAnchor. Default: no bound.
func WithTimeout(d time.Duration) Option { return func(c *Client) { c.timeout = d } }

// WithDialer takes connections from a function, whatever the address says.
func WithDialer(dial func(context.Context) (net.Conn, error)) Option {
	return func(c *Client) { c.dial = dial }
}

// WithMaxAnswer bounds the body of an answer, in bytes. Default 256 MiB.
func WithMaxAnswer(n int64) Option { return func(c *Client) { c.most = n } }

// WithPoolSize says how many idle connections are kept. Default 16.
func WithPoolSize(n int) Option { return func(c *Client) { c.keep = n } }

// New makes a client of the accessor at an address: unix:///path/to/socket, a path (it
// has a slash, or ends in .sock), or http://host:port. It connects when it is asked for
// something. Error: ErrConnection, for an address of another form.
func New(address string, opts ...Option) (*Client, error) {
	c := &Client{host: "localhost", most: defaultAnswer, keep: defaultPool}
	for _, o := range opts {
		o(c)
	}
	if c.dial != nil {
		return c, nil
	}
	network, where, err := parseAddress(address)
	if err != nil {
		return nil, err
	}
	if network == "tcp" {
		c.host = where
	}
	c.dial = func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, network, where)
	}
	return c, nil
}

// parseAddress says where to connect to.
func parseAddress(address string) (network, where string, err error) {
	if path, ok := strings.CutPrefix(address, "unix://"); ok {
		if path == "" {
			return "", "", clientError(ErrConnection, nil, "address %q has no path", address)
		}
		return "unix", path, nil
	}
	if host, ok := strings.CutPrefix(address, "http://"); ok {
		host = strings.TrimSuffix(host, "/")
		if strings.ContainsAny(host, "/?#@ \r\n") || host == "" {
			return "", "", clientError(ErrConnection, nil, "address %q: want http://host:port and nothing more", address)
		}
		if _, _, err := net.SplitHostPort(host); err != nil {
			host = net.JoinHostPort(strings.Trim(host, "[]"), "80")
		}
		return "tcp", host, nil
	}
	if strings.HasPrefix(address, "https://") {
		return "", "", clientError(ErrConnection, nil, "address %q: this client doesn't speak TLS; end it before, or use a Unix socket", address)
	}
	if !strings.Contains(address, "://") && (strings.Contains(address, "/") || strings.HasSuffix(address, ".sock")) {
		return "unix", address, nil
	}
	return "", "", clientError(ErrConnection, nil, "address %.200q: want unix:///path, a path, or http://host:port", address)
}

// Close closes the idle connections; what is on its way goes on. No request can be made
// afterwards.
func (c *Client) Close() error {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.dropIdle()
	return nil
}

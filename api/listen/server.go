package listen

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"go.uber.org/zap"

	"accessor/api/access"
)

// Options bound what clients can take. The zero value works.
type Options struct {
	// HeaderTimeout is how long a request's header may take. Default 5 s.
	HeaderTimeout time.Duration
	// IdleTimeout is how long a connection stays without a request. Default 2 min.
	IdleTimeout time.Duration
	// StallTimeout is how long a client may let an answer stand still, or take for each
	// MiB of it, and how long a
	// body may take of which the handler doesn't say so itself, by
	// http.ResponseController. Default 1 min.
	StallTimeout time.Duration
	// HeaderBytes is the most bytes of a request's header, about. Default 16 KiB.
	HeaderBytes int
	// Connections is the most connections of each listener; one more takes the place
	// of the one of them that has been idle longest. Default 1024.
	Connections int
	// Log gets refused connections. Default: nothing.
	Log *zap.Logger
}

func (o Options) withDefaults() Options {
	setDefault(&o.HeaderTimeout, 5*time.Second)
	setDefault(&o.IdleTimeout, 2*time.Minute)
	setDefault(&o.StallTimeout, time.Minute)
	setDefault(&o.HeaderBytes, 16<<10)
	setDefault(&o.Connections, 1024)
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	return o
}

func setDefault[T int | time.Duration](v *T, def T) {
	if *v <= 0 {
		*v = def
	}
}

// Server serves a handler on listeners, to the clients that they take. It is safe
// for concurrent use. See NewServer.
type Server struct {
	http    *http.Server
	handler http.Handler
	gate    *gate
	opts    Options
}

// NewServer makes a server for a handler, whose requests have an access.Client in
// their context.
func NewServer(handler http.Handler, opts Options) *Server {
	opts = opts.withDefaults()
	s := &Server{handler: handler, opts: opts, gate: newGate(opts.Connections, opts.StallTimeout, opts.Log)}
	s.http = &http.Server{
		Handler:           s,
		ReadHeaderTimeout: opts.HeaderTimeout,
		IdleTimeout:       opts.IdleTimeout,
		MaxHeaderBytes:    opts.HeaderBytes,
		ConnState:         s.gate.stateChanged,
		ConnContext:       withConn,
		// A client's malformed TLS and the like: nothing that an operator can mend.
		ErrorLog: zap.NewStdLog(zap.NewNop()),
	}
	var h1 http.Protocols
	h1.SetHTTP1(true)
	s.http.Protocols = &h1
	return s
}

// Serve serves one listener until Shutdown, or until it is closed, after which it
// gives nil. It closes the listener.
func (s *Server) Serve(l *Listener) error {
	var inner net.Listener = gated{Listener: l, inner: l.Listener, gate: s.gate}
	if l.tls != nil {
		inner = tls.NewListener(inner, l.tls)
	}
	err := s.http.Serve(inner)
	if errors.Is(err, http.ErrServerClosed) || errors.Is(err, net.ErrClosed) {
		err = nil
	}
	return errors.Join(err, l.Close())
}

// lastRequests is how long, while the server shuts down, a connection without a
// request may still bring one that is on its way.
const lastRequests = 200 * time.Millisecond

// Shutdown stops listening, lets requests end within the context, and closes what
// is left then. The error is the context's where requests were cut off.
func (s *Server) Shutdown(ctx context.Context) error {
	// net/http would give a connection that never sent anything 5 s.
	late := time.AfterFunc(lastRequests, s.gate.closeWaiting)
	defer late.Stop()
	err := s.http.Shutdown(ctx)
	if err != nil {
		err = errors.Join(err, s.http.Close())
	}
	s.gate.farewells.Wait()
	return err
}

// Connections gives how many connections are open, and how many were turned away
// or closed while idle to make room.
func (s *Server) Connections() (open int, turned uint64) { return s.gate.counts() }

// ServeHTTP makes the client of a request over TCP known, and bounds how long its
// body may take.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c, _ := r.Context().Value(connKey{}).(*conn)
	if c == nil { // not through Serve
		refuse(w, refusal{http.StatusForbidden, "forbidden", "the request came by no socket of this server's"})
		return
	}
	if r.ProtoMajor != 1 { // net/http hands on the beginning of HTTP/2
		w.Header().Set("Connection", "close")
		refuse(w, refusal{http.StatusHTTPVersionNotSupported, "http-version", "want HTTP/1.1"})
		return
	}
	if tcp := c.from.tcp; tcp != nil {
		if refused := tcp.checkSource(r); refused.status != 0 {
			refuse(w, refused)
			return
		}
		if tcp.preflight(w, r, tcp.allowOrigin(w.Header(), r)) {
			return
		}
		client, refused := tcp.identify(r)
		if refused.status != 0 {
			refuse(w, refused)
			return
		}
		r = r.WithContext(access.WithClient(r.Context(), client))
	}
	if r.Body != nil && r.Body != http.NoBody {
		body := &bounded{ReadCloser: r.Body, control: http.NewResponseController(w)}
		_ = body.control.SetReadDeadline(time.Now().Add(s.opts.StallTimeout))
		if c.from.tcp == nil {
			r = r.WithContext(r.Context()) // the server's own request stays as it is
		}
		r.Body = body
	}
	s.handler.ServeHTTP(w, r)
}

// checkSource refuses a request to another host, or of another's script.
func (t *TCP) checkSource(r *http.Request) refusal {
	if !t.takesHost(r.Host) {
		return refusal{http.StatusMisdirectedRequest, "forbidden-host",
			"the Host of the request is not one of this server's: operators name more of them in its configuration (tcp.hosts)"}
	}
	if !t.takesOrigin(r.Header["Origin"], r.Host) {
		return refusal{http.StatusForbidden, "forbidden-origin",
			"scripts of that origin may not send requests: operators name those that may in the configuration (tcp.origins)"}
	}
	return refusal{}
}

// identify says who sent a request, or why it is refused.
func (t *TCP) identify(r *http.Request) (access.Client, refusal) {
	fields := r.Header["Authorization"]
	if len(fields) != 1 {
		return access.Client{}, refusal{http.StatusUnauthorized, "unauthenticated", "want one Authorization header: Bearer and a token"}
	}
	scheme, token, ok := strings.Cut(fields[0], " ")
	if !ok || !strings.EqualFold(scheme, "Bearer") {
		return access.Client{}, refusal{http.StatusUnauthorized, "unauthenticated", "want Authorization: Bearer and a token"}
	}
	kid, roles, err := t.Tokens.Check(strings.TrimSpace(token))
	if err != nil {
		return access.Client{}, refusal{http.StatusUnauthorized, "unauthenticated", err.Error()}
	}
	return t.client(kid, roles), refusal{}
}

// bounded is a body with a time limit, which ends with the body: from there on the
// server itself waits for the client to go.
type bounded struct {
	io.ReadCloser
	control *http.ResponseController
}

func (b *bounded) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil {
		_ = b.control.SetReadDeadline(time.Time{})
	}
	return n, err
}

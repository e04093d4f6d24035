// Package listen owns the ways by which clients reach the accessor: Unix sockets
// and TCP, who may connect, as whom, and how many. It makes each client known to
// the handlers as an access.Client in the request's context; what that client may
// do is not decided here.
//
// Invariants: a request reaches the handler only with a client; over a Unix socket
// that is what the socket's configuration and the kernel say of the peer, over TCP
// what its token proves. A socket gets its final name with its final mode and
// owner, so nobody connects who may not. No connection is waited for without an
// end: headers, bodies, answers and idle connections each have a time limit.
package listen

import (
	"crypto/tls"
	"errors"
	"net"
	"sync"

	"accessor/api/access"
)

// Errors of listening. Match them with errors.Is.
var (
	// ErrInUse: a server listens on the socket.
	ErrInUse = errors.New("a server listens there")
	// ErrPath: the path can't be a socket's.
	ErrPath = errors.New("not a place for a socket")
	// ErrAddress: the address is not one to listen on.
	ErrAddress = errors.New("not an address to listen on")
	// ErrSecret: a secret file can't be used.
	ErrSecret = errors.New("secret file")
	// ErrToken: a token proves nothing.
	ErrToken = errors.New("bad token")
	// ErrActivation: what systemd handed over is not what the configuration names.
	ErrActivation = errors.New("socket activation")
)

// Listener is a socket that is open. See Unix.Listen and TCP.Listen.
type Listener struct {
	net.Listener
	name  string
	unix  *Unix // one of the three is set
	tcp   *TCP
	fixed *access.Client
	tls   *tls.Config // nil: none

	warnings []string
	// remove takes a Unix socket's name away; nil where it isn't ours to remove.
	remove func() error

	once sync.Once
	err  error // of closing
}

// Open listens on an address whose clients are all the same, whoever they are: for
// what anybody may see. Error: the system's.
func Open(name, address string, client access.Client) (*Listener, error) {
	inner, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	client.Name, client.UID, client.GID, client.PID, client.TCP, client.NoImport = name, -1, -1, -1, true, true
	return &Listener{Listener: inner, name: name, fixed: &client}, nil
}

// Name is what the configuration calls it.
func (l *Listener) Name() string { return l.name }

// Warnings say what an operator should know of the socket.
func (l *Listener) Warnings() []string { return l.warnings }

// Where says where clients find it: a path, or an address.
func (l *Listener) Where() string {
	if l.unix != nil && l.unix.Path != "" {
		return l.unix.Path
	}
	return l.Addr().String()
}

// Close stops listening. A Unix socket's name goes, if it is still this
// listener's. Closing again does nothing.
func (l *Listener) Close() error {
	l.once.Do(func() {
		l.err = l.Listener.Close()
		if l.remove != nil {
			l.err = errors.Join(l.err, l.remove())
		}
	})
	return l.err
}

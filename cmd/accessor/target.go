package main

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"math"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"accessor/api"
	"accessor/api/access"
	"accessor/api/client"
	"accessor/api/listen"
	"accessor/cmd/accessor/config"
)

// target is what a command speaks to: a sidecar that runs, or a store that this
// process opens and serves to itself. Commands know a client alone, so that both
// answer the same.
type target struct {
	*env
	data, socket, kid, secretFile string
	address                       string // of the sidecar, once it is known
}

// targetFlags gives a command the flags that say what it speaks to.
func (e *env) targetFlags(cmd *cobra.Command) *target {
	t := &target{env: e}
	f := cmd.Flags()
	f.StringVar(&t.data, "data", "", "directory of a store to open, in place of a sidecar")
	f.StringVar(&t.socket, "socket", "", "a running sidecar: path of its Unix socket, or http://HOST:PORT (default: $ACCESSOR_SOCKET, or the socket of accessor serve)")
	f.StringVar(&t.kid, "token-kid", "", "over TCP: this client's name in the sidecar's configuration (default: $ACCESSOR_TOKEN_KID)")
	f.StringVar(&t.secretFile, "token-secret-file", "", "over TCP: file with its secret (default: $ACCESSOR_TOKEN_SECRET_FILE)")
	_ = cmd.MarkFlagDirname("data") // the flag is there
	cmd.ValidArgsFunction = cobra.NoFileCompletions
	return t
}

// ask opens the target, does what f does with it, and says what to do about an error.
func (t *target) ask(cmd *cobra.Command, f func(ctx context.Context, c *client.Client) error) error {
	c, done, err := t.open()
	if err != nil {
		return err
	}
	defer done()
	return t.explain(f(cmd.Context(), c))
}

// open gives a client of the target.
func (t *target) open() (c *client.Client, done func(), err error) {
	if t.data != "" && t.socket != "" {
		return nil, nil, usageError("--data opens a store, --socket asks a running sidecar: give one of them")
	}
	if t.data != "" {
		return t.openDirect()
	}
	return t.dial()
}

// dial gives a client of a running sidecar.
func (t *target) dial() (*client.Client, func(), error) {
	t.address = cmp.Or(t.socket, os.Getenv(config.EnvPrefix+"SOCKET"))
	if t.address == "" {
		// As accessor serve has it where nothing is configured.
		path := config.Default(os.Getenv("XDG_RUNTIME_DIR")).Sockets[0].Path
		if info, err := os.Stat(path); err != nil || info.Mode()&fs.ModeSocket == 0 {
			return nil, nil, usageError("no store given: use --data DIR to open one, or --socket PATH (or $ACCESSOR_SOCKET) "+
				"to ask a running accessor serve; at %s, its default socket, there is none", path)
		}
		t.address = path
	}
	if !strings.ContainsAny(t.address, ":/") {
		t.address = "./" + t.address
	}
	opts, err := t.token()
	if err != nil {
		return nil, nil, err
	}
	c, err := client.New(t.address, opts...)
	if err != nil {
		var e *client.Error
		if errors.As(err, &e) {
			err = errors.New(e.Detail) // the kind is for programs
		}
		return nil, nil, usageError("%w", err)
	}
	return c, func() { _ = c.Close() }, nil
}

// token gives the options by which the client identifies itself over TCP.
func (t *target) token() ([]client.Option, error) {
	kid := cmp.Or(t.kid, os.Getenv(config.EnvTokenKID))
	file := cmp.Or(t.secretFile, os.Getenv(config.EnvTokenSecret))
	switch {
	case kid == "" && file == "":
		return nil, nil
	case kid == "" || file == "":
		return nil, usageError("a token needs a name and a secret: --token-kid and --token-secret-file")
	}
	secret, err := listen.ReadSecret(file)
	if err != nil {
		return nil, usageError("--token-secret-file: %w", err)
	}
	return []client.Option{client.WithSecret(kid, secret)}, nil
}

// mostAnswer bounds an answer of a store that this process serves to itself: only so
// that sums of it don't overflow.
const mostAnswer = 1 << 50

// openDirect opens a store and serves it to this process alone.
func (t *target) openDirect() (*client.Client, func(), error) {
	acc, closeStore, err := t.openStore(t.data)
	if err != nil {
		return nil, nil, err
	}
	log, err := t.logger()
	var handler *api.Server
	if err == nil {
		handler, err = api.New(acc, api.Options{Log: log, Version: versionText(), Limits: api.Limits{
			Answer: mostAnswer, Blocks: math.MaxInt32, Replay: math.MaxInt32,
		}})
	}
	if err != nil {
		closeStore()
		return nil, nil, err
	}
	pipes := newPipes()
	server := &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: time.Minute, // from this process, which sends it at once
		ConnContext: func(ctx context.Context, _ net.Conn) context.Context {
			return access.WithClient(ctx, access.Client{Roles: access.All, Name: "direct", UID: os.Geteuid(), GID: os.Getegid(), PID: os.Getpid()})
		},
	}
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.Serve(pipes) }) // until it is closed
	c, err := client.New("unix:///in-process.sock", client.WithDialer(pipes.dial), client.WithMaxAnswer(mostAnswer))
	done := func() {
		if c != nil {
			_ = c.Close()
		}
		handler.Close()
		_ = server.Close()
		serving.Wait()
		closeStore()
	}
	if err != nil {
		done()
		return nil, nil, err
	}
	return c, done, nil
}

// pipes is a listener within the process.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
	close  func()
}

func newPipes() *pipes {
	p := &pipes{conns: make(chan net.Conn), closed: make(chan struct{})}
	p.close = sync.OnceFunc(func() { close(p.closed) })
	return p
}

func (p *pipes) dial(ctx context.Context) (net.Conn, error) {
	ours, theirs := net.Pipe()
	select {
	case p.conns <- theirs:
		return ours, nil
	case <-p.closed:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// Accept implements net.Listener.
func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (p *pipes) Close() error {
	p.close()
	return nil
}

// Addr implements net.Listener.
func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "in-process", Net: "unix"} }

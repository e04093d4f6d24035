package bench

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"sync"

	"accessor/api"
	"accessor/api/access"
	"accessor/api/listen"
	"accessor/state"
)

// servers are those that are measured, in this process.
type servers struct {
	ours, bare string // sockets
	close      []func() error
}

func (s *servers) Close() error {
	var errs []error
	for i := len(s.close); i > 0; i-- {
		errs = append(errs, s.close[i-1]())
	}
	return errors.Join(errs...)
}

// serveStore serves a store as `accessor serve` does: by the API, behind package
// listen, on a socket in a folder.
func (s *servers) serveStore(ctx context.Context, acc *state.Accessor, dir string) (path string, err error) {
	handler, err := api.New(acc, api.Options{})
	if err != nil {
		return "", err
	}
	path = filepath.Join(dir, "ours")
	l, err := listen.Unix{Name: "bench", Path: path, UID: -1, GID: -1, Roles: access.All}.Listen()
	if err != nil {
		handler.Close()
		return "", err
	}
	server := listen.NewServer(handler, listen.Options{})
	start(s, server.Serve, l, func() error {
		handler.Close()
		return server.Shutdown(ctx)
	})
	return path, nil
}

func (r *apiRun) serveOurs() (err error) {
	r.servers.ours, err = r.servers.serveStore(r.ctx, r.acc, r.dir)
	return err
}

// serveBare serves what is measured beside it: GET answers one value, POST a batch
// over a map, in the form that the API has.
func (r *apiRun) serveBare() error {
	path := filepath.Join(r.dir, "bare")
	l, err := net.Listen("unix", path)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: &bareHandler{value: r.values[0], byKey: r.byKey()}} //nolint:gosec // of its own clients alone
	start(&r.servers, server.Serve, l, server.Close)
	r.servers.bare = path
	return nil
}

// start serves until the servers are closed.
func start[L net.Listener](s *servers, serve func(L) error, l L, end func() error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = serve(l)
	}()
	s.close = append(s.close, func() error {
		err := end()
		<-done
		return err
	})
}

// bareHandler does nothing but what it must.
type bareHandler struct {
	value []byte
	byKey map[string][]byte
}

var bareBuffers = sync.Pool{New: func() any { return new([]byte) }}

// ServeHTTP implements http.Handler.
func (h *bareHandler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header()["Content-Type"] = []string{"application/octet-stream"}
	if r.Method == http.MethodGet {
		_, _ = w.Write(h.value)
		return
	}
	body := make([]byte, r.ContentLength)
	if _, err := io.ReadFull(r.Body, body); err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	buf := bareBuffers.Get().(*[]byte)
	defer bareBuffers.Put(buf)
	out := (*buf)[:0]
	for len(body) >= 4 {
		n := int(binary.LittleEndian.Uint32(body))
		if body = body[4:]; n > len(body) {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		value, ok := h.byKey[string(body[:n])]
		body = body[n:]
		if !ok {
			out = binary.LittleEndian.AppendUint32(out, 1<<32-1)
			continue
		}
		out = append(binary.LittleEndian.AppendUint32(out, uint32(len(value))), value...)
	}
	*buf = out
	w.Header()["Content-Length"] = []string{strconv.Itoa(len(out))}
	_, _ = w.Write(out)
}

package client_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"accessor/api/client"
)

// BenchmarkGet reads a value over a Unix socket, by this client and by net/http's
// (docs/DECISIONS.md, 38): both ask the same server.
func BenchmarkGet(b *testing.B) {
	socket := filepath.Join(b.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		b.Fatal(err)
	}
	hash := strings.Repeat("a1", 32)
	value := make([]byte, 200)
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		h := w.Header()
		h.Set("Accessor-Block", hash)
		h.Set("Accessor-Slot", "7")
		h.Set("Accessor-Root", hash)
		h.Set("Content-Type", "application/octet-stream")
		_, _ = w.Write(value)
	})}
	go func() { _ = server.Serve(l) }()
	defer server.Close()
	key := make([]byte, 31)

	b.Run("ours", func(b *testing.B) {
		c, err := client.New(socket)
		if err != nil {
			b.Fatal(err)
		}
		defer c.Close()
		v := c.At(hash)
		for b.Loop() {
			if got, present, err := v.Get(b.Context(), key); err != nil || !present || len(got) != len(value) {
				b.Fatal(len(got), present, err)
			}
		}
	})
	b.Run("net-http", func(b *testing.B) {
		c := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", socket)
		}}}
		defer c.CloseIdleConnections()
		for b.Loop() {
			req, err := http.NewRequestWithContext(b.Context(), http.MethodGet, "http://localhost/v1/blocks/"+hash+"/state/00", nil)
			if err != nil {
				b.Fatal(err)
			}
			req.Header.Set("Accept", "application/octet-stream")
			resp, err := c.Do(req)
			if err != nil {
				b.Fatal(err)
			}
			got, err := io.ReadAll(resp.Body)
			if resp.Body.Close(); err != nil || len(got) != len(value) {
				b.Fatal(len(got), err)
			}
		}
	})
}

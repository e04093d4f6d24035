package client_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/blake2b"

	"accessor/api/client"
)

// itemServer keeps one item, and answers for some hashes as a test says.
func itemServer(t *testing.T, answers map[client.Hash]http.HandlerFunc) *client.Client {
	t.Helper()
	kept := make(map[string][]byte)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := strings.TrimPrefix(r.URL.Path, "/v1/da/")
		for hash, answer := range answers {
			if name == hash.String() {
				answer(w, r)
				return
			}
		}
		if r.Method == http.MethodPut && r.Header.Get("Content-Type") == "application/octet-stream" {
			kept[name], _ = io.ReadAll(r.Body)
			w.WriteHeader(http.StatusNoContent)
			return
		}
		w.Header().Set("Content-Type", "application/octet-stream")
		_, _ = w.Write(kept[name])
	}))
	t.Cleanup(s.Close)
	c, err := client.New(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// TestStatus: of a partial store with peers, and of one without.
func TestStatus(t *testing.T) {
	for text, want := range map[string]client.Status{
		`{"partial":true,"fill":{"done":5,"of":20},"peer_id":"12D3","peer_addresses":["/ip4/127.0.0.1/tcp/1"]}`: {
			Partial: true, Fill: &client.Fill{Done: 5, Of: 20}, PeerID: "12D3", PeerAddresses: []string{"/ip4/127.0.0.1/tcp/1"},
		},
		`{"partial":false,"fill":null}`: {},
	} {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, text)
		}))
		c, err := client.New(s.URL)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := c.Status(context.Background()); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, %v", text, got, err)
		}
		_ = c.Close()
		s.Close()
	}
}

func TestItem(t *testing.T) {
	ctx := context.Background()
	problem := func(status int, text string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/problem+json")
			w.Header().Set("Retry-After", "3")
			w.WriteHeader(status)
			_, _ = io.WriteString(w, text)
		}
	}
	page := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = io.WriteString(w, "<p>")
	}
	large := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/octet-stream")
		for range client.MaxItem>>20 + 1 {
			_, _ = w.Write(make([]byte, 1<<20))
		}
	}
	c := itemServer(t, map[client.Hash]http.HandlerFunc{
		{1}: problem(404, `{"kind":"unknown-item"}`), {2}: problem(503, `{"kind":"not-fetched"}`), {3}: page, {4}: large,
	})
	for _, item := range [][]byte{[]byte("a preimage"), {}, make([]byte, 3<<20)} {
		hash, err := c.PutItem(ctx, item)
		if err != nil || hash != blake2b.Sum256(item) {
			t.Fatalf("put: %s, %v", hash, err)
		}
		if got, err := c.Item(ctx, hash); err != nil || !bytes.Equal(got, item) {
			t.Errorf("%d bytes of %d: %v", len(got), len(item), err)
		}
	}
	for hash, want := range map[client.Hash]client.Kind{
		{1}: client.ErrUnknownItem, {2}: client.ErrNotFetched, {3}: client.ErrBadAnswer, {4}: client.ErrBadAnswer,
		{5}: client.ErrBadAnswer, // an item that has another hash
	} {
		item, err := c.Item(ctx, hash)
		if !errors.Is(err, want) || item != nil {
			t.Errorf("%s: %d bytes, %v, want %s", hash, len(item), err, want)
		}
		if e := (*client.Error)(nil); want == client.ErrNotFetched && (!errors.As(err, &e) || e.RetryAfter != 3*time.Second) {
			t.Errorf("%+v", e)
		}
	}
	if hash, err := c.PutItem(ctx, []byte("one more")); err != nil {
		t.Errorf("%s: %v", hash, err)
	}
}

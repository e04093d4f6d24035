package client_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"testing"

	"golang.org/x/crypto/blake2b"

	"accessor/api/client"
)

// serving gives a client of a server that answers all requests alike, and what it was
// asked last.
func serving(t *testing.T, status int, media, body string) (*client.Client, func() (head string, body []byte)) {
	t.Helper()
	var asked string
	var got []byte
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = r.Method + " " + r.URL.String()
		got, _ = io.ReadAll(r.Body)
		w.Header().Set("Content-Type", media)
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}))
	t.Cleanup(s.Close)
	c, err := client.New(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c, func() (string, []byte) { return asked, got }
}

const octets = "application/octet-stream"

func TestErasureCalls(t *testing.T) {
	ctx := context.Background()
	spec := client.ErasureSpec{ErasureRoot: client.Hash{1}, Shards: 6, BundleLength: 2, BundleHash: blake2b.Sum256([]byte("hi")), SegmentsRoot: client.Hash{3}, Segments: 4}
	root := "/v1/da/erasure/" + spec.ErasureRoot.String()
	query := "?bundle_hash=" + spec.BundleHash.String() + "&bundle_length=2&segments=4&segments_root=" + spec.SegmentsRoot.String() + "&shards=6"

	c, asked := serving(t, 200, octets, "hi")
	if b, err := c.Bundle(ctx, spec); err != nil || string(b) != "hi" {
		t.Errorf("%q, %v", b, err)
	}
	if head, _ := asked(); head != "GET "+root+"/bundle"+query {
		t.Errorf("asked %s", head)
	}
	for _, change := range []func(s *client.ErasureSpec){
		func(s *client.ErasureSpec) { s.BundleLength = 3; s.BundleHash = client.Hash{} }, func(s *client.ErasureSpec) { s.BundleHash[0] ^= 1 },
	} {
		other := spec
		change(&other)
		if b, err := c.Bundle(ctx, other); !errors.Is(err, client.ErrBadAnswer) || b != nil {
			t.Errorf("%q, %v", b, err)
		}
	}
	if b, err := c.Segment(ctx, spec, 3); !errors.Is(err, client.ErrBadAnswer) || b != nil {
		t.Errorf("a short segment: %q, %v", b, err)
	}
	if head, _ := asked(); head != "GET "+root+"/segments/3"+query {
		t.Errorf("asked %s", head)
	}
	unhashed := spec
	unhashed.BundleHash = client.Hash{}
	if b, err := c.Bundle(ctx, unhashed); err != nil || string(b) != "hi" {
		t.Errorf("without a hash: %q, %v", b, err)
	}

	segment := string(make([]byte, client.SegmentSize))
	c, _ = serving(t, 200, octets, segment)
	if b, err := c.Segment(ctx, spec, 3); err != nil || string(b) != segment {
		t.Errorf("%d bytes, %v", len(b), err)
	}
	c, _ = serving(t, 200, octets, segment+"x")
	if b, err := c.Segment(ctx, spec, 3); !errors.Is(err, client.ErrBadAnswer) || b != nil {
		t.Errorf("a long segment: %d bytes, %v", len(b), err)
	}

	c, asked = serving(t, 204, "", "")
	sh := client.ErasureShard{Bundle: []byte("b"), Segments: []byte("segs"), Justification: []byte("just")}
	const wire = "\x01\x00\x00\x00b\x04\x00\x00\x00segs\x04\x00\x00\x00just"
	if err := c.PutShard(ctx, spec, 5, sh); err != nil {
		t.Error(err)
	}
	if head, body := asked(); head != "PUT "+root+"/shards/5"+query || string(body) != wire {
		t.Errorf("asked %s with %q", head, body)
	}
	c, asked = serving(t, 200, octets, wire)
	if got, err := c.Shard(ctx, spec.ErasureRoot, 5); err != nil || !reflect.DeepEqual(got, sh) {
		t.Errorf("%+v, %v", got, err)
	}
	if head, _ := asked(); head != "GET "+root+"/shards/5" {
		t.Errorf("asked %s", head)
	}
	for _, bad := range []string{"", wire[:3], wire[:len(wire)-1], wire + "x", "\xff\xff\xff\xff", wire[:5]} {
		c, _ = serving(t, 200, octets, bad)
		if got, err := c.Shard(ctx, spec.ErasureRoot, 5); !errors.Is(err, client.ErrBadAnswer) || got.Bundle != nil {
			t.Errorf("%q: %+v, %v", bad, got, err)
		}
	}
}

func TestEncode(t *testing.T) {
	ctx := context.Background()
	hash := client.Hash(blake2b.Sum256([]byte("hi")))
	answer := `{"erasure_root":"` + client.Hash{1}.String() + `","shards":6,"bundle_length":2,"bundle_hash":"` + hash.String() +
		`","segments_root":"` + client.Hash{3}.String() + `","segments":1}`
	c, asked := serving(t, 200, "application/json", answer)
	segment := bytes.Repeat([]byte("s"), client.SegmentSize)
	want := client.ErasureSpec{ErasureRoot: client.Hash{1}, Shards: 6, BundleLength: 2, BundleHash: hash, SegmentsRoot: client.Hash{3}, Segments: 1}
	for keep, list := range map[string][]int{"": nil, "&keep=all": client.KeepAll, "&keep=0": {0}, "&keep=2,0,5": {2, 0, 5}} {
		spec, err := c.Encode(ctx, 6, []byte("hi"), [][]byte{segment}, list)
		if err != nil || spec != want {
			t.Errorf("%+v, %v", spec, err)
		}
		if head, body := asked(); head != "POST /v1/da/erasure?shards=6"+keep || string(body) != "\x02\x00\x00\x00hi"+string(segment) {
			t.Errorf("asked %s", head)
		}
	}
	if _, err := c.Encode(ctx, 6, []byte("hi"), [][]byte{segment[1:]}, nil); !errors.Is(err, client.ErrBadRequest) {
		t.Errorf("a short segment: %v", err)
	}
	for name, encode := range map[string]func() (client.ErasureSpec, error){
		"code":     func() (client.ErasureSpec, error) { return c.Encode(ctx, 1023, []byte("hi"), [][]byte{segment}, nil) },
		"bundle":   func() (client.ErasureSpec, error) { return c.Encode(ctx, 6, []byte("ho"), [][]byte{segment}, nil) },
		"segments": func() (client.ErasureSpec, error) { return c.Encode(ctx, 6, []byte("hi"), nil, nil) },
	} {
		if spec, err := encode(); !errors.Is(err, client.ErrBadAnswer) || spec != (client.ErasureSpec{}) {
			t.Errorf("another's %s: %v", name, err)
		}
	}
	for kind, status := range map[client.Kind]int{client.ErrOutOfSpace: 507, client.ErrBadEncoding: 422} {
		c, _ = serving(t, status, "application/problem+json", `{"kind":"`+string(kind)+`"}`)
		if _, err := c.Encode(ctx, 6, nil, nil, nil); !errors.Is(err, kind) {
			t.Errorf("%v", err)
		}
		if _, err := c.Bundle(ctx, want); !errors.Is(err, kind) {
			t.Errorf("%v", err)
		}
		if _, err := c.Shard(ctx, want.ErasureRoot, 1); !errors.Is(err, kind) {
			t.Errorf("%v", err)
		}
		if err := c.PutShard(ctx, want, 1, client.ErasureShard{}); !errors.Is(err, kind) {
			t.Errorf("%v", err)
		}
	}
}

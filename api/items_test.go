package api_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"golang.org/x/crypto/blake2b"

	"accessor/api"
	"accessor/api/access"
	"accessor/forks"
	"accessor/state"
)

// items is a place of items that fails as a test wants.
type items struct {
	mu   sync.Mutex // guards the fields below
	kept map[forks.Hash][]byte
	fail error
}

func (i *items) Fetch(_ context.Context, h forks.Hash) ([]byte, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if b, ok := i.kept[h]; ok {
		return b, nil
	}
	if i.fail != nil {
		return nil, i.fail
	}
	return nil, fmt.Errorf("fetch %s: %w", h, api.ErrUnknownItem)
}

func (i *items) Put(_ context.Context, h forks.Hash, b []byte) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.fail != nil {
		return i.fail
	}
	i.kept[h] = bytes.Clone(b)
	return nil
}

func TestItemsByHash(t *testing.T) {
	kept := &items{kept: make(map[forks.Hash][]byte)}
	s := newServer(t, api.Options{Items: kept})
	item := []byte("a preimage")
	h := forks.Hash(blake2b.Sum256(item))
	path := "/v1/da/" + h.String()
	const binary = "Content-Type: application/octet-stream"
	s.do("GET "+path, nil).problem(404, "unknown-item")
	s.do("PUT "+path, item, binary).is(204)
	a := s.do("GET "+path, nil, "Accept: application/octet-stream").is(200)
	etag := a.Header().Get("Etag")
	if !bytes.Equal(a.Body.Bytes(), item) || a.Header().Get("Content-Type") != "application/octet-stream" ||
		!strings.Contains(a.Header().Get("Cache-Control"), "immutable") || etag == "" ||
		!strings.HasPrefix(a.Header().Get("Server-Timing"), "items;") {
		t.Errorf("%q, %v", a.Body, a.Header())
	}
	s.do("GET "+path, nil, "If-None-Match: "+etag).is(304)
	if got := s.do("GET /v1/da/0x"+strings.ToUpper(h.String()), nil).is(200).Body.String(); got != string(item) {
		t.Errorf("%q", got)
	}

	s.doc = nil // which has no such requests
	for _, tt := range []struct {
		head, body string
		headers    []string
		status     int
		kind       string
	}{
		{"GET /v1/da/" + h.String()[2:], "", nil, 400, "bad-request"},
		{"GET /v1/da/" + strings.Repeat("xy", 32), "", nil, 400, "bad-request"},
		{"GET " + path + "?at=head", "", nil, 400, "bad-request"},
		{"GET " + path, "", []string{"Accept: text/html"}, 406, "not-acceptable"},
		{"GET " + path + "/x", "", nil, 404, "not-found"},
		{"DELETE " + path, "", nil, 405, "method-not-allowed"},
		{"PUT " + path, "another", []string{binary}, 400, "bad-body"},
		{"PUT " + path, "", []string{binary}, 400, "bad-body"},
		{"PUT " + path, `"a preimage"`, nil, 415, "unsupported-media-type"},
		{"PUT /v1/da/x", "a preimage", []string{binary}, 400, "bad-request"},
	} {
		s.do(tt.head, []byte(tt.body), tt.headers...).problem(tt.status, tt.kind)
	}
	if len(kept.kept) != 1 {
		t.Errorf("%d items are kept", len(kept.kept))
	}

	big := make([]byte, api.MaxItem+1)
	most := forks.Hash(blake2b.Sum256(big[1:]))
	s.do("PUT /v1/da/"+most.String(), big[1:], binary).is(204)
	if got := s.do("GET /v1/da/"+most.String(), nil).is(200).Body.Len(); got != api.MaxItem {
		t.Errorf("%d bytes", got)
	}
	over := forks.Hash(blake2b.Sum256(big))
	s.do("PUT /v1/da/"+over.String(), big, binary).problem(413, "too-large")
	kept.kept[over] = big
	kept.kept[hash("wrong")] = []byte("another item")
	for _, h := range []forks.Hash{over, hash("wrong")} {
		if p := s.do("GET /v1/da/"+h.String(), nil).problem(500, "internal"); strings.Contains(p.Detail, "another") {
			t.Errorf("%+v", p)
		}
	}
}

// TestItemsThatFail: each failure has its kind, and a reader's failure isn't absence.
func TestItemsThatFail(t *testing.T) {
	kept := &items{kept: make(map[forks.Hash][]byte)}
	s := newServer(t, api.Options{Items: kept})
	item := []byte("a segment")
	h := forks.Hash(blake2b.Sum256(item))
	const binary = "Content-Type: application/octet-stream"
	for _, tt := range []struct {
		err       error
		get, put  string
		getStatus int
		putStatus int
	}{
		{state.ErrNotFetched, "not-fetched", "not-fetched", 503, 503},
		{fmt.Errorf("%w: %w", state.ErrNotFetched, api.ErrUnknownItem), "not-fetched", "not-fetched", 503, 503},
		{fmt.Errorf("%w: %w", state.ErrNotFetched, state.ErrUnknownBlock), "not-fetched", "not-fetched", 503, 503},
		{errors.New("secret of the disk"), "internal", "internal", 500, 500},
		{api.ErrNoStore, "no-store", "no-store", 503, 503},
		{state.ErrTooLarge, "too-large", "too-large", 413, 413},
		{state.ErrNoSpace, "out-of-space", "out-of-space", 507, 507},
	} {
		kept.fail = tt.err
		a := s.do("GET /v1/da/"+h.String(), nil)
		p := a.problem(tt.getStatus, tt.get)
		if strings.Contains(p.Detail, "secret") || (tt.getStatus == 503) != (a.Header().Get("Retry-After") != "") || a.Header().Get("Etag") != "" {
			t.Errorf("%v: %+v, %v", tt.err, p, a.Header())
		}
		s.do("PUT /v1/da/"+h.String(), item, binary).problem(tt.putStatus, tt.put)
	}
}

// TestItemsRoles: who reads states reads items, who imports puts them; without a place
// for items nobody does.
func TestItemsRoles(t *testing.T) {
	s := newServer(t, api.Options{Items: &items{kept: make(map[forks.Hash][]byte)}})
	item := []byte("a bundle")
	path := "/v1/da/" + forks.Hash(blake2b.Sum256(item)).String()
	const binary = "Content-Type: application/octet-stream"
	for role, want := range map[access.Role][2]int{
		access.Importing: {404, 204}, access.Producing: {404, 403}, access.Auditing: {404, 403},
		access.Operator: {403, 403}, access.Observer: {403, 403},
	} {
		s := *s
		s.roles = access.Of(role)
		s.Server, _ = api.New(s.acc, api.Options{Items: &items{kept: make(map[forks.Hash][]byte)}})
		s.do("GET "+path, nil).is(want[0])
		s.do("PUT "+path, item, binary).is(want[1])
		s.Close()
	}
	bare := newServer(t, api.Options{})
	bare.do("GET "+path, nil).problem(503, "not-fetched")
	bare.do("PUT "+path, item, binary).problem(405, "method-not-allowed")
}

// waiting is a place of items that answers when a test says so.
type waiting struct {
	items
	asked, answer chan struct{}
}

func (w *waiting) Fetch(ctx context.Context, h forks.Hash) ([]byte, error) {
	w.asked <- struct{}{}
	select {
	case <-w.answer:
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: %w", state.ErrNotFetched, ctx.Err())
	}
	return w.items.Fetch(ctx, h)
}

// TestItemsWaitForPeers: slow peers take no room of those who read states, and not all
// of that for items from clients that import.
func TestItemsWaitForPeers(t *testing.T) {
	slow := &waiting{items: items{kept: make(map[forks.Hash][]byte)}, asked: make(chan struct{}), answer: make(chan struct{})}
	s := newServer(t, api.Options{Items: slow})
	s.doc = nil
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var done sync.WaitGroup
	path := "GET /v1/da/" + hash("slow").String()
	for uid := range 3 { // each has its share
		one := *s
		one.roles, one.uid = access.Of(access.Auditing), uid
		for range 4 {
			done.Go(func() { one.within(ctx, path) })
			<-slow.asked
		}
	}
	reader := *s
	reader.roles = access.Of(access.Auditing)
	short, end := context.WithTimeout(context.Background(), 1)
	defer end()
	if w := reader.within(short, path); w.Code != 503 || !strings.Contains(w.Body.String(), `"busy"`) {
		t.Errorf("one more than there is room for: %d, %s", w.Code, w.Body)
	}
	reader.do("GET /v1/blocks/head/state/entropy", nil).is(200)
	done.Go(func() { s.do(path, nil).is(404) }) // of a client that imports
	<-slow.asked
	close(slow.answer)
	cancel()
	done.Wait()
}

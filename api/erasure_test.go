package api_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"testing"

	"golang.org/x/crypto/blake2b"

	"accessor/api"
	"accessor/api/access"
	"accessor/forks"
	"accessor/state"
)

// works is a place of work packages that remembers what it was asked, and fails as a test
// wants.
type works struct {
	spec     api.ErasureSpec // of the last call
	index    int
	keep     []int
	bundle   []byte
	segments []byte
	shard    *api.ErasureShard
	fail     error
}

func (w *works) Encode(_ context.Context, shards int, bundle, segments []byte, keep []int) (api.ErasureSpec, error) {
	w.bundle, w.segments, w.keep = bytes.Clone(bundle), bytes.Clone(segments), keep
	return api.ErasureSpec{
		ErasureRoot: hash("root"), Shards: shards, BundleLength: len(bundle), BundleHash: blake2b.Sum256(bundle), Segments: len(segments) / 4104,
	}, w.fail
}

func (w *works) Bundle(_ context.Context, spec api.ErasureSpec) ([]byte, error) {
	w.spec = spec
	return w.bundle, w.fail
}

func (w *works) Segment(_ context.Context, spec api.ErasureSpec, i int) ([]byte, error) {
	w.spec, w.index = spec, i
	return w.segments, w.fail
}

func (w *works) Shard(root forks.Hash, index int) (api.ErasureShard, error) {
	w.spec, w.index = api.ErasureSpec{ErasureRoot: root}, index
	if w.shard == nil {
		return api.ErasureShard{}, api.ErrUnknownItem
	}
	return *w.shard, w.fail
}

func (w *works) PutShard(_ context.Context, spec api.ErasureSpec, index int, sh api.ErasureShard) error {
	w.spec, w.index = spec, index
	if w.fail == nil {
		w.shard = &api.ErasureShard{Bundle: bytes.Clone(sh.Bundle), Segments: bytes.Clone(sh.Segments), Justification: bytes.Clone(sh.Justification)}
	}
	return w.fail
}

func messages(all ...string) []byte {
	var b []byte
	for _, m := range all {
		b = append(binary.LittleEndian.AppendUint32(b, uint32(len(m))), m...)
	}
	return b
}

const octets = "Content-Type: application/octet-stream"

// TestErasure: each call does what it says.
func TestErasure(t *testing.T) {
	w := &works{}
	s := newServer(t, api.Options{Erasure: w})
	root := "/v1/da/erasure/" + hash("root").String()
	segments := strings.Repeat("s", 2*4104)

	var spec api.ErasureSpec
	s.do("POST /v1/da/erasure?shards=6", append(messages("bundle"), segments...), octets).is(200).into(&spec)
	if want := (api.ErasureSpec{ErasureRoot: hash("root"), Shards: 6, BundleLength: 6, BundleHash: blake2b.Sum256([]byte("bundle")), Segments: 2}); spec != want ||
		string(w.bundle) != "bundle" || string(w.segments) != segments || w.keep != nil {
		t.Errorf("%+v", spec)
	}
	for keep, want := range map[string][]int{"0,3": {0, 3}, "all": {0, 1, 2, 3, 4, 5}, "5": {5}, "": nil} {
		s.do("POST /v1/da/erasure?shards=6&keep="+keep, messages(""), octets).is(200)
		if !reflect.DeepEqual(w.keep, want) {
			t.Errorf("keep=%s: %v", keep, w.keep)
		}
	}
	s.do("POST /v1/da/erasure?shards=1023&keep=1022", messages(""), octets).is(200)

	query := fmt.Sprintf("?shards=6&bundle_length=6&bundle_hash=%s&segments_root=0x%s&segments=2", spec.BundleHash, hash("segments"))
	spec.SegmentsRoot = hash("segments")
	w.bundle, w.segments = []byte("bundle"), []byte(segments[:4104])
	a := s.do("GET "+root+"/bundle"+query, nil, "Accept: application/octet-stream").is(200)
	if a.Body.String() != "bundle" || w.spec != spec || a.Header().Get("Etag") != `"`+hash("root").String()+`"` ||
		!strings.Contains(a.Header().Get("Cache-Control"), "immutable") || !strings.HasPrefix(a.Header().Get("Server-Timing"), "items;") {
		t.Errorf("%q, %+v, %v", a.Body, w.spec, a.Header())
	}
	s.do("GET "+root+"/bundle"+query, nil, "If-None-Match: "+a.Header().Get("Etag")).is(304)
	unchecked := s.do("GET "+root+"/bundle?shards=1023&bundle_length=6", nil, "If-None-Match: "+a.Header().Get("Etag")).is(200)
	if unchecked.Header().Get("Etag") != "" || unchecked.Header().Get("Cache-Control") != "no-store" {
		t.Errorf("whether it is the bundle nobody knows: %v", unchecked.Header())
	}
	if w.spec != (api.ErasureSpec{ErasureRoot: hash("root"), Shards: 1023, BundleLength: 6}) {
		t.Errorf("%+v", w.spec)
	}
	a = s.do("GET "+root+"/segments/1"+query, nil).is(200)
	if a.Body.String() != segments[:4104] || w.spec != spec || w.index != 1 || a.Header().Get("Etag") == "" {
		t.Errorf("%q, %+v", a.Body, w.spec)
	}

	s.do("GET "+root+"/shards/3", nil).problem(404, "unknown-item")
	s.do("PUT "+root+"/shards/3"+query, messages("b", "segments", "just"), octets).is(204)
	if w.spec != spec || w.index != 3 || string(w.shard.Segments) != "segments" {
		t.Errorf("%+v, %d, %+v", w.spec, w.index, w.shard)
	}
	a = s.do("GET "+root+"/shards/3", nil).is(200)
	if !bytes.Equal(a.Body.Bytes(), messages("b", "segments", "just")) || a.Header().Get("Etag") != "" || a.Header().Get("Cache-Control") != "no-store" {
		t.Errorf("%q, %v", a.Body, a.Header())
	}
}

// TestErasureRefusals: whatever is wrong with a request is told before anybody is asked.
func TestErasureRefusals(t *testing.T) {
	w := &works{}
	s := newServer(t, api.Options{Erasure: w})
	s.doc = nil // which has no such requests
	root := "/v1/da/erasure/" + hash("root").String()
	const good = "?shards=6&bundle_length=6&segments=2&segments_root=" + "0101010101010101010101010101010101010101010101010101010101010101"
	for _, tt := range []struct {
		head, body string
		headers    []string
		status     int
		kind       string
	}{
		{"GET /v1/da/erasure/abcd/bundle" + good, "", nil, 400, "bad-request"},
		{"GET " + root + "/bundle", "", nil, 400, "bad-request"},
		{"GET " + root + "/bundle?shards=7&bundle_length=6", "", nil, 400, "bad-request"},
		{"GET " + root + "/bundle?shards=6", "", nil, 400, "bad-request"},
		{"GET " + root + "/bundle?shards=6&bundle_length=16777217", "", nil, 400, "bad-request"},
		{"GET " + root + "/bundle?shards=6&bundle_length=-1", "", nil, 400, "bad-request"},
		{"GET " + root + "/bundle?shards=6&bundle_length=6&segments=3073", "", nil, 400, "bad-request"},
		{"GET " + root + "/bundle?shards=6&bundle_length=6&bundle_hash=12", "", nil, 400, "bad-request"},
		{"GET " + root + "/bundle" + good + "&keep=1", "", nil, 400, "bad-request"},
		{"GET " + root + "/bundle" + good, "", []string{"Accept: text/html"}, 406, "not-acceptable"},
		{"GET " + root + "/segments/2" + good, "", nil, 400, "bad-request"},
		{"GET " + root + "/segments/-1" + good, "", nil, 400, "bad-request"},
		{"GET " + root + "/segments/0?shards=6&bundle_length=6", "", nil, 400, "bad-request"},
		{"GET " + root + "/segments/0?shards=6&bundle_length=6&segments=1", "", nil, 400, "bad-request"},
		{"GET " + root + "/segments/0?shards=6&bundle_length=6&segments=1&segments_root=", "", nil, 400, "bad-request"},
		{"GET " + root + "/segments/0?shards=6&bundle_length=6&segments=1&segments_root=" + forks.Hash{}.String(), "", nil, 400, "bad-request"},
		{"GET " + root + "/segments/0" + good, "", []string{"Accept: text/html"}, 406, "not-acceptable"},
		{"GET " + root + "/shards/1023", "", nil, 400, "bad-request"},
		{"GET " + root + "/shards/x", "", nil, 400, "bad-request"},
		{"GET " + root + "/shards/1?shards=6", "", nil, 400, "bad-request"},
		{"GET " + root + "/shards/1", "", []string{"Accept: text/html"}, 406, "not-acceptable"},
		{"GET " + root, "", nil, 404, "not-found"},
		{"DELETE " + root + "/shards/1", "", nil, 405, "method-not-allowed"},
		{"PUT " + root + "/bundle" + good, "x", []string{octets}, 405, "method-not-allowed"},
		{"PUT " + root + "/shards/6" + good, "x", []string{octets}, 400, "bad-request"},
		{"PUT " + root + "/shards/1", "x", []string{octets}, 400, "bad-request"},
		{"PUT " + root + "/shards/1" + good, "{}", nil, 415, "unsupported-media-type"},
		{"PUT " + root + "/shards/1" + good, "", []string{octets}, 400, "bad-body"},
		{"PUT " + root + "/shards/1" + good, string(messages("a", "b")), []string{octets}, 400, "bad-body"},
		{"PUT " + root + "/shards/1" + good, string(messages("a", "b", "c")) + "d", []string{octets}, 400, "bad-body"},
		{"PUT " + root + "/shards/1" + good, "\xff\xff\xff\xffb", []string{octets}, 400, "bad-body"},
		{"PUT " + root + "/shards/1" + good, strings.Repeat("x", 16<<20), []string{octets}, 413, "too-large"},
		{"POST /v1/da/erasure", "x", []string{octets}, 400, "bad-request"},
		{"POST /v1/da/erasure?shards=342", "x", []string{octets}, 400, "bad-request"},
		{"POST /v1/da/erasure?shards=6&keep=6", "x", []string{octets}, 400, "bad-request"},
		{"POST /v1/da/erasure?shards=6&keep=1,1", "x", []string{octets}, 400, "bad-request"},
		{"POST /v1/da/erasure?shards=6&keep=1,", "x", []string{octets}, 400, "bad-request"},
		{"POST /v1/da/erasure?shards=6", "xyz", []string{octets}, 400, "bad-body"},
		{"POST /v1/da/erasure?shards=6", string(messages("bundle")) + "segment", []string{octets}, 400, "bad-body"},
		{"POST /v1/da/erasure?shards=6", string(messages(strings.Repeat("x", 16<<20+1))), []string{octets}, 413, "too-large"},
		{"POST /v1/da/erasure?shards=6", string(messages("")) + strings.Repeat("x", 3073*4104), []string{octets}, 413, "too-large"},
		{"POST /v1/da/erasure?shards=6", strings.Repeat("x", 4+16<<20+3072*4104+1), []string{octets}, 413, "too-large"},
		{"POST /v1/da/erasure?shards=6", "{}", nil, 415, "unsupported-media-type"},
		{"POST /v1/da/erasure?shards=6", string(messages("")), []string{octets, "Accept: text/html"}, 406, "not-acceptable"},
	} {
		a := s.do(tt.head, []byte(tt.body), tt.headers...)
		if a.Code != tt.status {
			t.Errorf("%s: %d", tt.head, a.Code)
			continue
		}
		a.problem(tt.status, tt.kind)
	}
	if !reflect.DeepEqual(*w, works{}) {
		t.Errorf("somebody was asked: %+v", w)
	}
}

// TestNoSegments: whoever asks for a segment of none is told that.
func TestNoSegments(t *testing.T) {
	s := newServer(t, api.Options{Erasure: &works{}})
	head := "GET /v1/da/erasure/" + hash("root").String() + "/segments/0?shards=6&bundle_length=6&segments_root=" + hash("root").String()
	if p := s.do(head, nil).problem(400, "bad-request"); !strings.Contains(p.Detail, "no segments") {
		t.Error(p.Detail)
	}
}

// slowWorks puts a bundle together when a test says so.
type slowWorks struct {
	works
	asked, answer chan struct{}
}

func (w *slowWorks) Bundle(ctx context.Context, _ api.ErasureSpec) ([]byte, error) {
	select {
	case w.asked <- struct{}{}:
		<-w.answer
	case <-ctx.Done():
	}
	return nil, api.ErrUnknownItem
}

// TestBundlesTakeMemory: what bundles are put together from counts as well, so that one
// client's large ones leave room for others'.
func TestBundlesTakeMemory(t *testing.T) {
	slow := &slowWorks{asked: make(chan struct{}), answer: make(chan struct{})}
	s := newServer(t, api.Options{Erasure: slow})
	s.doc = nil
	head := "GET /v1/da/erasure/" + hash("root").String() + "/bundle?shards=6&bundle_length="
	var done sync.WaitGroup
	first := *s
	first.roles = access.Of(access.Auditing)
	for _, length := range []int{api.MaxItem, 0} {
		done.Go(func() { first.within(t.Context(), head+strconv.Itoa(length)) })
		<-slow.asked
	}
	short, end := context.WithTimeout(t.Context(), 1)
	defer end()
	if w := first.within(short, head+"1"); w.Code != 503 || !strings.Contains(w.Body.String(), `"busy"`) {
		t.Errorf("more than a client's share: %d, %s", w.Code, w.Body)
	}
	second := first
	second.uid = 1
	done.Go(func() { second.within(t.Context(), head+strconv.Itoa(api.MaxItem)) })
	<-slow.asked
	close(slow.answer)
	done.Wait()
}

// TestErasureThatFails: each failure has its kind, and what isn't what was asked for is
// never sent.
func TestErasureThatFails(t *testing.T) {
	w := &works{shard: &api.ErasureShard{}}
	s := newServer(t, api.Options{Erasure: w})
	root := "/v1/da/erasure/" + hash("root").String()
	query := "?shards=6&bundle_length=6&segments=2&bundle_hash=" + hash("other").String() + "&segments_root=" + hash("root").String()
	for _, tt := range []struct {
		err       error
		status    int
		kind      string
		onlyWrite bool
	}{
		{api.ErrUnknownItem, 404, "unknown-item", false},
		{state.ErrNotFetched, 503, "not-fetched", false},
		{fmt.Errorf("%w: %w", state.ErrNotFetched, context.DeadlineExceeded), 503, "not-fetched", false},
		{api.ErrEncoding, 422, "bad-encoding", false},
		{api.ErrNoStore, 503, "no-store", false},
		{errors.New("secret of the disk"), 500, "internal", false},
		{state.ErrNoSpace, 507, "out-of-space", true},
		{api.ErrWrongShard, 400, "bad-body", true},
	} {
		w.fail = tt.err
		heads := []string{"PUT " + root + "/shards/1" + query, "POST /v1/da/erasure?shards=6"}
		if !tt.onlyWrite {
			heads = append(heads, "GET "+root+"/bundle"+query, "GET "+root+"/segments/1"+query, "GET "+root+"/shards/1")
		}
		for _, head := range heads {
			a := s.do(head, messages("", "", ""), octets)
			if strings.HasPrefix(head, "POST") {
				a = s.do(head, messages(""), octets)
			}
			if p := a.problem(tt.status, tt.kind); strings.Contains(p.Detail, "secret") || a.Header().Get("Etag") != "" {
				t.Errorf("%s: %+v, %v", head, p, a.Header())
			}
		}
	}
	w.fail, w.bundle, w.segments = nil, []byte("bundle"), make([]byte, 4103)
	for _, head := range []string{
		"GET " + root + "/bundle" + query, "GET " + root + "/bundle?shards=6&bundle_length=7", "GET " + root + "/segments/1" + query,
	} {
		s.do(head, nil).problem(500, "internal")
	}
}

// TestErasureRoles: who reads states reads erasure-coded items, who imports encodes and
// puts; without a place for them there are no such paths.
func TestErasureRoles(t *testing.T) {
	s := newServer(t, api.Options{Erasure: &works{}})
	root := "/v1/da/erasure/" + hash("root").String()
	for role, want := range map[access.Role][2]int{
		access.Importing: {404, 200}, access.Producing: {404, 403}, access.Auditing: {404, 403},
		access.Operator: {403, 403}, access.Observer: {403, 403},
	} {
		s := *s
		s.roles = access.Of(role)
		s.do("GET "+root+"/shards/1", nil).is(want[0])
		a := s.do("POST /v1/da/erasure?shards=6", messages(""), octets).is(want[1])
		if want[1] == 403 && a.problem(403, "forbidden").Action != "put-item" {
			t.Errorf("%s", a.Body)
		}
		if want[1] == 403 {
			s.do("PUT "+root+"/shards/1?shards=6&bundle_length=0", messages("", "", ""), octets).is(403)
		}
	}
	bare := newServer(t, api.Options{})
	bare.do("GET "+root+"/shards/1", nil).problem(404, "not-found")
	bare.do("POST /v1/da/erasure?shards=6", messages(""), octets).problem(405, "method-not-allowed")
}

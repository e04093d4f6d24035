package api_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"accessor/api"
	"accessor/api/access"
	"accessor/checkpoint/checkpointtest"
	"accessor/forks"
	"accessor/jam"
	"accessor/state"
	"accessor/state/merkle"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// contents is a state as a plain map.
type contents map[string]string

func (c contents) root(t testing.TB) forks.Hash {
	t.Helper()
	root, err := merkle.Root(func(yield func([]byte, []byte) bool) {
		for _, k := range slices.Sorted(maps.Keys(c)) {
			if !yield([]byte(k), []byte(c[k])) {
				return
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return root
}

func (c contents) pairs() func(yield func(state.Pair, error) bool) {
	return func(yield func(state.Pair, error) bool) {
		for _, k := range slices.Sorted(maps.Keys(c)) {
			if !yield(state.Pair{Key: []byte(k), Value: []byte(c[k])}, nil) {
				return
			}
		}
	}
}

// key gives a state key of 31 bytes.
func key(text string) string {
	sum := sha256.Sum256([]byte(text))
	sum[0] = 0x40 // no named item's
	return string(sum[:merkle.KeySize])
}

func item(name string) string {
	k, ok := jam.ItemKey(name)
	if !ok {
		panic("no item " + name)
	}
	return string(k)
}

func hexOf[T string | []byte](b T) string { return hex.EncodeToString([]byte(b)) }

// hash is the block of that name.
func hash(name string) (h forks.Hash) {
	copy(h[:], name)
	h[31] = 0xff // its hex has a letter
	return h
}

// server is an API over a store on an engine in memory, with a model beside it.
type server struct {
	*api.Server
	t      testing.TB
	acc    *state.Accessor
	config state.Config
	states map[string]contents
	slots  map[string]forks.Slot
	roles  access.Roles
	uid    int
	doc    *documented // nil where answers aren't compared with it
}

// newServer makes a store whose anchor is alfred, at slot 0.
func newServer(t testing.TB, opts api.Options) *server {
	t.Helper()
	s := &server{t: t, config: storeConfig(t), states: make(map[string]contents), slots: map[string]forks.Slot{"alfred": 0}, roles: access.All}
	kv := contents{item("entropy"): "chaos", item("statistics"): "figures", item("account:7"): "seven"}
	for i := range 20 {
		kv[key("anchor "+string(rune('a'+i)))] = strings.Repeat("a", i*3)
	}
	s.states["alfred"] = kv
	acc, err := state.Create(s.config, state.Anchor{Hash: hash("alfred"), Root: kv.root(t), Pairs: kv.pairs()})
	if err != nil {
		t.Fatal(err)
	}
	s.acc = acc
	t.Cleanup(func() {
		if err := acc.Close(); err != nil {
			t.Error(err)
		}
	})
	<-acc.CacheReady()
	s.Server, err = api.New(acc, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	s.doc = newDocumented(t, s)
	return s
}

func storeConfig(t testing.TB) state.Config {
	dir := t.TempDir()
	t.Cleanup(func() {
		_ = filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				return os.Chmod(path, 0o755)
			}
			return nil
		})
	})
	return state.Config{Dir: dir, Engine: checkpointtest.Engine{}, Commitment: state.JAM{}, CacheBytes: 1 << 20}
}

// block makes a block under a parent, one slot above it.
func (s *server) block(name, parent string) *state.Block {
	s.t.Helper()
	kv, ok := s.states[parent]
	if !ok {
		s.t.Fatalf("the test has no block %q", parent)
	}
	b := &state.Block{
		Hash: hash(name), Parent: hash(parent), Slot: s.slots[parent] + 1,
		Puts: []state.Pair{
			{Key: []byte(key("last writer")), Value: []byte(name)},
			{Key: []byte(key("by " + name)), Value: bytes.Repeat([]byte(name), 20)},
		},
		Dels: [][]byte{[]byte(key("by " + parent))},
	}
	prior := kv.root(s.t)
	after := maps.Clone(kv)
	for _, p := range b.Puts {
		after[string(p.Key)] = string(p.Value)
	}
	for _, k := range b.Dels {
		delete(after, string(k))
	}
	post := after.root(s.t)
	b.PriorRoot, b.PostRoot = &prior, &post
	s.states[name], s.slots[name] = after, b.Slot
	return b
}

// accept imports a block, by the accessor.
func (s *server) accept(name, parent string) {
	s.t.Helper()
	if _, err := s.acc.Import(context.Background(), s.block(name, parent)); err != nil {
		s.t.Fatal(err)
	}
}

// answer is what a request was answered by.
type answer struct {
	t testing.TB
	*httptest.ResponseRecorder
}

// do sends a request: head is "METHOD TARGET", then headers as "Name: value". What is
// asked and answered is compared with the OpenAPI document.
func (s *server) do(head string, body []byte, headers ...string) *answer {
	s.t.Helper()
	var in io.Reader
	if body != nil {
		in = bytes.NewReader(body)
	}
	r := s.request(head, in, headers)
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	if s.doc != nil {
		s.doc.check(s.t, r, body, w)
	}
	return &answer{s.t, w}
}

// within sends a request that has so much time, by who has the roles of the server.
func (s *server) within(ctx context.Context, head string) *httptest.ResponseRecorder {
	s.t.Helper()
	r := s.request(head, nil, nil)
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r.WithContext(access.WithClient(ctx, access.ClientOf(r.Context()))))
	return w
}

// stream sends a body of unknown length.
func (s *server) stream(head string, body io.Reader, headers ...string) *answer {
	s.t.Helper()
	w := httptest.NewRecorder()
	s.ServeHTTP(w, s.request(head, body, headers))
	if c, ok := body.(io.Closer); ok {
		c.Close() // as a connection whose answer is sent
	}
	return &answer{s.t, w}
}

func (s *server) request(head string, body io.Reader, headers []string) *http.Request {
	method, target, _ := strings.Cut(head, " ")
	r := httptest.NewRequest(method, target, body)
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		r.Header.Add(name, value)
	}
	if body != nil && r.Header.Get("Content-Type") == "" {
		r.Header.Set("Content-Type", "application/json")
	}
	return r.WithContext(access.WithClient(r.Context(), access.Client{Roles: s.roles, UID: s.uid}))
}

// is wants a status.
func (a *answer) is(status int) *answer {
	a.t.Helper()
	if a.Code != status {
		a.t.Fatalf("status %d, want %d: %.1000s", a.Code, status, a.Body)
	}
	return a
}

// into reads the JSON of the answer.
func (a *answer) into(v any) *answer {
	a.t.Helper()
	if err := json.Unmarshal(a.Body.Bytes(), v); err != nil {
		a.t.Fatalf("%v: %.1000s", err, a.Body)
	}
	return a
}

// problem wants a problem of a kind, with its status.
func (a *answer) problem(status int, kind string) api.Problem {
	a.t.Helper()
	a.is(status)
	if got := a.Header().Get("Content-Type"); got != "application/problem+json" {
		a.t.Fatalf("problem as %s", got)
	}
	var p api.Problem
	a.into(&p)
	if p.Kind != kind || p.Status != status || p.Type != "urn:accessor:problem:"+kind || p.Title == "" {
		a.t.Fatalf("%+v, want kind %s", p, kind)
	}
	return p
}

// about wants the headers to name a block of the model.
func (s *server) about(a *answer, name string) {
	s.t.Helper()
	h := a.Header()
	if h.Get("Accessor-Block") != hash(name).String() || h.Get("Accessor-Slot") != s.slots[name].String() ||
		h.Get("Accessor-Root") != s.states[name].root(s.t).String() || !strings.Contains(h.Get("Server-Timing"), ";dur=") {
		s.t.Fatalf("headers %v, want those of %s", h, name)
	}
}

func unhex(t testing.TB, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

package api_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"accessor/api"
	"accessor/api/access"
	"accessor/forks"
	"accessor/state"
	"accessor/state/merkle"
)

var errGone = errors.New("no peer answers")

// peers is a Fetcher that serves from another server's accessor, while it is there.
type peers struct {
	from *state.Accessor
	gone atomic.Bool
}

func (p *peers) prove(ctx context.Context, at forks.Block, prove func(*state.View) (*merkle.Statement, error)) (*merkle.Proof, error) {
	if p.gone.Load() {
		return nil, fmt.Errorf("%w: %s \xff", errGone, strings.Repeat("so a peer says ", 100))
	}
	v, err := p.from.View(ctx, at.Hash)
	if err != nil {
		return nil, err
	}
	defer v.Close()
	s, err := prove(v)
	if err != nil {
		return nil, err
	}
	return &s.Proof, nil
}

func (p *peers) FetchKeys(ctx context.Context, at forks.Block, keys [][merkle.KeySize]byte) (*merkle.Proof, error) {
	list := make([][]byte, len(keys))
	for i := range keys {
		list[i] = keys[i][:]
	}
	return p.prove(ctx, at, func(v *state.View) (*merkle.Statement, error) { return v.Prove(list) })
}

func (p *peers) FetchRange(ctx context.Context, at forks.Block, req merkle.RangeRequest) (*merkle.Proof, bool, error) {
	proof, err := p.prove(ctx, at, func(v *state.View) (*merkle.Statement, error) { return v.ProveRange(req) })
	if err != nil {
		return nil, false, err
	}
	more, err := merkle.VerifyRange(at.Root, req, proof)
	return proof, more, err
}

func (p *peers) FetchBlocks(context.Context, forks.Hash, int) ([]*state.Block, error) {
	return nil, errGone
}

// newPartial makes a server without the anchor's state, beside one that has it: they
// share the model.
func newPartial(t *testing.T, opts api.Options) (whole, s *server, p *peers) {
	t.Helper()
	whole = newServer(t, api.Options{})
	p = &peers{from: whole.acc}
	s = &server{t: t, config: storeConfig(t), states: whole.states, slots: whole.slots, roles: access.All}
	s.config.Fetcher, s.config.FetchTimeout = p, 5*time.Second
	var err error
	s.acc, err = state.CreatePartial(s.config, state.Anchor{Hash: hash("alfred"), Root: whole.states["alfred"].root(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.acc.Close(); err != nil {
			t.Error(err)
		}
	})
	<-s.acc.CacheReady()
	if s.Server, err = api.New(s.acc, opts); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	s.doc = newDocumented(t, s)
	return whole, s, p
}

// both imports a block into the two.
func both(whole, s *server, name, parent string) {
	s.t.Helper()
	b := whole.block(name, parent)
	for _, one := range []*server{whole, s} {
		if _, err := one.acc.Import(context.Background(), b); err != nil {
			s.t.Fatal(err)
		}
	}
}

// TestPartial: all that can be had of a partial state is what the whole one says, and
// names peers as its tier.
func TestPartial(t *testing.T) {
	whole, s, _ := newPartial(t, api.Options{})
	both(whole, s, "benny", "alfred")
	both(whole, s, "chase", "benny")
	known, absent := hexOf(key("anchor c")), hexOf(key("no such key"))
	keys := []byte(fmt.Sprintf(`{"keys":["%s","%s","%s"]}`, hexOf(key("last writer")), hexOf(key("anchor d")), absent))
	for _, tt := range []struct {
		head string
		body []byte
		tier string
	}{
		{"GET /v1/blocks/head/state/" + known, nil, "peers"},
		{"GET /v1/blocks/benny/state/" + known, nil, "cache"},
		{"POST /v1/blocks/head/state", keys, "peers"},
		{"POST /v1/blocks/head/state", keys, "cache"},
		{"GET /v1/blocks/head/state?limit=5", nil, "peers"},
		{"GET /v1/blocks/anchor/state?prefix=40&values=false", nil, "peers"},
		{"GET /v1/blocks/head/proof?key=" + known + "&key=" + absent, nil, "peers"},
		{"GET /v1/blocks/head/proof?from=40&to=40&max=600", nil, "peers"},
		{"POST /v1/blocks/head/proof", keys, "peers"},
		{"GET /v1/blocks/head/changes", nil, "disk"},
		{"GET /v1/diff?from=anchor&to=head", nil, "disk"},
		{"GET /v1/history/" + hexOf(key("anchor e")), nil, "peers"},
		{"GET /v1/history/" + hexOf(key("anchor e")), nil, "disk"},
	} {
		head := strings.Replace(tt.head, "benny", hash("benny").String(), 1)
		got, want := s.do(head, tt.body).is(200), whole.do(head, tt.body).is(200)
		// The cache takes a moment to show what it was given.
		for tries := 0; tt.tier == "cache" && tries < 100 && !strings.HasPrefix(got.Header().Get("Server-Timing"), "cache;"); tries++ {
			time.Sleep(10 * time.Millisecond)
			got = s.do(head, tt.body).is(200)
		}
		if got.Body.String() != want.Body.String() {
			t.Errorf("%s: %.300s\nwant %.300s", tt.head, got.Body, want.Body)
		}
		if tier := got.Header().Get("Server-Timing"); !strings.HasPrefix(tier, tt.tier+";") {
			t.Errorf("%s: served by %s, want %s", tt.head, tier, tt.tier)
		}
	}
	s.do("GET /v1/blocks/head/state/"+absent, nil).problem(404, "absent-key")
	s.do("GET /v1/blocks/"+hash("nobody").String()+"/state/slot", nil).problem(404, "unknown-block")
}

// TestPartialWithoutPeers: where they are gone nothing is absent, and nothing a problem
// of another kind.
func TestPartialWithoutPeers(t *testing.T) {
	whole, s, p := newPartial(t, api.Options{})
	both(whole, s, "benny", "alfred")
	over := whole.block("dian", "benny") // a value that isn't in its leaf: a root needs no more than its hash
	over.Puts, over.PostRoot = append(over.Puts, state.Pair{Key: []byte(key("anchor t")), Value: []byte("new")}), nil
	if _, err := s.acc.Import(context.Background(), over); err != nil {
		t.Fatal(err)
	}
	late := whole.block("chase", "benny")
	late.Puts = append(late.Puts, state.Pair{Key: []byte(key("anchor q")), Value: []byte("new")})
	late.Dels = append(late.Dels, []byte(key("anchor r")))
	late.PostRoot = nil
	p.gone.Store(true)
	known, absent := hexOf(key("anchor c")), hexOf(key("no such key"))
	var d api.Draft
	s.do("POST /v1/drafts", []byte(fmt.Sprintf(`{"parent":"%s","slot":7}`, hash("benny")))).is(201).into(&d)
	keys := []byte(`{"keys":["` + absent + `"]}`)
	block := api.AppendBlock(nil, late)
	for _, tt := range []struct {
		head    string
		body    []byte
		headers []string
		kind    string
	}{
		{"GET /v1/blocks/head/state/" + known, nil, nil, "not-fetched"},
		{"GET /v1/blocks/head/state/" + absent, nil, nil, "not-fetched"},
		{"POST /v1/blocks/head/state", keys, nil, "not-fetched"},
		{"GET /v1/blocks/head/state", nil, nil, "not-fetched"},
		{"GET /v1/blocks/head/state", nil, []string{"Accept: application/x-ndjson"}, "not-fetched"},
		{"GET /v1/blocks/head/state?reverse", nil, nil, "partial"},
		{"GET /v1/blocks/head/proof?key=" + known, nil, nil, "not-fetched"},
		{"GET /v1/blocks/head/proof?from=00&to=ff", nil, nil, "not-fetched"},
		{"POST /v1/blocks/head/proof", keys, nil, "not-fetched"},
		{"GET /v1/diff?from=anchor&to=" + hash("dian").String(), nil, nil, "not-fetched"},
		{"GET /v1/history/" + known, nil, nil, "not-fetched"},
		{"GET /v1/drafts/" + d.ID + "/state/" + known, nil, nil, "not-fetched"},
		{"POST /v1/drafts/" + d.ID + "/state", keys, nil, "not-fetched"},
		{"POST /v1/blocks", block, []string{"Content-Type: application/octet-stream"}, "not-fetched"},
		{"POST /v1/pins", []byte(`{"block":"head","ttl_ms":1000,"directory":true}`), nil, "partial"},
	} {
		a := s.do(tt.head, tt.body, tt.headers...)
		got := a.problem(503, tt.kind)
		if retry := a.Header().Get("Retry-After"); retry != map[string]string{"not-fetched": "1", "partial": "10"}[tt.kind] || got.Nearest != nil || got.Obstacles != nil || len(got.Detail) > 600 {
			t.Errorf("%s: Retry-After %q, %+v", tt.head, retry, got)
		}
		if etag, cache := a.Header().Get("Etag"), a.Header().Get("Cache-Control"); etag != "" || cache != "no-store" {
			t.Errorf("%s: Etag %s, Cache-Control %s", tt.head, etag, cache)
		}
	}
	if held := s.acc.Stats().Blocks; held != 3 {
		t.Errorf("%d blocks are held after an import that could not be made", held)
	}
	s.do("PATCH /v1/drafts/"+d.ID+"/state", []byte(fmt.Sprintf(`{"puts":[],"dels":["%s"]}`, hexOf(key("anchor r"))))).is(204)
	s.do("POST /v1/drafts/"+d.ID+"/commit", []byte(`{"hash":"`+hash("drafted").String()+`"}`)).problem(503, "not-fetched")
	s.do("GET /v1/blocks/head/state/"+hexOf(key("last writer")), nil).is(200) // a block wrote it
	var pin api.Pin
	s.do("POST /v1/pins", []byte(`{"block":"head","ttl_ms":1000}`)).is(201).into(&pin)
	if pin.Directory != nil {
		t.Errorf("a directory of a partial state: %s", *pin.Directory)
	}
	s.do("DELETE /v1/pins/"+pin.ID, nil).is(204)

	line, err := json.Marshal(map[string]any{"hash": late.Hash, "parent": late.Parent, "slot": late.Slot, "puts": []any{}, "dels": []string{hexOf(key("anchor r"))}})
	if err != nil {
		t.Fatal(err)
	}
	var answered struct {
		Status int
		Error  api.Problem
	}
	s.stream("POST /v1/blocks", bytes.NewReader(line), "Content-Type: application/x-ndjson").is(200).into(&answered)
	if answered.Status != 503 || answered.Error.Kind != "not-fetched" {
		t.Errorf("%+v", answered)
	}
	p.gone.Store(false)
	if tier := s.do("GET /v1/drafts/"+d.ID+"/state/"+known, nil).is(200).Header().Get("Server-Timing"); !strings.HasPrefix(tier, "peers;") {
		t.Errorf("a draft's key that peers gave was served by %s", tier)
	}
	far := "GET /v1/diff?from=" + hash("benny").String() + "&to=" + hash("dian").String()
	if tier := s.do(far, nil).is(200).Header().Get("Server-Timing"); !strings.HasPrefix(tier, "peers;") {
		t.Errorf("a diff of what peers gave was served by %s", tier)
	}
	s.do("POST /v1/blocks", block, "Content-Type: application/octet-stream").is(201)
	s.do("GET /v1/blocks/anchor/state/"+absent, nil).problem(404, "absent-key")
	s.do("POST /v1/drafts/"+d.ID+"/commit", []byte(`{"hash":"`+hash("drafted").String()+`"}`)).is(201)
}

// TestPartialStatus: how far the fill is, and who this sidecar is.
func TestPartialStatus(t *testing.T) {
	mine := api.Peers{ID: "12D3Koo", Addresses: []string{"/ip4/127.0.0.1/tcp/4001"}}
	whole, s, _ := newPartial(t, api.Options{Peers: func() api.Peers { return mine }})
	both(whole, s, "benny", "alfred")
	status := func(s *server) (members map[string]any, out api.Status) {
		t.Helper()
		s.do("GET /v1/status", nil).is(200).into(&members).into(&out)
		return members, out
	}
	if _, got := status(s); !got.Ready || !got.Partial || got.Fill == nil || *got.Fill != (api.Fill{}) ||
		got.PeerID != mine.ID || len(got.PeerAddresses) != 1 || got.PeerAddresses[0] != mine.Addresses[0] {
		t.Errorf("%+v", got)
	}
	if err := s.acc.Fill(context.Background(), state.FillOptions{}); err != nil {
		t.Fatal(err)
	}
	if members, got := status(s); got.Partial || members["fill"] != nil {
		t.Errorf("filled: %+v", members)
	}
	s.do("GET /v1/blocks/head/state?reverse", nil).is(200)
	if members, _ := status(whole); members["partial"] != false || members["peer_id"] != nil || members["peer_addresses"] != nil {
		t.Errorf("of a whole store: %+v", members)
	}
	for _, tt := range []struct {
		pairs   int64
		covered float64
		want    api.Fill
	}{{0, 0, api.Fill{}}, {50, 0.25, api.Fill{Done: 50, Of: 200}}, {7, 1, api.Fill{Done: 7, Of: 7}}, {1 << 60, 1e-300, api.Fill{Done: 1 << 60, Of: 1 << 62}}} {
		got := api.FillOf(state.PartialStats{Partial: true, Pairs: tt.pairs, Covered: tt.covered})
		if *got != tt.want {
			t.Errorf("%d pairs, %g of the keys: %+v, want %+v", tt.pairs, tt.covered, *got, tt.want)
		}
	}
}

// TestHeadOfPartial: what a HEAD says it says without a body, also of a problem.
func TestHeadOfPartial(t *testing.T) {
	_, s, p := newPartial(t, api.Options{})
	p.gone.Store(true)
	s.doc = nil
	a := s.do(http.MethodHead+" /v1/blocks/head/state/"+hexOf(key("anchor c")), nil).is(503)
	if a.Header().Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
}

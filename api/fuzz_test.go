package api_test

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"

	"accessor/api"
	"accessor/api/access"
)

// wantSane wants no answer to be a 500, and every error to be a problem.
func wantSane(t *testing.T, what string, w *httptest.ResponseRecorder) {
	t.Helper()
	if w.Code >= 500 && w.Code != http.StatusServiceUnavailable && w.Code != http.StatusInsufficientStorage {
		t.Fatalf("%s: %d: %.500s", what, w.Code, w.Body)
	}
	if w.Code >= 300 && w.Code < 400 && w.Code != http.StatusNotModified {
		t.Fatalf("%s: a redirect, %d", what, w.Code)
	}
	if got := w.Header().Get("Content-Type"); w.Code >= 400 && got != "application/problem+json" {
		t.Fatalf("%s: %d as %s", what, w.Code, got)
	}
}

// FuzzRouter sends any method, target and headers.
func FuzzRouter(f *testing.F) {
	s := newServer(f, api.Options{Erasure: &works{fail: api.ErrUnknownItem}})
	s.accept("benny", "alfred")
	for _, target := range []string{
		"/v1/blocks/head/state/entropy", "/v1/blocks?leaves&limit=1", "/v1/blocks/head/state?prefix=40&reverse", "/v1/diff?from=0&to=1",
		"/v1/history/slot?at=1", "/v1/blocks/%2e%2e/state/%00", "//", "/v1/blocks/head/proof?from=00&to=ff&max=1", "/livez?x", "/%ff",
		"/v1/drafts/x/state/y", "/v1/pins/x/renew", "/v1/blocks/1/changes", "*", "/v1/anchor", "/v1/blocks/head?wait=1ms",
		"/v1/da/erasure?shards=6&keep=0,3", "/v1/da/erasure/" + hash("root").String() + "/shards/5?shards=6&bundle_length=6&segments=1",
		"/v1/da/erasure/" + hash("root").String() + "/segments/0?shards=1023&bundle_length=6&segments=1&segments_root=" + hash("root").String(),
	} {
		f.Add("GET", target, "application/json", []byte(nil))
		f.Add("POST", target, "application/octet-stream", []byte("blk1"))
		f.Add("PUT", target, "text/html", []byte(`{"keys":[]}`))
	}
	f.Fuzz(func(t *testing.T, method, target, media string, body []byte) {
		u, err := url.ParseRequestURI(target)
		if err != nil || len(method) > 20 {
			return // net/http refuses it before any handler
		}
		if u.Query().Has("wait") {
			return // it may rightly take a minute
		}
		r := &http.Request{
			Method: method, URL: u, Header: http.Header{"Accept": {media}, "Content-Type": {media}, "If-None-Match": {media}},
			Body: http.NoBody, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		}
		if len(body) > 0 {
			again := httptest.NewRequest(http.MethodPost, "/", bytes.NewReader(body))
			r.Body, r.ContentLength = again.Body, again.ContentLength
		}
		r = r.WithContext(access.WithClient(t.Context(), access.Client{Roles: access.All}))
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		wantSane(t, method+" "+target, w)
	})
}

// FuzzBodies sends any body, in each form, to each route that takes one.
func FuzzBodies(f *testing.F) {
	s := newServer(f, api.Options{Erasure: &works{}})
	s.doc = nil
	b := s.block("benny", "alfred")
	delete(s.states, "benny")
	f.Add(jsonOf(f, bodyOf(b)))
	f.Add(api.AppendBlock(nil, b))
	f.Add(api.AppendWrites(nil, b.Puts, b.Dels))
	f.Add(api.AppendKeys(nil, b.Dels))
	f.Add(messages("bundle"))
	f.Add(messages("bundle", "segments", "path"))
	for _, text := range []string{
		`{"keys":["entropy"]}`, `{"hashes":[]}`, `{"hash":"00"}`, `{"block":"head","ttl_ms":1}`, `{"parent":"","slot":1,"owner":"\ud800"}`,
		`{"a":{"a":[`, "null", "\xff", `{"value":"00"}`, "{}\n{}\n", `{"ttl_ms":1e9}`, `{"puts":[],"dels":[]}`,
	} {
		f.Add([]byte(text))
	}
	var d api.Draft
	s.do("POST /v1/drafts", []byte(`{"parent":"`+hash("alfred").String()+`","slot":1,"ttl_ms":60000}`)).is(201).into(&d)
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, head := range []string{
			"POST /v1/blocks", "POST /v1/blocks/held", "POST /v1/blocks/head/state", "POST /v1/head", "POST /v1/finalize", "POST /v1/pins",
			"POST /v1/drafts", "PATCH /v1/drafts/" + d.ID + "/state", "POST /v1/drafts/" + d.ID + "/state", "PUT /v1/drafts/" + d.ID + "/state/slot",
			"PUT /v1/anchor", "POST /v1/da/erasure?shards=6", "PUT /v1/da/erasure/" + hash("root").String() + "/shards/0?shards=6&bundle_length=6",
		} {
			for _, media := range []string{"application/json", "application/octet-stream", "application/x-ndjson"} {
				r := s.request(head, bytes.NewReader(body), []string{"Content-Type: " + media})
				w := httptest.NewRecorder()
				s.ServeHTTP(w, r)
				wantSane(t, head, w)
			}
		}
	})
}

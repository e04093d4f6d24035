package api_test

import (
	"strings"
	"testing"

	"accessor/api"
	"accessor/api/access"
)

func TestValue(t *testing.T) {
	s := newServer(t, api.Options{})
	s.accept("benny", "alfred")
	s.accept("boris", "alfred")
	at := func(block, key string) string { return "GET /v1/blocks/" + block + "/state/" + key }
	k := key("last writer")
	for _, name := range []string{"benny", "boris"} {
		var v api.Value
		a := s.do(at(hash(name).String(), hexOf(k)), nil).is(200).into(&v)
		s.about(a, name)
		if v.Key != hexOf(k) || v.Value != hexOf(name) || v.Block != hash(name) || v.Slot != 1 || v.Root != s.states[name].root(t) {
			t.Errorf("%+v", v)
		}
		if got := a.Header().Get("Cache-Control"); !strings.Contains(got, "immutable") {
			t.Errorf("Cache-Control %s", got)
		}
		raw := s.do(at("0x"+hash(name).String(), "0x"+hexOf(k)), nil, "Accept: application/octet-stream").is(200)
		s.about(raw, name)
		if raw.Body.String() != name {
			t.Errorf("raw %q", raw.Body)
		}
		if raw.Header().Get("Etag") == a.Header().Get("Etag") {
			t.Error("two forms have one ETag")
		}
		s.do(at(hash(name).String(), hexOf(k)), nil, "If-None-Match: "+a.Header().Get("Etag")).is(304)
	}
	// Named by something that moves.
	a := s.do(at("finalized", "entropy"), nil, "Accept: application/octet-stream").is(200)
	if a.Body.String() != "chaos" || a.Header().Get("Cache-Control") != "no-cache" ||
		a.Header().Get("Content-Location") != "/v1/blocks/"+hash("alfred").String()+"/state/entropy" {
		t.Errorf("%q, %v", a.Body, a.Header())
	}
	if got := s.do(at("0", "account:7"), nil, "Accept: application/octet-stream").is(200).Body.String(); got != "seven" {
		t.Errorf("account %q", got)
	}
	// A slot moves too, however many digits it has.
	padded := s.do(at(strings.Repeat("0", 64), "entropy"), nil).is(200)
	if got := padded.Header(); got.Get("Cache-Control") != "no-cache" || got.Get("Content-Location") == "" {
		t.Errorf("a slot of 64 digits: %v", got)
	}
	// The form that is liked best.
	for accept, want := range map[string]string{
		"application/json;q=0.1, application/octet-stream":        "application/octet-stream",
		"application/octet-stream; charset=utf-8; q=0, */*;q=0.2": "application/json",
		"text/html, application/octet-stream;q=0.5":               "application/octet-stream",
	} {
		if got := s.do(at("finalized", "entropy"), nil, "Accept: "+accept).is(200).Header().Get("Content-Type"); got != want {
			t.Errorf("Accept %s: %s, want %s", accept, got, want)
		}
	}
	// What isn't there.
	s.do(at("anchor", hexOf(k)), nil, "If-None-Match: *").problem(404, "absent-key")
	absent := s.do(at("anchor", hexOf(k)), nil)
	if p := absent.problem(404, "absent-key"); p.Key != hexOf(k) {
		t.Errorf("%+v", p)
	}
	s.about(absent, "alfred")
	if p := s.do(at("77", hexOf(k)), nil).problem(404, "unknown-block"); p.Nearest == nil {
		t.Errorf("%+v", p)
	}
	s.do(at(hash("nobody").String(), hexOf(k)), nil).problem(404, "unknown-block")
	if p := s.do(at("1", hexOf(k)), nil).problem(400, "ambiguous-block"); len(p.Candidates) != 2 {
		t.Errorf("%+v", p)
	}
	s.do(at("nonsense", hexOf(k)), nil).problem(400, "bad-block-id")
	for _, bad := range []string{"ff", "zz", "0x", strings.Repeat("ab", 32), strings.Repeat("z", 1000), "%2e%2e", "%00", "slot%2f"} {
		s.do(at("head", bad), nil).problem(400, "bad-key")
	}
	s.do(at("head", "%ff"), nil).problem(400, "bad-request")
	s.do(at("anchor", "entropy"), nil, "Accept: text/html").problem(406, "not-acceptable")
	s.do(at("anchor", "entropy"), nil, "Accept: text/html, */*;q=0.1").is(200)
	s.do(at("anchor", "entropy?form=raw"), nil).problem(400, "bad-request")
}

func TestItems(t *testing.T) {
	s := newServer(t, api.Options{})
	for role, want := range map[access.Role]int{
		access.Importing: 200, access.Producing: 403, access.Refining: 403, access.Auditing: 403, access.Operator: 403, access.Observer: 403,
	} {
		s.roles = access.Of(role)
		a := s.do("GET /v1/blocks/head/state/statistics", nil).is(want)
		switch {
		case role == access.Operator || role == access.Observer:
			if p := a.problem(403, "forbidden"); p.Action != "read-state" {
				t.Errorf("%s: %+v", role, p)
			}
		case want == 403:
			if p := a.problem(403, "forbidden-item"); p.Item != "statistics" {
				t.Errorf("%s: %+v", role, p)
			}
		}
	}
}

func TestNoRoute(t *testing.T) {
	s := newServer(t, api.Options{})
	for _, target := range []string{"/", "/v1", "/v1/blocks/head/", "/v1//blocks", "/v1/blocks/../status", "/v2/blocks/head"} {
		s.do("GET "+target, nil).problem(404, "not-found")
	}
	a := s.do("DELETE /v1/blocks/head", nil)
	a.problem(405, "method-not-allowed")
	if a.Header().Get("Allow") != "GET" {
		t.Errorf("Allow: %s", a.Header().Get("Allow"))
	}
	s.do("GET /v1/blocks/"+strings.Repeat("f", 10_000), nil).problem(414, "target-too-long")
	s.roles = 0
	s.do("GET /livez", nil).is(200)
	s.do("GET /readyz", nil).is(200)
	s.do("GET /v1/status", nil).problem(403, "forbidden")
}

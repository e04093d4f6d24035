package api_test

import (
	"fmt"
	"strings"
	"testing"

	"accessor/api"
)

// TestTexts: what went wrong is said in the words of who asked.
func TestTexts(t *testing.T) {
	s := newServer(t, api.Options{})
	s.doc = nil // which has no such requests
	var d api.Draft
	s.do("POST /v1/drafts", []byte(fmt.Sprintf(`{"parent":"%s","slot":1}`, hash("alfred")))).is(201).into(&d)
	for _, tt := range []struct {
		head, body string
		headers    []string
		want, not  string
	}{
		{"POST /v1/blocks", `{}`, []string{"Content-Type: application/x-www-form-urlencoded"}, "-H 'Content-Type: application/json'", ""},
		{"POST /v1/blocks", `{}`, []string{"Content-Type: application/x-www-form-urlencoded"}, "x-www-form-urlencoded", ""},
		{"POST /v1/blocks", `{}`, nil, "hash", "recording"},
		{"PATCH /v1/drafts/" + d.ID + "/state", `{"puts":[["slot","00"]]}`, nil, "hex", "encoding/hex"},
		{"POST /v1/blocks/held", `{"hashes":["` + hash("a").String() + `",null]}`, nil, "element 1 is null", ""},
		{"POST /v1/blocks/head/state", `{"keys":[null]}`, nil, "element 0 is null", ""},
		{"POST /v1/drafts", fmt.Sprintf(`{"parent":"%s","slot":1,"ttl_ms":60001}`, hash("alfred")), nil, "at most 60000", "owner"},
		{"POST /v1/pins", `{"block":"head","ttl_ms":86400001}`, nil, "at most 86400000", ""},
		{"POST /v1/pins", `{"block":"head","ttl_ms":0}`, nil, "at most 86400000", ""},
		{"GET /v1/blocks/" + hash("nobody").String() + "?wait=1ms", "", nil, "waited for, 1ms", ""},
	} {
		var p api.Problem
		s.do(tt.head, []byte(tt.body), tt.headers...).into(&p)
		if !strings.Contains(p.Detail, tt.want) || tt.not != "" && strings.Contains(p.Detail, tt.not) {
			t.Errorf("%s %s: %q, want %q in it and not %q", tt.head, tt.body, p.Detail, tt.want, tt.not)
		}
	}
}

package api_test

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"accessor/api"
	"accessor/api/access"
	"accessor/checkpoint"
	"accessor/state"
)

// TestShortWay: the shorter way of single values and batches answers as the mux does,
// whatever the path, the roles and the headers.
func TestShortWay(t *testing.T) {
	s := newServer(t, api.Options{})
	s.accept("benny", "alfred")
	s.doc = nil
	k := hexOf(key("last writer"))
	h := hash("benny").String()
	digits := strings.Repeat("12345678", 8)
	same := 0
	for _, id := range []string{
		h, "0x" + h, strings.ToUpper(h), h[:20], "head", "finalized", "anchor", "genesis", "0", "1", "7", "01", digits, "0x" + digits, digits[1:] + "a",
		"x", "%68ead", ".", "..", "0X" + h, h + "0", "", "head%20", "head%2f",
	} {
		for _, tail := range []string{
			"/state/" + k, "/state/0x" + k, "/state/" + strings.ToUpper(k), "/state/entropy", "/state/account:7", "/state/account%3a7", "/state/none", "/state/00",
			"/state/", "/state", "/state/.", "/state/" + k + "/", "/state/" + k + "/x", "/states", "/stat", "/state/%30", "/state/" + k + "?x=1", "/state?limit=1",
		} {
			for _, method := range []string{"GET", "POST", "HEAD"} {
				for _, headers := range [][]string{nil, {"Accept: application/octet-stream"}, {"Accept: text/html"}, {"Content-Type: application/octet-stream"}} {
					for _, roles := range []access.Roles{access.All, access.Of(access.Refining), 0} {
						s.roles = roles
						short, long := s.both(method, "/v1/blocks/"+id+tail, headers)
						if short != long {
							t.Fatalf("%s %s%s %v, roles %s:\n%s\nby the mux:\n%s", method, id, tail, headers, roles, short, long)
						}
						same++
					}
				}
			}
		}
	}
	if same < 1000 {
		t.Errorf("%d requests compared", same)
	}
}

// both gives the answers by the short way and by the mux, to which a RawPath leads.
func (s *server) both(method, target string, headers []string) (short, long string) {
	s.t.Helper()
	answer := func(change func(*http.Request)) string {
		var body []byte
		if method == http.MethodPost {
			body = api.AppendKeys(nil, [][]byte{[]byte(key("last writer")), []byte(key("nothing"))})
		}
		r := s.request(method+" "+target, nil, headers)
		if body != nil {
			with := httptest.NewRequest(method, "/", bytes.NewReader(body))
			r.Body, r.ContentLength = with.Body, with.ContentLength
		}
		change(r)
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		head := w.Header().Clone()
		head.Del("Server-Timing")
		return fmt.Sprintf("%d %v %s", w.Code, head, w.Body)
	}
	return answer(func(*http.Request) {}), answer(func(r *http.Request) {
		if r.URL.RawPath == "" {
			r.URL.RawPath = r.URL.Path // as it is, but said
		}
	})
}

// TestPrunedWhileRead: a state that was just read, and is open still, is as much gone
// as any other once its block is pruned; who reads while that happens reads what was
// there, or is told.
func TestPrunedWhileRead(t *testing.T) {
	s := newServer(t, api.Options{})
	s.doc = nil
	s.config.Retention = state.Retention{Slots: 2, Step: 1}
	s.config.Store = checkpoint.Options{RunLength: 4, ImageEvery: 4}
	s.reopen()
	parent := "alfred"
	for i := range 12 {
		name := fmt.Sprint("a", i)
		s.accept(name, parent)
		parent = name
	}
	target := "GET /v1/blocks/" + hash("a1").String() + "/state/" + hexOf(key("last writer"))
	s.do(target, nil, "Accept: application/octet-stream").is(200)
	ctx, cancel := context.WithCancel(t.Context())
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for ctx.Err() == nil {
				w := s.do(target, nil, "Accept: application/octet-stream")
				if w.Code != 410 && (w.Code != 200 || w.Body.String() != "a1") {
					t.Errorf("%d %s", w.Code, w.Body)
				}
			}
		})
	}
	if _, err := s.acc.Finalize(t.Context(), hash("a11")); err != nil {
		t.Error(err)
	}
	if _, err := s.acc.Retain(t.Context()); err != nil {
		t.Error(err)
	}
	cancel()
	readers.Wait()
	s.do(target, nil).problem(410, "pruned")
	s.do("POST /v1/blocks/"+hash("a1").String()+"/state", []byte(`{"keys":[]}`)).problem(410, "pruned")
}

// TestViewsEnd: states that were kept open for readers are closed with the server,
// before or after it: a store can't be closed in order else.
func TestViewsEnd(t *testing.T) {
	s := newServer(t, api.Options{})
	read := "GET /v1/blocks/head/state/entropy"
	for i := range 12 { // more than are kept
		s.accept(fmt.Sprint("a", i), "alfred")
		s.do("GET /v1/blocks/"+hash(fmt.Sprint("a", i)).String()+"/state/entropy", nil).is(200)
	}
	if n := s.OpenViews(); n == 0 || n > 8 {
		t.Errorf("%d states are kept open", n)
	}
	s.Close()
	s.do(read, nil).is(200)
	if n := s.OpenViews(); n != 0 {
		t.Errorf("%d states are open after the end", n)
	}
}

// TestEachWay: a batch gives what single reads give, hits and misses, in both forms.
func TestEachWay(t *testing.T) {
	s := newServer(t, api.Options{})
	s.accept("benny", "alfred")
	var keys []string
	for range 3 { // twice from the cache, and keys that come twice
		for k := range s.states["benny"] {
			keys = append(keys, k, key("not "+k))
		}
	}
	var got struct{ Values []*string }
	names := make([]string, len(keys))
	raw := make([][]byte, len(keys))
	for i, k := range keys {
		names[i], raw[i] = hexOf(k), []byte(k)
	}
	target := "POST /v1/blocks/" + hash("benny").String() + "/state"
	s.do(target, jsonOf(t, map[string]any{"keys": names})).is(200).into(&got)
	var want []byte
	for i, k := range keys {
		value, ok := s.states["benny"][k]
		if ok != (got.Values[i] != nil) || ok && *got.Values[i] != hexOf(value) {
			t.Errorf("%x: %v, want %q", k, got.Values[i], value)
		}
		if ok {
			want = api.AppendKeys(want, [][]byte{[]byte(value)})
		} else {
			want = append(want, 0xff, 0xff, 0xff, 0xff)
		}
	}
	if a := s.do(target, api.AppendKeys(nil, raw), "Content-Type: application/octet-stream").is(200); a.Body.String() != string(want) {
		t.Errorf("binary: %x, want %x", a.Body, want)
	}
	s.do(target, []byte(`{"keys":[]}`)).is(200)
	if a := s.do(target, []byte{}, "Content-Type: application/octet-stream").is(200); a.Body.Len() != 0 {
		t.Errorf("%x for no keys", a.Body)
	}
}

package api_test

import (
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"accessor/api"
)

// seen is what an Observer was told.
type seen struct {
	mu      sync.Mutex
	routes  map[string]int
	refused map[string]int
}

func (s *seen) observer() api.Observer {
	s.routes, s.refused = make(map[string]int), make(map[string]int)
	return api.Observer{
		Route: func(method, pattern string) func(int, time.Duration) {
			return func(status int, took time.Duration) {
				s.mu.Lock()
				defer s.mu.Unlock()
				if s.routes[fmt.Sprintf("%s %s %d", method, pattern, status)]++; took <= 0 {
					s.routes["took no time"]++
				}
			}
		},
		Refused: func(limit, kind string) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.refused[limit+" "+kind]++
		},
	}
}

// TestReplayLimit: what rebuilds states of blocks without a checkpoint uses a client's
// budget up; then it is refused before anything is sent, and others go on.
func TestReplayLimit(t *testing.T) {
	var told seen
	s := newServer(t, api.Options{Limits: api.Limits{Replay: 20, ReplayRate: 1}, Observer: told.observer()})
	for i, name := range []string{"benny", "boris", "claire"} {
		s.accept(name, []string{"alfred", "benny", "boris"}[i])
	}
	for _, name := range []string{"benny", "boris"} {
		if err := s.acc.Store().DropCheckpoint(hash(name)); err != nil {
			t.Fatal(err)
		}
	}
	scan := "GET /v1/blocks/" + hash("benny").String() + "/state"
	s.do(scan, nil).is(200) // 16 of 20
	other := "/v1/blocks/" + hash("boris").String()
	for _, headers := range [][]string{nil, {"Accept: application/x-ndjson"}} {
		a := s.do("GET "+other+"/state", nil, headers...)
		p := a.problem(429, "replay-limit")
		if retry, err := strconv.Atoi(a.Header().Get("Retry-After")); err != nil || retry < 10 || retry > 13 {
			t.Errorf("Retry-After: %s, want about 12", a.Header().Get("Retry-After"))
		}
		if !strings.Contains(p.Detail, "2 blocks") {
			t.Errorf("%s, want how many", p.Detail)
		}
	}
	s.do("GET /v1/blocks/"+hash("claire").String()+"/state", nil).is(200) // has a checkpoint
	s.uid = 7
	s.do("GET "+other+"/state", nil, "Accept: application/x-ndjson").is(200)
	if told.refused["replay replay-limit"] != 2 {
		t.Errorf("refused %v, want 2 for replays", told.refused)
	}
}

// TestObserver: each request is told once, by its route's pattern.
func TestObserver(t *testing.T) {
	var told seen
	s := newServer(t, api.Options{Limits: api.Limits{Keys: 2}, Observer: told.observer()})
	s.do("GET /v1/blocks/head", nil).is(200)
	s.do("GET /v1/blocks/"+hash("nobody").String(), nil).is(404)
	s.do("GET /v1/nowhere", nil).is(404)
	s.do("GET //", nil).is(404)
	k := `"` + hexOf(key("a")) + `"`
	s.do("POST /v1/blocks/head/state", []byte(`{"keys":[`+k+","+k+","+k+`]}`)).problem(413, "too-large")
	for _, want := range []string{
		"GET /v1/blocks/{id} 200 1", "GET /v1/blocks/{id} 404 1", "  404 2", "POST /v1/blocks/{id}/state 413 1",
	} {
		i := strings.LastIndexByte(want, ' ')
		if got := told.routes[want[:i]]; strconv.Itoa(got) != want[i+1:] {
			t.Errorf("%s: told %d times, want %s; all: %v", want[:i], got, want[i+1:], told.routes)
		}
	}
	if told.refused["size too-large"] != 1 || told.routes["took no time"] > 0 {
		t.Errorf("refused %v, routes %v", told.refused, told.routes)
	}
	if l := s.Load(); l.Bodies != 0 || l.Streams != 0 || l.Budget != api.DefaultLimits.Bodies {
		t.Errorf("%+v, want nothing on its way", l)
	}
	refusals := map[string]bool{}
	for _, r := range api.Refusals() {
		refusals[r.Limit+" "+r.Kind] = true
		if status := api.Kinds()[r.Kind]; status == 0 {
			t.Errorf("no kind %s", r.Kind)
		}
	}
	if !refusals["size too-large"] || !refusals["rebuilds replay-limit"] || !refusals["replay replay-limit"] {
		t.Errorf("%v are not all", refusals)
	}
}

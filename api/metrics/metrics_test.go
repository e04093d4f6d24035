package metrics

import (
	"errors"
	"fmt"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"accessor/forks"
	"accessor/state"
)

// scrape gives what a scraper reads.
func scrape(t *testing.T, m *Metrics) string {
	t.Helper()
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	if w.Code != 200 {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	return w.Body.String()
}

func expect(t *testing.T, text string, lines ...string) {
	t.Helper()
	for _, line := range lines {
		if !strings.Contains(text, "\n"+line+"\n") {
			t.Errorf("no line %q", line)
		}
	}
	if t.Failed() {
		for line := range strings.Lines(text) {
			if strings.HasPrefix(line, namespace) {
				t.Log(strings.TrimSpace(line))
			}
		}
	}
}

func TestBeforeTheStore(t *testing.T) {
	m := New("v1", "memory")
	expect(t, scrape(t, m), `accessor_build_info{engine="memory",version="v1"} 1`, "accessor_open 0", "accessor_ready 0",
		`accessor_imports_total{result="failed"} 0`)
	if text := scrape(t, m); strings.Contains(text, "accessor_blocks ") || !strings.Contains(text, "go_goroutines ") ||
		!strings.Contains(text, "process_open_fds ") {
		t.Error("want Go and process metrics, and none of a store")
	}
}

func TestObserver(t *testing.T) {
	m := New("", "")
	o := m.Observer()
	o.Imported(state.Imported{Bytes: 500, LockWait: 20 * time.Millisecond, Result: state.Result{Took: 5 * time.Millisecond}})
	o.Imported(state.Imported{Replayed: 3, Result: state.Result{Took: time.Second,
		WalkBack: &state.WalkBack{Blocks: 3, Obstacles: make([]state.Obstacle, 2)}}})
	o.Imported(state.Imported{Bytes: 7, Result: state.Result{Held: true}})
	o.Imported(state.Imported{Err: fmt.Errorf("import: %w", state.ErrUnknownParent)})
	o.Imported(state.Imported{Err: &state.RootError{Kind: state.ErrWrongRoot}})
	o.Imported(state.Imported{Err: errors.New("disk")})
	o.Retained(state.Pruning{Retained: state.Retained{Pruned: 5, Thin: 2, Freed: 1000}})
	o.Retained(state.Pruning{Err: errors.New("disk")})
	o.DraftEnded(state.DraftEnd{Fate: state.DraftExpired})
	expect(t, scrape(t, m),
		`accessor_imports_total{result="imported"} 2`, `accessor_imports_total{result="held"} 1`,
		`accessor_imports_total{result="refused"} 2`, `accessor_imports_total{result="failed"} 1`,
		"accessor_import_seconds_count 2", `accessor_import_seconds_bucket{le="0.006"} 1`, "accessor_import_bytes_total 500",
		"accessor_lock_wait_seconds_count 6", "accessor_walkback_blocks_count 1", "accessor_walkback_blocks_sum 2",
		"accessor_replayed_blocks_sum 3", `accessor_retention_runs_total{result="failed"} 1`, "accessor_pruned_blocks_total 5",
		"accessor_thinned_blocks_total 2", "accessor_freed_bytes_total 1000", `accessor_drafts_ended_total{fate="expired"} 1`,
	)
}

// TestStats: each figure of the store's comes out under a name of its own.
func TestStats(t *testing.T) {
	var s state.Stats
	v := reflect.ValueOf(&s).Elem()
	want := map[string]bool{}
	for i := range v.NumField() {
		switch f := v.Field(i); {
		case f.CanInt():
			f.SetInt(int64(1000 + i))
			want[fmt.Sprint(1000+i)] = true
		case f.CanUint():
			f.SetUint(uint64(1000 + i))
			want[fmt.Sprint(1000+i)] = true
		}
	}
	s.CacheReady = true
	s.Head, s.Finalized, s.Anchor = forks.Block{Slot: 9}, forks.Block{Slot: 7}, forks.Block{Slot: 5}
	m := New("", "")
	m.SetSource(whole(&s))
	text := scrape(t, m)
	expect(t, text, "accessor_open 1", "accessor_ready 1", "accessor_head_slot 9", "accessor_finalized_slot 7", "accessor_anchor_slot 5",
		"accessor_connections 3", "accessor_connections_turned_away_total 4", "accessor_cache_ready 1",
		fmt.Sprintf("accessor_blocks %d", s.Blocks), fmt.Sprintf(`accessor_reads_total{tier="cache"} %d`, s.CacheHits))
	for line := range strings.Lines(text) {
		if i := strings.LastIndexByte(line, ' '); i > 0 && strings.HasPrefix(line, namespace) {
			delete(want, strings.TrimSpace(line[i:]))
		}
	}
	if len(want) > 0 {
		t.Errorf("figures that come out nowhere: %v", want)
	}
	s.NotReady = state.ErrOverBudget
	expect(t, scrape(t, m), "accessor_ready 0")
	if problems, err := testutil.GatherAndLint(m.registry); err != nil || len(problems) > 0 {
		t.Errorf("%v, %v", problems, err)
	}
}

// whole has a source for everything.
func whole(stats *state.Stats) Source {
	return Source{
		Stats:       func() (state.Stats, bool) { return *stats, true },
		Connections: func() (int, uint64) { return 3, 4 },
		Load:        func() (Load, bool) { return Load{Bodies: 5, Budget: 6, Subscribers: 7}, true },
		Engine: func() (state.EngineUsage, bool) {
			return state.EngineUsage{CacheBytes: 11, CachePinned: 12, CacheCapacity: 13, Databases: 14, TableReaders: 15}, true
		},
		Forks:   func(int) []state.Fork { return []state.Fork{{Head: true, Blocks: 16}} },
		Peers:   func() (Peers, bool) { return Peers{}, true },
		Partial: func() (state.PartialStats, bool) { return state.PartialStats{}, true },
	}
}

func TestBelow(t *testing.T) {
	m := New("", "")
	source := whole(&state.Stats{})
	forkList := []state.Fork{{Head: true, Blocks: 3, Tables: 9}, {First: forks.Block{Hash: forks.Hash{0xab, 1}}, Blocks: 2, Behind: 4, Tables: 1}}
	source.Forks = func(most int) []state.Fork {
		if most != 16 {
			t.Errorf("asked for %d branches, want 16", most)
		}
		return forkList
	}
	m.SetSource(source)
	expect(t, scrape(t, m), "accessor_http_body_bytes 5", "accessor_http_body_budget_bytes 6", "accessor_http_subscribers 7",
		"accessor_engine_cache_bytes 11", "accessor_engine_cache_pinned_bytes 12", "accessor_engine_cache_capacity_bytes 13",
		"accessor_engine_databases 14", "accessor_engine_table_reader_bytes 15",
		`accessor_fork_blocks{fork="head"} 3`, `accessor_fork_slots_behind{fork="head"} 0`, `accessor_fork_tables{fork="head"} 9`,
		`accessor_fork_blocks{fork="ab01000000000000"} 2`, `accessor_fork_slots_behind{fork="ab01000000000000"} 4`)
	forkList = forkList[:1]
	if text := scrape(t, m); strings.Contains(text, "ab01") {
		t.Error("a branch that is gone still has gauges")
	}
}

func TestRequests(t *testing.T) {
	m := New("", "")
	get, none := m.Route("GET", "/v1/blocks/{id}"), m.Route("", "")
	if text := scrape(t, m); !strings.Contains(text, `accessor_http_request_seconds_count{class="2xx",method="GET",route="/v1/blocks/{id}"} 0`) {
		t.Error("a route isn't there from the start")
	}
	get(200, 2*time.Millisecond)
	get(206, 40*time.Millisecond)
	get(404, time.Millisecond)
	for _, odd := range []int{0, -5, 1 << 40, 600} {
		get(odd, time.Second)
	}
	none(404, time.Microsecond)
	m.Refusable("size", "too-large")
	m.Refused("client", "too-many-requests")
	series := `{class="2xx",method="GET",route="/v1/blocks/{id}"`
	expect(t, scrape(t, m),
		"accessor_http_request_seconds_count"+series+"} 2",
		"accessor_http_request_seconds_bucket"+series+`,le="0.003"} 1`,
		`accessor_http_request_seconds_count{class="4xx",method="GET",route="/v1/blocks/{id}"} 1`,
		`accessor_http_request_seconds_count{class="none",method="GET",route="/v1/blocks/{id}"} 4`,
		`accessor_http_request_seconds_count{class="4xx",method="none",route="none"} 1`,
		`accessor_http_refused_total{kind="too-large",limit="size"} 0`,
		`accessor_http_refused_total{kind="too-many-requests",limit="client"} 1`)
	if n := testing.AllocsPerRun(100, func() { get(200, time.Millisecond) }); n > 0 {
		t.Errorf("counting a request allocates %v times", n)
	}
}

// TestNetwork: each figure of peers and of partial stores comes out under a name, or a
// label, of its own, and none where there is neither.
func TestNetwork(t *testing.T) {
	var p Peers
	var st state.PartialStats
	want := map[string]bool{"0.25": true}
	next := 1000
	for _, v := range []reflect.Value{reflect.ValueOf(&p).Elem(), reflect.ValueOf(&st).Elem()} {
		for i := range v.NumField() {
			next++
			switch f := v.Field(i); {
			case f.CanInt():
				f.SetInt(int64(next))
			case f.CanUint():
				f.SetUint(uint64(next))
			default:
				continue
			}
			want[fmt.Sprint(next)] = true
		}
	}
	st.Partial, st.Covered = true, 0.25
	m := New("", "")
	m.SetSource(Source{
		Peers:   func() (Peers, bool) { return p, true },
		Partial: func() (state.PartialStats, bool) { return st, true },
	})
	text := scrape(t, m)
	expect(t, text, "accessor_partial 1", fmt.Sprintf(`accessor_peers_unanswered_total{result="rejected"} %d`, p.Rejected),
		fmt.Sprintf(`accessor_peers_served_total{result="refused"} %d`, p.Refused), fmt.Sprintf(`accessor_peers_items_total{result="failed"} %d`, p.StoreErrors),
		fmt.Sprintf("accessor_partial_unkept_total %d", st.Unkept), fmt.Sprintf("accessor_fill_pairs %d", st.Pairs))
	for line := range strings.Lines(text) {
		if i := strings.LastIndexByte(line, ' '); i > 0 && strings.HasPrefix(line, namespace) {
			delete(want, strings.TrimSpace(line[i:]))
		}
	}
	if len(want) > 0 {
		t.Errorf("figures that come out nowhere: %v", want)
	}
	if problems, err := testutil.GatherAndLint(m.registry); err != nil || len(problems) > 0 {
		t.Errorf("%v, %v", problems, err)
	}
	m.SetSource(Source{Peers: func() (p Peers, ok bool) { return p, false }})
	if text := scrape(t, m); strings.Contains(text, "accessor_peers_") || strings.Contains(text, "accessor_partial") {
		t.Error("there is no node, and it has figures")
	}
}

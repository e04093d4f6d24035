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
	m.SetSource(Source{
		Stats:       func() (state.Stats, bool) { return s, true },
		Connections: func() (int, uint64) { return 3, 4 },
	})
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

package bench

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"accessor/da"
	"accessor/forks"
	"accessor/internal/programtest"
)

// TestDA runs the benchmark small and looks at whether it measured what it says. What
// doesn't depend on the machine's speed must be reached here too.
func TestDA(t *testing.T) {
	p := DADefaults
	p.Keys, p.Misses, p.Readers, p.Rounds, p.Fetches, p.Items, p.Imports = 5_000, 100, 200, 2, 100, 3, 3
	p.Dir, p.Program = t.TempDir(), programtest.Path(t)
	res, err := DA(context.Background(), p)
	if err != nil {
		t.Fatal(err)
	}
	if res.Bench != "da" || res.Params.Engine == "" || len(res.Rows) != 27 {
		t.Fatalf("%d rows: %+v", len(res.Rows), res)
	}
	for _, row := range res.Rows {
		if strings.Contains(row.What, "until its ban") {
			continue // the answers that are on their way at the ban count too
		}
		counted := row.Unit == ""
		if counted && (row.Must == "" || !row.Reached) {
			t.Errorf("not reached: %+v", row)
		}
		if !counted && !strings.HasPrefix(row.Unit, "%") && row.Value <= 0 {
			t.Errorf("implausible: %+v", row)
		}
	}
}

func TestDARows(t *testing.T) {
	for _, tt := range []struct {
		row     DARow
		reached bool
	}{
		{DARow{Value: 3, Must: "≤ 3"}, true},
		{DARow{Value: 3.1, Must: "≤ 3"}, false},
		{DARow{Value: 0, Must: "≤ 0"}, true},
		{DARow{Value: 1, Must: "≤ 0"}, false},
		{DARow{Value: 20, Must: "≥ 20"}, true},
		{DARow{Value: 19, Must: "≥ 20"}, false},
		{DARow{Value: 19}, true},
	} {
		var r daRun
		r.add(tt.row)
		if r.res.Rows[0].Reached != tt.reached {
			t.Errorf("%+v: want %v", r.res.Rows[0], tt.reached)
		}
	}
}

// TestAskCancelled: peers that are to ask when all is over already do no more than end.
func TestAskCancelled(t *testing.T) {
	node, err := da.New(t.Context(), da.Config{Listen: []string{overLoopback}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer node.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	ended := make(chan error, 1)
	go func() { ended <- Ask(ctx, node.Addrs()[0], forks.Block{}, 10, func() {}) }()
	select {
	case err := <-ended:
		if err != nil && !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	case <-time.After(time.Minute):
		t.Fatal("it still asks")
	}
}

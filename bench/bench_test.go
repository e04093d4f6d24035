package bench

import (
	"context"
	"testing"
	"time"
)

// TestBenches runs each benchmark small and looks at whether it measured what it
// says.
func TestBenches(t *testing.T) {
	for _, b := range All {
		for _, commitment := range []string{"none", "jam"} {
			t.Run(b.Name+" "+commitment, func(t *testing.T) {
				p := b.Defaults
				p.Keys, p.Blocks, p.Puts, p.Commitment, p.Baseline, p.Seed = 500, 20, 50, commitment, true, 7
				p.Repeat, p.Dir = min(p.Repeat, 5), t.TempDir()
				res, err := b.Run(context.Background(), p)
				if err != nil {
					t.Fatal(err)
				}
				if res.Bench != b.Name || res.Median <= 0 || res.P99 < res.Median || res.FilesPerCkpt < 1 || res.RSS == 0 {
					t.Errorf("implausible: %+v", res)
				}
				rooted := b.Name == "root" || b.Name == "prove"
				if rooted && (res.ColdMedian <= 0 || res.Params.Commitment != "jam") {
					t.Errorf("no cold times, or no roots: %+v", res)
				}
				if b.Name == "root" && res.Hashing <= 0 || b.Name == "prove" && res.Check <= 0 {
					t.Errorf("no hashing or check: %+v", res)
				}
				compared := !rooted && b.Name != "open" && b.Name != "read" && b.Name != "retention"
				if compared && (res.BaselineMedian <= 0 || res.Ratio <= 0 || res.Floor <= 0) {
					t.Errorf("no baseline or floor: %+v", res)
				}
				if b.Name == "read" && (res.Reads.HitNanos <= 0 || res.Reads.BareNanos <= 0 || res.Reads.HitAllocs != 0 || res.Reads.CacheOff <= 0) {
					t.Errorf("reads: %+v", res.Reads)
				}
				if b.Name == "retention" && (res.Kept.Blocks != 22 || res.Kept.OldRead <= 0 || res.Kept.OldScan <= 0 || res.Kept.Open <= 0) {
					t.Errorf("retention: %+v", res.Kept)
				}
				if b.Name == "import" && res.DiskPerBlock <= 0 {
					t.Errorf("no disk usage: %+v", res)
				}
				if b.Name == "walkback" && res.BlocksWalkedOver != 20 {
					t.Errorf("walked over %d blocks, want 20", res.BlocksWalkedOver)
				}
			})
		}
	}
}

func TestCancelledBench(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	p := All[0].Defaults
	p.Commitment, p.Dir = "none", t.TempDir()
	if _, err := All[0].Run(ctx, p); err == nil {
		t.Error("a cancelled benchmark ends without an error")
	}
}

func TestPercentile(t *testing.T) {
	var times []time.Duration
	for i := 200; i > 0; i-- {
		times = append(times, time.Duration(i)*time.Millisecond)
	}
	if p50, p99 := percentile(times, 50), percentile(times, 99); p50 != 100 || p99 != 198 {
		t.Errorf("median %v, p99 %v; want 100, 198", p50, p99)
	}
	if p := percentile(nil, 50); p != 0 {
		t.Errorf("of nothing: %v", p)
	}
}

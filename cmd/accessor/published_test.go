package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"accessor/internal/published"
	"accessor/replay"
)

// vectors gives a folder of the published vectors.
func vectors(t *testing.T, folder string) string {
	t.Helper()
	dir := os.Getenv("ACCESSOR_VECTORS")
	if dir == "" {
		t.Skip("ACCESSOR_VECTORS is not set: published chains are not replayed")
	}
	return filepath.Join(dir, folder)
}

// replayAll replays inputs with all states verified and gives the reports.
func replayAll(t *testing.T, inputs ...string) []replay.Report {
	t.Helper()
	out := mustRun(t, append([]string{"replay", "--json", "--verify", "states"}, inputs...)...)
	var reports []replay.Report
	for line := range strings.Lines(out) {
		var r replay.Report
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatalf("%v in %s", err, line)
		}
		if len(r.Errors) > 0 {
			t.Errorf("%s: %v", r.Name, r.Errors)
		}
		if want := r.Blocks + r.Held + 1; r.RootsVerified != want || r.StatesVerified != want {
			t.Errorf("%s: %d roots and %d states verified, want %d", r.Name, r.RootsVerified, r.StatesVerified, want)
		}
		reports = append(reports, r)
	}
	return reports
}

// TestPublishedTraces replays all published traces: 239 trees, 4,514 blocks, 34
// rejects that a store can judge, 316 that it can't.
func TestPublishedTraces(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(vectors(t, "jamtrace"), "*.jsonl.zst"))
	if err != nil {
		t.Fatal(err)
	}
	var sum replay.Report
	var leaves = make(map[string]int)
	reports := replayAll(t, files...)
	for _, r := range reports {
		sum.Blocks += r.Blocks + r.Held
		sum.Refused += r.Refused
		sum.Skipped += r.Skipped
		leaves[r.Name] = len(r.Leaves)
	}
	if len(reports) != 239 || sum.Blocks != 4514 || sum.Refused != 34 || sum.Skipped != 316 {
		t.Errorf("%d trees, %d blocks, %d refused, %d skipped; want 239, 4514, 34, 316",
			len(reports), sum.Blocks, sum.Refused, sum.Skipped)
	}
	for name, want := range map[string]int{"forest072": 12, "forest067": 6, "forest066-reports": 2,
		"forest066-sealing": 2, "forest-conf067": 4, "forest-conf071b": 2, "sess072-forks": 3, "sess070-faulty": 3} {
		if leaves[name] != want {
			t.Errorf("%s has %d leaves, want %d", name, leaves[name], want)
		}
	}
}

// TestPublishedSteps replays the published step files from their folders.
func TestPublishedSteps(t *testing.T) {
	dir := published.UnpackSteps(t, vectors(t, "steps"))
	reports := replayAll(t, dir)
	if len(reports) != 2 {
		t.Fatalf("%d folders, want 2", len(reports))
	}
	for _, r := range reports {
		if r.Blocks != 100 {
			t.Errorf("%s: %d blocks, want 100", r.Name, r.Blocks)
		}
	}
}

package metrics

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"accessor/state"
)

// TestDocs: docs/SERVE.md lists the metrics that there are, with their types and labels.
func TestDocs(t *testing.T) {
	m := New("v", "e")
	m.SetSource(whole(&state.Stats{}))
	m.Route("GET", "/")
	m.Refused("client", "too-many-requests")
	families, err := m.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var there []string
	for _, f := range families {
		if !strings.HasPrefix(f.GetName(), namespace) {
			continue
		}
		var labels []string
		for _, l := range f.GetMetric()[0].GetLabel() {
			labels = append(labels, "`"+l.GetName()+"`")
		}
		there = append(there, fmt.Sprintf("`%s` | %s | %s |", f.GetName(), strings.ToLower(f.GetType().String()), strings.Join(labels, ", ")))
	}
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "SERVE.md"))
	if err != nil {
		t.Fatal(err)
	}
	var listed []string
	for _, row := range regexp.MustCompile("(?m)^\\| (`accessor_[a-z_]+` \\| [a-z]+ \\| (?:[`a-z, ]+ )?\\|) (.+) \\|$").FindAllStringSubmatch(string(text), -1) {
		listed = append(listed, strings.Replace(row[1], "|  |", "| |", 1))
	}
	slices.Sort(listed)
	for i := range there {
		there[i] = strings.Replace(there[i], "|  |", "| |", 1)
	}
	slices.Sort(there)
	for _, row := range there {
		if !slices.Contains(listed, row) {
			t.Errorf("docs/SERVE.md doesn't list | %s", row)
		}
	}
	for i, row := range listed {
		if !slices.Contains(there, row) {
			t.Errorf("docs/SERVE.md lists what isn't there: | %s", row)
		}
		if i > 0 && row == listed[i-1] {
			t.Errorf("docs/SERVE.md lists twice: | %s", row)
		}
	}
}

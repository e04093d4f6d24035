package forks_test

import (
	"fmt"
	"strings"
	"testing"

	"accessor/forks"
)

func TestStringShowsSlotsAndShortHashes(t *testing.T) {
	tree := forks.New(numbered(0, 0))
	for i := 1; i < 8; i++ {
		if err := tree.Add(numbered(i, i-1)); err != nil {
			t.Fatal(err)
		}
	}
	const want = "● 0 00000000\n┆ 6 blocks, slots 1–6\n● 7 00000007\n"
	if got := tree.String(); got != want {
		t.Errorf("drawing\n%swant\n%s", got, want)
	}
}

// A thousand forks off one line of a day's length.
func TestDrawManyForks(t *testing.T) {
	const line, forkCount = 14_400, 1000
	tree := forks.New(numbered(0, 0))
	for i := range line {
		mustAdd(t, tree, numbered(i+1, i))
	}
	for i := range forkCount {
		mustAdd(t, tree, forks.Block{Hash: numberedHash(line + 1 + i), Parent: numberedHash(14 * i), Slot: forks.MaxSlot})
	}
	text := tree.String()
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	// At a fork: itself, its side branch, its first child and a fold; at the
	// end the leaf.
	if want := 4*forkCount + 1; len(lines) != want {
		t.Errorf("%d lines, want %d", len(lines), want)
	}
	for i, each := range lines {
		if depth := strings.Count(each, "│ ") + strings.Count(each, "├─"); depth > 1 {
			t.Fatalf("line %d is indented by %d levels: %s", i+1, depth, each)
		}
	}
}

// Forks of forks, each line as long as what is left of the one it leaves, and
// with larger hashes: the deepest nesting that so many blocks allow.
func TestDrawDeeplyNestedForks(t *testing.T) {
	const deep = 150
	tree := forks.New(numbered(0, 0))
	next := 1
	fork := 0 // where the next line leaves
	for level := range deep {
		parent := fork
		for i := range deep - level {
			mustAdd(t, tree, forks.Block{
				Hash: numberedHash(next), Parent: numberedHash(parent), Slot: forks.Slot(level + i + 1),
			})
			if i == 0 {
				fork = next
			}
			parent = next
			next++
		}
	}
	deepest := 0
	for each := range strings.Lines(tree.String()) {
		deepest = max(deepest, strings.Count(each, "│ ")+strings.Count(each, "├─"))
	}
	if deepest != deep-1 {
		t.Errorf("indented by %d levels, want %d", deepest, deep-1)
	}
}

func mustAdd(t testing.TB, tree *forks.Tree, b forks.Block) {
	t.Helper()
	if err := tree.Add(b); err != nil {
		t.Fatal(err)
	}
}

// parents reads a drawing in which nothing is folded, and gives each block's
// parent, both by label; the anchor's is "".
func parents(drawing string) (map[string]string, error) {
	out := make(map[string]string)
	var last []string // by level: the newest block of the line there
	for line := range strings.Lines(drawing) {
		before, label, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "● ")
		if !ok {
			return nil, fmt.Errorf("no block in line %q", line)
		}
		level := len([]rune(before)) / 2
		switch {
		case level > len(last) || level == len(last) && level > 0 && !strings.HasSuffix(before, "├─"):
			return nil, fmt.Errorf("line %q is too far to the right", line)
		case strings.HasSuffix(before, "├─"):
			before = strings.TrimSuffix(before, "├─")
			out[label] = last[level-1]
			last = last[:level]
		case len(last) == 0:
			out[label] = ""
		default:
			out[label] = last[level]
			last = last[:level]
		}
		if strings.Trim(before, "│ ") != "" {
			return nil, fmt.Errorf("line %q starts with %q", line, before)
		}
		last = append(last, label)
	}
	return out, nil
}

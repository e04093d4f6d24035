package state_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
)

// forkText is what Forks gives, by names.
func (c *chain) forkText(most int) string {
	var out []string
	for _, f := range c.Forks(most) {
		text := fmt.Sprintf("%s-%s %d -%d", nameOf(f.First.Hash), nameOf(f.Tip.Hash), f.Blocks, f.Behind)
		if f.Head {
			text += " head"
		}
		if f.Tables != c.Store().Tables(f.Tip.Hash) || f.Tables == 0 {
			text += fmt.Sprint(" tables ", f.Tables)
		}
		out = append(out, text)
	}
	return strings.Join(out, ", ")
}

// TestForks: each block above the finalized one belongs to one branch; one that loses
// or is given up is there no more.
func TestForks(t *testing.T) {
	overEngines(t, func(t *testing.T, e engineCase) {
		c := newChain(t, e, noImages)
		want := func(most int, text string) {
			t.Helper()
			if got := c.forkText(most); got != text {
				t.Errorf("forks are %s; want %s", got, text)
			}
		}
		want(16, "")
		c.grow("alfred", "a1", "a2", "a3", "a4")
		c.grow("a1", "b2", "b3")
		c.grow("b2", "c3")
		want(16, "a1-a4 4 -0 head, b2-b3 2 -1, c3-c3 1 -1")
		want(2, "a1-a4 4 -0 head, b2-b3 2 -1")
		if err := c.SetHead(hash("b3")); err != nil {
			t.Fatal(err)
		}
		want(16, "a1-b3 3 -0 head, a2-a4 3 -0, c3-c3 1 -0")
		if err := c.SetHead(hash("a3")); err != nil {
			t.Fatal(err)
		}
		want(16, "a1-a3 3 -0 head, b2-b3 2 -0, a4-a4 1 -0, c3-c3 1 -0")
		if _, err := c.Finalize(context.Background(), hash("a2")); err != nil {
			t.Fatal(err)
		}
		want(16, "a3-a3 1 -0 head, a4-a4 1 -0")
	})
}

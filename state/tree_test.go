package state_test

import (
	"os"
	"path/filepath"
	"strings"

	"accessor/checkpoint"
	"accessor/forks"
)

// noImages leaves runs and images out of short stories, so that what they tell
// of walk-backs is exact.
var noImages = checkpoint.Options{RunLength: 1000, ImageEvery: 1000}

// children gives the names of a block's children.
func (c *chain) children(name string) (out string) {
	c.ReadTree(func(t *forks.Tree) { out = names(t.Children(hash(name))) })
	return out
}

// listing gives the names in a block's directory below checkpoints or images.
func (c *chain) listing(kind, block string) string {
	c.t.Helper()
	entries, err := os.ReadDir(c.dirOf(kind, block))
	if err != nil {
		c.t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		out = append(out, filepath.Base(e.Name()))
	}
	return strings.Join(out, " ")
}

package api

import (
	"context"
	"errors"
	"net/http"

	"accessor/forks"
	"accessor/state"
)

// Block is a held block and where it stands.
type Block struct {
	About
	Parent    *forks.Hash  `json:"parent" nullable:"true" doc:"null of the anchor" pattern:"^[0-9a-f]{64}$"`
	Children  []forks.Hash `json:"children" nullable:"false"`
	Canonical bool         `json:"canonical" doc:"finalized, or an ancestor of finalized"`
	Lost      bool         `json:"lost" doc:"on a branch that lost by finality"`
	Head      bool         `json:"head"`
	Finalized bool         `json:"finalized"`
	Anchor    bool         `json:"anchor"`
	// Checkpoint is missing of old blocks, and of damaged ones.
	Checkpoint bool `json:"checkpoint" doc:"whether it has a checkpoint of its own; else its state is rebuilt where a reader needs it"`
}

// describe gives a block as it is answered. It is called with the tree.
func (c *call) describe(t *forks.Tree, b, head forks.Block) Block {
	out := Block{
		About: aboutBlock(b), Children: []forks.Hash{}, Canonical: t.Canonical(b.Hash), Lost: t.Lost(b.Hash),
		Head: b.Hash == head.Hash, Finalized: b.Hash == t.Finalized().Hash, Anchor: b.Hash == t.Anchor().Hash,
		Checkpoint: c.core.HasCheckpoint(b.Hash),
	}
	if !out.Anchor {
		out.Parent = &b.Parent
	}
	for _, child := range t.Children(b.Hash) {
		out.Children = append(out.Children, child.Hash)
	}
	return out
}

// getBlock is GET /v1/blocks/{id}.
func (c *call) getBlock() error {
	if err := c.await(); err != nil {
		return err
	}
	b, byHash, err := c.block()
	if err != nil {
		return err
	}
	if !byHash {
		c.w.Header()["Content-Location"] = []string{c.located(b)}
	}
	c.w.Header()["Cache-Control"] = []string{"no-cache"}
	head := c.core.Head()
	var out Block
	c.core.ReadTree(func(t *forks.Tree) { out = c.describe(t, b, head) })
	return c.json(http.StatusOK, out)
}

// await waits for the block that the path names, where the request says so: until it
// is held, or the time is over. Error: one of kind bad-request, or pruned.
func (c *call) await() error {
	wait, ok, err := c.waitParam()
	if err != nil || !ok {
		return err
	}
	h, err := forks.ParseHash(c.r.PathValue("id"))
	if err != nil {
		return badRequest("who waits for a block names it by its whole hash")
	}
	ctx, cancel := context.WithTimeout(c.r.Context(), wait)
	defer cancel()
	defer context.AfterFunc(c.s.closing, cancel)()
	// Whether it came shows when it is looked for again.
	_, err = c.core.WaitBlock(ctx, h)
	if errors.Is(err, state.ErrUnknownBlock) && wait > 0 {
		if _, err := c.core.Resolve(blockID(h)); errors.Is(err, state.ErrUnknownBlock) {
			return newFault("unknown-block", "block %s is not held; it was waited for, %v at most", h, wait)
		}
	}
	if err != nil && !errors.Is(err, state.ErrUnknownBlock) {
		return err
	}
	return nil
}

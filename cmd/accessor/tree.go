package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"accessor/api/client"
	"accessor/forks"
	"accessor/state"
)

// treeCommand is `accessor tree`.
type treeCommand struct {
	*target
	json, full, watch bool
}

func newTree(e *env) *cobra.Command {
	c := &treeCommand{}
	cmd := &cobra.Command{
		Use:   "tree",
		Short: "Draw the fork tree",
		Long: `Draws the fork tree, a block a line: slot, short hash, and what is special about
it: anchor, head, finalized, lost (not on finalized's line), and no checkpoint.
Runs of blocks with a single child are folded unless --full is given.

With --watch it is drawn anew whenever the tree changes, until you interrupt it, which
is exit status 0: on a terminal in place, elsewhere one drawing after the other with an
empty line between them.`,
		Example: `  accessor tree --data /var/lib/accessor
  accessor tree --watch`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if c.watch && c.data != "" {
				return usageError("--watch: nothing changes in a store that no process serves: start accessor serve, and watch that")
			}
			return c.ask(cmd, c.run)
		},
	}
	c.target = e.targetFlags(cmd)
	cmd.Flags().BoolVar(&c.json, "json", false, "print one JSON object")
	cmd.Flags().BoolVar(&c.full, "full", false, "show every block")
	cmd.Flags().BoolVarP(&c.watch, "watch", "w", false, "draw the tree anew whenever it changes")
	return cmd
}

func (c *treeCommand) run(ctx context.Context, cl *client.Client) error {
	if !c.watch {
		tree, err := fetchTree(ctx, cl)
		if err != nil {
			return err
		}
		return c.show(tree)
	}
	err := c.follow(ctx, cl)
	if ctx.Err() != nil {
		return nil // the end that the user wants
	}
	return err
}

// show prints the tree once.
func (c *treeCommand) show(tree *heldTree) error {
	if c.json {
		return tree.writeJSON(c.env)
	}
	_, err := fmt.Fprint(c.stdout, c.draw(tree))
	return err
}

func (c *treeCommand) draw(tree *heldTree) string {
	fold := 0
	if c.full {
		fold = -1
	}
	return tree.draw(fold, c.painter())
}

// heldTree is the tree with what is known about its blocks.
type heldTree struct {
	*forks.Tree
	head       forks.Hash
	checkpoint func(forks.Hash) bool
}

// treeTries is how often the tree is asked for again where it was pruned between two
// pages.
const treeTries = 3

// fetchTree asks for the tree.
func fetchTree(ctx context.Context, c *client.Client) (*heldTree, error) {
	for try := 1; ; try++ {
		list, err := c.Blocks(ctx, client.BlocksOptions{})
		if err != nil {
			return nil, err
		}
		tree, err := buildTree(&list)
		if err == nil || try == treeTries {
			return tree, err
		}
	}
}

// buildTree puts the blocks under their parents. Blocks that came while the pages were
// read are left out where their parents are missing.
func buildTree(list *client.Tree) (*heldTree, error) {
	anchor := list.Anchor
	tree := &heldTree{Tree: forks.New(forks.Block{Hash: anchor.Block, Slot: anchor.Slot, Root: anchor.Root}), head: list.Head.Block}
	sealed := make(map[forks.Hash]bool, len(list.Blocks))
	tree.checkpoint = func(h forks.Hash) bool { return sealed[h] }
	// As the server has them: by slot, so that parents come before their children.
	slices.SortFunc(list.Blocks, func(a, b client.BlockInfo) int {
		return cmp.Or(cmp.Compare(a.Slot, b.Slot), a.Block.Compare(b.Block))
	})
	for _, b := range list.Blocks {
		sealed[b.Block] = b.Checkpoint
		if b.Block == anchor.Block || b.Parent == nil {
			continue
		}
		err := tree.Add(forks.Block{Hash: b.Block, Parent: *b.Parent, Slot: b.Slot, Root: b.Root})
		if err != nil && !errors.Is(err, forks.ErrOrphan) && !errors.Is(err, forks.ErrDuplicate) {
			return nil, fmt.Errorf("the sidecar's tree: %w", err)
		}
	}
	if _, err := tree.Finalize(list.Finalized.Block); err != nil {
		return nil, fmt.Errorf("the sidecar's tree: finalized block %s: %w", list.Finalized.Block, err)
	}
	return tree, nil
}

// treeNode is a block in the JSON form of the tree.
type treeNode struct {
	Hash       forks.Hash `json:"hash"`
	Parent     forks.Hash `json:"parent"`
	Slot       forks.Slot `json:"slot"`
	Root       forks.Hash `json:"root"`
	Checkpoint bool       `json:"checkpoint"`
	Lost       bool       `json:"lost"`
}

func (t *heldTree) writeJSON(e *env) error {
	out := struct {
		Anchor    forks.Hash `json:"anchor"`
		Head      forks.Hash `json:"head"`
		Finalized forks.Hash `json:"finalized"`
		Blocks    []treeNode `json:"blocks"`
	}{Anchor: t.Anchor().Hash, Head: t.head, Finalized: t.Finalized().Hash}
	for b := range t.All() {
		out.Blocks = append(out.Blocks, treeNode{Hash: b.Hash, Parent: b.Parent, Slot: b.Slot, Root: b.Root,
			Checkpoint: t.checkpoint(b.Hash), Lost: t.Lost(b.Hash)})
	}
	return json.NewEncoder(e.stdout).Encode(out)
}

// drawTree draws the tree of a store that this process has open.
func drawTree(acc *state.Accessor, p painter) string {
	var drawing string
	head := acc.Head().Hash
	acc.ReadTree(func(t *forks.Tree) {
		tree := &heldTree{Tree: t, head: head, checkpoint: acc.HasCheckpoint}
		drawing = tree.draw(0, p)
	})
	return drawing
}

// draw draws the tree with its labels. fold is forks.DrawOptions.Fold.
func (t *heldTree) draw(fold int, p painter) string {
	marks := func(b forks.Block) []string {
		var m []string
		if b.Hash == t.Anchor().Hash {
			m = append(m, p.paint(cyan, "anchor"))
		}
		if b.Hash == t.Finalized().Hash && b.Hash != t.Anchor().Hash {
			m = append(m, p.paint(cyan, "finalized"))
		}
		if b.Hash == t.head {
			m = append(m, p.paint(green, "head"))
		}
		if !t.checkpoint(b.Hash) {
			m = append(m, p.paint(yellow, "no checkpoint"))
		}
		return m
	}
	return t.Draw(forks.DrawOptions{
		Fold: fold,
		Keep: func(b forks.Block) bool { return len(marks(b)) > 0 },
		Label: func(b forks.Block) string {
			m := marks(b)
			name := fmt.Sprintf("%d %s", b.Slot, b.Hash.Short())
			if t.Lost(b.Hash) {
				m = append(m, p.paint(red, "lost"))
				name = p.paint(faint, name)
			}
			if len(m) > 0 {
				name += "  " + strings.Join(m, ", ")
			}
			return name
		},
	})
}

// Of watching: how long changes are gathered before they are drawn, and how long until
// the tree is asked for again where it could not be had.
const (
	watchGather = 100 * time.Millisecond
	watchRetry  = time.Second
)

// follow draws the tree, and again after each change, until the context ends or the
// sidecar refuses.
func (c *treeCommand) follow(ctx context.Context, cl *client.Client) error {
	status, err := cl.Status(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	changed, ended := make(chan struct{}, 1), make(chan error, 1)
	go func() {
		// From before the first drawing on: nothing falls between the two.
		after := max(status.NewestEvent, 1)
		for _, err := range cl.Events(ctx, client.EventOptions{After: &after, Kinds: []string{"block", "head", "finalized", "pruned"}}) {
			if err != nil {
				ended <- err
				return
			}
			select {
			case changed <- struct{}{}:
			default:
			}
		}
	}()
	screen := &screen{env: c.env}
	drawn := false
	for {
		var again <-chan time.Time
		switch tree, err := fetchTree(ctx, cl); {
		case err == nil:
			drawn = true
			if c.json {
				err = tree.writeJSON(c.env)
			} else {
				err = screen.show(c.draw(tree))
			}
			if err != nil {
				return err
			}
		case !drawn || !passing(err):
			return err
		default: // the sidecar starts again: its events go on when it is there
			again = time.After(watchRetry)
		}
		select {
		case <-changed:
		case <-again:
		case err := <-ended:
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
		select {
		case <-time.After(watchGather):
		case <-ctx.Done():
		}
	}
}

// passing says whether an error may go away by itself.
func passing(err error) bool {
	var e *client.Error
	return errors.As(err, &e) && (e.Kind == client.ErrConnection || e.Status == 503)
}

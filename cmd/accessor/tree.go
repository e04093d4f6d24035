package main

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"accessor/forks"
	"accessor/state"
)

func newTree(e *env) *cobra.Command {
	var data string
	var asJSON, full bool
	cmd := &cobra.Command{
		Use:   "tree --data DIR",
		Short: "Draw the fork tree",
		Long: `Draws the fork tree, a block a line: slot, short hash, and what is special about
it: anchor, head, finalized, lost (not on finalized's line), and no checkpoint.
Runs of blocks with a single child are folded unless --full is given.`,
		Example: "  accessor tree --data /var/lib/accessor",
		Args:    noArguments,
		RunE: func(*cobra.Command, []string) error {
			acc, done, err := e.openStore(data)
			if err != nil {
				return err
			}
			defer done()
			if asJSON {
				return writeTreeJSON(e, acc)
			}
			fold := 0
			if full {
				fold = -1
			}
			fmt.Fprint(e.stdout, drawTree(acc, fold))
			return nil
		},
	}
	cmd.Flags().StringVar(&data, "data", "", "directory of the store")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	cmd.Flags().BoolVar(&full, "full", false, "show every block")
	return cmd
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

func writeTreeJSON(e *env, acc *state.Accessor) error {
	out := struct {
		Anchor    forks.Hash `json:"anchor"`
		Head      forks.Hash `json:"head"`
		Finalized forks.Hash `json:"finalized"`
		Blocks    []treeNode `json:"blocks"`
	}{Head: acc.Head().Hash}
	acc.ReadTree(func(t *forks.Tree) {
		out.Anchor, out.Finalized = t.Anchor().Hash, t.Finalized().Hash
		for b := range t.All() {
			out.Blocks = append(out.Blocks, treeNode{Hash: b.Hash, Parent: b.Parent, Slot: b.Slot, Root: b.Root,
				Checkpoint: acc.Store().HasCheckpoint(b.Hash), Lost: t.Lost(b.Hash)})
		}
	})
	return json.NewEncoder(e.stdout).Encode(out)
}

// drawTree draws the tree with its labels. fold is forks.DrawOptions.Fold.
func drawTree(acc *state.Accessor, fold int) string {
	head := acc.Head().Hash
	var drawing string
	acc.ReadTree(func(t *forks.Tree) {
		marks := func(b forks.Block) []string {
			var m []string
			if b.Hash == t.Anchor().Hash {
				m = append(m, "anchor")
			}
			if b.Hash == t.Finalized().Hash && b.Hash != t.Anchor().Hash {
				m = append(m, "finalized")
			}
			if b.Hash == head {
				m = append(m, "head")
			}
			if !acc.Store().HasCheckpoint(b.Hash) {
				m = append(m, "no checkpoint")
			}
			return m
		}
		drawing = t.Draw(forks.DrawOptions{
			Fold: fold,
			Keep: func(b forks.Block) bool { return len(marks(b)) > 0 },
			Label: func(b forks.Block) string {
				m := marks(b)
				if t.Lost(b.Hash) {
					m = append(m, "lost")
				}
				label := fmt.Sprintf("%d %s", b.Slot, b.Hash.Short())
				if len(m) > 0 {
					label += "  " + strings.Join(m, ", ")
				}
				return label
			},
		})
	})
	return drawing
}

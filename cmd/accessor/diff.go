package main

import (
	"cmp"
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"accessor/api/client"
)

func newDiff(e *env) *cobra.Command {
	var t *target
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "diff A B",
		Short: "Print the keys that differ between the states at two blocks",
		Long: `Prints the keys that differ between the states at two blocks, of one branch or of
two, and their common ancestor: - a key that only A has, + one that only B has,
~ one whose value differs. Exit status 0, whether there are any or not.`,
		Example: "  accessor diff --data /tmp/chain 40 head",
		Args:    arguments(cobra.ExactArgs(2)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return t.ask(cmd, func(ctx context.Context, c *client.Client) error {
				diff, err := c.Diff(ctx, args[0], args[1])
				if err != nil {
					return err
				}
				if asJSON {
					return e.printDiffJSON(&diff)
				}
				e.printDiff(&diff)
				return nil
			})
		},
	}
	t = e.targetFlags(cmd)
	cmd.ValidArgsFunction = t.completeBlocks(2)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object, whole values in hex")
	return cmd
}

func (e *env) printDiff(diff *client.Diff) {
	p := e.painter()
	short := func(v []byte) string { return strings.TrimSpace(preview(v)) }
	fmt.Fprintf(e.stdout, "A %s\nB %s\ncommon ancestor %s\n", about(diff.From), about(diff.To), about(diff.Common))
	for _, d := range diff.Keys {
		switch {
		case d.To == nil:
			fmt.Fprintln(e.stdout, p.paint(red, fmt.Sprintf("- %s  %s", keyText(d.Key), short(d.From))))
		case d.From == nil:
			fmt.Fprintln(e.stdout, p.paint(green, fmt.Sprintf("+ %s  %s", keyText(d.Key), short(d.To))))
		default:
			fmt.Fprintln(e.stdout, p.paint(yellow, fmt.Sprintf("~ %s  %s → %s", keyText(d.Key), short(d.From), short(d.To))))
		}
	}
	fmt.Fprintf(e.stdout, "%d keys differ\n", len(diff.Keys))
}

// hexOrNull is a value as JSON has it.
func hexOrNull(v []byte) *string {
	if v == nil {
		return nil
	}
	s := hex.EncodeToString(v)
	return &s
}

func (e *env) printDiffJSON(diff *client.Diff) error {
	type entry struct {
		Key string  `json:"key"`
		A   *string `json:"a"`
		B   *string `json:"b"`
	}
	out := struct {
		A      about   `json:"a"`
		B      about   `json:"b"`
		Common about   `json:"common_ancestor"`
		Keys   []entry `json:"keys"`
	}{about(diff.From), about(diff.To), about(diff.Common), make([]entry, len(diff.Keys))}
	for i, d := range diff.Keys {
		out.Keys[i] = entry{hex.EncodeToString(d.Key), hexOrNull(d.From), hexOrNull(d.To)}
	}
	return json.NewEncoder(e.stdout).Encode(out)
}

func newHistory(e *env) *cobra.Command {
	var t *target
	var at string
	var limit int
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "history [--at BLOCK] KEY",
		Short: "Print which blocks wrote a key, and what",
		Long: `Prints what each block on the way from the anchor to a block made of a key, newest
first; the anchor's value, where it has the key, is the last. The block is named on
standard error. Exit status 1 where nobody wrote the key.`,
		Example: `  accessor history entropy
  accessor history --data /tmp/chain --at 42 --limit 3 slot`,
		Args: arguments(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if limit < 1 {
				return usageError("--limit is %d, want 1 or more", limit)
			}
			if _, err := parseKey(args[0]); err != nil {
				return err
			}
			return t.ask(cmd, func(ctx context.Context, c *client.Client) error {
				h, err := c.History(ctx, args[0], client.HistoryOptions{At: at, Limit: limit})
				if err != nil {
					return err
				}
				return e.printHistory(&h, asJSON)
			})
		},
	}
	t = e.targetFlags(cmd)
	cmd.ValidArgsFunction = completeItems
	t.blockFlag(cmd, &at, "at", "head", "block (see accessor --help)")
	cmd.Flags().IntVar(&limit, "limit", 100, "most versions")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object, whole values in hex")
	return cmd
}

func (e *env) printHistory(h *client.History, asJSON bool) error {
	if asJSON {
		type version struct {
			Value *string `json:"value"`
			about
		}
		out := struct {
			Key      string    `json:"key"`
			Versions []version `json:"versions"`
			about
		}{hex.EncodeToString(h.Key), make([]version, len(h.Versions)), about(h.About)}
		for i, v := range h.Versions {
			out.Versions[i] = version{hexOrNull(v.Value), about(v.About)}
		}
		if err := json.NewEncoder(e.stdout).Encode(out); err != nil {
			return err
		}
	} else {
		fmt.Fprintf(e.stderr, "at %s\n", about(h.About))
		t := newTable("SLOT", "BLOCK", "SIZE", "VALUE")
		for _, v := range h.Versions {
			if v.Value == nil {
				t.row(v.Slot, v.Block.Short(), "", cell{"deleted", red})
				continue
			}
			t.row(v.Slot, v.Block.Short(), len(v.Value), cmp.Or(strings.TrimSpace(preview(v.Value)), "empty"))
		}
		if len(t.rows) > 0 {
			e.print(t)
		} else {
			fmt.Fprintf(e.stderr, "absent: nobody wrote key %s\n", keyText(h.Key))
		}
	}
	if len(h.Versions) == 0 {
		return &exitError{status: exitDiffers}
	}
	return nil
}

package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"accessor/api/client"
	"accessor/jam"
)

// What a shell asks for while somebody types: it never waits long, and is silent where
// nobody answers.
const (
	completePatience = 300 * time.Millisecond
	completeNewest   = 16 // of the newest on the head's branch
)

// blockFlag adds a flag that names a block.
func (t *target) blockFlag(cmd *cobra.Command, at *string, name, value, usage string) {
	cmd.Flags().StringVar(at, name, value, usage)
	_ = cmd.RegisterFlagCompletionFunc(name, t.completeBlocks(-1)) // the flag is there
}

// completeBlocks offers blocks' names for the first arguments; for any number where
// that is below 0.
func (t *target) completeBlocks(args int) cobra.CompletionFunc {
	return func(_ *cobra.Command, given []string, prefix string) ([]string, cobra.ShellCompDirective) {
		if args >= 0 && len(given) >= args {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		list, slots := []string{"head", "finalized", "anchor", "genesis"}, []string{}
		t.quietly(func(ctx context.Context, c *client.Client) {
			seen := make(map[client.Hash]bool)
			offer := func(b *client.BlockInfo) {
				if seen[b.Block] {
					return
				}
				seen[b.Block] = true
				name := b.Block.Short()
				if strings.HasPrefix(prefix, "0x") || strings.Trim(name, "0123456789") == "" {
					name = "0x" + name
				}
				what := ""
				if b.Lost {
					what = ", lost"
				}
				list = append(list, fmt.Sprintf("%s\tslot %d%s", name, b.Slot, what))
				if !b.Lost { // where finality has decided, a slot names the block that has not lost
					slots = append(slots, fmt.Sprintf("%d\t%s", b.Slot, name))
				}
			}
			leaves, err := c.Blocks(ctx, client.BlocksOptions{Leaves: true})
			if err != nil {
				return
			}
			for i := range leaves.Blocks {
				offer(&leaves.Blocks[i])
			}
			for name := "head"; len(seen) < completeNewest+len(leaves.Blocks); {
				b, err := c.Block(ctx, name)
				if err != nil {
					return
				}
				offer(&b)
				if b.Parent == nil {
					return
				}
				name = "0x" + b.Parent.String()
			}
		})
		return append(list, slots...), cobra.ShellCompDirectiveNoFileComp
	}
}

// quietly asks a running sidecar, if there is one that answers at once.
func (t *target) quietly(f func(ctx context.Context, c *client.Client)) {
	if t.data != "" {
		return // opening it takes its time, and keeps others out
	}
	c, done, err := t.dial()
	if err != nil {
		return
	}
	defer done()
	ctx, cancel := context.WithTimeout(context.Background(), completePatience)
	defer cancel()
	f(ctx, c)
}

// completeItems offers the names of JAM state items.
func completeItems(_ *cobra.Command, _ []string, prefix string) ([]string, cobra.ShellCompDirective) {
	if strings.HasPrefix("account:", prefix) && prefix != "" {
		return []string{"account:"}, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
	}
	return jam.ItemNames(), cobra.ShellCompDirectiveNoFileComp
}

// completeDrafts offers drafts' ids, and after one names of items.
func (t *target) completeDrafts(cmd *cobra.Command, args []string, prefix string) (list []string, _ cobra.ShellCompDirective) {
	if len(args) > 0 && cmd.Name() != "drop" {
		return completeItems(cmd, args, prefix)
	}
	t.quietly(func(ctx context.Context, c *client.Client) {
		drafts, _ := c.Drafts(ctx)
		for _, d := range drafts {
			list = append(list, fmt.Sprintf("%s\tslot %d on %s", d.ID, d.Slot, d.Parent.Block.Short()))
		}
	})
	return list, cobra.ShellCompDirectiveNoFileComp
}

// completePins offers pins' ids.
func (t *target) completePins(*cobra.Command, []string, string) (list []string, _ cobra.ShellCompDirective) {
	t.quietly(func(ctx context.Context, c *client.Client) {
		pins, _ := c.Pins(ctx)
		for _, p := range pins {
			list = append(list, fmt.Sprintf("%s\tblock %s", p.ID, p.Block.Short()))
		}
	})
	return list, cobra.ShellCompDirectiveNoFileComp
}

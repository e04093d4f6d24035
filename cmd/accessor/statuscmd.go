package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"accessor/api/client"
)

func newStatus(e *env) *cobra.Command {
	var t *target
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Print what the sidecar, its store and its tree are like",
		Long: `Prints what the sidecar, its store and its tree are like. Exit status 1 where it
can't import or read blocks now; it says why.`,
		Example: `  accessor status
  accessor status --socket /run/accessor/node.sock --json`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return t.ask(cmd, func(ctx context.Context, c *client.Client) error {
				status, err := c.Status(ctx)
				if err != nil {
					return err
				}
				if asJSON {
					err = json.NewEncoder(e.stdout).Encode(status)
				} else {
					e.printStatus(&status)
				}
				if err == nil && !status.Ready {
					err = &exitError{status: exitDiffers}
				}
				return err
			})
		},
	}
	t = e.targetFlags(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return cmd
}

func (e *env) printStatus(s *client.Status) {
	p := e.painter()
	line := func(name, text string) {
		fmt.Fprintf(e.stdout, "%s %s\n", p.paint(bold, fmt.Sprintf("%-11s", name)), text)
	}
	ready := p.paint(green, "yes")
	if !s.Ready {
		ready = p.paint(red, "no: "+s.Reason)
	}
	line("ready", ready)
	line("version", s.Version)
	if s.Head != nil {
		line("commitment", s.Commitment)
		for _, b := range []struct {
			name string
			*client.About
		}{{"head", s.Head}, {"finalized", s.Finalized}, {"anchor", s.Anchor}} {
			if b.About != nil {
				line(b.name, about(*b.About).String())
			}
		}
	}
	line("blocks", fmt.Sprintf("%d, %d of them leaves", s.Blocks, s.Leaves))
	if s.Partial {
		line("state", partialText(s.Fill))
	}
	if s.PeerID != "" {
		line("peer", strings.Join(append([]string{s.PeerID}, s.PeerAddresses...), "\n            "))
	}
	line("importing", strconv.Itoa(s.Importing))
	line("drafts", strconv.Itoa(s.Drafts))
	line("pins", strconv.Itoa(s.Pins))
	line("locks", strconv.Itoa(s.Locks))
	if s.NewestEvent > 0 {
		line("events", fmt.Sprintf("%d to %d", s.OldestEvent, s.NewestEvent))
	}
	if s.DiskBytes > 0 {
		disk := bytesText(s.DiskBytes)
		if s.DiskBudget > 0 {
			disk += " of " + bytesText(s.DiskBudget)
		}
		line("disk", disk)
	}
}

// partialText says how far a partial state is.
func partialText(f *client.Fill) string {
	switch {
	case f != nil && f.AnchorGone:
		return "partial, and peers don't have the state at the anchor any more: trust a later block (--trust)"
	case f == nil || f.Done == 0:
		return "partial"
	case f.Of == 0:
		return fmt.Sprintf("partial, %d pairs are here", f.Done)
	}
	return fmt.Sprintf("partial, %d of about %d pairs are here", f.Done, f.Of)
}

// newHead is `accessor head`.
func newHead(e *env) *cobra.Command {
	return newDecision(e, &cobra.Command{
		Use:   "head BLOCK",
		Short: "Say which block is the head",
		Long: `Makes a block the head: the one that the node says is best. It must be the finalized
block or descend from it. Prints it.`,
		Example: "  accessor head 0x2bf11dc5",
	}, func(c *client.Client, ctx context.Context, h client.Hash) (client.Finalized, error) {
		at, err := c.SetHead(ctx, h)
		return client.Finalized{About: at}, err
	})
}

// newFinalize is `accessor finalize`.
func newFinalize(e *env) *cobra.Command {
	return newDecision(e, &cobra.Command{
		Use:   "finalize BLOCK",
		Short: "Make a branch final, up to a block",
		Long: `Finalizes a block: its branch is canonical from then on, and the others lose. It must
descend from the block that was finalized before. Prints it, and the blocks that lost.
This can't be undone.`,
		Example: "  accessor finalize 0x2bf11dc5",
	}, (*client.Client).Finalize)
}

// newDecision is a command by which the user decides about a block. decide is a
// client's method.
func newDecision(e *env, cmd *cobra.Command, decide func(*client.Client, context.Context, client.Hash) (client.Finalized, error)) *cobra.Command {
	var t *target
	var asJSON bool
	cmd.Args = arguments(cobra.ExactArgs(1))
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return t.ask(cmd, func(ctx context.Context, c *client.Client) error {
			b, err := c.Block(ctx, args[0])
			if err != nil {
				return err
			}
			done, err := decide(c, ctx, b.Block)
			if err != nil {
				return err
			}
			switch {
			case asJSON && done.Lost == nil:
				return json.NewEncoder(e.stdout).Encode(done.About)
			case asJSON:
				return json.NewEncoder(e.stdout).Encode(done)
			}
			fmt.Fprintln(e.stdout, about(done.About))
			for _, h := range done.Lost {
				fmt.Fprintf(e.stdout, "lost %s\n", h)
			}
			return nil
		})
	}
	t = e.targetFlags(cmd)
	cmd.ValidArgsFunction = t.completeBlocks(1)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return cmd
}

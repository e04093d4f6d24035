package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"accessor/api/client"
	"accessor/state"
)

// eventKinds are the kinds of events that can be asked for.
var eventKinds = []string{"block", "head", "reorg", "finalized", "pruned", "walkback", "lock", "complete"}

// eventsCommand is `accessor events`.
type eventsCommand struct {
	*target
	after        uint64
	kinds        []string
	follow, json bool
}

func newEvents(e *env) *cobra.Command {
	c := &eventsCommand{}
	cmd := &cobra.Command{
		Use:   "events [--after POSITION] [--kinds K,...] [--follow]",
		Short: "Print what has happened to the store, and what happens",
		Long: `Prints the events that are kept, oldest first, a line each: its position, when it
was, its kind (` + strings.Join(eventKinds, ", ") + `) and the
block that it is about. A gap says which positions are not kept any more.

--after goes on after a position that was read before. With --follow it waits for
what happens, from now on unless --after says otherwise, and goes on where it was
after a restart of the sidecar, until you interrupt it, which is exit status 0.`,
		Example: `  accessor events --kinds reorg,finalized
  accessor events --follow --json`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			for _, k := range c.kinds {
				if _, err := state.ParseEventKind(k); err != nil {
					return usageError("--kinds %q: want some of %s", k, strings.Join(eventKinds, ","))
				}
			}
			if c.follow && c.data != "" {
				return usageError("--follow: nothing happens in a store that no process serves: start accessor serve, and follow that")
			}
			return c.ask(cmd, func(ctx context.Context, cl *client.Client) error {
				if !c.follow {
					return c.kept(ctx, cl)
				}
				opts := client.EventOptions{Kinds: c.kinds}
				if cmd.Flags().Changed("after") {
					opts.After = c.from()
				}
				return c.wait(ctx, cl, opts)
			})
		},
	}
	c.target = e.targetFlags(cmd)
	f := cmd.Flags()
	f.Uint64Var(&c.after, "after", 0, "begin after this position (default: with the oldest event that is kept)")
	f.StringSliceVar(&c.kinds, "kinds", nil, "only events of these kinds")
	f.BoolVarP(&c.follow, "follow", "f", false, "wait for what happens, until interrupted")
	f.BoolVar(&c.json, "json", false, "print one JSON object per event")
	_ = cmd.RegisterFlagCompletionFunc("kinds", cobra.FixedCompletions(eventKinds, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// from is the position to begin after; 1 is before the oldest event.
func (c *eventsCommand) from() *uint64 {
	after := max(c.after, 1)
	return &after
}

// kept prints what there is now. It asks for all kinds: by the position of the newest
// event it knows the end.
func (c *eventsCommand) kept(ctx context.Context, cl *client.Client) error {
	status, err := cl.Status(ctx)
	if err != nil {
		return err
	}
	newest := status.NewestEvent
	if newest == 0 || c.after == newest {
		return nil
	}
	for e, err := range cl.Events(ctx, client.EventOptions{After: c.from(), NoReconnect: true}) {
		if err != nil {
			return err
		}
		if e.Kind == "gap" || len(c.kinds) == 0 || slices.Contains(c.kinds, e.Kind) {
			if err := c.show(&e); err != nil {
				return err
			}
		}
		if e.Position >= newest {
			break
		}
	}
	return nil
}

// wait prints what happens.
func (c *eventsCommand) wait(ctx context.Context, cl *client.Client, opts client.EventOptions) error {
	for e, err := range cl.Events(ctx, opts) {
		if ctx.Err() != nil {
			return nil // the end that the user wants
		}
		if err != nil {
			return err
		}
		if err := c.show(&e); err != nil {
			return err
		}
	}
	return nil
}

func (c *eventsCommand) show(e *client.Event) error {
	if c.json {
		return json.NewEncoder(c.stdout).Encode(e)
	}
	when := strings.Repeat(" ", len(time.DateTime)+4)
	if e.TimeMS > 0 {
		when = time.UnixMilli(e.TimeMS).Format(time.DateTime + ".000")
	}
	p := c.painter()
	colour := map[string]string{"reorg": yellow, "finalized": cyan, "head": green, "gap": red, "lock": faint}[e.Kind]
	_, err := fmt.Fprintf(c.stdout, "%d  %s  %s  %s\n", e.Position, p.paint(faint, when), p.paint(colour, fmt.Sprintf("%-9s", e.Kind)), eventText(e))
	return err
}

// eventText says what an event is about.
func eventText(e *client.Event) string {
	if e.Kind == "gap" {
		return fmt.Sprintf("positions %d to %d are not kept: ask for the tree and the head", deref(e.First), deref(e.Last))
	}
	text := fmt.Sprintf("%d %s", deref(e.Slot), deref(e.Block).Short())
	switch e.Kind {
	case "block":
		if e.Parent != nil {
			text += " on " + e.Parent.Short()
		}
	case "reorg":
		if e.Common != nil {
			text += fmt.Sprintf(", %d deep, down to %d %s", deref(e.Depth), e.Common.Slot, e.Common.Block.Short())
		}
	case "finalized":
		text += fmt.Sprintf(", %d blocks lost", deref(e.Lost))
	case "pruned":
		text += fmt.Sprintf(" is the anchor, %d blocks went", deref(e.Pruned))
	case "complete":
		text += " is the anchor, whose whole state is here now"
	case "walkback":
		if w := e.WalkBack; w != nil {
			text += fmt.Sprintf(" from %s, %d blocks replayed: %s", w.From.Short(), w.Blocks, strings.Join(w.Reasons, "; "))
		}
	case "lock":
		if l := e.Lock; l != nil {
			text += fmt.Sprintf(" %s: %q imports %s, %v", l.Outcome, l.Owner, l.Block.Short(), span(l.WaitedMS))
		}
	}
	if e.Old != nil && (e.Kind == "head" || e.Kind == "reorg" || e.Kind == "finalized") {
		text += fmt.Sprintf(" (was %d %s)", e.Old.Slot, e.Old.Block.Short())
	}
	return text
}

// deref gives what a pointer points to; of nil the zero value.
func deref[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}

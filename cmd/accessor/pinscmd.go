package main

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"accessor/api/client"
)

func newLocks(e *env) *cobra.Command {
	var t *target
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "locks",
		Short: "Print the timeslots that are locked or reserved",
		Long: `Prints the timeslots that are locked while a block is imported into them, and those
that drafts have reserved: these bind other owners' drafts alone, no import.`,
		Example: "  accessor locks",
		Args:    noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return t.ask(cmd, func(ctx context.Context, c *client.Client) error {
				locks, err := c.Locks(ctx)
				if err != nil {
					return err
				}
				if asJSON {
					return json.NewEncoder(e.stdout).Encode(locks)
				}
				e.printLocks(&locks)
				return nil
			})
		},
	}
	t = e.targetFlags(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return cmd
}

func (e *env) printLocks(l *client.Locks) {
	t := newTable("SLOT", "WHAT", "BLOCK", "OWNER", "AGE", "WAITERS", "EXPIRES IN")
	for _, lock := range l.Locks {
		t.row(lock.Slot, cell{"locked", yellow}, lock.Block.Short(), lock.Owner, span(lock.AgeMS), lock.Waiters, "")
	}
	for _, r := range l.Reservations {
		expires := "busy" // it is being begun, or committed
		if r.ExpiresMS != nil {
			expires = span(*r.ExpiresMS)
		}
		t.row(r.Slot, "reserved", "", r.Owner, span(r.AgeMS), "", expires)
	}
	if len(t.rows) == 0 {
		fmt.Fprintln(e.stderr, "no slot is locked or reserved")
		return
	}
	e.print(t)
}

// pinsCommand is `accessor pins` and those below it.
type pinsCommand struct {
	*target
	json bool
}

func newPins(e *env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "pins",
		Short: "List, make, renew and end pins, which keep blocks readable",
		Long: `Lists the pins: they keep single blocks readable for a time, however old. Of a
sidecar these are this client's; for operators, all.`,
		Example: `  accessor pins
  accessor pins add --ttl 1h finalized
  accessor pins remove 4f0c…`,
	}
	c := newPinsCommand(e, cmd)
	cmd.Args = noSuchCommand
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return c.list(cmd) }
	cmd.AddCommand(newPinsList(e), newPinsAdd(e), newPinsRenew(e), newPinsRemove(e))
	return cmd
}

// newPinsCommand gives a command its flags.
func newPinsCommand(e *env, cmd *cobra.Command) *pinsCommand {
	c := &pinsCommand{target: e.targetFlags(cmd)}
	cmd.Flags().BoolVar(&c.json, "json", false, "print JSON")
	return c
}

func newPinsList(e *env) *cobra.Command {
	cmd := &cobra.Command{Use: "list", Short: "List the pins", Example: "  accessor pins list --json", Args: noArguments}
	c := newPinsCommand(e, cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return c.list(cmd) }
	return cmd
}

func (c *pinsCommand) list(cmd *cobra.Command) error {
	return c.ask(cmd, func(ctx context.Context, cl *client.Client) error {
		pins, err := cl.Pins(ctx)
		if err != nil {
			return err
		}
		if c.json {
			return json.NewEncoder(c.stdout).Encode(map[string]any{"pins": pins})
		}
		t := newTable("ID", "BLOCK", "OWNER", "AGE", "EXPIRES IN", "DIRECTORY")
		for _, p := range pins {
			t.row(p.ID, p.Block.Short(), p.Owner, span(p.AgeMS), span(p.ExpiresMS), deref(p.Directory))
		}
		if len(pins) == 0 {
			fmt.Fprintln(c.stderr, "no pins")
			return nil
		}
		c.print(t)
		return nil
	})
}

// show prints a pin that was made or renewed: its id, for the next command.
func (c *pinsCommand) show(p *client.PinInfo) error {
	if c.json {
		return json.NewEncoder(c.stdout).Encode(p)
	}
	fmt.Fprintf(c.stderr, "block %s is pinned for %s\n", p.Block, span(p.ExpiresMS))
	if p.Directory != nil {
		fmt.Fprintf(c.stderr, "directory %s\n", *p.Directory)
	}
	_, err := fmt.Fprintln(c.stdout, p.ID)
	return err
}

func newPinsAdd(e *env) *cobra.Command {
	opts := client.PinOptions{}
	var directory bool
	cmd := &cobra.Command{
		Use:   "add [--ttl TIME] BLOCK",
		Short: "Pin a block",
		Long: `Pins a block and prints the pin's id, for accessor pins renew and remove; on standard
error the block and, where the pin has one, the directory of a checkpoint that other
processes on this machine may open read-only (docs/FORMAT.md).`,
		Example: "  accessor pins add --ttl 10m finalized",
		Args:    arguments(cobra.ExactArgs(1)),
	}
	c := newPinsCommand(e, cmd)
	cmd.ValidArgsFunction = c.completeBlocks(1)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		opts.Block = args[0]
		if cmd.Flags().Changed("directory") {
			opts.Directory = &directory
		}
		return c.ask(cmd, func(ctx context.Context, cl *client.Client) error {
			p, err := cl.Pin(ctx, opts)
			if err != nil {
				return err
			}
			info := p.Info() // it stays when this process ends
			if err = c.show(&info); err != nil {
				_ = p.Close() // nobody knows its id
			}
			return err
		})
	}
	f := cmd.Flags()
	f.DurationVar(&opts.TTL, "ttl", time.Hour, "how long the pin lasts, at most 24h")
	f.StringVar(&opts.Owner, "owner", "", "whose it is, for people")
	f.BoolVar(&directory, "directory", false, "make a directory, or with =false none (default: where one can be made)")
	return cmd
}

func newPinsRenew(e *env) *cobra.Command {
	var ttl time.Duration
	cmd := &cobra.Command{
		Use: "renew [--ttl TIME] ID", Short: "Let a pin end so long from now",
		Example: "  accessor pins renew --ttl 1h 4f0c…", Args: arguments(cobra.ExactArgs(1)),
	}
	c := newPinsCommand(e, cmd)
	cmd.ValidArgsFunction = c.completePins
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return c.ask(cmd, func(ctx context.Context, cl *client.Client) error {
			info, err := cl.PinByID(args[0]).Renew(ctx, ttl)
			if err != nil {
				return err
			}
			return c.show(&info)
		})
	}
	cmd.Flags().DurationVar(&ttl, "ttl", time.Hour, "how long the pin lasts from now, at most 24h")
	return cmd
}

func newPinsRemove(e *env) *cobra.Command {
	cmd := &cobra.Command{
		Use: "remove ID...", Aliases: []string{"rm"}, Short: "End pins",
		Example: "  accessor pins remove 4f0c…", Args: arguments(cobra.MinimumNArgs(1)),
	}
	t := e.targetFlags(cmd)
	cmd.ValidArgsFunction = t.completePins
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return t.ask(cmd, func(ctx context.Context, cl *client.Client) error {
			for _, id := range args {
				if err := cl.PinByID(id).End(ctx); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return cmd
}

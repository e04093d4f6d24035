package main

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"accessor/api/client"
	"accessor/forks"
)

// draftCommand is a command below `accessor draft`.
type draftCommand struct {
	*target
	json bool
}

func newDraft(e *env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "draft",
		Short: "Build a block in a running sidecar, write by write",
		Long: `A draft is an import in progress: writes on top of a block's state, read back as they
would be, and at last committed as a block or dropped. It lives in a running sidecar, and
goes when its lease ends: renew it in time. A store that no process serves has no drafts;
accessor import takes a finished block.`,
		Example: `  ID=$(accessor draft begin --parent head --ttl 60s)
  accessor draft put $ID entropy 0102
  accessor draft get $ID entropy
  accessor draft commit $ID --hash 7b0f…`,
		Args: noSuchCommand,
		RunE: showHelp,
	}
	cmd.AddCommand(newDraftBegin(e), newDraftList(e), newDraftGet(e), newDraftPut(e), newDraftDel(e),
		newDraftRenew(e), newDraftCommit(e), newDraftDrop(e))
	return cmd
}

// command gives a command its flags, and what it does with a client.
func (c *draftCommand) command(e *env, cmd *cobra.Command, asJSON bool, f func(ctx context.Context, cl *client.Client, args []string) error) *cobra.Command {
	c.target = e.targetFlags(cmd)
	if asJSON {
		cmd.Flags().BoolVar(&c.json, "json", false, "print one JSON object")
	}
	if strings.Contains(cmd.Use, " ID") {
		cmd.ValidArgsFunction = c.completeDrafts
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if c.data != "" && c.socket == "" {
			return usageError("a draft lives in a running sidecar: start accessor serve --data %s, and use --socket; or make the block at once, by accessor import", c.data)
		}
		return c.ask(cmd, func(ctx context.Context, cl *client.Client) error { return f(ctx, cl, args) })
	}
	return cmd
}

// show prints what a draft is like; its id alone on standard output, for the next
// command.
func (c *draftCommand) show(d *client.DraftInfo) error {
	if c.json {
		return json.NewEncoder(c.stdout).Encode(d)
	}
	fmt.Fprintf(c.stderr, "draft of slot %d on %s", d.Slot, about(d.Parent))
	if d.ExpiresMS != nil {
		fmt.Fprintf(c.stderr, "; its lease ends in %s", span(*d.ExpiresMS))
	}
	fmt.Fprintf(c.stderr, "\n")
	_, err := fmt.Fprintln(c.stdout, d.ID)
	return err
}

func newDraftBegin(e *env) *cobra.Command {
	c := &draftCommand{}
	var opts client.DraftOptions
	var parent string
	var slot uint32
	cmd := &cobra.Command{
		Use:   "begin [--parent BLOCK] [--slot N]",
		Short: "Begin a draft, and print its id",
		Args:  noArguments, Example: "  accessor draft begin --parent head --owner builder --ttl 60s",
	}
	c.command(e, cmd, true, func(ctx context.Context, cl *client.Client, _ []string) error {
		b, err := cl.Block(ctx, parent)
		if err != nil {
			return err
		}
		opts.Parent, opts.Slot = b.Block.String(), b.Slot+1
		if cmd.Flags().Changed("slot") {
			opts.Slot = forks.Slot(slot)
		}
		d, err := cl.BeginDraft(ctx, opts)
		if err != nil {
			return err
		}
		info, err := d.Info(ctx)
		if err == nil {
			err = c.show(&info)
		}
		if err != nil { // nobody knows its id
			_ = d.Close()
		}
		return err
	})
	c.blockFlag(cmd, &parent, "parent", "head", "block whose state the draft changes")
	f := cmd.Flags()
	f.Uint32Var(&slot, "slot", 0, "slot of the block (default: the one after the parent's)")
	f.StringVar(&opts.Owner, "owner", "", "whose drafts may share the slot")
	f.DurationVar(&opts.TTL, "ttl", 30*time.Second, "how long the lease lasts, at most 60s")
	return cmd
}

func newDraftList(e *env) *cobra.Command {
	c := &draftCommand{}
	cmd := &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List the drafts that are open", Args: noArguments,
		Example: "  accessor draft list",
	}
	return c.command(e, cmd, true, func(ctx context.Context, cl *client.Client, _ []string) error {
		drafts, err := cl.Drafts(ctx)
		if err != nil {
			return err
		}
		if c.json {
			return json.NewEncoder(c.stdout).Encode(map[string]any{"drafts": drafts})
		}
		t := newTable("ID", "SLOT", "PARENT", "OWNER", "WRITES", "BYTES", "AGE", "EXPIRES IN")
		for _, d := range drafts {
			expires := "committing"
			if d.ExpiresMS != nil {
				expires = span(*d.ExpiresMS)
			}
			t.row(d.ID, d.Slot, d.Parent.Block.Short(), d.Owner, d.Writes, d.Bytes, span(d.AgeMS), expires)
		}
		if len(drafts) == 0 {
			fmt.Fprintln(c.stderr, "no drafts")
			return nil
		}
		c.print(t)
		return nil
	})
}

func newDraftGet(e *env) *cobra.Command {
	c := &draftCommand{}
	var raw bool
	cmd := &cobra.Command{
		Use: "get ID KEY", Short: "Print the value of a key as the draft has it",
		Long: `Prints the value of a key as the draft has it, in hex. Exit status 1 where it has no such
key. The draft's parent is named on standard error, and with --json.`,
		Args: arguments(cobra.ExactArgs(2)), Example: "  accessor draft get $ID entropy",
	}
	c.command(e, cmd, true, func(ctx context.Context, cl *client.Client, args []string) error {
		if c.json && raw {
			return usageError("use --json or --raw, not both")
		}
		key, err := parseKey(args[1])
		if err != nil {
			return err
		}
		d := cl.Draft(args[0])
		value, present, err := d.Get(ctx, key)
		if err != nil {
			return err
		}
		info, err := d.Info(ctx)
		if err != nil {
			return err
		}
		return c.printValue(key, value, present, about(info.Parent), c.json, raw)
	})
	cmd.Flags().BoolVar(&raw, "raw", false, "print the value's bytes as they are")
	return cmd
}

func newDraftPut(e *env) *cobra.Command {
	c := &draftCommand{}
	cmd := &cobra.Command{
		Use: "put ID KEY VALUE [KEY VALUE]...", Short: "Set values in a draft, all or none",
		Long: "Sets values in a draft, all or none. VALUE is hex, or @FILE for the bytes of a file.",
		Args: arguments(func(_ *cobra.Command, args []string) error {
			if len(args) < 3 || len(args)%2 == 0 {
				return errors.New("want a draft's id, then a key and a value for each write")
			}
			return nil
		}),
		Example: "  accessor draft put $ID entropy 0102 slot @slot.bin",
	}
	return c.command(e, cmd, false, func(ctx context.Context, cl *client.Client, args []string) error {
		var w client.WriteSet
		for i := 1; i < len(args); i += 2 {
			key, err := parseKey(args[i])
			if err != nil {
				return err
			}
			value, err := parseValue(args[i+1])
			if err != nil {
				return err
			}
			w.Puts = append(w.Puts, client.Pair{Key: key, Value: value})
		}
		return cl.Draft(args[0]).Write(ctx, w)
	})
}

// parseValue reads a value in hex, or the file that @ stands before.
func parseValue(text string) ([]byte, error) {
	if path, ok := strings.CutPrefix(text, "@"); ok {
		value, err := os.ReadFile(path)
		if err != nil {
			return nil, &exitError{exitInput, err}
		}
		return value, nil
	}
	value, err := hex.DecodeString(strings.TrimPrefix(text, "0x"))
	if err != nil {
		return nil, usageError("value %.40q is not hex (a file's bytes: @FILE)", text)
	}
	return value, nil
}

func newDraftDel(e *env) *cobra.Command {
	c := &draftCommand{}
	cmd := &cobra.Command{
		Use: "del ID KEY...", Short: "Remove keys in a draft, all or none",
		Args: arguments(cobra.MinimumNArgs(2)), Example: "  accessor draft del $ID account:7",
	}
	return c.command(e, cmd, false, func(ctx context.Context, cl *client.Client, args []string) error {
		var w client.WriteSet
		for _, text := range args[1:] {
			key, err := parseKey(text)
			if err != nil {
				return err
			}
			w.Dels = append(w.Dels, key)
		}
		return cl.Draft(args[0]).Write(ctx, w)
	})
}

func newDraftRenew(e *env) *cobra.Command {
	c := &draftCommand{}
	var ttl time.Duration
	cmd := &cobra.Command{
		Use: "renew [--ttl TIME] ID", Short: "Let a draft's lease last longer",
		Args: arguments(cobra.ExactArgs(1)), Example: "  accessor draft renew --ttl 60s $ID",
	}
	c.command(e, cmd, true, func(ctx context.Context, cl *client.Client, args []string) error {
		info, err := cl.Draft(args[0]).Renew(ctx, ttl)
		if err != nil {
			return err
		}
		return c.show(&info)
	})
	cmd.Flags().DurationVar(&ttl, "ttl", 30*time.Second, "how long the lease lasts from now, at most 60s")
	return cmd
}

func newDraftCommit(e *env) *cobra.Command {
	c := &draftCommand{}
	var hash, root, header string
	cmd := &cobra.Command{
		Use: "commit ID --hash HASH", Short: "Import a draft as a block",
		Long: `Imports a draft as the block with that hash, and prints it with the root that came out.
With --root another root is refused, exit status 1; the draft then stays as it was.`,
		Args: arguments(cobra.ExactArgs(1)), Example: "  accessor draft commit $ID --hash 7b0f… --root 19c2…",
	}
	c.command(e, cmd, true, func(ctx context.Context, cl *client.Client, args []string) error {
		var opts client.CommitOptions
		var err error
		if hash == "" {
			return usageError("no hash given: use --hash HASH, that of the block's header")
		}
		if opts.Hash, err = forks.ParseHash(hash); err != nil {
			return usageError("--hash: %w", err)
		}
		if root != "" {
			h, err := forks.ParseHash(root)
			if err != nil {
				return usageError("--root: %w", err)
			}
			opts.PostRoot = &h
		}
		if header != "" {
			if opts.Header, err = parseValue(header); err != nil {
				return err
			}
		}
		done, err := cl.Draft(args[0]).Commit(ctx, opts)
		if err != nil {
			return err
		}
		if c.json {
			return json.NewEncoder(c.stdout).Encode(done)
		}
		fmt.Fprintln(c.stdout, about{Block: done.Hash, Slot: done.Slot, Root: done.Root})
		return nil
	})
	f := cmd.Flags()
	f.StringVar(&hash, "hash", "", "the block's header hash")
	f.StringVar(&root, "root", "", "the state root that must come out")
	f.StringVar(&header, "header", "", "the encoded header in hex, or @FILE, which is checked and kept")
	return cmd
}

func newDraftDrop(e *env) *cobra.Command {
	c := &draftCommand{}
	cmd := &cobra.Command{
		Use: "drop ID...", Short: "Drop drafts", Args: arguments(cobra.MinimumNArgs(1)), Example: "  accessor draft drop $ID",
	}
	return c.command(e, cmd, false, func(ctx context.Context, cl *client.Client, args []string) error {
		for _, id := range args {
			if err := cl.Draft(id).Drop(ctx); err != nil {
				return err
			}
		}
		return nil
	})
}

package main

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"accessor/api/client"
	"accessor/forks"
)

// daCommand is a command below `accessor da`.
type daCommand struct {
	*target
	json   bool
	output string
}

func newDA(e *env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "da",
		Short: "Get and put items by their hash, and erasure-coded work packages",
		Long: `Items are preimages, work-package bundles and segments, by their BLAKE2b-256 hash. A
running sidecar keeps some, where its configuration says so, and asks its peers for others
(docs/SERVE.md, Peers). What comes is checked by its hash.

A work package is encoded into shards, of which any 2 of 6, or 342 of 1,023, give it again,
wherever they are kept. Its spec, a file of JSON, is what a reader trusts.`,
		Example: `  HASH=$(accessor da put preimage)
  accessor da get $HASH -o same
  accessor da encode --shards 6 --keep 0,3 --json bundle > spec.json
  accessor da bundle spec.json -o bundle`,
		Args: noSuchCommand,
		RunE: showHelp,
	}
	cmd.AddCommand(newDAGet(e), newDAPut(e), newDAEncode(e), newDABundle(e), newDASegment(e), newDAShard(e))
	return cmd
}

// command gives a command its flags, and what it does with a client.
func (c *daCommand) command(e *env, cmd *cobra.Command, f func(ctx context.Context, cl *client.Client, args []string) error) *cobra.Command {
	c.target = e.targetFlags(cmd)
	cmd.Flags().BoolVar(&c.json, "json", false, "print one JSON object, bytes in hex")
	if strings.Contains(cmd.Use, "FILE") {
		cmd.ValidArgsFunction = nil // files
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if c.data != "" && c.socket == "" {
			return usageError("items are a running sidecar's, and its peers': start accessor serve --data %s, and use --socket", c.data)
		}
		return c.ask(cmd, func(ctx context.Context, cl *client.Client) error { return daError(f(ctx, cl, args)) })
	}
	return cmd
}

// getting is command for what prints bytes: they go to a file, a pipe, or into JSON.
func (c *daCommand) getting(e *env, cmd *cobra.Command, f func(ctx context.Context, cl *client.Client, args []string) error) *cobra.Command {
	c.command(e, cmd, func(ctx context.Context, cl *client.Client, args []string) error {
		if c.output == "" && !c.json && isTerminal(c.stdout) {
			return usageError("%s: bytes are not for a terminal: use --output FILE or --json", cmd.CommandPath())
		}
		return f(ctx, cl, args)
	})
	cmd.Flags().StringVarP(&c.output, "output", "o", "", "write to this file, which must not exist")
	return cmd
}

// give writes bytes, or with --json what describes them.
func (c *daCommand) give(b []byte, described map[string]any) error {
	if !c.json {
		return c.writeOut(c.output, b)
	}
	text, err := json.Marshal(described)
	if err != nil {
		return err
	}
	return c.writeOut(c.output, append(text, '\n'))
}

func newDAGet(e *env) *cobra.Command {
	c := &daCommand{}
	cmd := &cobra.Command{
		Use: "get HASH", Short: "Print an item, from the sidecar's store or its peers",
		Long: `Prints the bytes of an item, whose hash is checked. Exit status 1 where nobody who could
be asked has it, 3 where the sidecar's peers could not be asked: then it may exist.`,
		Args: arguments(cobra.ExactArgs(1)), Example: "  accessor da get $HASH -o preimage\n  accessor da get --json $HASH",
	}
	return c.getting(e, cmd, func(ctx context.Context, cl *client.Client, args []string) error {
		hash, err := forks.ParseHash(args[0])
		if err != nil {
			return usageError("not an item's hash: %w", err)
		}
		item, err := cl.Item(ctx, hash)
		if err != nil {
			return err
		}
		return c.give(item, map[string]any{"hash": hash, "item": hex.EncodeToString(item)})
	})
}

func newDAPut(e *env) *cobra.Command {
	c := &daCommand{}
	cmd := &cobra.Command{
		Use: "put FILE|-", Short: "Have the sidecar keep an item, and print its hash",
		Long: `Has the sidecar keep the bytes of a file, or of standard input, as an item for a time, for
its readers and its peers, and prints the hash. Others may take its place later.`,
		Args: arguments(cobra.ExactArgs(1)), Example: "  accessor da put preimage\n  printf hello | accessor da put -",
	}
	return c.command(e, cmd, func(ctx context.Context, cl *client.Client, args []string) error {
		item, err := c.readInput(args[0], client.MaxItem)
		if err != nil {
			return err
		}
		hash, err := cl.PutItem(ctx, item)
		if err != nil {
			return err
		}
		if c.json {
			return json.NewEncoder(c.stdout).Encode(map[string]any{"hash": hash, "bytes": len(item)})
		}
		_, err = fmt.Fprintln(c.stdout, hash)
		return err
	})
}

// daError says what is wrong where the kind of an error means something of its own here.
func daError(err error) error {
	var e *client.Error
	if !errors.As(err, &e) {
		return err
	}
	switch e.Kind {
	case client.ErrMethodNotAllowed, client.ErrNotFound:
		return &exitError{exitStore, errors.New("the sidecar has nothing of that: its configuration has no [da] (docs/SERVE.md, Peers), or it is older than this program")}
	case client.ErrTooLarge:
		return &exitError{exitDiffers, fmt.Errorf("the sidecar keeps nothing so large: %s", strings.Map(printable, e.Detail))}
	case client.ErrBadBody: // whoever made the shard did it wrongly
		return &exitError{exitDiffers, errors.New(strings.Map(printable, e.Detail))}
	}
	return err
}

package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"accessor/forks"
	"accessor/replay"
	"accessor/state"
	"accessor/statefile"
	"accessor/trace"
)

// exportCommand is `accessor export`.
type exportCommand struct {
	*env
	data, at, format, output string
	branch, force            bool
}

func newExport(e *env) *cobra.Command {
	c := &exportCommand{env: e}
	cmd := &cobra.Command{
		Use:   "export --data DIR [--at BLOCK] [--branch] [-o FILE]",
		Short: "Write the whole state at a block, or a branch, to a file",
		Long: `Writes the whole state at a block, with the block's hash, slot and root, in a form
that accessor init makes a store of: lines of JSON, or binary with --format binary
(docs/FORMAT.md, State files). It is a stream: a state may have any size.

With --branch it writes a recorded chain instead (docs/JAMTRACE.md): the store's
anchor with its whole state, and the blocks from there up to the one that --at
names, for accessor replay. The anchor's state must fit into memory, and into a
line of 256 MiB.

FILE is compressed where it ends in .zst or .gz. It is written as FILE.tmp and gets
its name when it is whole; a file that is there is replaced only with --force. The
block is named on standard error.`,
		Example: `  accessor export --data /var/lib/accessor --at finalized -o state.ndjson.zst
  accessor export --data /tmp/chain --at 0x2bf11dc5 --format binary | sha256sum
  accessor export --data /tmp/chain --branch --at head -o branch.jsonl.zst`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.run(cmd.Context(), cmd.Flags().Changed("format"))
		},
	}
	f := cmd.Flags()
	f.StringVar(&c.data, "data", "", "directory of the store")
	f.StringVar(&c.at, "at", "head", "block (see accessor --help)")
	f.StringVar(&c.format, "format", "ndjson", "form of the state: ndjson or binary")
	f.BoolVar(&c.branch, "branch", false, "write a recorded chain up to the block")
	f.StringVarP(&c.output, "output", "o", "-", "write to this file; - is standard output")
	f.BoolVar(&c.force, "force", false, "replace the file where it is there")
	return cmd
}

func (c *exportCommand) run(ctx context.Context, formatGiven bool) error {
	form, ok := statefile.ParseForm(c.format)
	switch {
	case !ok:
		return usageError("--format %q: want ndjson or binary", c.format)
	case c.branch && formatGiven:
		return usageError("--branch has a form of its own: use it without --format")
	case form == statefile.Binary && c.output == "-" && isTerminal(c.stdout):
		return usageError("export: a binary state is not for a terminal: use --output FILE or --format ndjson")
	}
	acc, done, err := c.openStore(c.data)
	if err != nil {
		return err
	}
	defer done()
	b, err := acc.Resolve(c.at)
	if err != nil {
		return err
	}
	out, err := c.createOutput(c.output, c.force)
	if err != nil {
		return err
	}
	defer out.abort()
	if c.branch {
		err = c.writeBranch(ctx, acc, b, out)
	} else {
		err = c.writeState(ctx, acc, b, form, out)
	}
	if err != nil {
		return err
	}
	return out.commit()
}

func (c *exportCommand) progress() *progress {
	return newProgress(c.stderr, filepath.Base(c.data))
}

func (c *exportCommand) writeState(ctx context.Context, acc *state.Accessor, b forks.Block, form statefile.Form, out *output) error {
	v, err := acc.View(ctx, b.Hash)
	if err != nil {
		return err
	}
	defer v.Close()
	w, err := statefile.NewWriter(out, form, statefile.Header{
		Hash: b.Hash, Slot: b.Slot, Root: b.Root, Commitment: acc.Commitment().Name(),
	})
	if err != nil {
		return err
	}
	bar := c.progress()
	defer bar.done()
	for pair, err := range v.All(nil, nil) {
		if err != nil {
			return err
		}
		if err := w.Put(pair.Key, pair.Value); err != nil {
			return err
		}
		if w.Pairs()%pairsAStep == 0 {
			if err := context.Cause(ctx); err != nil {
				return err
			}
			bar.set("write state", int64(w.Pairs()), 0) // nobody knows how many there are
		}
	}
	if err := w.Close(); err != nil {
		return err
	}
	bar.done()
	fmt.Fprintf(c.stderr, "at %s: %d pairs\n", aboutBlock(b), w.Pairs())
	return nil
}

func (c *exportCommand) writeBranch(ctx context.Context, acc *state.Accessor, b forks.Block, out *output) error {
	w := trace.NewWriter(out)
	bar := c.progress()
	defer bar.done()
	blocks := int64(0)
	err := replay.WriteBranch(ctx, acc, b.Hash, w, func(done, all int64) {
		blocks = done
		bar.set("write blocks", done, all)
	})
	if err == nil {
		err = w.Close()
	}
	if errors.Is(err, trace.ErrTooLong) {
		return usageError("%w: export the states at its blocks instead, without --branch", err)
	}
	if err != nil {
		return err
	}
	bar.done()
	fmt.Fprintf(c.stderr, "up to %s: %d blocks\n", aboutBlock(b), blocks)
	return nil
}

package main

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"

	"github.com/spf13/cobra"

	"accessor/trace"
)

func newTrace(e *env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "trace",
		Short: "Make recorded chains",
		Args:  noSuchCommand,
		RunE:  showHelp,
	}
	cmd.AddCommand(newTraceGenerate(e))
	return cmd
}

func newTraceGenerate(e *env) *cobra.Command {
	opts := trace.GenerateOptions{}
	cmd := &cobra.Command{
		Use:   "generate [flags] FILE|-",
		Short: "Make a chain up, with forks and bad blocks, for tests and load",
		Long: `Makes up a chain in the form of JAM's and writes it as jamtrace/1, compressed where
FILE ends in .zst or .gz; - is standard output. Equal flags give equal bytes. The
write sets are exact, the roots right, the headers hash to the blocks' hashes;
nobody signed them.`,
		Example: `  accessor trace generate --seed 7 --blocks 60 --fork-every 8 --rejects 6 chain.jsonl.zst
  accessor trace generate --blocks 500 --keys 20000 --writes 500 - | accessor replay -`,
		Args: arguments(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error { return generate(cmd.Context(), e, opts, args[0]) },
	}
	f := cmd.Flags()
	f.StringVar(&opts.Name, "name", "generated", "name in the recording")
	f.Uint64Var(&opts.Seed, "seed", 1, "seed of the chain")
	f.IntVar(&opts.Blocks, "blocks", 100, "blocks that are imported")
	f.IntVar(&opts.Keys, "keys", 200, "service items in the first state")
	f.IntVar(&opts.Writes, "writes", 10, "service items that a block writes or deletes")
	f.IntVar(&opts.ValueSize, "value-size", 400, "bytes of the largest values")
	f.IntVar(&opts.ForkEvery, "fork-every", 10, "about one block in so many starts a fork; 0: none")
	f.IntVar(&opts.ForkDepth, "fork-depth", 4, "a fork starts at most so many blocks above a leaf")
	f.BoolVar(&opts.SameSlot, "same-slot", false, "all siblings share a slot; otherwise most do")
	f.IntVar(&opts.Rejects, "rejects", 0, "bad blocks between the others, of every kind in turn")
	f.BoolVar(&opts.NoRoots, "no-roots", false, "leave the roots zero, for large states (replay with --commitment none)")
	return cmd
}

func generate(ctx context.Context, e *env, opts trace.GenerateOptions, path string) error {
	if path == "-" {
		w := trace.NewWriter(e.stdout)
		if err := trace.Generate(w, opts, nil); err != nil {
			return generateError(err)
		}
		return w.Close()
	}
	w, err := trace.Create(path)
	if errors.Is(err, fs.ErrExist) {
		return usageError("%w: it is not overwritten", err)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return usageError("no folder %s", filepath.Dir(path))
	}
	if err != nil {
		return err
	}
	bar := newProgress(e.stderr, path)
	defer bar.done()
	err = trace.Generate(w, opts, func(done, all int) { bar.set("generate", int64(done), int64(all)) })
	if err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		w.Abort()
		return generateError(err)
	}
	return w.Close()
}

func generateError(err error) error {
	if errors.Is(err, trace.ErrOptions) {
		return usageError("%w", err)
	}
	return err
}

package main

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"path/filepath"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"accessor/checkpoint"
	"accessor/forks"
	"accessor/state"
	"accessor/statefile"
)

// initCommand is `accessor init`.
type initCommand struct {
	*env
	data, hash, root, commitment string
	slot                         uint32
	slotGiven                    bool
}

func newInit(e *env) *cobra.Command {
	c := &initCommand{env: e}
	cmd := &cobra.Command{
		Use:   "init --data DIR [--hash HASH --slot N --root ROOT] FILE|-",
		Short: "Make a store from a whole state",
		Long: `Makes a store whose anchor is a block with its whole state, which is read from FILE
as a stream; - is standard input. It has one of the forms that accessor export
writes (docs/FORMAT.md, State files), plain or compressed with zstd or gzip. DIR
must be missing or empty.

The header of FILE says which block it is. What is given by a flag too must agree
with it: a root that you trust, above all. Lines of ["key","value"] alone, without
a header, need --hash, --slot and --root.

The root is computed from the state and compared before anything counts, unless
the commitment is none. After an error or an interruption the command can be run
again; where it then says that there is a store already, that store is whole.`,
		Example: `  accessor init --data /var/lib/accessor state.ndjson.zst
  accessor init --data /tmp/chain --hash 6e75…9c --slot 42 --root 19c2…f0 pairs.ndjson
  accessor export --data /tmp/chain --at 42 --format binary | accessor init --data /tmp/other -`,
		Args: arguments(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			c.slotGiven = cmd.Flags().Changed("slot")
			return c.run(cmd.Context(), args[0])
		},
	}
	f := cmd.Flags()
	f.StringVar(&c.data, "data", "", "directory of the store to make")
	f.StringVar(&c.hash, "hash", "", "hash of the block, 64 hex digits (default: the file's)")
	f.Uint32Var(&c.slot, "slot", 0, "slot of the block (default: the file's)")
	f.StringVar(&c.root, "root", "", "root of the state, 64 hex digits (default: the file's)")
	f.StringVar(&c.commitment, "commitment", "", "state commitment: jam, or none: the root is not checked (default: the file's, or jam)")
	return cmd
}

func (c *initCommand) run(ctx context.Context, input string) error {
	if c.data == "" {
		return usageError("no store given: use --data DIR")
	}
	given, err := c.given()
	if err != nil {
		return err
	}
	log, err := c.logger()
	if err != nil {
		return err
	}
	// Without roots only an end line shows that pairs alone are all there.
	in, err := c.open(input, statefile.Options{RequireEnd: c.commitment == state.None{}.Name()})
	if err != nil {
		return &exitError{exitInput, err}
	}
	defer in.Close()
	header, err := settle(input, in.Header(), given)
	if err != nil {
		return err
	}
	commitment, ok := state.CommitmentByName(header.Commitment)
	if !ok {
		return &exitError{exitInput, fmt.Errorf("%s: commitment %q, which this program doesn't know", input, header.Commitment)}
	}
	made, err := c.create(ctx, in, header, commitment, log)
	if err != nil {
		return initError(err)
	}
	fmt.Fprintf(c.stdout, "%s: %d pairs\n", aboutBlock(made), in.Pairs())
	return nil
}

func (c *initCommand) open(input string, opts statefile.Options) (*statefile.Reader, error) {
	if input == "-" {
		return statefile.NewReader("-", c.stdin, 0, opts)
	}
	return statefile.Open(input, opts)
}

// givenHeader is what the flags say about the state; nil and empty: nothing.
type givenHeader struct {
	hash, root *forks.Hash
	slot       *forks.Slot
	commitment string
}

func (c *initCommand) given() (g givenHeader, err error) {
	for _, flag := range []struct {
		name, text string
		into       **forks.Hash
	}{{"hash", c.hash, &g.hash}, {"root", c.root, &g.root}} {
		if flag.text == "" {
			continue
		}
		h, err := forks.ParseHash(flag.text)
		if err != nil {
			return g, usageError("--%s: %w", flag.name, err)
		}
		*flag.into = &h
	}
	if c.slotGiven {
		slot := forks.Slot(c.slot)
		g.slot = &slot
	}
	if _, ok := state.CommitmentByName(c.commitment); !ok && c.commitment != "" {
		return g, usageError("--commitment %q: want jam or none", c.commitment)
	}
	g.commitment = c.commitment
	return g, nil
}

// settle brings together what the file and the flags say.
func settle(input string, file *statefile.Header, given givenHeader) (h statefile.Header, err error) {
	if file == nil {
		h.Commitment = given.commitment
		if h.Commitment == "" {
			h.Commitment = state.JAM{}.Name()
		}
		if given.hash == nil || given.slot == nil || given.root == nil {
			return h, usageError("%s has no header: say by --hash, --slot and --root which block's state it is", input)
		}
		h.Hash, h.Slot, h.Root = *given.hash, *given.slot, *given.root
		return h, nil
	}
	h = *file
	disagree := func(flag string, given, file any) error {
		return usageError("--%s is %v, %s says %v: it is the state of another block, or the flag is wrong", flag, given, input, file)
	}
	switch {
	case given.hash != nil && *given.hash != h.Hash:
		err = disagree("hash", *given.hash, h.Hash)
	case given.slot != nil && *given.slot != h.Slot:
		err = disagree("slot", *given.slot, h.Slot)
	case given.root != nil && *given.root != h.Root:
		err = disagree("root", *given.root, h.Root)
	case given.commitment != "" && given.commitment != h.Commitment:
		err = disagree("commitment", given.commitment, h.Commitment)
	}
	return h, err
}

// create makes the store and gives its anchor.
func (c *initCommand) create(ctx context.Context, in *statefile.Reader, h statefile.Header, commitment state.Commitment, log *zap.Logger) (forks.Block, error) {
	engine := newEngine()
	defer engine.Close()
	bar := newProgress(c.stderr, filepath.Base(c.data))
	defer bar.done()
	acc, err := state.Create(
		state.Config{Dir: c.data, Engine: engine, Commitment: commitment, Owner: "init", Log: log,
			Retention: state.Retention{All: true}},
		state.Anchor{Hash: h.Hash, Slot: h.Slot, Root: h.Root, Pairs: readPairs(ctx, in, bar)},
	)
	if err != nil {
		return forks.Block{}, err
	}
	return acc.Anchor(), acc.Close()
}

// pairsAStep is after how many pairs progress is shown and interruptions are seen.
const pairsAStep = 1024

// readPairs yields a file's pairs until the context ends.
func readPairs(ctx context.Context, in *statefile.Reader, bar *progress) iter.Seq2[state.Pair, error] {
	return func(yield func(state.Pair, error) bool) {
		for pair, err := range in.All() {
			if err == nil && in.Pairs()%pairsAStep == 0 {
				done, all := in.Progress()
				bar.set("read state", done, all)
				err = context.Cause(ctx)
			}
			if !yield(pair, err) || err != nil {
				return
			}
		}
		bar.set("make checkpoint", 0, 0)
	}
}

// initError tells what is wrong with the input from what is with the store.
func initError(err error) error {
	var input *statefile.Error
	if errors.As(err, &input) || errors.Is(err, state.ErrWrongRoot) || errors.Is(err, state.ErrInvalid) ||
		errors.Is(err, checkpoint.ErrLimit) {
		return &exitError{exitInput, err}
	}
	return err
}

package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"accessor/checkpoint"
	"accessor/checkpoint/rocks"
	"accessor/replay"
	"accessor/state"
	"accessor/trace"
)

// replayCommand is `accessor replay`.
type replayCommand struct {
	*env
	data       string
	json       bool
	verify     string
	order      string
	commitment string

	store   checkpoint.Options // of stores that are opened or made
	several bool
	engine  *rocks.Engine
	log     *zap.Logger
	used    map[string]string // stores used in this run, and by which input
}

func newReplay(e *env) *cobra.Command {
	c := &replayCommand{env: e}
	cmd := &cobra.Command{
		Use:   "replay [flags] FILE|DIR|-...",
		Short: "Import a recorded chain with its forks, and verify every root",
		Long: `Imports recorded chains block by block, the way a node would, and checks that all
comes out as recorded: what is held, what is refused, every state root and, with
--verify states, every whole state.

FILE is a jamtrace/1 file (.jsonl, .jsonl.zst, .jsonl.gz); - is one on standard
input. DIR with NNNNNNNN.bin files is one input, of published JAM step files; a
DIR without is searched for traces, each an input of its own.

Without --data the store is temporary. With it, blocks that the store holds
already are checked and counted as held. A store holds one tree from one anchor:
with several inputs, each gets its own, DIR/NAME.

Rejected blocks are judged as far as a store can: by parent, slot, prior root
and, where the record has the write set, the root after it. Others are skipped.`,
		Example: `  accessor replay chain.jsonl.zst
  accessor replay --data /tmp/chain --verify states chain.jsonl.zst
  zstdcat chain.jsonl.zst | accessor replay --json -`,
		Args: arguments(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error { return c.run(cmd.Context(), args) },
	}
	f := cmd.Flags()
	f.StringVar(&c.data, "data", "", "directory of the store (default: a temporary one)")
	f.BoolVar(&c.json, "json", false, "print one JSON object per input, a line each")
	f.StringVar(&c.verify, "verify", "roots", "what to verify: roots, or states (reads every state back)")
	f.StringVar(&c.order, "order", "file", "order of import: file, or branch (depth first, rejects last)")
	f.StringVar(&c.commitment, "commitment", "jam", "state commitment of a new store: jam, or none (roots are not checked)")
	return cmd
}

func (c *replayCommand) run(ctx context.Context, args []string) error {
	if err := c.checkFlags(); err != nil {
		return err
	}
	inputs, err := findInputs(args)
	if err != nil {
		return err
	}
	if c.log, err = c.logger(); err != nil {
		return err
	}
	c.several = len(inputs) > 1
	c.used = make(map[string]string)
	c.engine = newEngine()
	defer c.engine.Close()

	worst := exitOK
	for _, input := range inputs {
		status, err := c.replayOne(ctx, input)
		if err != nil {
			return err
		}
		worst = max(worst, status)
		if ctx.Err() != nil {
			break
		}
	}
	if worst != exitOK {
		return &exitError{status: worst}
	}
	return nil
}

func (c *replayCommand) checkFlags() error {
	if c.verify != "roots" && c.verify != "states" {
		return usageError("--verify %q: want roots or states", c.verify)
	}
	if c.order != "file" && c.order != "branch" {
		return usageError("--order %q: want file or branch", c.order)
	}
	if _, ok := state.CommitmentByName(c.commitment); !ok {
		return usageError("--commitment %q: want jam or none", c.commitment)
	}
	return nil
}

// findInputs expands folders. An argument that names nothing is an unreadable
// input.
func findInputs(args []string) ([]string, error) {
	var inputs []string
	for _, arg := range args {
		found, err := trace.Find(arg)
		if err != nil {
			return nil, &exitError{exitInput, err}
		}
		inputs = append(inputs, found...)
	}
	if n := slices.Index(inputs, "-"); n >= 0 && slices.Contains(inputs[n+1:], "-") {
		return nil, usageError("standard input (-) is given twice")
	}
	return inputs, nil
}

// replayOne replays an input and prints its report. The error is one that ends
// the whole command.
func (c *replayCommand) replayOne(ctx context.Context, input string) (status int, err error) {
	src, err := c.open(input)
	if err != nil {
		c.complain(input, err)
		return exitInput, nil
	}
	defer src.Close()
	progress := newProgress(c.stderr, filepath.Base(input))
	temp := ""
	defer func() {
		if temp != "" {
			err = cmp.Or(err, removeSealed(temp))
		}
	}()
	open := func(name string, anchor *trace.Anchor) (*state.Accessor, error) {
		dir, err := c.storeDir(name, input)
		if err == nil && c.data == "" {
			temp = dir
		}
		if err != nil {
			return nil, err
		}
		return c.openOrCreate(dir, anchor)
	}
	opts := replay.Options{ByBranch: c.order == "branch", States: c.verify == "states", Progress: progress.set}
	report, err := replay.Run(ctx, src, open, opts, func(acc *state.Accessor, r *replay.Report) {
		progress.done()
		if !c.json && !c.several {
			fmt.Fprint(c.stdout, drawTree(acc, c.painter()))
		}
	})
	progress.done()
	if err != nil && c.json {
		report.Failed(err)
	}
	if err == nil || c.json || report.Opened {
		c.print(report)
	}
	if err != nil {
		c.complain(input, err)
		return statusOf(err), nil
	}
	if len(report.Errors) > 0 {
		return exitDiffers, nil
	}
	return exitOK, nil
}

// removeSealed removes a temporary store, whose checkpoints are read-only.
func removeSealed(dir string) error {
	_ = filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			return os.Chmod(path, 0o755)
		}
		return nil
	})
	return os.RemoveAll(dir)
}

func (c *replayCommand) complain(input string, err error) {
	fmt.Fprintf(c.stderr, "accessor: replay %s: %v\n", input, err)
}

func (c *replayCommand) open(input string) (trace.Source, error) {
	if input == "-" {
		return trace.NewReader("-", c.stdin, 0, trace.Options{})
	}
	return trace.Open(input, trace.Options{})
}

// storeDir gives the directory of the store for an input.
func (c *replayCommand) storeDir(name, input string) (string, error) {
	if c.data == "" {
		return os.MkdirTemp("", "accessor-replay-")
	}
	dir := c.data
	if c.several {
		if _, err := os.Stat(filepath.Join(dir, "FORMAT")); err == nil {
			return "", usageError("--data %s is a store itself: with several inputs, each gets its own in that folder", dir)
		}
		dir = filepath.Join(dir, fileName(name))
	}
	if other, ok := c.used[dir]; ok {
		return "", usageError("%s has the name of %s (%s): replay them one at a time, with a --data each", input, other, name)
	}
	c.used[dir] = input
	return dir, nil
}

// fileName makes a recording's name fit to be a file's.
func fileName(name string) string {
	name = strings.Map(func(r rune) rune {
		if r == '/' || r == 0 || r == '\\' {
			return '_'
		}
		return r
	}, name)
	if name == "" || name == "." || name == ".." || len(name) > 200 {
		return "input"
	}
	return name
}

// openOrCreate opens the store in dir, or makes it from the anchor.
func (c *replayCommand) openOrCreate(dir string, anchor *trace.Anchor) (*state.Accessor, error) {
	commitment, _ := state.CommitmentByName(c.commitment)
	cfg := state.Config{Dir: dir, Engine: c.engine, Commitment: commitment, Store: c.store, Owner: "replay", Log: c.log,
		Retention: state.Retention{All: true}}
	acc, err := state.Open(cfg)
	if errors.Is(err, checkpoint.ErrEmpty) {
		acc, err = state.Create(cfg, state.Anchor{
			Hash: anchor.Hash, Slot: anchor.Slot, Root: anchor.Root, Header: anchor.Header,
			Pairs: func(yield func(state.Pair, error) bool) {
				for _, p := range anchor.Pairs {
					if !yield(p, nil) {
						return
					}
				}
			},
		})
	}
	switch {
	case errors.Is(err, state.ErrWrongRoot), errors.Is(err, state.ErrInvalid):
		return nil, fmt.Errorf("%w: %w", replay.ErrInput, err)
	case err != nil:
		return nil, err
	}
	if held := acc.Anchor(); held.Hash != anchor.Hash || held.Root != anchor.Root {
		err := fmt.Errorf("%w: %s has anchor %s with root %s, the input's is %s with root %s: give it a --data of its own",
			state.ErrOtherAnchor, dir, held.Hash, held.Root, anchor.Hash, anchor.Root)
		return nil, errors.Join(err, acc.Close())
	}
	return acc, nil
}

func (c *replayCommand) print(r *replay.Report) {
	if c.json {
		line, err := json.Marshal(r)
		if err != nil {
			panic(err) // plain fields
		}
		fmt.Fprintf(c.stdout, "%s\n", line)
		return
	}
	c.printText(c.stdout, r)
}

func (c *replayCommand) printText(w io.Writer, r *replay.Report) {
	fmt.Fprintf(w, "%s: %d blocks imported", r.Name, r.Blocks)
	if r.Held > 0 {
		fmt.Fprintf(w, ", %d already held", r.Held)
	}
	fmt.Fprintf(w, ", %d refused, %d skipped; %d leaves, %d forks; %d roots verified",
		r.Refused, r.Skipped, len(r.Leaves), r.Forks, r.RootsVerified)
	if r.StatesVerified > 0 {
		fmt.Fprintf(w, ", %d states", r.StatesVerified)
	}
	if r.WalkBacks > 0 {
		fmt.Fprintf(w, "; %d walk-backs over %d blocks", r.WalkBacks, r.BlocksReplayed)
	}
	fmt.Fprintf(w, "; %.2f s\n", r.Seconds)
	const most = 20
	for i, d := range r.Errors {
		if i == most {
			fmt.Fprintf(w, "  and %d more (see --json)\n", len(r.Errors)-most)
			break
		}
		fmt.Fprintf(w, "  %s\n", d)
	}
}

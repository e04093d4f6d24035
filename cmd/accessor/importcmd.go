package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"accessor/api/client"
	"accessor/internal/packed"
	"accessor/state"
	"accessor/trace"
)

// importCommand is `accessor import`.
type importCommand struct {
	*target
	wait    time.Duration
	waits   bool // --wait was given
	json    bool
	counted importCounts
}

// importCounts are what became of the blocks.
type importCounts struct {
	Imported int `json:"imported"`
	Held     int `json:"held"` // already
	Refused  int `json:"refused"`
	Skipped  int `json:"skipped"` // rejected ones of recordings
}

func newImport(e *env) *cobra.Command {
	c := &importCommand{}
	cmd := &cobra.Command{
		Use:   "import FILE|DIR|-...",
		Short: "Import blocks",
		Long: `Imports blocks, one after the other. FILE is a recorded chain (jamtrace/1; of it the
blocks count, not those that it has as rejected), or blocks alone, a line of JSON each
as POST /v1/blocks takes them; either may be compressed with zstd or gzip. DIR is a
folder of published JAM step files, or is searched for recordings; - is standard input.

A block that is held already is counted as such. One that is refused is told, the
others go on; the exit status is then 1. accessor replay makes a store of a recording,
and compares it with that.`,
		Example: `  accessor import chain.jsonl.zst
  tail -n 3 blocks.ndjson | accessor import --wait 2s -`,
		Args: arguments(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			inputs, err := findInputs(args)
			if err != nil {
				return err
			}
			if c.waits = cmd.Flags().Changed("wait"); c.wait < 0 {
				return usageError("--wait is %v, want 0 or more", c.wait)
			}
			return c.ask(cmd, func(ctx context.Context, cl *client.Client) error { return c.run(ctx, cl, inputs) })
		},
	}
	c.target = e.targetFlags(cmd)
	cmd.ValidArgsFunction = nil // files
	f := cmd.Flags()
	f.DurationVar(&c.wait, "wait", 0, "how long a block may wait for others who import into its slot, or its parent (default: as long as it takes)")
	f.BoolVar(&c.json, "json", false, "print one JSON object per block, and one at the end")
	return cmd
}

func (c *importCommand) run(ctx context.Context, cl *client.Client, inputs []string) error {
	for _, input := range inputs {
		if err := c.importOne(ctx, cl, input); err != nil {
			return err
		}
	}
	if err := c.summary(); err != nil {
		return err
	}
	if c.counted.Refused > 0 {
		return &exitError{status: exitDiffers}
	}
	return nil
}

func (c *importCommand) summary() error {
	n := c.counted
	if c.json {
		return json.NewEncoder(c.stdout).Encode(struct {
			End importCounts `json:"end"`
		}{n})
	}
	fmt.Fprintf(c.stdout, "%d blocks imported, %d already held, %d refused", n.Imported, n.Held, n.Refused)
	if n.Skipped > 0 {
		fmt.Fprintf(c.stdout, ", %d rejected ones left out", n.Skipped)
	}
	fmt.Fprintln(c.stdout)
	return nil
}

// importOne imports the blocks of an input. A refused one is no error.
func (c *importCommand) importOne(ctx context.Context, cl *client.Client, input string) error {
	src, err := c.openBlocks(input)
	if err != nil {
		return &exitError{exitInput, err}
	}
	defer src.Close()
	bar := newProgress(c.stderr, filepath.Base(input))
	defer func() { bar.done() }()
	for {
		entry, err := src.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return &exitError{exitInput, err}
		}
		b, ok := entry.(*trace.Block)
		if !ok {
			if _, rejected := entry.(*trace.Reject); rejected {
				c.counted.Skipped++
			}
			continue
		}
		done, all := src.Progress()
		bar.set("blocks", done, all)
		told, err := c.send(ctx, cl, &b.Block)
		if err != nil && !refused(err) {
			return fmt.Errorf("%s: block %s: %w", src.Position(), b.Hash, err)
		}
		if err != nil || c.json {
			bar.done() // it would stand in what is printed
			bar = newProgress(c.stderr, filepath.Base(input))
		}
		if err := c.tell(src.Position(), &b.Block, told, err); err != nil {
			return err
		}
	}
}

// send imports one block.
func (c *importCommand) send(ctx context.Context, cl *client.Client, b *state.Block) (client.Imported, error) {
	block := &client.Block{
		Hash: b.Hash, Parent: b.Parent, Slot: b.Slot, PriorRoot: b.PriorRoot, PostRoot: b.PostRoot,
		Puts: make([]client.Pair, len(b.Puts)), Dels: b.Dels, Header: b.Header,
	}
	for i, p := range b.Puts {
		block.Puts[i] = client.Pair(p)
	}
	if c.waits {
		return cl.ImportWithin(ctx, block, c.wait)
	}
	return cl.Import(ctx, block)
}

// refused says whether an import failed for its block, and not for the sidecar.
func refused(err error) bool {
	var e *client.Error
	return errors.As(err, &e) && (statusOfKind[e.Kind] == exitDiffers || e.Kind == client.ErrBadKey ||
		e.Kind == client.ErrBadBody || e.Kind == client.ErrTooLarge)
}

// tell counts what became of a block, and prints it where it was refused, or all is
// printed.
func (c *importCommand) tell(position string, b *state.Block, told client.Imported, err error) error {
	line := struct {
		At string `json:"at"`
		*client.Imported
		Error *client.Error `json:"error,omitempty"`
	}{At: position}
	switch {
	case err != nil:
		c.counted.Refused++
		errors.As(err, &line.Error)
	case told.New:
		c.counted.Imported++
		line.Imported = &told
	default:
		c.counted.Held++
		line.Imported = &told
	}
	switch {
	case c.json:
		return json.NewEncoder(c.stdout).Encode(line)
	case err != nil:
		fmt.Fprintf(c.stdout, "%s: block %s, slot %d: %v\n", position, b.Hash, b.Slot, c.explain(err))
	case told.Unsealed != "":
		fmt.Fprintf(c.stderr, "%s: block %s, slot %d is held without a checkpoint: %s\n", position, b.Hash, b.Slot, told.Unsealed)
	}
	return nil
}

// openBlocks opens an input.
func (c *importCommand) openBlocks(input string) (trace.Source, error) {
	in := c.stdin
	var file io.Closer = io.NopCloser(nil)
	size := int64(0)
	if input != "-" {
		info, err := os.Stat(input)
		if err != nil {
			return nil, err
		}
		if info.IsDir() {
			return trace.Open(input, trace.Options{})
		}
		f, err := os.Open(input)
		if err != nil {
			return nil, err
		}
		in, file, size = f, f, info.Size()
	}
	r, err := packed.NewReader(in)
	if err != nil {
		file.Close()
		return nil, fmt.Errorf("%s: %w", input, err)
	}
	// A recording says so in its first line.
	first := firstLine(r)
	lines := &lineSource{name: input, in: r, size: size, file: file}
	if !bytes.Contains(first, []byte(trace.Format)) {
		return lines, nil
	}
	recording, err := trace.NewReader(input, r, 0, trace.Options{})
	if err != nil {
		lines.Close()
		return nil, err
	}
	return &recordingSource{recording, lines}, nil
}

// firstLine looks at the first line, or as much of it as matters. It doesn't wait for
// more: what comes through a pipe may come block by block.
func firstLine(r *packed.Reader) []byte {
	const most = 4096
	for n := 1; ; n = r.Buffered() + 1 {
		_, err := r.Peek(n)
		begin, _ := r.Peek(min(r.Buffered(), most)) // it is there
		first, _, whole := bytes.Cut(begin, []byte("\n"))
		if whole || err != nil || len(begin) == most {
			return first
		}
	}
}

// recordingSource is a recording whose beginning had to be looked at.
type recordingSource struct {
	trace.Source
	lines *lineSource
}

// Progress implements trace.Source: of what is stored.
func (s *recordingSource) Progress() (done, total int64) { return s.lines.Progress() }

// Close implements trace.Source.
func (s *recordingSource) Close() error { return errors.Join(s.Source.Close(), s.lines.Close()) }

// lineSource gives blocks that are lines of JSON, as POST /v1/blocks takes them.
type lineSource struct {
	name string
	in   *packed.Reader
	size int64 // as stored; 0 where nobody knows
	file io.Closer
	line int
}

// Name implements trace.Source.
func (s *lineSource) Name() string { return s.name }

// Position implements trace.Source.
func (s *lineSource) Position() string { return fmt.Sprintf("%s:%d", s.name, s.line) }

// Progress implements trace.Source.
func (s *lineSource) Progress() (done, total int64) { return s.in.Stored(), s.size }

// Close implements trace.Source.
func (s *lineSource) Close() error {
	s.in.Close()
	return s.file.Close()
}

// Next implements trace.Source; empty lines are passed over.
func (s *lineSource) Next() (trace.Entry, error) {
	for {
		s.line++
		text, err := s.read()
		if err != nil && (!errors.Is(err, io.EOF) || len(text) == 0) {
			return nil, err
		}
		if text = bytes.TrimSpace(text); len(text) == 0 {
			continue
		}
		b, err := trace.ParseBlock(text)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", s.Position(), err)
		}
		return &trace.Block{Seq: s.line, Block: *b}, nil
	}
}

// read gives the next line; the last one perhaps with io.EOF.
func (s *lineSource) read() (text []byte, err error) {
	for {
		part, err := s.in.ReadSlice('\n')
		text = append(text, part...)
		switch {
		case int64(len(text)) > trace.DefaultOptions.LineLimit:
			return nil, fmt.Errorf("%s: a line of more than %d bytes", s.Position(), trace.DefaultOptions.LineLimit)
		case errors.Is(err, bufio.ErrBufferFull):
		case err == nil, errors.Is(err, io.EOF):
			return text, err
		default:
			return nil, fmt.Errorf("%s: %w", s.Position(), err)
		}
	}
}

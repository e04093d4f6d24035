package main

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"accessor/api/client"
)

const (
	maxSpec     = 64 << 10                  // bytes of a spec's file
	maxShard    = 32 << 20                  // and of a shard's
	maxSegments = 3072 * client.SegmentSize // that a work package exports
)

func newDAEncode(e *env) *cobra.Command {
	c := &daCommand{}
	var shards int
	var segments, keep string
	cmd := &cobra.Command{
		Use: "encode --shards 6|1023 [--segments FILE] BUNDLE-FILE", Short: "Encode a work package into shards, and print its spec",
		Long: `Has the sidecar encode a work package: the bundle in a file (- is standard input), and
exported segments of 4,104 bytes each, one after another in another file. Prints the spec
(JAM's availability specifier): who trusts it can get bundle and segments from any 2 of 6
shards, or 342 of 1,023, wherever they are kept. The sidecar keeps, and serves, those of
--keep; where there is no room for all, none.`,
		Example: "  accessor da encode --shards 6 --keep all --json bundle > spec.json\n  accessor da encode --shards 1023 --keep 0,3 --segments segments bundle",
		Args:    arguments(cobra.ExactArgs(1)),
	}
	c.command(e, cmd, func(ctx context.Context, cl *client.Client, args []string) error {
		list, err := parseKeep(keep)
		if err != nil {
			return err
		}
		if shards != 6 && shards != 1023 {
			return usageError("give --shards 1023, or --shards 6 for the tiny chain")
		}
		if segments == "-" && args[0] == "-" {
			return usageError("standard input is the bundle or the segments, not both")
		}
		bundle, err := c.readInput(args[0], client.MaxItem)
		if err != nil {
			return err
		}
		exported, err := c.readSegments(segments)
		if err != nil {
			return err
		}
		spec, err := cl.Encode(ctx, shards, bundle, exported, list)
		if err != nil {
			return err
		}
		return c.showSpec(spec)
	})
	f := cmd.Flags()
	f.IntVar(&shards, "shards", 0, "how many shards: 1023, or 6 of the tiny chain")
	f.StringVar(&segments, "segments", "", "file with the exported segments; - is standard input")
	f.StringVar(&keep, "keep", "", "shards that this sidecar keeps: all, or indices with commas between (default: none)")
	_ = cmd.RegisterFlagCompletionFunc("shards", cobra.FixedCompletions([]string{"6", "1023"}, cobra.ShellCompDirectiveNoFileComp)) // the flag is there
	_ = cmd.RegisterFlagCompletionFunc("keep", cobra.FixedCompletions([]string{"all"}, cobra.ShellCompDirectiveNoFileComp))         // and this one
	return cmd
}

// parseKeep reads which shards are kept.
func parseKeep(text string) (list []int, err error) {
	switch text {
	case "":
		return nil, nil
	case "all":
		return client.KeepAll, nil
	}
	for one := range strings.SplitSeq(text, ",") {
		i, err := parseIndex(one)
		if err != nil {
			return nil, usageError("--keep: %w; want all, or indices with commas between", err)
		}
		list = append(list, i)
	}
	return list, nil
}

func parseIndex(text string) (int, error) {
	i, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return 0, usageError("%.40q is not an index: a number from 0", text)
	}
	return int(i), nil
}

// readSegments reads a file of exported segments; no file has none.
func (c *daCommand) readSegments(path string) ([][]byte, error) {
	if path == "" {
		return nil, nil
	}
	text, err := c.readInput(path, maxSegments)
	if err != nil {
		return nil, err
	}
	if len(text)%client.SegmentSize != 0 {
		return nil, &exitError{exitInput, fmt.Errorf("%s: %d bytes are no segments, of %d bytes each", path, len(text), client.SegmentSize)}
	}
	return slices.Collect(slices.Chunk(text, client.SegmentSize)), nil
}

func (c *daCommand) showSpec(s client.ErasureSpec) error {
	if c.json {
		return json.NewEncoder(c.stdout).Encode(s)
	}
	_, err := fmt.Fprintf(c.stdout, "erasure root   %s\nshards         %d\nbundle         %d bytes, %s\nsegments       %d\nsegments root  %s\n",
		s.ErasureRoot, s.Shards, s.BundleLength, s.BundleHash, s.Segments, s.SegmentsRoot)
	return err
}

// readSpec reads a spec's JSON.
func (c *daCommand) readSpec(path string) (spec client.ErasureSpec, err error) {
	text, err := c.readInput(path, maxSpec)
	if err != nil {
		return spec, err
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err = d.Decode(&spec); err == nil && spec.Shards == 0 {
		err = errors.New("it doesn't say how many shards there are")
	}
	if err != nil {
		return spec, &exitError{exitInput, fmt.Errorf("%s: not a spec, as accessor da encode --json prints one: %w", path, err)}
	}
	return spec, nil
}

func newDABundle(e *env) *cobra.Command {
	c := &daCommand{}
	cmd := &cobra.Command{
		Use: "bundle SPEC-FILE", Short: "Print a work bundle, put together from shards",
		Long: `Prints the bytes of the bundle that a spec is of, put together from shards that the sidecar
keeps, and from peers', and checked. Exit status 1 where all who could be asked have too few
shards, or whoever encoded it did it wrongly; 3 where peers could not be asked.`,
		Example: "  accessor da bundle spec.json -o bundle", Args: arguments(cobra.ExactArgs(1)),
	}
	return c.getting(e, cmd, func(ctx context.Context, cl *client.Client, args []string) error {
		spec, err := c.readSpec(args[0])
		if err != nil {
			return err
		}
		bundle, err := cl.Bundle(ctx, spec)
		if err != nil {
			return err
		}
		return c.give(bundle, map[string]any{"bundle": hex.EncodeToString(bundle)})
	})
}

func newDASegment(e *env) *cobra.Command {
	c := &daCommand{}
	cmd := &cobra.Command{
		Use: "segment SPEC-FILE INDEX", Short: "Print an exported segment, put together from shards",
		Long: `Prints the 4,104 bytes of an exported segment, counted from 0, as accessor da bundle does a
bundle. It is checked by its page of proofs against the spec's segments root.`,
		Example: "  accessor da segment spec.json 0 -o segment", Args: arguments(cobra.ExactArgs(2)),
	}
	return c.getting(e, cmd, func(ctx context.Context, cl *client.Client, args []string) error {
		spec, index, err := c.specAndIndex(args)
		if err != nil {
			return err
		}
		segment, err := cl.Segment(ctx, spec, index)
		if err != nil {
			return err
		}
		return c.give(segment, map[string]any{"index": index, "segment": hex.EncodeToString(segment)})
	})
}

// specAndIndex reads the arguments of what is about a part of a work package.
func (c *daCommand) specAndIndex(args []string) (spec client.ErasureSpec, index int, err error) {
	if index, err = parseIndex(args[1]); err == nil {
		spec, err = c.readSpec(args[0])
	}
	return spec, index, err
}

func newDAShard(e *env) *cobra.Command {
	cmd := &cobra.Command{
		Use: "shard", Short: "Get and put single shards of work packages",
		Long: `A shard is what one of the holders keeps of a work package. Its file has three parts, each
with its length in front (u32, little-endian): the shard of the bundle, those of all
segments and of their pages of proofs, and their justification.`,
		Example: "  accessor da shard get spec.json 3 -o shard3\n  accessor da shard put --socket other.sock spec.json 3 shard3",
		Args:    noSuchCommand, RunE: showHelp,
	}
	cmd.AddCommand(newDAShardGet(e), newDAShardPut(e))
	return cmd
}

func newDAShardGet(e *env) *cobra.Command {
	c := &daCommand{}
	cmd := &cobra.Command{
		Use: "get SPEC-FILE INDEX", Short: "Print a shard that the sidecar keeps itself",
		Long: `Prints a shard that the sidecar keeps; peers are not asked. It is not checked: who is given
it does that. Exit status 1 where the sidecar doesn't keep it.`,
		Example: "  accessor da shard get spec.json 3 -o shard3", Args: arguments(cobra.ExactArgs(2)),
	}
	return c.getting(e, cmd, func(ctx context.Context, cl *client.Client, args []string) error {
		spec, index, err := c.specAndIndex(args)
		if err != nil {
			return err
		}
		s, err := cl.Shard(ctx, spec.ErasureRoot, index)
		if err != nil {
			return err
		}
		return c.give(s.Bytes(), map[string]any{
			"index": index, "bundle": hex.EncodeToString(s.Bundle), "segments": hex.EncodeToString(s.Segments),
			"justification": hex.EncodeToString(s.Justification),
		})
	})
}

func newDAShardPut(e *env) *cobra.Command {
	c := &daCommand{}
	cmd := &cobra.Command{
		Use: "put SPEC-FILE INDEX FILE|-", Short: "Have the sidecar check a shard, and keep it",
		Long: `Has the sidecar check a shard against the spec's erasure root, and keep it for its readers
and its peers. It is on the sidecar's disk when this ends. Exit status 1 where it is not
the shard of that index, 3 where there is no room.`,
		Example: "  accessor da shard put spec.json 3 shard3", Args: arguments(cobra.ExactArgs(3)),
	}
	return c.command(e, cmd, func(ctx context.Context, cl *client.Client, args []string) error {
		spec, index, err := c.specAndIndex(args)
		if err != nil {
			return err
		}
		text, err := c.readInput(args[2], maxShard)
		if err != nil {
			return err
		}
		shard, err := client.ParseErasureShard(text)
		if err != nil {
			return &exitError{exitInput, fmt.Errorf("%s: %w", args[2], err)}
		}
		if err := cl.PutShard(ctx, spec, index, shard); err != nil {
			return err
		}
		if c.json {
			return json.NewEncoder(c.stdout).Encode(map[string]any{"erasure_root": spec.ErasureRoot, "index": index})
		}
		return nil
	})
}

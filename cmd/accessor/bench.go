package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"accessor/bench"
	"accessor/cmd/accessor/config"
	"accessor/forks"
)

func newBench(e *env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure the store under a made-up load",
		Args:  noSuchCommand,
		RunE:  showHelp,
		Long: `Measures the store on this machine under a made-up load, beside the usual way to
do the same with RocksDB (memtable, flush, checkpoint; the baseline) and one
sequential write and fsync of the same bytes (the floor), all in one run. Use it
to size disks. The stores are temporary; --dir says on which disk.`,
		Example: `  accessor bench import --keys 2000000 --dir /var/lib/accessor
  accessor bench fork --json`,
	}
	for _, b := range bench.All {
		cmd.AddCommand(newOneBench(e, b))
	}
	cmd.AddCommand(newBenchAPI(e), newBenchDA(e), newBenchClients(e), newBenchClient(e), newHold(e), newAsk(e))
	return cmd
}

// newHold is what the benchmark "retention" starts, to kill it.
func newHold(e *env) *cobra.Command {
	return &cobra.Command{
		Use:    "hold DIR KEYS PUTS VALUE-SIZE",
		Hidden: true,
		Args:   arguments(cobra.ExactArgs(4)),
		RunE: func(cmd *cobra.Command, args []string) error {
			var p bench.Params
			for i, n := range []*int{&p.Keys, &p.Puts, &p.ValueSize} {
				var err error
				if *n, err = strconv.Atoi(args[1+i]); err != nil || *n < 1 {
					return usageError("%q is not a number above 0", args[1+i])
				}
			}
			return bench.Hold(cmd.Context(), args[0], p, func(h forks.Hash) { fmt.Fprintln(e.stdout, h) })
		},
	}
}

// newAsk is what the benchmark "da" starts: peers that ask its node.
func newAsk(e *env) *cobra.Command {
	return &cobra.Command{
		Use:    "ask MULTIADDR HASH:SLOT:ROOT KEYS",
		Hidden: true,
		Args:   arguments(cobra.ExactArgs(3)),
		RunE: func(cmd *cobra.Command, args []string) error {
			at, err := config.ParseTrust(args[1])
			if err != nil {
				return usageError("%w", err)
			}
			keys, err := strconv.Atoi(args[2])
			if err != nil || keys < 1 {
				return usageError("%q is not a number above 0", args[2])
			}
			return bench.Ask(cmd.Context(), args[0], at, keys, func() { fmt.Fprintln(e.stdout, "begun") })
		},
	}
}

// benchmark is what commands that measure have in common. Its flags set seed, dir and
// progress of a benchmark's parameters.
type benchmark[R any] struct {
	seed     *uint64
	dir      *string
	progress *func(what string, done, all int64)
	// bounds says within which the flags are where ok is false.
	bounds func() (ok bool, bounds string)
	run    func(context.Context) (R, error)
	text   func(R) string
}

// command gives a command the flags, and what it does.
func (b benchmark[R]) command(e *env, cmd *cobra.Command) *cobra.Command {
	var asJSON bool
	name := "bench " + cmd.Name()
	cmd.Args = noArguments
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if ok, bounds := b.bounds(); !ok {
			return usageError("%s: %s", name, bounds)
		}
		if info, err := os.Stat(cmp.Or(*b.dir, os.TempDir())); err != nil || !info.IsDir() {
			return usageError("--dir %s is not a folder", *b.dir)
		}
		bar := newProgress(e.stderr, name)
		*b.progress = bar.set
		res, err := b.run(cmd.Context())
		bar.done()
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if asJSON {
			return json.NewEncoder(e.stdout).Encode(res)
		}
		_, err = fmt.Fprint(e.stdout, b.text(res))
		return err
	}
	f := cmd.Flags()
	f.Uint64Var(b.seed, "seed", 1, "seed of the load")
	f.StringVar(b.dir, "dir", "", "where to make the temporary stores (default: the system's folder)")
	f.BoolVar(&asJSON, "json", false, "print one JSON object")
	return cmd
}

// mustText says of a figure what it must be, where it must be something.
func mustText(must string, reached bool) string {
	switch {
	case must == "":
		return ""
	case reached:
		return fmt.Sprintf("; must be %s: reached", must)
	}
	return fmt.Sprintf("; must be %s: NOT REACHED", must)
}

func newOneBench(e *env, b bench.Bench) *cobra.Command {
	p := b.Defaults
	cmd := benchmark[bench.Result]{
		seed: &p.Seed, dir: &p.Dir, progress: &p.Progress,
		bounds: func() (bool, string) {
			return p.Keys >= 1 && p.Blocks >= 2 && p.Puts >= 1 && p.ValueSize >= 0 && p.ValueSize <= 16<<20 && p.Interval >= 0,
				"--keys and --puts from 1, --blocks from 2, --value-size from 0 to 16 MiB"
		},
		run:  func(ctx context.Context) (bench.Result, error) { return b.Run(ctx, p) },
		text: benchText,
	}.command(e, &cobra.Command{Use: b.Name, Short: "Measure " + b.About})
	f := cmd.Flags()
	f.IntVar(&p.Keys, "keys", p.Keys, "keys of the state")
	f.IntVar(&p.Blocks, "blocks", p.Blocks, "blocks to import")
	f.IntVar(&p.Puts, "puts", p.Puts, "puts a block")
	f.IntVar(&p.ValueSize, "value-size", p.ValueSize, "bytes a value, random")
	if b.Name == "import" || b.Name == "retention" {
		f.IntVar(&p.Interval, "interval", 0, "milliseconds from one import to the next; to size disks, where images keep up")
	}
	if p.Repeat > 0 {
		f.IntVar(&p.Repeat, "repeat", p.Repeat, "measurements")
	}
	if b.Name != "root" && b.Name != "prove" && b.Name != "read" && b.Name != "retention" { // which have roots, and no usual way
		f.StringVar(&p.Commitment, "commitment", "none", "state commitment: none, or jam (31-byte keys; computes every root)")
		f.BoolVar(&p.Baseline, "baseline", true, "measure the usual way as well")
	}
	return cmd
}

func benchText(r bench.Result) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: state of %d keys, %d blocks of %d puts of %d bytes, root %s; %s\n", r.Bench,
		r.Params.Keys, r.Params.Blocks, r.Params.Puts, r.Params.ValueSize, r.Params.Commitment, r.Params.Engine)
	line := func(what, format string, args ...any) {
		fmt.Fprintf(&b, "  %-24s %s\n", what, fmt.Sprintf(format, args...))
	}
	line("median, p99", "%.2f ms, %.2f ms", r.Median, r.P99)
	if r.BaselineMedian > 0 {
		line("baseline median", "%.2f ms, %.1f times ours", r.BaselineMedian, r.Ratio)
	}
	if r.Floor > 0 {
		line("write + fsync median", "%.2f ms; ours is %.1f times that", r.Floor, r.Median/r.Floor)
	}
	if r.ColdMedian > 0 {
		line("cold median, p99", "%.2f ms, %.2f ms", r.ColdMedian, r.ColdP99)
	}
	if r.Hashing > 0 {
		line("hashing alone median", "%.2f ms, one core; ours is %.1f times that", r.Hashing, r.Median/r.Hashing)
		line("heap of the trie", "%.1f MB", float64(r.Heap)/1e6)
	}
	if r.Check > 0 {
		line("check median", "%.3f ms", r.Check)
	}
	if x := r.Reads; x != nil {
		line("hit", "%.0f ns, %.0f of a bare cache: %.2f times; %.1f allocations", x.HitNanos, x.BareNanos, x.HitRatio, x.HitAllocs)
		line("1,000 keys warm, cold", "%.3f ms, %.2f ms", x.ManyWarm, x.ManyCold)
		line("reads a second", "%.0f, without the cache %.0f: %.1f times", x.CacheOn, x.CacheOff, x.Gain)
		line("hits", "%.1f %%; after a block %.1f %%, after a switch %.1f %%", x.HitsBefore, x.HitsBlock, x.HitsSwitch)
		line("view one block back", "%.3f ms, p99 %.3f ms", x.ViewBack, x.ViewBackP99)
		line("head to a sibling", "%.3f ms, p99 %.3f ms", x.ViewSibling, x.SiblingP99)
	}
	if k := r.Kept; k != nil {
		line("blocks", "%d, write sets of %.0f MB", k.Blocks, float64(k.WriteSets)/1e6)
		line("disk", "%.0f MB, %.1f times; worst window %.1f times, %.2f times the median", float64(k.Disk)/1e6,
			float64(k.Disk)/float64(k.WriteSets), k.Worst, k.Uneven)
		line("open to the first answer", "%.0f ms; after a kill -9 %.0f ms", k.Open, k.Killed)
		line("old read", "%.2f ms, p99 %.2f ms", k.OldRead, k.OldReadP99)
		line("old scan of 100 pairs", "%.0f ms, at most %.0f ms", k.OldScan, k.OldScanMost)
		line("prune half", "%d blocks, %.0f MB in %.0f ms", k.Pruned, float64(k.Freed)/1e6, k.PruneTook)
		line("import, first, last tenth", "%.2f ms, %.2f ms", k.FirstImport, k.LastImport)
	}
	if r.DiskPerBlock > 0 {
		line("disk a block", "%.0f kB", float64(r.DiskPerBlock)/1000)
	}
	line("tables a checkpoint", "%d at most beside the image's", r.FilesPerCkpt)
	line("memory, open files", "%.0f MB, %d", float64(r.RSS)/1e6, r.OpenFiles)
	return b.String()
}

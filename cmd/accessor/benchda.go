package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"accessor/bench"
)

// newBenchDA is `accessor bench da`.
func newBenchDA(e *env) *cobra.Command {
	p := bench.DADefaults
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "da",
		Short: "Measure what is fetched from peers",
		Long: `Serves a temporary store from nodes in this process, over QUIC on loopback, to
stores that have nothing: single misses beside bare round trips of libp2p, a whole
fill, many readers of one missing key, erasure coding, peers of which a third lies in
every way, and what is left when all peers are gone.`,
		Example: `  accessor bench da
  accessor bench da --keys 20000 --json`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if p.Keys < 1000 || min(p.Misses, p.Readers, p.Rounds, p.Items, p.Imports) < 1 || p.Misses > p.Keys/2 || p.Fetches < 100 {
				return usageError("bench da: --keys from 1,000, --misses up to half of them, --fetches from 100, all others from 1")
			}
			if info, err := os.Stat(cmp.Or(p.Dir, os.TempDir())); err != nil || !info.IsDir() {
				return usageError("--dir %s is not a folder", p.Dir)
			}
			bar := newProgress(e.stderr, "bench da")
			p.Progress = bar.set
			res, err := bench.DA(cmd.Context(), p)
			bar.done()
			if err != nil {
				return fmt.Errorf("bench da: %w", err)
			}
			if asJSON {
				return json.NewEncoder(e.stdout).Encode(res)
			}
			fmt.Fprint(e.stdout, benchDAText(res))
			return nil
		},
	}
	f := cmd.Flags()
	f.IntVar(&p.Keys, "keys", p.Keys, "keys of the state, 100 bytes each")
	f.IntVar(&p.Misses, "misses", p.Misses, "single misses")
	f.IntVar(&p.Readers, "readers", p.Readers, "readers of one missing key at once")
	f.IntVar(&p.Rounds, "rounds", p.Rounds, "fills, of which the median counts, and turns of the readers")
	f.IntVar(&p.Fetches, "fetches", p.Fetches, "fetches from each set of ten peers of which three lie or stall")
	f.IntVar(&p.Items, "items", p.Items, "items of each kind to reconstruct")
	f.IntVar(&p.Imports, "imports", p.Imports, "imports with peers, and as many without")
	f.Uint64Var(&p.Seed, "seed", p.Seed, "seed of the load")
	f.StringVar(&p.Dir, "dir", "", "where to make the temporary stores (default: the system's folder)")
	f.BoolVar(&asJSON, "json", false, "print one JSON object")
	return cmd
}

func benchDAText(r bench.DAResult) string {
	var b strings.Builder
	fmt.Fprintf(&b, "da: state of %d keys of 100 bytes, all nodes in one process; %s\n", r.Params.Keys, r.Params.Engine)
	for _, row := range r.Rows {
		fmt.Fprintf(&b, "  %-82s %9.4g %s", row.What, row.Value, row.Unit)
		if row.Must != "" {
			verdict := "reached"
			if !row.Reached {
				verdict = "NOT REACHED"
			}
			fmt.Fprintf(&b, "; must be %s: %s", row.Must, verdict)
		}
		if row.Beside != "" {
			fmt.Fprintf(&b, " (%s)", row.Beside)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

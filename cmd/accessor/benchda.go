package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"accessor/bench"
)

// newBenchDA is `accessor bench da`.
func newBenchDA(e *env) *cobra.Command {
	p := bench.DADefaults
	cmd := benchmark[bench.DAResult]{
		seed: &p.Seed, dir: &p.Dir, progress: &p.Progress,
		bounds: func() (bool, string) {
			return p.Keys >= 1000 && min(p.Misses, p.Readers, p.Rounds, p.Items, p.Imports) >= 1 && p.Misses <= p.Keys/2 && p.Fetches >= 100,
				"--keys from 1,000, --misses up to half of them, --fetches from 100, all others from 1"
		},
		run:  func(ctx context.Context) (bench.DAResult, error) { return bench.DA(ctx, p) },
		text: benchDAText,
	}.command(e, &cobra.Command{
		Use:   "da",
		Short: "Measure what is fetched from peers",
		Long: `Serves a temporary store from nodes in this process, over QUIC on loopback, to
stores that have nothing: single misses beside bare round trips of libp2p, a whole
fill, many readers of one missing key, erasure coding, peers of which a third lies in
every way, local reads while peers in another process ask for all they can get, and
what is left when all peers are gone.`,
		Example: `  accessor bench da
  accessor bench da --keys 20000 --json`,
	})
	f := cmd.Flags()
	f.IntVar(&p.Keys, "keys", p.Keys, "keys of the state, 100 bytes each")
	f.IntVar(&p.Misses, "misses", p.Misses, "single misses")
	f.IntVar(&p.Readers, "readers", p.Readers, "readers of one missing key at once")
	f.IntVar(&p.Rounds, "rounds", p.Rounds, "fills, of which the median counts, and turns of the readers")
	f.IntVar(&p.Fetches, "fetches", p.Fetches, "fetches from each set of ten peers of which three lie or stall")
	f.IntVar(&p.Items, "items", p.Items, "items of each kind to reconstruct")
	f.IntVar(&p.Imports, "imports", p.Imports, "imports with peers, and as many without")
	return cmd
}

func benchDAText(r bench.DAResult) string {
	var b strings.Builder
	fmt.Fprintf(&b, "da: state of %d keys of 100 bytes, all nodes in one process; %s\n", r.Params.Keys, r.Params.Engine)
	for _, row := range r.Rows {
		fmt.Fprintf(&b, "  %-86s %9.4g %s", row.What, row.Value, row.Unit)
		b.WriteString(mustText(row.Must, row.Reached))
		if row.Beside != "" {
			fmt.Fprintf(&b, " (%s)", row.Beside)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

package main

import (
	"cmp"
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"accessor/bench"
)

// newBenchAPI is `accessor bench api`.
func newBenchAPI(e *env) *cobra.Command {
	p := bench.APIDefaults
	cmd := benchmark[bench.APIResult]{
		seed: &p.Seed, dir: &p.Dir, progress: &p.Progress,
		bounds: func() (bool, string) {
			return min(p.Keys, p.Requests, p.Rounds, p.Imports) >= 1 && (p.Soak == 0 || p.Soak >= 10),
				"--keys, --requests, --rounds and --imports from 1, --soak 0 or from 10"
		},
		run:  func(ctx context.Context) (bench.APIResult, error) { return bench.API(ctx, p) },
		text: benchAPIText,
	}.command(e, &cobra.Command{
		Use:   "api",
		Short: "Measure the API over a Unix socket",
		Long: `Serves a temporary store on a Unix socket, and beside it a bare net/http handler;
also redis-server, where it is installed. Clients of the same shape ask all of them in
turn. Servers and clients are in this one process, but for redis-server. With --socket
the server is one that runs already, and nothing is imported into its store.

With --soak it sends so many requests of many kinds instead, and compares the server's
memory and goroutines after a tenth of them with those at the end.`,
		Example: `  accessor bench api
  accessor bench api --socket /run/accessor/accessor.sock --json
  accessor bench api --soak 10000000`,
	})
	f := cmd.Flags()
	f.IntVar(&p.Keys, "keys", p.Keys, "keys of the state, 200 bytes each; 2,000 at least")
	f.IntVar(&p.Requests, "requests", p.Requests, "requests a round")
	f.IntVar(&p.Rounds, "rounds", p.Rounds, "rounds; the median counts")
	f.IntVar(&p.Imports, "imports", p.Imports, "blocks through the socket, and as many in process")
	f.StringVar(&p.Commitment, "commitment", p.Commitment, "state commitment: none, or jam (computes every root)")
	f.StringVar(&p.Socket, "socket", "", "measure the server that listens there")
	f.Int64Var(&p.Soak, "soak", 0, "send so many requests, and see whether the server grows")
	return cmd
}

func benchAPIText(r bench.APIResult) string {
	var b strings.Builder
	fmt.Fprintf(&b, "api: state of %d keys, root %s; %s\n", r.Params.Keys, r.Params.Commitment, cmp.Or(r.Params.Engine, "at "+r.Params.Socket))
	for _, row := range r.Rows {
		fmt.Fprintf(&b, "  %-44s %9.4g %s", row.What, row.Accessor, row.Unit)
		if row.Beside != "" && row.Other > 0 {
			fmt.Fprintf(&b, "; %s %.4g: %.2f times", row.Beside, row.Other, row.Ratio)
		}
		b.WriteString(mustText(row.Must, row.Reached))
		if row.Redis > 0 {
			fmt.Fprintf(&b, "; redis %.4g", row.Redis)
		}
		b.WriteByte('\n')
	}
	if s := r.Soak; s != nil {
		fmt.Fprintf(&b, "  soak: %d requests, %.0f a second; memory %.1f MB, then %.1f MB: %.3f times; goroutines %d, then %d; ",
			s.Requests, s.Rate, float64(s.Early.RSS)/1e6, float64(s.Late.RSS)/1e6, s.Memory, s.Early.Goroutines, s.Late.Goroutines)
		if s.Flat {
			b.WriteString("flat\n")
		} else {
			b.WriteString("NOT FLAT\n")
		}
	}
	return b.String()
}

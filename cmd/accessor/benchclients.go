package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"accessor/bench"
)

// newBenchClients is `accessor bench clients`.
func newBenchClients(e *env) *cobra.Command {
	p := bench.ClientsDefaults
	cmd := benchmark[bench.ClientsResult]{
		seed: &p.Seed, dir: &p.Dir, progress: &p.Progress,
		bounds: func() (bool, string) {
			return p.Keys >= 1000 && p.ScanPairs >= 1 && p.Requests >= 20,
				"--keys from 1,000, --scan-pairs from 1, --requests from 20"
		},
		run:  func(ctx context.Context) (bench.ClientsResult, error) { return bench.Clients(ctx, p) },
		text: benchClientsText,
	}.command(e, &cobra.Command{
		Use:   "clients",
		Short: "Measure the Go, Python and Rust clients",
		Long: `Serves a temporary store in a process of its own, and measures each client in
another: single reads beside the same bytes written by hand in the same language,
batches, the memory of a whole scan and, in Python and Rust, direct reads of a pinned
checkpoint. The Python and Rust clients are those of the folder clients of the sources;
a client that can't be measured here is named at the end.`,
		Example: `  accessor bench clients
  accessor bench clients --clients ../accessor/clients --json`,
	})
	f := cmd.Flags()
	f.IntVar(&p.Keys, "keys", p.Keys, "keys of the state, 200 bytes each; 1,000 at least")
	f.IntVar(&p.ScanPairs, "scan-pairs", p.ScanPairs, "small pairs in the block that is scanned")
	f.IntVar(&p.Requests, "requests", p.Requests, "single reads")
	f.StringVar(&p.Clients, "clients", p.Clients, "folder clients of the sources")
	f.StringVar(&p.Python, "python", p.Python, "Python interpreter; direct reads need one with rocksdict (default: that of build/venv, or python3)")
	return cmd
}

// newBenchClient is what `accessor bench clients` starts for the Go client.
func newBenchClient(e *env) *cobra.Command {
	var task bench.ClientTask
	var block, scan string
	cmd := &cobra.Command{
		Use:    "client",
		Hidden: true,
		Args:   noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			err := errors.Join(task.Block.UnmarshalText([]byte(block)), task.ScanBlock.UnmarshalText([]byte(scan)))
			if err != nil {
				return usageError("%w", err)
			}
			f, err := bench.MeasureGo(cmd.Context(), task)
			if err != nil {
				return fmt.Errorf("bench client: %w", err)
			}
			return json.NewEncoder(e.stdout).Encode(f)
		},
	}
	f := cmd.Flags()
	f.StringVar(&task.Socket, "socket", "", "of the server")
	f.StringVar(&block, "block", "", "hash of the block that is read")
	f.StringVar(&task.Keys, "keys", "", "file of keys")
	f.StringVar(&task.Pin, "pin", "", "not used")
	f.IntVar(&task.Requests, "requests", 1, "single reads")
	f.StringVar(&scan, "scan-block", "", "hash of the block that is scanned")
	return cmd
}

func benchClientsText(r bench.ClientsResult) string {
	var b strings.Builder
	fmt.Fprintf(&b, "clients: %d keys of 200 bytes, %d small pairs; %s\n", r.Params.Keys, r.Params.ScanPairs, r.Params.Engine)
	for _, row := range r.Rows {
		fmt.Fprintf(&b, "  %-60s %9.4g %s", row.What, row.Accessor, row.Unit)
		if row.Beside != "" {
			fmt.Fprintf(&b, "; %s %.4g: %.2f times", row.Beside, row.Other, row.Ratio)
		}
		b.WriteString(mustText(row.Must, row.Reached))
		b.WriteByte('\n')
	}
	for _, missing := range r.Missing {
		fmt.Fprintf(&b, "  not measured: %s\n", missing)
	}
	return b.String()
}

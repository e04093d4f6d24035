package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"accessor/bench"
)

// newBenchClients is `accessor bench clients`.
func newBenchClients(e *env) *cobra.Command {
	p := bench.ClientsDefaults
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "clients",
		Short: "Measure the Go, Python and Rust clients",
		Long: `Serves a temporary store in a process of its own, and measures each client in
another: single reads beside the same bytes written by hand in the same language,
batches, the memory of a whole scan and, in Python and Rust, direct reads of a pinned
checkpoint. The Python and Rust clients are those of the folder clients of the sources;
a client that can't be measured here is named at the end.`,
		Example: `  accessor bench clients
  accessor bench clients --clients ../accessor/clients --json`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if p.Keys < 1000 || p.ScanPairs < 1 || p.Requests < 20 {
				return usageError("bench clients: --keys from 1,000, --scan-pairs from 1, --requests from 20")
			}
			if info, err := os.Stat(cmp.Or(p.Dir, os.TempDir())); err != nil || !info.IsDir() {
				return usageError("--dir %s is not a folder", p.Dir)
			}
			bar := newProgress(e.stderr, "bench clients")
			p.Progress = bar.set
			res, err := bench.Clients(cmd.Context(), p)
			bar.done()
			if err != nil {
				return fmt.Errorf("bench clients: %w", err)
			}
			if asJSON {
				return json.NewEncoder(e.stdout).Encode(res)
			}
			fmt.Fprint(e.stdout, benchClientsText(res))
			return nil
		},
	}
	f := cmd.Flags()
	f.IntVar(&p.Keys, "keys", p.Keys, "keys of the state, 200 bytes each; 1,000 at least")
	f.IntVar(&p.ScanPairs, "scan-pairs", p.ScanPairs, "small pairs in the block that is scanned")
	f.IntVar(&p.Requests, "requests", p.Requests, "single reads")
	f.StringVar(&p.Clients, "clients", p.Clients, "folder clients of the sources")
	f.StringVar(&p.Python, "python", p.Python, "Python interpreter; direct reads need one with rocksdict (default: that of build/venv, or python3)")
	f.Uint64Var(&p.Seed, "seed", p.Seed, "seed of the load")
	f.StringVar(&p.Dir, "dir", "", "where to make the temporary store (default: the system's folder)")
	f.BoolVar(&asJSON, "json", false, "print one JSON object")
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
		if row.Must != "" {
			verdict := "reached"
			if !row.Reached {
				verdict = "NOT REACHED"
			}
			fmt.Fprintf(&b, "; must be %s: %s", row.Must, verdict)
		}
		b.WriteByte('\n')
	}
	for _, missing := range r.Missing {
		fmt.Fprintf(&b, "  not measured: %s\n", missing)
	}
	return b.String()
}

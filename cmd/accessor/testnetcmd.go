package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"accessor/testnet"
)

// testnetCommand is `accessor testnet`.
type testnetCommand struct {
	*env
	opts testnet.Options
	dir  string
	json bool
}

// defaultScenario is played where none is named.
const defaultScenario = "story"

func newTestnet(e *env) *cobra.Command {
	c := &testnetCommand{env: e, opts: testnet.Options{Parallel: 8}}
	cmd := &cobra.Command{
		Use:   "testnet [flags] [SCENARIO]",
		Short: "Run several sidecars on this machine, with forks and kills, and check all they say",
		Long: `Starts so many sidecars, each a process like accessor serve, makes a chain for them as
SCENARIO says, and compares what they answer with an exact model of the state at every
block of every fork: reads all the time, roots, heads and whole trees at the end. With
equal flags the same happens in the same slots.

SCENARIO is a file (docs/TESTNET.md has the language), or one of these:

` + scenarioList() + `
On a terminal a table of the nodes is kept up to date; elsewhere there is a line for all
that happens; both on standard error. The summary, or the one JSON object, is on standard
output.

Exit status: 0 if no answer was wrong, no more reads than the scenario allows had none, all
roots agree and the scenario's expectations hold; 1 otherwise: stores and logs are kept
then, and standard error says where.`,
		Example: `  accessor testnet
  accessor testnet crashes --slots 500 --seed 7
  accessor testnet my.txt --nodes 6 --json`,
		Args: arguments(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.run(cmd.Context(), cmp.Or(strings.Join(args, ""), defaultScenario))
		},
	}
	f := cmd.Flags()
	f.IntVar(&c.opts.Nodes, "nodes", 0, "sidecars (default: the scenario's)")
	f.IntVar(&c.opts.Slots, "slots", 0, "slots (default: the scenario's)")
	f.Uint64Var(&c.opts.Seed, "seed", 1, "seed of all that the scenario leaves to chance")
	f.IntVar(&c.opts.Parallel, "parallel", c.opts.Parallel, "blocks that a node is given at the same time, where there are so many")
	f.DurationVar(&c.opts.SlotTime, "slot-time", 0, "how long a slot takes at least (default: as fast as it goes)")
	f.StringVar(&c.dir, "dir", "", "empty or new folder of stores and logs (default: a temporary one)")
	f.BoolVar(&c.json, "json", false, "print one JSON object at the end")
	return cmd
}

// scenarioList is the scenarios that are known by name, for the help.
func scenarioList() string {
	var b strings.Builder
	for _, name := range testnet.Names() {
		if s, err := testnet.Load(name); err == nil {
			fmt.Fprintf(&b, "  %-10s %s\n", name, s.Title)
		}
	}
	return b.String()
}

func (c *testnetCommand) run(ctx context.Context, scenario string) (err error) {
	if err := c.check(scenario); err != nil {
		return err
	}
	made, err := c.makeDir()
	if err != nil {
		return err
	}
	keep := false
	defer func() {
		if !keep {
			err = errors.Join(err, c.removeDir(made))
		}
	}()
	program, err := os.Executable()
	if err != nil {
		return err
	}
	// The name by which the tests' program knows what to be.
	nodes, err := testnet.NewProcesses(program, "accessor", c.dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, nodes.Close()) }()
	c.opts.New, c.opts.Peers = nodes.New, nodes
	c.watch()
	res, err := testnet.Run(ctx, c.opts)
	if errors.Is(err, testnet.ErrScenario) {
		return &exitError{exitInput, fmt.Errorf("testnet: %w", err)}
	}
	if err != nil {
		keep = ctx.Err() == nil
		if keep {
			err = fmt.Errorf("testnet: %w (stores and logs are in %s)", err, c.dir)
		}
		return err
	}
	ok := res.OK(c.opts.Scenario.Unavailable)
	keep = !ok
	if err := c.print(res, ok); err != nil {
		return err
	}
	if !ok {
		return &exitError{status: exitDiffers}
	}
	return nil
}

// check reads the scenario, and looks at what else was asked for.
func (c *testnetCommand) check(scenario string) (err error) {
	c.opts.Scenario, err = testnet.Load(scenario)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return usageError("testnet %s: %w", scenario, err)
	case err != nil:
		return &exitError{exitInput, fmt.Errorf("testnet: %w", err)}
	case c.opts.Nodes < 0 || c.opts.Nodes > testnet.MaxNodes:
		return usageError("--nodes %d: want 1 to %d", c.opts.Nodes, testnet.MaxNodes)
	case c.opts.Slots < 0 || c.opts.Slots > testnet.MaxSlots:
		return usageError("--slots %d: want 1 to %d", c.opts.Slots, testnet.MaxSlots)
	case c.opts.Parallel < 1 || c.opts.Parallel > 64:
		return usageError("--parallel %d: want 1 to 64", c.opts.Parallel)
	case c.opts.SlotTime < 0:
		return usageError("--slot-time %v is negative", c.opts.SlotTime)
	}
	return nil
}

// makeDir makes the folder; made says whether it was not there before.
func (c *testnetCommand) makeDir() (made bool, err error) {
	if c.dir == "" {
		c.dir, err = os.MkdirTemp("", "accessor-testnet-")
		return true, err
	}
	if c.dir, err = filepath.Abs(c.dir); err != nil {
		return false, err
	}
	entries, err := os.ReadDir(c.dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if err := os.Mkdir(c.dir, 0o700); err != nil {
			return false, usageError("--dir: %w", err)
		}
		return true, nil
	case err != nil:
		return false, usageError("--dir: %w", err)
	case len(entries) > 0:
		return false, usageError("--dir: %s is not empty", c.dir)
	}
	return false, nil
}

// removeDir removes what the run has left.
func (c *testnetCommand) removeDir(made bool) error {
	if made {
		return removeSealed(c.dir)
	}
	entries, err := os.ReadDir(c.dir)
	for _, entry := range entries {
		err = errors.Join(err, removeSealed(filepath.Join(c.dir, entry.Name())))
	}
	return err
}

// viewEvery is how long a table of the nodes stands at least.
const viewEvery = 100 * time.Millisecond

// watch shows what happens: tables in each other's place on a terminal, else lines.
func (c *testnetCommand) watch() {
	if !isTerminal(c.stderr) {
		c.opts.Event = func(slot int, what string) { fmt.Fprintf(c.stderr, "slot %d: %s\n", slot, what) }
		c.opts.Shown = func(v testnet.View) {
			if tenth := max(1, v.Slots/10); v.Slot%tenth == 0 {
				fmt.Fprintf(c.stderr, "slot %d of %d: %s\n", v.Slot, v.Slots, soFar(&v.Result))
			}
		}
		return
	}
	display := &screen{env: &env{stdout: c.stderr}}
	var last time.Time
	var recent []string
	c.opts.Event = func(slot int, what string) {
		recent = append(recent, fmt.Sprintf("slot %d: %s", slot, what))
		recent = recent[max(0, len(recent)-mostRecent):]
	}
	c.opts.Shown = func(v testnet.View) {
		if now := time.Now(); now.Sub(last) >= viewEvery || v.Slot == v.Slots {
			last = now
			_ = display.show(nodesText(v, recent)) // a terminal that is gone stops nothing
		}
	}
}

// mostRecent is how many lines of what happened stand below the table.
const mostRecent = 6

func soFar(r *testnet.Result) string {
	return fmt.Sprintf("%d blocks, %d forks, %d kills; %d reads checked, %d wrong, %d unavailable",
		r.Blocks, r.Forks, r.Kills, r.ReadsChecked, r.WrongAnswers, r.Unavailable)
}

// nodesText draws a view.
func nodesText(v testnet.View, recent []string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "slot %d of %d: %s\n\n", v.Slot, v.Slots, soFar(&v.Result))
	t := newTable("NODE", "STATE", "SLOT", "HEAD", "BLOCKS", "HEADS", "LOCKS", "WALK-BACKS", "DA FETCHES", "REFUSED", "WAITING")
	for _, n := range v.Nodes {
		t.row(n.Node, n.State, n.Head.Slot, n.Head.Hash.Short(), n.Blocks, n.Heads, n.Locks, n.WalkBacks, n.Fetches, n.Rejected, n.Waiting)
	}
	(&env{stdout: &b}).print(t)
	b.WriteByte('\n')
	for _, line := range recent {
		fmt.Fprintln(&b, line)
	}
	return b.String()
}

func (c *testnetCommand) print(r *testnet.Result, ok bool) error {
	for _, f := range r.Failures {
		fmt.Fprintln(c.stderr, "accessor: testnet:", f)
	}
	if !ok {
		for _, e := range r.Excuses {
			fmt.Fprintln(c.stderr, "accessor: testnet:", e)
		}
		fmt.Fprintln(c.stderr, "accessor: testnet: stores and logs are in", c.dir)
	}
	if c.json {
		return json.NewEncoder(c.stdout).Encode(r)
	}
	verdict := "all is as it must be"
	if !ok {
		verdict = "NOT as it must be"
	}
	agree := "agree"
	if !r.RootsAgree {
		agree = "DON'T AGREE"
	}
	fmt.Fprintf(c.stdout, `testnet %s: %s
  %d nodes, %d slots, seed %d, %.1f s
  blocks %d, forks %d, partitions %d, kills %d, walk-backs %d
  fetches from peers %d, answers of peers refused %d
  reads checked %d, wrong answers %d, unavailable %d (at most %d)
  roots %s
`, c.opts.Scenario.Name, verdict, r.Nodes, r.Slots, c.opts.Seed, r.Seconds, r.Blocks, r.Forks, r.Partitions, r.Kills,
		r.WalkBacks, r.Fetches, r.Rejected, r.ReadsChecked, r.WrongAnswers, r.Unavailable, c.opts.Scenario.Unavailable, agree)
	return nil
}

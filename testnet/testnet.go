// Package testnet runs several sidecars on one machine, and sees whether what they say
// is true. A producer makes a chain with forks and keeps an exact model of the state at
// every block; a scenario says in which slot blocks are made, forked, withheld, and
// nodes cut off, killed and started again; all the time reads at blocks of all forks
// are compared with the model, and at the end every node's tree and roots.
//
// All decisions come from one seed: equal options make the same blocks, forks and kills
// in the same slots. How long things take is the sidecars' business: with processes, the
// moment within an import at which a kill meets it differs from run to run, and with it
// what the node has acknowledged by then and can be read from it next.
//
// Slots go in step: what a slot has to deliver is delivered before the next begins,
// but for what the scenario withholds.
//
// A Sidecar is a process (Processes), or an Accessor in this one (Local). docs/
// TESTNET.md has the language of scenarios. Sidecars are peers of each other, processes on
// loopback, those in this one on the network that the caller gives, libp2p's simulated one
// say: a node can join them with a block to trust and nothing else, and liars can be
// among its peers.
package testnet

import (
	"context"
	"fmt"
	"time"

	"accessor/forks"
)

// Options of a run.
type Options struct {
	// Scenario is what happens. Required.
	Scenario *Scenario
	// Nodes and Slots take the place of the scenario's, unless 0.
	Nodes, Slots int
	// Seed decides all that the scenario leaves to chance.
	Seed uint64
	// SlotTime is how long a slot takes at least. 0: as fast as it goes.
	SlotTime time.Duration
	// Parallel is how many blocks a node is given at the same time, where there are so
	// many: children then come before their parents are sealed, and siblings meet in
	// their slot. 0: one, so that the order of all that a node does is the same each time.
	Parallel int
	// New makes the sidecar of a node, which starts from the anchor. Required.
	New func(node int, anchor *Anchor) (Sidecar, error)
	// Peers makes them peers of each other. nil where they aren't: a node that joins with
	// trust then starts from the anchor, and a liar is an error.
	Peers Peers
	// Event is told in words what happens, in order. May be nil.
	Event func(slot int, what string)
	// Shown is given a view after each slot. May be nil.
	Shown func(View)
}

// Bounds of options: what the model keeps in memory fits.
const (
	MaxNodes = 64
	MaxSlots = 10_000
)

// Result is what came out. Its JSON is what accessor testnet --json prints.
type Result struct {
	Nodes        int     `json:"nodes"` // that were started, late ones too
	Slots        int     `json:"slots"`
	Blocks       int     `json:"blocks"`        // that were made, beside the anchor
	Forks        int     `json:"forks"`         // of these, siblings of an earlier one
	WalkBacks    int     `json:"walkbacks"`     // imports that had to walk back
	Fetches      uint64  `json:"da_fetches"`    // from peers
	Rejected     uint64  `json:"da_rejected"`   // peers' answers that were refused
	Kills        int     `json:"kills"`         // of nodes
	Partitions   int     `json:"partitions"`    // times that the nodes were divided
	RootsAgree   bool    `json:"roots_agree"`   // of every block on every node that is up, with the model
	ReadsChecked int     `json:"reads_checked"` // keys, present or not, compared with the model
	WrongAnswers int     `json:"wrong_answers"` // values, heads, roots and refusals that the model contradicts
	Unavailable  int     `json:"unavailable"`   // reads that ended with an error
	Seconds      float64 `json:"seconds"`

	// Banned is how many peers are banned, by each node that is up.
	Banned int `json:"-"`

	// Failures say what went wrong, the first of them; empty where all is as it must be.
	Failures []string `json:"-"`
	// Excuses say why reads ended with an error, the first of them.
	Excuses []string `json:"-"`
}

// OK says whether all is as it must be, within the scenario's bound of reads that
// ended with an error.
func (r *Result) OK(unavailable int) bool {
	return len(r.Failures) == 0 && r.RootsAgree && r.WrongAnswers == 0 && r.ReadsChecked > 0 && r.Unavailable <= unavailable
}

// View is how things stand after a slot.
type View struct {
	Slot, Slots int
	Result      Result // so far
	Nodes       []NodeView
}

// NodeView is how a node stands.
type NodeView struct {
	Node      int
	State     string // up, down, cut (off by a partition), broken
	Head      forks.Block
	Heads     int // blocks without children
	Blocks    int
	Locks     int // slots that were locked or reserved in the middle of the slot
	WalkBacks int
	Fetches   uint64 // from peers
	Rejected  uint64 // answers of peers that were refused
	Waiting   int    // blocks that it was not given yet
}

// Run runs a scenario. The result says what is wrong with the sidecars' answers; the
// error is one that ended the run: the context's, or a sidecar that can't be started;
// ErrScenario where a line's slot is after the last, before anything is started.
// All sidecars are closed by then.
func Run(ctx context.Context, opts Options) (res *Result, err error) {
	r, err := newRun(opts)
	if err != nil {
		return nil, err
	}
	defer func() {
		if closing := r.close(); err == nil && closing != nil {
			err = closing
		}
	}()
	began := time.Now()
	if err := r.startAll(ctx); err != nil {
		return nil, err
	}
	for r.slot = 1; r.slot <= r.slots; r.slot++ {
		end := time.After(opts.SlotTime)
		if err := r.playSlot(ctx); err != nil {
			return nil, fmt.Errorf("slot %d: %w", r.slot, err)
		}
		select {
		case <-end:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	if err := r.playEnd(ctx); err != nil {
		return nil, fmt.Errorf("end: %w", err)
	}
	r.res.Seconds = time.Since(began).Seconds()
	out := r.result()
	return &out, nil
}

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"accessor/api/client"
	"accessor/cmd/accessor/config"
	"accessor/forks"
	"accessor/peers"
	"accessor/state"
)

// newSync is `accessor sync`.
func newSync(e *env) *cobra.Command {
	s := &syncing{}
	cmd := &cobra.Command{
		Use:   "sync [--socket PATH | --data DIR --peer MULTIADDR [--trust HASH:SLOT:ROOT]]",
		Short: "Fetch what is missing of a state from peers, or wait while a sidecar does",
		Long: `Waits until a running accessor serve has the whole state, which it fetches from its
peers, and shows how far it is.

With --data it fetches the whole state of the block that the store in DIR grows from,
unless it is there, then the blocks since that peers have. All is checked against roots.
With --trust it makes the store first, of a block that you trust; a store whose state is
still partial goes on from that block, where it is a later one. It can be interrupted,
or killed: another sync, or accessor serve, goes on from there. Peers are those of --peer
or, without, of the configuration.

Exit status: 0 the state is whole, 2 bad usage, 3 the store or the sidecar failed, or
nothing came for as long as --give-up says, 130 interrupted.`,
		Example: `  accessor sync
  accessor sync --data new --trust $HASH:1200:$ROOT --peer /ip4/192.0.2.7/tcp/4001/p2p/12D3Koo…`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error { return s.run(cmd) },
	}
	s.target = e.targetFlags(cmd)
	f := cmd.Flags()
	f.String("config", "", "with --data: configuration file, TOML (default: $ACCESSOR_CONFIG, or none)")
	f.String("trust", "", "with --data: what a new store starts from: HASH:SLOT:ROOT of a block")
	f.StringArray("peer", nil, "with --data: multiaddr, ending in /p2p/ID, of a node to ask")
	f.String("bandwidth", "", "with --data: bytes a second at most, such as 5MiB (default: da.bandwidth)")
	f.DurationVar(&s.giveUp, "give-up", 2*time.Minute, "time without progress after which it ends; 0s for never")
	f.BoolVar(&s.json, "json", false, "print the result as JSON")
	return cmd
}

// syncing is `accessor sync` at work.
type syncing struct {
	*target
	giveUp time.Duration
	json   bool
}

func (s *syncing) run(cmd *cobra.Command) error {
	if s.data == "" {
		for _, name := range []string{"config", "trust", "peer", "bandwidth"} {
			if cmd.Flags().Changed(name) {
				return usageError("--%s is for a store that this command opens: give --data DIR; a running accessor serve has its own settings", name)
			}
		}
		return s.ask(cmd, s.await)
	}
	if s.socket != "" {
		return usageError("--data opens a store, --socket asks a running sidecar: give one of them")
	}
	c, err := settings(cmd)()
	if err != nil {
		return configError(err)
	}
	if len(c.DA.Peers) == 0 {
		return usageError("nobody to ask: give --peer MULTIADDR, or da.peers in the configuration")
	}
	c.DA.Enabled = false // it asks only, and for a short time
	return s.sync(cmd.Context(), &c.Config)
}

func (s *syncing) sync(ctx context.Context, c *config.Config) (err error) {
	log, err := s.logger()
	if err != nil {
		return err
	}
	engine := newEngine()
	defer engine.Close()
	fetcher := &peers.Fetcher{}
	cfg := c.State()
	cfg.Engine, cfg.Owner, cfg.Log, cfg.Fetcher, cfg.Retention = engine, "sync", log, fetcher, state.Retention{All: true}
	acc, err := openToSync(cfg, c.Trust)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, acc.Close()) }()
	node, err := openNode(acc, c, fetcher, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, node.Close()) }()
	return s.fillAndCatchUp(ctx, acc, c.Fill())
}

func openToSync(cfg state.Config, trust string) (*state.Accessor, error) {
	if trust != "" {
		acc, _, err := openTrusted(cfg, trust)
		return acc, err
	}
	acc, err := state.Open(cfg)
	return acc, serveError(err)
}

// await waits until a sidecar's state is whole.
func (s *syncing) await(ctx context.Context, c *client.Client) error {
	bar := newProgress(s.stderr, "sync")
	defer bar.done()
	w := watch{patience: s.giveUp, moved: time.Now()}
	var fetched state.FillProgress
	for {
		st, err := c.Status(ctx)
		fetched.Err = errSidecar
		switch {
		case errors.Is(err, client.ErrNotReady): // it opens its store
			fetched.Err = err
		case err != nil:
			return err
		case st.Head == nil:
			fetched.Err = errNoStore
		case !st.Partial:
			bar.done()
			return s.print(forks.Block{Hash: st.Head.Block, Slot: st.Head.Slot}, fetched, 0)
		case st.PeerID == "":
			return fmt.Errorf("%w: the sidecar has only a part of the state, and no peers", errNoProgress)
		}
		if st.Fill != nil && st.Fill.AnchorGone {
			fetched.Err = state.ErrAnchorGone
		}
		if st.Fill != nil {
			fetched.Pairs, fetched.Completing = st.Fill.Done, st.Fill.Of > 0 && st.Fill.Done == st.Fill.Of
			bar.set(fmt.Sprintf("state, %d pairs", st.Fill.Done), st.Fill.Done, st.Fill.Of)
		}
		if err := w.look(fetched, time.Now()); err != nil {
			return err
		}
		if !pause(ctx, time.Second/4) {
			return context.Cause(ctx)
		}
	}
}

var (
	// errSidecar stands for what the sidecar knows.
	errSidecar = errors.New("the sidecar's log says why")
	errNoStore = errors.New("the sidecar has no store yet")
)

// errNoProgress: peers gave nothing for too long.
var errNoProgress = errors.New("no progress")

// fillAndCatchUp does the work, shows how far it is, and prints the outcome.
func (s *syncing) fillAndCatchUp(ctx context.Context, acc *state.Accessor, fill state.FillOptions) error {
	working, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	bar := newProgress(s.stderr, "sync")
	defer bar.done()
	w := watch{patience: s.giveUp, moved: time.Now()}
	blocks, fetched := 0, state.FillProgress{}
	fill.Progress = func(p state.FillProgress) {
		fetched = p
		if p.Completing {
			bar.set("checking the state", 0, 0)
		} else {
			const parts = 1 << 30 // of all keys
			bar.set(fmt.Sprintf("state, %d pairs", p.Pairs), int64(p.Covered*parts), parts)
		}
		if err := w.look(p, time.Now()); err != nil {
			cancel(err)
		}
	}
	err := acc.Sync(working, state.SyncOptions{
		CatchUp: true, Fill: fill,
		Imported: func(state.Result) {
			blocks++
			bar.set(fmt.Sprintf("%d blocks", blocks), 0, 0)
		},
	})
	if errors.Is(err, state.ErrAhead) {
		return fmt.Errorf("%w; da.catch_up_blocks and da.catch_up_bytes are the bounds, and a running accessor serve can be told what is final", err)
	} else if err != nil {
		return err
	}
	bar.done()
	return s.print(acc.Head(), fetched, blocks)
}

// watch ends a fill that gets nowhere.
type watch struct {
	patience time.Duration
	moved    time.Time
	pairs    int64
	covered  float64
}

// look gives an errNoProgress once a fill has stood still for too long, and why.
func (w *watch) look(p state.FillProgress, now time.Time) error {
	if p.Err == nil || p.Completing || p.Pairs != w.pairs || p.Covered != w.covered {
		w.moved, w.pairs, w.covered = now, p.Pairs, p.Covered
	}
	if errors.Is(p.Err, state.ErrAnchorGone) {
		return fmt.Errorf("%w: %w: give its --trust, what is here stays", errNoProgress, p.Err)
	}
	if stood := now.Sub(w.moved); w.patience > 0 && stood >= w.patience {
		return fmt.Errorf("%w for %v: %w; what is here stays, another sync goes on from there", errNoProgress, stood.Round(time.Second), p.Err)
	}
	return nil
}

// synced is the outcome as JSON.
type synced struct {
	Pairs  int64  `json:"pairs"`  // fetched ones of the anchor's state; 0 where it was whole
	Blocks int    `json:"blocks"` // that were new; 0 where a sidecar was waited for
	Head   string `json:"head"`
	Slot   uint32 `json:"slot"` // of the head
}

func (s *syncing) print(head forks.Block, fetched state.FillProgress, blocks int) error {
	if s.json {
		return json.NewEncoder(s.stdout).Encode(synced{fetched.Pairs, blocks, head.Hash.String(), uint32(head.Slot)})
	}
	_, err := fmt.Fprintf(s.stdout, "the state is whole; %d blocks were new; the head is %s at slot %d\n", blocks, head.Hash, head.Slot)
	return err
}

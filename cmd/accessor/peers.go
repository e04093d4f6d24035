package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"accessor/api/access"
	"accessor/api/metrics"
	"accessor/checkpoint"
	"accessor/cmd/accessor/config"
	"accessor/da"
	"accessor/da/items"
	"accessor/da/shards"
	"accessor/forks"
	"accessor/peers"
	"accessor/state"
)

// peering is a store's node, with the items and shards that it keeps.
type peering struct {
	*da.Node
	items  *items.Store  // nil where none are kept
	shards *shards.Store // likewise
}

// openNode makes the node of a store, which serves from it as the configuration says,
// and has fetcher ask its peers.
func openNode(acc *state.Accessor, c *config.Config, fetcher *peers.Fetcher, log *zap.Logger) (*peering, error) {
	dir := c.PeersDir()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if err := syncFolder(c.Data); err != nil { // shards in it are a promise
		return nil, err
	}
	cfg := c.Node()
	cfg.Log = log
	if c.DA.ItemsBudget > 0 {
		var err error
		if cfg.Items, err = items.Open(filepath.Join(dir, "items"), int64(c.DA.ItemsBudget)); err != nil {
			return nil, fmt.Errorf("items: %w", err)
		}
	}
	if c.DA.ShardsBudget > 0 {
		var err error
		opts := shards.Options{Budget: int64(c.DA.ShardsBudget), Keep: time.Duration(c.DA.ShardsKeep)}
		if cfg.Shards, err = shards.Open(filepath.Join(dir, "shards"), opts); err != nil {
			return nil, fmt.Errorf("shards: %w", err)
		}
	}
	node, err := da.New(context.Background(), *cfg, peers.NewSource(acc, asPeer))
	if err != nil {
		return nil, configError(err) // what to listen on, or its identity
	}
	fetcher.Use(node)
	p := &peering{node, cfg.Items, cfg.Shards}
	log.Info("peers", zap.String("id", node.ID()), zap.Strings("addresses", p.addresses()), zap.Int("asked", len(cfg.Peers)))
	return p, nil
}

// addresses gives those at which others reach the node; none where it doesn't listen, and
// has only a name.
func (p *peering) addresses() []string {
	return slices.DeleteFunc(p.Addrs(), func(a string) bool { return strings.HasPrefix(a, "/p2p/") })
}

// asPeer says in a context that a peer asks: all of them share one client's limits of
// replays. No token's name is empty.
func asPeer(ctx context.Context) context.Context {
	return access.WithClient(ctx, access.Client{Roles: access.Of(access.Observer), TCP: true, UID: -1, GID: -1, PID: -1})
}

// createPartial makes a store of the block that the configuration trusts.
func createPartial(cfg state.Config, trusted forks.Block) (*state.Accessor, error) {
	cfg.Commitment = state.JAM{}
	acc, err := state.CreatePartial(cfg, state.Anchor{Hash: trusted.Hash, Slot: trusted.Slot, Root: trusted.Root})
	if err != nil {
		return nil, err
	}
	if err := acc.Store().SetMeta(metaOrigin, originOf(trusted.Hash, trusted.Root)); err != nil {
		return nil, errors.Join(err, acc.Close())
	}
	return acc, nil
}

// openTrusted opens a store that grew from a trusted block, or makes it. A partial one
// that grew from an earlier block grows from this one then. what says which.
func openTrusted(cfg state.Config, trust string) (acc *state.Accessor, what string, err error) {
	trusted, err := config.ParseTrust(trust)
	if err != nil {
		return nil, "", usageError("--trust: %w", err)
	}
	acc, err = state.Open(cfg)
	if errors.Is(err, checkpoint.ErrEmpty) {
		acc, err = createPartial(cfg, trusted)
		return acc, "store made", err
	} else if err != nil {
		return nil, "", err
	}
	if old := acc.Anchor(); acc.Partial() && trusted.Slot > old.Slot {
		if acc, err = reanchor(acc, cfg, trusted); err != nil {
			return nil, "", err
		}
		what = "store grows from a later block now"
	} else {
		what = "store opened"
	}
	if err := checkOrigin(acc, cfg.Dir, "trust", "the trusted block", trusted); err != nil {
		return nil, "", errors.Join(err, acc.Close())
	}
	return acc, what, nil
}

// reanchor opens a partial store again, as one that grows from a later block.
func reanchor(acc *state.Accessor, cfg state.Config, trusted forks.Block) (*state.Accessor, error) {
	// Whatever happens on the way, what it grew from first isn't taken for what it grows
	// from: see checkOrigin.
	err := acc.Store().SetMeta(metaOrigin, nil)
	if err = errors.Join(err, acc.Close()); err != nil {
		return nil, err
	}
	err = state.Reanchor(cfg, trusted)
	if errors.Is(err, state.ErrNotDescendant) || errors.Is(err, checkpoint.ErrConflict) {
		return nil, usageError("--trust: %w; is that the right block? If so, leave %s and make a new store of it", err, cfg.Dir)
	} else if err != nil {
		return nil, err
	}
	return state.Open(cfg)
}

// startPeers makes the store's node, where one is configured, and begins to follow.
func (s *service) startPeers(acc *state.Accessor) error {
	if !s.config.DA.On() {
		if acc.Partial() {
			s.log.Warn("only a part of the state is here, and there is nobody to ask for the rest: give peers")
		}
		return nil
	}
	node, err := openNode(acc, &s.config.Config, s.fetcher, s.log)
	if err != nil {
		return err
	}
	s.reloading.Lock()
	s.node.Store(node)
	err = s.setPeers(s.current.Load()) // they may have been changed while the store was opened
	s.reloading.Unlock()
	if err != nil {
		return err
	}
	s.following.Go(func() { s.follow(acc) })
	return nil
}

// stopPeers ends what startPeers began, before the store is closed.
func (s *service) stopPeers() error {
	s.following.Wait() // it has ended with s.ending
	if node := s.node.Load(); node != nil {
		return node.Close()
	}
	return nil
}

// peerStats is what the node has done, where there is one.
func (s *service) peerStats() (p metrics.Peers, ok bool) {
	node := s.node.Load()
	if node == nil {
		return p, false
	}
	st := node.Stats()
	for _, one := range node.Peers() {
		if one.Connected {
			p.Connected++
		}
	}
	p.Banned = st.Banned
	p.Fetches, p.Joined, p.Failed, p.Requests, p.Hedges, p.Retries = st.Fetches, st.Joined, st.Failed, st.Requests, st.Hedges, st.Retries
	p.Rejected, p.NotHeld, p.Overloaded, p.Failures, p.ReadBytes = st.Rejected, st.NotHeld, st.Overloaded, st.Failures, st.ReadBytes
	p.Served, p.ServedEmpty, p.Refused, p.Limited = st.Served, st.ServedEmpty, st.Refused, st.Limited
	p.Malformed, p.Aborted, p.ServedBytes = st.Malformed, st.Aborted, st.ServedBytes
	p.StoredItems, p.StoreErrors, p.StoreSkipped = st.StoredItems, st.StoreErrors, st.StoreSkipped
	if node.shards != nil {
		kept := node.shards.Stats()
		p.Shards, p.ShardBytes = kept.Shards, kept.Bytes
		p.ShardsRefused, p.ShardsDamaged, p.ShardsAged = kept.Refused, kept.Damaged, kept.Aged
	}
	return p, true
}

// partialStats is what was fetched for the store, where there is one.
func (s *service) partialStats() (p state.PartialStats, ok bool) {
	acc := s.core.Load()
	if acc == nil {
		return p, false
	}
	return acc.PartialStats(), true
}

const (
	// followEvery is a slot of JAM.
	followEvery = 6 * time.Second
	// fillTold is how often the log says how far a fill is.
	fillTold = 10 * time.Second
)

// follow brings the store to where its peers are, as far as the configuration says,
// until the service ends.
func (s *service) follow(acc *state.Accessor) {
	d := &s.config.DA
	if d.Fill && (acc.Syncing() || s.config.Trust != "") && !s.sync(acc) {
		return
	}
	for d.Follow && pause(s.ending, followEvery) {
		if _, err := acc.CatchUp(s.ending, nil); err != nil && s.ending.Err() == nil {
			s.log.Warn("follow peers", zap.Error(err))
		}
	}
}

// sync fetches the state, then the blocks since, and tries again until it has them. It is
// false where the service ends first.
func (s *service) sync(acc *state.Accessor) bool {
	const first, longest = time.Second, time.Minute
	opts := state.SyncOptions{Fill: s.config.Fill()}
	opts.Fill.Progress = s.fillLogger()
	for wait := first; ; wait = min(2*wait, longest) {
		blocks := 0
		opts.Imported = func(state.Result) { blocks++ }
		// Blocks are taken from listed peers alone, whom a SIGHUP may bring at any time.
		opts.CatchUp = len(s.current.Load().DA.Peers) > 0
		err := acc.Sync(s.ending, opts)
		switch {
		case s.ending.Err() != nil:
			return false
		case err != nil:
			s.log.Warn("catch up with peers", zap.Int("blocks", blocks), zap.Error(err))
		case opts.CatchUp:
			s.log.Info("caught up with peers", zap.Int("blocks", blocks), block("head", acc.Head()))
			return true
		default:
			wait = first
		}
		if !pause(s.ending, wait) {
			return false
		}
	}
}

// fillLogger logs how far a fill is, now and then.
func (s *service) fillLogger() func(state.FillProgress) {
	var told time.Time
	return func(p state.FillProgress) {
		if now := time.Now(); now.Sub(told) >= fillTold {
			told = now
			s.log.Info("fetching the state", zap.Int64("pairs", p.Pairs), zap.Int64("bytes", p.Bytes),
				zap.Float64("covered", p.Covered), zap.NamedError("last_error", p.Err))
		}
	}
}

// pause waits; it is false where the context ends first.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

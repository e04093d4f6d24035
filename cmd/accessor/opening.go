package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"go.uber.org/zap"

	"accessor/api"
	"accessor/api/access"
	"accessor/checkpoint"
	"accessor/forks"
	"accessor/state"
	"accessor/trace"
)

// stateConfig is what the store is opened and made with.
func (s *service) stateConfig() state.Config {
	cfg := s.config.State()
	cfg.Engine, cfg.Owner, cfg.Log, cfg.Observer = s.engine, "serve", s.log, s.metrics.Observer()
	if s.config.DA.On() {
		cfg.Fetcher = s.fetcher
	}
	return cfg
}

// open opens the store, or makes it from the anchor. It leaves the service without
// one where an anchor is awaited.
func (s *service) open(ctx context.Context) error {
	began := time.Now()
	if s.config.Trust != "" {
		acc, what, err := openTrusted(s.stateConfig(), s.config.Trust)
		if err != nil {
			return err
		}
		return s.take(acc, what, began)
	}
	acc, err := state.Open(s.stateConfig())
	if errors.Is(err, checkpoint.ErrEmpty) {
		switch {
		case s.config.AwaitAnchor:
			s.log.Info("no store yet: PUT /v1/anchor makes it", zap.String("data", s.config.Data))
			return nil
		case s.config.Anchor == "":
			return err
		}
		return s.createFromFile(ctx)
	}
	if err != nil {
		return err
	}
	if s.config.Anchor != "" {
		anchor, err := trace.ReadAnchor(s.config.Anchor, trace.Options{})
		if err != nil {
			return errors.Join(&exitError{exitInput, err}, acc.Close())
		}
		if err := checkOrigin(acc, s.config.Data, "anchor", s.config.Anchor, forks.Block{Hash: anchor.Hash, Root: anchor.Root}); err != nil {
			return errors.Join(err, acc.Close())
		}
	}
	return s.take(acc, "store opened", began)
}

// createFromFile makes the store from the anchor that the configuration names.
func (s *service) createFromFile(ctx context.Context) error {
	began := time.Now()
	anchor, err := trace.ReadAnchor(s.config.Anchor, trace.Options{})
	if err != nil {
		return &exitError{exitInput, err}
	}
	acc, err := s.create(s.config.Commitment, state.Anchor{
		Hash: anchor.Hash, Slot: anchor.Slot, Root: anchor.Root, Header: anchor.Header,
		Pairs: func(yield func(state.Pair, error) bool) {
			for _, p := range anchor.Pairs {
				if err := context.Cause(ctx); !yield(p, err) || err != nil {
					return
				}
			}
		},
	})
	if err != nil {
		return err
	}
	return s.take(acc, "store made", began)
}

func (s *service) create(commitment string, anchor state.Anchor) (*state.Accessor, error) {
	cfg := s.stateConfig()
	c, ok := state.CommitmentByName(commitment)
	if !ok {
		return nil, fmt.Errorf("%w: %q, which this program doesn't know", state.ErrCommitment, commitment)
	}
	cfg.Commitment = c
	acc, err := state.Create(cfg, anchor)
	if err != nil {
		return nil, err
	}
	if err := acc.Store().SetMeta(metaOrigin, originOf(anchor.Hash, anchor.Root)); err != nil {
		return nil, errors.Join(err, acc.Close())
	}
	return acc, nil
}

// start makes the store of an anchor that a client brings.
func (s *service) start(ctx context.Context, commitment string, anchor state.Anchor) (api.Core, error) {
	began := time.Now()
	if commitment == "" {
		commitment = s.config.Commitment
	}
	acc, err := s.create(commitment, anchor)
	if err != nil {
		return nil, err
	}
	if err := s.take(acc, "store made", began); err != nil {
		return nil, err
	}
	return acc, nil
}

// take makes a store the service's; it closes one that doesn't fit.
func (s *service) take(acc *state.Accessor, what string, began time.Time) error {
	if _, err := s.table(acc); err != nil {
		return errors.Join(err, acc.Close())
	}
	if err := s.startPeers(acc); err != nil {
		return errors.Join(err, acc.Close())
	}
	s.core.Store(acc)
	s.warnOfReaders()
	st := acc.Stats()
	s.log.Info(what, zap.String("data", s.config.Data), zap.String("commitment", acc.Commitment().Name()), zap.String("engine", s.engine.Name()),
		zap.Int("blocks", st.Blocks), block("anchor", st.Anchor), block("head", st.Head), zap.Bool("partial", acc.Partial()), zap.Duration("took", time.Since(began)))
	return nil
}

// warnOfReaders says so where others can list the store's directory: what they read
// there goes by no table of roles.
func (s *service) warnOfReaders() {
	info, err := os.Stat(s.config.Data)
	if err == nil && info.Mode()&0o044 != 0 {
		s.log.Warn("other users of this machine can read the store's directory, whatever roles they have here: take that away by chmod 700",
			zap.String("data", s.config.Data), zap.Stringer("mode", info.Mode().Perm()))
	}
}

// table gives who may read what, once the store's commitment is known; nil for what
// the API takes by itself.
func (s *service) table(acc *state.Accessor) (*access.Table, error) {
	jam := acc.Commitment().Rooted()
	if !jam && s.config.Given("items") {
		return nil, usageError("the configuration has a table of items (%s), and the store in %s has no JAM items: take it out",
			s.config.Source("items"), s.config.Data)
	}
	return s.config.Access(jam)
}

// block is a block as the log has it.
func block(name string, b forks.Block) zap.Field {
	return zap.String(name, fmt.Sprintf("%d %s", b.Slot, b.Hash))
}

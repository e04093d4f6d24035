package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"accessor/api"
	"accessor/da"
	"accessor/da/items"
	"accessor/forks"
	"accessor/state"
)

// whoAmong says who the sidecar is among its peers, for GET /v1/status.
func (s *service) whoAmong() api.Peers {
	p := s.node.Load()
	if p == nil {
		return api.Peers{}
	}
	return api.Peers{ID: p.ID(), Addresses: p.addresses()}
}

// itemSource gives the API items: those kept here, and peers'. Without an anchor yet
// there is no node, and none of them.
type itemSource struct{ s *service }

var _ api.Items = itemSource{}

// Fetch implements api.Items.
func (i itemSource) Fetch(ctx context.Context, hash forks.Hash) ([]byte, error) {
	p := i.s.node.Load()
	if p == nil {
		return nil, fmt.Errorf("%w: there is no store yet", state.ErrNotFetched)
	}
	item, err := p.FetchItem(ctx, hash)
	switch {
	case errors.Is(err, da.ErrNotFound):
		return nil, fmt.Errorf("%w: %w", api.ErrUnknownItem, err)
	case err != nil:
		return nil, fmt.Errorf("%w: %w", state.ErrNotFetched, err)
	}
	return bytes.Clone(item), nil // others have been given the same one
}

// Put implements api.Items.
func (i itemSource) Put(_ context.Context, hash forks.Hash, item []byte) error {
	p := i.s.node.Load()
	switch {
	case p == nil:
		return fmt.Errorf("%w: there is no store yet", state.ErrNotFetched)
	case p.items == nil:
		return fmt.Errorf("%w: no items are kept here (da.items_budget)", state.ErrTooLarge)
	}
	err := p.items.Put(hash, item)
	switch {
	case errors.Is(err, items.ErrBudget):
		return fmt.Errorf("%w: %w", state.ErrTooLarge, err)
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		return fmt.Errorf("%w: %w", state.ErrNoSpace, err)
	}
	return err
}

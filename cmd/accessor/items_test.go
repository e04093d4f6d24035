package main

import (
	"context"
	"errors"
	"path/filepath"
	"testing"

	"accessor/api"
	"accessor/da"
	"accessor/da/shards"
	"accessor/forks"
)

// TestNoStoreNoItems: a sidecar that awaits its anchor says that it has no store, whatever
// is asked of items; what it would have to keep is not encoded first.
func TestNoStoreNoItems(t *testing.T) {
	items, works := itemSource{&service{}}, erasureSource{&service{}}
	ctx := t.Context()
	for name, call := range map[string]func() error{
		"fetch":     func() error { _, err := items.Fetch(ctx, forks.Hash{}); return err },
		"put":       func() error { return items.Put(ctx, forks.Hash{}, nil) },
		"keep":      func() error { _, err := works.Encode(ctx, 7, nil, nil, []int{0}); return err },
		"bundle":    func() error { _, err := works.Bundle(ctx, api.ErasureSpec{}); return err },
		"segment":   func() error { _, err := works.Segment(ctx, api.ErasureSpec{}, 0); return err },
		"shard":     func() error { _, err := works.Shard(forks.Hash{}, 0); return err },
		"put shard": func() error { return works.PutShard(ctx, api.ErasureSpec{}, 0, api.ErasureShard{}) },
	} {
		if err := call(); !errors.Is(err, api.ErrNoStore) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if spec, err := works.Encode(ctx, 6, []byte("bundle"), nil, nil); err != nil || spec.BundleLength != 6 {
		t.Errorf("a work package of which nothing is kept: %+v, %v", spec, err)
	}
}

// TestEncodeForNobody: of a work package whose encoder has gone no shard takes the room of
// others.
func TestEncodeForNobody(t *testing.T) {
	dir := t.TempDir()
	store, err := shards.Open(filepath.Join(dir, "shards"), shards.Options{Budget: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	node, err := da.New(t.Context(), da.Config{Identity: filepath.Join(dir, "identity"), Shards: store}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer node.Close()
	var s service
	s.node.Store(&peering{Node: node, shards: store})
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := (erasureSource{&s}).Encode(gone, 6, []byte("bundle"), nil, []int{0}); !errors.Is(err, context.Canceled) || store.Stats().Shards != 0 {
		t.Errorf("%v, %+v", err, store.Stats())
	}
	if _, err := (erasureSource{&s}).Encode(t.Context(), 6, []byte("bundle"), nil, []int{0}); err != nil || store.Stats().Shards != 1 {
		t.Errorf("%v, %+v", err, store.Stats())
	}
}

package state_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"accessor/forks"
	"accessor/state"
	"accessor/state/merkle"
)

// contents is a state as a plain map.
type contents map[string]string

func (c contents) root(t testing.TB) forks.Hash {
	t.Helper()
	root, err := merkle.Root(func(yield func([]byte, []byte) bool) {
		for _, k := range slices.Sorted(maps.Keys(c)) {
			if !yield([]byte(k), []byte(c[k])) {
				return
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return root
}

// with gives the state after a write set.
func (c contents) with(b *state.Block) contents {
	out := maps.Clone(c)
	for _, p := range b.Puts {
		out[string(p.Key)] = string(p.Value)
	}
	for _, key := range b.Dels {
		delete(out, string(key))
	}
	return out
}

func (c contents) pairs() func(yield func(state.Pair, error) bool) {
	return func(yield func(state.Pair, error) bool) {
		for _, k := range slices.Sorted(maps.Keys(c)) {
			if !yield(state.Pair{Key: []byte(k), Value: []byte(c[k])}, nil) {
				return
			}
		}
	}
}

// wantState wants the whole state at a block to be the model's.
func (c *chain) wantState(name string) {
	c.t.Helper()
	if err := c.compare(c.node(name)); err != nil {
		c.t.Fatal(err)
	}
}

// wantStates wants that of all blocks, and no other block to be held.
func (c *chain) wantStates() {
	c.t.Helper()
	all := c.held()
	for _, n := range all {
		if err := c.compare(n); err != nil {
			c.t.Fatal(err)
		}
	}
	c.ReadTree(func(t *forks.Tree) {
		if t.Len() != len(all) {
			c.t.Fatalf("%d blocks are held, want %d", t.Len(), len(all))
		}
	})
}

// compare compares a state with the model's: the block, a walk over all, and
// single reads of what is there and what isn't.
func (c *chain) compare(n *node) error {
	v, err := c.View(context.Background(), n.block.Hash)
	if err != nil {
		return err
	}
	defer v.Close()
	want := forks.Block{Hash: n.block.Hash, Parent: n.block.Parent, Slot: n.block.Slot, Root: n.root}
	if got := v.Block(); got != want {
		return fmt.Errorf("view at %s is of block %+v", n.name, got)
	}
	kv := make(contents)
	last := ""
	for p, err := range v.All(nil, nil) {
		if err != nil {
			return err
		}
		if string(p.Key) <= last {
			return fmt.Errorf("state at %s: key %x after %x", n.name, p.Key, last)
		}
		last = string(p.Key)
		kv[last] = string(p.Value)
	}
	if diff := cmp.Diff(n.state, kv); diff != "" {
		return fmt.Errorf("state at %s (-want +got):\n%s", n.name, diff)
	}
	for _, k := range []string{key("last writer"), key("by " + n.name), key("anchor 3"), key("never written")} {
		value, present, err := v.Get([]byte(k))
		if want, ok := n.state[k]; err != nil || present != ok || string(value) != want {
			return fmt.Errorf("state at %s: key %x: %q, %v, %v, want %q, %v", n.name, k, value, present, err, want, ok)
		}
	}
	if err := compareMany(v, n.state); err != nil {
		return fmt.Errorf("state at %s: %w", n.name, err)
	}
	return checkProofs(v, n)
}

// compareMany reads several keys at once, and scans in all ways.
func compareMany(v *state.View, want contents) error {
	ctx := context.Background()
	keys := slices.Sorted(maps.Keys(want))
	asked := [][]byte{[]byte(key("never written"))}
	for i := range keys {
		asked = append(asked, []byte(keys[len(keys)-1-i]), []byte(keys[i]))
	}
	values, err := v.MultiGet(ctx, asked)
	if err != nil {
		return err
	}
	present, err := v.HasMany(ctx, asked)
	if err != nil {
		return err
	}
	for i, k := range asked {
		value, ok := want[string(k)]
		has, err := v.Has(k)
		if err != nil || (values[i] != nil) != ok || string(values[i]) != value || present[i] != ok || has != ok {
			return fmt.Errorf("key %x: %q, %t, %t, %v; want %q, %t", k, values[i], present[i], has, err, value, ok)
		}
	}
	var size state.Size
	for k, value := range want {
		size.Keys++
		size.Bytes += int64(len(k) + len(value))
	}
	if got, err := v.Size(ctx); err != nil || got != size {
		return fmt.Errorf("size %+v, %v; want %+v", got, err, size)
	}
	for _, opts := range []state.ScanOptions{
		{}, {Reverse: true}, {Limit: 3}, {Limit: 3, Reverse: true}, {KeysOnly: true, Limit: 2},
		{Prefix: []byte(key("anchor 1")[:8])}, {Prefix: []byte(key("anchor 1")[:8]), Reverse: true, Limit: 1},
		{Prefix: []byte{0xff}}, {From: []byte{0x80}}, {From: []byte{0x40}, To: []byte{0xc0}, Reverse: true, Limit: 4},
		{From: []byte{2}, To: []byte{1}},
	} {
		err := comparePages(ctx, v, want, opts)
		if opts.Reverse && errors.Is(err, state.ErrPartial) {
			continue // peers don't walk backwards
		}
		if err != nil {
			return fmt.Errorf("scan %+v: %w", opts, err)
		}
	}
	return nil
}

// comparePages walks from page to page.
func comparePages(ctx context.Context, v *state.View, want contents, opts state.ScanOptions) error {
	var keys []string
	for _, k := range slices.Sorted(maps.Keys(want)) {
		if strings.HasPrefix(k, string(opts.Prefix)) && k >= string(opts.From) && (opts.To == nil || k < string(opts.To)) {
			keys = append(keys, k)
		}
	}
	if opts.Reverse {
		slices.Reverse(keys)
	}
	for {
		pairs, next, err := v.Page(ctx, opts)
		if err != nil {
			return err
		}
		if opts.Limit > 0 && len(pairs) > opts.Limit || next != nil && len(pairs) == 0 {
			return fmt.Errorf("a page of %d", len(pairs))
		}
		for _, p := range pairs {
			if len(keys) == 0 || string(p.Key) != keys[0] || !opts.KeysOnly && string(p.Value) != want[keys[0]] || opts.KeysOnly && p.Value != nil {
				return fmt.Errorf("pair %x %q; %d keys were to come", p.Key, p.Value, len(keys))
			}
			keys = keys[1:]
		}
		switch {
		case next == nil && len(keys) > 0:
			return fmt.Errorf("%d keys are missing", len(keys))
		case next == nil:
			return nil
		case opts.Reverse:
			opts.To = next
		default:
			opts.From = next
		}
	}
}

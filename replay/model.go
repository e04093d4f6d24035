package replay

import (
	"bytes"
	"context"
	"fmt"
	"iter"
	"maps"
	"slices"

	"accessor/forks"
	"accessor/state"
	"accessor/trace"
)

// model is the state at one block as a plain map. It moves along the tree by
// applying write sets, and back by undoing them.
type model struct {
	pairs map[string][]byte
}

// undo is what a write set replaced.
type undo struct {
	key   string
	value []byte
	had   bool
}

func newModel(anchor *trace.Anchor) *model {
	m := &model{pairs: make(map[string][]byte, len(anchor.Pairs))}
	for _, p := range anchor.Pairs {
		m.pairs[string(p.Key)] = p.Value
	}
	return m
}

func (m *model) apply(b *trace.Block) []undo {
	var undos []undo
	keep := func(key []byte) {
		value, had := m.pairs[string(key)]
		undos = append(undos, undo{key: string(key), value: value, had: had})
	}
	for _, p := range b.Puts {
		keep(p.Key)
		m.pairs[string(p.Key)] = p.Value
	}
	for _, key := range b.Dels {
		keep(key)
		delete(m.pairs, string(key))
	}
	return undos
}

func (m *model) revert(undos []undo) {
	for _, u := range slices.Backward(undos) {
		if u.had {
			m.pairs[u.key] = u.value
		} else {
			delete(m.pairs, u.key)
		}
	}
}

func (m *model) sorted() iter.Seq2[[]byte, []byte] {
	keys := slices.Sorted(maps.Keys(m.pairs))
	return func(yield func([]byte, []byte) bool) {
		for _, k := range keys {
			if !yield([]byte(k), m.pairs[k]) {
				return
			}
		}
	}
}

// verifyStates walks the recorded tree depth first with a model, and compares it
// at every block with what the store holds.
func (r *runner) verifyStates() error {
	children := make(map[forks.Hash][]*trace.Block)
	for _, b := range r.model {
		if !slices.ContainsFunc(children[b.Parent], func(o *trace.Block) bool { return o.Hash == b.Hash }) {
			children[b.Parent] = append(children[b.Parent], b)
		}
	}
	m := newModel(r.anchor)
	done := int64(0)
	visit := func(h, root forks.Hash) error {
		if done++; r.opts.Progress != nil {
			r.opts.Progress("verify states", done, int64(len(r.model)+1))
		}
		return r.verifyState(m, h, root)
	}
	if err := visit(r.anchor.Hash, r.anchor.Root); err != nil {
		return err
	}
	type frame struct {
		hash  forks.Hash
		undos []undo
	}
	stack := []frame{{hash: r.anchor.Hash}}
	for len(stack) > 0 {
		top := &stack[len(stack)-1]
		kids := children[top.hash]
		if len(kids) == 0 {
			m.revert(top.undos)
			stack = stack[:len(stack)-1]
			continue
		}
		children[top.hash] = kids[1:]
		b := kids[0]
		stack = append(stack, frame{hash: b.Hash, undos: m.apply(b)})
		if _, err := r.acc.Block(b.Hash); err != nil {
			continue // refused, and reported as that
		}
		if err := visit(b.Hash, recordedRoot(b)); err != nil {
			return err
		}
	}
	return nil
}

func recordedRoot(b *trace.Block) forks.Hash {
	if b.PostRoot == nil {
		return forks.Hash{}
	}
	return *b.PostRoot
}

// verifyState compares the state that the store has at a block with the model,
// and the model's own root with the recorded one.
func (r *runner) verifyState(m *model, h, root forks.Hash) error {
	if err := context.Cause(r.ctx); err != nil {
		return err
	}
	view, err := r.acc.View(r.ctx, h)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrStore, err)
	}
	defer view.Close()
	b := state.Block{Hash: h, Slot: view.Block().Slot}
	before := len(r.report.Errors)
	if err := r.compare(m, view, &b); err != nil {
		return fmt.Errorf("%w: %w", ErrStore, err)
	}
	if c := r.acc.Commitment(); c.Rooted() {
		got, err := c.Root(m.sorted())
		if err != nil {
			return inputError(err)
		}
		if got != root {
			r.differ(&b, "", "root of the recorded state", root.String(), got.String())
		}
		if held := view.Block().Root; held != root {
			r.differ(&b, "", "root that the store recorded", root.String(), held.String())
		}
	}
	if len(r.report.Errors) == before {
		r.report.StatesVerified++
	}
	return nil
}

// compare reports the first key at which the state differs from the model.
func (r *runner) compare(m *model, view *state.View, b *state.Block) error {
	next, stop := iter.Pull2(m.sorted())
	defer stop()
	key, value, more := next()
	for p, err := range view.All(nil, nil) {
		if err != nil {
			return err
		}
		if !more {
			r.differ(b, "", "state has a key too many", "no such key", fmt.Sprintf("%x", p.Key))
			return nil
		}
		if !bytes.Equal(p.Key, key) {
			r.differ(b, "", "key of the state", fmt.Sprintf("%x", key), fmt.Sprintf("%x", p.Key))
			return nil
		}
		if !bytes.Equal(p.Value, value) {
			r.differ(b, "", fmt.Sprintf("value of key %x", key), abbreviate(value), abbreviate(p.Value))
			return nil
		}
		key, value, more = next()
	}
	if more {
		r.differ(b, "", "state lacks a key", fmt.Sprintf("%x", key), "no such key")
	}
	return nil
}

// abbreviate gives a value in hex, long ones by their beginning and length.
func abbreviate(v []byte) string {
	if len(v) <= 64 {
		return fmt.Sprintf("%x", v)
	}
	return fmt.Sprintf("%x… (%d bytes)", v[:64], len(v))
}

package replay

import (
	"bytes"
	"context"
	"fmt"

	"accessor/forks"
	"accessor/state"
	"accessor/trace"
)

// WriteBranch writes a store's anchor, with its whole state, and the blocks from
// there up to one as a recording: its header, its anchor and its blocks, not its
// end. The write sets are exact, whatever the node handed over. The state at the
// anchor must fit into a line of a recording and into memory; otherwise the error is
// trace.ErrTooLong, before anything is written. Other errors: state.ErrUnknownBlock,
// w's, and ErrStore. progress, where given, is called with the blocks done and all.
func WriteBranch(ctx context.Context, acc *state.Accessor, to forks.Hash, w *trace.Writer, progress func(done, all int64)) error {
	var blocks []forks.Block
	var err error
	acc.ReadTree(func(t *forks.Tree) { _, blocks, err = t.Path(t.Anchor().Hash, to) })
	if err != nil {
		return fmt.Errorf("%w: %w", state.ErrUnknownBlock, err)
	}
	anchor, err := recordAnchor(ctx, acc)
	if err != nil {
		return err
	}
	last := acc.Anchor()
	if n := len(blocks); n > 0 {
		last = blocks[n-1]
	}
	header := &trace.Header{
		Name: fmt.Sprintf("branch-%d-%s", last.Slot, last.Hash.Short()),
		Note: fmt.Sprintf("exported from a store: one branch, up to block %s at slot %d", last.Hash, last.Slot),
	}
	if err := w.Header(header); err != nil {
		return err
	}
	if err := w.Anchor(anchor); err != nil {
		return err
	}
	m := newModel(anchor)
	size := int64(0)
	for _, p := range anchor.Pairs {
		size += int64(len(p.Value))
	}
	for i, at := range blocks {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		b, err := recordBlock(acc, at.Hash, m)
		if err != nil {
			return err
		}
		for _, u := range m.apply(b) {
			size -= int64(len(u.value))
		}
		for _, p := range b.Puts {
			size += int64(len(p.Value))
		}
		b.Keys, b.Bytes = len(m.pairs), size
		if err := w.Block(b); err != nil {
			return err
		}
		if progress != nil {
			progress(int64(i+1), int64(len(blocks)))
		}
	}
	return nil
}

// recordAnchor reads the anchor and its state.
func recordAnchor(ctx context.Context, acc *state.Accessor) (*trace.Anchor, error) {
	b := acc.Anchor()
	rec, err := acc.Store().Get(b.Hash)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrStore, err)
	}
	view, err := acc.View(ctx, b.Hash)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrStore, err)
	}
	defer view.Close()
	anchor := &trace.Anchor{Hash: b.Hash, Slot: b.Slot, Root: b.Root, Header: rec.Header}
	// What the line is at least: the digits, quotes, commas and brackets.
	line, most := int64(2*len(rec.Header)), trace.DefaultOptions.LineLimit
	for p, err := range view.All(nil, nil) {
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrStore, err)
		}
		if line += int64(2*len(p.Key) + 2*len(p.Value) + len(`["",""],`)); line > most {
			return nil, fmt.Errorf("%w: the state at the anchor, %s at slot %d, takes a line of more than %d bytes",
				trace.ErrTooLong, b.Hash, b.Slot, most)
		}
		if len(anchor.Pairs)%4096 == 0 {
			if err := context.Cause(ctx); err != nil {
				return nil, err
			}
		}
		anchor.Pairs = append(anchor.Pairs, state.Pair{Key: bytes.Clone(p.Key), Value: cloneValue(p.Value)})
	}
	return anchor, nil
}

// cloneValue copies a value; an empty one is not nil.
func cloneValue(v []byte) []byte { return append([]byte{}, v...) }

// recordBlock reads a block with what it changes in the state at its parent.
func recordBlock(acc *state.Accessor, h forks.Hash, parent *model) (*trace.Block, error) {
	rec, err := acc.Store().Get(h)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrStore, err)
	}
	b := &trace.Block{Block: state.Block{Hash: h, Parent: rec.Parent, Slot: rec.Slot,
		PriorRoot: &rec.PriorRoot, PostRoot: &rec.Root, Header: rec.Header}}
	writes, err := acc.Store().ReadDelta(h)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrStore, err)
	}
	for write, err := range writes {
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrStore, err)
		}
		old, had := parent.pairs[string(write.Key)]
		switch {
		case write.Delete && had:
			b.Dels = append(b.Dels, bytes.Clone(write.Key))
		case !write.Delete && (!had || !bytes.Equal(old, write.Value)):
			b.Puts = append(b.Puts, state.Pair{Key: bytes.Clone(write.Key), Value: cloneValue(write.Value)})
		}
	}
	return b, nil
}

package checkpoint

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"maps"
	"path/filepath"
	"slices"

	"accessor/forks"
)

// Pruned says what a Prune has removed.
type Pruned struct {
	Blocks int
	// Bytes is the space that was freed; what other blocks' checkpoints still link
	// to is not in it.
	Bytes int64
}

// mostGone is how many pruned blocks a store remembers, to tell them from blocks
// that it never held.
const mostGone = 1 << 16

// Prune makes a block the anchor, and removes all that don't descend from it. Its
// whole state becomes its delta, read whole and checked against its root: from then
// on that is a fact, which nothing can rebuild.
//
//	whole state → deltas/NAME.anchor → image │ records, in one batch │ NAME.anchor → NAME.sst, trash
//	                                         └ switchOver            └ from here the next start goes on
//
// When the state is written and nothing else is changed yet, switchOver is called;
// its error gives the pruning up. From there until Prune returns no block is
// imported under one that goes. Views that are open stay usable. Pruning up to the
// anchor does nothing. Errors: ErrUnknown, ErrClosed, ErrDamaged, ErrNoSpace,
// switchOver's.
func (s *Store) Prune(ctx context.Context, to forks.Hash, switchOver func() error) (Pruned, error) {
	s.building.Lock()
	defer s.building.Unlock()
	e, err := s.entry(to)
	if err != nil {
		return Pruned{}, fmt.Errorf("prune: %w", err)
	}
	if e == s.anchorEntry() {
		return Pruned{}, nil
	}
	if s.Partial() {
		return Pruned{}, fmt.Errorf("prune: %w", ErrPartial)
	}
	var rec *Record
	err = yielding(func() error {
		var err error
		if rec, err = s.writeWhole(ctx, e); err != nil {
			return err
		}
		// Before anything below goes that its state could be reached from. An image
		// that others may be using is left as it is.
		if at, err := s.usableImage(e); err != nil || at == e {
			return err
		}
		return s.imageOf(e, s.anchorPath(e.rec.Block), rec.DeltaSize)
	})
	if err != nil {
		s.discard(s.anchorPath(e.rec.Block))
		return Pruned{}, fmt.Errorf("prune up to block %s: %w", to, err)
	}
	// Without maintain.mu: it opens views, which may wait for runs.
	if err := switchOver(); err != nil {
		s.discard(s.anchorPath(e.rec.Block))
		return Pruned{}, fmt.Errorf("prune up to block %s: %w", to, err)
	}
	report, err := s.moveAnchor(e, rec)
	if err != nil {
		return report, fmt.Errorf("prune up to block %s: %w", to, err)
	}
	return report, nil
}

// anchorPath is where the whole state of the anchor to be waits for its record.
func (s *Store) anchorPath(b forks.Block) string { return s.path(dirDeltas, Name(b)+".anchor") }

func (s *Store) anchorEntry() *entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.anchor
}

// writeWhole writes the whole state at e, durably, and gives the record of an anchor
// with it.
func (s *Store) writeWhole(ctx context.Context, e *entry) (*Record, error) {
	whole, err := s.wholeAt(ctx, e)
	if err != nil {
		return nil, err
	}
	defer whole.close()
	rec := e.rec
	rec.Anchor = true
	tmp := s.tmpPath(dirTmp, "whole")
	rec.DeltaSize, rec.DeltaSum, err = s.writeTable(tmp, &rec, whole.stored())
	if err = cmp.Or(whole.err, err); err == nil {
		err = s.files.rename(tmp, s.anchorPath(e.rec.Block))
	}
	if err != nil {
		s.discard(tmp)
		return nil, err
	}
	return &rec, nil
}

// moveAnchor makes e the anchor, with rec as its record.
func (s *Store) moveAnchor(e *entry, rec *Record) (report Pruned, err error) {
	s.maintain.mu.Lock()
	defer s.maintain.mu.Unlock()
	gone, spanning, indexes := s.below(e)
	changes := []Change{{Key: blockKey(e.rec.Hash), Value: rec.encode()}}
	var paths []string
	for _, x := range gone {
		changes = append(changes, Change{Key: blockKey(x.rec.Hash)}, Change{Key: sealKey(x.rec.Hash)}, Change{Key: imageKey(x.rec.Hash)},
			Change{Key: goneKey(x.rec.Hash), Value: binary.LittleEndian.AppendUint32(nil, uint32(x.rec.Slot))})
		// An anchor's delta first: see readDeltas.
		paths = append(paths, s.deltaPath(x.rec.Block), s.checkpointPath(x.rec.Block), s.imagePath(x.rec.Block))
	}
	for _, r := range spanning {
		changes = append(changes, Change{Key: runKey(r.at.rec.Hash, r.count)})
		paths = append(paths, s.runPath(r.at.rec.Block, r.count))
	}
	for _, x := range indexes {
		changes = append(changes, Change{Key: indexKey(x.top.rec.Hash, x.n)})
		paths = append(paths, s.indexPath(x))
	}
	forgotten := s.forgotten(len(gone))
	for _, h := range forgotten {
		changes = append(changes, Change{Key: goneKey(h)})
	}
	publish, err := s.recordWith(changes, s.prunedEvent(rec, len(gone)))
	defer publish()
	if err != nil {
		return report, err // the next start knows whether they are recorded
	}
	working := s.replaceAnchor(e, rec, gone, spanning, forgotten)
	for _, w := range working {
		w.Drop()
	}
	report = Pruned{Blocks: len(gone), Bytes: freedBy(paths)}
	if err := s.files.rename(s.anchorPath(rec.Block), s.deltaPath(rec.Block)); err != nil {
		return report, err
	}
	return report, s.trashAll(paths)
}

// spanningRun is a run that begins at or below the block that it is about.
type spanningRun struct {
	at *entry
	*run
}

// below gives the blocks that don't descend from e, the anchor first, the runs
// that need one of them or end at one, and the indexes of groups that end at one or
// at e.
func (s *Store) below(e *entry) (gone []*entry, runs []spanningRun, indexes []*index) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e.index != nil && e.index.top == e {
		indexes = append(indexes, e.index)
	}
	kept := map[*entry]bool{e: true}
	for _, x := range s.sortedLocked() {
		if x != e && !kept[x.parent()] {
			gone = append(gone, x)
			if x.index != nil && x.index.top == x {
				indexes = append(indexes, x.index)
			}
		} else {
			kept[x] = true
		}
		for _, r := range x.runs {
			if !kept[x] || x.height-r.count < e.height {
				runs = append(runs, spanningRun{x, r})
			}
		}
	}
	return gone, runs, indexes
}

// forgotten gives the pruned blocks that the store remembers no longer when there
// are more of them.
func (s *Store) forgotten(more int) []forks.Hash {
	s.mu.Lock()
	defer s.mu.Unlock()
	over := len(s.pruned) + more - mostGone
	if over <= 0 {
		return nil
	}
	all := slices.SortedFunc(maps.Keys(s.pruned), func(a, b forks.Hash) int {
		return cmp.Or(cmp.Compare(s.pruned[a], s.pruned[b]), bytes.Compare(a[:], b[:]))
	})
	return all[:min(over, len(all))]
}

// replaceAnchor does in memory what the records say already. It gives the working
// databases that stand at blocks that have gone, or at the anchor as it was before.
func (s *Store) replaceAnchor(old *entry, rec *Record, gone []*entry, runs []spanningRun, forgotten []forks.Hash) (working []*Working) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range runs {
		r.at.runs = slices.DeleteFunc(slices.Clone(r.at.runs), func(o *run) bool { return o == r.run })
	}
	for _, h := range forgotten {
		delete(s.pruned, h)
	}
	// Readers without the lock still have the entry as it was.
	anchor := &entry{rec: *rec, height: old.height, seal: old.seal, thin: old.thin, archived: old.archived, image: old.image}
	s.anchor, s.entries[rec.Hash] = anchor, anchor
	removed := map[*entry]bool{old: true}
	for _, x := range gone {
		removed[x] = true
		delete(s.entries, x.rec.Hash)
		s.pruned[x.rec.Hash] = x.rec.Slot
	}
	for _, x := range s.entries {
		if x.parent() == old {
			x.above.Store(anchor)
		}
	}
	for _, list := range []*[]*Working{&s.idle, &s.prepared} {
		*list = slices.DeleteFunc(*list, func(w *Working) bool {
			if removed[w.at] {
				working = append(working, w)
			}
			return removed[w.at]
		})
	}
	return working
}

// PrunedAt says whether a block was pruned, as far as the store remembers, and which
// slot it had.
func (s *Store) PrunedAt(h forks.Hash) (slot forks.Slot, pruned bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	slot, pruned = s.pruned[h]
	return slot, pruned
}

// finishPruning goes on where a crash stopped a Prune: before its records, as if it
// had not begun; after them, to its end.
func (s *Store) finishPruning() error {
	for key, value := range s.blocks.Scan([]byte{prefixGone}) {
		if len(value) != 4 {
			return fmt.Errorf("%w: record of a pruned block of %d bytes", ErrDamaged, len(value))
		}
		s.pruned[hashOfKey(key)] = forks.Slot(binary.LittleEndian.Uint32(value))
	}
	if err := s.blocks.Err(); err != nil {
		return err
	}
	present, err := s.listing(dirDeltas)
	if err != nil {
		return err
	}
	if err := s.finishCompletion(present); err != nil {
		return err
	}
	whole := s.anchorPath(s.anchor.rec.Block)
	if present[whole] && s.anchor.rec.Partial {
		// Of a Reanchor, or of a completion that was not recorded.
		recorded, err := isRecorded(whole, &s.anchor.rec)
		if err != nil {
			return err
		}
		if !recorded {
			whole = ""
		}
	}
	if present[whole] {
		if err := s.files.rename(whole, s.deltaPath(s.anchor.rec.Block)); err != nil {
			return err
		}
	}
	for path := range present {
		if filepath.Ext(path) == ".anchor" && path != whole {
			if err := s.files.remove(path); err != nil {
				return err
			}
		}
	}
	for h, slot := range s.pruned {
		path := s.deltaPath(forks.Block{Hash: h, Slot: slot})
		if s.entries[h] == nil && present[path] {
			if err := s.files.remove(path); err != nil {
				return err
			}
		}
	}
	return nil
}

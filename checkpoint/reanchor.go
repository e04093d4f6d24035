package checkpoint

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"time"

	"accessor/forks"
)

// Reanchor makes a partial store grow from a later block, for when nobody has the
// anchor's state any more: rec's hash, slot and root are the block's. What descends from
// it stays, where it is held; all other blocks go, as by Prune, and what the spool has,
// which was proven against another root. What is kept under the hashes of nodes and
// values stays. meta are values that are set with that, nil to remove one.
//
//	empty state → deltas/NAME.anchor │ records, in one batch │ NAME.anchor → NAME.sst, trash
//	                                                         └ from here the next start goes on
//
// The store is used by nobody else; where that succeeds, it is closed and opened again
// by the caller. Errors: ErrComplete, ErrConflict for a block that is held with another
// slot or root, ErrOlder, ErrNoSpace.
func (s *Store) Reanchor(rec Record, meta map[string][]byte) error {
	old := s.anchorEntry().rec
	s.mu.Lock()
	held := s.entries[rec.Hash]
	s.mu.Unlock()
	switch {
	case !old.Partial:
		return ErrComplete
	case rec.Slot <= old.Slot:
		return fmt.Errorf("%w: %s at slot %d, the anchor is %s at slot %d", ErrOlder, rec.Hash, rec.Slot, old.Hash, old.Slot)
	case held != nil && (held.rec.Slot != rec.Slot || held.rec.Root != rec.Root):
		return fmt.Errorf("%w: block %s is held at slot %d with root %s, given slot %d and root %s",
			ErrConflict, rec.Hash, held.rec.Slot, held.rec.Root, rec.Slot, rec.Root)
	case held != nil:
		rec = held.rec
	default:
		s.mu.Lock()
		s.number++
		rec.Number = s.number
		s.mu.Unlock()
		rec.Arrived = time.UnixMilli(time.Now().UnixMilli())
	}
	rec.Anchor, rec.Partial = true, true
	err := s.Fill().Spool().Reset()
	if err == nil {
		var failed error
		err = s.writeAside(&rec, s.anchorPath(rec.Block), func(func([]byte, []byte) bool) {}, &failed)
	}
	if err == nil {
		err = s.recordReanchor(&rec, meta)
	}
	if err != nil {
		return fmt.Errorf("grow from block %s: %w", rec.Hash, err)
	}
	return nil
}

// recordReanchor records the anchor, and removes what doesn't descend from it.
func (s *Store) recordReanchor(rec *Record, meta map[string][]byte) error {
	changes := []Change{{Key: blockKey(rec.Hash), Value: rec.encode()}, {Key: goneKey(rec.Hash)}}
	var paths []string
	for _, x := range s.besides(rec.Hash) {
		changes = append(changes, Change{Key: blockKey(x.Hash)},
			Change{Key: goneKey(x.Hash), Value: binary.LittleEndian.AppendUint32(nil, uint32(x.Slot))})
		paths = append(paths, s.deltaPath(x))
	}
	for _, h := range s.forgotten(len(paths)) {
		changes = append(changes, Change{Key: goneKey(h)})
	}
	for name, value := range meta {
		changes = append(changes, Change{Key: metaKey(name), Value: value})
	}
	publish, err := s.recordWith(changes, s.prunedEvent(rec, len(paths)))
	defer publish()
	if err != nil {
		return err // the next start knows whether they are recorded
	}
	if err := s.files.rename(s.anchorPath(rec.Block), s.deltaPath(rec.Block)); err != nil {
		return err
	}
	return s.trashAll(paths)
}

// besides gives the blocks that neither are the one with a hash nor descend from it.
func (s *Store) besides(h forks.Hash) (list []forks.Block) {
	s.mu.Lock()
	defer s.mu.Unlock()
	kept := make(map[*entry]bool)
	for _, e := range s.sortedLocked() {
		if kept[e] = e.rec.Hash == h || kept[e.parent()]; !kept[e] {
			list = append(list, e.rec.Block)
		}
	}
	return list
}

// isRecorded says whether a file is the one that a record tells of.
func isRecorded(path string, rec *Record) (bool, error) {
	info, err := os.Stat(path)
	if err != nil || info.Size() != rec.DeltaSize {
		return false, err
	}
	_, sum, err := fileSum(path)
	return sum == rec.DeltaSum, err
}

var (
	// ErrOlder: the block is not later than the anchor.
	ErrOlder = errors.New("the store grows from a block that is as late")
	// ErrConflict: another block is held under that hash.
	ErrConflict = errors.New("the block is held with other contents")
)

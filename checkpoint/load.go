package checkpoint

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"go.uber.org/zap"
)

// load reads the records and takes in what a crash left unrecorded.
func (s *Store) load() error {
	if err := s.loadBlocks(); err != nil {
		return err
	}
	if s.anchor == nil {
		if err := s.checkDeltas(); err != nil {
			return err
		}
		return fmt.Errorf("%w: making it was cut short", ErrEmpty)
	}
	if err := s.loadMeta(); err != nil {
		return err
	}
	if err := s.loadDerived(); err != nil {
		return err
	}
	if err := s.finishPruning(); err != nil {
		return err
	}
	if err := s.takeInDeltas(); err != nil {
		return err
	}
	if s.Partial() {
		return s.openFill()
	}
	if err := s.clearFill(); err != nil {
		return err
	}
	_, err := s.usableImage(s.anchor)
	return err
}

func (s *Store) loadBlocks() error {
	var records []Record
	for key, value := range s.blocks.Scan([]byte{prefixBlock}) {
		rec, err := decodeRecord(value)
		if err != nil {
			return fmt.Errorf("read record of block %x: %w", key[1:], err)
		}
		records = append(records, rec)
	}
	if err := s.blocks.Err(); err != nil {
		return fmt.Errorf("read block records: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	// A child's slot is above its parent's, so this puts parents first.
	slices.SortFunc(records, func(a, b Record) int {
		if a.Anchor != b.Anchor {
			return map[bool]int{true: -1, false: 1}[a.Anchor]
		}
		return int(int64(a.Slot) - int64(b.Slot))
	})
	for _, rec := range records {
		parent, ok := s.entries[rec.Parent]
		if !ok && !rec.Anchor {
			return fmt.Errorf("%w: record of block %s without its parent %s", ErrDamaged, rec.Hash, rec.Parent)
		}
		if rec.Anchor && s.anchor != nil {
			return fmt.Errorf("%w: two anchors, %s and %s", ErrDamaged, s.anchor.rec.Hash, rec.Hash)
		}
		s.addLocked(rec, parent)
	}
	return nil
}

func (s *Store) loadMeta() error {
	for key, value := range s.blocks.Scan([]byte{prefixMeta}) {
		s.meta[string(key[1:])] = value
	}
	return s.blocks.Err()
}

// loadDerived reads the records of checkpoints, images and runs, and clears
// away those files that have none: they were not finished.
func (s *Store) loadDerived() error {
	present, err := s.listing(dirImages)
	if err != nil {
		return err
	}
	recorded := make(map[string]bool)
	for key, value := range s.blocks.Scan([]byte{prefixSeal}) {
		e, ok := s.entries[hashOfKey(key)]
		if !ok {
			continue
		}
		l, instead, err := decodeSeal(value)
		if err != nil {
			return err
		}
		// Whether the directory is there is seen when it is used: missing is
		// a state of its own, which views and verify report.
		e.seal, e.thin, e.archived = l, instead != 0, instead == sealArchived
		if l != nil {
			recorded[s.checkpointPath(e.rec.Block)] = true
		}
	}
	for key, value := range s.blocks.Scan([]byte{prefixImage}) {
		e, ok := s.entries[hashOfKey(key)]
		if !ok || !present[s.imagePath(e.rec.Block)] {
			continue
		}
		if e.image, err = decodeImage(value); err != nil {
			return err
		}
		recorded[s.imagePath(e.rec.Block)] = true
	}
	for key, value := range s.blocks.Scan([]byte{prefixRun}) {
		if err := s.loadRun(key, value, recorded); err != nil {
			return err
		}
	}
	for key, value := range s.blocks.Scan([]byte{prefixIndex}) {
		if err := s.loadIndex(key, value, recorded); err != nil {
			return err
		}
	}
	if err := s.blocks.Err(); err != nil {
		return err
	}
	return s.trashUnrecorded(recorded)
}

func (s *Store) loadRun(key, value []byte, recorded map[string]bool) error {
	e, count, file, err := s.countedRecord(key, value)
	if err != nil || e == nil {
		return err
	}
	if path := s.runPath(e.rec.Block, count); file.isAt(path) && e.up(count) != nil {
		e.runs = append(e.runs, &run{count, file}) // keys come in order of count
		recorded[path] = true
	}
	return nil
}

func (s *Store) loadIndex(key, value []byte, recorded map[string]bool) error {
	e, count, file, err := s.countedRecord(key, value)
	if err != nil || e == nil {
		return err
	}
	x := &index{top: e, n: count, file: file}
	if path := s.indexPath(x); file.isAt(path) {
		s.indexLocked(x)
		recorded[path] = true
	}
	return nil
}

// countedRecord reads the record of a run or an index; e is nil where it says nothing
// of a block that is held.
func (s *Store) countedRecord(key, value []byte) (e *entry, count int, file tableFile, err error) {
	h, count, err := splitCountedKey(key)
	file, ok := decodeTableFile(value)
	if err != nil || !ok {
		return nil, 0, file, err
	}
	return s.entries[h], count, file, nil
}

// isAt says whether there is a file of the recorded size.
func (f *tableFile) isAt(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Size() == f.size
}

// listing gives the paths of what the folders hold.
func (s *Store) listing(dirs ...string) (map[string]bool, error) {
	paths := make(map[string]bool)
	for _, dir := range dirs {
		names, err := os.ReadDir(s.path(dir))
		if err != nil {
			return nil, err
		}
		for _, d := range names {
			paths[s.path(dir, d.Name())] = true
		}
	}
	return paths, nil
}

func (s *Store) trashUnrecorded(recorded map[string]bool) error {
	present, err := s.listing(dirCheckpoints, dirImages, dirRuns, dirIndexes)
	if err != nil {
		return err
	}
	for path := range present {
		if recorded[path] {
			continue
		}
		if err := s.trash(path); err != nil {
			return err
		}
	}
	return nil
}

// takeInDeltas records the deltas that a crash left without a record: whole
// ones whose parent is held, in order of their slots. Any other file goes to
// lost/.
func (s *Store) takeInDeltas() error {
	present, err := s.listing(dirDeltas)
	if err != nil {
		return err
	}
	missing := 0
	for _, e := range s.entries {
		path := s.deltaPath(e.rec.Block)
		if !present[path] {
			missing++
		}
		delete(present, path)
	}
	s.missing = missing
	if missing > 0 {
		s.log.Error("write sets of blocks are missing: bring them back from a backup; accessor verify names them",
			zap.String("folder", s.path(dirDeltas)), zap.Int("missing", missing))
	}
	for _, path := range slices.Sorted(maps.Keys(present)) {
		rec, err := s.checkDelta(path)
		if err == nil {
			err = s.admissible(&rec)
		}
		if err == nil {
			if err := s.Record(&rec); err != nil {
				return err
			}
			s.log.Info("took in a delta that was written before a crash",
				zap.Stringer("block", rec.Hash), zap.Stringer("slot", rec.Slot))
			continue
		}
		if !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrFormat) && !errors.Is(err, ErrUnknown) {
			return err // says nothing about the delta
		}
		s.log.Warn("moved to lost/", zap.String("path", path), zap.Error(err))
		name := filepath.Base(path)
		if err := s.moveToLost(dirDeltas, func(n string) bool { return n == name }); err != nil {
			return err
		}
	}
	return nil
}

// admissible says whether an unrecorded delta fits into the tree.
func (s *Store) admissible(rec *Record) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	parent, ok := s.entries[rec.Parent]
	switch {
	case rec.Anchor:
		return fmt.Errorf("%w: a second anchor", ErrDamaged)
	case s.entries[rec.Hash] != nil:
		return fmt.Errorf("%w: block %s is held with another slot", ErrDamaged, rec.Hash)
	case !ok:
		return fmt.Errorf("%w: parent %s of block %s", ErrUnknown, rec.Parent, rec.Hash)
	case rec.Slot <= parent.rec.Slot:
		return fmt.Errorf("%w: block %s has slot %d, its parent %d", ErrDamaged, rec.Hash, rec.Slot, parent.rec.Slot)
	}
	return nil
}

// checkDelta reads a whole delta and gives its record, with size and checksum.
func (s *Store) checkDelta(path string) (Record, error) {
	rec, err := readRecord(s.engine, path)
	if err != nil {
		return rec, err
	}
	if s.deltaPath(rec.Block) != path {
		return rec, fmt.Errorf("%w: %s holds block %s", ErrDamaged, path, rec.Hash)
	}
	table, err := s.engine.OpenTable(path)
	if err != nil {
		return rec, err
	}
	defer table.Close()
	if err := table.Verify(); err != nil {
		return rec, err
	}
	rec.DeltaSize, rec.DeltaSum, err = fileSum(path)
	return rec, err
}

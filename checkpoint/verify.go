package checkpoint

import (
	"fmt"
	"os"
	"path/filepath"

	"accessor/forks"
)

// VerifyBlock reads all that the store has on disk of one block and gives what
// is wrong with it: its record against its delta, the delta's size and checksums,
// the runs, the index and the image that end at it, and its checkpoint's seal. A checkpoint
// that was pruned on purpose is not wrong. It reads whole files; it changes
// nothing.
func (s *Store) VerifyBlock(h forks.Hash) []error {
	e, err := s.entry(h)
	if err != nil {
		return []error{err}
	}
	s.mu.Lock()
	l, thin, im, runs, x := e.seal, e.thin, e.image, e.runs, e.index
	s.mu.Unlock()

	var wrong []error
	note := func(what string, err error) {
		if err != nil {
			wrong = append(wrong, fmt.Errorf("%s of block %s at slot %d: %w", what, e.rec.Hash, e.rec.Slot, err))
		}
	}
	if err := s.verifyDelta(e); err != nil {
		note("delta", fmt.Errorf("%w: %w", ErrDelta, err))
	}
	for _, r := range runs {
		note("run", s.verifyTable(s.runPath(e.rec.Block, r.count), r.size, r.sum))
	}
	if x != nil && x.top == e {
		note("index", s.verifyTable(s.indexPath(x), x.file.size, x.file.sum))
	}
	if im != nil {
		note("image", s.verifyImage(e, im))
	}
	switch {
	case thin, s.Partial():
	case l == nil:
		note("checkpoint", ErrUnsealed)
	default:
		note("checkpoint", s.checkSeal(s.checkpointPath(e.rec.Block), l))
	}
	return wrong
}

// verifyTable compares a table file with its recorded size and checksum, then
// checks the engine's own.
func (s *Store) verifyTable(path string, size int64, sum uint64) error {
	gotSize, gotSum, err := fileSum(path)
	if err != nil {
		return err
	}
	if gotSize != size || gotSum != sum {
		return fmt.Errorf("%w: %s has %d bytes and checksum %016x, recorded are %d and %016x",
			ErrDamaged, path, gotSize, gotSum, size, sum)
	}
	table, err := s.engine.OpenTable(path)
	if err != nil {
		return err
	}
	defer table.Close()
	return table.Verify()
}

func (s *Store) verifyDelta(e *entry) error {
	path := s.deltaPath(e.rec.Block)
	if err := s.verifyTable(path, e.rec.DeltaSize, e.rec.DeltaSum); err != nil {
		return err
	}
	inside, err := readRecord(s.engine, path)
	if err != nil {
		return err
	}
	if !inside.sameBlock(&e.rec) {
		return fmt.Errorf("%w: %s holds block %s with root %s, recorded is %s with root %s",
			ErrDamaged, path, inside.Hash, inside.Root, e.rec.Hash, e.rec.Root)
	}
	return nil
}

// verifyImage checks an image's seal and each of its tables.
func (s *Store) verifyImage(e *entry, im *image) error {
	dir := s.imagePath(e.rec.Block)
	if err := s.checkSeal(dir, im.seal); err != nil {
		return err
	}
	names, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, d := range names {
		if !s.engine.IsTable(d.Name()) {
			continue
		}
		table, err := s.engine.OpenTable(filepath.Join(dir, d.Name()))
		if err != nil {
			return err
		}
		err = table.Verify()
		table.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

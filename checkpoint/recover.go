package checkpoint

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"accessor/forks"
)

// Recovery reports what Recover found.
type Recovery struct {
	Blocks int     // blocks held again, the anchor included
	Lost   []error // why each delta that could not be used went, or would go, to lost/
	// OldRecords is where the old blocks/ went; empty where there was none.
	OldRecords string
}

// Recover rebuilds the block records of a store from its deltas, and the
// anchor's image from the anchor's delta. All other checkpoints, images and runs
// are removed, since nothing says any more whether they are whole: they are made
// again from the deltas. Of the old records only what the node said of head and
// finalized is kept, where it can still be read. Everything is read first, and
// the new records take the old ones' place in one step: Recover may be cut short
// and run again.
//
// Deltas that are damaged, or whose parent is not among the others, can't be
// used. Unless drop says that they may go to lost/, Recover then changes nothing
// and ends with ErrWouldLose.
//
// progress, where given, is called after each delta with the number read and the
// number of all. Errors: ErrEmpty without an anchor's delta, ErrWouldLose,
// ErrInUse, ErrFormat, ErrNoSpace.
func Recover(dir string, engine Engine, opts Options, drop bool, progress func(done, all int)) (Recovery, error) {
	var report Recovery
	if err := looksLikeStore(dir); err != nil {
		return report, fmt.Errorf("recover store in %s: %w", dir, err)
	}
	s, err := lockDir(dir, engine, opts)
	if err != nil {
		return report, err
	}
	err = s.recover(&report, drop, progress)
	if err = errors.Join(err, s.Close()); err != nil {
		return report, fmt.Errorf("recover store in %s: %w", dir, err)
	}
	return report, nil
}

// looksLikeStore keeps Recover from writing into just any folder. Error: ErrEmpty.
func looksLikeStore(dir string) error {
	for _, name := range []string{fileFormat, dirDeltas} {
		switch _, err := os.Stat(filepath.Join(dir, name)); {
		case err == nil:
			return nil
		case !errors.Is(err, fs.ErrNotExist):
			return err
		}
	}
	return ErrEmpty
}

func (s *Store) recover(report *Recovery, drop bool, progress func(done, all int)) error {
	if err := s.readFormat(); err != nil {
		return err
	}
	if err := s.prepareDirs(); err != nil {
		return err
	}
	found, err := s.readDeltas(progress)
	if err != nil {
		return err
	}
	for _, l := range found.lost {
		report.Lost = append(report.Lost, fmt.Errorf("%s: %w", l.name, l.err))
	}
	if len(found.lost) > 0 && !drop {
		return fmt.Errorf("%w: %d of %d", ErrWouldLose, len(found.lost), len(found.lost)+len(found.records))
	}
	if err := s.replaceRecords(report, found.records); err != nil {
		return err
	}
	for _, name := range found.passed {
		if err := s.trash(s.path(dirDeltas, name)); err != nil {
			return err
		}
	}
	for _, l := range found.lost {
		if err := s.moveToLost(dirDeltas, func(n string) bool { return n == l.name }); err != nil {
			return err
		}
	}
	if err := s.openJournal(); err != nil {
		return err
	}
	if err := errors.Join(s.loadBlocks(), s.loadMeta()); err != nil {
		return err
	}
	report.Blocks = len(found.records)
	if err := s.trashUnrecorded(nil); err != nil {
		return err
	}
	if s.Partial() {
		return nil
	}
	return s.anchorImage()
}

// readable is what Recover finds in deltas/.
type readable struct {
	records []Record // that hang together, parents first
	lost    []lostDelta
	passed  []string // names of files that a pruning has left behind
}

type lostDelta struct {
	name string
	err  error
}

// readDeltas reads all deltas, and moves none.
func (s *Store) readDeltas(progress func(done, all int)) (out readable, err error) {
	names, err := os.ReadDir(s.path(dirDeltas))
	if err != nil {
		return out, err
	}
	var found, anchors []Record
	for i, d := range names { // by slot, since names start with it
		if ext := filepath.Ext(d.Name()); ext == ".anchor" || ext == fullExt {
			out.passed = append(out.passed, d.Name()) // of a pruning or a completion that was not recorded
			continue
		}
		rec, err := s.checkDelta(s.path(dirDeltas, d.Name()))
		switch {
		case err == nil && rec.Anchor:
			anchors = append(anchors, rec)
		case err == nil:
			found = append(found, rec)
		case errors.Is(err, ErrDamaged) || errors.Is(err, ErrFormat):
			out.lost = append(out.lost, lostDelta{d.Name(), err})
		default:
			return out, err // says nothing about the delta
		}
		if progress != nil {
			progress(i+1, len(names))
		}
	}
	if n := len(anchors); n == 0 || n > 1 && anchors[n-1].Parent == (forks.Hash{}) {
		return out, fmt.Errorf("%w: %d of the %d deltas in %s are an anchor's, want one: bring that folder back from a backup",
			ErrEmpty, n, len(names), s.path(dirDeltas))
	}
	// Pruning moves the anchor up, and may have been stopped before it had removed
	// what is below.
	anchor := anchors[len(anchors)-1]
	for _, old := range anchors[:len(anchors)-1] {
		out.passed = append(out.passed, Name(old.Block)+".sst")
	}
	moved := anchor.Parent != forks.Hash{}
	out.records = append(out.records, anchor)
	held := map[forks.Hash]forks.Slot{anchor.Hash: anchor.Slot}
	for _, rec := range found {
		if moved && rec.Slot <= anchor.Slot {
			out.passed = append(out.passed, Name(rec.Block)+".sst")
			continue
		}
		if slot, ok := held[rec.Parent]; !ok || slot >= rec.Slot {
			out.lost = append(out.lost, lostDelta{Name(rec.Block) + ".sst", fmt.Errorf("%w: parent %s", ErrUnknown, rec.Parent)})
			continue
		}
		held[rec.Hash] = rec.Slot
		out.records = append(out.records, rec)
	}
	return out, nil
}

// replaceRecords makes new records in tmp/ and puts them in the old ones' place
// at once.
func (s *Store) replaceRecords(report *Recovery, records []Record) error {
	made := s.tmpPath(dirTmp, "blocks")
	if err := s.writeRecords(made, records); err != nil {
		return fmt.Errorf("write records: %w", err)
	}
	old := s.path(dirBlocks)
	err := s.files.call("rename", old, func() error {
		return unix.Renameat2(unix.AT_FDCWD, made, unix.AT_FDCWD, old, unix.RENAME_EXCHANGE)
	})
	if err == nil {
		err = s.files.sync(s.dir)
	}
	if err != nil {
		return err
	}
	if empty, err := emptyDir(made); err != nil || empty {
		return err
	}
	report.OldRecords = s.lostPath(dirBlocks)
	return s.files.rename(made, report.OldRecords)
}

// writeRecords makes a journal with records, and with what the old one says of
// head and finalized.
func (s *Store) writeRecords(dir string, records []Record) error {
	changes := s.oldMeta(records)
	for _, rec := range records {
		changes = append(changes, Change{Key: blockKey(rec.Hash), Value: rec.encode()})
	}
	if err := s.files.mkdir(dir); err != nil {
		return err
	}
	journal, err := s.engine.OpenJournal(dir)
	if err != nil {
		return err
	}
	for part := range slices.Chunk(changes, 1000) {
		if err = journal.Write(part, true); err != nil {
			break
		}
	}
	return errors.Join(err, journal.Close())
}

// oldMeta gives head and finalized as the old records have them, where they can
// be read and are among the new ones.
func (s *Store) oldMeta(records []Record) (meta []Change) {
	if empty, err := s.emptyDir(dirBlocks); err != nil || empty {
		return nil
	}
	journal, err := s.engine.OpenJournal(s.path(dirBlocks))
	if err != nil {
		return nil // they are beyond reading, which is why we are here
	}
	defer journal.Close()
	for key, value := range journal.Scan([]byte{prefixMeta}) {
		if slices.ContainsFunc(records, func(r Record) bool { return string(r.Hash[:]) == string(value) }) {
			meta = append(meta, Change{Key: slices.Clone(key), Value: slices.Clone(value)})
		}
	}
	return meta
}

package checkpoint

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"accessor/forks"
)

// Recovery reports what Recover found.
type Recovery struct {
	Blocks int     // blocks held again, the anchor included
	Lost   []error // why each delta that could not be used went to lost/
	// OldRecords is where the old blocks/ went; empty where there was none.
	OldRecords string
}

// Recover rebuilds the block records of a store from its deltas, and the
// anchor's image from the anchor's delta. All other checkpoints, images and runs
// are removed, since nothing says any more whether they are whole: they are made
// again from the deltas. Deltas that are damaged, or whose parent is not there,
// go to lost/. Of the old records only what the node said of head and finalized
// is kept, where it can still be read.
//
// progress, where given, is called after each delta with the number read and the
// number of all. Errors: ErrEmpty without an anchor's delta, ErrInUse, ErrFormat,
// ErrNoSpace.
func Recover(dir string, engine Engine, opts Options, progress func(done, all int)) (Recovery, error) {
	var report Recovery
	if _, err := os.Stat(dir); err != nil {
		return report, fmt.Errorf("recover store: %w", err)
	}
	s, err := lockDir(dir, engine, opts)
	if err != nil {
		return report, err
	}
	err = s.recover(&report, progress)
	if err = errors.Join(err, s.Close()); err != nil {
		return report, fmt.Errorf("recover store in %s: %w", dir, err)
	}
	return report, nil
}

func (s *Store) recover(report *Recovery, progress func(done, all int)) error {
	if err := s.readFormat(); err != nil {
		return fmt.Errorf("%w (it is one line: {\"format\":%q,\"engine\":%q,\"commitment\":\"jam\" or \"none\"})",
			err, formatName, engineWord(s.engine))
	}
	for _, d := range allDirs {
		if err := s.files.mkdir(s.path(d)); err != nil {
			return err
		}
	}
	for _, d := range []string{dirTmp, dirWork, dirTrash} {
		if err := s.empty(d); err != nil {
			return err
		}
	}
	if err := s.probe(); err != nil {
		return err
	}
	records, err := s.readDeltas(report, progress)
	if err != nil {
		return err
	}
	// Until here nothing was changed but names in lost/.
	if err := s.replaceRecords(report); err != nil {
		return err
	}
	for _, rec := range records {
		if err := s.Record(&rec); err != nil {
			return err
		}
	}
	report.Blocks = len(records)
	if err := s.restoreMeta(report.OldRecords); err != nil {
		return err
	}
	if err := s.trashUnrecorded(nil); err != nil {
		return err
	}
	return s.anchorImage()
}

// readDeltas reads all deltas and gives the records of those that hang together,
// parents first.
func (s *Store) readDeltas(report *Recovery, progress func(done, all int)) ([]Record, error) {
	names, err := os.ReadDir(s.path(dirDeltas))
	if err != nil {
		return nil, err
	}
	lose := func(name string, why error) error {
		report.Lost = append(report.Lost, fmt.Errorf("%s: %w", name, why))
		return s.moveToLost(dirDeltas, func(n string) bool { return n == name })
	}
	var found []Record
	for i, d := range names { // by slot, since names start with it
		rec, err := s.checkDelta(s.path(dirDeltas, d.Name()))
		if err != nil {
			if err := lose(d.Name(), err); err != nil {
				return nil, err
			}
		} else {
			found = append(found, rec)
		}
		if progress != nil {
			progress(i+1, len(names))
		}
	}
	anchors := slices.DeleteFunc(slices.Clone(found), func(r Record) bool { return !r.Anchor })
	if len(anchors) != 1 {
		return nil, fmt.Errorf("%w: %d of %d deltas are an anchor's, want one", ErrEmpty, len(anchors), len(names))
	}
	records := anchors
	held := map[forks.Hash]forks.Slot{anchors[0].Hash: anchors[0].Slot}
	for _, rec := range found {
		if rec.Anchor {
			continue
		}
		if slot, ok := held[rec.Parent]; !ok || slot >= rec.Slot {
			if err := lose(Name(rec.Block)+".sst", fmt.Errorf("%w: parent %s", ErrUnknown, rec.Parent)); err != nil {
				return nil, err
			}
			continue
		}
		held[rec.Hash] = rec.Slot
		records = append(records, rec)
	}
	return records, nil
}

// replaceRecords puts the old blocks/ aside and opens a new one.
func (s *Store) replaceRecords(report *Recovery) error {
	empty, err := s.emptyDir(dirBlocks)
	if err != nil {
		return err
	}
	if !empty {
		report.OldRecords = s.tmpPath(dirLost, fmt.Sprintf("blocks-%d", os.Getpid()))
		if err := s.files.rename(s.path(dirBlocks), report.OldRecords); err != nil {
			return err
		}
		if err := s.files.mkdir(s.path(dirBlocks)); err != nil {
			return err
		}
	}
	s.blocks, err = s.engine.OpenJournal(s.path(dirBlocks))
	return err
}

// restoreMeta takes over head and finalized from the old records, where they
// can be read and are held.
func (s *Store) restoreMeta(old string) error {
	if old == "" {
		return nil
	}
	journal, err := s.engine.OpenJournal(old)
	if err != nil {
		return nil // they are beyond reading, which is why we are here
	}
	defer journal.Close()
	for key, value := range journal.Scan([]byte{prefixMeta}) {
		if len(value) == forks.HashSize {
			if _, err := s.entry(forks.Hash(value)); err != nil {
				continue
			}
		}
		if err := s.SetMeta(string(key[1:]), value); err != nil {
			return err
		}
	}
	return nil
}

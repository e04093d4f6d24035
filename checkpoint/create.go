package checkpoint

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"
)

// Create makes a store that grows from an anchor, in a directory that is missing
// or empty or in which an earlier Create was cut short. rec's hash, slot, root
// and header are the anchor's; pairs are its whole state in strictly ascending
// key order, with a possible error as the last element; trie gives, when pairs
// have ended, the commitment's records of that state, in order too; nil
// gives none. Errors: ErrExists,
// ErrInUse, ErrUnsuitable, ErrEngine, ErrLimit, ErrNoSpace.
func Create(dir string, engine Engine, commitment string, rec Record, pairs iter.Seq2[Pair, error], trie iter.Seq[Pair], opts Options) (*Store, error) {
	return createIn(dir, engine, commitment, opts, func(s *Store) error { return s.createAnchor(rec, pairs, trie) })
}

// CreatePartial is Create without the anchor's state, which is to come from others:
// see Fill and BeginCompletion. Until then blocks are recorded, and have no
// checkpoints, images or working databases; what needs those fails with ErrPartial.
func CreatePartial(dir string, engine Engine, commitment string, rec Record, opts Options) (*Store, error) {
	return createIn(dir, engine, commitment, opts, func(s *Store) error {
		rec.Anchor, rec.Partial = true, true
		if err := s.writeDelta(&rec, func(func([]byte, []byte) bool) {}); err != nil {
			return err
		}
		if err := s.Record(&rec); err != nil {
			return err
		}
		return s.openFill()
	})
}

func createIn(dir string, engine Engine, commitment string, opts Options, anchor func(*Store) error) (*Store, error) {
	if err := makeStoreDir(dir); err != nil {
		return nil, fmt.Errorf("create store: %w", err)
	}
	if err := foreign(dir); err != nil { // before anything is written into it
		return nil, fmt.Errorf("create store in %s: %w", dir, err)
	}
	s, err := lockDir(dir, engine, opts)
	if err != nil {
		return nil, err
	}
	if err := s.create(commitment, anchor); err != nil {
		s.Close()
		return nil, fmt.Errorf("create store in %s: %w", dir, err)
	}
	s.maintain.start(s)
	return s, nil
}

// makeStoreDir makes a store's directory, for its owner alone; one that is there stays
// as it is.
func makeStoreDir(dir string) error {
	dir = filepath.Clean(dir)
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return err
	}
	err := os.Mkdir(dir, 0o700)
	if errors.Is(err, fs.ErrExist) {
		return os.MkdirAll(dir, 0o700) // no file
	}
	return err
}

func (s *Store) create(commitment string, anchor func(*Store) error) error {
	if err := s.checkVacant(); err != nil {
		return err
	}
	for _, d := range allDirs {
		if err := s.files.mkdir(s.path(d)); err != nil {
			return err
		}
	}
	if err := s.probe(); err != nil {
		return err
	}
	s.format = format{Format: formatName, Engine: engineWord(s.engine), Commitment: commitment}
	text, err := json.Marshal(s.format)
	if err != nil {
		return err
	}
	if err := s.files.writeFile(s.path(fileFormat), append(text, '\n')); err != nil {
		return err
	}
	if err := s.openJournal(); err != nil {
		return err
	}
	return anchor(s)
}

func (s *Store) createAnchor(rec Record, pairs iter.Seq2[Pair, error], trie iter.Seq[Pair]) error {
	rec.Anchor = true
	var failed error
	err := s.writeDelta(&rec, s.wholeOf(pairs, trie, &failed))
	if failed != nil {
		s.discard(s.deltaPath(rec.Block))
		return failed
	}
	if err != nil {
		return err
	}
	if err := s.Record(&rec); err != nil {
		return err
	}
	return s.anchorImage()
}

// wholeOf yields the stored entries of a whole state and of the commitment's records.
// Where pairs end early, or one is over the limits, failed says why.
func (s *Store) wholeOf(pairs iter.Seq2[Pair, error], trie iter.Seq[Pair], failed *error) iter.Seq2[[]byte, []byte] {
	return func(yield func([]byte, []byte) bool) {
		var key, value []byte
		for p, err := range pairs {
			if err == nil {
				err = s.opts.Limits.CheckPair(p.Key, p.Value)
			}
			if err != nil {
				*failed = err
				return
			}
			key = appendStateKey(key[:0], p.Key)
			value = append(append(value[:0], tagValue), p.Value...)
			if !yield(key, value) {
				return
			}
		}
		if trie == nil {
			return
		}
		for p := range trie {
			key = appendTrieKey(key[:0], p.Key)
			value = append(append(value[:0], tagValue), p.Value...)
			if !yield(key, value) {
				return
			}
		}
	}
}

// anchorImage makes the image and the checkpoint of the anchor from its delta.
func (s *Store) anchorImage() error {
	e := s.anchorEntry()
	whole := s.deltaPath(e.rec.Block)
	if _, err := os.Lstat(s.anchorPath(e.rec.Block)); err == nil {
		whole = s.anchorPath(e.rec.Block) // pruning could not rename it yet
	}
	// Not a block's write set in place of its whole state.
	size, sum, err := fileSum(whole)
	if err != nil {
		return err
	}
	if size != e.rec.DeltaSize || sum != e.rec.DeltaSum {
		return fmt.Errorf("%w: %s is not as recorded", ErrDamaged, whole)
	}
	return s.imageOf(e, whole, size)
}

// foreign refuses a folder that holds what no store has. Error: ErrExists.
func foreign(dir string) error {
	names, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	known := append([]string{fileLock, fileFormat, fileFormat + ".tmp", fileHeads, fileHeads + ".tmp"}, allDirs...)
	for _, d := range names {
		if !slices.Contains(known, d.Name()) {
			return fmt.Errorf("%w: it has %s", ErrExists, d.Name())
		}
	}
	return nil
}

// checkVacant says whether a store may be made here. What a Create that was cut
// short left behind is moved to lost/.
func (s *Store) checkVacant() error {
	anchored, err := s.hasAnchor()
	if err != nil {
		return err
	}
	if anchored {
		return fmt.Errorf("%w: there is a store already", ErrExists)
	}
	if err := s.checkDeltas(); err != nil {
		return err
	}
	for _, dir := range []string{dirDeltas, dirImages, dirCheckpoints, dirRuns} {
		if err := s.moveToLost(dir, func(string) bool { return true }); err != nil {
			return err
		}
	}
	return nil
}

// hasAnchor says whether the records name an anchor; without one, an earlier
// Create was cut short.
func (s *Store) hasAnchor() (bool, error) {
	if empty, err := s.emptyDir(dirBlocks); err != nil || empty {
		return false, err
	}
	blocks, err := s.engine.OpenJournal(s.path(dirBlocks))
	if err != nil {
		return false, err
	}
	defer blocks.Close()
	for range blocks.Scan([]byte{prefixBlock}) {
		return true, nil
	}
	return false, blocks.Err()
}

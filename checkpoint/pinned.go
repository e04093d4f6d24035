package checkpoint

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"accessor/forks"
)

// A pinned directory is a copy of a block's checkpoint, tables by hard link, that is
// handed out to a reader in another process: docs/FORMAT.md. Nothing in the store
// reads it, and nothing that the reader does to it reaches the store, since tables
// are never written to.

// PinAccess says who may read a pinned directory beside the store's owner.
type PinAccess struct {
	// Mode is the directory's mode: 0555, 0550, or 0500. Default 0555.
	Mode fs.FileMode
	// Group is the directory's group by its number; nil leaves it as it is. The
	// owner must be a member of it, or root.
	Group *int
}

func (a PinAccess) checked() (PinAccess, error) {
	switch a.Mode {
	case 0:
		a.Mode = 0o555
	case 0o555, 0o550, 0o500:
	default:
		return a, fmt.Errorf("%w: mode %#o, want 0555, 0550 or 0500", ErrAccess, a.Mode)
	}
	if a.Group != nil && *a.Group < 0 {
		return a, fmt.Errorf("%w: group %d", ErrAccess, *a.Group)
	}
	return a, nil
}

// PinnedPath is where the pinned directory of that name is, or would be. The name is
// the store's own, of hex digits.
func (s *Store) PinnedPath(name string) string { return s.path(dirPins, name) }

// Pinned gives the names of the pinned directories. One that a crash kept from getting
// its access is removed: nobody was told of it.
func (s *Store) Pinned() (names []string, err error) {
	present, err := s.listing(dirPins)
	if err != nil {
		return nil, err
	}
	for path := range present {
		info, err := os.Lstat(path)
		if err == nil && info.Mode()&0o200 != 0 {
			err = s.DropPinned(filepath.Base(path))
		} else {
			names = append(names, filepath.Base(path))
		}
		if err != nil {
			return nil, err
		}
	}
	return names, nil
}

// DropPinned removes a pinned directory, if there is one. Who has its files open may
// go on reading.
func (s *Store) DropPinned(name string) error { return s.trashAs(s.PinnedPath(name), 0o700) }

// PinCheckpoint makes a pinned directory of a block's sealed checkpoint. One of that
// name gets the access asked for, and is otherwise left as it is. Errors: ErrUnknown,
// ErrPruned, ErrUnsealed, ErrMissing, ErrLocked, ErrDamaged, ErrLinks, ErrAccess,
// ErrNoSpace.
func (s *Store) PinCheckpoint(h forks.Hash, name string, access PinAccess) error {
	e, err := s.entry(h)
	if err != nil {
		return err
	}
	if _, err := os.Lstat(s.PinnedPath(name)); err == nil {
		return s.pin(e, name, access, nil)
	}
	l, err := s.recorded(e)
	if err != nil {
		return err
	}
	from := s.checkpointPath(e.rec.Block)
	return s.pin(e, name, access, func(tmp string) error {
		if err := s.linkDir(from, tmp); err != nil {
			// A directory that was changed or removed says why itself.
			return cmp.Or(s.checkSeal(from, l), err)
		}
		return s.checkSeal(tmp, l) // the copy: the other may have changed meanwhile
	})
}

// PinWorking makes a pinned directory of the state that a working database stands at.
// Errors: ErrLinks, ErrAccess, ErrNoSpace, and the engine's.
func (s *Store) PinWorking(w *Working, name string, access PinAccess) error {
	return s.pin(w.at, name, access, w.db.Checkpoint)
}

func (s *Store) pin(e *entry, name string, access PinAccess, fill func(tmp string) error) error {
	err := s.makePinned(e, name, access, fill)
	if errors.Is(err, syscall.EMLINK) {
		err = fmt.Errorf("%w: the file system takes no more for a table of this block (65,000 on ext4): release pins, or pin a later block: %w", ErrLinks, err)
	}
	if err != nil {
		return fmt.Errorf("make directory of pin %s at block %s: %w", name, e.rec.Hash, err)
	}
	return nil
}

func (s *Store) makePinned(e *entry, name string, access PinAccess, fill func(tmp string) error) error {
	access, err := access.checked()
	if err != nil {
		return err
	}
	final := s.PinnedPath(name)
	if _, err := os.Lstat(final); err == nil {
		return s.openPinned(final, access)
	}
	tmp := s.tmpPath(dirTmp, "pin")
	if _, err = s.fillDir(tmp, durable, func(tmp string) error {
		if err := fill(tmp); err != nil {
			return err
		}
		// Until it has its mode, nobody else.
		return s.files.chmod(tmp, 0o700)
	}); err == nil {
		err = s.checkPinned(tmp, e)
	}
	if err == nil {
		err = s.files.rename(tmp, final)
	}
	if err != nil {
		s.discard(tmp)
		return err
	}
	if err := s.openPinned(final, access); err != nil {
		return errors.Join(err, s.DropPinned(name))
	}
	return nil
}

// linkDir makes a directory with the files of a sealed one: tables by hard link, the
// others, which are small, by copy.
func (s *Store) linkDir(from, to string) error {
	names, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	if err := s.files.mkdir(to); err != nil {
		return err
	}
	for _, d := range names {
		src, dst := filepath.Join(from, d.Name()), filepath.Join(to, d.Name())
		if s.engine.IsTable(d.Name()) {
			err = s.files.link(src, dst)
		} else {
			err = s.files.copyFile(src, dst)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// checkPinned opens what is to be handed out.
func (s *Store) checkPinned(dir string, e *entry) error {
	db, err := s.engine.OpenReadOnly(dir)
	if err != nil {
		return err
	}
	err = checkStandsAt(db, e)
	return errors.Join(err, db.Close())
}

package checkpoint

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// Who may read a pinned directory is set mode by mode, whatever the umask that the
// store was written with. What leads to it and the tables in it get what they lack,
// and nothing else of the store does.

// openPinned lets a pinned directory be read, durably: what is in it first, and its mode
// last, which says that it is finished.
func (s *Store) openPinned(dir string, access PinAccess) error {
	names, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	if err := s.openWay(access); err != nil {
		return err
	}
	for _, d := range names {
		// The other files are copies, for whoever gets into the directory.
		if s.engine.IsTable(d.Name()) {
			if err := s.allow(filepath.Join(dir, d.Name()), access.Mode&0o044, access.Group); err != nil {
				return err
			}
		}
	}
	if access.Group != nil {
		// Before the mode, so that no other group gets what is meant for this one.
		if err := s.chgrp(dir, *access.Group); err != nil {
			return err
		}
	}
	if err := s.files.chmod(dir, access.Mode); err != nil {
		return err
	}
	return s.files.sync(dir)
}

// openWay lets those who may read a pinned directory pass through the store's own and
// the one of all pins. Before others get into the store's, what else is in it is made
// the owner's alone.
func (s *Store) openWay(access PinAccess) error {
	bits := access.Mode & 0o011
	if bits == 0 {
		return nil
	}
	// From within, so that the way is open when the last door is.
	if err := s.allow(s.path(dirPins), bits, access.Group); err != nil {
		return err
	}
	info, err := os.Stat(s.dir)
	if err != nil {
		return err
	}
	if !lacks(info, bits, access.Group) {
		return nil
	}
	names, err := os.ReadDir(s.dir)
	if err != nil {
		return err
	}
	for _, d := range names {
		info, err := d.Info()
		if err != nil || d.Name() == dirPins || info.Mode()&0o077 == 0 || info.Mode()&fs.ModeSymlink != 0 {
			continue // gone meanwhile, or closed
		}
		if err := s.files.chmod(s.path(d.Name()), info.Mode().Perm()&0o700); err != nil {
			return fmt.Errorf("%w: %w", ErrAccess, err)
		}
	}
	return s.allow(s.dir, bits, access.Group)
}

// lacks says whether a file lacks permission bits for its group, which is to be the one
// given, or for others.
func lacks(info fs.FileInfo, bits fs.FileMode, group *int) bool {
	has := info.Mode().Perm()
	if has&bits != bits {
		return true
	}
	// Who isn't of the file's group is one of the others.
	return group != nil && bits&0o070 != 0 && int(info.Sys().(*syscall.Stat_t).Gid) != *group && has&(bits>>3&0o007) == 0
}

// allow adds permission bits to a file or a directory, for a group where one is given.
// A table's are those of all its links. Error: ErrAccess.
func (s *Store) allow(path string, bits fs.FileMode, group *int) error {
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	if !lacks(info, bits, group) {
		return nil
	}
	if group != nil && bits&0o070 != 0 {
		if err := s.chgrp(path, *group); err != nil {
			return err
		}
	}
	if err := s.files.chmod(path, info.Mode().Perm()|bits); err != nil {
		return fmt.Errorf("%w: %w", ErrAccess, err)
	}
	return nil
}

// chgrp gives a file to a group, of which the owner is a member. Error: ErrAccess.
func (s *Store) chgrp(path string, group int) error {
	err := s.files.call("chown", path, func() error { return os.Lchown(path, -1, group) })
	if err != nil {
		return fmt.Errorf("%w: group %d: %w", ErrAccess, group, err)
	}
	return nil
}

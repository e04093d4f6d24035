package checkpoint

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"syscall"
)

// DiskUsage is the space that the store takes; what is on its way to be removed, or
// half-made, is not in it. It looks at every file: a second for a day's blocks.
func (s *Store) DiskUsage() (int64, error) {
	return DiskUsage(s.dir, s.path(dirTrash), s.path(dirTmp), s.path(dirWork))
}

// DiskUsage is the space that a folder takes, but for some folders in it: each file
// counts once, however many names it has. What is removed meanwhile is no error.
func DiskUsage(dir string, without ...string) (size int64, err error) {
	seen := make(map[uint64]bool)
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil // removed meanwhile
		case err != nil:
			return err
		case slices.Contains(without, path):
			return fs.SkipDir
		}
		if st := stat(d); st != nil && !seen[st.Ino] {
			seen[st.Ino] = true
			size += st.Blocks * 512
		}
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("measure %s: %w", dir, err)
	}
	return size, nil
}

// stat gives what the system says of a file; nil where it has gone.
func stat(d fs.DirEntry) *syscall.Stat_t {
	info, err := d.Info()
	if err != nil {
		return nil
	}
	st, _ := info.Sys().(*syscall.Stat_t)
	return st
}

// freedBy is the space that is free once the files and folders have gone: of files
// that have no other names.
func freedBy(paths []string) (size int64) {
	links := make(map[uint64]int)
	for _, path := range paths {
		_ = filepath.WalkDir(path, func(_ string, d fs.DirEntry, err error) error {
			if err != nil {
				return nil // missing, or going already
			}
			st := stat(d)
			if st == nil {
				return nil
			}
			if links[st.Ino]++; d.IsDir() || links[st.Ino] == int(st.Nlink) {
				size += st.Blocks * 512
			}
			return nil
		})
	}
	return size
}

package checkpoint

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"accessor/forks"
)

// Thin removes the checkpoints of blocks, and the images at them but the anchor's, to
// free their space; the blocks stay held, and readable by replay from the nearest
// checkpoint or image below. It gives the space that was freed. Views that are open
// stay usable. Blocks that are not held, or thin already, are left out.
func (s *Store) Thin(blocks []forks.Hash) (freed int64, err error) {
	s.building.Lock()
	defer s.building.Unlock()
	s.maintain.mu.Lock()
	defer s.maintain.mu.Unlock()
	var changes []Change
	var paths []string
	var thinned []*entry
	s.mu.Lock()
	for _, h := range blocks {
		e := s.entries[h]
		if e == nil || e == s.anchor || e.thin && e.image == nil {
			continue
		}
		thinned = append(thinned, e)
		changes = append(changes, Change{Key: sealKey(h), Value: []byte{sealThin}}, Change{Key: imageKey(h)})
		paths = append(paths, s.checkpointPath(e.rec.Block), s.imagePath(e.rec.Block))
	}
	s.mu.Unlock()
	if len(thinned) == 0 {
		return 0, nil
	}
	if err := s.recordAll(changes); err != nil {
		return 0, fmt.Errorf("thin out %d blocks: %w", len(thinned), err)
	}
	s.mu.Lock()
	for _, e := range thinned {
		e.seal, e.thin, e.image = nil, true, nil
	}
	s.mu.Unlock()
	freed = freedBy(paths)
	for _, path := range paths {
		if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if trashed := s.trash(path); trashed != nil && !errors.Is(trashed, fs.ErrNotExist) {
			err = errors.Join(err, trashed)
		}
	}
	if err != nil {
		return freed, fmt.Errorf("thin out %d blocks: %w", len(thinned), err)
	}
	return freed, nil
}

// HasImage says whether there is an image of the block.
func (s *Store) HasImage(h forks.Hash) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, ok := s.entries[h]
	return ok && e.image != nil
}

// Aligned gives the block, or the nearest of its ancestors up to the anchor, at which
// runs end: an anchor moves there without cutting any.
func (s *Store) Aligned(h forks.Hash) (forks.Hash, error) {
	e, err := s.entry(h)
	if err != nil {
		return forks.Hash{}, err
	}
	if up := e.up(e.height % s.opts.RunLength); up != nil {
		return up.rec.Hash, nil
	}
	return s.anchorEntry().rec.Hash, nil
}

// DiskUsage is the space that the store takes, each file counted once however many
// names it has; what is on its way to be removed, or half-made, is not in it. It looks
// at every file: a second for a day's blocks.
func (s *Store) DiskUsage() (size int64, err error) {
	seen := make(map[uint64]bool)
	err = filepath.WalkDir(s.dir, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // removed meanwhile
		}
		if err != nil {
			return err
		}
		if d.IsDir() && (path == s.path(dirTrash) || path == s.path(dirTmp) || path == s.path(dirWork)) {
			return fs.SkipDir
		}
		info, err := d.Info()
		if err != nil {
			return nil // removed meanwhile
		}
		if st, ok := info.Sys().(*syscall.Stat_t); ok && !seen[st.Ino] {
			seen[st.Ino] = true
			size += st.Blocks * 512
		}
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("measure store: %w", err)
	}
	return size, nil
}

package checkpoint

import (
	"fmt"

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
		instead := sealThin
		if e.archived {
			instead = sealArchived
		}
		changes = append(changes, Change{Key: sealKey(h), Value: []byte{instead}}, Change{Key: imageKey(h)})
		paths = append(paths, s.checkpointPath(e.rec.Block), s.imagePath(e.rec.Block))
	}
	s.mu.Unlock()
	if len(thinned) == 0 {
		return 0, nil
	}
	if err := s.recordAll(changes, true); err != nil {
		return 0, fmt.Errorf("thin out %d blocks: %w", len(thinned), err)
	}
	s.mu.Lock()
	for _, e := range thinned {
		e.seal, e.thin, e.image = nil, true, nil
	}
	s.mu.Unlock()
	freed = freedBy(paths)
	if err := s.trashAll(paths); err != nil {
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

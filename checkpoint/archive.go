package checkpoint

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"math"
	"slices"

	"go.uber.org/zap"

	"accessor/forks"
)

// The blocks after one image up to the next make a group. Once nobody builds on them
// any more a group is archived: instead of its checkpoints and runs there is a table
// that tells which of its blocks wrote a key, and point reads go
//
//	image ── 1 ── 2 ── … ── 191 ── image
//	  ▲           ▲
//	  │           └ the delta of the newest writer up to the block
//	  └ where the index names none
//
// which takes half the space, and two small reads. Whoever needs more than single
// keys gets a working database, brought to the block from the image.

// index tells which blocks of a group wrote a key: for each stored key, in order, the
// positions of those blocks in the group, counted from 1, as u16 little-endian,
// ascending.
type index struct {
	top  *entry // the group's last block, with the image
	file tableFile
	n    int // blocks in the group
}

// mostInGroup is the most blocks that an index can tell apart.
const mostInGroup = math.MaxUint16

// mostAside is how many blocks of a fork that lost are looked through one by one
// before the group is reached that the fork left. Longer forks keep their
// checkpoints.
const mostAside = 32

// indexPath names the number of blocks too: positions count from the first one.
func (s *Store) indexPath(x *index) string {
	return s.path(dirIndexes, fmt.Sprintf("%s-%d.sst", Name(x.top.rec.Block), x.n))
}

// blocks yields the blocks of the group that are held, newest first.
func (x *index) blocks() iter.Seq[*entry] {
	return func(yield func(*entry) bool) {
		for e, i := x.top, 0; e != nil && i < x.n && yield(e); e, i = e.parent(), i+1 {
			continue
		}
	}
}

// position is the place in the group of one of its blocks.
func (x *index) position(e *entry) int { return e.height - (x.top.height - x.n) }

// bottom gives the block below the group's first one, or the anchor if that is above
// it by now.
func (s *Store) bottom(x *index) *entry {
	if e := x.top.up(x.n); e != nil {
		return e
	}
	return s.anchorEntry()
}

// Archive archives the groups of blocks between images up to a block, on which, and
// beside which, nobody builds any more. The blocks stay readable, forks of them that
// are no longer than 32 blocks as well. It gives how many blocks are without a
// checkpoint now that had one, and the space that is free. Errors: ErrUnknown,
// ErrClosed, ErrNoSpace, those of reading, and ctx's.
func (s *Store) Archive(ctx context.Context, to forks.Hash) (blocks int, freed int64, err error) {
	e, err := s.entry(to)
	if err != nil {
		return 0, 0, fmt.Errorf("archive: %w", err)
	}
	for _, g := range s.unarchived(e) {
		n, bytes, err := s.archive(ctx, g)
		blocks, freed = blocks+n, freed+bytes
		if err != nil {
			return blocks, freed, fmt.Errorf("archive the blocks up to %s: %w", g.top.rec.Hash, err)
		}
	}
	n, bytes, err := s.archiveOutdated(e)
	if err != nil {
		err = fmt.Errorf("archive blocks up to %s: %w", to, err)
	}
	return blocks + n, freed + bytes, err
}

// archiveOutdated does without the checkpoints up to e that still stand on an image
// below the newest archived group, and keep its tables: those of the blocks that came
// while its last block's image was made.
func (s *Store) archiveOutdated(e *entry) (blocks int, freed int64, err error) {
	s.maintain.mu.Lock()
	defer s.maintain.mu.Unlock()
	if held, err := s.entry(e.rec.Hash); err != nil || held != e {
		return 0, 0, err // it was pruned meanwhile
	}
	s.mu.Lock()
	list := s.outdatedLocked(e)
	s.mu.Unlock()
	if len(list) == 0 {
		return 0, 0, nil
	}
	return s.doWithout(needless{checkpoints: list})
}

// outdatedLocked gives those blocks on the way to e, and on forks that left it; no
// more than single keys are read through delta by delta.
func (s *Store) outdatedLocked(e *entry) (list []*entry) {
	above := make(map[*entry]int) // how far above the image
	top := e
	for ; top != nil && top.image == nil; top = top.parent() {
		above[top] = 0
	}
	if top == nil || top.index == nil {
		return nil
	}
	outdated := func(x *entry) bool { return x.seal != nil && x.seal.image != top.rec.Hash }
	for x := e; x != top; x = x.parent() {
		if above[x] = x.height - top.height; above[x] <= mostAside && outdated(x) {
			list = append(list, x)
		}
	}
	if len(list) == 0 {
		return nil
	}
	aside := s.asideLocked(above, e, func(x *entry) bool { return x.image != nil })
	return append(list, slices.DeleteFunc(aside, func(x *entry) bool { return !outdated(x) })...)
}

// asideLocked gives the blocks on forks that left a line below its tip, those that are
// near enough to be read through one by one, parents first. far says how far each block
// of the line is from an image or an index. A fork ends at a block that ends it.
func (s *Store) asideLocked(far map[*entry]int, tip *entry, ends func(*entry) bool) (list []*entry) {
	for _, e := range s.sortedLocked() { // parents first
		if _, ok := far[e]; ok || ends(e) {
			continue
		}
		up := e.parent()
		if n, ok := far[up]; ok && up != tip && n < mostAside {
			far[e] = n + 1
			list = append(list, e)
		}
	}
	return list
}

// unarchived gives the groups up to e that have no index, oldest first. It looks below
// the newest that has one only where others may miss theirs: there are thousands of
// blocks, and it is asked with each that is finalized.
func (s *Store) unarchived(e *entry) (list []*index) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var top *entry
	for x := e; x != nil && (s.indexGaps || top == nil || top.index == nil); x = x.parent() {
		if x.image == nil {
			continue
		}
		if top != nil && top.index == nil && top.height-x.height <= mostInGroup {
			list = append(list, &index{top: top, n: top.height - x.height})
		}
		top = x
	}
	s.indexGaps = len(list) > 0 // until they have been made
	slices.Reverse(list)
	return list
}

func (s *Store) archive(ctx context.Context, x *index) (blocks int, freed int64, err error) {
	s.building.Lock()
	defer s.building.Unlock()
	if held, err := s.entry(x.top.rec.Hash); err != nil || held != x.top || x.top.up(x.n) == nil {
		return 0, 0, err // it was pruned meanwhile
	}
	if err := yielding(func() error { return s.makeIndex(ctx, x) }); err != nil {
		return 0, 0, err
	}
	s.maintain.mu.Lock()
	defer s.maintain.mu.Unlock()
	return s.doWithout(s.group(x))
}

// makeIndex writes the index of a group and records it.
func (s *Store) makeIndex(ctx context.Context, x *index) error {
	tmp := s.tmpPath(dirTmp, "index")
	size, sum, err := s.writeIndex(ctx, x, tmp)
	if err == nil {
		err = s.files.rename(tmp, s.indexPath(x))
	}
	x.file = tableFile{size: size, sum: sum, checked: true}
	if err == nil {
		// Not synced: what says that checkpoints are gone is, after it.
		err = s.record(Change{Key: indexKey(x.top.rec.Hash, x.n), Value: x.file.encode()}, false)
	}
	if err != nil {
		s.discard(tmp)
		return fmt.Errorf("write index: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.indexLocked(x)
	return nil
}

// indexLocked lets the blocks of a group know its index.
func (s *Store) indexLocked(x *index) {
	for e := range x.blocks() {
		e.index = x
	}
}

// forgetIndex stops using an index that is damaged or gone. It is made again by the
// next Archive; until then the group's blocks are reached from the image.
func (s *Store) forgetIndex(x *index, cause error) {
	if !errors.Is(cause, ErrDamaged) && !errors.Is(cause, fs.ErrNotExist) {
		return // it may be better the next time
	}
	known := false
	s.mu.Lock()
	for e := range x.blocks() {
		if e.index == x {
			e.index, known = nil, true
		}
	}
	s.indexGaps = s.indexGaps || known
	s.mu.Unlock()
	if !known { // any more
		return
	}
	s.log.Warn("forget an index", zap.String("path", s.indexPath(x)), zap.Error(cause))
	s.inBackground(func() {
		s.building.Lock()
		defer s.building.Unlock()
		s.mu.Lock()
		again := x.top.index != nil
		s.mu.Unlock()
		if again {
			return // it was made again meanwhile
		}
		err := s.record(Change{Key: indexKey(x.top.rec.Hash, x.n)}, false)
		if err == nil {
			err = s.trash(s.indexPath(x))
		}
		if err != nil && !errors.Is(err, ErrClosed) {
			s.log.Warn("remove an index", zap.Error(err))
		}
	})
}

func (s *Store) writeIndex(ctx context.Context, x *index, path string) (size int64, sum uint64, err error) {
	var m merger
	defer func() { _ = m.close() }()
	line := slices.Collect(x.blocks())
	slices.Reverse(line) // oldest first
	for _, e := range line {
		table, err := s.engine.OpenTable(s.deltaPath(e.rec.Block))
		if err != nil {
			return 0, 0, err
		}
		m.addTable(table)
	}
	var stopped error
	var stored []byte
	size, sum, err = s.writeTable(path, &x.top.rec, func(yield func(key, value []byte) bool) {
		n := 0
		for key, in := range m.keys() {
			if n++; n%1024 == 0 && ctx.Err() != nil {
				stopped = context.Cause(ctx)
				return
			}
			stored = append(stored[:0], tagValue)
			for _, i := range in {
				stored = binary.LittleEndian.AppendUint16(stored, uint16(i+1))
			}
			if !yield(key, stored) {
				return
			}
		}
	})
	return size, sum, errors.Join(stopped, err, m.close())
}

// needless is what blocks can do without, of which single keys are read otherwise.
type needless struct {
	checkpoints, runs, images []*entry // of which they go
}

// doWithout removes what is needless.
func (s *Store) doWithout(n needless) (blocks int, freed int64, err error) {
	var changes []Change
	var paths []string
	s.mu.Lock()
	for _, e := range n.checkpoints {
		if e.seal != nil || !e.thin {
			blocks++
		}
		changes = append(changes, Change{Key: sealKey(e.rec.Hash), Value: []byte{sealArchived}})
		paths = append(paths, s.checkpointPath(e.rec.Block))
	}
	for _, e := range n.runs {
		for _, r := range e.runs {
			changes = append(changes, Change{Key: runKey(e.rec.Hash, r.count)})
			paths = append(paths, s.runPath(e.rec.Block, r.count))
		}
	}
	for _, e := range n.images {
		changes = append(changes, Change{Key: imageKey(e.rec.Hash)})
		paths = append(paths, s.imagePath(e.rec.Block))
	}
	s.mu.Unlock()
	if err := s.recordAll(changes, true); err != nil {
		return 0, 0, err
	}
	s.mu.Lock()
	for _, e := range n.checkpoints {
		e.seal, e.thin, e.archived = nil, true, true
	}
	for _, e := range n.runs {
		e.runs = nil
	}
	for _, e := range n.images {
		e.image = nil
	}
	s.mu.Unlock()
	s.stats.Archived.Add(int64(blocks))
	freed = freedBy(paths)
	return blocks, freed, s.trashAll(paths)
}

// oldImageLocked gives the block below a group where its image can go, since there is
// one not far below: of old images every second one stays.
func (s *Store) oldImageLocked(x *index) *entry {
	bottom := x.top.up(x.n)
	if bottom.image == nil || bottom.index == nil {
		return nil // the anchor, perhaps
	}
	for e := bottom.parent(); e != nil && 2*(x.top.height-e.height) <= 5*s.opts.ImageEvery; e = e.parent() {
		if e.image != nil {
			return bottom
		}
	}
	return nil
}

// group gives what a group that has its index can do without, and the short forks that
// left it: all but the image at its end, and perhaps the image below.
func (s *Store) group(x *index) (n needless) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.oldImageLocked(x); e != nil {
		n.images = append(n.images, e)
	}
	far := map[*entry]int{x.top.up(x.n): 0}
	for e := range x.blocks() {
		far[e] = 0
		n.checkpoints = append(n.checkpoints, e)
	}
	for _, e := range s.asideLocked(far, x.top, func(e *entry) bool { return e.index != nil }) {
		n.checkpoints = append(n.checkpoints, e)
		if e.image != nil {
			n.images = append(n.images, e)
		}
	}
	n.runs = n.checkpoints
	return n
}

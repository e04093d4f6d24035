package checkpoint

import (
	"encoding/binary"
	"fmt"
	"slices"

	"go.uber.org/zap"

	"accessor/forks"
)

// image is a sealed directory with the whole state at a block, all merged.
type image struct {
	seal *seal
	size int64 // bytes of its tables
}

// run is a table that merges the deltas of count blocks, the last of which it
// belongs to. Deletes are kept.
type run struct {
	count int
	tableFile
}

// tableFile is what is recorded of a derived table.
type tableFile struct {
	size int64
	sum  uint64 // XXH64

	checked bool // since the store was opened; guarded by Store.mu
}

func (s *Store) runPath(b forks.Block, count int) string {
	return s.path(dirRuns, fmt.Sprintf("%s-%d.sst", Name(b), count))
}

func (f *tableFile) encode() []byte {
	b := binary.LittleEndian.AppendUint64(nil, uint64(f.size))
	return binary.LittleEndian.AppendUint64(b, f.sum)
}

func decodeTableFile(b []byte) (f tableFile, ok bool) {
	if len(b) != 16 {
		return f, false
	}
	return tableFile{size: int64(binary.LittleEndian.Uint64(b)), sum: binary.LittleEndian.Uint64(b[8:])}, true
}

func (im *image) encode() []byte {
	return binary.LittleEndian.AppendUint64(im.seal.encode(), uint64(im.size))
}

func decodeImage(b []byte) (*image, error) {
	if len(b) < 8 {
		return nil, fmt.Errorf("%w: image record of %d bytes", ErrDamaged, len(b))
	}
	l, _, err := decodeSeal(b[:len(b)-8])
	if err != nil || l == nil {
		return nil, fmt.Errorf("%w: image record of %d bytes", ErrDamaged, len(b))
	}
	return &image{seal: l, size: int64(binary.LittleEndian.Uint64(b[len(b)-8:]))}, nil
}

// piece is one table on the way from one block to a later one.
type piece struct {
	path string
	at   *entry // the last block that it covers; nil where it is no part of a branch
	from *entry // the block before the first one
	size int64
	run  bool
}

// compose gives the tables, oldest first, that lead from one block to a
// descendant: the longest run that fits, else the block's own delta.
//
//	from ── 33 ── 34 ── … ── 48 ── 49 = to
//	        └─ run of 16 ────┘     delta
func (s *Store) compose(from, to *entry) ([]piece, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []piece
	for x := to; x == nil || x.rec.Hash != from.rec.Hash; {
		if x == nil || x.height <= from.height {
			return nil, fmt.Errorf("compose: block %s is not a descendant of %s", to.rec.Hash, from.rec.Hash)
		}
		p := piece{path: s.deltaPath(x.rec.Block), at: x, from: x.parent(), size: x.rec.DeltaSize}
		for _, r := range x.runs {
			if r.count <= x.height-from.height {
				p = piece{path: s.runPath(x.rec.Block, r.count), at: x, from: x.up(r.count), size: r.size, run: true}
			}
		}
		list = append(list, p)
		x = p.from
	}
	slices.Reverse(list)
	return list, nil
}

// nearestImage gives the newest block at or above e that has an image.
func (s *Store) nearestImage(e *entry) *entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	for x := e; x != nil; x = x.parent() {
		if x.image != nil {
			return x
		}
	}
	return nil
}

func hasRuns(list []piece) bool {
	return slices.ContainsFunc(list, func(p piece) bool { return p.run })
}

func (p *piece) count() int { return p.at.height - p.from.height }

// checkRuns compares the runs among some pieces with their records, those that
// were not used yet since the store was opened: an ingestion doesn't read them.
func (s *Store) checkRuns(list []piece) error {
	for _, p := range list {
		if !p.run {
			continue
		}
		s.mu.Lock()
		i := slices.IndexFunc(p.at.runs, func(r *run) bool { return r.count == p.count() })
		if i < 0 || p.at.runs[i].checked {
			s.mu.Unlock()
			continue
		}
		r := p.at.runs[i]
		s.mu.Unlock()
		size, sum, err := fileSum(p.path)
		if err != nil {
			return err
		}
		if size != r.size || sum != r.sum {
			return fmt.Errorf("%w: %s", ErrDamaged, p.path)
		}
		s.mu.Lock()
		r.checked = true
		s.mu.Unlock()
	}
	return nil
}

// forgetRuns stops using the runs among some pieces, one of which can't be used.
// They are made again when they are due.
func (s *Store) forgetRuns(list []piece) {
	for _, p := range list {
		if !p.run {
			continue
		}
		s.mu.Lock()
		p.at.runs = slices.DeleteFunc(slices.Clone(p.at.runs), func(r *run) bool { return r.count == p.count() })
		s.mu.Unlock()
		if err := s.record(Change{Key: runKey(p.at.rec.Hash, p.count())}, false); err != nil {
			s.log.Warn("forget a run", zap.String("path", p.path), zap.Error(err))
		}
	}
}

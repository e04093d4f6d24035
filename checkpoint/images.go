package checkpoint

import (
	"context"
	"errors"
	"fmt"

	"go.uber.org/zap"
)

// imageDue gives the block of which an image should be made, at or above tip;
// nil where none is due.
func (s *Store) imageDue(tip *entry) *entry {
	im := s.nearestImage(tip)
	if im == nil {
		return nil
	}
	top := tip.up(tip.height % s.opts.RunLength)
	if top == nil || top.height <= im.height {
		return nil
	}
	if top.height-im.height >= s.opts.ImageEvery {
		return top
	}
	var size int64
	for x := top; x != nil && x.rec.Hash != im.rec.Hash; x = x.parent() {
		size += x.rec.DeltaSize
	}
	s.mu.Lock()
	enough := s.opts.ImageBytes
	if im.image != nil { // else it was given up just now
		enough = max(enough, 4*im.image.size)
	}
	s.mu.Unlock()
	if size < enough {
		return nil
	}
	return top
}

// usableImage gives the newest block at or above e whose image is as it was
// sealed. Images that are not are given up, and the anchor's is made again.
// Errors: ErrLocked, ErrPartial, and those of making the anchor's.
func (s *Store) usableImage(e *entry) (*entry, error) {
	if s.Partial() {
		return nil, ErrPartial
	}
	s.images.Lock()
	defer s.images.Unlock()
	for {
		at := s.nearestImage(e)
		if at == nil {
			if err := s.anchorImage(); err != nil {
				return nil, fmt.Errorf("make the anchor's image again: %w", err)
			}
			return s.anchorEntry(), nil
		}
		s.mu.Lock()
		im := at.image
		s.mu.Unlock()
		if im == nil {
			continue
		}
		err := s.checkSeal(s.imagePath(at.rec.Block), im.seal)
		if err == nil || errors.Is(err, ErrLocked) {
			return at, err
		}
		s.log.Warn("do without an image", zap.Stringer("block", at.rec.Hash), zap.Error(err))
		if err := s.dropImage(at); err != nil {
			return nil, err
		}
	}
}

func (s *Store) dropImage(e *entry) error {
	s.mu.Lock()
	e.image = nil
	s.mu.Unlock()
	if err := s.record(Change{Key: imageKey(e.rec.Hash)}, false); err != nil {
		return fmt.Errorf("drop image of block %s: %w", e.rec.Hash, err)
	}
	return s.trash(s.imagePath(e.rec.Block))
}

// imageTable is the size in bytes at which an image's next table is begun.
const imageTable = 64 << 20

// makeImage writes the whole state at a block into new tables and seals them as
// an image. It reads every table below on the way, and checks the state's root.
func (s *Store) makeImage(e *entry) error {
	s.building.Lock()
	defer s.building.Unlock()
	if held, err := s.entry(e.rec.Hash); err != nil || held != e {
		return err // it was pruned meanwhile
	}
	whole, err := s.wholeAt(context.Background(), e)
	if err != nil {
		return err
	}
	defer whole.close()
	iw := &imageWriter{s: s}
	defer iw.cleanUp()
	if err := iw.write(&e.rec, whole); err != nil {
		return err
	}
	return s.ingestImage(e, iw.paths, iw.size, nil)
}

// imageOf makes the image of a block, and its checkpoint where there is none, from a
// table with its whole state.
func (s *Store) imageOf(e *entry, table string, size int64) error {
	link := s.tmpPath(dirTmp, "in") + ".sst"
	if err := s.files.link(table, link); err != nil {
		return err
	}
	defer s.discard(link)
	return s.ingestImage(e, []string{link}, size, func(w *Working) error {
		s.mu.Lock()
		needless := e.seal != nil || e.thin
		s.mu.Unlock()
		if needless {
			return nil
		}
		return s.Seal(w)
	})
}

// ingestImage makes the image of a block from tables, whose names it takes. then,
// where given, has the database that the image was made of.
func (s *Store) ingestImage(e *entry, tables []string, size int64, then func(*Working) error) error {
	dir := s.tmpPath(dirTmp, "image")
	db, err := s.engine.OpenWorking(dir)
	if err != nil {
		return err
	}
	defer s.discard(dir)
	defer db.Close()
	if err := s.files.call("ingest", dir, func() error { return db.Ingest(tables) }); err != nil {
		return err
	}
	if err := s.sealImage(e, db, size); err != nil || then == nil {
		return err
	}
	return then(&Working{store: s, db: db, dir: dir, at: e, image: e})
}

func (s *Store) sealImage(e *entry, db WorkingDB, size int64) error {
	l, err := s.sealDir(s.imagePath(e.rec.Block), durable, db.Checkpoint)
	if err != nil {
		return fmt.Errorf("seal image of block %s: %w", e.rec.Hash, err)
	}
	l.image = e.rec.Hash
	im := &image{seal: l, size: size}
	if err := s.record(Change{Key: imageKey(e.rec.Hash), Value: im.encode()}, false); err != nil {
		return fmt.Errorf("record image of block %s: %w", e.rec.Hash, err)
	}
	s.mu.Lock()
	e.image = im
	s.mu.Unlock()
	s.stats.Images.Add(1)
	return nil
}

// imageWriter writes the tables of an image.
type imageWriter struct {
	s      *Store
	paths  []string
	table  TableWriter
	filled int64 // bytes in the current table
	size   int64
}

// write writes a block's record and its whole state.
func (iw *imageWriter) write(rec *Record, whole *wholeState) error {
	err := iw.put(recordKey, rec.appendBody([]byte{tagValue}))
	if err != nil {
		return err
	}
	for key, stored := range whole.stored() {
		if err = iw.put(key, stored); err != nil {
			break
		}
	}
	if err = errors.Join(err, whole.err); err != nil {
		return err
	}
	return iw.finish()
}

func (iw *imageWriter) put(key, stored []byte) error {
	if iw.filled > imageTable {
		if err := iw.finish(); err != nil {
			return err
		}
	}
	if iw.table == nil {
		path := iw.s.tmpPath(dirTmp, "image") + ".sst"
		table, err := iw.s.engine.CreateTable(path)
		if err != nil {
			return err
		}
		iw.table, iw.filled = table, 0
		iw.paths = append(iw.paths, path)
	}
	n := int64(len(key) + len(stored))
	iw.filled += n
	iw.size += n
	return iw.table.Put(key, stored)
}

func (iw *imageWriter) finish() error {
	if iw.table == nil {
		return nil
	}
	table := iw.table
	iw.table = nil
	return table.Finish()
}

// cleanUp removes what is left of the tables; ingested ones are gone.
func (iw *imageWriter) cleanUp() {
	if iw.table != nil {
		iw.table.Abort()
	}
	for _, path := range iw.paths {
		iw.s.discard(path)
	}
}

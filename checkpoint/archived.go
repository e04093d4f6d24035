package checkpoint

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"go.uber.org/zap"
)

// archived is the state at a block that has no checkpoint any more: single keys are
// read where the index says, for anything else a working database is brought to the
// block. It is safe for concurrent use.
type archived struct {
	s  *Store
	at *entry

	mu    sync.Mutex
	image DB     // of the nearest image, once it was needed; guarded by mu
	owner *entry // of that image

	whole atomic.Pointer[Working] // once it was needed; set under mu
}

var _ DB = (*archived)(nil)

// archivedAt says whether single keys can be read at a block without a checkpoint.
func (s *Store) archivedAt(e *entry) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !e.archived {
		return false
	}
	for x, n := e, 0; x != nil && n <= mostAside; x, n = x.parent(), n+1 {
		if x.image != nil || x.index != nil {
			return true
		}
	}
	return false
}

// Get implements DB.
func (a *archived) Get(dst, key []byte) ([]byte, bool, error) { return a.get(dst, key, askNobody) }

func (a *archived) get(dst, key []byte, ask Ask) ([]byte, bool, error) {
	if w := a.whole.Load(); w != nil {
		return w.db.Get(dst, key)
	}
	value, found, err := a.lookUp(dst, key)
	if err == nil {
		return value, found, nil
	}
	w, openErr := a.openAsking(ask)
	if openErr != nil {
		return dst, false, errors.Join(err, openErr)
	}
	a.s.log.Warn("read an old block from its image instead", zap.Stringer("block", a.at.rec.Hash), zap.Error(err))
	return w.db.Get(dst, key)
}

// lookUp goes down from the block: through its own fork's deltas, the indexes of the
// groups below, to an image.
func (a *archived) lookUp(dst, key []byte) ([]byte, bool, error) {
	for e := a.at; e != nil; {
		a.s.mu.Lock()
		hasImage, x := e.image != nil, e.index
		a.s.mu.Unlock()
		if hasImage {
			db, err := a.imageAt(e)
			if err != nil {
				return dst, false, err
			}
			return db.Get(dst, key)
		}
		if x == nil {
			value, found, err := a.s.storedIn(a.s.deltaPath(e.rec.Block), dst, key)
			if err != nil || found {
				return value, found, err
			}
			e = e.parent()
			continue
		}
		back, wrote, err := a.s.writer(x, e, key)
		if err != nil {
			a.s.forgetIndex(x, err)
			return dst, false, err
		}
		if by := e.up(back); wrote && by != nil { // else it is below the anchor
			value, found, err := a.s.storedIn(a.s.deltaPath(by.rec.Block), dst, key)
			if err == nil && !found {
				err = fmt.Errorf("%w: block %s did not write what the index %s says", ErrDamaged, by.rec.Hash, a.s.indexPath(x))
			}
			return value, found, err
		}
		below := a.s.bottom(x)
		if below.height >= e.height {
			break // the anchor has moved past the block
		}
		e = below
	}
	return dst, false, fmt.Errorf("%w: no image below block %s", ErrMissing, a.at.rec.Hash)
}

// imageAt gives the image at e, open.
func (a *archived) imageAt(e *entry) (DB, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := a.s
	if a.image != nil {
		if a.owner != e { // which was given up since; others may still read it
			return nil, fmt.Errorf("%w: image of block %s", ErrMissing, a.owner.rec.Hash)
		}
		return a.image, nil
	}
	s.mu.Lock()
	im := e.image
	s.mu.Unlock()
	path := s.imagePath(e.rec.Block)
	if im == nil {
		return nil, fmt.Errorf("%w: %s", ErrMissing, path)
	}
	if err := s.checkSeal(path, im.seal); err != nil {
		return nil, err
	}
	db, err := s.engine.OpenReadOnly(path)
	if err != nil {
		return nil, err
	}
	if err := checkStandsAt(db, e); err != nil {
		db.Close()
		return nil, err
	}
	a.image, a.owner = db, e
	return db, nil
}

// writer tells how far above e in its group the newest block is that wrote a stored
// key, e itself included; wrote is false where none did.
func (s *Store) writer(x *index, e *entry, key []byte) (back int, wrote bool, err error) {
	path := s.indexPath(x)
	if err := s.checkIndex(x, path); err != nil {
		return 0, false, err
	}
	stored, found, err := s.storedIn(path, nil, key)
	if err != nil || !found {
		return 0, false, err
	}
	positions, _, err := splitValue(stored)
	if err == nil && len(positions)%2 != 0 {
		err = fmt.Errorf("%w: positions of %d bytes", ErrDamaged, len(positions))
	}
	if err != nil {
		return 0, false, fmt.Errorf("read %s: %w", path, err)
	}
	at := x.position(e)
	for i := len(positions) - 2; i >= 0; i -= 2 {
		if p := int(binary.LittleEndian.Uint16(positions[i:])); p <= at {
			return at - p, true, nil
		}
	}
	return 0, false, nil
}

// checkIndex compares an index with its record before its first use since the store
// was opened: its blocks have checksums of their own, but don't say whose they are.
func (s *Store) checkIndex(x *index, path string) error {
	s.mu.Lock()
	checked := x.file.checked
	s.mu.Unlock()
	if checked {
		return nil
	}
	rec, err := readRecord(s.engine, path)
	if err == nil && !rec.sameBlock(&x.top.rec) {
		err = fmt.Errorf("%w: %s is of block %s", ErrDamaged, path, rec.Hash)
	}
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	x.file.checked = true
	return nil
}

// storedIn appends the stored value of a key in a table to dst.
func (s *Store) storedIn(path string, dst, key []byte) (value []byte, found bool, err error) {
	table, err := s.engine.OpenTable(path)
	if err != nil {
		return dst, false, err
	}
	defer table.Close()
	return inTable(table, dst, key)
}

// inTable appends the stored value of a key to dst.
func inTable(table Table, dst, key []byte) (value []byte, found bool, err error) {
	it := table.Scan(key, append(bytes.Clone(key), 0)) // up to the next possible key
	if found = it.Next(); found {
		dst = append(dst, it.Value()...)
	}
	return dst, found, it.Close()
}

// manyKeys is from how many keys on reading them one by one takes longer than to
// bring a working database to the block: a third of a millisecond each, or some
// 80 ms.
const manyKeys = 256

// GetMany implements DB.
func (a *archived) GetMany(keys [][]byte) ([][]byte, error) { return a.getMany(keys, askNobody) }

func (a *archived) getMany(keys [][]byte, ask Ask) ([][]byte, error) {
	if len(keys) >= manyKeys || a.whole.Load() != nil {
		w, err := a.openAsking(ask)
		if err != nil {
			return nil, err
		}
		return w.db.GetMany(keys)
	}
	return getEach(func(key []byte) ([]byte, bool, error) { return a.get(nil, key, ask) }, keys)
}

// getEach gives the stored values of keys, read one by one.
func getEach(get func(key []byte) ([]byte, bool, error), keys [][]byte) ([][]byte, error) {
	values := make([][]byte, len(keys))
	for i, key := range keys {
		value, found, err := get(key)
		if err != nil {
			return nil, err
		}
		if found {
			values[i] = value
		}
	}
	return values, nil
}

// Scan implements DB.
func (a *archived) Scan(from, to []byte, keep bool) Iterator {
	return a.scan(from, to, keep, askNobody)
}

func (a *archived) scan(from, to []byte, keep bool, ask Ask) Iterator {
	w, err := a.openAsking(ask)
	if err != nil {
		return noIterator{err}
	}
	return w.db.Scan(from, to, keep)
}

// ScanBack implements DB.
func (a *archived) ScanBack(from, to []byte) Iterator { return a.scanBack(from, to, askNobody) }

func (a *archived) scanBack(from, to []byte, ask Ask) Iterator {
	w, err := a.openAsking(ask)
	if err != nil {
		return noIterator{err}
	}
	return w.db.ScanBack(from, to)
}

// open gives a working database at the block, which the state keeps; made says that
// it was made for this call.
func (a *archived) open() (w *Working, made bool, err error) {
	if w := a.whole.Load(); w != nil {
		return w, false, nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if w := a.whole.Load(); w != nil {
		return w, false, nil
	}
	w, err = a.s.fromImage(a.at)
	if err != nil {
		return nil, false, fmt.Errorf("bring a database to block %s: %w", a.at.rec.Hash, err)
	}
	a.whole.Store(w)
	return w, true, nil
}

// Close implements DB.
func (a *archived) Close() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	var err error
	if a.image != nil {
		err = a.image.Close()
	}
	if w := a.whole.Load(); w != nil {
		w.Drop()
	}
	return err
}

// noIterator is an iterator that could not be made.
type noIterator struct{ err error }

func (noIterator) Next() bool     { return false }
func (noIterator) Key() []byte    { return nil }
func (noIterator) Value() []byte  { return nil }
func (i noIterator) Close() error { return i.err }

package checkpoint

import (
	"fmt"
	"time"

	"go.uber.org/zap"

	"accessor/forks"
)

// View is a read-only state at one block. Get and Scan are safe from several
// goroutines; all iterators must be closed before the view is.
type View struct {
	h      *handle
	db     DB // the handle's, or one that asks first; see Asking
	closed bool
}

// handle is an open database that views share.
type handle struct {
	store *Store
	db    DB
	at    *entry
	drop  func() // closes the database

	// Guarded by Store.mu.
	users int
	used  time.Time
}

// OpenView opens the state at block h from its sealed checkpoint, or, where the block
// is archived, as Archive has it. Errors: ErrUnknown, ErrPruned, ErrUnsealed,
// ErrMissing, ErrLocked, ErrDamaged.
func (s *Store) OpenView(h forks.Hash) (*View, error) {
	e, err := s.entry(h)
	if err != nil {
		return nil, err
	}
	if v := s.shared(h); v != nil {
		return v, nil
	}
	if s.archivedAt(e) {
		db := &archived{s: s, at: e}
		return s.share(&handle{store: s, db: db, at: e, drop: func() { s.closeDB(db) }}), nil
	}
	if _, err := s.usable(e); err != nil {
		return nil, err
	}
	db, err := s.engine.OpenReadOnly(s.checkpointPath(e.rec.Block))
	if err != nil {
		return nil, fmt.Errorf("open checkpoint of block %s: %w", h, err)
	}
	if err := checkStandsAt(db, e); err != nil {
		db.Close()
		return nil, fmt.Errorf("open checkpoint of block %s: %w", h, err)
	}
	return s.share(&handle{store: s, db: db, at: e, drop: func() { s.closeDB(db) }}), nil
}

// ViewOf makes a view of a working database, for a block whose checkpoint can't
// be made; the database is dropped with the view.
func (s *Store) ViewOf(w *Working) *View {
	return s.share(&handle{store: s, db: w.db, at: w.at, drop: w.Drop})
}

func (s *Store) closeDB(db DB) {
	if err := db.Close(); err != nil {
		s.log.Warn("close checkpoint", zap.Error(err))
	}
}

// shared gives a view through a handle that is open already.
func (s *Store) shared(h forks.Hash) *View {
	s.mu.Lock()
	defer s.mu.Unlock()
	if open, ok := s.views[h]; ok {
		open.users++
		return &View{h: open, db: open.db}
	}
	return nil
}

// share offers a new handle to later views; where another opened meanwhile,
// that one is used.
func (s *Store) share(h *handle) *View {
	s.mu.Lock()
	if open, ok := s.views[h.at.rec.Hash]; ok {
		open.users++
		s.mu.Unlock()
		h.drop()
		return &View{h: open, db: open.db}
	}
	h.users = 1
	s.views[h.at.rec.Hash] = h
	s.mu.Unlock()
	return &View{h: h, db: h.db}
}

// Detach makes the view independent of the store's files, before some go that it may
// still need. Errors: those of bringing a database to the block.
func (v *View) Detach() error {
	if a, ok := v.h.db.(*archived); ok {
		_, _, err := a.open()
		return err
	}
	return nil // what it needs is open
}

// At is the view's block.
func (v *View) At() forks.Block { return v.h.at.rec.Block }

// Get appends the value of a key to dst; present is false for a key that the
// state doesn't hold.
func (v *View) Get(dst, key []byte) (value []byte, present bool, err error) {
	return getState(v.db, dst, key)
}

// GetMany gives the values of keys in strictly ascending order; nil for those that
// the state doesn't hold.
func (v *View) GetMany(keys [][]byte) ([][]byte, error) {
	return getMany(v.db, storedKeys(tagState, keys))
}

// Scan walks the state's keys in [from, to); an empty to means no upper end.
func (v *View) Scan(from, to []byte) StateIterator { return scanState(v.db, from, to) }

// ScanBack walks the same keys in descending order.
func (v *View) ScanBack(from, to []byte) StateIterator {
	end := stateEnd
	if len(to) > 0 {
		end = appendStateKey(nil, to)
	}
	return StateIterator{it: v.db.ScanBack(appendStateKey(nil, from), end)}
}

// Trie gives the commitment's records of the state.
func (v *View) Trie() Records { return Records{v.db} }

// Records are what a commitment keeps of a state beside its pairs, such as the
// nodes of a trie. They are safe for concurrent use as long as what they were
// taken from is open and stands at its block.
type Records struct {
	db DB
}

// Get gives a record's value; present is false where there is none.
func (r Records) Get(key []byte) (value []byte, present bool, err error) {
	var scratch [64]byte
	return getStored(r.db, nil, appendTrieKey(scratch[:0], key))
}

// GetMany gives the values of records, keys in strictly ascending order; nil where
// there is none.
func (r Records) GetMany(keys [][]byte) ([][]byte, error) {
	return getMany(r.db, storedKeys(tagTrie, keys))
}

// Scan calls yield for the records with keys in [from, to), in key order, until
// it gives false; an empty to means no upper end. The slices are valid during the
// call.
func (r Records) Scan(from, to []byte, yield func(key, value []byte) bool) error {
	end := trieEnd
	if len(to) > 0 {
		end = appendTrieKey(nil, to)
	}
	it := StateIterator{it: r.db.Scan(appendTrieKey(nil, from), end, len(to) > 0)}
	for it.Next() && yield(it.Key(), it.Value()) {
		continue
	}
	return it.Close()
}

// Close gives the view back. Closing twice is safe; the view is used by nobody
// by then.
func (v *View) Close() {
	s := v.h.store
	s.mu.Lock()
	if v.closed {
		s.mu.Unlock()
		return
	}
	v.closed = true
	v.h.users--
	v.h.used = time.Now()
	drop := s.surplusLocked(s.opts.OpenViews)
	s.mu.Unlock()
	for _, h := range drop {
		h.drop()
	}
}

// surplusLocked takes the handles without users out of the pool that are over
// the limit, least recently used first.
func (s *Store) surplusLocked(most int) []*handle {
	if s.closed {
		most = 0
	}
	var drop []*handle
	for {
		var oldest *handle
		idle := 0
		for _, h := range s.views {
			if h.users > 0 {
				continue
			}
			if idle++; oldest == nil || h.used.Before(oldest.used) {
				oldest = h
			}
		}
		if idle <= most {
			return drop
		}
		delete(s.views, oldest.at.rec.Hash)
		drop = append(drop, oldest)
	}
}

func (s *Store) closeIdleViews() {
	s.mu.Lock()
	drop := s.surplusLocked(0)
	s.mu.Unlock()
	for _, h := range drop {
		h.drop()
	}
}

func getState(db DB, dst, key []byte) ([]byte, bool, error) {
	var scratch [64]byte
	return getStored(db, dst, appendStateKey(scratch[:0], key))
}

func getStored(db DB, dst, key []byte) ([]byte, bool, error) {
	n := len(dst)
	out, found, err := db.Get(dst, key)
	if err != nil || !found {
		return dst, false, err
	}
	value, present, err := splitValue(out[n:])
	if err != nil || !present {
		return out[:n], false, err
	}
	if n == 0 {
		return value, true, nil
	}
	return append(out[:n], value...), true, nil // over its tag
}

// getMany gives the values of stored keys in strictly ascending order; nil for
// those that aren't there.
func getMany(db DB, keys [][]byte) ([][]byte, error) {
	values, err := db.GetMany(keys)
	if err != nil {
		return nil, err
	}
	for i, stored := range values {
		if stored == nil {
			continue
		}
		value, present, err := splitValue(stored)
		if err != nil {
			return nil, err
		}
		if values[i] = value; !present {
			values[i] = nil
		}
	}
	return values, nil
}

// storedKeys gives keys with a tag in front, in memory of their own.
func storedKeys(tag byte, keys [][]byte) [][]byte {
	size := 0
	for _, k := range keys {
		size += 1 + len(k)
	}
	buf := make([]byte, 0, size)
	out := make([][]byte, len(keys))
	for i, k := range keys {
		n := len(buf)
		buf = append(append(buf, tag), k...)
		out[i] = buf[n:len(buf):len(buf)]
	}
	return out
}

// StateIterator walks the keys and values of a state in key order. It must be
// closed before its view is.
type StateIterator struct {
	it         Iterator
	key, value []byte
	err        error
}

func scanState(db DB, from, to []byte) StateIterator {
	end := stateEnd
	if len(to) > 0 {
		end = appendStateKey(nil, to)
	}
	return StateIterator{it: db.Scan(appendStateKey(nil, from), end, false)}
}

// Next goes to the next key, at first to the first one.
func (i *StateIterator) Next() bool {
	for i.err == nil && i.it.Next() {
		value, present, err := splitValue(i.it.Value())
		if err != nil {
			i.err = err
		} else if present {
			i.key, i.value = i.it.Key()[1:], value
			return true
		}
	}
	return false
}

// Key is the current key, valid until Next or Close is called.
func (i *StateIterator) Key() []byte { return i.key }

// Value is the current value, valid until Next or Close is called.
func (i *StateIterator) Value() []byte { return i.value }

// Close ends the walk and gives the error that ended it early, if any.
func (i *StateIterator) Close() error {
	err := i.it.Close()
	if i.err != nil {
		return i.err
	}
	return err
}

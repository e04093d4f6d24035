package checkpoint

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"go.uber.org/zap"

	"accessor/forks"
)

// Working is a working database: it stands at one block, can be read there, and
// moves on by ingesting deltas. It is disposable and belongs to one goroutine.
type Working struct {
	store  *Store
	db     WorkingDB
	dir    string
	at     *entry
	image  *entry // whose image is below
	tables int    // number of tables beside the image's
}

// At is the block that the database stands at.
func (w *Working) At() forks.Block { return w.at.rec.Block }

// Get appends the value of a state key to dst; present is false for a key that
// the state doesn't hold.
func (w *Working) Get(dst, key []byte) (value []byte, present bool, err error) {
	return getState(w.db, dst, key)
}

// Scan walks the state's keys in [from, to); an empty to means no upper end.
func (w *Working) Scan(from, to []byte) StateIterator { return scanState(w.db, from, to) }

// Trie gives the commitment's records of the state.
func (w *Working) Trie() Records { return Records{w.db} }

// Take gives the working database that stands at block h, for the caller alone;
// nil where there is none. It prefers one with fewer tables that the background
// has prepared at a near ancestor.
func (s *Store) Take(h forks.Hash) (*Working, error) {
	e, err := s.entry(h)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	w := takeLocked(&s.idle, func(w *Working) bool { return w.at == e })
	tables := 0 // of what the next block would go on
	switch {
	case w != nil:
		tables = w.tables
	case e.seal != nil:
		tables = e.seal.tables
	}
	s.mu.Unlock()
	fresh := s.fresh(e, tables)
	if fresh == nil {
		return w, nil
	}
	if w != nil {
		s.inBackground(w.Drop)
	}
	return fresh, nil
}

// fresh gives a working database at e with fewer tables than that, where there is
// one; where they have become too many, it waits until one is made.
func (s *Store) fresh(e *entry, tables int) *Working {
	if tables >= s.opts.MaxTables {
		s.stats.Settles.Add(1)
		if err := s.maintain.settle(e, true); err != nil {
			s.log.Warn("merge deltas", zap.Stringer("block", e.rec.Hash), zap.Error(err))
		}
	}
	w, err := s.adopt(e, tables)
	if err != nil {
		s.log.Warn("adopt working database", zap.Stringer("block", e.rec.Hash), zap.Error(err))
	}
	return w
}

// adoptWithin is how many blocks a prepared database may be behind when it is
// adopted: that many deltas are ingested in one call.
const adoptWithin = 64

// adopt brings a prepared working database to e, if one is close below that has
// fewer tables there than what e has now.
func (s *Store) adopt(e *entry, tables int) (*Working, error) {
	w := s.takePrepared(e)
	if w == nil {
		return nil, nil
	}
	list, err := s.compose(w.at, e)
	if err != nil || tables > 0 && w.tables+len(list) >= tables {
		s.inBackground(w.Drop)
		return nil, err
	}
	if err := w.advance(e); err != nil {
		w.Drop()
		return nil, err
	}
	s.stats.Adopted.Add(1)
	return w, nil
}

// takePrepared gives the newest prepared working database that is close below e.
func (s *Store) takePrepared(e *entry) *Working {
	near := make(map[*entry]bool)
	for x, n := e, 0; x != nil && n < adoptWithin; x, n = x.parent(), n+1 {
		near[x] = true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return takeLocked(&s.prepared, func(w *Working) bool { return near[w.at] })
}

// takeLocked removes the newest matching element from a list.
func takeLocked(list *[]*Working, match func(*Working) bool) *Working {
	for i := len(*list) - 1; i >= 0; i-- {
		if w := (*list)[i]; match(w) {
			*list = append((*list)[:i], (*list)[i+1:]...)
			return w
		}
	}
	return nil
}

// Park gives a working database back for the next import on its block. Over the
// limit the least recently used one is dropped.
func (s *Store) Park(w *Working) { s.keep(&s.idle, w, s.opts.WorkingDBs) }

func (s *Store) keep(list *[]*Working, w *Working, most int) {
	s.mu.Lock()
	drop := w
	if !s.closed {
		*list = append(*list, w)
		drop = nil
		if len(*list) > most {
			drop = (*list)[0]
			*list = (*list)[1:]
		}
	}
	s.mu.Unlock()
	if drop == nil {
		return
	}
	// Closing and removing take milliseconds that no import should wait for.
	s.inBackground(drop.Drop)
}

// Drop closes the database and removes it.
func (w *Working) Drop() {
	if err := w.db.Close(); err != nil {
		w.store.log.Warn("close working database", zap.String("dir", w.dir), zap.Error(err))
	}
	if err := w.store.files.removeAll(w.dir); err != nil {
		w.store.log.Warn("remove working database", zap.String("dir", w.dir), zap.Error(err))
	}
}

// Clone makes a working database at block h from its sealed checkpoint, by hard
// link, or from its image where the checkpoint can't be used. Errors: ErrUnknown,
// ErrPruned, ErrUnsealed, ErrMissing, ErrLocked, ErrDamaged.
func (s *Store) Clone(h forks.Hash) (*Working, error) {
	e, err := s.entry(h)
	if err != nil {
		return nil, err
	}
	l, err := s.recorded(e)
	if err == nil && l.tables >= s.opts.MaxTables && s.checkSeal(s.checkpointPath(e.rec.Block), l) == nil {
		if w := s.fresh(e, l.tables); w != nil {
			return w, nil
		}
	}
	if err == nil {
		image, gone := s.entry(l.image)
		if gone != nil {
			image = s.anchorEntry() // its own was pruned
		}
		var w *Working
		if w, err = s.cloneDir(s.checkpointPath(e.rec.Block), l, e, image); err == nil {
			return w, nil
		}
		if _, gone := s.recorded(e); gone != nil {
			err = gone // while it was being cloned
		}
	}
	if w, imageErr := s.cloneImage(e); imageErr == nil {
		return w, nil
	}
	return nil, err
}

// cloneImage makes a working database from the image at e.
func (s *Store) cloneImage(e *entry) (*Working, error) {
	s.mu.Lock()
	im := e.image
	s.mu.Unlock()
	if im == nil {
		return nil, fmt.Errorf("%w: no image of block %s", ErrMissing, e.rec.Hash)
	}
	return s.cloneDir(s.imagePath(e.rec.Block), im.seal, e, e)
}

func (s *Store) cloneDir(from string, l *seal, at, image *entry) (*Working, error) {
	dir := s.tmpPath(dirWork, "db")
	w, err := s.openClone(from, dir, l, at)
	if err != nil {
		s.discard(dir)
		// A directory that was changed or removed says why itself.
		return nil, fmt.Errorf("clone %s: %w", from, cmp.Or(s.checkSeal(from, l), err))
	}
	w.image, w.tables = image, l.tables
	s.stats.Clones.Add(1)
	return w, nil
}

func (s *Store) openClone(from, dir string, l *seal, at *entry) (*Working, error) {
	names, err := os.ReadDir(from)
	if err != nil {
		return nil, err
	}
	if err := s.files.mkdir(dir); err != nil {
		return nil, err
	}
	for _, d := range names {
		src, dst := filepath.Join(from, d.Name()), filepath.Join(dir, d.Name())
		if s.engine.IsTable(d.Name()) {
			err = s.files.link(src, dst)
		} else {
			err = s.files.copyFile(src, dst)
		}
		if err != nil {
			return nil, err
		}
	}
	// The clone, not what it was made of: that may have changed meanwhile.
	if err := s.checkSeal(dir, l); err != nil {
		return nil, err
	}
	db, err := s.engine.OpenWorking(dir)
	if err != nil {
		return nil, err
	}
	if err := checkStandsAt(db, at); err != nil {
		db.Close()
		return nil, err
	}
	return &Working{store: s, db: db, dir: dir, at: at}, nil
}

// checkStandsAt reads the record inside a database: whatever a directory is
// called, it is at the block that it says itself.
func checkStandsAt(db DB, e *entry) error {
	r, err := recordIn(db)
	if err != nil {
		return err
	}
	if !r.sameBlock(&e.rec) {
		return fmt.Errorf("%w: database is at block %s with root %s, want block %s with root %s",
			ErrDamaged, r.Hash, r.Root, e.rec.Hash, e.rec.Root)
	}
	return nil
}

// recordIn reads the record of the block that a database is at.
func recordIn(db DB) (Record, error) {
	stored, found, err := db.Get(nil, recordKey)
	if err != nil {
		return Record{}, err
	}
	if !found {
		return Record{}, fmt.Errorf("%w: database without a block record", ErrDamaged)
	}
	return storedRecord(stored)
}

// Advance moves a working database on to a descendant, by ingesting the deltas
// between, or the runs made of them. Errors: ErrUnknown.
func (w *Working) Advance(h forks.Hash) error {
	e, err := w.store.entry(h)
	if err != nil {
		return err
	}
	return w.advance(e)
}

func (w *Working) advance(to *entry) error {
	s := w.store
	if to.rec.Hash == w.at.rec.Hash { // by another entry, perhaps, if it became the anchor
		w.at = to
		return nil
	}
	list, err := s.compose(w.at, to)
	if err != nil {
		return err
	}
	err = w.checkAndIngest(list)
	for err != nil && hasRuns(list) && !errors.Is(err, ErrNoSpace) && !errors.Is(err, errReplaced) {
		// Runs are derived: do without them, the shorter ones below them too.
		s.log.Warn("use deltas instead of runs", zap.Stringer("block", to.rec.Hash), zap.Error(err))
		s.forgetRuns(list)
		if list, err = s.compose(w.at, to); err != nil {
			return err
		}
		err = w.checkAndIngest(list)
	}
	if err != nil {
		return fmt.Errorf("ingest deltas up to block %s: %w", to.rec.Hash, err)
	}
	s.stats.Ingested.Add(int64(len(list)))
	w.at, w.tables = to, w.tables+len(list)
	return nil
}

func (w *Working) checkAndIngest(list []piece) error {
	if err := w.store.checkRuns(list); err != nil {
		return err
	}
	return w.ingest(list)
}

// ingest takes in tables, all or none.
func (w *Working) ingest(list []piece) error {
	s := w.store
	// The engine takes the names that it is given away: hand it second links.
	links := make([]string, 0, len(list))
	err := func() error {
		for _, t := range list {
			link := s.tmpPath(dirTmp, "in") + ".sst"
			if err := s.files.link(t.path, link); err != nil {
				return err
			}
			links = append(links, link)
		}
		if err := s.unchanged(list); err != nil {
			return err
		}
		return s.files.call("ingest", w.dir, func() error { return w.db.Ingest(links) })
	}()
	if err != nil {
		for _, l := range links {
			s.discard(l)
		}
	}
	return err
}

// errReplaced: a block's delta is its whole state by now, since it has become the anchor.
var errReplaced = errors.New("a block on the way has become the anchor")

// unchanged says whether what was linked are deltas: of a block that has become the anchor
// meanwhile it may be the whole state, which doesn't say what was deleted. A new anchor is
// in the tree before its file is.
func (s *Store) unchanged(list []piece) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range list {
		if p.at != nil && !p.run && s.entries[p.at.rec.Hash] != p.at {
			return fmt.Errorf("%w: block %s", errReplaced, p.at.rec.Hash)
		}
	}
	return nil
}

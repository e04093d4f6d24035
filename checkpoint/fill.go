package checkpoint

import (
	"errors"
	"fmt"
	"os"
	"sync"

	"go.uber.org/zap"
)

// Fill is what peers have given to a partial store, in fill/: small things under keys,
// such as the nodes of a trie, and the spool of the anchor's whole state. All of it can
// be had again. It is safe for concurrent use, and stays usable until it is closed,
// also when the store has become complete meanwhile.
type Fill struct {
	s *Store

	mu   sync.RWMutex // kept while kept is used
	kept Journal      // nil once closed

	spool Spool
}

// Folders in fill/.
const (
	fillKept  = "kept"
	fillSpool = "spool"
)

// Partial says whether the anchor's whole state is not there yet.
func (s *Store) Partial() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.anchor != nil && s.anchor.rec.Partial
}

// Fill gives what peers have given to a partial store; nil in a complete one.
func (s *Store) Fill() *Fill { return s.fill.Load() }

// openFill opens what there is, and does without what can't be read.
func (s *Store) openFill() error {
	f := &Fill{s: s}
	path := s.path(dirFill, fillKept)
	open := func() (err error) {
		if err = s.files.mkdir(path); err == nil {
			f.kept, err = s.engine.OpenJournal(path)
		}
		return err
	}
	err := open()
	if err != nil && !errors.Is(err, ErrNoSpace) {
		s.log.Warn("do without what peers have given", zap.String("path", path), zap.Error(err))
		if err = s.trash(path); err == nil {
			err = open()
		}
	}
	if err == nil {
		err = f.spool.open(s.path(dirFill, fillSpool), &s.files)
	}
	if err != nil {
		f.close()
		return fmt.Errorf("open what peers have given: %w", err)
	}
	s.fill.Store(f)
	return nil
}

// clearFill removes what a complete store needs no more.
func (s *Store) clearFill() error {
	names, err := os.ReadDir(s.path(dirFill))
	if err != nil {
		return err
	}
	for _, d := range names {
		if err := s.trash(s.path(dirFill, d.Name())); err != nil {
			return err
		}
	}
	return nil
}

// Kept appends what is kept under a key to dst. Errors: ErrClosed, and those of reading.
func (f *Fill) Kept(dst, key []byte) (value []byte, found bool, err error) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	if f.kept == nil {
		return dst, false, ErrClosed
	}
	return f.kept.Get(dst, key)
}

// Keep keeps things under keys, all or none; with sync they are durable on return.
// Errors: ErrClosed, ErrNoSpace, and those of writing.
func (f *Fill) Keep(changes []Change, sync bool) error {
	f.mu.RLock()
	defer f.mu.RUnlock()
	if f.kept == nil {
		return ErrClosed
	}
	return f.s.files.call("write", f.s.path(dirFill, fillKept), func() error { return f.kept.Write(changes, sync) })
}

// Spool is where the ranges of the anchor's state are kept until it is whole.
func (f *Fill) Spool() *Spool { return &f.spool }

// close ends all use.
func (f *Fill) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.kept != nil {
		if err := f.kept.Close(); err != nil {
			f.s.log.Warn("close what peers have given", zap.Error(err))
		}
		f.kept = nil
	}
	f.spool.close()
}

// Done ends the use of what peers have given to a store that is complete by now, and
// removes it. Error: ErrClosed, and those of removing.
func (f *Fill) Done() error {
	f.close()
	f.s.mu.Lock()
	closed := f.s.closed
	f.s.mu.Unlock()
	switch {
	case closed:
		return ErrClosed // the next start removes it
	case f.s.Partial():
		return nil
	}
	f.s.fill.CompareAndSwap(f, nil)
	return f.s.clearFill()
}

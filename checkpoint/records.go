package checkpoint

import "fmt"

// Meta gives a value kept by SetMeta, nil where there is none.
func (s *Store) Meta(name string) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.meta[name]
}

// SetMeta keeps a small value under a name, durably.
func (s *Store) SetMeta(name string, value []byte) error {
	publish, err := s.SetMetaWith(name, value)
	publish()
	return err
}

// SetMetaWith is SetMeta with events of it. The caller publishes them, whether there
// was an error or not.
func (s *Store) SetMetaWith(name string, value []byte, list ...Event) (publish func(), err error) {
	publish, err = s.recordWith([]Change{{Key: metaKey(name), Value: value}}, list...)
	if err != nil {
		return publish, fmt.Errorf("record %s: %w", name, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.meta[name] = value
	return publish, nil
}

// record writes one change of the records. Error: ErrClosed, and the journal's.
func (s *Store) record(c Change, sync bool) error { return s.recordAll([]Change{c}, sync) }

// recordAll writes several changes of the records, all or none. Errors as above.
func (s *Store) recordAll(changes []Change, sync bool) error {
	s.journal.RLock()
	defer s.journal.RUnlock()
	if !s.journalUp {
		return ErrClosed
	}
	err := s.blocks.Write(changes, sync)
	s.noteWrite(err)
	return err
}

// noteWrite remembers whether records can be written.
func (s *Store) noteWrite(err error) {
	switch {
	case err != nil:
		s.unwritable.Store(&err)
	case s.unwritable.Load() != nil:
		s.unwritable.Store(nil)
	}
}

// Unwritable is why the last record could not be written; nil where it could.
func (s *Store) Unwritable() error {
	if err := s.unwritable.Load(); err != nil {
		return *err
	}
	return nil
}

// openJournal opens the records.
func (s *Store) openJournal() (err error) {
	s.blocks, err = s.engine.OpenJournal(s.path(dirBlocks))
	if err != nil {
		return err
	}
	s.journalUp = true
	return s.loadEvents()
}

package checkpoint

import (
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"

	"accessor/forks"
)

// WriteDelta writes a block's write set, what changes of the commitment's records
// (nothing for a store without roots), and its record durably, under its final
// name, and completes rec with number, time, size and checksum. The block is not
// held yet: see Record. Error: ErrUndecided after a Record of that block failed.
func (s *Store) WriteDelta(rec *Record, ws, trie WriteSet) error {
	return s.writeDelta(rec, func(yield func([]byte, []byte) bool) {
		_ = ws.stored(tagState, yield) && trie.stored(tagTrie, yield)
	})
}

// stored yields the stored form of the writes, until yield gives false.
func (ws WriteSet) stored(tag byte, yield func(key, value []byte) bool) bool {
	var key, value []byte
	for _, w := range ws {
		key = append(append(key[:0], tag), w.Key...)
		if w.Delete {
			value = append(value[:0], tagAbsent)
		} else {
			value = append(append(value[:0], tagValue), w.Value...)
		}
		if !yield(key, value) {
			return false
		}
	}
	return true
}

// writeDelta writes the record and then the stored entries, in ascending order.
func (s *Store) writeDelta(rec *Record, stored iter.Seq2[[]byte, []byte]) error {
	if len(rec.Header) > MaxHeader {
		return fmt.Errorf("%w: header of %d bytes, at most %d", ErrLimit, len(rec.Header), MaxHeader)
	}
	s.mu.Lock()
	// Also where nobody knows whether the store is complete: a block that is recorded now
	// would lack the commitment's records that it needs then.
	undecided := s.undecided[rec.Hash] || s.anchor != nil && s.undecided[s.anchor.rec.Hash]
	s.number++
	rec.Number = s.number
	s.mu.Unlock()
	if undecided {
		// Its delta must stay as it is: there may be a record of it.
		return fmt.Errorf("write delta of block %s: %w", rec.Hash, ErrUndecided)
	}
	rec.Arrived = time.UnixMilli(time.Now().UnixMilli())

	tmp := s.tmpPath(dirTmp, "delta")
	var err error
	rec.DeltaSize, rec.DeltaSum, err = s.writeTable(tmp, rec, stored)
	if err == nil {
		err = s.files.rename(tmp, s.deltaPath(rec.Block))
	}
	if err != nil {
		// Under its final name too, which the rename may have given it before it
		// failed: the next start would take the block in.
		s.discard(tmp)
		s.discard(s.deltaPath(rec.Block))
		return fmt.Errorf("write delta of block %s: %w", rec.Hash, err)
	}
	return nil
}

// writeTable writes a table that starts with rec, durably, and gives the file's
// size and checksum.
func (s *Store) writeTable(path string, rec *Record, stored iter.Seq2[[]byte, []byte]) (size int64, sum uint64, err error) {
	if err := s.fillTable(path, rec, stored); err != nil {
		return 0, 0, err
	}
	synced := make(chan error, 1)
	go func() { synced <- s.files.sync(path) }()
	size, sum, err = fileSum(path) // meanwhile
	return size, sum, errors.Join(err, <-synced)
}

func (s *Store) fillTable(path string, rec *Record, stored iter.Seq2[[]byte, []byte]) error {
	var w TableWriter
	err := s.files.call("create", path, func() (err error) {
		w, err = s.engine.CreateTable(path)
		return err
	})
	if err != nil {
		if w != nil {
			w.Abort()
		}
		return err
	}
	if err := w.Put(recordKey, rec.appendBody([]byte{tagValue})); err != nil {
		w.Abort()
		return err
	}
	for k, v := range stored {
		if err := w.Put(k, v); err != nil {
			w.Abort()
			return err
		}
	}
	return s.files.call("write", path, w.Finish)
}

// discard removes a half-made file or folder in tmp/ or work/ as far as that
// works; the next start removes the rest.
func (s *Store) discard(path string) { _ = s.files.removeAll(path) }

// Record makes the block of a written delta held, durably: the point of no loss.
// Where it fails, the delta stays: whether the record has reached the disk is not
// known. The next start holds the block; until then it can't be imported again.
func (s *Store) Record(rec *Record) error {
	publish, err := s.RecordWith(rec)
	publish()
	return err
}

// RecordWith is Record with more events than the block's own, which come before it.
// The caller publishes them once the block can be seen, whether there was an error
// or not.
func (s *Store) RecordWith(rec *Record, list ...Event) (publish func(), err error) {
	s.mu.Lock()
	parent, ok := s.entries[rec.Parent]
	switch {
	case s.closed:
		s.mu.Unlock()
		return func() {}, ErrClosed
	case !ok && !rec.Anchor:
		s.mu.Unlock()
		return func() {}, fmt.Errorf("%w: parent %s", ErrUnknown, rec.Parent)
	}
	s.mu.Unlock()

	list = append(slices.Clip(list), Event{Kind: EventBlock, Block: rec.Block})
	publish, err = s.recordWith([]Change{{Key: blockKey(rec.Hash), Value: rec.encode()}}, list...)
	if err != nil {
		s.mu.Lock()
		s.undecided[rec.Hash] = true
		s.mu.Unlock()
		return publish, fmt.Errorf("record block %s: %w", rec.Hash, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if parent != nil {
		parent = s.entries[rec.Parent] // which may have become the anchor meanwhile
	}
	s.addLocked(*rec, parent)
	return publish, nil
}

func (s *Store) addLocked(rec Record, parent *entry) *entry {
	e := &entry{rec: rec}
	if rec.Anchor {
		s.anchor = e
	} else {
		e.height = parent.height + 1
		e.above.Store(parent)
	}
	s.entries[rec.Hash] = e
	s.number = max(s.number, rec.Number)
	return e
}

// ReadDelta reads a held block's write set from its delta, in key order. The
// slices are valid until the next one is asked for. Errors: ErrUnknown,
// ErrDamaged; errors while reading are yielded as the last element.
func (s *Store) ReadDelta(h forks.Hash) (iter.Seq2[Write, error], error) {
	e, err := s.entry(h)
	if err != nil {
		return nil, err
	}
	path := s.deltaPath(e.rec.Block)
	table, err := s.engine.OpenTable(path)
	if err != nil {
		return nil, fmt.Errorf("read delta of block %s: %w", h, err)
	}
	return func(yield func(Write, error) bool) {
		defer table.Close()
		it := table.Scan([]byte{tagState}, stateEnd)
		for it.Next() {
			value, present, err := splitValue(it.Value())
			if err != nil {
				_ = it.Close()
				yield(Write{}, fmt.Errorf("read %s: %w", path, err))
				return
			}
			if !yield(Write{Key: it.Key()[1:], Value: value, Delete: !present}, nil) {
				_ = it.Close()
				return
			}
		}
		if err := it.Close(); err != nil {
			yield(Write{}, err)
		}
	}, nil
}

// Written gives what a held block's delta says of a key; wrote is false where it
// says nothing, and the value nil where it was deleted. Errors: ErrUnknown,
// ErrDamaged.
func (s *Store) Written(h forks.Hash, key []byte) (value []byte, wrote bool, err error) {
	e, err := s.entry(h)
	if err != nil {
		return nil, false, err
	}
	path := s.deltaPath(e.rec.Block)
	stored, wrote, err := s.storedIn(path, nil, appendStateKey(nil, key))
	if err != nil || !wrote {
		return nil, false, err
	}
	value, present, err := splitValue(stored)
	if err != nil {
		return nil, false, fmt.Errorf("read %s: %w", path, err)
	}
	if !present {
		return nil, true, nil
	}
	return value, true, nil
}

// readRecord reads the record that a table starts with.
func readRecord(engine Engine, path string) (Record, error) {
	table, err := engine.OpenTable(path)
	if err != nil {
		return Record{}, err
	}
	defer table.Close()
	stored, found, err := inTable(table, nil, recordKey)
	if err != nil {
		return Record{}, err
	}
	if !found {
		return Record{}, fmt.Errorf("%w: no block record in %s", ErrDamaged, path)
	}
	return storedRecord(stored)
}

func storedRecord(stored []byte) (Record, error) {
	body, present, err := splitValue(stored)
	if err != nil {
		return Record{}, err
	}
	r, rest, err := decodeBody(body)
	if err == nil && (!present || len(rest) != 0) {
		err = fmt.Errorf("%w: block record with %d bytes at its end", ErrDamaged, len(rest))
	}
	return r, err
}

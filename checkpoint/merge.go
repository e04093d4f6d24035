package checkpoint

import (
	"bytes"
	"errors"
	"iter"
)

// merger reads several tables side by side, in key order.
type merger struct {
	sources []source // oldest first
	tables  []Table
}

// source is an iterator and whether it stands at an entry.
type source struct {
	Iterator
	more bool
}

// add takes over an iterator that is newer than those added before.
func (m *merger) add(it Iterator) {
	m.sources = append(m.sources, source{it, it.Next()})
}

// addTable takes over a table that is newer than what was added before.
func (m *merger) addTable(t Table) {
	m.tables = append(m.tables, t)
	m.add(t.Scan(nil, nil))
}

// newest yields the newest entry of each key, the tables' own records left out.
// The slices are valid until the next entry.
func (m *merger) newest() iter.Seq2[[]byte, []byte] {
	return func(yield func([]byte, []byte) bool) {
		for key, in := range m.keys() {
			if !yield(key, m.sources[in[len(in)-1]].Value()) {
				return
			}
		}
	}
}

// keys yields each key and which sources have it, oldest first, the tables' own
// records left out. The slices are valid until the next key.
func (m *merger) keys() iter.Seq2[[]byte, []int] {
	return func(yield func([]byte, []int) bool) {
		var key []byte
		var in []int
		for {
			in = in[:0]
			for i := range m.sources { // few enough to look at each
				t := &m.sources[i]
				if !t.more {
					continue
				}
				if len(in) > 0 {
					order := bytes.Compare(t.Key(), m.sources[in[0]].Key())
					if order > 0 {
						continue
					}
					if order < 0 {
						in = in[:0]
					}
				}
				in = append(in, i)
			}
			if len(in) == 0 {
				return
			}
			key = append(key[:0], m.sources[in[0]].Key()...)
			if key[0] != tagRecord && !yield(key, in) {
				return
			}
			for _, i := range in {
				m.sources[i].more = m.sources[i].Next()
			}
		}
	}
}

// close closes all, and gives the errors that ended any early.
func (m *merger) close() (err error) {
	for i := range m.sources {
		err = errors.Join(err, m.sources[i].Close())
	}
	for _, t := range m.tables {
		err = errors.Join(err, t.Close())
	}
	m.sources, m.tables = nil, nil
	return err
}

// merged is an iterator over the newest entries of a merger.
type merged struct {
	m          *merger
	next       func() ([]byte, []byte, bool)
	stop       func()
	key, value []byte
}

func newMerged(m *merger) *merged {
	next, stop := iter.Pull2(m.newest())
	return &merged{m: m, next: next, stop: stop}
}

// Next implements Iterator.
func (i *merged) Next() (more bool) {
	i.key, i.value, more = i.next()
	return more
}

// Key implements Iterator.
func (i *merged) Key() []byte { return i.key }

// Value implements Iterator.
func (i *merged) Value() []byte { return i.value }

// Close implements Iterator.
func (i *merged) Close() error {
	i.stop()
	return i.m.close()
}

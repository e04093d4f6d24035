package checkpoint

import (
	"bytes"
	"iter"
)

// merger reads several tables side by side, in key order.
type merger struct {
	tables []mergedTable // oldest first
}

// mergedTable is a table and its next entry.
type mergedTable struct {
	table      Table
	next       func() (key, value []byte, ok bool)
	stop       func()
	key, value []byte
	more       bool
}

// add takes over a table that is newer than those added before.
func (m *merger) add(t Table) {
	next, stop := iter.Pull2(t.All())
	mt := mergedTable{table: t, next: next, stop: stop}
	mt.advance()
	m.tables = append(m.tables, mt)
}

func (t *mergedTable) advance() { t.key, t.value, t.more = t.next() }

// newest yields the newest entry of each key, the tables' own records left out.
// The slices are valid until the next entry.
func (m *merger) newest() iter.Seq2[[]byte, []byte] {
	return func(yield func([]byte, []byte) bool) {
		var key []byte
		for {
			best := -1
			for i := range m.tables {
				t := &m.tables[i]
				// Of equal keys the later table's wins; tables are few enough to
				// look at each.
				if t.more && (best < 0 || bytes.Compare(t.key, m.tables[best].key) <= 0) {
					best = i
				}
			}
			if best < 0 {
				return
			}
			key = append(key[:0], m.tables[best].key...)
			if key[0] != tagRecord && !yield(key, m.tables[best].value) {
				return
			}
			for i := range m.tables {
				if t := &m.tables[i]; t.more && bytes.Equal(t.key, key) {
					t.advance()
				}
			}
		}
	}
}

// err is the first error that ended a table early.
func (m *merger) err() error {
	for _, t := range m.tables {
		if err := t.table.Err(); err != nil {
			return err
		}
	}
	return nil
}

func (m *merger) close() {
	for _, t := range m.tables {
		t.stop()
		t.table.Close()
	}
}

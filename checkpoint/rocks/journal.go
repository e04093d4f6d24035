package rocks

import (
	"iter"
	"slices"
	"sync/atomic"

	"github.com/linxGnu/grocksdb"

	"accessor/checkpoint"
)

type journal struct {
	*db
	sync, async *grocksdb.WriteOptions
	err         atomic.Pointer[error]
}

// OpenJournal implements checkpoint.Engine.
func (e *Engine) OpenJournal(dir string) (checkpoint.Journal, error) {
	d, err := grocksdb.OpenDb(e.journal, dir)
	if err != nil {
		return nil, wrap("open records", dir, err)
	}
	j := &journal{db: newDB(dir, d), sync: grocksdb.NewDefaultWriteOptions(), async: grocksdb.NewDefaultWriteOptions()}
	j.sync.SetSync(true)
	return j, nil
}

func (j *journal) Scan(prefix []byte) iter.Seq2[[]byte, []byte] {
	return func(yield func([]byte, []byte) bool) {
		it := j.db.Scan(prefix, checkpoint.PrefixEnd(prefix), false)
		for it.Next() {
			if !yield(slices.Clone(it.Key()), slices.Clone(it.Value())) {
				break
			}
		}
		if err := it.Close(); err != nil {
			j.err.Store(&err)
		}
	}
}

func (j *journal) Err() error {
	if err := j.err.Load(); err != nil {
		return *err
	}
	return nil
}

func (j *journal) Write(changes []checkpoint.Change, sync bool) error {
	batch := grocksdb.NewWriteBatch()
	defer batch.Destroy()
	for _, c := range changes {
		if c.Value == nil {
			batch.Delete(c.Key)
		} else {
			batch.Put(c.Key, c.Value)
		}
	}
	opts := j.async
	if sync {
		opts = j.sync
	}
	return wrap("write records", j.dir, j.db.db.Write(opts, batch))
}

func (j *journal) Close() error {
	if j.db.db == nil {
		return nil
	}
	j.sync.Destroy()
	j.async.Destroy()
	return j.db.Close()
}

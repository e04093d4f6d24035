package rocks

import (
	"math"
	"time"

	"github.com/linxGnu/grocksdb"

	"accessor/checkpoint"
)

// Baseline is the usual way to keep a checkpoint per block with RocksDB, to
// measure the store against: each write set goes through the memtable (WAL off),
// is flushed, and a checkpoint is made; compaction is RocksDB's default. Tables
// have the engine's own options.
type Baseline struct {
	dir   string
	db    *grocksdb.DB
	opts  *grocksdb.Options
	write *grocksdb.WriteOptions
	flush *grocksdb.FlushOptions
}

// OpenBaseline opens or makes a database for Baseline.
func (e *Engine) OpenBaseline(dir string) (*Baseline, error) {
	o := e.newOptions()
	o.SetCreateIfMissing(true)
	o.SetDisableAutoCompactions(false)
	o.SetLevel0FileNumCompactionTrigger(4)
	o.SetLevel0SlowdownWritesTrigger(20)
	o.SetLevel0StopWritesTrigger(36)
	o.SetMaxManifestFileSize(math.MaxInt32)
	db, err := grocksdb.OpenDb(o, dir)
	if err != nil {
		o.Destroy()
		return nil, wrap("open baseline", dir, err)
	}
	b := &Baseline{dir: dir, db: db, opts: o, write: grocksdb.NewDefaultWriteOptions(), flush: grocksdb.NewDefaultFlushOptions()}
	b.write.DisableWAL(true)
	return b, nil
}

// Write puts a write set into the memtable, in one batch.
func (b *Baseline) Write(puts []checkpoint.Pair) error {
	batch := grocksdb.NewWriteBatch()
	defer batch.Destroy()
	for _, p := range puts {
		batch.Put(p.Key, p.Value)
	}
	return wrap("write", b.dir, b.db.Write(b.write, batch))
}

// Flush makes what was written durable.
func (b *Baseline) Flush() error { return wrap("flush", b.dir, b.db.Flush(b.flush)) }

// Checkpoint makes a copy of the database in a new directory.
func (b *Baseline) Checkpoint(dir string) error {
	c, err := b.db.NewCheckpoint()
	if err != nil {
		return wrap("checkpoint", b.dir, err)
	}
	defer c.Destroy()
	return wrap("checkpoint", b.dir, c.CreateCheckpoint(dir, 0))
}

// Wait returns when no compaction runs or is due, so that it doesn't slow down
// what is measured next.
func (b *Baseline) Wait() {
	for b.db.GetProperty("rocksdb.num-running-compactions") != "0" || b.db.GetProperty("rocksdb.compaction-pending") != "0" {
		time.Sleep(time.Millisecond)
	}
}

// Close closes the database.
func (b *Baseline) Close() {
	b.db.Close()
	b.write.Destroy()
	b.flush.Destroy()
	b.opts.Destroy()
}

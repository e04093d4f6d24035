package rocks

// #include <stdlib.h>
// #include "rocksdb/c.h"
// #include "shim.h"
import "C"

import (
	"unsafe"

	"github.com/linxGnu/grocksdb"

	"accessor/checkpoint"
)

type db struct {
	dir  string
	db   *grocksdb.DB
	get  *grocksdb.ReadOptions
	scan *grocksdb.ReadOptions
}

func newDB(dir string, d *grocksdb.DB) *db {
	get := grocksdb.NewDefaultReadOptions()
	scan := grocksdb.NewDefaultReadOptions()
	scan.SetFillCache(false) // a walk over a state must not empty the cache
	return &db{dir: dir, db: d, get: get, scan: scan}
}

// OpenReadOnly implements checkpoint.Engine.
func (e *Engine) OpenReadOnly(dir string) (checkpoint.DB, error) {
	d, err := grocksdb.OpenDbForReadOnly(e.read, dir, false)
	if err != nil {
		return nil, wrap("open database", dir, err)
	}
	return newDB(dir, d), nil
}

func (d *db) Get(dst, key []byte) ([]byte, bool, error) {
	v, err := d.db.GetPinned(d.get, key)
	if err != nil {
		return dst, false, wrap("read", d.dir, err)
	}
	defer v.Destroy()
	if !v.Exists() {
		return dst, false, nil
	}
	return append(dst, v.Data()...), true, nil
}

func (d *db) Scan(from, to []byte, keep bool) checkpoint.Iterator {
	opts := d.scan
	if keep {
		opts = d.get
	}
	it := d.db.NewIterator(opts)
	it.Seek(from)
	i := &iterator{dir: d.dir, it: it}
	if len(to) > 0 {
		i.to = C.CBytes(to)
	}
	size := C.size_t(len(to))
	i.fill = func(buf *C.char, cap C.size_t, need *C.size_t, text **C.char) C.size_t {
		return C.accessor_iter_fill(handle(unsafe.Pointer(it)), (*C.char)(i.to), size, buf, cap, need, text)
	}
	return i
}

func (d *db) Close() error {
	if d.db == nil {
		return nil
	}
	d.db.Close()
	d.get.Destroy()
	d.scan.Destroy()
	d.db = nil
	return nil
}

type iterator struct {
	batch
	dir string
	it  *grocksdb.Iterator
	to  unsafe.Pointer // end key in C memory, nil where there is none
}

func (i *iterator) Next() bool    { return i.next() }
func (i *iterator) Key() []byte   { return i.key }
func (i *iterator) Value() []byte { return i.value }

func (i *iterator) Close() error {
	if i.it == nil {
		return nil
	}
	i.free()
	i.it.Close()
	C.free(i.to)
	i.it = nil
	return wrap("scan", i.dir, i.err)
}

type workingDB struct {
	*db
	ingest *grocksdb.IngestExternalFileOptions
}

// OpenWorking implements checkpoint.Engine.
func (e *Engine) OpenWorking(dir string) (checkpoint.WorkingDB, error) {
	d, err := grocksdb.OpenDb(e.working, dir)
	if err != nil {
		return nil, wrap("open database", dir, err)
	}
	return &workingDB{db: newDB(dir, d), ingest: newIngestOptions(false)}, nil
}

// newIngestOptions are the options of an ingestion that moves the names that it
// is given. writeSeqno is RocksDB's default, which writes into the file: only
// SelfTest asks for it.
func newIngestOptions(writeSeqno bool) *grocksdb.IngestExternalFileOptions {
	o := grocksdb.NewDefaultIngestExternalFileOptions()
	o.SetMoveFiles(true)
	if !writeSeqno {
		C.accessor_ingest_keep_files(handle(unsafe.Pointer(o)))
	}
	return o
}

func (w *workingDB) Ingest(paths []string) error {
	return wrap("ingest into", w.dir, w.db.db.IngestExternalFile(paths, w.ingest))
}

func (w *workingDB) Checkpoint(dir string) error {
	c, err := w.db.db.NewCheckpoint()
	if err != nil {
		return wrap("checkpoint", w.dir, err)
	}
	defer c.Destroy()
	// 0: always flush. The memtable is empty, so that is free, and the
	// checkpoint has no log.
	return wrap("checkpoint", w.dir, c.CreateCheckpoint(dir, 0))
}

func (w *workingDB) Close() error {
	if w.db.db == nil {
		return nil
	}
	w.ingest.Destroy()
	return w.db.Close()
}

package rocks

// #include <stdlib.h>
// #include "rocksdb/c.h"
// #include "shim.h"
import "C"

import (
	"encoding/binary"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/linxGnu/grocksdb"

	"accessor/checkpoint"
)

type db struct {
	dir  string
	db   *grocksdb.DB
	get  *grocksdb.ReadOptions
	scan *grocksdb.ReadOptions

	engine  *Engine    // among whose open databases it is; nil for none
	closing sync.Mutex // keeps the database open while it is measured
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
	return e.tracked(newDB(dir, d)), nil
}

// leastRoom is the room for a value that Get makes before it knows its size.
const leastRoom = 512

func (d *db) Get(dst, key []byte) ([]byte, bool, error) {
	n := len(dst)
	if cap(dst)-n < leastRoom/8 {
		dst = slices.Grow(dst, leastRoom)
	}
	room := dst[n:cap(dst)]
	var size C.size_t
	var rest unsafe.Pointer
	var text *C.char
	found := C.accessor_get(handle(unsafe.Pointer(d.db)), handle(unsafe.Pointer(d.get)),
		(*C.char)(unsafe.Pointer(unsafe.SliceData(key))), C.size_t(len(key)),
		(*C.char)(unsafe.Pointer(unsafe.SliceData(room))), C.size_t(len(room)), &size, &rest, &text)
	if err := takeError(text); err != nil {
		return dst, false, wrap("read", d.dir, err)
	}
	if found == 0 {
		return dst, false, nil
	}
	dst = slices.Grow(dst, int(size))[:n+int(size)]
	if rest != nil {
		C.accessor_get_rest(rest, (*C.char)(unsafe.Pointer(unsafe.SliceData(dst[n:]))))
	}
	return dst, true, nil
}

func (d *db) GetMany(keys [][]byte) ([][]byte, error) {
	if len(keys) == 0 {
		return nil, nil
	}
	size := 0
	for _, k := range keys {
		size += 4 + len(k)
	}
	text := make([]byte, 0, size)
	for _, k := range keys {
		text = append(binary.NativeEndian.AppendUint32(text, uint32(len(k))), k...)
	}
	var need C.size_t
	var failed *C.char
	result := C.accessor_multi_get(handle(unsafe.Pointer(d.db)), handle(unsafe.Pointer(d.get)),
		(*C.char)(unsafe.Pointer(&text[0])), C.size_t(len(keys)), &need, &failed)
	if err := takeError(failed); err != nil {
		return nil, wrap("read", d.dir, err)
	}
	buf := make([]byte, int(need))
	C.accessor_multi_take(result, (*C.char)(unsafe.Pointer(&buf[0])))
	values := make([][]byte, len(keys))
	for i := range values {
		n := binary.NativeEndian.Uint32(buf)
		if buf = buf[4:]; n != math.MaxUint32 {
			values[i], buf = buf[:n:n], buf[n:]
		}
	}
	return values, nil
}

func (d *db) Scan(from, to []byte, keep bool) checkpoint.Iterator {
	opts := d.scan
	if keep {
		opts = d.get
	}
	it := d.db.NewIterator(opts)
	it.Seek(from)
	i := d.newIterator(it, to)
	size := C.size_t(len(to))
	i.fill = func(buf *C.char, cap C.size_t, need *C.size_t, text **C.char) C.size_t {
		return C.accessor_iter_fill(handle(unsafe.Pointer(it)), (*C.char)(i.end), size, buf, cap, need, text)
	}
	return i
}

func (d *db) ScanBack(from, to []byte) checkpoint.Iterator {
	it := d.db.NewIterator(d.scan)
	if len(to) == 0 {
		it.SeekToLast()
	} else if it.SeekForPrev(to); it.Valid() {
		key := it.Key()
		if string(key.Data()) == string(to) {
			it.Prev()
		}
		key.Free()
	}
	i := d.newIterator(it, from)
	size := C.size_t(len(from))
	i.fill = func(buf *C.char, cap C.size_t, need *C.size_t, text **C.char) C.size_t {
		return C.accessor_iter_fill_back(handle(unsafe.Pointer(it)), (*C.char)(i.end), size, buf, cap, need, text)
	}
	return i
}

func (d *db) newIterator(it *grocksdb.Iterator, end []byte) *iterator {
	i := &iterator{dir: d.dir, it: it}
	if len(end) > 0 {
		i.end = C.CBytes(end)
	}
	return i
}

func (d *db) Close() error {
	d.closing.Lock()
	defer d.closing.Unlock()
	if d.db == nil {
		return nil
	}
	if d.engine != nil {
		d.engine.open.remove(d)
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
	end unsafe.Pointer // key where it ends, in C memory; nil where there is none
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
	C.free(i.end)
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
	return &workingDB{db: e.tracked(newDB(dir, d)), ingest: newIngestOptions(false)}, nil
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
	err := w.db.Close()
	trim()
	return err
}

// trimmed is when memory was given back last, in Unix nanoseconds.
var trimmed atomic.Int64

// trim gives memory that RocksDB has freed back to the system, at most once a second:
// it takes some milliseconds. The C library by itself keeps what lies below anything
// still in use; with databases that come and go beside imports that was 90 MB.
func trim() {
	now, last := time.Now().UnixNano(), trimmed.Load()
	if now-last > int64(time.Second) && trimmed.CompareAndSwap(last, now) {
		C.accessor_trim()
	}
}

package rocks

// #include <stdlib.h>
// #include "shim.h"
import "C"

import (
	"encoding/binary"
	"unsafe"

	"accessor/checkpoint"
)

// batchSize is how many bytes of entries cross the border to C++ in one call.
const batchSize = 64 << 10

// entryHead is the length of an entry's two lengths in a batch (shim.h).
const entryHead = 8

// appendEntry appends an entry in the form of shim.h.
func appendEntry(buf, key, value []byte) []byte {
	buf = binary.NativeEndian.AppendUint32(buf, uint32(len(key)))
	buf = binary.NativeEndian.AppendUint32(buf, uint32(len(value)))
	return append(append(buf, key...), value...)
}

// takeEntry splits the first entry off a batch.
func takeEntry(buf []byte) (key, value, rest []byte) {
	k := binary.NativeEndian.Uint32(buf)
	v := binary.NativeEndian.Uint32(buf[4:])
	buf = buf[entryHead:]
	return buf[:k:k], buf[k : k+v : k+v], buf[k+v:]
}

// tableWriter gathers entries into batches. From the second batch on, a
// goroutine writes them while the caller gathers the next: a large delta is
// sorted out in Go and written in C++ at the same time.
type tableWriter struct {
	path  string
	w     unsafe.Pointer
	batch entries

	full chan entries // to the goroutine; nil until it runs
	free chan entries // and back
	done chan struct{}
	err  error // the goroutine's, valid after done
}

// entries is a batch in the form of shim.h.
type entries struct {
	buf   []byte
	count int
}

// CreateTable implements checkpoint.Engine.
func (e *Engine) CreateTable(path string) (checkpoint.TableWriter, error) {
	name := C.CString(path)
	defer C.free(unsafe.Pointer(name))
	var text *C.char
	w := C.accessor_writer_open(handle(unsafe.Pointer(e.working)), name, &text)
	if err := takeError(text); err != nil {
		return nil, wrap("create table", path, err)
	}
	return &tableWriter{path: path, w: w}, nil
}

func (t *tableWriter) Put(key, value []byte) error {
	if need := entryHead + len(key) + len(value); t.batch.count > 0 && len(t.batch.buf)+need > batchSize {
		if err := t.pass(); err != nil {
			return err
		}
	}
	t.batch.buf = appendEntry(t.batch.buf, key, value)
	t.batch.count++
	return nil
}

// pass hands the full batch to the goroutine and takes an empty one.
func (t *tableWriter) pass() error {
	if t.full == nil {
		t.full, t.free, t.done = make(chan entries, 2), make(chan entries, 3), make(chan struct{})
		for range cap(t.free) {
			t.free <- entries{buf: make([]byte, 0, batchSize)}
		}
		go t.writeBatches()
	}
	select {
	case t.full <- t.batch:
	case <-t.done:
		return t.err
	}
	select {
	case t.batch = <-t.free:
		return nil
	case <-t.done:
		return t.err
	}
}

func (t *tableWriter) writeBatches() {
	defer close(t.done)
	for b := range t.full {
		if t.err = t.write(b); t.err != nil {
			return
		}
		t.free <- entries{buf: b.buf[:0]}
	}
}

func (t *tableWriter) write(b entries) error {
	if b.count == 0 {
		return nil
	}
	return wrap("write table", t.path, takeError(
		C.accessor_writer_put_all(t.w, (*C.char)(unsafe.Pointer(&b.buf[0])), C.int(b.count))))
}

// drain waits until the goroutine has written all that it was given.
func (t *tableWriter) drain() error {
	if t.full == nil {
		return nil
	}
	close(t.full)
	<-t.done
	t.full = nil
	return t.err
}

func (t *tableWriter) Finish() error {
	err := t.drain()
	if err == nil {
		err = t.write(t.batch)
	}
	if err == nil {
		err = wrap("finish table", t.path, takeError(C.accessor_writer_finish(t.w)))
	}
	t.Abort()
	return err
}

func (t *tableWriter) Abort() {
	if t.w == nil {
		return
	}
	_ = t.drain() // the caller gives up, for a reason of its own
	C.accessor_writer_close(t.w)
	t.w = nil
}

type table struct {
	path string
	t    unsafe.Pointer
}

// OpenTable implements checkpoint.Engine.
func (e *Engine) OpenTable(path string) (checkpoint.Table, error) {
	name := C.CString(path)
	defer C.free(unsafe.Pointer(name))
	var text *C.char
	t := C.accessor_table_open(handle(unsafe.Pointer(e.read)), name, &text)
	if err := takeError(text); err != nil {
		return nil, wrap("open table", path, err)
	}
	return &table{path: path, t: t}, nil
}

func (t *table) Scan(from, to []byte) checkpoint.Iterator {
	i := &tableIterator{path: t.path,
		it: C.accessor_table_iter(t.t, (*C.char)(unsafe.Pointer(unsafe.SliceData(from))), C.size_t(len(from)))}
	if len(to) > 0 {
		i.end = C.CBytes(to)
	}
	size := C.size_t(len(to))
	i.fill = func(buf *C.char, cap C.size_t, need *C.size_t, text **C.char) C.size_t {
		return C.accessor_table_iter_fill(i.it, (*C.char)(i.end), size, buf, cap, need, text)
	}
	return i
}

type tableIterator struct {
	batch
	path string
	it   unsafe.Pointer
	end  unsafe.Pointer // key where it ends, in C memory; nil where there is none
}

func (i *tableIterator) Next() bool    { return i.next() }
func (i *tableIterator) Key() []byte   { return i.key }
func (i *tableIterator) Value() []byte { return i.value }

func (i *tableIterator) Close() error {
	if i.it == nil {
		return nil
	}
	i.free()
	C.accessor_table_iter_close(i.it)
	C.free(i.end)
	i.it = nil
	return wrap("read table", i.path, i.err)
}

func (t *table) Verify() error {
	return wrap("verify table", t.path, takeError(C.accessor_table_verify(t.t)))
}

func (t *table) Close() error {
	if t.t != nil {
		C.accessor_table_close(t.t)
		t.t = nil
	}
	return nil
}

// batch reads entries from C++, a buffer full at a time. The buffer is C
// memory, so that a slow consumer doesn't pin Go memory in a call.
type batch struct {
	fill func(buf *C.char, size C.size_t, need *C.size_t, text **C.char) C.size_t

	buf        unsafe.Pointer
	size       C.size_t
	rest       []byte
	done       bool
	key, value []byte
	err        error
}

// firstBatch keeps a short scan cheap; later fills take batchSize.
const firstBatch = 8 << 10

func (b *batch) next() bool {
	for len(b.rest) == 0 {
		if b.done || b.err != nil {
			return false
		}
		if b.buf == nil {
			b.grow(firstBatch)
		} else if b.size < batchSize {
			b.grow(batchSize)
		}
		var need C.size_t
		var text *C.char
		n := b.fill((*C.char)(b.buf), b.size, &need, &text)
		b.err = takeError(text)
		switch {
		case n > 0:
			b.rest = unsafe.Slice((*byte)(b.buf), int(n))
		case need > 0:
			b.grow(need)
		default:
			b.done = true
		}
	}
	b.key, b.value, b.rest = takeEntry(b.rest)
	return true
}

func (b *batch) grow(size C.size_t) {
	C.free(b.buf)
	b.buf, b.size = C.malloc(size), size
}

func (b *batch) free() {
	C.free(b.buf)
	b.buf, b.rest, b.done = nil, nil, true
}

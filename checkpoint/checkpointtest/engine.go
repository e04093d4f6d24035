// Package checkpointtest holds what tests of the checkpoint store share: an
// engine in plain Go, without cgo, and the suite that every engine must pass.
package checkpointtest

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"iter"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"sync"

	"accessor/checkpoint"
)

// Engine is a checkpoint.Engine in plain Go. A database is a directory of
// tables and a file TABLES that names them, oldest first; opening it reads all
// of it into memory. It promises the same durability as RocksDB does, as far as
// the store relies on it, and polices what the store promises: a table written
// over, or keys out of order, are errors.
type Engine struct{}

var _ checkpoint.Engine = Engine{}

const (
	tableExt = ".tbl"
	listFile = "TABLES"
)

// Name implements checkpoint.Engine.
func (Engine) Name() string { return "memory engine of the tests" }

// SelfTest implements checkpoint.Engine; there is nothing to doubt.
func (Engine) SelfTest(string) error { return nil }

// IsTable implements checkpoint.Engine.
func (Engine) IsTable(name string) bool { return filepath.Ext(name) == tableExt }

// NeedsFile implements checkpoint.Engine.
func (e Engine) NeedsFile(name string) bool { return name == listFile || e.IsTable(name) }

// LockFile implements checkpoint.Engine.
func (Engine) LockFile() string { return "LOCK" }

type tableWriter struct {
	path string
	last []byte
	buf  []byte
	n    int
}

// CreateTable implements checkpoint.Engine.
func (Engine) CreateTable(path string) (checkpoint.TableWriter, error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	return &tableWriter{path: path}, file.Close()
}

func (w *tableWriter) Put(key, value []byte) error {
	if w.n++; w.n > 1 && bytes.Compare(key, w.last) <= 0 {
		return fmt.Errorf("write table %s: key %x after %x", w.path, key, w.last)
	}
	w.last = append(w.last[:0], key...)
	w.buf = binary.LittleEndian.AppendUint32(w.buf, uint32(len(key)))
	w.buf = binary.LittleEndian.AppendUint32(w.buf, uint32(len(value)))
	w.buf = append(append(w.buf, key...), value...)
	return nil
}

func (w *tableWriter) Finish() error {
	return os.WriteFile(w.path, binary.LittleEndian.AppendUint32(w.buf, crc32.ChecksumIEEE(w.buf)), 0o644)
}

func (w *tableWriter) Abort() {}

type table struct {
	keys, values [][]byte
}

func readTable(path string) (*table, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	if len(b) < 4 || crc32.ChecksumIEEE(b[:len(b)-4]) != binary.LittleEndian.Uint32(b[len(b)-4:]) {
		return nil, fmt.Errorf("read table %s: %w", path, checkpoint.ErrDamaged)
	}
	t := &table{}
	for b = b[:len(b)-4]; len(b) > 0; {
		k, v := binary.LittleEndian.Uint32(b), binary.LittleEndian.Uint32(b[4:])
		t.keys = append(t.keys, b[8:8+k])
		t.values = append(t.values, b[8+k:8+k+v])
		b = b[8+k+v:]
	}
	return t, nil
}

// OpenTable implements checkpoint.Engine.
func (Engine) OpenTable(path string) (checkpoint.Table, error) { return readTable(path) }

func (t *table) Scan(from, to []byte) checkpoint.Iterator {
	it := &iterator{at: -1}
	for i, k := range t.keys {
		if bytes.Compare(k, from) >= 0 && (len(to) == 0 || bytes.Compare(k, to) < 0) {
			it.keys, it.values = append(it.keys, k), append(it.values, t.values[i])
		}
	}
	return it
}
func (t *table) Verify() error { return nil }
func (t *table) Close() error  { return nil }

// db has the newest value of each key, in key order.
type db struct {
	mu     sync.RWMutex
	dir    string
	tables []string
	keys   []string
	values map[string][]byte
}

func openDB(dir string) (*db, error) {
	list, err := os.ReadFile(filepath.Join(dir, listFile))
	if err != nil {
		return nil, err
	}
	d := &db{dir: dir, values: make(map[string][]byte)}
	return d, d.add(strings.Fields(string(list)))
}

func (d *db) add(tables []string) error {
	for _, name := range tables {
		t, err := readTable(filepath.Join(d.dir, name))
		if err != nil {
			return err
		}
		for i, k := range t.keys {
			v := t.values[i]
			d.values[string(k)] = v
		}
		d.tables = append(d.tables, name)
	}
	d.keys = slices.Sorted(maps.Keys(d.values))
	return nil
}

// OpenReadOnly implements checkpoint.Engine.
func (Engine) OpenReadOnly(dir string) (checkpoint.DB, error) { return openDB(dir) }

// OpenWorking implements checkpoint.Engine.
func (Engine) OpenWorking(dir string) (checkpoint.WorkingDB, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	d, err := openDB(dir)
	if errors.Is(err, fs.ErrNotExist) {
		d = &db{dir: dir, values: make(map[string][]byte)}
		return d, d.writeList(dir)
	}
	return d, err
}

func (d *db) writeList(dir string) error {
	return os.WriteFile(filepath.Join(dir, listFile), []byte(strings.Join(d.tables, "\n")), 0o644)
}

func (d *db) Get(dst, key []byte) ([]byte, bool, error) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	v, ok := d.values[string(key)]
	return append(dst, v...), ok, nil
}

func (d *db) GetMany(keys [][]byte) ([][]byte, error) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	values := make([][]byte, len(keys))
	for i, k := range keys {
		if v, ok := d.values[string(k)]; ok {
			values[i] = append([]byte{}, v...)
		}
	}
	return values, nil
}

func (d *db) Scan(from, to []byte, _ bool) checkpoint.Iterator {
	d.mu.RLock()
	defer d.mu.RUnlock()
	it := &iterator{at: -1}
	for _, k := range d.keys[sort.SearchStrings(d.keys, string(from)):] {
		if len(to) > 0 && k >= string(to) {
			break
		}
		it.keys, it.values = append(it.keys, []byte(k)), append(it.values, d.values[k])
	}
	return it
}

func (d *db) ScanBack(from, to []byte) checkpoint.Iterator {
	it := d.Scan(from, to, false).(*iterator)
	slices.Reverse(it.keys)
	slices.Reverse(it.values)
	return it
}

func (d *db) Close() error { return nil }

func (d *db) Ingest(paths []string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, path := range paths { // all or none
		if _, err := readTable(path); err != nil {
			return err
		}
	}
	var names []string
	for i, path := range paths {
		name := fmt.Sprintf("%06d%s", len(d.tables)+i, tableExt)
		if err := os.Rename(path, filepath.Join(d.dir, name)); err != nil {
			return err
		}
		names = append(names, name)
	}
	if err := d.add(names); err != nil {
		return err
	}
	return d.writeList(d.dir)
}

func (d *db) Checkpoint(dir string) error {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	for _, name := range d.tables {
		if err := os.Link(filepath.Join(d.dir, name), filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	return d.writeList(dir)
}

type iterator struct {
	keys, values [][]byte
	at           int
}

func (i *iterator) Next() bool    { i.at++; return i.at < len(i.keys) }
func (i *iterator) Key() []byte   { return i.keys[i.at] }
func (i *iterator) Value() []byte { return i.values[i.at] }
func (i *iterator) Close() error  { return nil }

// journal is a map, with each write appended to a file.
type journal struct {
	mu     sync.Mutex
	file   *os.File
	values map[string][]byte
}

// OpenJournal implements checkpoint.Engine.
func (Engine) OpenJournal(dir string) (checkpoint.Journal, error) {
	path := filepath.Join(dir, "journal")
	data, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	j := &journal{values: make(map[string][]byte)}
	whole := 0
	for b := data; len(b) >= 8; {
		n := int(binary.LittleEndian.Uint32(b))
		if n > len(b)-8 || crc32.ChecksumIEEE(b[8:8+n]) != binary.LittleEndian.Uint32(b[4:]) {
			break // cut short by a crash
		}
		j.apply(b[8 : 8+n])
		b = b[8+n:]
		whole = len(data) - len(b)
	}
	if j.file, err = os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o644); err != nil {
		return nil, err
	}
	if err := j.file.Truncate(int64(whole)); err != nil {
		return nil, err
	}
	_, err = j.file.Seek(int64(whole), 0)
	return j, err
}

func (j *journal) apply(b []byte) {
	for len(b) > 0 {
		k, v := binary.LittleEndian.Uint32(b), binary.LittleEndian.Uint32(b[4:])
		key := string(b[8 : 8+k])
		b = b[8+k:]
		if v == 0 {
			delete(j.values, key)
			continue
		}
		j.values[key] = slices.Clone(b[:v-1])
		b = b[v-1:]
	}
}

func (j *journal) Get(dst, key []byte) ([]byte, bool, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	value, found := j.values[string(key)]
	return append(dst, value...), found, nil
}

func (j *journal) Scan(prefix []byte) iter.Seq2[[]byte, []byte] {
	return func(yield func([]byte, []byte) bool) {
		j.mu.Lock()
		values := maps.Clone(j.values)
		j.mu.Unlock()
		for _, k := range slices.Sorted(maps.Keys(values)) {
			if strings.HasPrefix(k, string(prefix)) && !yield([]byte(k), slices.Clone(values[k])) {
				return
			}
		}
	}
}

func (j *journal) Err() error { return nil }

func (j *journal) Write(changes []checkpoint.Change, sync bool) error {
	var b []byte
	for _, c := range changes {
		b = binary.LittleEndian.AppendUint32(b, uint32(len(c.Key)))
		size := uint32(0) // 0: a delete, else the value's length and one
		if c.Value != nil {
			size = uint32(len(c.Value)) + 1
		}
		b = binary.LittleEndian.AppendUint32(b, size)
		b = append(append(b, c.Key...), c.Value...)
	}
	head := binary.LittleEndian.AppendUint32(nil, uint32(len(b)))
	head = binary.LittleEndian.AppendUint32(head, crc32.ChecksumIEEE(b))
	j.mu.Lock()
	defer j.mu.Unlock()
	if _, err := j.file.Write(append(head, b...)); err != nil {
		return err
	}
	j.apply(b)
	if sync {
		return j.file.Sync()
	}
	return nil
}

func (j *journal) Close() error { return j.file.Close() }

// Package rocks is the RocksDB engine of the checkpoint store, and the only
// package that uses cgo. It knows table files and databases; what stands in
// them is package checkpoint's.
//
// Rules that it keeps, because the RocksDB of Debian 12 (7.8.3) needs them:
// nothing is ever written through a working database's memtable, so there is
// nothing to flush when a checkpoint is made; working databases don't compact
// by themselves, because a compaction rewrites files that older checkpoints
// still hold; a table that is ingested is never written to (Engine.SelfTest).
package rocks

// #cgo CXXFLAGS: -std=c++17 -O2 -fno-rtti
// #cgo !grocksdb_no_link LDFLAGS: -lrocksdb -lstdc++
// #include <stdlib.h>
// #include "rocksdb/c.h"
// #include "shim.h"
import "C"

import (
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"strings"
	"sync"
	"unsafe"

	"github.com/linxGnu/grocksdb"

	"accessor/checkpoint"
)

// Options of an Engine. The zero value works.
type Options struct {
	// BlockCache is the size in bytes of the cache of table blocks, indexes and
	// filters, one for all open databases. Default 64 MiB.
	BlockCache int64
}

// Engine opens RocksDB databases with one set of options and one block cache.
type Engine struct {
	cache *grocksdb.Cache
	open  openDBs

	measuring sync.Mutex // keeps the cache while it is measured
	closed    bool       // guarded by measuring

	read    *grocksdb.Options // sealed databases, tables
	working *grocksdb.Options // working databases, new tables: without syncs
	journal *grocksdb.Options
}

var _ checkpoint.Engine = (*Engine)(nil)

// New gives an engine. Close frees its memory once all that was opened is
// closed.
func New(opts Options) *Engine {
	C.accessor_few_heaps()
	if opts.BlockCache <= 0 {
		opts.BlockCache = 64 << 20
	}
	// Few shards, each of which must hold the filters and indexes (1.3 MB) of some
	// of an image's tables: with the default of 64 they drive each other out.
	cache := grocksdb.NewLRUCacheOptions()
	defer cache.Destroy()
	cache.SetCapacity(uint(opts.BlockCache))
	cache.SetNumShardBits(2)
	e := &Engine{cache: grocksdb.NewLRUCacheWithOptions(cache)}
	e.read = e.newOptions()
	e.working = e.newOptions()
	e.working.SetCreateIfMissing(true)
	C.accessor_options_no_sync(handle(unsafe.Pointer(e.working)))
	e.journal = e.newOptions()
	e.journal.SetCreateIfMissing(true)
	e.journal.SetDisableAutoCompactions(false)
	e.journal.SetWriteBufferSize(8 << 20)
	return e
}

// newOptions are the options that all databases share.
func (e *Engine) newOptions() *grocksdb.Options {
	table := grocksdb.NewDefaultBlockBasedTableOptions()
	table.SetBlockCache(e.cache)
	// Filters and indexes live in the shared cache: tables are shared by many
	// open checkpoints, each of which would otherwise keep its own copy.
	table.SetCacheIndexAndFilterBlocks(true)
	table.SetFilterPolicy(grocksdb.NewBloomFilterFull(10))
	table.SetFormatVersion(5)
	// Debian's library computes the default CRC32C without hardware.
	table.SetChecksum(0x4) // kXXH3

	o := grocksdb.NewDefaultOptions()
	o.SetBlockBasedTableFactory(table)
	o.SetCompression(grocksdb.NoCompression) // docs/DECISIONS.md
	o.SetDisableAutoCompactions(true)
	// Level 0 holds every delta since the last image, on purpose: never slow
	// down or stop for it.
	o.SetLevel0FileNumCompactionTrigger(math.MaxInt32)
	o.SetLevel0SlowdownWritesTrigger(math.MaxInt32)
	o.SetLevel0StopWritesTrigger(math.MaxInt32)
	// Every checkpoint carries a copy of the manifest, so it is kept short, and
	// the file system isn't asked to reserve the default 4 MiB for it.
	o.SetMaxManifestFileSize(64 << 10)
	o.SetManifestPreallocationSize(64 << 10)
	o.SetSkipStatsUpdateOnDBOpen(true)
	o.SetSkipCheckingSSTFileSizesOnDBOpen(true) // sealing records the sizes
	o.SetMaxFileOpeningThreads(1)
	o.SetMaxBackgroundJobs(2)
	o.SetStatsDumpPeriodSec(0)
	o.SetStatsPersistPeriodSec(0)
	o.SetBytesPerSync(1 << 20) // spreads the write-out of large tables
	C.accessor_options_no_log(handle(unsafe.Pointer(o)))
	return o
}

// handle gives the C pointer that a grocksdb value wraps: the first field of
// each of its structs. The module's version is pinned, and SelfTest fails where
// this doesn't hold.
func handle(v unsafe.Pointer) unsafe.Pointer { return *(*unsafe.Pointer)(v) }

// Close frees the engine's options and cache.
func (e *Engine) Close() {
	e.measuring.Lock()
	defer e.measuring.Unlock()
	if e.closed {
		return
	}
	e.closed = true
	e.read.Destroy()
	e.working.Destroy()
	e.journal.Destroy()
	e.cache.Destroy()
}

// Name implements checkpoint.Engine.
func (e *Engine) Name() string {
	return "RocksDB " + C.GoString(C.accessor_rocksdb_version()) + " (" + buildKind + ")"
}

// IsTable implements checkpoint.Engine.
func (e *Engine) IsTable(name string) bool { return filepath.Ext(name) == ".sst" }

// NeedsFile implements checkpoint.Engine. A checkpoint comes with an OPTIONS
// file, which no reader of ours asks for, and perhaps with an empty log.
func (e *Engine) NeedsFile(name string) bool {
	return name == "CURRENT" || strings.HasPrefix(name, "MANIFEST-") || e.IsTable(name)
}

// LockFile implements checkpoint.Engine.
func (e *Engine) LockFile() string { return "LOCK" }

// wrap names the act and the path, and tells the errors apart that the store
// acts on. RocksDB gives text alone.
func wrap(act, path string, err error) error {
	if err == nil {
		return nil
	}
	text := err.Error()
	switch {
	case strings.Contains(text, "No space left on device"):
		return fmt.Errorf("%s %s: %w: %w", act, path, checkpoint.ErrNoSpace, err)
	case strings.Contains(text, "Corruption"), strings.Contains(text, "file is too short"):
		return fmt.Errorf("%s %s: %w: %w", act, path, checkpoint.ErrDamaged, err)
	case strings.Contains(text, "lock "), strings.Contains(text, "While lock file"):
		return fmt.Errorf("%s %s: %w: %w", act, path, checkpoint.ErrLocked, err)
	}
	return fmt.Errorf("%s %s: %w", act, path, err)
}

// takeError turns a C error text into an error and frees it.
func takeError(text *C.char) error {
	if text == nil {
		return nil
	}
	defer C.free(unsafe.Pointer(text))
	return errors.New(C.GoString(text))
}

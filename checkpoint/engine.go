package checkpoint

import "iter"

// Engine is the storage engine under the store: immutable sorted table files,
// and databases that take them in by hard link. RocksDB is the engine of
// production (checkpoint/rocks); checkpointtest has one in plain Go for tests,
// and the suite that both must pass.
//
// All paths are on one file system. A method may be called from several
// goroutines; the values that it returns say what they allow.
type Engine interface {
	// Name is the engine's name and version, for logs.
	Name() string
	// SelfTest tries, in a folder of its own below dir that it removes again,
	// what the store relies on: above all that a table taken in by several
	// databases stays the same to the byte.
	SelfTest(dir string) error

	// CreateTable starts a table file at path, which must not exist.
	CreateTable(path string) (TableWriter, error)
	// OpenTable opens a finished table file for reading.
	OpenTable(path string) (Table, error)

	// OpenReadOnly opens a sealed database directory. It takes no lock and
	// changes nothing in the directory.
	OpenReadOnly(dir string) (DB, error)
	// OpenWorking opens a database directory for ingestion, and makes it where
	// it is missing. One process has it at a time. Nothing of it need be durable:
	// it is disposable, and what is made from it is derived.
	OpenWorking(dir string) (WorkingDB, error)
	// OpenJournal opens the small database of block records.
	OpenJournal(dir string) (Journal, error)

	// IsTable says whether a file of that name in a database directory is an
	// immutable table, to be shared by hard link when the directory is cloned.
	// Other files are copied.
	IsTable(name string) bool
	// NeedsFile says whether a sealed database needs the file of that name to
	// be opened; what it doesn't need is removed at sealing.
	NeedsFile(name string) bool
	// LockFile is the name of the file that a process which has a database
	// open for writing keeps locked by fcntl.
	LockFile() string
}

// TableWriter writes one table file. It is used by one goroutine.
type TableWriter interface {
	// Put appends an entry; keys come in strictly ascending byte order.
	Put(key, value []byte) error
	// Finish completes the file. The store makes it durable where that is needed.
	Finish() error
	// Abort gives up; what was written may stay on disk.
	Abort()
}

// Table is a finished table file. Reading is safe from several goroutines.
type Table interface {
	// Scan gives an iterator over the keys in [from, to); an empty to means no upper
	// end. It must be closed before the table is.
	Scan(from, to []byte) Iterator
	// Verify reads the whole file and checks the engine's own checksums.
	Verify() error
	Close() error
}

// DB is a database at the state of one block. Reading is safe from several
// goroutines.
type DB interface {
	// Get appends the stored value of key to dst. Without such a key, found is
	// false and dst unchanged.
	Get(dst, key []byte) (value []byte, found bool, err error)
	// GetMany gives the stored values of keys in strictly ascending order; nil for
	// one that isn't there. They may share memory, which is the caller's.
	GetMany(keys [][]byte) (values [][]byte, err error)
	// Scan gives an iterator over the stored keys in [from, to); an empty to
	// means no upper end. With keep, what it reads stays in the engine's cache: for
	// short ranges that are asked for again. It must be closed before the
	// database is.
	Scan(from, to []byte, keep bool) Iterator
	// ScanBack gives an iterator over the same keys, in descending order.
	ScanBack(from, to []byte) Iterator
	Close() error
}

// Iterator walks entries in key order, used by one goroutine:
//
//	for it.Next() { use(it.Key(), it.Value()) }
//	if err := it.Close(); err != nil { ... }
type Iterator interface {
	// Next goes to the next entry, at first to the first one.
	Next() bool
	// Key and Value are valid until Next or Close is called.
	Key() []byte
	Value() []byte
	// Close ends the walk and gives the error that ended it early, if any.
	Close() error
}

// WorkingDB is a database open for ingestion. Ingest and Checkpoint are called
// by one goroutine at a time.
type WorkingDB interface {
	DB
	// Ingest takes in table files by hard link, the last one newest. The names
	// are consumed, the files' bytes never change. All or none become visible.
	Ingest(paths []string) error
	// Checkpoint makes a copy of the database in a new directory, tables by
	// hard link.
	Checkpoint(dir string) error
}

// Journal is a small ordered database of records. It is safe for concurrent
// use.
type Journal interface {
	// Get appends the value of key to dst. Without such a key, found is false and dst
	// unchanged.
	Get(dst, key []byte) (value []byte, found bool, err error)
	// Scan yields all entries whose key starts with prefix, in key order; the
	// slices are the caller's.
	Scan(prefix []byte) iter.Seq2[[]byte, []byte]
	// Err is the error that ended a Scan early, or nil.
	Err() error
	// Write applies all changes or none. With sync it is durable on return;
	// without, a power cut may undo it, an end of the process doesn't.
	Write(changes []Change, sync bool) error
	Close() error
}

// Change is one put of a Journal, or, with a nil Value, one delete.
type Change struct {
	Key, Value []byte
}

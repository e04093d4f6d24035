// Package checkpoint keeps the state after every block of a fork tree on disk.
//
// A block's write set is written once, as a delta: an immutable sorted table
// file, made durable. Nearly all else is derived from deltas and can be rebuilt:
// a checkpoint is a sealed directory with the whole state after one block, its
// tables shared with others by hard link; a working database stands at one block
// and moves on by ingesting deltas; a run is several deltas merged into one; an
// image is a checkpoint with everything merged.
//
//	image ── run ── run ── delta ── delta       the tables of a checkpoint
//	 0        16     32     33       34         and the height each goes up to
//
// The package owns the directory's layout, its records and its recovery, and
// knows nothing of roots, locks between imports, networks or HTTP. What must
// always hold:
//
//   - a block is held once its delta and then its record are durable;
//   - a file or folder with its final name is whole;
//   - a sealed checkpoint is never opened for writing, and a table never changes;
//   - nothing that can't be derived is removed.
package checkpoint

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"

	"go.uber.org/zap"

	"accessor/forks"
)

// Options of a store. The zero value works.
type Options struct {
	Limits Limits

	// WorkingDBs is how many working databases stay open between imports, one
	// for each branch that grows. Default 8.
	WorkingDBs int
	// OpenViews is how many checkpoints stay open for reading after their last
	// reader has gone. Default 8; each has one open file per table.
	OpenViews int

	// RunLength is how many deltas are merged into a run. Default 16.
	RunLength int
	// ImageEvery is after how many blocks of a branch the next image is due; it
	// is rounded up to a multiple of RunLength. Default 192.
	ImageEvery int
	// ImageBytes is after how many bytes of deltas an image is due, if that is
	// also four times the last image's size. Default 512 MiB.
	ImageBytes int64
	// ImageRate is how fast an image is written, in bytes per second, so that
	// imports don't wait for the disk. Default 32 MiB.
	ImageRate int64
	// MaxTables is the most tables that a checkpoint holds beside its image's,
	// except right after a walk-back. Default 32, at least RunLength + 2.
	MaxTables int

	// Events is how many events are kept. Default 65,536.
	Events int
	// RecentEvents is how many of them are kept in memory too, at least. Default 2,048.
	RecentEvents int

	// CheckRoot, where given, recomputes the root of a whole state that passes
	// by while an image is made. An image with another root is not taken.
	CheckRoot RootFunc

	// Log gets what operators should know. Default: nothing.
	Log *zap.Logger
	// FileHook, for tests, is asked before and after each of the store's own
	// file calls and may make it fail.
	FileHook func(FileCall) error
}

func (o Options) withDefaults() Options {
	o.Limits = o.Limits.WithDefaults()
	setDefault(&o.WorkingDBs, 8)
	setDefault(&o.OpenViews, 8)
	setDefault(&o.RunLength, 16)
	setDefault(&o.ImageEvery, 192)
	setDefault(&o.ImageBytes, 512<<20)
	setDefault(&o.ImageRate, 32<<20)
	setDefault(&o.MaxTables, 32)
	setDefault(&o.Events, 1<<16)
	setDefault(&o.RecentEvents, 2048)
	o.MaxTables = max(o.MaxTables, o.RunLength+2)
	o.ImageEvery = (o.ImageEvery + o.RunLength - 1) / o.RunLength * o.RunLength
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	return o
}

func setDefault[T int | int64](v *T, def T) {
	if *v <= 0 {
		*v = def
	}
}

// Stats counts what a store has done since it was opened.
type Stats struct {
	Clones   atomic.Int64 // checkpoints cloned into working databases
	Adopted  atomic.Int64 // working databases taken over from the background
	Ingested atomic.Int64 // tables ingested
	Sealed   atomic.Int64 // checkpoints sealed
	Runs     atomic.Int64 // runs made
	Images   atomic.Int64 // images made
	Archived atomic.Int64 // blocks archived
	Settles  atomic.Int64 // imports that had to wait for runs
}

// Store is an open store. It is safe for concurrent use.
//
// Lock order: building, maintain.mu, images, then mu, which is kept over no engine
// call. building covers the making of one image and a Prune, switchOver and all;
// maintain.mu the making of one branch's runs.
type Store struct {
	dir    string
	engine Engine
	opts   Options
	log    *zap.Logger
	files  files
	format format
	lock   *os.File
	blocks Journal
	stats  Stats
	events events
	fill   atomic.Pointer[Fill] // nil in a complete store

	mu       sync.Mutex // guards the fields below
	entries  map[forks.Hash]*entry
	anchor   *entry
	number   uint64 // of the newest import
	meta     map[string][]byte
	idle     []*Working // between imports, least recently used first
	prepared []*Working // made in the background, oldest first
	views    map[forks.Hash]*handle
	closed   bool
	// indexGaps: old groups may be without their indexes, at first and after one was
	// forgotten.
	indexGaps bool

	building sync.Mutex                // one image is made at a time, or the anchor moved; taken before maintain.mu
	pruned   map[forks.Hash]forks.Slot // the newest blocks that were pruned. Guarded by mu
	maintain maintenance
	images   sync.Mutex    // one at a time gives images up, or makes the anchor's again
	opening  string        // a word that no other opening of the store has, for names
	unique   atomic.Uint64 // for names in work/ and tmp/
	reaper   sync.WaitGroup

	// journal lets records be written together, and none after Close.
	journal    sync.RWMutex
	journalUp  bool
	unwritable atomic.Pointer[error]
	// undecided are blocks of which nobody knows whether their records reached
	// the disk. Guarded by mu.
	undecided map[forks.Hash]bool
	missing   int // deltas that were not there at the start
}

// entry is a block of the store.
type entry struct {
	rec    Record
	above  atomic.Pointer[entry] // the parent; nil at the anchor, which pruning moves
	height int                   // number of ancestors up to the store's first anchor

	// Guarded by Store.mu.
	seal  *seal  // nil: no checkpoint
	thin  bool   // the checkpoint was removed on purpose
	image *image // nil: none at this block
	runs  []*run // that end at this block, shortest first

	archived bool   // thin, and single keys are read without a checkpoint
	index    *index // of the group that the block is in, where that is archived
}

func (e *entry) parent() *entry { return e.above.Load() }

// up gives the ancestor n generations above.
func (e *entry) up(n int) *entry {
	for ; n > 0 && e != nil; n-- {
		e = e.parent()
	}
	return e
}

// Folders of a store.
const (
	dirBlocks      = "blocks"
	dirDeltas      = "deltas"
	dirRuns        = "runs"
	dirIndexes     = "indexes"
	dirImages      = "images"
	dirCheckpoints = "checkpoints"
	dirFill        = "fill"
	dirPins        = "pins"
	dirWork        = "work"
	dirTmp         = "tmp"
	dirTrash       = "trash"
	dirLost        = "lost"
)

var allDirs = []string{dirBlocks, dirDeltas, dirRuns, dirIndexes, dirImages, dirCheckpoints, dirFill, dirPins, dirWork, dirTmp, dirTrash, dirLost}

func (s *Store) path(elem ...string) string {
	return filepath.Join(append([]string{s.dir}, elem...)...)
}

func (s *Store) deltaPath(b forks.Block) string      { return s.path(dirDeltas, Name(b)+".sst") }
func (s *Store) checkpointPath(b forks.Block) string { return s.path(dirCheckpoints, Name(b)) }
func (s *Store) imagePath(b forks.Block) string      { return s.path(dirImages, Name(b)) }

// tmpPath gives a new name in tmp/, work/ or trash/. A view that outlives Close
// still has its working database there while the next owner makes its own.
func (s *Store) tmpPath(dir, what string) string {
	return s.path(dir, fmt.Sprintf("%s-%s-%d", what, s.opening, s.unique.Add(1)))
}

// Dir is the store's directory.
func (s *Store) Dir() string { return s.dir }

// Commitment is the name of the store's state commitment, as given at Create.
func (s *Store) Commitment() string { return s.format.Commitment }

// Limits are the bounds of keys, values and write sets.
func (s *Store) Limits() Limits { return s.opts.Limits }

// Engine is the storage engine's name.
func (s *Store) Engine() string { return s.engine.Name() }

// Stats counts what the store has done since it was opened.
func (s *Store) Stats() *Stats { return &s.stats }

// entry finds a block. Errors: ErrUnknown, ErrClosed.
func (s *Store) entry(h forks.Hash) (*entry, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, ErrClosed
	}
	e, ok := s.entries[h]
	if !ok {
		return nil, fmt.Errorf("%w: %s", ErrUnknown, h)
	}
	return e, nil
}

// Records gives all blocks held, parents before children.
func (s *Store) Records() []Record {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]Record, 0, len(s.entries))
	for _, e := range s.sortedLocked() {
		out = append(out, e.rec)
	}
	return out
}

// Get gives a block's record. Error: ErrUnknown.
func (s *Store) Get(h forks.Hash) (Record, error) {
	e, err := s.entry(h)
	if err != nil {
		return Record{}, err
	}
	return e.rec, nil
}

// Ancestors gives a held block, its parent, and so on to the anchor; none for a block
// that isn't held.
func (s *Store) Ancestors(h forks.Hash) (list []forks.Block) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for e := s.entries[h]; e != nil; e = e.parent() {
		list = append(list, e.rec.Block)
	}
	return list
}

// HasCheckpoint says whether a checkpoint of the block is sealed, as far as is
// recorded.
func (s *Store) HasCheckpoint(h forks.Hash) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, ok := s.entries[h]
	return ok && e.seal != nil
}

// Unsealed gives the blocks that have no checkpoint though nobody removed it,
// parents before children: the last ones before a crash, or all after a recovery. In a
// partial store no block should have one.
func (s *Store) Unsealed() []forks.Block {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []forks.Block
	for _, e := range s.sortedLocked() {
		if e.seal == nil && !e.thin && !s.anchor.rec.Partial {
			out = append(out, e.rec.Block)
		}
	}
	return out
}

// Tables is the number of tables in the block's checkpoint beside its image's;
// 0 where there is no checkpoint.
func (s *Store) Tables(h forks.Hash) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e, ok := s.entries[h]; ok && e.seal != nil {
		return e.seal.tables
	}
	return 0
}

// Open is the number of checkpoints that are open for reading, and of working
// databases that wait for an import.
func (s *Store) Open() (views, working int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.views), len(s.idle) + len(s.prepared)
}

// MissingDeltas is the number of blocks whose write sets were not there when the
// store was opened.
func (s *Store) MissingDeltas() int { return s.missing }

// sortedLocked gives all blocks, parents before children.
func (s *Store) sortedLocked() []*entry {
	all := slices.Collect(maps.Values(s.entries))
	slices.SortFunc(all, func(a, b *entry) int {
		return cmp.Or(cmp.Compare(a.height, b.height), bytes.Compare(a.rec.Hash[:], b.rec.Hash[:]))
	})
	return all
}

// Close ends background work, closes all that is open, and lets another process
// own the store. Views that are still open keep working until they are closed.
func (s *Store) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	working := append(s.idle, s.prepared...)
	s.idle, s.prepared = nil, nil
	s.mu.Unlock()

	s.endEvents()
	s.maintain.stop()
	if f := s.fill.Load(); f != nil {
		f.close()
	}
	for _, w := range working {
		w.Drop()
	}
	s.closeIdleViews()
	s.reaper.Wait()
	return s.closeFiles()
}

// closeFiles closes the records and gives up the store's lock.
func (s *Store) closeFiles() error {
	s.journal.Lock()
	defer s.journal.Unlock()
	var err error
	if s.journalUp {
		s.journalUp = false
		err = s.blocks.Close()
	}
	s.lock.Close()
	return err
}

// inBackground runs f beside the caller; Close waits for it.
func (s *Store) inBackground(f func()) { s.reaper.Go(f) }

// trashAll trashes as many paths as it can.
func (s *Store) trashAll(paths []string) (err error) {
	for _, path := range paths {
		if failed := s.trash(path); !errors.Is(failed, fs.ErrNotExist) { // by another
			err = errors.Join(err, failed)
		}
	}
	return err
}

// trash makes path disappear at once under its name, and from disk in the
// background. It does nothing where nothing has that name.
func (s *Store) trash(path string) error { return s.trashAs(path, 0o755) }

// trashAs is trash with the mode that a directory has on its way.
func (s *Store) trashAs(path string, mode fs.FileMode) error {
	to := s.tmpPath(dirTrash, filepath.Base(path))
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil && info.IsDir() {
		// Moving a directory to another folder needs write access to itself.
		if err := s.files.chmod(path, mode); err != nil {
			return err
		}
	}
	if err := s.files.move(path, to, derived); err != nil {
		return err
	}
	s.inBackground(func() {
		if err := s.files.removeAll(to); err != nil {
			s.log.Warn("remove from trash", zap.String("path", to), zap.Error(err))
		}
	})
	return nil
}

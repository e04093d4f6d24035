package checkpoint

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"accessor/forks"
)

// format is the content of the file FORMAT.
type format struct {
	Format     string `json:"format"`     // formatName
	Engine     string `json:"engine"`     // first word of the engine's name
	Commitment string `json:"commitment"` // of the state root: jam, none
}

const formatName = "accessor-store/1"

// formatLine tells an operator how to write a lost FORMAT.
const formatLine = `{"format":"accessor-store/1","engine":"RocksDB","commitment":"jam"} (or "none", as the store was made)`

const (
	fileFormat = "FORMAT"
	fileLock   = "LOCK"
)

func engineWord(e Engine) string {
	word, _, _ := strings.Cut(e.Name(), " ")
	return word
}

// Create makes a store that grows from an anchor, in a directory that is missing
// or empty or in which an earlier Create was cut short. rec's hash, slot, root
// and header are the anchor's; pairs are its whole state in strictly ascending
// key order, with a possible error as the last element; trie gives, when pairs
// have ended, the commitment's records of that state, in order too; nil
// gives none. Errors: ErrExists,
// ErrInUse, ErrUnsuitable, ErrEngine, ErrLimit, ErrNoSpace.
func Create(dir string, engine Engine, commitment string, rec Record, pairs iter.Seq2[Pair, error], trie iter.Seq[Pair], opts Options) (*Store, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("create store: %w", err)
	}
	if err := foreign(dir); err != nil { // before anything is written into it
		return nil, fmt.Errorf("create store in %s: %w", dir, err)
	}
	s, err := lockDir(dir, engine, opts)
	if err != nil {
		return nil, err
	}
	if err := s.create(commitment, rec, pairs, trie); err != nil {
		s.Close()
		return nil, fmt.Errorf("create store in %s: %w", dir, err)
	}
	s.maintain.start(s)
	return s, nil
}

func (s *Store) create(commitment string, rec Record, pairs iter.Seq2[Pair, error], trie iter.Seq[Pair]) error {
	if err := s.checkVacant(); err != nil {
		return err
	}
	for _, d := range allDirs {
		if err := s.files.mkdir(s.path(d)); err != nil {
			return err
		}
	}
	if err := s.probe(); err != nil {
		return err
	}
	s.format = format{Format: formatName, Engine: engineWord(s.engine), Commitment: commitment}
	text, err := json.Marshal(s.format)
	if err != nil {
		return err
	}
	if err := s.files.writeFile(s.path(fileFormat), append(text, '\n')); err != nil {
		return err
	}
	if err := s.openJournal(); err != nil {
		return err
	}
	return s.createAnchor(rec, pairs, trie)
}

func (s *Store) createAnchor(rec Record, pairs iter.Seq2[Pair, error], trie iter.Seq[Pair]) error {
	rec.Anchor = true
	var failed error
	err := s.writeDelta(&rec, func(yield func([]byte, []byte) bool) {
		var key, value []byte
		for p, err := range pairs {
			if err == nil {
				err = s.opts.Limits.CheckPair(p.Key, p.Value)
			}
			if err != nil {
				failed = err
				return
			}
			key = appendStateKey(key[:0], p.Key)
			value = append(append(value[:0], tagValue), p.Value...)
			if !yield(key, value) {
				return
			}
		}
		if trie == nil {
			return
		}
		for p := range trie {
			key = appendTrieKey(key[:0], p.Key)
			value = append(append(value[:0], tagValue), p.Value...)
			if !yield(key, value) {
				return
			}
		}
	})
	if failed != nil {
		s.discard(s.deltaPath(rec.Block))
		return failed
	}
	if err != nil {
		return err
	}
	if err := s.Record(&rec); err != nil {
		return err
	}
	return s.anchorImage()
}

// anchorImage makes the image and the checkpoint of the anchor from its delta.
func (s *Store) anchorImage() error {
	e := s.anchor
	dir := s.tmpPath(dirTmp, "anchor")
	db, err := s.engine.OpenWorking(dir)
	if err != nil {
		return err
	}
	defer s.discard(dir)
	defer db.Close()
	link := s.tmpPath(dirTmp, "in") + ".sst"
	if err := s.files.link(s.deltaPath(e.rec.Block), link); err != nil {
		return err
	}
	defer s.discard(link)
	if err := s.files.call("ingest", dir, func() error { return db.Ingest([]string{link}) }); err != nil {
		return err
	}
	if err := s.sealImage(e, db, e.rec.DeltaSize); err != nil {
		return err
	}
	if e.seal != nil || e.thin {
		return nil
	}
	return s.Seal(&Working{store: s, db: db, dir: dir, at: e, image: e})
}

// foreign refuses a folder that holds what no store has. Error: ErrExists.
func foreign(dir string) error {
	names, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	known := append([]string{fileLock, fileFormat, fileFormat + ".tmp"}, allDirs...)
	for _, d := range names {
		if !slices.Contains(known, d.Name()) {
			return fmt.Errorf("%w: it has %s", ErrExists, d.Name())
		}
	}
	return nil
}

// checkVacant says whether a store may be made here. What a Create that was cut
// short left behind is moved to lost/.
func (s *Store) checkVacant() error {
	anchored, err := s.hasAnchor()
	if err != nil {
		return err
	}
	if anchored {
		return fmt.Errorf("%w: there is a store already", ErrExists)
	}
	if err := s.checkDeltas(); err != nil {
		return err
	}
	for _, dir := range []string{dirDeltas, dirImages, dirCheckpoints, dirRuns} {
		if err := s.moveToLost(dir, func(string) bool { return true }); err != nil {
			return err
		}
	}
	return nil
}

// hasAnchor says whether the records name an anchor; without one, an earlier
// Create was cut short.
func (s *Store) hasAnchor() (bool, error) {
	if empty, err := s.emptyDir(dirBlocks); err != nil || empty {
		return false, err
	}
	blocks, err := s.engine.OpenJournal(s.path(dirBlocks))
	if err != nil {
		return false, err
	}
	defer blocks.Close()
	for range blocks.Scan([]byte{prefixBlock}) {
		return true, nil
	}
	return false, blocks.Err()
}

// checkDeltas refuses to take more deltas than an anchor's, without records, for
// what a Create that was cut short has left. Error: ErrNoRecords.
func (s *Store) checkDeltas() error {
	deltas, err := filepath.Glob(s.path(dirDeltas, "*.sst"))
	if err == nil && len(deltas) > 1 {
		err = s.noRecords()
	}
	return err
}

func (s *Store) noRecords() error {
	return fmt.Errorf("%w: %s doesn't know the blocks in %s: run `accessor recover --data %s`",
		ErrNoRecords, dirBlocks, dirDeltas, s.dir)
}

func (s *Store) emptyDir(dir string) (bool, error) {
	return emptyDir(s.path(dir))
}

func emptyDir(path string) (bool, error) {
	names, err := os.ReadDir(path)
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	return len(names) == 0, err
}

// Open opens a store and finishes what a crash left undone. Errors: ErrEmpty,
// ErrInUse, ErrFormat, ErrNoRecords, ErrUnsuitable, ErrEngine, ErrDamaged.
func Open(dir string, engine Engine, opts Options) (*Store, error) {
	if _, err := os.Stat(filepath.Join(dir, fileFormat)); err != nil {
		if errors.Is(err, unix.ENOTDIR) {
			return nil, fmt.Errorf("open store: %w: %s is a file", ErrEmpty, dir)
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("open store: %w", err)
		}
		return nil, fmt.Errorf("open store in %s: %w", dir, emptyOr(dir))
	}
	s, err := lockDir(dir, engine, opts)
	if err != nil {
		return nil, err
	}
	if err := s.open(); err != nil {
		s.Close()
		return nil, fmt.Errorf("open store in %s: %w", dir, err)
	}
	s.maintain.start(s)
	return s, nil
}

// emptyOr tells a folder without a store from one whose FORMAT is gone.
func emptyOr(dir string) error {
	if deltas, _ := filepath.Glob(filepath.Join(dir, dirDeltas, "*.sst")); len(deltas) > 0 {
		return fmt.Errorf("%w: the file %s is missing beside %d deltas; it is one line, %s", ErrFormat, fileFormat, len(deltas), formatLine)
	}
	return ErrEmpty
}

// lockDir makes this process the owner of the directory.
func lockDir(dir string, engine Engine, opts Options) (*Store, error) {
	opts = opts.withDefaults()
	s := &Store{
		dir: dir, engine: engine, opts: opts, log: opts.Log,
		files:   files{hook: opts.FileHook},
		entries: make(map[forks.Hash]*entry),
		meta:    make(map[string][]byte),
		views:   make(map[forks.Hash]*handle),

		opening:   fmt.Sprintf("%08x", rand.Uint32()),
		undecided: make(map[forks.Hash]bool),
	}
	path := filepath.Join(dir, fileLock)
	lock, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		defer lock.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			owner, _ := os.ReadFile(path)
			return nil, fmt.Errorf("open store: %w: %s is locked by process %s", ErrInUse, path,
				strings.TrimSpace(string(owner[:min(len(owner), 20)])))
		}
		return nil, fmt.Errorf("open store: %w: lock %s: %w", ErrUnsuitable, path, err)
	}
	// For the error of the next process only; the lock is the flock.
	_ = lock.Truncate(0)
	_, _ = lock.WriteAt(fmt.Appendf(nil, "%d\n", os.Getpid()), 0)
	s.lock = lock
	return s, nil
}

func (s *Store) open() error {
	if err := s.readFormat(); err != nil {
		return err
	}
	if err := s.checkRecords(); err != nil {
		return err
	}
	for _, d := range allDirs {
		if err := s.files.mkdir(s.path(d)); err != nil {
			return err
		}
	}
	// What a crash left half-made, or half-removed.
	for _, d := range []string{dirTmp, dirWork, dirTrash} {
		if err := s.clear(d); err != nil {
			return err
		}
	}
	if err := s.probe(); err != nil {
		return err
	}
	if err := s.openJournal(); err != nil {
		return err
	}
	return s.load()
}

func (s *Store) readFormat() error {
	text, err := os.ReadFile(s.path(fileFormat))
	if errors.Is(err, fs.ErrNotExist) {
		return emptyOr(s.dir)
	}
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, &s.format); err != nil {
		return fmt.Errorf("%w: %s: %w; it is one line, %s", ErrFormat, fileFormat, err, formatLine)
	}
	if s.format.Format != formatName {
		return fmt.Errorf("%w: %s says %q, this program reads %q", ErrFormat, fileFormat, s.format.Format, formatName)
	}
	if word := engineWord(s.engine); s.format.Engine != word {
		return fmt.Errorf("%w: made with engine %s, opened with %s", ErrFormat, s.format.Engine, word)
	}
	return nil
}

// checkRecords refuses deltas without records: opening them as an empty store
// would lose them.
func (s *Store) checkRecords() error {
	noRecords, err := s.emptyDir(dirBlocks)
	if err != nil {
		return err
	}
	noDeltas, err := s.emptyDir(dirDeltas)
	switch {
	case err != nil:
		return err
	case noRecords && noDeltas:
		return ErrEmpty
	case noRecords:
		return s.noRecords()
	}
	return nil
}

// clear removes all that a folder holds.
func (s *Store) clear(dir string) error {
	names, err := os.ReadDir(s.path(dir))
	if err != nil {
		return err
	}
	for _, d := range names {
		if err := s.files.removeAll(s.path(dir, d.Name())); err != nil {
			return err
		}
	}
	return nil
}

// probe tries what the directory and the engine must be able to do.
func (s *Store) probe() error {
	a, b := s.tmpPath(dirTmp, "probe"), s.path(dirDeltas, ".probe")
	defer s.discard(a)
	defer s.discard(b)
	s.discard(b) // a crash may have left it
	err := s.files.writeFile(a, []byte("probe"))
	if err == nil {
		err = s.files.link(a, b)
	}
	if err == nil {
		err = s.files.rename(b, s.path(dirCheckpoints, ".probe"))
	}
	if err == nil {
		err = s.files.remove(s.path(dirCheckpoints, ".probe"))
	}
	switch {
	case errors.Is(err, ErrNoSpace):
		return err
	case err != nil:
		return fmt.Errorf("%w: it must be writable, on one file system, with hard links: %w", ErrUnsuitable, err)
	}
	return s.engine.SelfTest(s.path(dirTmp))
}

// load reads the records and takes in what a crash left unrecorded.
func (s *Store) load() error {
	if err := s.loadBlocks(); err != nil {
		return err
	}
	if s.anchor == nil {
		if err := s.checkDeltas(); err != nil {
			return err
		}
		return fmt.Errorf("%w: making it was cut short", ErrEmpty)
	}
	if err := s.loadMeta(); err != nil {
		return err
	}
	if err := s.loadDerived(); err != nil {
		return err
	}
	if err := s.takeInDeltas(); err != nil {
		return err
	}
	_, err := s.usableImage(s.anchor)
	return err
}

func (s *Store) loadBlocks() error {
	var records []Record
	for key, value := range s.blocks.Scan([]byte{prefixBlock}) {
		rec, err := decodeRecord(value)
		if err != nil {
			return fmt.Errorf("read record of block %x: %w", key[1:], err)
		}
		records = append(records, rec)
	}
	if err := s.blocks.Err(); err != nil {
		return fmt.Errorf("read block records: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	// A child's slot is above its parent's, so this puts parents first.
	slices.SortFunc(records, func(a, b Record) int {
		if a.Anchor != b.Anchor {
			return map[bool]int{true: -1, false: 1}[a.Anchor]
		}
		return int(int64(a.Slot) - int64(b.Slot))
	})
	for _, rec := range records {
		parent, ok := s.entries[rec.Parent]
		if !ok && !rec.Anchor {
			return fmt.Errorf("%w: record of block %s without its parent %s", ErrDamaged, rec.Hash, rec.Parent)
		}
		if rec.Anchor && s.anchor != nil {
			return fmt.Errorf("%w: two anchors, %s and %s", ErrDamaged, s.anchor.rec.Hash, rec.Hash)
		}
		s.addLocked(rec, parent)
	}
	return nil
}

func (s *Store) loadMeta() error {
	for key, value := range s.blocks.Scan([]byte{prefixMeta}) {
		s.meta[string(key[1:])] = value
	}
	return s.blocks.Err()
}

// loadDerived reads the records of checkpoints, images and runs, and clears
// away those files that have none: they were not finished.
func (s *Store) loadDerived() error {
	present, err := s.listing(dirImages, dirRuns)
	if err != nil {
		return err
	}
	recorded := make(map[string]bool)
	for key, value := range s.blocks.Scan([]byte{prefixSeal}) {
		e, ok := s.entries[hashOfKey(key)]
		if !ok {
			continue
		}
		l, thin, err := decodeSeal(value)
		if err != nil {
			return err
		}
		// Whether the directory is there is seen when it is used: missing is
		// a state of its own, which views and verify report.
		e.seal, e.thin = l, thin
		if l != nil {
			recorded[s.checkpointPath(e.rec.Block)] = true
		}
	}
	for key, value := range s.blocks.Scan([]byte{prefixImage}) {
		e, ok := s.entries[hashOfKey(key)]
		if !ok || !present[s.imagePath(e.rec.Block)] {
			continue
		}
		if e.image, err = decodeImage(value); err != nil {
			return err
		}
		recorded[s.imagePath(e.rec.Block)] = true
	}
	for key, value := range s.blocks.Scan([]byte{prefixRun}) {
		if err := s.loadRun(key, value, present, recorded); err != nil {
			return err
		}
	}
	if err := s.blocks.Err(); err != nil {
		return err
	}
	return s.trashUnrecorded(recorded)
}

func (s *Store) loadRun(key, value []byte, present, recorded map[string]bool) error {
	h, count, err := splitRunKey(key)
	if err != nil {
		return err
	}
	e, ok := s.entries[h]
	if !ok || len(value) != 16 {
		return nil
	}
	path := s.runPath(e.rec.Block, count)
	r := decodeRun(count, value)
	if info, err := os.Stat(path); !present[path] || err != nil || info.Size() != r.size || e.up(count) == nil {
		return nil
	}
	e.runs = append(e.runs, r) // keys come in order of count
	recorded[path] = true
	return nil
}

// listing gives the paths of what the folders hold.
func (s *Store) listing(dirs ...string) (map[string]bool, error) {
	paths := make(map[string]bool)
	for _, dir := range dirs {
		names, err := os.ReadDir(s.path(dir))
		if err != nil {
			return nil, err
		}
		for _, d := range names {
			paths[s.path(dir, d.Name())] = true
		}
	}
	return paths, nil
}

func (s *Store) trashUnrecorded(recorded map[string]bool) error {
	present, err := s.listing(dirCheckpoints, dirImages, dirRuns)
	if err != nil {
		return err
	}
	for path := range present {
		if recorded[path] {
			continue
		}
		if err := s.trash(path); err != nil {
			return err
		}
	}
	return nil
}

// takeInDeltas records the deltas that a crash left without a record: whole
// ones whose parent is held, in order of their slots. Any other file goes to
// lost/.
func (s *Store) takeInDeltas() error {
	present, err := s.listing(dirDeltas)
	if err != nil {
		return err
	}
	missing := 0
	for _, e := range s.entries {
		path := s.deltaPath(e.rec.Block)
		if !present[path] {
			missing++
		}
		delete(present, path)
	}
	s.missing = missing
	if missing > 0 {
		s.log.Error("write sets of blocks are missing: bring them back from a backup; accessor verify names them",
			zap.String("folder", s.path(dirDeltas)), zap.Int("missing", missing))
	}
	for _, path := range slices.Sorted(maps.Keys(present)) {
		rec, err := s.checkDelta(path)
		if err == nil {
			err = s.admissible(&rec)
		}
		if err == nil {
			if err := s.Record(&rec); err != nil {
				return err
			}
			s.log.Info("took in a delta that was written before a crash",
				zap.Stringer("block", rec.Hash), zap.Stringer("slot", rec.Slot))
			continue
		}
		if !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrFormat) && !errors.Is(err, ErrUnknown) {
			return err // says nothing about the delta
		}
		s.log.Warn("moved to lost/", zap.String("path", path), zap.Error(err))
		name := filepath.Base(path)
		if err := s.moveToLost(dirDeltas, func(n string) bool { return n == name }); err != nil {
			return err
		}
	}
	return nil
}

// admissible says whether an unrecorded delta fits into the tree.
func (s *Store) admissible(rec *Record) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	parent, ok := s.entries[rec.Parent]
	switch {
	case rec.Anchor:
		return fmt.Errorf("%w: a second anchor", ErrDamaged)
	case s.entries[rec.Hash] != nil:
		return fmt.Errorf("%w: block %s is held with another slot", ErrDamaged, rec.Hash)
	case !ok:
		return fmt.Errorf("%w: parent %s of block %s", ErrUnknown, rec.Parent, rec.Hash)
	case rec.Slot <= parent.rec.Slot:
		return fmt.Errorf("%w: block %s has slot %d, its parent %d", ErrDamaged, rec.Hash, rec.Slot, parent.rec.Slot)
	}
	return nil
}

// checkDelta reads a whole delta and gives its record, with size and checksum.
func (s *Store) checkDelta(path string) (Record, error) {
	rec, err := s.readRecord(path)
	if err != nil {
		return rec, err
	}
	if s.deltaPath(rec.Block) != path {
		return rec, fmt.Errorf("%w: %s holds block %s", ErrDamaged, path, rec.Hash)
	}
	table, err := s.engine.OpenTable(path)
	if err != nil {
		return rec, err
	}
	defer table.Close()
	if err := table.Verify(); err != nil {
		return rec, err
	}
	rec.DeltaSize, rec.DeltaSum, err = fileSum(path)
	return rec, err
}

// moveToLost moves files out of a folder to where people can look at them.
func (s *Store) moveToLost(dir string, match func(name string) bool) error {
	names, err := os.ReadDir(s.path(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, d := range names {
		if !match(d.Name()) {
			continue
		}
		if err := s.files.mkdir(s.path(dirLost)); err != nil {
			return err
		}
		from := s.path(dir, d.Name())
		if d.IsDir() {
			if err := s.files.chmod(from, 0o755); err != nil {
				return err
			}
		}
		if err := s.files.rename(from, s.lostPath(dir+"-"+d.Name())); err != nil {
			return err
		}
	}
	return nil
}

// lostPath gives a free name in lost/.
func (s *Store) lostPath(name string) string {
	to := s.path(dirLost, name)
	for n := 2; ; n++ {
		if _, err := os.Lstat(to); errors.Is(err, fs.ErrNotExist) {
			return to
		}
		to = s.path(dirLost, fmt.Sprintf("%s-%d", name, n))
	}
}

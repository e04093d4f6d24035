package checkpoint

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"

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

		indexGaps: true,
		opening:   fmt.Sprintf("%08x", rand.Uint32()),
		undecided: make(map[forks.Hash]bool),
		pruned:    make(map[forks.Hash]forks.Slot),
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
	if err := s.prepareDirs(); err != nil {
		return err
	}
	if err := s.openJournal(); err != nil {
		return err
	}
	return s.load()
}

// prepareDirs makes the folders that are missing, empties those of what a crash
// left half-made or half-removed, and tries what the directory can do.
func (s *Store) prepareDirs() error {
	for _, d := range allDirs {
		if err := s.files.mkdir(s.path(d)); err != nil {
			return err
		}
	}
	for _, d := range []string{dirTmp, dirWork, dirTrash} {
		if err := s.clear(d); err != nil {
			return err
		}
	}
	return s.probe()
}

func (s *Store) readFormat() error {
	text, err := os.ReadFile(s.path(fileFormat))
	if errors.Is(err, fs.ErrNotExist) {
		return emptyOr(s.dir)
	}
	if err != nil {
		return err
	}
	s.format, err = parseFormat(text, s.engine)
	return err
}

// parseFormat reads the line in FORMAT. Error: ErrFormat.
func parseFormat(text []byte, engine Engine) (f format, err error) {
	if err := json.Unmarshal(text, &f); err != nil {
		return f, fmt.Errorf("%w: %s: %w; it is one line, %s", ErrFormat, fileFormat, err, formatLine)
	}
	if f.Format != formatName {
		return f, fmt.Errorf("%w: %s says %q, this program reads %q", ErrFormat, fileFormat, f.Format, formatName)
	}
	if word := engineWord(engine); f.Engine != word {
		return f, fmt.Errorf("%w: made with engine %s, opened with %s", ErrFormat, f.Engine, word)
	}
	return f, nil
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

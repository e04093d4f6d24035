package checkpoint

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"accessor/forks"
)

// Beside reads a store that another process owns. It takes no lock, changes
// nothing in the directory, and doesn't look into the owner's records: what it
// goes by are the names of sealed checkpoints and images, which are whole as soon
// as they have their names, and the block record inside each.
//
//	owner    seals checkpoints/7-ab…   writes HEADS   drops it, or seals it again
//	reader        lists the names ── opens one ── is it still there? ── record
//
// The owner waits for nobody: it may remove or replace a directory while it is
// being opened. That is seen, and the names are listed again. What is open stays
// readable, whatever happens to its name.
//
// It is safe for concurrent use, and has nothing to close.
type Beside struct {
	dir    string
	engine Engine
	format format

	mu    sync.Mutex
	names []Listed // as last listed
}

// Listed is a block as the names of a store's files have it. Whether a name is
// true is seen when what it names is opened.
type Listed struct {
	Hash forks.Hash
	Slot forks.Slot
	// Sealed says that there is a checkpoint or an image; without one, there is
	// the block's delta alone.
	Sealed bool
}

// OpenBeside prepares to read the store in a directory, whoever owns it. Errors:
// ErrEmpty, ErrFormat.
func OpenBeside(dir string, engine Engine) (*Beside, error) {
	const most = 1 << 10 // FORMAT has some 80 bytes
	text, err := readSmall(filepath.Join(dir, fileFormat), most)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		err = emptyOr(dir)
	case errors.Is(err, unix.ENOTDIR):
		err = fmt.Errorf("%w: %s is a file", ErrEmpty, dir)
	case err != nil:
		err = fmt.Errorf("%w: %w", ErrFormat, err)
	}
	b := &Beside{dir: dir, engine: engine}
	if err == nil {
		b.format, err = parseFormat(text, engine)
	}
	if err != nil {
		return nil, fmt.Errorf("read store in %s: %w", dir, err)
	}
	return b, nil
}

// Commitment is the name of the store's state commitment.
func (b *Beside) Commitment() string { return b.format.Commitment }

// Owner is the id of the process that took the store last; 0 where that can't be
// told. It need not live any more.
func (b *Beside) Owner() int {
	const most = 64 // the lock file has a number in it
	text, err := readSmall(filepath.Join(b.dir, fileLock), most)
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil || pid < 0 {
		return 0
	}
	return pid
}

// LastHeads gives what HEADS says, even if a former owner wrote it: what was
// finalized stays so, and there is nothing below what was the anchor. Error:
// ErrHeads.
func (b *Beside) LastHeads() (Heads, error) { return ReadHeads(b.dir) }

// Heads gives what the store's present owner says of head and finalized. Error:
// ErrHeads.
func (b *Beside) Heads() (Heads, error) {
	h, err := b.LastHeads()
	if owner := b.Owner(); err == nil && owner != 0 && owner != h.Process {
		return h, fmt.Errorf("%w: %s is by process %d; process %d, which took the store since, has not written it yet, or could not: ask again, or %s",
			ErrHeads, filepath.Join(b.dir, fileHeads), h.Process, owner, byNumber)
	}
	return h, err
}

// List gives the blocks that deltas, checkpoints and images are named after, by
// slot, then by hash.
func (b *Beside) List() ([]Listed, error) {
	found := make(map[Listed]bool) // with Sealed unset, whether it is sealed
	for _, dir := range []string{dirDeltas, dirCheckpoints, dirImages} {
		names, err := os.ReadDir(filepath.Join(b.dir, dir))
		if errors.Is(err, fs.ErrNotExist) {
			continue // the store is being made
		}
		if err != nil {
			return nil, fmt.Errorf("list blocks: %w", err)
		}
		for _, d := range names {
			name := d.Name()
			if dir == dirDeltas {
				name = strings.TrimSuffix(name, ".sst")
			}
			if l, ok := parseName(name); ok {
				found[l] = found[l] || dir != dirDeltas
			}
		}
	}
	list := make([]Listed, 0, len(found))
	for l, sealed := range found {
		l.Sealed = sealed
		list = append(list, l)
	}
	slices.SortFunc(list, func(x, y Listed) int { return cmp.Or(cmp.Compare(x.Slot, y.Slot), x.Hash.Compare(y.Hash)) })
	b.mu.Lock()
	b.names = list
	b.mu.Unlock()
	return list, nil
}

// parseName undoes Name; other names, such as those of half-made things, are
// not ok.
func parseName(name string) (l Listed, ok bool) {
	slot, hash, found := strings.Cut(name, "-")
	n, err := strconv.ParseUint(slot, 10, 32)
	if !found || err != nil {
		return l, false
	}
	l.Slot = forks.Slot(n)
	l.Hash, err = forks.ParseHash(hash)
	return l, err == nil && Name(l.block()) == name
}

func (l Listed) block() forks.Block { return forks.Block{Hash: l.Hash, Slot: l.Slot} }

// named gives what the names say of a block: twice, only where a name is wrong.
func named(list []Listed, h forks.Hash) (found []Listed) {
	for _, l := range list {
		if l.Hash == h {
			found = append(found, l)
		}
	}
	return found
}

// Where what is read goes while it is being opened, it is looked for again, with
// pauses from firstPause, each twice as long as the one before, up to longestPause:
// a quarter of a second in all.
const (
	firstPause   = time.Millisecond
	longestPause = 128 * time.Millisecond
)

// OpenView opens the state at block h from its checkpoint or its image, or, where
// there is none, from those of an ancestor and the deltas above. Errors: ErrUnknown,
// ErrMissing where those are not there either, ErrDamaged, and that of ctx.
func (b *Beside) OpenView(ctx context.Context, h forks.Hash) (*BesideView, error) {
	b.mu.Lock()
	found := named(b.names, h)
	b.mu.Unlock()
	v, err := b.openAny(found, h)
	for pause := firstPause; err != nil; pause *= 2 {
		list, listErr := b.List()
		if listErr != nil {
			return nil, listErr
		}
		found = named(list, h)
		if v, err = b.openAny(found, h); err == nil || !errors.Is(err, ErrMissing) {
			break
		}
		// It is archived, thinned out, or its checkpoint in the making.
		if v, err = b.replay(ctx, list, found[0]); err == nil || !errors.Is(err, ErrMissing) {
			break
		}
		if pause > longestPause {
			break
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for the state at block %s: %w", h, context.Cause(ctx))
		}
	}
	return v, err
}

// openAny tries all that is named after a block. Errors: ErrUnknown, ErrMissing
// where something may be there the next time, ErrDamaged.
func (b *Beside) openAny(found []Listed, h forks.Hash) (*BesideView, error) {
	if len(found) == 0 {
		return nil, fmt.Errorf("%w: %s", ErrUnknown, h)
	}
	var failed error
	gone := false
	for _, l := range found {
		for _, dir := range []string{dirCheckpoints, dirImages} {
			v, err := b.open(filepath.Join(b.dir, dir, Name(l.block())), l)
			switch {
			case err == nil:
				return v, nil
			case errors.Is(err, ErrMissing):
				gone = true
			case failed == nil:
				failed = fmt.Errorf("open checkpoint of block %s: %w", h, err)
			}
		}
	}
	if failed == nil && gone {
		return nil, fmt.Errorf("%w: block %s", ErrMissing, h)
	}
	return nil, failed
}

// open opens a sealed directory. Errors: ErrMissing where it isn't there, or
// didn't stay; ErrDamaged.
func (b *Beside) open(path string, want Listed) (*BesideView, error) {
	// While it is open here, no other directory gets the number of this one in the
	// file system, by which the two are told apart below.
	pin, err := os.OpenFile(path, os.O_RDONLY|unix.O_DIRECTORY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %s", ErrMissing, path)
	}
	if err != nil {
		return nil, err
	}
	defer pin.Close()
	opened, err := pin.Stat()
	if err != nil {
		return nil, err
	}
	v := new(BesideView)
	db, err := b.engine.OpenReadOnly(path)
	if err == nil {
		v.db = db
	}
	// The engine opens the files one by one, by their paths. Had another directory
	// taken the place of this one meanwhile, tables of both could be mixed, which
	// may have equal names and sizes. A directory that went never comes back: if it
	// is there now, it was all the time.
	now, statErr := os.Lstat(path)
	switch {
	case errors.Is(statErr, fs.ErrNotExist), statErr == nil && !os.SameFile(opened, now):
		err = fmt.Errorf("%w: %s was removed or replaced while it was opened", ErrMissing, path)
	case err == nil:
		err = statErr
	}
	if err == nil {
		v.rec, err = recordIn(db)
	}
	if err == nil && (v.rec.Hash != want.Hash || v.rec.Slot != want.Slot) {
		err = fmt.Errorf("%w: %s is at block %s, slot %d", ErrDamaged, path, v.rec.Hash, v.rec.Slot)
	}
	if err != nil {
		v.Close()
		return nil, err
	}
	return v, nil
}

// Record reads a listed block's record: from its delta, or
// where the owner has removed that, from its checkpoint. Errors: ErrMissing,
// ErrDamaged.
func (b *Beside) Record(l Listed) (Record, error) {
	path := filepath.Join(b.dir, dirDeltas, Name(l.block())+".sst")
	rec, err := readRecord(b.engine, path)
	if err != nil {
		if _, statErr := os.Lstat(path); !errors.Is(statErr, fs.ErrNotExist) {
			return rec, fmt.Errorf("read record of block %s: %w", l.Hash, err)
		}
		v, err := b.openAny([]Listed{l}, l.Hash)
		if err != nil {
			return rec, err
		}
		defer v.Close()
		return v.rec, nil
	}
	if rec.Hash != l.Hash || rec.Slot != l.Slot {
		return rec, fmt.Errorf("%w: %s holds block %s, slot %d", ErrDamaged, path, rec.Hash, rec.Slot)
	}
	return rec, nil
}

// BesideView is a read-only state at one block, of a store that another process
// owns. Get and Scan are safe from several goroutines; all iterators must be
// closed before the view is.
type BesideView struct {
	db     DB
	rec    Record // as it stands in the database
	closed sync.Once
}

// At is the view's block, as its record in the checkpoint has it.
func (v *BesideView) At() forks.Block { return v.rec.Block }

// Get appends the value of a key to dst; present is false for a key that the
// state doesn't hold.
func (v *BesideView) Get(dst, key []byte) (value []byte, present bool, err error) {
	return getState(v.db, dst, key)
}

// Scan walks the state's keys in [from, to); an empty to means no upper end.
func (v *BesideView) Scan(from, to []byte) StateIterator { return scanState(v.db, from, to) }

// Close gives the view back. Closing twice is safe.
func (v *BesideView) Close() {
	v.closed.Do(func() {
		if v.db != nil {
			_ = v.db.Close() // nothing was written
		}
	})
}

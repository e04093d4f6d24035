package checkpoint

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/cespare/xxhash/v2"
	"golang.org/x/sys/unix"

	"accessor/forks"
)

// seal is what is recorded of a sealed directory when it is made. A directory
// that differs from its seal was changed by somebody else and is not used.
type seal struct {
	listing uint64     // XXH64 of the names and sizes of its files
	rest    uint64     // XXH64 of the contents of the files that are not tables
	tables  int        // number of tables beside the image's
	image   forks.Hash // the block of the image below them
}

// What stands instead of a seal where there is no directory on purpose.
const (
	sealThin     byte = 1
	sealArchived byte = 3 // and the block is in a group that was archived, or left one
)

func (l *seal) encode() []byte {
	b := binary.LittleEndian.AppendUint64([]byte{0}, l.listing)
	b = binary.LittleEndian.AppendUint64(b, l.rest)
	b = binary.LittleEndian.AppendUint32(b, uint32(l.tables))
	return append(b, l.image[:]...)
}

// decodeSeal gives a seal, or what stands instead.
func decodeSeal(b []byte) (l *seal, instead byte, err error) {
	if len(b) == 1 && (b[0] == sealThin || b[0] == sealArchived) {
		return nil, b[0], nil
	}
	if len(b) != 1+8+8+4+forks.HashSize || b[0] != 0 {
		return nil, 0, fmt.Errorf("%w: seal record of %d bytes", ErrDamaged, len(b))
	}
	l = &seal{
		listing: binary.LittleEndian.Uint64(b[1:]),
		rest:    binary.LittleEndian.Uint64(b[9:]),
		tables:  int(binary.LittleEndian.Uint32(b[17:])),
	}
	copy(l.image[:], b[21:])
	return l, 0, nil
}

// inspect computes what a directory's seal would say of its contents.
func (s *Store) inspect(dir string) (listing, rest uint64, err error) {
	names, err := os.ReadDir(dir) // sorted
	if err != nil {
		return 0, 0, err
	}
	list, content := xxhash.New(), xxhash.New()
	for _, d := range names {
		info, err := d.Info()
		if err != nil {
			return 0, 0, err
		}
		fmt.Fprintf(list, "%s %d\n", d.Name(), info.Size())
		if s.engine.IsTable(d.Name()) {
			continue
		}
		data, err := os.ReadFile(filepath.Join(dir, d.Name()))
		if err != nil {
			return 0, 0, err
		}
		_, _ = content.Write(data) // never fails
	}
	return list.Sum64(), content.Sum64(), nil
}

// checkSeal says whether a sealed directory is as recorded. Errors: ErrMissing,
// ErrLocked, ErrDamaged.
func (s *Store) checkSeal(dir string, l *seal) error {
	listing, rest, err := s.inspect(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%w: %s", ErrMissing, dir)
	case err != nil:
		return fmt.Errorf("inspect checkpoint: %w", err)
	case listing == l.listing && rest == l.rest:
		return nil
	}
	if pid, locked := lockedBy(filepath.Join(dir, s.engine.LockFile())); locked {
		return fmt.Errorf("%w: process %d, %s", ErrLocked, pid, filepath.Join(dir, s.engine.LockFile()))
	}
	return fmt.Errorf("%w: %s is not as it was sealed", ErrDamaged, dir)
}

// lockedBy says which other process has the file locked by fcntl. This process
// never locks a file in a sealed directory, so opening and closing it here
// gives up no lock of its own.
func lockedBy(path string) (pid int, locked bool) {
	file, err := os.Open(path)
	if err != nil {
		return 0, false
	}
	defer file.Close()
	probe := unix.Flock_t{Type: unix.F_WRLCK, Whence: unix.SEEK_SET}
	if err := unix.FcntlFlock(file.Fd(), unix.F_GETLK, &probe); err != nil {
		return 0, false
	}
	return int(probe.Pid), probe.Type != unix.F_UNLCK
}

// durability says whether what is made must outlive a power cut.
type durability bool

const (
	// derived: what a power cut leaves of it is told by its seal, and made again.
	derived durability = false
	durable durability = true
)

// sealDir makes the directory that makeDir fills in the final place, without
// write permission. The old one of that name, if any, goes to the trash.
func (s *Store) sealDir(final string, d durability, makeDir func(tmp string) error) (*seal, error) {
	tmp := s.tmpPath(dirTmp, "seal")
	l, err := s.fillDir(tmp, d, makeDir)
	if err != nil {
		s.discard(tmp)
		return nil, err
	}
	if err := s.trash(final); err != nil {
		s.discard(tmp)
		return nil, err
	}
	if err := s.files.move(tmp, final, d); err != nil {
		s.discard(tmp)
		return nil, err
	}
	// After the move, which needs write access to the directory. The tables
	// keep theirs: the engine opens a table for writing when it ingests it, to
	// sync it, and all links of a file share its permissions.
	return l, s.files.chmod(final, 0o555)
}

func (s *Store) fillDir(tmp string, d durability, makeDir func(tmp string) error) (*seal, error) {
	if err := s.files.call("create", tmp, func() error { return makeDir(tmp) }); err != nil {
		return nil, err
	}
	names, err := os.ReadDir(tmp)
	if err != nil {
		return nil, err
	}
	for _, file := range names {
		path := filepath.Join(tmp, file.Name())
		if !s.engine.NeedsFile(file.Name()) {
			err = s.files.remove(path)
		} else {
			if d == durable {
				err = s.files.sync(path)
			}
			if err == nil && !s.engine.IsTable(file.Name()) {
				err = s.files.chmod(path, 0o444)
			}
		}
		if err != nil {
			return nil, err
		}
	}
	var l seal
	if l.listing, l.rest, err = s.inspect(tmp); err != nil {
		return nil, err
	}
	if d == durable {
		err = s.files.sync(tmp)
	}
	return &l, err
}

// Seal makes the checkpoint of the block that w stands at, which must have none
// that is in use.
func (s *Store) Seal(w *Working) error {
	e := w.at
	l, err := s.sealDir(s.checkpointPath(e.rec.Block), derived, w.db.Checkpoint)
	if err != nil {
		return fmt.Errorf("seal checkpoint of block %s at slot %d: %w", e.rec.Hash, e.rec.Slot, err)
	}
	l.tables, l.image = w.tables, w.image.rec.Hash
	// Not synced: a checkpoint whose seal a power cut took is made again.
	if err := s.record(Change{Key: sealKey(e.rec.Hash), Value: l.encode()}, false); err != nil {
		return fmt.Errorf("record checkpoint of block %s: %w", e.rec.Hash, err)
	}
	s.mu.Lock()
	held := s.entries[e.rec.Hash] // another where it became the anchor meanwhile
	if held != nil {
		held.seal, held.thin, held.archived = l, false, false
	}
	s.mu.Unlock()
	if held == nil {
		return s.unseal(e)
	}
	s.stats.Sealed.Add(1)
	s.maintain.poke(held)
	return nil
}

// unseal takes back the checkpoint of a block that was pruned while it was sealed.
func (s *Store) unseal(e *entry) error {
	err := s.record(Change{Key: sealKey(e.rec.Hash)}, false)
	if err == nil {
		err = s.trash(s.checkpointPath(e.rec.Block))
	}
	return errors.Join(fmt.Errorf("seal checkpoint: %w: %s was pruned", ErrUnknown, e.rec.Hash), err)
}

// DropCheckpoint removes a block's checkpoint, to free its space; the block
// stays held and readable through its ancestors. Views that are open stay
// usable. Errors: ErrUnknown.
func (s *Store) DropCheckpoint(h forks.Hash) error {
	e, err := s.entry(h)
	if err != nil {
		return err
	}
	if err := s.record(Change{Key: sealKey(h), Value: []byte{sealThin}}, true); err != nil {
		return fmt.Errorf("drop checkpoint of block %s: %w", h, err)
	}
	s.mu.Lock()
	e.seal, e.thin = nil, true
	s.mu.Unlock()
	return s.trash(s.checkpointPath(e.rec.Block))
}

// Usable looks at a block's checkpoint on disk. Errors: ErrUnknown, ErrPruned,
// ErrUnsealed, ErrMissing, ErrLocked, ErrDamaged.
func (s *Store) Usable(h forks.Hash) error {
	e, err := s.entry(h)
	if err == nil {
		_, err = s.usable(e)
	}
	return err
}

// usable checks a block's checkpoint. Errors: ErrPruned, ErrUnsealed,
// ErrMissing, ErrLocked, ErrDamaged.
func (s *Store) usable(e *entry) (*seal, error) {
	l, err := s.recorded(e)
	if err != nil {
		return nil, err
	}
	return l, s.checkSeal(s.checkpointPath(e.rec.Block), l)
}

// recorded gives the seal of a block's checkpoint. Errors: ErrPruned, ErrUnsealed,
// ErrPartial.
func (s *Store) recorded(e *entry) (*seal, error) {
	s.mu.Lock()
	l, thin, partial := e.seal, e.thin, s.anchor.rec.Partial
	s.mu.Unlock()
	switch {
	case partial:
		return nil, fmt.Errorf("%w: block %s at slot %d", ErrPartial, e.rec.Hash, e.rec.Slot)
	case thin:
		return nil, fmt.Errorf("%w: block %s at slot %d", ErrPruned, e.rec.Hash, e.rec.Slot)
	case l == nil:
		return nil, fmt.Errorf("%w: block %s at slot %d", ErrUnsealed, e.rec.Hash, e.rec.Slot)
	}
	return l, nil
}

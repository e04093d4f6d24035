package checkpoint

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"accessor/forks"
)

// fileHeads is the file in which a store's owner tells other processes which
// blocks have names: docs/FORMAT.md. It is derived, and a hint: nobody relies on
// it for more than to find a block, whose record then says what it is.
const fileHeads = "HEADS"

const headsName = "accessor-heads/1"

// maxHeads is the longest HEADS that is read, in bytes; ours have some 700.
const maxHeads = 4 << 10

// Label is a block as HEADS has it: without its parent.
type Label struct {
	Hash forks.Hash `json:"hash"`
	Slot forks.Slot `json:"slot"`
	Root forks.Hash `json:"root"`
}

// LabelOf gives a block as HEADS has it.
func LabelOf(b forks.Block) Label { return Label{Hash: b.Hash, Slot: b.Slot, Root: b.Root} }

// Heads are the blocks that a store's owner has names for.
type Heads struct {
	Head, Finalized, Anchor Label

	// Process is the owner's process id, and Written when it wrote this, to the
	// millisecond. WriteHeads sets both.
	Process int
	Written time.Time
}

// headsFile is the JSON form. Pointers tell what is missing.
type headsFile struct {
	Format    string    `json:"format"`
	Head      *Label    `json:"head"`
	Finalized *Label    `json:"finalized"`
	Anchor    *Label    `json:"anchor"`
	Process   int       `json:"process"`
	Written   time.Time `json:"written"`
}

// WriteHeads tells readers in other processes where head and finalized are: it
// writes HEADS whole or not at all, without a sync. Where that fails there is no
// HEADS any more, rather than an old one. One caller at a time. Errors:
// ErrNoSpace, ErrClosed.
func (s *Store) WriteHeads(h Heads) error {
	// As long as this is locked the store is ours.
	s.journal.RLock()
	defer s.journal.RUnlock()
	if !s.journalUp {
		return ErrClosed
	}
	text, err := json.Marshal(headsFile{
		Format: headsName, Head: &h.Head, Finalized: &h.Finalized, Anchor: &h.Anchor,
		Process: os.Getpid(), Written: time.Now().UTC().Truncate(time.Millisecond),
	})
	if err != nil {
		return err
	}
	path := s.path(fileHeads)
	tmp := path + ".tmp"
	err = s.files.call("write", tmp, func() error { return os.WriteFile(tmp, append(text, '\n'), 0o644) })
	if err == nil {
		err = s.files.move(tmp, path, derived)
	}
	if err != nil {
		s.discard(tmp)
		s.discard(path)
		return fmt.Errorf("write head and finalized for other processes: %w", err)
	}
	return nil
}

// byNumber is what a reader can do without HEADS.
const byNumber = "name the block by its slot or hash"

// ReadHeads reads the HEADS of the store in a directory, whoever wrote it, and
// whenever. Error: ErrHeads.
func ReadHeads(dir string) (Heads, error) {
	path := filepath.Join(dir, fileHeads)
	text, err := readSmall(path, maxHeads)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return Heads{}, fmt.Errorf("%w: there is no %s: its owner has not written it yet, or could not; ask again, or %s", ErrHeads, path, byNumber)
	case err != nil:
		return Heads{}, fmt.Errorf("%w: %w; %s", ErrHeads, err, byNumber)
	}
	h, err := parseHeads(text)
	if err != nil {
		return h, fmt.Errorf("%w: %s: %w; its owner replaces it when the head moves; until then %s", ErrHeads, path, err, byNumber)
	}
	return h, nil
}

func parseHeads(text []byte) (Heads, error) {
	var f headsFile
	if err := json.Unmarshal(text, &f); err != nil {
		return Heads{}, err
	}
	switch {
	case f.Format != headsName:
		return Heads{}, fmt.Errorf("it says format %.40q, this program reads %q", f.Format, headsName)
	case f.Head == nil || f.Finalized == nil || f.Anchor == nil:
		return Heads{}, errors.New("it doesn't name head, finalized and anchor")
	case f.Anchor.Slot > f.Finalized.Slot || f.Finalized.Slot > f.Head.Slot:
		return Heads{}, fmt.Errorf("anchor, finalized and head have slots %d, %d and %d, which should not fall",
			f.Anchor.Slot, f.Finalized.Slot, f.Head.Slot)
	}
	return Heads{Head: *f.Head, Finalized: *f.Finalized, Anchor: *f.Anchor, Process: f.Process, Written: f.Written}, nil
}

// readSmall reads a file of so many bytes at most. It doesn't wait for anybody:
// where the name is not a regular file's, that is an error.
func readSmall(path string, most int64) ([]byte, error) {
	file, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a file", path)
	}
	text, err := io.ReadAll(io.LimitReader(file, most+1))
	if err != nil {
		return nil, err
	}
	if int64(len(text)) > most {
		return nil, fmt.Errorf("%s has more than %d bytes", path, most)
	}
	return text, nil
}

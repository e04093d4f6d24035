// Package items keeps items (preimages, bundles, segments) in a folder, one file each,
// named by their BLAKE2b-256 hash, within a budget of bytes: those used longest ago go
// first.
//
// Nothing here is the only copy of anything, so nothing is synced to the disk. What a
// crash leaves is harmless: an item is checked against its hash each time it is read,
// and a damaged one is removed, and is as if it had never been there. One Store owns
// its folder.
package items

import (
	"cmp"
	"container/list"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/blake2b"

	"accessor/forks"
)

var (
	// ErrAbsent: the item isn't here.
	ErrAbsent = errors.New("item is not kept here")
	// ErrHash: the item has another hash.
	ErrHash = errors.New("item has another hash")
	// ErrBudget: the item is larger than the whole budget.
	ErrBudget = errors.New("item is above the budget")
)

// Store is a folder of items. It is safe for concurrent use.
type Store struct {
	dir    string
	budget int64

	mu     sync.Mutex // guards the rest; never held while a file is read or written
	used   int64
	items  map[forks.Hash]*list.Element
	order  *list.List // of *entry, the one used last at the front
	serial int        // of temporary files
}

type entry struct {
	hash forks.Hash
	size int64
}

const temporary = ".tmp-"

// Open opens a folder, which is made where there is none, for items of at most budget
// bytes together. Files that aren't items are left alone, but for unfinished ones of
// its own.
func Open(dir string, budget int64) (*Store, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("open items: %w", err)
	}
	files, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("open items: %w", err)
	}
	type found struct {
		entry
		used time.Time
	}
	var all []found
	for _, file := range files {
		if strings.HasPrefix(file.Name(), temporary) {
			if err := os.Remove(filepath.Join(dir, file.Name())); err != nil {
				return nil, fmt.Errorf("open items: %w", err)
			}
			continue
		}
		hash, err := forks.ParseHash(file.Name())
		if err != nil || hash.String() != file.Name() || !file.Type().IsRegular() {
			continue
		}
		info, err := file.Info()
		if err != nil {
			return nil, fmt.Errorf("open items: %w", err)
		}
		all = append(all, found{entry{hash, info.Size()}, info.ModTime()})
	}
	slices.SortFunc(all, func(a, b found) int {
		return cmp.Or(a.used.Compare(b.used), a.hash.Compare(b.hash))
	})
	s := &Store{dir: dir, budget: budget, items: map[forks.Hash]*list.Element{}, order: list.New()}
	for i := range all {
		s.items[all[i].hash] = s.order.PushFront(&all[i].entry)
		s.used += all[i].size
	}
	return s, s.remove(s.overBudget())
}

func (s *Store) path(hash forks.Hash) string { return filepath.Join(s.dir, hash.String()) }

// Get gives an item. Errors: ErrAbsent; ErrHash where the file was damaged, which is
// then removed; and those of the file.
func (s *Store) Get(hash forks.Hash) ([]byte, error) {
	s.mu.Lock()
	e := s.items[hash]
	size := int64(0)
	if e != nil {
		s.order.MoveToFront(e)
		size = e.Value.(*entry).size
	}
	s.mu.Unlock()
	if e == nil {
		return nil, fmt.Errorf("item %s: %w", hash.Short(), ErrAbsent)
	}
	b, err := readAtMost(s.path(hash), size)
	switch {
	case errors.Is(err, fs.ErrNotExist): // removed meanwhile
		s.forget(hash, e)
		return nil, fmt.Errorf("item %s: %w", hash.Short(), ErrAbsent)
	case err != nil:
		return nil, fmt.Errorf("item %s: %w", hash.Short(), err)
	case forks.Hash(blake2b.Sum256(b)) != hash:
		if s.forget(hash, e) {
			err = os.Remove(s.path(hash))
		}
		return nil, errors.Join(fmt.Errorf("item %s: %w", hash.Short(), ErrHash), err)
	}
	// The order has to outlive a restart; if it doesn't, nothing is lost.
	now := time.Now()
	_ = os.Chtimes(s.path(hash), now, now)
	return b, nil
}

// readAtMost reads a file that should have that size: a byte more, if it is there,
// shows that it hasn't.
func readAtMost(path string, size int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, size+1))
}

// Put keeps an item, and lets others go where the budget asks for it. Errors: ErrHash,
// ErrBudget, and those of files.
func (s *Store) Put(hash forks.Hash, item []byte) error {
	if forks.Hash(blake2b.Sum256(item)) != hash {
		return fmt.Errorf("put item %s: %w", hash.Short(), ErrHash)
	}
	size := int64(len(item))
	if size > s.budget {
		return fmt.Errorf("put item %s: %w: %d bytes of %d", hash.Short(), ErrBudget, size, s.budget)
	}
	s.mu.Lock()
	if e := s.items[hash]; e != nil {
		s.order.MoveToFront(e)
		s.mu.Unlock()
		return nil
	}
	s.serial++
	temp := filepath.Join(s.dir, fmt.Sprintf("%s%s-%d", temporary, hash, s.serial))
	s.mu.Unlock()

	err := os.WriteFile(temp, item, 0o644)
	if err == nil {
		err = os.Rename(temp, s.path(hash))
	}
	if err != nil {
		return fmt.Errorf("put item %s: %w", hash.Short(), errors.Join(err, removeIfThere(temp)))
	}
	s.mu.Lock()
	if s.items[hash] == nil {
		s.items[hash] = s.order.PushFront(&entry{hash, size})
		s.used += size
	}
	s.mu.Unlock()
	return s.remove(s.overBudget())
}

// overBudget takes items off the list until the rest is within the budget.
func (s *Store) overBudget() (gone []forks.Hash) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.used > s.budget {
		e := s.order.Back()
		gone = append(gone, e.Value.(*entry).hash)
		s.dropLocked(e)
	}
	return gone
}

func (s *Store) dropLocked(e *list.Element) {
	old := s.order.Remove(e).(*entry)
	delete(s.items, old.hash)
	s.used -= old.size
}

// forget takes one off the list, unless it is another by now.
func (s *Store) forget(hash forks.Hash, e *list.Element) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.items[hash] != e {
		return false
	}
	s.dropLocked(e)
	return true
}

func (s *Store) remove(gone []forks.Hash) error {
	var all error
	for _, hash := range gone {
		all = errors.Join(all, removeIfThere(s.path(hash)))
	}
	if all != nil {
		return fmt.Errorf("remove items: %w", all)
	}
	return nil
}

func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Newest gives the hashes of items, those used last first, so many at most.
func (s *Store) Newest(most int) (all []forks.Hash) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for e := s.order.Front(); e != nil && len(all) < most; e = e.Next() {
		all = append(all, e.Value.(*entry).hash)
	}
	return all
}

// Usage is the number of items, and their bytes.
func (s *Store) Usage() (items int, bytes int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.items), s.used
}

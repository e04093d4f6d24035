// Package shards keeps erasure-coded shards of work packages in a folder, one file each,
// named by erasure root and index, within a budget of bytes.
//
// A shard that was put is a promise: others count on it. So it is checked against its
// erasure root and synced to the disk before Put returns, and none goes to make room for
// another until it has been kept for Options.Keep: then the oldest goes first. Where
// there is no room, Put says so.
//
// A file has no checksum beside that root: whenever it is read, every byte of it is
// checked to lead there. A damaged one is removed, and is as if it had never been there.
// In memory there is a list of what is kept, and no shard. One Store owns its folder.
package shards

import (
	"cmp"
	"container/list"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"accessor/da/justify"
	"accessor/forks"
)

var (
	// ErrAbsent: the shard isn't here.
	ErrAbsent = errors.New("shard is not kept here")
	// ErrDamaged: the shard's file was damaged. It has been removed.
	ErrDamaged = errors.New("shard's file was damaged")
	// ErrBudget: there is no room for the shard.
	ErrBudget = errors.New("no room for shards in their budget")
)

// Options of a store.
type Options struct {
	// Budget bounds the space of all shards, in bytes. A shard takes a multiple of 4 KiB.
	Budget int64
	// Keep is how long a shard is kept at least. 0: for ever.
	Keep time.Duration
}

// Stats say what is kept, and what has happened since the store was opened.
type Stats struct {
	Shards  int    // that are kept
	Bytes   int64  // that they take
	Refused uint64 // for which there was no room
	Damaged uint64 // that were removed: their files were damaged
	Aged    uint64 // that made room for others
}

// Store is a folder of shards. It is safe for concurrent use.
type Store struct {
	dir  string
	opts Options

	// mu guards the rest, and that a file has its name exactly while it is in held. It is
	// held while names are given and taken, never while a file is written, synced or read.
	mu       sync.Mutex
	held     map[key]*list.Element
	order    *list.List // of *entry, the oldest at the front
	reserved int64      // for shards that are being written
	serial   int        // of temporary files
	stats    Stats
}

type key struct {
	root  forks.Hash
	index uint16
}

func (k key) name() string { return k.root.String() + "-" + strconv.Itoa(int(k.index)) }

type entry struct {
	key
	size int64
	put  time.Time
}

// block is what the space of a file is a multiple of, about.
const block = 4096

func space(size int64) int64 { return (size + block - 1) / block * block }

const temporary = ".tmp-"

// Open opens a folder, which is made where there is none. Files that aren't shards are
// left alone, but for unfinished ones of its own.
func Open(dir string, opts Options) (*Store, error) {
	err := os.MkdirAll(dir, 0o700)
	if err == nil {
		err = syncFolder(filepath.Dir(dir)) // the folder may be new, and what it has isn't lost with it
	}
	if err != nil {
		return nil, fmt.Errorf("open shards: %w", err)
	}
	files, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("open shards: %w", err)
	}
	var all []*entry
	for _, file := range files {
		if strings.HasPrefix(file.Name(), temporary) {
			if err := os.Remove(filepath.Join(dir, file.Name())); err != nil {
				return nil, fmt.Errorf("open shards: %w", err)
			}
			continue
		}
		k, ok := parseName(file.Name())
		if !ok || !file.Type().IsRegular() {
			continue
		}
		info, err := file.Info()
		if err != nil {
			return nil, fmt.Errorf("open shards: %w", err)
		}
		all = append(all, &entry{k, info.Size(), info.ModTime()})
	}
	slices.SortFunc(all, func(a, b *entry) int {
		return cmp.Or(a.put.Compare(b.put), a.root.Compare(b.root), cmp.Compare(a.index, b.index))
	})
	s := &Store{dir: dir, opts: opts, held: map[key]*list.Element{}, order: list.New()}
	for _, e := range all {
		s.addLocked(e)
	}
	return s, nil
}

func parseName(name string) (k key, ok bool) {
	root, index, _ := strings.Cut(name, "-")
	hash, err := forks.ParseHash(root)
	n, e := strconv.ParseUint(index, 10, 16)
	k = key{hash, uint16(n)}
	return k, err == nil && e == nil && k.name() == name
}

func (s *Store) path(k key) string { return filepath.Join(s.dir, k.name()) }

func (s *Store) addLocked(e *entry) {
	s.held[e.key] = s.order.PushBack(e)
	s.stats.Shards++
	s.stats.Bytes += space(e.size)
}

func (s *Store) dropLocked(at *list.Element) {
	e := s.order.Remove(at).(*entry)
	delete(s.held, e.key)
	s.stats.Shards--
	s.stats.Bytes -= space(e.size)
}

// Newest gives the erasure roots of which shards are kept, those put last first, so many
// at most.
func (s *Store) Newest(most int) (all []forks.Hash) {
	s.mu.Lock()
	defer s.mu.Unlock()
	seen := map[forks.Hash]bool{}
	for e := s.order.Back(); e != nil && len(all) < most; e = e.Prev() {
		if root := e.Value.(*entry).root; !seen[root] {
			seen[root] = true
			all = append(all, root)
		}
	}
	return all
}

// Stats says what is kept.
func (s *Store) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stats
}

// Get gives a shard, the caller's, with the spec that it was checked by. Errors:
// ErrAbsent, ErrDamaged, and those of files.
func (s *Store) Get(root forks.Hash, index int) (Shard, justify.Spec, error) {
	k := key{root, uint16(index)}
	for {
		s.mu.Lock()
		at := s.held[k]
		s.mu.Unlock()
		if at == nil || index != int(k.index) {
			return Shard{}, justify.Spec{}, fmt.Errorf("shard %d of %s: %w", index, root.Short(), ErrAbsent)
		}
		b, err := readAtMost(s.path(k), min(at.Value.(*entry).size, int64(MaxFile)))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return Shard{}, justify.Spec{}, fmt.Errorf("shard %d of %s: %w", index, root.Short(), err)
		}
		if err == nil {
			sh, spec, e := decode(b, root, index)
			if e == nil {
				return sh, spec, nil
			}
			err = e
		}
		gone, e := s.damaged(k, at)
		if gone {
			return Shard{}, justify.Spec{}, errors.Join(fmt.Errorf("shard %d of %s: %w: %w", index, root.Short(), ErrDamaged, err), e)
		}
		// It was put again meanwhile: that file is another.
	}
}

// readAtMost reads a file that should have that size: a byte more, if it is there,
// shows that it hasn't.
func readAtMost(path string, size int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b := make([]byte, size+1)
	n, err := io.ReadFull(f, b)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, err
	}
	return b[:n], nil
}

// damaged removes one that was damaged, or is gone, unless it is another by now.
func (s *Store) damaged(k key, at *list.Element) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held[k] != at {
		return false, nil
	}
	s.stats.Damaged++
	s.dropLocked(at)
	return true, removeIfThere(s.path(k))
}

func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// writing is a shard on its way to its file.
type writing struct {
	entry
	shard *Shard
	temp  string
}

// Put keeps shards of one work package, by their indices. One that is kept already is
// written anew. Errors: those of justify.Spec.CheckShards and ErrBudget, and then none is
// kept; those of files, and then some may be.
func (s *Store) Put(spec justify.Spec, all map[int]Shard) error {
	now := time.Now()
	var todo []*writing
	for _, index := range slices.Sorted(maps.Keys(all)) {
		sh := all[index]
		if err := check(spec, index, sh); err != nil {
			return fmt.Errorf("put shards: %w", err)
		}
		todo = append(todo, &writing{entry: entry{key{spec.Root, uint16(index)}, int64(sh.Size()), now}, shard: &sh})
	}
	reserved, err := s.reserve(todo)
	if err != nil {
		return fmt.Errorf("put shards: %w", err)
	}
	for batch := range slices.Chunk(todo, filesAtOnce) {
		if err = write(spec.Shards, batch); err != nil {
			break
		}
	}
	if err = errors.Join(err, s.publish(todo, reserved, err == nil)); err != nil {
		return fmt.Errorf("put shards: %w", err)
	}
	return nil
}

// reserve takes the space of shards, for which aged ones go if that is enough, and names
// their files.
func (s *Store) reserve(todo []*writing) (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var need int64
	again := map[*list.Element]bool{} // they keep their space
	for _, w := range todo {
		if at := s.held[w.key]; at != nil && at.Value.(*entry).size == w.size {
			again[at] = true
		} else {
			need += space(w.size)
		}
	}
	free := s.opts.Budget - s.stats.Bytes - s.reserved
	var aged []*list.Element
	for at := s.order.Front(); at != nil && need > free && s.isAged(at); at = at.Next() {
		if !again[at] {
			aged = append(aged, at)
			free += space(at.Value.(*entry).size)
		}
	}
	if need > free {
		s.stats.Refused += uint64(len(todo))
		return 0, fmt.Errorf("%w: %d bytes, %d of %d are taken", ErrBudget, need, s.stats.Bytes+s.reserved, s.opts.Budget)
	}
	for _, at := range aged {
		if err := removeIfThere(s.path(at.Value.(*entry).key)); err != nil {
			return 0, err
		}
		s.dropLocked(at)
		s.stats.Aged++
	}
	for at := range again { // else others could take their space meanwhile
		at.Value.(*entry).put = todo[0].put
		s.order.MoveToBack(at)
	}
	s.reserved += need
	for _, w := range todo {
		s.serial++
		w.temp = filepath.Join(s.dir, temporary+strconv.Itoa(s.serial))
	}
	return need, nil
}

func (s *Store) isAged(at *list.Element) bool {
	return s.opts.Keep > 0 && time.Since(at.Value.(*entry).put) > s.opts.Keep
}

// filesAtOnce is how many files are written before they are synced: the file system
// then writes its journal once for most of them.
const filesAtOnce = 64

// write writes files under their temporary names, and syncs them.
func write(shards int, todo []*writing) (err error) {
	var files []*os.File
	defer func() {
		for _, f := range files {
			err = errors.Join(err, f.Close())
		}
	}()
	for _, w := range todo {
		f, err := os.OpenFile(w.temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return err
		}
		files = append(files, f)
		if _, err := f.Write(encode(shards, int(w.index), w.shard)); err != nil {
			return err
		}
		if err := os.Chtimes(w.temp, w.put, w.put); err != nil { // the age outlives a restart
			return err
		}
	}
	for _, f := range files {
		if err := f.Sync(); err != nil {
			return err
		}
	}
	return nil
}

// publish gives the files their names, and syncs those; or, where they aren't whole,
// removes them.
func (s *Store) publish(todo []*writing, reserved int64, whole bool) error {
	err := s.rename(todo, reserved, whole)
	if !whole || err != nil {
		for _, w := range todo {
			err = errors.Join(err, removeIfThere(w.temp))
		}
		return err
	}
	return syncFolder(s.dir)
}

func syncFolder(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

func (s *Store) rename(todo []*writing, reserved int64, whole bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reserved -= reserved
	if !whole {
		return nil
	}
	for _, w := range todo {
		if err := os.Rename(w.temp, s.path(w.key)); err != nil {
			return err
		}
		if at := s.held[w.key]; at != nil {
			s.dropLocked(at)
		}
		s.addLocked(&entry{w.key, w.size, w.put})
	}
	return nil
}

package items_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/blake2b"

	"accessor/da/items"
	"accessor/forks"
)

func item(i int) (forks.Hash, []byte) {
	b := bytes.Repeat([]byte{byte(i)}, 100)
	return blake2b.Sum256(b), b
}

func open(t *testing.T, dir string, budget int64) *items.Store {
	t.Helper()
	s, err := items.Open(dir, budget)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// expect says which of items 0, 1… are there.
func expect(t *testing.T, s *items.Store, want ...bool) {
	t.Helper()
	used := 0
	for i, there := range want {
		hash, b := item(i)
		got, err := s.Get(hash)
		if there && (err != nil || !bytes.Equal(got, b)) || !there && !errors.Is(err, items.ErrAbsent) {
			t.Errorf("item %d: %v", i, err)
		}
		if there {
			used++
		}
	}
	if n, size := s.Usage(); n != used || size != int64(100*used) {
		t.Errorf("%d items of %d bytes, want %d", n, size, used)
	}
}

func put(t *testing.T, s *items.Store, numbers ...int) {
	t.Helper()
	for _, i := range numbers {
		if err := s.Put(item(i)); err != nil {
			t.Fatal(err)
		}
	}
}

// Those used longest ago go first, over restarts too.
func TestBudget(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, 350)
	put(t, s, 0, 1, 2, 1)
	expect(t, s, true, true, true)
	hash, _ := item(0)
	if _, err := s.Get(hash); err != nil { // now 1 was used longest ago
		t.Fatal(err)
	}
	put(t, s, 3)
	expect(t, s, true, false, true, true)
	for i, at := range []time.Duration{3, 0, 1, 2} { // 2 is the oldest, 0 the newest
		hash, _ := item(i)
		when := time.Now().Add(at * time.Hour)
		if err := os.Chtimes(filepath.Join(dir, hash.String()), when, when); err != nil && i != 1 {
			t.Fatal(err)
		}
	}
	s = open(t, dir, 250)
	expect(t, s, true, false, false, true)
	if files, err := os.ReadDir(dir); err != nil || len(files) != 2 {
		t.Errorf("%d files, %v", len(files), err)
	}
	b := make([]byte, 251)
	if err := s.Put(blake2b.Sum256(b), b); !errors.Is(err, items.ErrBudget) {
		t.Errorf("an item above the budget: %v", err)
	}
	expect(t, s, true, false, false, true)
}

// Using an item keeps it, over a restart too.
func TestUseOutlivesRestart(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, 300)
	put(t, s, 0, 1, 2)
	long := time.Now().Add(-time.Hour)
	for i := range 3 {
		hash, _ := item(i)
		if err := os.Chtimes(filepath.Join(dir, hash.String()), long, long.Add(time.Duration(i))); err != nil {
			t.Fatal(err)
		}
	}
	hash, _ := item(0)
	if _, err := s.Get(hash); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir, 300)
	put(t, s, 3)
	expect(t, s, true, false, true, true)
}

func TestWrongHash(t *testing.T) {
	s := open(t, t.TempDir(), 1000)
	hash, b := item(1)
	if err := s.Put(hash, b[1:]); !errors.Is(err, items.ErrHash) {
		t.Errorf("got %v", err)
	}
	expect(t, s, false, false)
}

// Whatever happens to the files, what is given is right, and what isn't goes.
func TestDamage(t *testing.T) {
	for name, damage := range map[string]func(path string) error{
		"changed": func(path string) error { return os.WriteFile(path, bytes.Repeat([]byte{9}, 100), 0o644) },
		"emptied": func(path string) error { return os.Truncate(path, 0) },
		"cut":     func(path string) error { return os.Truncate(path, 50) },
		"longer": func(path string) error {
			_, b := item(1)
			return os.WriteFile(path, append(b, 1), 0o644)
		},
	} {
		for _, restart := range []bool{false, true} {
			t.Run(fmt.Sprint(name, restart), func(t *testing.T) {
				dir := t.TempDir()
				s := open(t, dir, 1000)
				put(t, s, 0, 1)
				hash, b := item(1)
				path := filepath.Join(dir, hash.String())
				if err := damage(path); err != nil {
					t.Fatal(err)
				}
				if restart {
					s = open(t, dir, 1000)
				}
				if _, err := s.Get(hash); !errors.Is(err, items.ErrHash) {
					t.Errorf("got %v", err)
				}
				expect(t, s, true, false)
				if _, err := os.Stat(path); !os.IsNotExist(err) {
					t.Error("the file is still there")
				}
				if err := s.Put(hash, b); err != nil {
					t.Error(err)
				}
				expect(t, s, true, true)
			})
		}
	}
	dir := t.TempDir()
	s := open(t, dir, 1000)
	put(t, s, 0)
	hash, _ := item(0)
	if err := os.Remove(filepath.Join(dir, hash.String())); err != nil {
		t.Fatal(err)
	}
	expect(t, s, false)
}

// A crash leaves unfinished files at most; files of others are left alone.
func TestOpenCleansUp(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, 1000)
	put(t, s, 0)
	for _, name := range []string{".tmp-abc-1", "notes.txt", "ABCD"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("x"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	s = open(t, dir, 1000)
	expect(t, s, true)
	if _, err := os.Stat(filepath.Join(dir, ".tmp-abc-1")); !os.IsNotExist(err) {
		t.Error("an unfinished file is still there")
	}
	if _, err := os.Stat(filepath.Join(dir, "notes.txt")); err != nil {
		t.Error(err)
	}
}

// A write that fails leaves nothing behind.
func TestFailedWrite(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "items")
	s := open(t, dir, 1000)
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := s.Put(item(0)); err == nil {
		t.Error("written into no folder")
	}
	expect(t, s, false)
}

func TestConcurrentUse(t *testing.T) {
	s := open(t, t.TempDir(), 500)
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 200 {
				hash, b := item((i*7 + g) % 10)
				if err := s.Put(hash, b); err != nil {
					t.Error(err)
				}
				if got, err := s.Get(hash); err == nil && !bytes.Equal(got, b) || err != nil && !errors.Is(err, items.ErrAbsent) {
					t.Errorf("got %v", err)
				}
			}
		})
	}
	wg.Wait()
	if n, size := s.Usage(); n > 5 || size > 500 {
		t.Errorf("%d items of %d bytes", n, size)
	}
}

// The newest are those used last.
func TestNewest(t *testing.T) {
	s := open(t, t.TempDir(), 1000)
	put(t, s, 0, 1, 2, 0)
	zero, _ := item(0)
	two, _ := item(2)
	if got := s.Newest(2); len(got) != 2 || got[0] != zero || got[1] != two {
		t.Errorf("%x", got)
	}
	if got := s.Newest(10); len(got) != 3 {
		t.Errorf("%d items", len(got))
	}
}

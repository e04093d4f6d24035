package rocks

import (
	"path/filepath"
	"sync"
	"testing"

	"accessor/checkpoint"
)

// TestUsage: databases count while they are open; measuring them while they are closed
// harms nobody.
func TestUsage(t *testing.T) {
	e := New(Options{BlockCache: 8 << 20})
	defer e.Close()
	dir := t.TempDir()
	if u := e.Usage(); u.Databases != 0 || u.CacheCapacity != 8<<20 || u.TableReaders != 0 {
		t.Errorf("%+v before anything is open", u)
	}
	table := filepath.Join(dir, "1.sst")
	w, err := e.CreateTable(table)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Put([]byte("key"), make([]byte, 10_000)); err != nil {
		t.Fatal(err)
	}
	if err := w.Finish(); err != nil {
		t.Fatal(err)
	}
	d, err := e.OpenWorking(filepath.Join(dir, "db"))
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Ingest([]string{table}); err != nil {
		t.Fatal(err)
	}
	if _, found, err := d.Get(nil, []byte("key")); !found || err != nil {
		t.Fatal(found, err)
	}
	if u := e.Usage(); u.Databases != 1 || u.TableReaders <= 0 || u.CacheBytes < 10_000 || u.CacheBytes > u.CacheCapacity {
		t.Errorf("%+v, want one database, its table, and a block in the cache", u)
	}
	var measuring sync.WaitGroup
	for range 4 {
		measuring.Go(func() {
			for range 200 {
				e.Usage()
			}
		})
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	measuring.Wait()
	if u := e.Usage(); u.Databases != 0 {
		t.Errorf("%+v after all is closed", u)
	}
	j, err := e.OpenJournal(filepath.Join(dir, "journal"))
	if err != nil {
		t.Fatal(err)
	}
	if u := e.Usage(); u.Databases != 0 {
		t.Errorf("%+v: a journal counts", u)
	}
	if err := j.Close(); err != nil {
		t.Error(err)
	}
	e.Close()
	if u := e.Usage(); u != (checkpoint.Usage{}) {
		t.Errorf("%+v of a closed engine", u)
	}
}

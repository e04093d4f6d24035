package rocks

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"accessor/checkpoint"
)

func newEngine(t *testing.T) *Engine {
	t.Helper()
	e := New(Options{})
	t.Cleanup(e.Close)
	return e
}

func TestSelfTest(t *testing.T) {
	dir := t.TempDir()
	if err := newEngine(t).SelfTest(dir); err != nil {
		t.Fatal(err)
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("the self-test left %v behind", left)
	}
}

// A RocksDB that writes into the tables that it ingests, as it does by default,
// must not get past the self-test.
func TestSelfTestFindsAnEngineThatWritesIntoTables(t *testing.T) {
	e := newEngine(t)
	err := e.selfTest(t.TempDir(), func(dir string) (checkpoint.WorkingDB, error) {
		w, err := e.OpenWorking(dir)
		if err == nil {
			db := w.(*workingDB)
			db.ingest.Destroy()
			db.ingest = newIngestOptions(true)
		}
		return w, err
	})
	if err == nil {
		t.Fatal("the self-test passes an engine that writes into ingested tables")
	}
	t.Log(err)
}

// TestSharedTablesNeverChange ingests a table into several databases over
// overlapping data, makes checkpoints, opens those, and ingests into a clone.
func TestSharedTablesNeverChange(t *testing.T) {
	e, dir := newEngine(t), t.TempDir()
	path := func(format string, args ...any) string { return filepath.Join(dir, fmt.Sprintf(format, args...)) }
	for i := range 3 {
		if err := e.writeTable(path("table-%d", i), "key", fmt.Sprint(i)); err != nil {
			t.Fatal(err)
		}
	}
	sums := func() (all [3][sha256.Size]byte) {
		t.Helper()
		for i := range all {
			s, err := sum(path("table-%d", i))
			if err != nil {
				t.Fatal(err)
			}
			all[i] = s
		}
		return all
	}
	before := sums()
	for n := range 3 {
		w, err := e.OpenWorking(path("db-%d", n))
		if err != nil {
			t.Fatal(err)
		}
		var links []string
		for i := range 3 {
			links = append(links, path("link-%d.sst", i))
			if err := os.Link(path("table-%d", i), links[i]); err != nil {
				t.Fatal(err)
			}
		}
		// One call: the last one is the newest, though all have the same key.
		if err := w.Ingest(links); err != nil {
			t.Fatal(err)
		}
		if err := w.Checkpoint(path("checkpoint-%d", n)); err != nil {
			t.Fatal(err)
		}
		r, err := e.OpenReadOnly(path("checkpoint-%d", n))
		if err != nil {
			t.Fatal(err)
		}
		if v, ok, err := r.Get(nil, []byte("key")); err != nil || !ok || string(v) != "2" {
			t.Errorf("read %q, %v, %v; want the newest table's value", v, ok, err)
		}
		r.Close()
		w.Close()
	}
	if sums() != before {
		t.Error("a table was written to")
	}
}

// Opening a sealed directory for reading changes nothing in it and works while
// somebody has it open for writing.
func TestReadOnlyOpenChangesNothing(t *testing.T) {
	e, dir := newEngine(t), t.TempDir()
	if err := e.writeTable(filepath.Join(dir, "t.sst"), "key", "value"); err != nil {
		t.Fatal(err)
	}
	w, err := e.OpenWorking(filepath.Join(dir, "db"))
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if err := w.Ingest([]string{filepath.Join(dir, "t.sst")}); err != nil {
		t.Fatal(err)
	}
	sealed := filepath.Join(dir, "sealed")
	if err := w.Checkpoint(sealed); err != nil {
		t.Fatal(err)
	}
	list := func(dir string) string {
		names, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprint(names)
	}
	before := list(sealed)
	for _, d := range []string{sealed, filepath.Join(dir, "db")} {
		r, err := e.OpenReadOnly(d)
		if err != nil {
			t.Fatal(err)
		}
		if v, ok, err := r.Get(nil, []byte("key")); err != nil || !ok || string(v) != "value" {
			t.Errorf("read %q, %v, %v", v, ok, err)
		}
		r.Close()
	}
	if after := list(sealed); after != before {
		t.Errorf("files were %s, are %s", before, after)
	}
	if _, err := e.OpenWorking(filepath.Join(dir, "db")); !errors.Is(err, checkpoint.ErrLocked) {
		t.Errorf("second open for writing: %v, want ErrLocked", err)
	}
}

func TestReads(t *testing.T) {
	e, dir := newEngine(t), t.TempDir()
	tw, err := e.CreateTable(filepath.Join(dir, "t.sst"))
	if err != nil {
		t.Fatal(err)
	}
	// Values around and above the size of a batch.
	big := make([]byte, 3*batchSize)
	const count = 2_000
	for i := range count {
		if err := tw.Put(fmt.Appendf(nil, "%06d", i), big[:i*7%(2*batchSize)]); err != nil {
			t.Fatal(err)
		}
	}
	if err := tw.Put([]byte("z"), big); err != nil {
		t.Fatal(err)
	}
	if err := tw.Finish(); err != nil {
		t.Fatal(err)
	}
	w, err := e.OpenWorking(filepath.Join(dir, "db"))
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if err := w.Ingest([]string{filepath.Join(dir, "t.sst")}); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		from, to string
		want     int
	}{
		{"", "", count + 1}, {"000100", "000200", 100}, {"000100", "000100", 0}, {"z", "", 1}, {"zz", "", 0}, {"", "000001", 1}, {"001999", "z", 1},
	} {
		it := w.Scan([]byte(tc.from), []byte(tc.to), false)
		n := 0
		for it.Next() {
			n++
			if string(it.Key()) < tc.from || tc.to != "" && string(it.Key()) >= tc.to {
				t.Errorf("scan [%q, %q) yields %q", tc.from, tc.to, it.Key())
			}
			if i := 0; string(it.Key()) != "z" {
				fmt.Sscanf(string(it.Key()), "%d", &i)
				if len(it.Value()) != i*7%(2*batchSize) {
					t.Fatalf("value of %q has %d bytes", it.Key(), len(it.Value()))
				}
			}
		}
		if err := it.Close(); err != nil || n != tc.want {
			t.Errorf("scan [%q, %q): %d entries, %v; want %d", tc.from, tc.to, n, err, tc.want)
		}
		back, last := w.ScanBack([]byte(tc.from), []byte(tc.to)), "\xff"
		for n = 0; back.Next(); n++ {
			key := string(back.Key())
			if key < tc.from || tc.to != "" && key >= tc.to || key >= last {
				t.Errorf("scan [%q, %q) back yields %q after %q", tc.from, tc.to, key, last)
			}
			last = key
		}
		if err := back.Close(); err != nil || n != tc.want {
			t.Errorf("scan [%q, %q) back: %d entries, %v; want %d", tc.from, tc.to, n, err, tc.want)
		}
	}
	var keys [][]byte
	for i := range count {
		keys = append(keys, fmt.Appendf(nil, "%06d", i), fmt.Appendf(nil, "%06d absent", i))
	}
	values, err := w.GetMany(keys)
	if err != nil || len(values) != len(keys) {
		t.Fatalf("%d values of %d keys, %v", len(values), len(keys), err)
	}
	for i := range count {
		want := big[:i*7%(2*batchSize)]
		if values[2*i] == nil || !bytes.Equal(values[2*i], want) || values[2*i+1] != nil {
			t.Fatalf("values of %q and an absent key: %d bytes, %d bytes", keys[2*i], len(values[2*i]), len(values[2*i+1]))
		}
		for _, dst := range [][]byte{nil, []byte("before"), make([]byte, 0, 100_000)} {
			got, found, err := w.Get(dst, keys[2*i])
			if err != nil || !found || !bytes.Equal(got, append(bytes.Clone(dst), want...)) {
				t.Fatalf("get %q after %d bytes: %d bytes, %t, %v", keys[2*i], len(dst), len(got), found, err)
			}
			if got, found, err = w.Get(dst, keys[2*i+1]); err != nil || found || !bytes.Equal(got, dst) {
				t.Fatalf("get an absent key: %d bytes, %t, %v", len(got), found, err)
			}
		}
	}
	early := w.Scan(nil, nil, false)
	early.Next()
	if err := early.Close(); err != nil {
		t.Error(err)
	}
}

func TestTables(t *testing.T) {
	e, dir := newEngine(t), t.TempDir()
	tw, err := e.CreateTable(filepath.Join(dir, "unsorted.sst"))
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range []string{"b", "a"} {
		if err := tw.Put([]byte(k), nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := tw.Finish(); err == nil {
		t.Error("a table of unsorted keys was finished")
	}
	path := filepath.Join(dir, "t.sst")
	if err := e.writeTable(path, "key", "some value that takes a place in the middle of the file"); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	verify := func() error {
		table, err := e.OpenTable(path)
		if err != nil {
			return err
		}
		defer table.Close()
		return table.Verify()
	}
	if err := verify(); err != nil {
		t.Fatal(err)
	}
	for _, at := range []int{10, len(whole) - 1} { // a data block; the magic number
		spoilt := append([]byte(nil), whole...)
		spoilt[at] ^= 1
		if err := os.WriteFile(path, spoilt, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := verify(); !errors.Is(err, checkpoint.ErrDamaged) {
			t.Errorf("byte %d of %d changed: %v, want ErrDamaged", at, len(whole), err)
		}
	}
	if err := os.WriteFile(path, whole[:len(whole)/2], 0o644); err != nil {
		t.Fatal(err)
	}
	if err := verify(); !errors.Is(err, checkpoint.ErrDamaged) {
		t.Errorf("cut in half: %v, want ErrDamaged", err)
	}
	if _, err := e.OpenTable(filepath.Join(dir, "none.sst")); err == nil {
		t.Error("a missing table was opened")
	}
}

func TestJournal(t *testing.T) {
	e, dir := newEngine(t), filepath.Join(t.TempDir(), "blocks")
	open := func() checkpoint.Journal {
		j, err := e.OpenJournal(dir)
		if err != nil {
			t.Fatal(err)
		}
		return j
	}
	j := open()
	change := func(k, v string) checkpoint.Change { return checkpoint.Change{Key: []byte(k), Value: []byte(v)} }
	if err := j.Write([]checkpoint.Change{change("a1", "x"), change("a2", "y"), change("b1", "z"), change("\xff\xff", "end")}, true); err != nil {
		t.Fatal(err)
	}
	if err := j.Write([]checkpoint.Change{{Key: []byte("a1")}, change("a3", "")}, false); err != nil {
		t.Fatal(err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	j = open()
	defer j.Close()
	for prefix, want := range map[string]string{"a": "a2=y a3= ", "b": "b1=z ", "c": "", "\xff": "\xff\xff=end "} {
		got := ""
		for k, v := range j.Scan([]byte(prefix)) {
			got += string(k) + "=" + string(v) + " "
		}
		if got != want || j.Err() != nil {
			t.Errorf("prefix %q: %q, %v; want %q", prefix, got, j.Err(), want)
		}
	}
}

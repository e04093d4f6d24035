package trace

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"accessor/forks"
	"accessor/state"
)

func TestCreate(t *testing.T) {
	want, err := readBytes(generated(t, small), Options{})
	if err != nil {
		t.Fatal(err)
	}
	for name, magic := range map[string]string{"a.jsonl": "{", "a.jsonl.zst": "\x28\xb5\x2f\xfd", "a.jsonl.gz": "\x1f\x8b"} {
		dir := t.TempDir()
		path := filepath.Join(dir, name)
		w, err := Create(path)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s has its name before it is whole: %v", name, err)
		}
		writeEntries(t, w, want)
		b, err := os.ReadFile(path)
		if err != nil || !strings.HasPrefix(string(b), magic) {
			t.Fatalf("%s begins with %x, %v", name, b[:min(4, len(b))], err)
		}
		if got := readAll(t, open(t, path)); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: not what was written", name)
		}
		if err := w.Close(); err != nil {
			t.Errorf("second close: %v", err)
		}
		w.Abort() // too late to take anything back
		if _, err := Create(path); !errors.Is(err, fs.ErrExist) {
			t.Errorf("create over %s: %v", name, err)
		}
		wantFiles(t, dir, name)
	}
}

func wantFiles(t *testing.T, dir string, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("files %v, want %v", got, want)
	}
}

func TestUnfinishedFilesAreRemoved(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"a.jsonl", "a.jsonl.zst", "a.jsonl.gz"} {
		w, err := Create(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Header(&Header{}); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); !errors.Is(err, ErrOrder) {
			t.Errorf("close without an anchor: %v", err)
		}
		wantFiles(t, dir)
		w, err = Create(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if err := Generate(w, small, nil); err != nil {
			t.Fatal(err)
		}
		w.Abort()
		w.Abort()
		wantFiles(t, dir)
		if err := w.Close(); !errors.Is(err, ErrOrder) {
			t.Errorf("close after abort: %v", err)
		}
		if err := w.Block(&Block{}); err == nil {
			t.Error("block after abort is taken")
		}
	}
	if _, err := Create(filepath.Join(dir, "none", "a.jsonl")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("create in a missing folder: %v", err)
	}
	if _, err := Create(dir); err == nil {
		t.Error("create over a folder is taken")
	}
}

func TestWriterKeepsOrder(t *testing.T) {
	var buf bytes.Buffer
	w := NewWriter(&buf)
	wantOrder := func(what string, err error) {
		t.Helper()
		if !errors.Is(err, ErrOrder) {
			t.Errorf("%s: %v, want ErrOrder", what, err)
		}
	}
	wantOrder("anchor first", w.Anchor(&Anchor{}))
	if err := w.Header(&Header{Name: "odd \"name\"\n", Note: "ä", Source: json.RawMessage("{\n}")}); err != nil {
		t.Fatal(err)
	}
	wantOrder("second header", w.Header(&Header{}))
	wantOrder("block before the anchor", w.Block(&Block{}))
	if err := w.Anchor(&Anchor{Hash: forks.Hash{1}, Pairs: []state.Pair{{Key: []byte{1}}}}); err != nil {
		t.Fatal(err)
	}
	wantOrder("second anchor", w.Anchor(&Anchor{}))
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	wantOrder("block after the end", w.Block(&Block{}))
	entries, err := readBytes(buf.Bytes(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	if h := entries[0].(*Header); h.Name != "odd \"name\"\n" || h.Note != "ä" || string(h.Source) != "{}" {
		t.Errorf("header %+v", h)
	}
	// The anchor is the only leaf of a tree without blocks.
	if e := entries[2].(*End); e.Blocks != 0 || len(e.Leaves) != 1 || e.Leaves[0] != (forks.Hash{1}) {
		t.Errorf("end %+v", e)
	}
}

func TestWriterRefusesWhatReadersWould(t *testing.T) {
	before := DefaultOptions
	defer func() { DefaultOptions = before }()
	DefaultOptions.LineLimit = 1000
	w := NewWriter(&bytes.Buffer{})
	err := Generate(w, small, nil)
	if !errors.Is(err, ErrTooLong) {
		t.Fatalf("long line: %v", err)
	}
	if again := w.Close(); again != err {
		t.Errorf("close: %v, want the first error", again)
	}
	bad := NewWriter(&bytes.Buffer{})
	if err := bad.Header(&Header{Source: json.RawMessage("{")}); err == nil {
		t.Error("source that is no JSON is taken")
	}
}

// fullDisk takes so many bytes and no more.
type fullDisk struct{ left int }

var errFull = errors.New("disk is full")

func (f *fullDisk) Write(p []byte) (int, error) {
	if len(p) > f.left {
		n := f.left
		f.left = 0
		return n, errFull
	}
	f.left -= len(p)
	return len(p), nil
}

func TestWriteErrors(t *testing.T) {
	opts := small
	opts.Keys = 3000 // more than fits into the buffer
	size := len(generated(t, opts))
	for _, n := range []int{0, size / 2, size - 1} {
		w := NewWriter(&fullDisk{left: n})
		err := Generate(w, opts, nil)
		if closeErr := w.Close(); !errors.Is(closeErr, errFull) || err != nil && !errors.Is(err, errFull) {
			t.Errorf("disk of %d bytes: %v, %v", n, err, closeErr)
		}
	}
	w := NewWriter(&fullDisk{left: size})
	if err := errors.Join(Generate(w, opts, nil), w.Close()); err != nil {
		t.Errorf("disk just large enough: %v", err)
	}
}

package rocks

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/linxGnu/grocksdb"

	"accessor/checkpoint"
	"accessor/forks"
)

// pinReader is the name under which this binary is the process to which a pinned
// directory was handed out: it opens DIR read-only with a RocksDB of its own, prints
// the block that it is at, and then for each line on standard input, a state key in
// hex, what the database has of it.
const pinReader = "pin-reader"

func TestMain(m *testing.M) {
	if os.Args[0] == pinReader {
		if err := readPinned(os.Args[1], os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// readPinned uses grocksdb alone, as somebody else's program does: docs/FORMAT.md.
func readPinned(dir string, in io.Reader, out io.Writer) error {
	opts := grocksdb.NewDefaultOptions()
	defer opts.Destroy()
	opts.SetMaxOpenFiles(-1)
	db, err := grocksdb.OpenDbForReadOnly(opts, dir, false)
	if err != nil {
		return err
	}
	defer db.Close()
	read := grocksdb.NewDefaultReadOptions()
	defer read.Destroy()
	record, err := db.GetBytes(read, []byte{0})
	if err != nil || len(record) < 3+forks.HashSize || record[0] != 0 {
		return fmt.Errorf("record %x, %w", record, err)
	}
	fmt.Fprintf(out, "%x\n", record[3:3+forks.HashSize])
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		var key []byte
		if _, err := fmt.Sscanf(lines.Text(), "%x", &key); err != nil {
			return err
		}
		stored, err := db.GetBytes(read, append([]byte{1}, key...))
		switch {
		case err != nil:
			return err
		case stored == nil, stored[0] == 1:
			fmt.Fprintln(out, "absent")
		default:
			fmt.Fprintf(out, "%s\n", stored[1:])
		}
	}
	return lines.Err()
}

// reader is a running pin-reader.
type reader struct {
	t   *testing.T
	in  io.WriteCloser
	out *bufio.Scanner
	cmd *exec.Cmd
}

func startReader(t *testing.T, dir string) *reader {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	r := &reader{t: t, cmd: &exec.Cmd{Path: exe, Args: []string{pinReader, dir}, Stderr: os.Stderr, Env: os.Environ()}}
	out, err := r.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if r.in, err = r.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	r.out = bufio.NewScanner(out)
	t.Cleanup(func() {
		r.in.Close()
		if err := r.cmd.Wait(); err != nil {
			t.Errorf("reader: %v", err)
		}
	})
	return r
}

func (r *reader) line() string {
	r.t.Helper()
	if !r.out.Scan() {
		r.t.Fatalf("the reader ended: %v", r.out.Err())
	}
	return r.out.Text()
}

func (r *reader) want(key, want string) {
	r.t.Helper()
	fmt.Fprintf(r.in, "%x\n", key)
	if got := r.line(); got != want {
		r.t.Errorf("key %q is %q in the other process, want %q", key, got, want)
	}
}

// Another process opens a pinned directory with a RocksDB of its own, and goes on
// reading while blocks are imported, after the block was pruned, and after the pin has
// gone; whoever comes then finds no directory.
func TestPinnedDirectoryInASecondProcess(t *testing.T) {
	engine, dir := newEngine(t), t.TempDir()
	at := func(n int) forks.Block {
		b := forks.Block{Hash: forks.Hash{byte(n)}, Slot: forks.Slot(n)}
		if n > 0 {
			b.Parent = forks.Hash{byte(n - 1)}
		}
		return b
	}
	s, err := checkpoint.Create(dir, engine, "none", checkpoint.Record{Block: at(0)}, func(yield func(checkpoint.Pair, error) bool) {
		_ = yield(checkpoint.Pair{Key: []byte("gone"), Value: []byte("soon")}, nil) &&
			yield(checkpoint.Pair{Key: []byte("old"), Value: []byte("0")}, nil)
	}, nil, checkpoint.Options{RunLength: 2, ImageEvery: 4, MaxTables: 4})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	grow := func(n int) {
		t.Helper()
		ws, err := checkpoint.NewWriteSet([]checkpoint.Pair{
			{Key: []byte("new"), Value: fmt.Append(nil, n)}, {Key: fmt.Append(nil, "by ", n), Value: bytes.Repeat([]byte{'x'}, 3000)},
		}, [][]byte{[]byte("gone")}, s.Limits())
		if err != nil {
			t.Fatal(err)
		}
		rec := &checkpoint.Record{Block: at(n)}
		w, err := s.Take(rec.Parent)
		if err == nil && w == nil {
			w, err = s.Clone(rec.Parent)
		}
		for _, step := range []func() error{
			func() error { return err },
			func() error { return s.WriteDelta(rec, ws, nil) },
			func() error { return s.Record(rec) },
			func() error { return w.Advance(rec.Hash) },
			func() error { return s.Seal(w) },
		} {
			if err := step(); err != nil {
				t.Fatal(err)
			}
		}
		s.Park(w)
	}
	for n := range 5 {
		grow(n + 1)
	}
	if err := s.PinCheckpoint(at(3).Hash, "sealed", checkpoint.PinAccess{}); err != nil {
		t.Fatal(err)
	}
	w, err := s.Clone(at(4).Hash)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.PinWorking(w, "worked", checkpoint.PinAccess{}); err != nil {
		t.Fatal(err)
	}
	w.Drop()
	readers := map[int]*reader{3: startReader(t, s.PinnedPath("sealed")), 4: startReader(t, s.PinnedPath("worked"))}
	for n, r := range readers {
		if got := r.line(); got != at(n).Hash.String() {
			t.Errorf("the other process is at block %s, want %d", got, n)
		}
	}
	check := func() {
		t.Helper()
		for n, r := range readers {
			r.want("old", "0")
			r.want("new", fmt.Sprint(n))
			r.want("gone", "absent")
			r.want("by 2", strings.Repeat("x", 3000))
			r.want(fmt.Sprint("by ", n+1), "absent")
		}
	}
	check()
	for n := 6; n < 14; n++ {
		grow(n)
	}
	if _, err := s.Prune(context.Background(), at(10).Hash, func() error { return nil }); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Get(at(3).Hash); !errors.Is(err, checkpoint.ErrUnknown) {
		t.Fatalf("block 3: %v, want it pruned", err)
	}
	check()
	late := startReader(t, s.PinnedPath("sealed")) // the directory outlives its block
	_ = late.line()
	late.want("new", "3")
	for _, name := range []string{"sealed", "worked"} {
		if err := s.DropPinned(name); err != nil {
			t.Fatal(err)
		}
		if err := readPinned(s.PinnedPath(name), strings.NewReader(""), io.Discard); err == nil {
			t.Errorf("the directory %s can be opened after it was dropped", name)
		}
	}
	check()
}

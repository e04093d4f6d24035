package trace

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Recordings are files and bytes: nothing here may need a store's engine, a
// network or a command line.
func TestImports(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range strings.Fields(string(out)) {
		for _, forbidden := range []string{"accessor/checkpoint/rocks", "accessor/replay", "accessor/cmd", "accessor/api", "accessor/da", "github.com/linxGnu/grocksdb", "github.com/spf13/cobra"} {
			if path == forbidden {
				t.Errorf("imports %s", path)
			}
		}
	}
}

// vectors gives a folder of published data.
func vectors(t *testing.T, name string) string {
	t.Helper()
	dir := os.Getenv("ACCESSOR_VECTORS")
	if dir == "" {
		t.Skip("ACCESSOR_VECTORS is not set: published recordings are not tested")
	}
	return filepath.Join(dir, name)
}

// readAll reads a source to its end and closes it.
func readAll(t *testing.T, src Source) []Entry {
	t.Helper()
	entries, err := drain(src)
	if err != nil {
		t.Fatal(err)
	}
	if err := src.Close(); err != nil {
		t.Fatal(err)
	}
	return entries
}

// drain reads a source up to its first error; io.EOF is none.
func drain(src Source) ([]Entry, error) {
	var entries []Entry
	for {
		entry, err := src.Next()
		if err == io.EOF {
			return entries, nil
		}
		if err != nil {
			return entries, err
		}
		entries = append(entries, entry)
	}
}

// readBytes reads a recording from memory.
func readBytes(b []byte, opts Options) ([]Entry, error) {
	src, err := NewReader("memory", bytes.NewReader(b), int64(len(b)), opts)
	if err != nil {
		return nil, err
	}
	defer src.Close()
	return drain(src)
}

func open(t *testing.T, path string) Source {
	t.Helper()
	src, err := Open(path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	return src
}

// small are options for a chain with a bit of everything.
var small = GenerateOptions{Seed: 7, Blocks: 40, Keys: 30, Writes: 5, ValueSize: 60, ForkEvery: 4, Rejects: 10}

// generated gives a made-up recording as it is written.
func generated(t testing.TB, opts GenerateOptions) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := NewWriter(&buf)
	if err := Generate(w, opts, nil); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func zstded(t testing.TB, b []byte) []byte {
	t.Helper()
	z, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	return z.EncodeAll(b, nil)
}

func gzipped(t testing.TB, b []byte) []byte {
	t.Helper()
	var buf bytes.Buffer
	z := gzip.NewWriter(&buf)
	if _, err := z.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// typed says whether an error has a place and one of the package's kinds.
func typed(err error) bool {
	var where *Error
	if !errors.As(err, &where) || where.File == "" || errors.Is(err, io.EOF) {
		return false // io.EOF is no error: a caller would take it for the end
	}
	for _, kind := range []error{ErrFormat, ErrNoEnd, ErrTooLong, ErrUnreadable} {
		if errors.Is(err, kind) {
			return true
		}
	}
	return false
}

func writeFile(t *testing.T, path string, b []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
}

package statefile

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"accessor/checkpoint"
	"accessor/forks"
	"accessor/internal/packed"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// State files are bytes: nothing here may need a store's engine or a command line.
func TestImports(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range strings.Fields(string(out)) {
		for _, forbidden := range []string{"accessor/state", "accessor/trace", "accessor/checkpoint/rocks", "github.com/spf13/cobra"} {
			if path == forbidden {
				t.Errorf("imports %s", path)
			}
		}
	}
}

var aHeader = Header{Hash: forks.Hash{1, 2}, Slot: forks.MaxSlot, Root: forks.Hash{3}, Commitment: "jam"}

const headerLine = `{"format":"accessor-state/1",` +
	`"hash":"0102000000000000000000000000000000000000000000000000000000000000","slot":4294967295,` +
	`"root":"0300000000000000000000000000000000000000000000000000000000000000","commitment":"jam"}`

func pair(key, value string) checkpoint.Pair {
	return checkpoint.Pair{Key: []byte(key), Value: []byte(value)}
}

var somePairs = []checkpoint.Pair{
	pair("\x00", ""), pair("\x00\x00", "one"), pair("a", strings.Repeat("v", 100_000)), pair("b", "\xff\x00"),
	pair(strings.Repeat("k", 255), "x"),
}

// written makes a file.
func written(t testing.TB, form Form, pairs []checkpoint.Pair) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := NewWriter(&out, form, aHeader)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range pairs {
		if err := w.Put(p.Key, p.Value); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.Close(), w.Close()); err != nil {
		t.Fatal(err)
	}
	if w.Pairs() != uint64(len(pairs)) {
		t.Fatalf("counted %d pairs of %d", w.Pairs(), len(pairs))
	}
	return out.Bytes()
}

// read reads a stream to its end.
func read(in io.Reader, opts Options) (h *Header, pairs []checkpoint.Pair, err error) {
	r, err := NewReader("x", in, 0, opts)
	if err != nil {
		return nil, nil, err
	}
	defer r.Close()
	for p, err := range r.All() {
		if err != nil {
			if _, again := r.Next(); !errors.Is(again, err) {
				return nil, nil, fmt.Errorf("error %w and then %w", err, again)
			}
			return r.Header(), pairs, err
		}
		pairs = append(pairs, checkpoint.Pair{Key: bytes.Clone(p.Key), Value: append([]byte{}, p.Value...)})
	}
	if r.Pairs() != uint64(len(pairs)) {
		return nil, nil, fmt.Errorf("counted %d pairs of %d", r.Pairs(), len(pairs))
	}
	return r.Header(), pairs, nil
}

func readString(s string, opts Options) (*Header, []checkpoint.Pair, error) {
	return read(strings.NewReader(s), opts)
}

func TestRoundTrip(t *testing.T) {
	for form, name := range []string{"ndjson", "binary"} {
		if f, ok := ParseForm(name); !ok || f != Form(form) {
			t.Fatalf("form %s: %v, %v", name, f, ok)
		}
		for _, pairs := range [][]checkpoint.Pair{nil, somePairs[:1], somePairs} {
			file := written(t, Form(form), pairs)
			for _, suffix := range []string{"", ".zst", ".gz"} {
				path := filepath.Join(t.TempDir(), "x"+suffix)
				var stored bytes.Buffer
				z := packed.NewWriter(path, &stored)
				_, err := z.Write(file)
				if err := errors.Join(err, z.Close(), os.WriteFile(path, stored.Bytes(), 0o600)); err != nil {
					t.Fatal(err)
				}
				h, got, err := read(bytes.NewReader(stored.Bytes()), Options{})
				if err != nil || *h != aHeader || cmp.Diff(pairs, got) != "" {
					t.Errorf("%s%s with %d pairs: %v, %v, %v", name, suffix, len(pairs), h, err, cmp.Diff(pairs, got))
				}
				r, err := Open(path, Options{})
				if err != nil {
					t.Fatal(err)
				}
				for range r.All() {
					continue
				}
				if done, total := r.Progress(); done != total || total != int64(stored.Len()) {
					t.Errorf("%s%s: progress %d of %d, file has %d bytes", name, suffix, done, total, stored.Len())
				}
				if err := r.Close(); err != nil {
					t.Error(err)
				}
			}
		}
	}
	if _, ok := ParseForm("json"); ok {
		t.Error("form json is known")
	}
}

// The forms as they stand in docs/FORMAT.md.
func TestWrittenForms(t *testing.T) {
	pairs := []checkpoint.Pair{pair("\x00\xab", "\x01"), pair("\x01", "")}
	want := headerLine + "\n" + `["00ab","01"]` + "\n" + `["01",""]` + "\n" + `{"pairs":2}` + "\n"
	if got := string(written(t, NDJSON, pairs)); got != want {
		t.Errorf("ndjson:\n%swant\n%s", got, want)
	}
	want = "accessor-state/1" + string(aHeader.Hash[:]) + "\xff\xff\xff\xff" + string(aHeader.Root[:]) + "jam" + strings.Repeat("\x00", 13) +
		"\x02\x00\x00\x00\x00\xab\x01\x00\x00\x00\x01" + "\x01\x00\x00\x00\x01\x00\x00\x00\x00" +
		"\xff\xff\xff\xff\x02\x00\x00\x00\x00\x00\x00\x00"
	if got := string(written(t, Binary, pairs)); got != want {
		t.Errorf("binary:\n%x, want\n%x", got, want)
	}
}

// A file cut short anywhere is refused as that, and nothing else.
func TestCut(t *testing.T) {
	pairs := []checkpoint.Pair{pair("a", "1"), pair("b", ""), pair("c", "a longer value")}
	for _, form := range []Form{NDJSON, Binary} {
		file := written(t, form, pairs)
		end := len(file)
		if form == NDJSON {
			end-- // the last line feed says nothing
		}
		for n := range end {
			if _, _, err := read(bytes.NewReader(file[:n]), Options{}); !errors.Is(err, ErrCut) || !typed(err) {
				t.Errorf("form %d cut to %d of %d bytes: %v", form, n, len(file), err)
			}
		}
	}
	for _, name := range []string{"x.zst", "x.gz"} {
		var stored bytes.Buffer
		z := packed.NewWriter(name, &stored)
		_, err := z.Write(written(t, Binary, somePairs))
		if err := errors.Join(err, z.Close()); err != nil {
			t.Fatal(err)
		}
		for n := range stored.Len() {
			if _, _, err := read(bytes.NewReader(stored.Bytes()[:n]), Options{}); err == nil || !typed(err) {
				t.Errorf("%s cut to %d of %d bytes: %v", name, n, stored.Len(), err)
			}
		}
	}
}

func typed(err error) bool {
	var where *Error
	return errors.As(err, &where) && (errors.Is(err, ErrFormat) || errors.Is(err, ErrCut) || errors.Is(err, ErrLimit) || errors.Is(err, ErrUnreadable))
}

func lines(ls ...string) string { return strings.Join(ls, "\n") + "\n" }

func TestLines(t *testing.T) {
	small := Options{Limits: checkpoint.Limits{KeySize: 2, ValueSize: 3}}
	withMember := func(old, new string) string { return strings.Replace(headerLine, old, new, 1) }
	for _, test := range []struct {
		name  string
		file  string
		opts  Options
		pairs int
		line  int // of the error
		want  error
	}{
		{"whole", lines(headerLine, `["61","31"]`, `["62",""]`, `{"pairs":2}`), Options{}, 2, 0, nil},
		{"spaces, capitals, CR", lines(headerLine, ` [ "6A" , "6b" ] `+"\r", `{ "pairs" : 1 }`+"\r"), Options{}, 1, 0, nil},
		{"no last line feed", strings.TrimSuffix(lines(headerLine, `{"pairs":0}`), "\n"), Options{}, 0, 0, nil},
		{"unknown member", lines(withMember(`{`, `{"note":[1],`), `{"pairs":0,"more":1}`), Options{}, 0, 0, nil},
		{"pairs alone", lines(`["61","31"]`, `["62",""]`), Options{}, 2, 0, nil},
		{"pairs alone and an end", lines(`["61","31"]`, `{"pairs":1}`), Options{RequireEnd: true}, 1, 0, nil},
		{"an end alone", lines(`{"pairs":0}`), Options{RequireEnd: true}, 0, 0, nil},
		{"as long as can be", lines(`["6162","616263"]`), small, 1, 0, nil},

		{"empty", "", Options{}, 0, 0, ErrCut},
		{"something else", "PK\x03\x04 and so on", Options{}, 0, 0, ErrFormat},
		{"empty first line", "\n" + headerLine, Options{}, 0, 0, ErrFormat},
		{"pairs alone, an end is required", lines(`["61","31"]`), Options{RequireEnd: true}, 1, 1, ErrCut},
		{"no end", lines(headerLine, `["61","31"]`), Options{}, 1, 2, ErrCut},
		{"count too low", lines(headerLine, `["61","31"]`, `{"pairs":0}`), Options{}, 1, 3, ErrFormat},
		{"count too high", lines(headerLine, `{"pairs":1}`), Options{}, 0, 2, ErrFormat},
		{"count below zero", lines(headerLine, `{"pairs":-1}`), Options{}, 0, 2, ErrFormat},
		{"no count", lines(headerLine, `{"pairs":null}`), Options{}, 0, 2, ErrFormat},
		{"after the end", lines(headerLine, `{"pairs":0}`, `["61","31"]`), Options{}, 0, 3, ErrFormat},
		{"empty line after the end", lines(headerLine, `{"pairs":0}`, ``), Options{}, 0, 3, ErrFormat},
		{"header twice", lines(headerLine, headerLine), Options{}, 0, 2, ErrFormat},
		{"empty line", lines(headerLine, ``, `{"pairs":0}`), Options{}, 0, 2, ErrFormat},
		{"same key", lines(headerLine, `["61",""]`, `["61",""]`, `{"pairs":2}`), Options{}, 1, 3, ErrFormat},
		{"lower key", lines(headerLine, `["61",""]`, `["60ff",""]`, `{"pairs":2}`), Options{}, 1, 3, ErrFormat},
		{"empty key", lines(headerLine, `["","61"]`, `{"pairs":1}`), Options{}, 0, 2, ErrFormat},
		{"odd hex", lines(headerLine, `["611",""]`, `{"pairs":1}`), Options{}, 0, 2, ErrFormat},
		{"no hex", lines(headerLine, `["6g",""]`, `{"pairs":1}`), Options{}, 0, 2, ErrFormat},
		{"0x", lines(headerLine, `["0x61",""]`, `{"pairs":1}`), Options{}, 0, 2, ErrFormat},
		{"escape", lines(headerLine, `["\u0061","61"]`, `{"pairs":1}`), Options{}, 0, 2, ErrFormat},
		{"one of a pair", lines(headerLine, `["61"]`, `{"pairs":1}`), Options{}, 0, 2, ErrFormat},
		{"three of a pair", lines(headerLine, `["61","",""]`, `{"pairs":1}`), Options{}, 0, 2, ErrFormat},
		{"two pairs in a line", lines(headerLine, `["61",""]["62",""]`, `{"pairs":2}`), Options{}, 0, 2, ErrFormat},
		{"unclosed string", lines(headerLine, `["61","`, `{"pairs":1}`), Options{}, 0, 2, ErrFormat},
		{"unclosed pair", lines(headerLine, `["61",""`, `{"pairs":1}`), Options{}, 0, 2, ErrFormat},
		{"null value", lines(headerLine, `["61",null]`, `{"pairs":1}`), Options{}, 0, 2, ErrFormat},
		{"long key", lines(`["616263",""]`), small, 0, 1, ErrLimit},
		{"long value", lines(`["61","61626364"]`), small, 0, 1, ErrLimit},
		{"long line", lines(headerLine, `["61",""]`+strings.Repeat(" ", 100)), small, 0, 1, ErrLimit},
		{"endless line", `["` + strings.Repeat("61", 1<<20), small, 0, 1, ErrLimit},
		{"long header", lines(withMember(`{`, `{"note":"`+strings.Repeat("x", maxObject)+`",`)), Options{}, 0, 1, ErrLimit},

		{"another format", lines(withMember(`accessor-state/1`, `accessor-state/2`)), Options{}, 0, 1, ErrFormat},
		{"a recording", lines(`{"type":"trace","format":"jamtrace/1"}`), Options{}, 0, 1, ErrFormat},
		{"another object", lines(`{"a":1}`), Options{}, 0, 1, ErrFormat},
		{"no JSON", lines(`{"format":`), Options{}, 0, 1, ErrFormat},
		{"no slot", lines(withMember(`"slot":4294967295,`, ``)), Options{}, 0, 1, ErrFormat},
		{"slot null", lines(withMember(`4294967295`, `null`)), Options{}, 0, 1, ErrFormat},
		{"slot too high", lines(withMember(`4294967295`, `4294967296`)), Options{}, 0, 1, ErrFormat},
		{"slot with a point", lines(withMember(`4294967295`, `1.5`)), Options{}, 0, 1, ErrFormat},
		{"short hash", lines(withMember(`"0102`, `"02`)), Options{}, 0, 1, ErrFormat},
		{"root is no hex", lines(withMember(`"0300`, `"03xx`)), Options{}, 0, 1, ErrFormat},
		{"no commitment", lines(withMember(`"jam"`, `""`)), Options{}, 0, 1, ErrFormat},
		{"strange commitment", lines(withMember(`"jam"`, `"Jam\n"`)), Options{}, 0, 1, ErrFormat},
		{"long commitment", lines(withMember(`"jam"`, `"seventeen-letters"`)), Options{}, 0, 1, ErrFormat},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, pairs, err := readString(test.file, test.opts)
			if test.want == nil {
				if err != nil || len(pairs) != test.pairs {
					t.Fatalf("%d pairs, %v; want %d", len(pairs), err, test.pairs)
				}
				return
			}
			var where *Error
			if !errors.Is(err, test.want) || !errors.As(err, &where) || where.Line != test.line || len(pairs) != test.pairs {
				t.Fatalf("%d pairs and %v; want %d and %v in line %d", len(pairs), err, test.pairs, test.want, test.line)
			}
			if len(err.Error()) > 1000 {
				t.Errorf("error of %d bytes", len(err.Error()))
			}
		})
	}
}

func TestBinary(t *testing.T) {
	u32 := func(n uint32) string { return string(binary.LittleEndian.AppendUint32(nil, n)) }
	u64 := func(n uint64) string { return string(binary.LittleEndian.AppendUint64(nil, n)) }
	str := func(s string) string { return u32(uint32(len(s))) + s }
	start := string(appendHeader(nil, aHeader))
	named := func(commitment string) string {
		return start[:len(start)-maxCommitment] + commitment + strings.Repeat("\x00", maxCommitment-len(commitment))
	}
	end := func(n uint64) string { return u32(endMark) + u64(n) }
	for _, test := range []struct {
		name  string
		file  string
		opts  Options
		pairs int
		want  error
	}{
		{"empty", start + end(0), Options{}, 0, nil},
		{"two pairs", start + str("a") + str("") + str("ab") + str("x") + end(2), Options{}, 2, nil},
		{"longest commitment", named("sixteen-letters-") + end(0), Options{}, 0, nil},

		{"another version", "accessor-state/2" + start[len(Format):] + end(0), Options{}, 0, ErrFormat},
		{"no commitment", named("") + end(0), Options{}, 0, ErrFormat},
		{"strange commitment", named("j\x00m") + end(0), Options{}, 0, ErrFormat},
		{"count too low", start + str("a") + str("") + end(0), Options{}, 1, ErrFormat},
		{"count too high", start + str("a") + str("") + end(1<<63), Options{}, 1, ErrFormat},
		{"after the end", start + end(0) + "\n", Options{}, 0, ErrFormat},
		{"empty key", start + str("") + str("v") + end(1), Options{}, 0, ErrFormat},
		{"same key", start + str("a") + str("") + str("a") + str("") + end(2), Options{}, 1, ErrFormat},
		{"lower key", start + str("b") + str("") + str("a") + str("") + end(2), Options{}, 1, ErrFormat},
		{"long key", start + str("abc") + str("") + end(1), Options{Limits: checkpoint.Limits{KeySize: 2}}, 0, ErrLimit},
		{"endless key", start + u32(endMark-1), Options{}, 0, ErrLimit},
		{"long value", start + str("a") + str("abc") + end(1), Options{Limits: checkpoint.Limits{ValueSize: 2}}, 0, ErrLimit},
		{"endless value", start + str("a") + u32(1<<32-1), Options{}, 0, ErrLimit},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, pairs, err := readString(test.file, test.opts)
			if !errors.Is(err, test.want) || len(pairs) != test.pairs || err != nil && !typed(err) {
				t.Errorf("%d pairs and %v, want %d and %v", len(pairs), err, test.pairs, test.want)
			}
		})
	}
}

// failing gives an error in place of the stream's end.
type failing struct {
	r   io.Reader
	err error
}

func (f failing) Read(p []byte) (int, error) {
	n, err := f.r.Read(p)
	if errors.Is(err, io.EOF) {
		err = f.err
	}
	return n, err
}

var errDisk = errors.New("disk on fire")

func TestReadFails(t *testing.T) {
	for _, form := range []Form{NDJSON, Binary} {
		file := written(t, form, somePairs[:2])
		for n := range file {
			_, _, err := read(failing{bytes.NewReader(file[:n]), errDisk}, Options{})
			if !errors.Is(err, errDisk) || !errors.Is(err, ErrUnreadable) || !typed(err) {
				t.Errorf("form %d, after %d bytes: %v", form, n, err)
			}
		}
	}
	if _, err := Open(filepath.Join(t.TempDir(), "missing"), Options{}); !errors.Is(err, os.ErrNotExist) || !typed(err) {
		t.Errorf("missing file: %v", err)
	}
	if _, err := Open(t.TempDir(), Options{}); !errors.Is(err, ErrUnreadable) {
		t.Errorf("folder: %v", err)
	}
	r, err := NewReader("x", bytes.NewReader(written(t, Binary, somePairs)), 0, Options{})
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	if _, err := r.Next(); !errors.Is(err, ErrUnreadable) {
		t.Errorf("after Close: %v", err)
	}
}

// full takes so many bytes and no more.
type full struct{ left int }

func (f *full) Write(p []byte) (int, error) {
	n := min(len(p), f.left)
	if f.left -= n; n < len(p) {
		return n, errDisk
	}
	return n, nil
}

func TestWriterRefuses(t *testing.T) {
	for _, h := range []Header{{}, {Commitment: "JAM"}, {Commitment: strings.Repeat("x", maxCommitment+1)}} {
		if _, err := NewWriter(io.Discard, Binary, h); !errors.Is(err, ErrFormat) {
			t.Errorf("header %v: %v", h, err)
		}
	}
	for _, test := range []struct {
		name string
		pair checkpoint.Pair
		want error
	}{
		{"same key", pair("b", ""), ErrOrder},
		{"lower key", pair("a", ""), ErrOrder},
		{"long key", pair(strings.Repeat("k", 256), ""), ErrLimit},
		{"long value", pair("c", strings.Repeat("v", checkpoint.DefaultLimits.ValueSize+1)), ErrLimit},
	} {
		w, err := NewWriter(io.Discard, NDJSON, aHeader)
		if err = errors.Join(err, w.Put([]byte("b"), nil)); err != nil {
			t.Fatal(err)
		}
		if err := w.Put(test.pair.Key, test.pair.Value); !errors.Is(err, test.want) {
			t.Errorf("%s: %v", test.name, err)
		}
		if err := w.Close(); !errors.Is(err, test.want) {
			t.Errorf("%s, close: %v", test.name, err)
		}
	}
	w, err := NewWriter(io.Discard, NDJSON, aHeader)
	if err = errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	if err := w.Put([]byte("a"), nil); !errors.Is(err, ErrOrder) {
		t.Errorf("pair after the end: %v", err)
	}
	for _, form := range []Form{NDJSON, Binary} {
		size := len(written(t, form, somePairs))
		for _, left := range []int{0, 1000, size - 1} {
			w, err := NewWriter(&full{left}, form, aHeader)
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range somePairs {
				_ = w.Put(p.Key, p.Value) // Close says it again
			}
			if err := w.Close(); !errors.Is(err, errDisk) {
				t.Errorf("form %d, room for %d of %d bytes: %v", form, left, size, err)
			}
		}
	}
}

// FuzzReader reads anything: the answer is a typed error, or pairs that come out
// of both forms as they went in.
func FuzzReader(f *testing.F) {
	pairs := []checkpoint.Pair{pair("a", "1"), pair("ab", "")}
	for _, form := range []Form{NDJSON, Binary} {
		file := written(f, form, pairs)
		f.Add(file)
		for _, name := range []string{"x.zst", "x.gz"} {
			var stored bytes.Buffer
			z := packed.NewWriter(name, &stored)
			_, err := z.Write(file)
			if err := errors.Join(err, z.Close()); err != nil {
				f.Fatal(err)
			}
			f.Add(stored.Bytes())
		}
	}
	f.Add([]byte(lines(`["61","31"]`, `["62",""]`)))
	opts := Options{Limits: checkpoint.Limits{KeySize: 16, ValueSize: 1 << 10}}
	f.Fuzz(func(t *testing.T, b []byte) {
		h, pairs, err := read(bytes.NewReader(b), opts)
		for i, p := range pairs {
			if len(p.Key) == 0 || len(p.Key) > 16 || len(p.Value) > 1<<10 || i > 0 && bytes.Compare(pairs[i-1].Key, p.Key) >= 0 {
				t.Fatalf("pair %d: key %x, value of %d bytes", i, p.Key, len(p.Value))
			}
		}
		if err != nil {
			if !typed(err) {
				t.Fatalf("untyped error %v", err)
			}
			return
		}
		if h == nil {
			h = &aHeader
		}
		for _, form := range []Form{NDJSON, Binary} {
			var out bytes.Buffer
			w, err := NewWriter(&out, form, *h)
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range pairs {
				if err := w.Put(p.Key, p.Value); err != nil {
					t.Fatal(err)
				}
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			again, got, err := read(&out, opts)
			if err != nil || *again != *h || cmp.Diff(pairs, got) != "" {
				t.Fatalf("form %d: %v, %v, %s", form, again, err, cmp.Diff(pairs, got))
			}
		}
	})
}

package trace

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"

	"accessor/forks"
)

// Every published recording is read to its end, and comes back the same when it
// is written and read again.
func TestPublishedRecordings(t *testing.T) {
	files, err := Find(vectors(t, "jamtrace"))
	if err != nil {
		t.Fatal(err)
	}
	if len(files) != 239 {
		t.Errorf("%d recordings, want 239", len(files))
	}
	if testing.Short() {
		files = files[:20]
	}
	var blocks, rejects, ends, faulty, headers int
	for _, file := range files {
		entries := readAll(t, open(t, file))
		for _, e := range entries {
			switch e := e.(type) {
			case *Block:
				blocks++
			case *Reject:
				rejects++
				if e.HasWriteSet {
					faulty++
					if *e.PostRoot != *e.ClaimedPostRoot || *e.RealPostRoot == *e.PostRoot || len(e.Puts) == 0 {
						t.Errorf("%s: faulty reject %+v", file, e)
					}
				}
			case *Anchor:
				if e.Header != nil {
					headers++
				}
			case *End:
				ends++
			}
		}
		var buf bytes.Buffer
		writeEntries(t, NewWriter(&buf), entries)
		again, err := readBytes(buf.Bytes(), Options{})
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		if !reflect.DeepEqual(again, entries) {
			t.Errorf("%s: not the same after writing and reading:\n%s", file, cmp.Diff(entries, again))
		}
	}
	if testing.Short() {
		return // the sums are those of all files
	}
	if blocks != 4514 || rejects != 350 || ends != 239 || faulty != 1 || headers != 35 {
		t.Errorf("%d blocks, %d rejects, %d ends, %d faulty rejects, %d anchors with header; want 4514, 350, 239, 1, 35",
			blocks, rejects, ends, faulty, headers)
	}
}

// writeEntries writes what was read, and closes the writer.
func writeEntries(t *testing.T, w *Writer, entries []Entry) {
	t.Helper()
	for _, e := range entries {
		var err error
		switch e := e.(type) {
		case *Header:
			err = w.Header(e)
		case *Anchor:
			err = w.Anchor(e)
		case *Block:
			err = w.Block(e)
		case *Reject:
			err = w.Reject(e)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestReadsEveryCompression(t *testing.T) {
	plain := generated(t, small)
	want, err := readBytes(plain, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if len(want) != 2+40+10+1 {
		t.Fatalf("%d entries", len(want))
	}
	half := len(plain) / 2
	skippable := append([]byte{0x53, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3}, zstded(t, plain)...)
	for name, b := range map[string][]byte{
		"zstd":           zstded(t, plain),
		"gzip":           gzipped(t, plain),
		"skippable":      skippable,
		"zstd frames":    append(zstded(t, plain[:half]), zstded(t, plain[half:])...),
		"gzip members":   append(gzipped(t, plain[:half]), gzipped(t, plain[half:])...),
		"no last LF":     plain[:len(plain)-1],
		"CR LF":          bytes.ReplaceAll(plain, []byte("\n"), []byte("\r\n")),
		"upper-case hex": upperHex(plain),
	} {
		got, err := readBytes(b, Options{})
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %s", name, cmp.Diff(want, got))
		}
	}
}

// upperHex makes all hashes, keys and values of a recording upper-case.
func upperHex(b []byte) []byte {
	parts := bytes.Split(b, []byte(`"`))
	for i, p := range parts {
		if i%2 == 1 && len(p) > 0 && len(p)%2 == 0 && len(bytes.Trim(p, "0123456789abcdef")) == 0 {
			parts[i] = bytes.ToUpper(p)
		}
	}
	return bytes.Join(parts, []byte(`"`))
}

func TestSource(t *testing.T) {
	plain := generated(t, small)
	path := filepath.Join(t.TempDir(), "chain.jsonl.zst")
	stored := zstded(t, plain)
	writeFile(t, path, stored)
	src := open(t, path)
	if src.Name() != "chain" {
		t.Errorf("name %q before the header is read", src.Name())
	}
	for range 3 {
		if _, err := src.Next(); err != nil {
			t.Fatal(err)
		}
	}
	if src.Name() != "generated" || src.Position() != path+":3" {
		t.Errorf("name %q, position %q", src.Name(), src.Position())
	}
	if _, err := drain(src); err != nil {
		t.Fatal(err)
	}
	if done, total := src.Progress(); done != total || total != int64(len(stored)) {
		t.Errorf("progress %d of %d at the end, want %d", done, total, len(stored))
	}
	if _, err := src.Next(); err != io.EOF {
		t.Errorf("after the end: %v", err)
	}
	for range 2 {
		if err := src.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	}
	early := open(t, path)
	if err := early.Close(); err != nil {
		t.Error(err)
	}
	if _, err := early.Next(); !errors.Is(err, ErrUnreadable) || !typed(err) {
		t.Errorf("read after close: %v", err)
	}
	if _, err := Open(filepath.Join(t.TempDir(), "none"), Options{}); !errors.Is(err, os.ErrNotExist) || !typed(err) {
		t.Errorf("missing file: %v", err)
	}
}

// Lines to build small recordings from.
var (
	hash1      = strings.Repeat("01", 32)
	hash2      = strings.Repeat("02", 32)
	headerLine = `{"type":"trace","format":"jamtrace/1","name":"n"}`
	anchorLine = `{"type":"anchor","hash":"` + hash1 + `","slot":0,"state_root":"` + hash1 + `","kvs":[["01","aa"],["02",""]]}`
	blockLine  = `{"type":"block","hash":"` + hash2 + `","parent":"` + hash1 + `","slot":4294967295,"prior_root":"` + hash1 +
		`","post_root":"` + hash2 + `","puts":[["01","bb"],["01","cc"]],"dels":["02"],"unknown":{"a":[1,"}\"",null,-1.5e3]}}`
	rejectLine = `{"type":"reject","hash":"` + hash2 + `","parent":"` + hash1 + `","slot":1,"prior_root":"` + hash1 + `"}`
	endLine    = `{"type":"end","blocks":1,"rejects":1,"leaves":["` + hash2 + `"],"forks":[]}`
)

func lines(l ...string) string { return strings.Join(l, "\n") + "\n" }

func TestMinimalLines(t *testing.T) {
	reordered := `{ "puts" : [ ] , "slot":1,"slot":2, "dels":[],"post_root":"` + hash2 + `","prior_root":"` + hash1 +
		`","header":null,"parent":"` + hash1 + `","hash":"` + hash2 + `","src":"\u00e4/1","ty\u0070e":"block" }`
	got, err := readBytes([]byte(lines(headerLine, anchorLine, blockLine, reordered, rejectLine,
		strings.Replace(endLine, `"blocks":1`, `"blocks":2`, 1))), Options{})
	if err != nil {
		t.Fatal(err)
	}
	b, second := got[2].(*Block), got[3].(*Block)
	if b.Slot != forks.MaxSlot || len(b.Puts) != 2 || len(b.Dels) != 1 || b.Header != nil {
		t.Errorf("block %+v", b)
	}
	if second.Slot != 2 || second.Src != "ä/1" || second.Header != nil {
		t.Errorf("second block %+v", second)
	}
	if v := got[1].(*Anchor).Pairs[1].Value; v == nil || len(v) != 0 {
		t.Errorf("empty value is %v", v)
	}
}

func TestRefusesBadRecordings(t *testing.T) {
	swap := func(line, old, new string) string {
		if !strings.Contains(line, old) {
			t.Fatalf("no %s in %s", old, line)
		}
		return strings.Replace(line, old, new, 1)
	}
	around := func(line string) string { return lines(headerLine, anchorLine, line, endLine) }
	for _, c := range []struct {
		name, in string
		kind     error
		line     int
	}{
		{"empty", "", ErrNoEnd, 0},
		{"no end line", lines(headerLine, anchorLine, blockLine), ErrNoEnd, 3},
		{"header alone", lines(headerLine), ErrNoEnd, 1},
		{"cut line", lines(headerLine) + anchorLine[:100], ErrNoEnd, 2},
		{"data after the end", lines(headerLine, anchorLine, blockLine, rejectLine, endLine, "x"), ErrFormat, 6},
		{"line after the end", lines(headerLine, anchorLine, blockLine, rejectLine, endLine, ""), ErrFormat, 6},
		{"two headers", lines(headerLine, headerLine), ErrFormat, 2},
		{"two anchors", lines(headerLine, anchorLine, anchorLine), ErrFormat, 3},
		{"anchor first", lines(anchorLine, headerLine), ErrFormat, 1},
		{"block before the anchor", lines(headerLine, blockLine), ErrFormat, 2},
		{"end before the anchor", lines(headerLine, endLine), ErrFormat, 2},
		{"wrong count of blocks", lines(headerLine, anchorLine, blockLine, blockLine, rejectLine, endLine), ErrFormat, 6},
		{"wrong count of rejects", lines(headerLine, anchorLine, blockLine, endLine), ErrFormat, 4},
		{"other format", lines(swap(headerLine, "jamtrace/1", "jamtrace/2")), ErrFormat, 1},
		{"no format", lines(`{"type":"trace"}`), ErrFormat, 1},
		{"no type", lines(`{"format":"jamtrace/1"}`), ErrFormat, 1},
		{"unknown type", lines(headerLine, anchorLine, `{"type":"what"}`), ErrFormat, 3},
		{"blank line", lines(headerLine, "", anchorLine), ErrFormat, 2},
		{"not JSON", lines("hello"), ErrFormat, 1},
		{"binary", "\x00\x01\x02\x03\n", ErrFormat, 1},
		{"an array", lines("[]"), ErrFormat, 1},
		{"two objects", around(blockLine + " {}"), ErrFormat, 3},
		{"trailing comma", around(swap(blockLine, `"dels":["02"]`, `"dels":["02",]`)), ErrFormat, 3},
		{"unclosed", around(blockLine[:len(blockLine)-1]), ErrFormat, 3},
		{"keys out of order", lines(headerLine, swap(anchorLine, `["02",""]`, `["00",""]`)), ErrFormat, 2},
		{"key twice", lines(headerLine, swap(anchorLine, `["02",""]`, `["01",""]`)), ErrFormat, 2},
		{"odd hex", around(swap(blockLine, `"bb"`, `"bbb"`)), ErrFormat, 3},
		{"bad hex", around(swap(blockLine, `"bb"`, `"bg"`)), ErrFormat, 3},
		{"0x hex", around(swap(blockLine, `"bb"`, `"0xbb"`)), ErrFormat, 3},
		{"escaped hex", around(swap(blockLine, `"bb"`, `"\u0062b"`)), ErrFormat, 3},
		{"short hash", around(swap(blockLine, hash2, hash2[2:])), ErrFormat, 3},
		{"long hash", around(swap(blockLine, hash2, hash2+"00")), ErrFormat, 3},
		{"bad hash", around(swap(blockLine, hash2, "zz"+hash2[2:])), ErrFormat, 3},
		{"pair of one", around(swap(blockLine, `["01","bb"]`, `["01"]`)), ErrFormat, 3},
		{"pair of three", around(swap(blockLine, `["01","bb"]`, `["01","bb","cc"]`)), ErrFormat, 3},
		{"no puts", around(swap(blockLine, `"puts"`, `"outs"`)), ErrFormat, 3},
		{"null hash", around(swap(blockLine, `"`+hash2+`"`, `null`)), ErrFormat, 3},
		{"slot too high", around(swap(blockLine, `4294967295`, `4294967296`)), ErrFormat, 3},
		{"slot far too high", around(swap(blockLine, `4294967295`, strings.Repeat("9", 400))), ErrFormat, 3},
		{"negative slot", around(swap(blockLine, `4294967295`, `-1`)), ErrFormat, 3},
		{"fraction", around(swap(blockLine, `4294967295`, `1.0`)), ErrFormat, 3},
		{"exponent", around(swap(blockLine, `4294967295`, `1E3`)), ErrFormat, 3},
		{"leading zero", around(swap(blockLine, `4294967295`, `01`)), ErrFormat, 3},
		{"quoted slot", around(swap(blockLine, `4294967295`, `"1"`)), ErrFormat, 3},
		{"half a write set", around(swap(rejectLine, `"slot"`, `"puts":[],"slot"`)), ErrFormat, 3},
		{"no claimed root", around(swap(rejectLine, `"slot"`, `"puts":[],"dels":[],"slot"`)), ErrFormat, 3},
		{"fork of one", lines(headerLine, anchorLine, swap(endLine, `"forks":[]`, `"forks":[["`+hash1+`"]]`)), ErrFormat, 3},
		{"bad text", lines(swap(headerLine, `"n"`, "\"\x01\"")), ErrFormat, 1},
		{"bad escape", lines(swap(headerLine, `"n"`, `"\q"`)), ErrFormat, 1},
		{"bad string passed over", around(swap(blockLine, `"a":[1`, `"a":["\q"`)), ErrFormat, 3},
		{"bad number passed over", around(swap(blockLine, `"a":[1`, `"a":[01`)), ErrFormat, 3},
		{"bad word passed over", around(swap(blockLine, `null`, `nul`)), ErrFormat, 3},
		{"endless word", around(swap(blockLine, `null`, strings.Repeat("1", 1000))), ErrFormat, 3},
		{"deep", around(swap(blockLine, `"a":[1`, `"a":[`+strings.Repeat("[", 100000))), ErrFormat, 3},
		{"long text", lines(swap(headerLine, `"n"`, `"`+strings.Repeat("n", maxText)+`"`)), ErrTooLong, 1},
		{"long source", lines(swap(headerLine, `"n"`, `"","source":["`+strings.Repeat("n", maxText)+`"]`)), ErrTooLong, 1},
	} {
		_, err := readBytes([]byte(c.in), Options{})
		var where *Error
		if !errors.Is(err, c.kind) || !errors.As(err, &where) {
			t.Errorf("%s: %v, want %v", c.name, err, c.kind)
			continue
		}
		if where.Line != c.line || where.File != "memory" {
			t.Errorf("%s: at %s:%d, want line %d", c.name, where.File, where.Line, c.line)
		}
		if !strings.HasPrefix(err.Error(), "read memory") {
			t.Errorf("%s: text %q", c.name, err)
		}
	}
}

func TestErrorsStay(t *testing.T) {
	src, err := NewReader("x", strings.NewReader(lines(headerLine, "{")), 0, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	_, first := drain(src)
	if _, err := src.Next(); err != first || !typed(err) {
		t.Errorf("%v, then %v", first, err)
	}
	if done, total := src.Progress(); total != 0 || done == 0 {
		t.Errorf("progress %d of %d, want an unknown total", done, total)
	}
}

// However an input is cut, reading it ends with a typed error.
func TestCut(t *testing.T) {
	plain := generated(t, GenerateOptions{Blocks: 3, Keys: 2, Writes: 1, Rejects: 1, ValueSize: 9})
	for name, b := range map[string][]byte{"plain": plain, "zstd": zstded(t, plain), "gzip": gzipped(t, plain)} {
		whole := len(b)
		if name == "plain" {
			whole-- // the last line feed can lack
		}
		step := max(1, whole/1500)
		for n := 0; n < whole; n += step {
			_, err := readBytes(b[:n], Options{})
			if !typed(err) {
				t.Fatalf("%s cut to %d of %d bytes: %v", name, n, len(b), err)
			}
			if name == "plain" && !errors.Is(err, ErrNoEnd) {
				t.Fatalf("%s cut to %d of %d bytes: %v, want ErrNoEnd", name, n, len(b), err)
			}
		}
	}
}

// Whatever byte changes, reading ends: with a typed error or, where the byte
// didn't matter, well. Compressed input has a checksum, so there it does.
func TestGarbled(t *testing.T) {
	plain := generated(t, GenerateOptions{Blocks: 3, Keys: 2, Writes: 1, Rejects: 1, ValueSize: 9})
	for name, b := range map[string][]byte{"plain": plain, "zstd": zstded(t, plain), "gzip": gzipped(t, plain)} {
		refused := 0
		step := max(1, len(b)/1500)
		for n := 0; n < len(b); n += step {
			garbled := bytes.Clone(b)
			garbled[n] ^= 0x15
			if _, err := readBytes(garbled, Options{LineLimit: 1 << 20, TotalLimit: 1 << 20}); err != nil {
				refused++
				if !typed(err) {
					t.Fatalf("%s with byte %d changed: %v", name, n, err)
				}
			}
		}
		if refused*step < len(b)/2 {
			t.Errorf("%s: %d of %d changed bytes were noticed", name, refused, len(b)/step)
		}
	}
}

func TestLimits(t *testing.T) {
	plain := generated(t, small)
	anchor := len(bytes.SplitAfter(plain, []byte("\n"))[1])
	for _, b := range [][]byte{plain, zstded(t, plain), gzipped(t, plain)} {
		for _, c := range []struct {
			opts Options
			kind error
		}{
			{Options{LineLimit: int64(anchor)}, nil},
			{Options{LineLimit: int64(anchor) - 1}, ErrTooLong},
			{Options{TotalLimit: int64(len(plain))}, nil},
			{Options{TotalLimit: int64(len(plain)) - 1}, ErrTooLong},
		} {
			if _, err := readBytes(b, c.opts); !errors.Is(err, c.kind) || c.kind != nil && !typed(err) {
				t.Errorf("%+v: %v, want %v", c.opts, err, c.kind)
			}
		}
	}
}

// A line without an end, in a few compressed bytes, must not take more than the
// limit.
func TestBombs(t *testing.T) {
	endless := append([]byte(`{"type":"trace","name":"`), bytes.Repeat([]byte{'a'}, 64<<20)...)
	for _, b := range [][]byte{zstded(t, endless), gzipped(t, endless)} {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		if _, err := readBytes(b, Options{LineLimit: 1 << 20}); !errors.Is(err, ErrTooLong) {
			t.Errorf("endless line: %v", err)
		}
		runtime.ReadMemStats(&after)
		if took := after.TotalAlloc - before.TotalAlloc; took > 48<<20 {
			t.Errorf("endless line took %d bytes", took)
		}
	}
	var wide bytes.Buffer
	z, err := zstd.NewWriter(&wide, zstd.WithWindowSize(64<<20), zstd.WithEncoderConcurrency(1))
	if err != nil {
		t.Fatal(err)
	}
	for range 3 { // more than one block, so that the frame states its window
		if _, err := z.Write(endless[:1<<20]); err != nil {
			t.Fatal(err)
		}
		if err := z.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := readBytes(wide.Bytes(), Options{}); !errors.Is(err, ErrTooLong) || !typed(err) {
		t.Errorf("window of 64 MiB: %v", err)
	}
}

// A line as long as the longest published, and then some.
func TestLongLine(t *testing.T) {
	b := generated(t, GenerateOptions{Blocks: 1, Keys: 20000, Writes: 1, ValueSize: 400})
	entries, err := readBytes(b, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if line := bytes.SplitAfter(b, []byte("\n"))[1]; len(line) < 4_300_000 {
		t.Fatalf("anchor line of %d bytes is not long enough for the test", len(line))
	}
	if a := entries[1].(*Anchor); len(a.Pairs) < 20000 {
		t.Errorf("%d pairs", len(a.Pairs))
	}
}

type failingReader struct{ after io.Reader }

var errDisk = errors.New("disk error")

func (r failingReader) Read(p []byte) (int, error) {
	n, err := r.after.Read(p)
	if err == io.EOF {
		err = errDisk
	}
	return n, err
}

func TestReadErrors(t *testing.T) {
	plain := generated(t, small)
	for _, b := range [][]byte{nil, plain[:2], plain[:len(plain)/2], zstded(t, plain)[:500], gzipped(t, plain)[:500]} {
		src, err := NewReader("x", failingReader{bytes.NewReader(b)}, 0, Options{})
		if err == nil {
			_, err = drain(src)
			src.Close()
		}
		if !errors.Is(err, errDisk) || !errors.Is(err, ErrUnreadable) || !typed(err) {
			t.Errorf("after %d bytes: %v", len(b), err)
		}
	}
}

func TestFind(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"b.jsonl", "a.jsonl.zst", "c.jsonl.gz", "README.md", ".jsonl", "d.json", "steps/00000001.bin", "steps/x.txt", "other/x.txt", "empty/x.md"} {
		writeFile(t, filepath.Join(dir, name), nil)
	}
	in := func(names ...string) (out []string) {
		for _, n := range names {
			out = append(out, filepath.Join(dir, n))
		}
		return out
	}
	for _, c := range []struct {
		arg  string
		want []string
	}{
		{"-", []string{"-"}},
		{in("README.md")[0], in("README.md")},
		{in("steps")[0], in("steps")},
		{dir, in("a.jsonl.zst", "b.jsonl", "c.jsonl.gz", "steps")},
	} {
		got, err := Find(c.arg)
		if diff := cmp.Diff(c.want, got); err != nil || diff != "" {
			t.Errorf("Find(%s): %v\n%s", c.arg, err, diff)
		}
	}
	for _, arg := range in("empty", "missing") {
		if got, err := Find(arg); !errors.Is(err, ErrUnreadable) || !typed(err) {
			t.Errorf("Find(%s) = %v, %v", arg, got, err)
		}
	}
}

func FuzzReader(f *testing.F) {
	plain := generated(f, GenerateOptions{Blocks: 2, Keys: 1, Writes: 1, Rejects: 5, ValueSize: 5})
	f.Add(plain)
	f.Add(zstded(f, plain))
	f.Add(gzipped(f, plain))
	f.Add([]byte(lines(headerLine, anchorLine, blockLine, rejectLine, endLine)))
	f.Fuzz(func(t *testing.T, b []byte) {
		opts := Options{LineLimit: 64 << 10, TotalLimit: 256 << 10}
		entries, err := readBytes(b, opts)
		if err != nil && !typed(err) {
			t.Fatalf("untyped error %v", err)
		}
		if err == nil {
			if _, ok := entries[len(entries)-1].(*End); !ok {
				t.Fatalf("ended without an end: %d entries", len(entries))
			}
		}
	})
}

// FuzzLine checks the JSON reader against encoding/json.
func FuzzLine(f *testing.F) {
	for _, l := range []string{headerLine, anchorLine, blockLine, rejectLine, endLine} {
		f.Add([]byte(l))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		entry, err := parseLine(line)
		if err != nil {
			if !errors.Is(err, ErrFormat) && !errors.Is(err, ErrTooLong) {
				t.Fatalf("untyped error %v", err)
			}
			return
		}
		if !json.Valid(line) {
			t.Fatalf("took %q, which is not JSON", line)
		}
		// Names are matched as they are, and of members given twice the last
		// counts: as in a map.
		var members map[string]json.RawMessage
		if err := json.Unmarshal(line, &members); err != nil {
			t.Fatal(err)
		}
		same := func(name string, got any) {
			raw := members[name]
			if raw == nil || string(raw) == "null" {
				return
			}
			want := reflect.New(reflect.TypeOf(got))
			if err := json.Unmarshal(raw, want.Interface()); err != nil || !reflect.DeepEqual(want.Elem().Interface(), got) {
				t.Fatalf("%s: %v, want %s (%v)", name, got, raw, err)
			}
		}
		switch e := entry.(type) {
		case *Header:
			same("name", e.Name)
		case *Anchor:
			same("slot", uint32(e.Slot))
			same("hash", e.Hash)
		case *Block:
			same("slot", uint32(e.Slot))
			same("bytes", e.Bytes)
			puts := [][]string{}
			for _, p := range e.Puts {
				puts = append(puts, []string{fmt.Sprintf("%x", p.Key), fmt.Sprintf("%x", p.Value)})
			}
			members["puts"] = bytes.ToLower(members["puts"])
			same("puts", puts)
		}
	})
}

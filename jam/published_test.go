package jam

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"accessor/forks"
	"accessor/internal/published"
)

// unpackSteps unpacks the published step folders and gives their paths.
func unpackSteps(t *testing.T) []string {
	t.Helper()
	vectors := os.Getenv("ACCESSOR_VECTORS")
	if vectors == "" {
		t.Skip("ACCESSOR_VECTORS is not set: published step files are not tested")
	}
	dir := published.UnpackSteps(t, filepath.Join(vectors, "steps"))
	folders := map[string]bool{}
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			folders[filepath.Dir(path)] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for folder := range folders {
		out = append(out, folder)
	}
	return out
}

func TestPublishedSteps(t *testing.T) {
	for _, folder := range unpackSteps(t) {
		b, err := os.ReadFile(filepath.Join(folder, "genesis.bin"))
		if err != nil {
			t.Fatal(err)
		}
		g, err := DecodeGenesis(b)
		if err != nil || g.GP != "0.7" || g.Spec != "tiny" || len(g.Encoded) != 745 || g.Header != (Header{}) {
			t.Fatalf("%s: layout %q %q, header of %d bytes: %+v, %v", folder, g.GP, g.Spec, len(g.Encoded), g.Header, err)
		}
		files, err := filepath.Glob(filepath.Join(folder, "0*.bin"))
		if err != nil || len(files) != 100 {
			t.Fatalf("%s: %d steps, %v", folder, len(files), err)
		}
		parent, root := HeaderHash(g.Encoded), g.State.Root
		for _, file := range files {
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			step, err := DecodeStep(b)
			if err != nil || step.Opaque || step.GP != "0.7" {
				t.Fatalf("%s: opaque %v, layout %q, %v", file, step.Opaque, step.GP, err)
			}
			if step.Header.Parent != parent || step.Header.PriorRoot != root || step.Pre.Root != root {
				t.Fatalf("%s: parent %s, prior root %s, state before %s; want %s, %s", file,
					step.Header.Parent, step.Header.PriorRoot, step.Pre.Root, parent, root)
			}
			slot, ok := step.Post.Value(slotKey)
			if !ok || len(slot) != 4 || forks.Slot(binary.LittleEndian.Uint32(slot)) != step.Header.Slot {
				t.Fatalf("%s: C(11) is %x, header has slot %d", file, slot, step.Header.Slot)
			}
			if strings.HasSuffix(file, "storage/00000001.bin") && HeaderHash(step.Encoded).Short() != "cf9752a4" {
				t.Errorf("%s: header hash %s, want cf9752a4…", file, HeaderHash(step.Encoded))
			}
			parent, root = HeaderHash(step.Encoded), step.Post.Root
		}
	}
}

// Real blocks in a file whose block is then spoilt: what the published malformed
// blocks look like.
func TestPublishedStepsSpoilt(t *testing.T) {
	folder := unpackSteps(t)[0]
	b, err := os.ReadFile(filepath.Join(folder, "00000001.bin"))
	if err != nil {
		t.Fatal(err)
	}
	step, err := DecodeStep(b)
	if err != nil {
		t.Fatal(err)
	}
	before := encodedSize(step.Pre)
	spoilt := bytes.Join([][]byte{b[:before], step.Encoded, {0xff, 1, 2, 3}, b[:before]}, nil)
	got, err := DecodeStep(spoilt)
	if err != nil || !got.Opaque || !bytes.Equal(got.Encoded, step.Encoded) || len(got.Block) != len(step.Encoded)+4 {
		t.Errorf("opaque %v, header of %d bytes, block of %d, %v", got.Opaque, len(got.Encoded), len(got.Block), err)
	}
}

// The recorded chains have headers of every Gray Paper version since 0.6.6.
func TestPublishedHeaders(t *testing.T) {
	vectors := os.Getenv("ACCESSOR_VECTORS")
	if vectors == "" {
		t.Skip("ACCESSOR_VECTORS is not set: published headers are not tested")
	}
	decoded := map[bool]int{}
	for _, pattern := range []string{"conf067-*", "forest066-*", "conf070-*", "conf072-*4.*", "jtv072-safrole*"} {
		files, err := filepath.Glob(filepath.Join(vectors, "jamtrace", pattern))
		if err != nil || len(files) == 0 {
			t.Fatalf("no %s: %v", pattern, err)
		}
		for _, file := range files {
			f, err := os.Open(file)
			if err != nil {
				t.Fatal(err)
			}
			z, err := zstd.NewReader(f)
			if err != nil {
				t.Fatal(err)
			}
			all, err := io.ReadAll(z)
			if err != nil {
				t.Fatal(err)
			}
			z.Close()
			f.Close()
			early := bytes.Contains(all[:1000], []byte(`"gp":"0.6`))
			for line := range bytes.Lines(all) {
				if header := hexField(t, line, "header"); header != nil {
					checkHeader(t, header, hexField(t, line, "hash"), early)
					decoded[early]++
				}
			}
		}
	}
	if decoded[true] < 400 || decoded[false] < 200 {
		t.Errorf("decoded %d headers of 0.6 and %d of 0.7", decoded[true], decoded[false])
	}
}

func hexField(t *testing.T, line []byte, name string) []byte {
	t.Helper()
	_, after, ok := bytes.Cut(line, []byte(`"`+name+`":"`))
	if !ok {
		return nil
	}
	digits, _, _ := bytes.Cut(after, []byte(`"`))
	b, err := hex.DecodeString(string(digits))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func checkHeader(t *testing.T, encoded, hash []byte, early bool) {
	t.Helper()
	l := layouts[0]
	if early {
		l = layouts[2]
	}
	d := decoder{b: encoded}
	h := l.header(&d)
	if d.err != nil || d.left() != 0 || !l.likely(h.Author) {
		t.Errorf("header %x: author %d, %d bytes left, %v", hash, h.Author, d.left(), d.err)
	}
	if got := HeaderHash(encoded); !bytes.Equal(got[:], hash) {
		t.Errorf("header hash %s, want %x", got, hash)
	}
	if again := h.Encode(); !early && !bytes.Equal(again, encoded) {
		t.Errorf("header %x came back as %x", hash, again)
	}
}

package jam

import (
	"archive/tar"
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"accessor/forks"
)

// unpackSteps unpacks the published step folders and gives their paths.
func unpackSteps(t *testing.T) []string {
	t.Helper()
	vectors := os.Getenv("ACCESSOR_VECTORS")
	if vectors == "" {
		t.Skip("ACCESSOR_VECTORS is not set: published step files are not tested")
	}
	archives, err := filepath.Glob(filepath.Join(vectors, "steps", "*.tar.zst"))
	if err != nil || len(archives) == 0 {
		t.Fatalf("no archives in %s/steps: %v", vectors, err)
	}
	dir := t.TempDir()
	folders := map[string]bool{}
	for _, archive := range archives {
		f, err := os.Open(archive)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		z, err := zstd.NewReader(f)
		if err != nil {
			t.Fatal(err)
		}
		defer z.Close()
		for r := tar.NewReader(z); ; {
			h, err := r.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			if h.Typeflag != tar.TypeReg {
				continue
			}
			path := filepath.Join(dir, filepath.FromSlash(h.Name))
			b, err := io.ReadAll(r)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, b, 0o644); err != nil {
				t.Fatal(err)
			}
			folders[filepath.Dir(path)] = true
		}
	}
	var out []string
	for folder := range folders {
		out = append(out, folder)
	}
	return out
}

func TestPublishedSteps(t *testing.T) {
	slotKey, _ := ItemKey(SlotItem)
	for _, folder := range unpackSteps(t) {
		b, err := os.ReadFile(filepath.Join(folder, "genesis.bin"))
		if err != nil {
			t.Fatal(err)
		}
		g, err := DecodeGenesis(b)
		if err != nil || g.GP == "0.6" || g.Spec != "tiny" || len(g.Encoded) != 745 || g.Header != (Header{}) {
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
			if err != nil || step.Opaque {
				t.Fatalf("%s: opaque %v, %v", file, step.Opaque, err)
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

package justify

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"
)

// Each segment is checked by its import proof and by its page; nothing else passes.
func TestSegmentsAgainstTheirRoot(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		n := rapid.SampledFrom([]int{1, 2, 3, 63, 64, 65, 128, 129, 200, 300}).Draw(t, "segments")
		segments := randomItems(r, n, 8)
		root, pages := SegmentsRoot(segments), Pages(segments)
		if len(pages) != (n+63)/64 {
			t.Fatalf("%d pages of %d segments", len(pages), n)
		}
		for _, i := range []int{0, n - 1, r.IntN(n)} {
			proof := ImportProof(segments, i)
			if err := CheckImport(root, i, segments[i], proof); err != nil {
				t.Fatal(err)
			}
			number := i / 64
			page, err := ParsePage(pages[number])
			if err != nil {
				t.Fatal(err)
			}
			if err := page.Check(root, number, n); err != nil {
				t.Fatal(err)
			}
			if err := page.CheckSegment(i%64, segments[i]); err != nil {
				t.Fatal(err)
			}

			refused := map[string]error{
				"segment":         CheckImport(root, i, flip(r, segments[i]), proof),
				"index":           CheckImport(root, i^1, segments[i], proof),
				"index below":     CheckImport(root, -1, segments[i], proof),
				"index above":     CheckImport(root, i+1<<len(proof), segments[i], proof),
				"root":            CheckImport(Hash{}, i, segments[i], proof),
				"long proof":      CheckImport(root, i, segments[i], append(proof, make([]Hash, maxLevels)...)),
				"page of another": page.Check(root, number+1, n),
				"page below":      page.Check(root, -1, n),
				"page of more":    page.Check(root, number, n+300),
				"paged segment":   page.CheckSegment(i%64, flip(r, segments[i])),
				"paged above":     page.CheckSegment(len(page.Leaves), segments[i]),
				"paged below":     page.CheckSegment(-1, segments[i]),
			}
			if len(proof) > 0 {
				at := r.IntN(len(proof))
				proof[at][r.IntN(32)] ^= 1
				refused["proof"] = CheckImport(root, i, segments[i], proof)
				proof[at] = Hash{}
				refused["short proof"] = CheckImport(root, i, segments[i], proof[1:])
			}
			b := bytes.Clone(pages[number])
			b[1+r.IntN(32*len(page.Path)+1)] ^= 1 // a hash of the path, or the count behind it
			if wrong, err := ParsePage(b); err == nil {
				refused["page"] = wrong.Check(root, number, n)
			}
			page.Leaves[r.IntN(len(page.Leaves))][0] ^= 1
			refused["leaf"] = page.Check(root, number, n)
			for what, err := range refused {
				if !errors.Is(err, ErrWrong) && !errors.Is(err, ErrIndex) {
					t.Errorf("segment %d of %d, wrong %s: %v", i, n, what, err)
				}
			}
		}
	})
}

// An inner node with its half of the tree hidden is no leaf.
func TestInnerNodesAreNoPage(t *testing.T) {
	segments := randomItems(rand.New(rand.NewPCG(4, 4)), 4, 8)
	leaves := constantLeaves(segments)
	page := Page{Leaves: []Hash{Hash(node(leaves[:2])), Hash(node(leaves[2:]))}}
	if err := page.Check(SegmentsRoot(segments), 0, 4); !errors.Is(err, ErrWrong) {
		t.Errorf("inner nodes as leaves: %v", err)
	}
}

func FuzzParsePage(f *testing.F) {
	segments := randomItems(rand.New(rand.NewPCG(5, 5)), 130, 8)
	for _, page := range Pages(segments) {
		f.Add(page, 1)
	}
	f.Add([]byte{}, 0)
	f.Add(make([]byte, SegmentSize), 0)
	f.Fuzz(func(t *testing.T, b []byte, number int) {
		page, err := ParsePage(b)
		if err != nil {
			if !errors.Is(err, ErrFormat) {
				t.Fatalf("untyped error %v", err)
			}
			return
		}
		if !bytes.Equal(page.segment(), b) {
			t.Fatal("read and written, it is another page")
		}
		if err := page.Check(Hash{1}, number, 130); !errors.Is(err, ErrWrong) && !errors.Is(err, ErrIndex) {
			t.Fatalf("a page of another root: %v", err)
		}
	})
}

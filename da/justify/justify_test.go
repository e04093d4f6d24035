package justify

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"golang.org/x/crypto/blake2b"
	"pgregory.net/rapid"

	"accessor/da/erasure"
)

func h(parts ...any) []byte {
	var text []byte
	for _, p := range parts {
		switch p := p.(type) {
		case string:
			text = append(text, p...)
		case []byte:
			text = append(text, p...)
		}
	}
	sum := blake2b.Sum256(text)
	return sum[:]
}

func randomItems(r *rand.Rand, n, size int) [][]byte {
	items := make([][]byte, n)
	for i := range items {
		items[i] = make([]byte, size)
		for j := range items[i] {
			items[i][j] = byte(r.Uint32())
		}
	}
	return items
}

// The trees of few items, written out from the Gray Paper's definitions.
func TestTreesWrittenOut(t *testing.T) {
	v := randomItems(rand.New(rand.NewPCG(1, 1)), 5, 12)
	zero := make([]byte, 32)
	for n, want := range [][]byte{
		zero,
		h(v[0]),
		h("node", v[0], v[1]),
		h("node", h("node", v[0], v[1]), v[2]),
		h("node", h("node", v[0], v[1]), h("node", v[2], v[3])),
		h("node", h("node", h("node", v[0], v[1]), v[2]), h("node", v[3], v[4])),
	} {
		if got := Root(v[:n]); !bytes.Equal(got[:], want) {
			t.Errorf("root of %d items: %x, want %x", n, got, want)
		}
	}
	path := CoPath(v, 2)
	for i, want := range [][]byte{h("node", v[3], v[4]), h("node", v[0], v[1])} {
		if len(path) != 2 || !bytes.Equal(path[i], want) {
			t.Errorf("co-path of item 2 of 5 is %x", path)
		}
	}

	leaf := func(i int) []byte { return h("leaf", v[i]) }
	for n, want := range [][]byte{
		zero,
		leaf(0),
		h("node", leaf(0), leaf(1)),
		h("node", h("node", leaf(0), leaf(1)), h("node", leaf(2), zero)),
	} {
		if got := SegmentsRoot(v[:n]); !bytes.Equal(got[:], want) {
			t.Errorf("segments root of %d items: %x, want %x", n, got, want)
		}
	}
}

func TestCoPathsOfAll(t *testing.T) {
	items := randomItems(rand.New(rand.NewPCG(1, 2)), 70, 64)
	for n := range items {
		paths := CoPaths(items[:n])
		if len(paths) != n {
			t.Fatalf("%d paths of %d items", len(paths), n)
		}
		for i, path := range paths {
			if !bytes.Equal(path.Append(nil), CoPath(items[:n], i).Append(nil)) {
				t.Errorf("item %d of %d: %x", i, n, path)
			}
		}
	}
}

// stored is what the holders of one work package have.
type stored struct {
	spec     Spec
	bundle   [][]byte
	segments [][][]byte
	leaves   [][]byte
}

func store(t testing.TB, c *erasure.Code, bundle []byte, segments [][]byte) stored {
	t.Helper()
	encode := func(data []byte) [][]byte {
		shards, err := c.Encode(data)
		if err != nil {
			t.Fatal(err)
		}
		return shards
	}
	s := stored{bundle: encode(bundle)}
	for _, segment := range segments {
		s.segments = append(s.segments, encode(segment))
	}
	s.leaves = Leaves(s.bundle, s.segments)
	s.spec = Spec{Root(s.leaves), c.N(), len(segments)}
	return s
}

func (s stored) forBundle(i int) Justification {
	return ForBundle(CoPath(s.leaves, i), Column(s.segments, i))
}

func (s stored) forSegment(i, segment int) Justification {
	return ForSegment(CoPath(s.leaves, i), Hash(h(s.bundle[i])), Column(s.segments, i), segment)
}

func flip(r *rand.Rand, b []byte) []byte {
	b = bytes.Clone(b)
	b[r.IntN(len(b))] ^= byte(1 + r.IntN(255))
	return b
}

// mustName fails unless the error names the shard, and is of one of the kinds.
func mustName(t interface {
	Helper()
	Fatalf(string, ...any)
}, err error, shard int, kinds ...error) {
	t.Helper()
	var fault *erasure.ShardError
	if errors.As(err, &fault) && fault.Index == shard {
		for _, kind := range kinds {
			if errors.Is(err, kind) {
				return
			}
		}
	}
	t.Fatalf("shard %d wrong, error %v", shard, err)
}

// Of many shards, some wrong, the justifications find those that are wrong and no
// other; the right ones give the data back.
func TestEveryCorruptedShardIsFound(t *testing.T) {
	for name, c := range map[string]*erasure.Code{"tiny": erasure.Tiny(), "full": erasure.Full()} {
		t.Run(name, func(t *testing.T) {
			r := rand.New(rand.NewPCG(2, 2))
			for _, count := range []int{1, 3} {
				data := randomItems(r, count, SegmentSize)
				s := store(t, c, []byte("bundle"), data)
				segment := r.IntN(count)
				good := make([][]byte, c.N())
				left := c.N()
				for i, shard := range s.segments[segment] {
					j := s.forSegment(i, segment)
					if left > c.K() && r.IntN(2) == 0 {
						left--
						mustName(t, s.spec.CheckSegment(i, segment, flip(r, shard), j), i, ErrWrong)
						mustName(t, s.spec.CheckBundle(i, flip(r, s.bundle[i]), s.forBundle(i)), i, ErrWrong)
						continue
					}
					if err := s.spec.CheckSegment(i, segment, shard, j); err != nil {
						t.Fatal(err)
					}
					if err := s.spec.CheckBundle(i, s.bundle[i], s.forBundle(i)); err != nil {
						t.Fatal(err)
					}
					good[i] = shard
				}
				got, err := c.Reconstruct(good, SegmentSize)
				if err != nil || !bytes.Equal(got, data[segment]) {
					t.Fatalf("other data, %v", err)
				}
			}
		})
	}
}

// A right answer passes, also after the wire; with anything in it changed, or at
// another place, it does not, and the shard is named.
func TestChecks(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		n := rapid.SampledFrom([]int{2, 3, 5, 6, 7, 40}).Draw(t, "shards")
		count := rapid.IntRange(0, 9).Draw(t, "segments")
		s := stored{bundle: randomItems(r, n, 20)}
		for range count {
			s.segments = append(s.segments, randomItems(r, n, 12))
		}
		s.leaves = Leaves(s.bundle, s.segments)
		s.spec = Spec{Root(s.leaves), n, count}
		i := r.IntN(n)
		refused := func(err error, shard int) {
			t.Helper()
			mustName(t, err, shard, ErrWrong, ErrIndex)
		}

		type check func(i int, shard []byte, j Justification) error
		try := func(what string, shard []byte, j Justification, check check) {
			again, err := Parse(j.Append(nil), 12)
			if err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			if err := check(i, shard, again); err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			for entry := range j {
				wrong := append(Justification(nil), j...)
				wrong[entry] = flip(r, j[entry])
				refused(check(i, shard, wrong), i)
				refused(check(i, shard, append(j[:entry:entry], j[entry+1:]...)), i)
				wrong[entry] = j[entry][1:]
				refused(check(i, shard, wrong), i)
			}
			refused(check(i, flip(r, shard), j), i)
			refused(check(i, shard[1:], j), i)
			refused(check(i, shard, append(j[:len(j):len(j)], make([]byte, 32))), i)
			for _, other := range []int{-1, n, (i + 1) % n} {
				refused(check(other, shard, j), other)
			}
		}
		try("bundle", s.bundle[i], s.forBundle(i), s.spec.CheckBundle)
		try("all", s.bundle[i], CoPath(s.leaves, i), func(i int, shard []byte, j Justification) error {
			at := min(max(i, 0), n-1)
			return s.spec.CheckShards(i, shard, Column(s.segments, at), j)
		})
		refused(s.spec.CheckShards(i, s.bundle[i], randomItems(r, count+1, 12), CoPath(s.leaves, i)), i)
		for segment := range count {
			j := s.forSegment(i, segment)
			try(fmt.Sprint("segment ", segment), s.segments[segment][i], j, func(i int, shard []byte, j Justification) error {
				return s.spec.CheckSegment(i, segment, shard, j)
			})
			for _, other := range []int{-1, count, segment + 1} {
				refused(s.spec.CheckSegment(i, other, s.segments[segment][i], j), i)
			}
		}
	})
}

// Where two items are hashed together, no byte moves from one to the other.
func TestBoundariesDoNotMove(t *testing.T) {
	r := rand.New(rand.NewPCG(6, 6))
	s := stored{bundle: randomItems(r, 6, 20), segments: [][][]byte{randomItems(r, 6, 12), randomItems(r, 6, 12)}}
	s.leaves = Leaves(s.bundle, s.segments)
	s.spec = Spec{Root(s.leaves), 6, 2}
	a, b := s.segments[0][3], s.segments[1][3]
	j := ForSegment(CoPath(s.leaves, 3), Hash(h(s.bundle[3])), [][]byte{a, b}, 0)
	if err := s.spec.CheckSegment(3, 0, a, j); err != nil {
		t.Fatal(err)
	}
	j[len(j)-1] = append(a[10:12:12], b...)
	mustName(t, s.spec.CheckSegment(3, 0, a[:10], j), 3, ErrWrong)
}

// The forms of entries, as bytes, and what is refused.
func TestWire(t *testing.T) {
	hash, pair, shard := bytes.Repeat([]byte{1}, 32), bytes.Repeat([]byte{2}, 64), bytes.Repeat([]byte{3}, 12)
	want := append(append(append(append(append([]byte{0}, hash...), 1), pair...), 2), shard...)
	j := Justification{hash, pair, shard}
	if got := j.Append(nil); !bytes.Equal(got, want) {
		t.Errorf("written as %x", got)
	}
	for what, b := range map[string][]byte{
		"no such kind":     {3},
		"cut hash":         want[:32],
		"cut pair":         want[:90],
		"cut shard":        want[:len(want)-1],
		"too many entries": bytes.Repeat(want[:33], MaxEntries+1),
	} {
		if _, err := Parse(b, 12); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := Parse(want, 0); !errors.Is(err, ErrFormat) {
		t.Errorf("a segment shard where none may be: %v", err)
	}
	// The longest one there is: the deepest shard of the deepest segment.
	if d := depth(1023, 0) + 1 + depth(3072+48, 0); d != MaxEntries {
		t.Errorf("the longest justification has %d entries", d)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte{}, true)
	f.Add(make([]byte, 33), false)
	f.Add(append(bytes.Repeat([]byte{2}, 13), make([]byte, 33)...), true)
	f.Fuzz(func(t *testing.T, b []byte, full bool) {
		size := 2052
		if full {
			size = 12
		}
		j, err := Parse(b, size)
		if err != nil {
			if !errors.Is(err, ErrFormat) {
				t.Fatalf("untyped error %v", err)
			}
			return
		}
		if len(b) > MaxBytes(size) || !bytes.Equal(j.Append(nil), b) {
			t.Fatalf("%d bytes read as %d entries", len(b), len(j))
		}
		// Whatever it is, checks end, and believe none of it.
		spec := Spec{Hash{1}, 1023, 70}
		for i := range 3 {
			mustName(t, spec.CheckSegment(511*i, 33*i, make([]byte, size), j), 511*i, ErrWrong)
			mustName(t, spec.CheckBundle(511*i, b, j), 511*i, ErrWrong)
			mustName(t, spec.CheckShards(511*i, b, make([][]byte, 70), j), 511*i, ErrWrong)
		}
	})
}

func BenchmarkCheckSegment(b *testing.B) {
	c := erasure.Full()
	s := store(b, c, []byte("bundle"), randomItems(rand.New(rand.NewPCG(3, 3)), 20, SegmentSize))
	j := s.forSegment(700, 7)
	for b.Loop() {
		if err := s.spec.CheckSegment(700, 7, s.segments[7][700], j); err != nil {
			b.Fatal(err)
		}
	}
}

package merkle_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"iter"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"accessor/forks"
	"accessor/state/merkle"

	"golang.org/x/crypto/blake2b"
	"pgregory.net/rapid"
)

type key = [merkle.KeySize]byte

// sorted yields a state in key order, through two buffers that it reuses and
// spoils afterwards, as a database's iterator does.
func sorted(state map[key][]byte) iter.Seq2[[]byte, []byte] {
	keys := slices.SortedFunc(maps.Keys(state), func(a, b key) int { return bytes.Compare(a[:], b[:]) })
	return func(yield func(k, v []byte) bool) {
		var k, v []byte
		for _, each := range keys {
			k, v = append(k[:0], each[:]...), append(v[:0], state[each]...)
			if !yield(k, v) {
				return
			}
			clear(k)
			clear(v)
		}
	}
}

func mustRoot(t testing.TB, state map[key][]byte) forks.Hash {
	t.Helper()
	root, err := merkle.Root(sorted(state))
	if err != nil {
		t.Fatal(err)
	}
	return root
}

// naiveRoot is the definition of the Gray Paper, word for word: it shares no
// code with the package.
func naiveRoot(state map[key][]byte, depth int) [32]byte {
	switch len(state) {
	case 0:
		return [32]byte{}
	case 1:
		for k, v := range state {
			node := make([]byte, 0, 64)
			if len(v) <= 32 {
				node = append(node, 0x80+byte(len(v)))
				node = append(node, k[:]...)
				node = append(node, v...)
				node = append(node, make([]byte, 64-len(node))...)
			} else {
				digest := blake2b.Sum256(v)
				node = append(node, 0xc0)
				node = append(node, k[:]...)
				node = append(node, digest[:]...)
			}
			return blake2b.Sum256(node)
		}
	}
	sides := [2]map[key][]byte{{}, {}}
	for k, v := range state {
		side := k[depth>>3] >> (7 - depth&7) & 1
		sides[side][k] = v
	}
	left, right := naiveRoot(sides[0], depth+1), naiveRoot(sides[1], depth+1)
	left[0] &= 0x7f
	return blake2b.Sum256(append(left[:], right[:]...))
}

func TestRootOfPublishedVectors(t *testing.T) {
	dir := os.Getenv("ACCESSOR_VECTORS")
	if dir == "" {
		t.Skip("ACCESSOR_VECTORS is not set: no published vectors")
	}
	text, err := os.ReadFile(filepath.Join(dir, "trie", "trie.json"))
	if err != nil {
		t.Fatal(err)
	}
	var vectors []struct {
		Input  map[string]string
		Output forks.Hash
	}
	if err := json.Unmarshal(text, &vectors); err != nil {
		t.Fatal(err)
	}
	if len(vectors) != 11 {
		t.Fatalf("%d vectors, want 11", len(vectors))
	}
	for i, vector := range vectors {
		state := make(map[key][]byte)
		for k, v := range vector.Input {
			// The vectors' keys have 32 bytes, of which the first 31 count.
			state[key(mustHex(t, k)[:merkle.KeySize])] = mustHex(t, v)
		}
		if got := mustRoot(t, state); got != vector.Output {
			t.Errorf("vector %d, %d pairs: root %s, want %s", i, len(state), got, vector.Output)
		}
	}
}

func mustHex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestRootOfNothingIsZero(t *testing.T) {
	if got := mustRoot(t, nil); got != (forks.Hash{}) {
		t.Errorf("root %s, want zero", got)
	}
}

// Two keys that differ in one bit only have all the branches above that bit,
// each with one empty child.
func TestRootOfPairsThatPartAtEachBit(t *testing.T) {
	for shared := range merkle.MaxDepth {
		for _, base := range []byte{0x00, 0xff, 0xa5} {
			a := key(bytes.Repeat([]byte{base}, merkle.KeySize))
			b := a
			b[shared/8] ^= 0x80 >> (shared % 8)
			state := map[key][]byte{a: {1}, b: {2}}
			if got, want := mustRoot(t, state), forks.Hash(naiveRoot(state, 0)); got != want {
				t.Errorf("keys of %#x that share %d bits: root %s, want %s", base, shared, got, want)
			}
		}
	}
}

func TestRootIsTheDefinition(t *testing.T) {
	large := make([]byte, 1<<20)
	_, _ = rand.NewChaCha8([32]byte{}).Read(large)
	values := rapid.SampledFrom([][]byte{nil, {7}, large[:31], large[:32], large[:33], large[:60], large})

	rapid.Check(t, func(t *rapid.T) {
		state := make(map[key][]byte)
		var keys []key
		for range rapid.IntRange(0, 40).Draw(t, "pairs") {
			k := key(rapid.SliceOfN(rapid.Byte(), merkle.KeySize, merkle.KeySize).Draw(t, "key"))
			if len(keys) > 0 && rapid.Bool().Draw(t, "has a shared prefix") {
				with := rapid.SampledFrom(keys).Draw(t, "shared with")
				k = withPrefix(k, with, rapid.IntRange(0, merkle.MaxDepth-1).Draw(t, "shared bits"))
			}
			keys = append(keys, k)
			state[k] = values.Draw(t, "value")
		}
		got, err := merkle.Root(sorted(state))
		if err != nil {
			t.Fatal(err)
		}
		if want := forks.Hash(naiveRoot(state, 0)); got != want {
			t.Fatalf("root %s, want %s", got, want)
		}
	})
}

// withPrefix gives k with its first bits replaced by prefix's, and the bit
// after them by the opposite of prefix's.
func withPrefix(k, prefix key, shared int) key {
	for i := range shared + 1 {
		mask := byte(0x80) >> (i % 8)
		k[i/8] = k[i/8]&^mask | prefix[i/8]&mask
		if i == shared {
			k[i/8] ^= mask
		}
	}
	return k
}

func TestRootRefusesBadPairs(t *testing.T) {
	var low, high key
	low[30], high[30] = 1, 2
	tests := []struct {
		name string
		keys [][]byte
		want error
	}{
		{"no key", [][]byte{nil}, merkle.ErrKeySize},
		{"30 bytes", [][]byte{low[:30]}, merkle.ErrKeySize},
		{"32 bytes", [][]byte{low[:], append(high[:], 0)}, merkle.ErrKeySize},
		{"same key twice", [][]byte{low[:], low[:]}, merkle.ErrOrder},
		{"descending", [][]byte{high[:], low[:]}, merkle.ErrOrder},
		{"descending later", [][]byte{make([]byte, 31), high[:], low[:]}, merkle.ErrOrder},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			yielded := 0
			root, err := merkle.Root(func(yield func(k, v []byte) bool) {
				// A good pair stands behind the bad one: it must not be asked for.
				for _, k := range append(test.keys, bytes.Repeat([]byte{0xff}, 31)) {
					yielded++
					if !yield(k, nil) {
						return
					}
				}
			})
			if !errors.Is(err, test.want) {
				t.Errorf("error %v, want %v", err, test.want)
			}
			if root != (forks.Hash{}) {
				t.Errorf("root %s beside the error", root)
			}
			if yielded != len(test.keys) {
				t.Errorf("%d pairs asked for, the bad one is %d", yielded, len(test.keys))
			}
		})
	}
}

func TestRootAllocatesNothingPerPair(t *testing.T) {
	allocs := func(pairs int) float64 {
		seq := counted(pairs, make([]byte, 100))
		return testing.AllocsPerRun(5, func() {
			if _, err := merkle.Root(seq); err != nil {
				t.Fatal(err)
			}
		})
	}
	if few, many := allocs(2), allocs(2000); many > few {
		t.Errorf("%v allocations for 2000 pairs, %v for 2", many, few)
	}
}

// counted yields n pairs in order without allocating: keys spread over the
// whole range, with one value.
func counted(n int, value []byte) iter.Seq2[[]byte, []byte] {
	return func(yield func(k, v []byte) bool) {
		var k key
		step := ^uint64(0) / uint64(n+1)
		for i := range n {
			binary.BigEndian.PutUint64(k[:], step*uint64(i))
			binary.BigEndian.PutUint64(k[23:], uint64(i)*0x9e3779b97f4a7c15)
			if !yield(k[:], value) {
				return
			}
		}
	}
}

func BenchmarkRoot(b *testing.B) {
	const pairs = 100_000
	seq := counted(pairs, make([]byte, 100))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := merkle.Root(seq); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/pairs, "ns/pair")
}

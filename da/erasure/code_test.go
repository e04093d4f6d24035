package erasure

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"
)

var codes = map[string]*Code{"tiny": Tiny(), "full": Full()}

// The published vectors: the shards as they stand there, and the data from them.
func TestPublishedVectors(t *testing.T) {
	dir := os.Getenv("ACCESSOR_VECTORS")
	if dir == "" {
		t.Skip("ACCESSOR_VECTORS is not set: published erasure vectors are not tested")
	}
	for name, c := range codes {
		files, err := filepath.Glob(filepath.Join(dir, "erasure", name, "*.json"))
		if err != nil || len(files) == 0 {
			t.Fatalf("%d vectors of %s, %v", len(files), name, err)
		}
		for _, file := range files {
			t.Run(name+"/"+filepath.Base(file), func(t *testing.T) {
				data, want := readVector(t, file)
				got, err := c.Encode(data)
				if err != nil {
					t.Fatal(err)
				}
				if len(got) != len(want) {
					t.Fatalf("%d shards, want %d", len(got), len(want))
				}
				for i := range want {
					if !bytes.Equal(got[i], want[i]) {
						t.Fatalf("shard %d: %x, want %x", i, got[i], want[i])
					}
				}
				for _, set := range []string{"early", "late", "last", "any"} {
					back, err := c.Reconstruct(choose(c, want, set, rand.New(rand.NewPCG(1, 2))), len(data))
					if err != nil || !bytes.Equal(back, data) {
						t.Fatalf("%s: other data, %v", set, err)
					}
				}
			})
		}
	}
}

func readVector(t *testing.T, file string) (data []byte, shards [][]byte) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var v struct {
		Data   string
		Shards []string
	}
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatal(err)
	}
	decode := func(s string) []byte {
		b, err := hex.DecodeString(strings.TrimPrefix(s, "0x"))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	for _, s := range v.Shards {
		shards = append(shards, decode(s))
	}
	return decode(v.Data), shards
}

// choose leaves K shards: random ones below point 2P (early), originals and shards of
// chunk 2 (late), the last K shards (last), or random ones (any).
func choose(c *Code, shards [][]byte, set string, r *rand.Rand) [][]byte {
	early := c.k
	for early < c.n && c.point(early) < 2*c.p {
		early++
	}
	out := make([][]byte, c.n)
	from := r.Perm(c.n)
	left := c.k
	switch set {
	case "early":
		from = r.Perm(early)
	case "late":
		for i := early; i < c.n && left > 0; i++ {
			out[i] = shards[i]
			left--
		}
		from = r.Perm(c.k)
	case "last":
		for i := range c.k {
			from[i] = c.n - 1 - i
		}
	}
	for _, i := range from[:left] {
		out[i] = shards[i]
	}
	return out
}

func randomBytes(r *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// Any K shards give the data back, whatever its length: the three ways say the same.
func TestAnyShardsGiveTheData(t *testing.T) {
	for name, c := range codes {
		t.Run(name, func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
				data := randomBytes(r, rapid.IntRange(0, 30*c.k).Draw(t, "length"))
				if rapid.Bool().Draw(t, "zeros") {
					clear(data[len(data)/3:])
				}
				shards, err := c.Encode(data)
				if err != nil {
					t.Fatal(err)
				}
				set := rapid.SampledFrom([]string{"early", "late", "last", "any"}).Draw(t, "set")
				some := choose(c, shards, set, r)
				for _, i := range r.Perm(c.n)[:r.IntN(c.n)] { // and more than are needed
					some[i] = shards[i]
				}
				got, err := c.Reconstruct(some, len(data))
				if err != nil || !bytes.Equal(got, data) {
					t.Fatalf("other data, %v", err)
				}

				chosen := choose(c, shards, set, r)
				size := c.ShardSize(len(data))
				ways := map[string]func([]byte, [][]byte, []int, int){"solve": c.solve, "whole": c.rebuildWhole}
				var have []int
				for i, shard := range chosen {
					if shard != nil {
						have = append(have, i)
					}
				}
				if c.point(have[c.k-1]) < 2*c.p {
					ways["next"] = c.rebuildNext
				}
				for way, f := range ways {
					out := make([]byte, c.k*size)
					for _, i := range have {
						if i < c.k {
							copy(out[i*size:], chosen[i])
						}
					}
					f(out, chosen, have, size)
					if !bytes.Equal(out[:len(data)], data) {
						t.Fatalf("%s: other data from %s shards", way, set)
					}
				}
			})
		})
	}
}

// Items of more than one strip, with a last strip that is not whole.
func TestLargeItems(t *testing.T) {
	for name, c := range codes {
		for _, set := range []string{"early", "late", "last", "any"} {
			r := rand.New(rand.NewPCG(3, 4))
			data := randomBytes(r, c.k*(2*strip+70)-1)
			shards, err := c.Encode(data)
			if err != nil {
				t.Fatal(err)
			}
			got, err := c.Reconstruct(choose(c, shards, set, r), len(data))
			if err != nil || !bytes.Equal(got, data) {
				t.Errorf("%s, %s: other data, %v", name, set, err)
			}
		}
	}
}

// The sum of two items has the sum of their shards; and where all originals are equal
// (and none is padded) the polynomial is constant, and so is every shard.
func TestCodeIsLinear(t *testing.T) {
	for name, c := range codes {
		r := rand.New(rand.NewPCG(5, 6))
		a, b := randomBytes(r, 20*c.k), randomBytes(r, 20*c.k)
		sum := xor(a, b)
		x, _ := c.Encode(a)
		y, _ := c.Encode(b)
		z, _ := c.Encode(sum)
		for i := range z {
			if !bytes.Equal(z[i], xor(x[i], y[i])) {
				t.Fatalf("%s: shard %d is not the sum", name, i)
			}
		}
	}
	same, _ := Tiny().Encode([]byte{1, 2, 3, 4, 1, 2, 3, 4})
	for i, shard := range same {
		if !bytes.Equal(shard, []byte{1, 2, 3, 4}) {
			t.Errorf("tiny: shard %d of a constant is %x", i, shard)
		}
	}
}

func xor(a, b []byte) []byte {
	out := make([]byte, len(a))
	for i := range a {
		out[i] = a[i] ^ b[i]
	}
	return out
}

func TestRefusals(t *testing.T) {
	for name, c := range codes {
		t.Run(name, func(t *testing.T) {
			data := make([]byte, 100)
			shards, err := c.Encode(data)
			if err != nil {
				t.Fatal(err)
			}
			with := func(i int, shard []byte) [][]byte {
				out := append([][]byte(nil), shards...)
				out[i] = shard
				return out
			}
			few := make([][]byte, c.n)
			copy(few[1:], shards[1:c.k])
			for _, test := range []struct {
				what   string
				shards [][]byte
				length int
				want   error
				shard  int
			}{
				{"negative length", shards, -1, ErrSize, -1},
				{"great length", shards, MaxSize + 1, ErrSize, -1},
				{"no shards", nil, 100, ErrShards, -1},
				{"a place too much", append(with(0, shards[0]), nil), 100, ErrShards, -1},
				{"one shard too few", few, 100, ErrTooFew, -1},
				{"short shard", with(1, shards[1][1:]), 100, ErrShardSize, 1},
				{"long last shard", with(c.n-1, make([]byte, 1000)), 100, ErrShardSize, c.n - 1},
				{"shards of other data", shards, 10_000, ErrShardSize, 0},
			} {
				out, err := c.Reconstruct(test.shards, test.length)
				var fault *ShardError
				if !errors.Is(err, test.want) || out != nil {
					t.Errorf("%s: %v", test.what, err)
				} else if errors.As(err, &fault) != (test.shard >= 0) || fault != nil && fault.Index != test.shard {
					t.Errorf("%s: names shard %v", test.what, fault)
				}
			}
			if _, err := c.Encode(make([]byte, MaxSize+1)); !errors.Is(err, ErrSize) {
				t.Errorf("encode too much: %v", err)
			}
		})
	}
}

// Buffers are pooled: calls of all sizes at once do not meet in one.
func TestConcurrentUse(t *testing.T) {
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(g), 7))
			for range 8 {
				c := []*Code{Tiny(), Full()}[r.IntN(2)]
				data := randomBytes(r, r.IntN(200*c.k))
				shards, err := c.Encode(data)
				if err != nil {
					t.Error(err)
					return
				}
				got, err := c.Reconstruct(choose(c, shards, []string{"early", "any"}[r.IntN(2)], r), len(data))
				if err != nil || !bytes.Equal(got, data) {
					t.Errorf("other data, %v", err)
				}
			}
		})
	}
	wg.Wait()
}

// Hostile shards of the right size never do more than give wrong data.
func FuzzReconstruct(f *testing.F) {
	f.Add([]byte("data"), uint64(0), 100, false)
	f.Add([]byte{}, uint64(1), -1, true)
	f.Add(make([]byte, 3000), uint64(2), 3000, true)
	f.Fuzz(func(t *testing.T, data []byte, seed uint64, length int, whole bool) {
		c := codes[map[bool]string{true: "full", false: "tiny"}[whole]]
		r := rand.New(rand.NewPCG(seed, 0))
		shards, err := c.Encode(data)
		if err != nil {
			t.Fatal(err)
		}
		some := choose(c, shards, []string{"early", "late", "last", "any"}[r.IntN(4)], r)
		back, err := c.Reconstruct(some, len(data))
		if err != nil || !bytes.Equal(back, data) {
			t.Fatalf("other data, %v", err)
		}
		i := r.IntN(c.n)
		some[i] = randomBytes(r, r.IntN(2*c.ShardSize(len(data))))
		out, err := c.Reconstruct(some, length)
		if err == nil && len(out) != length {
			t.Fatalf("%d bytes, asked for %d", len(out), length)
		}
		for _, known := range []error{ErrSize, ErrTooFew, ErrShardSize} {
			if errors.Is(err, known) {
				err = nil
			}
		}
		if err != nil {
			t.Fatalf("untyped error %v", err)
		}
	})
}

package merkle_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"accessor/forks"
	"accessor/state/merkle"
)

// records is a Source in memory.
type records map[string][]byte

func (r records) Get(key []byte) ([]byte, bool, error) {
	v, ok := r[string(key)]
	return v, ok, nil
}

func (r records) GetMany(keys [][]byte) ([][]byte, error) {
	values := make([][]byte, len(keys))
	for i, k := range keys {
		values[i] = r[string(k)]
	}
	return values, nil
}

func (r records) Scan(from, to []byte, yield func(key, value []byte) bool) error {
	for _, k := range slices.Sorted(maps.Keys(r)) {
		if k >= string(from) && k < string(to) && !yield([]byte(k), r[k]) {
			break
		}
	}
	return nil
}

// with gives a copy of the records with changes.
func (r records) with(changes []merkle.Change) records {
	out := maps.Clone(r)
	for _, c := range changes {
		if c.Value == nil {
			delete(out, string(c.Key))
		} else {
			out[string(c.Key)] = c.Value
		}
	}
	return out
}

func build(t testing.TB, state map[key][]byte) (records, forks.Hash) {
	t.Helper()
	r := records{}
	last := ""
	root, err := merkle.Build(sorted(state), func(k, v []byte) error {
		if string(k) <= last {
			t.Errorf("record %x after %x", k, last)
		}
		last = string(k)
		r[last] = bytes.Clone(v)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return r, root
}

// shapes are ways to draw keys: spread, in clusters, alike but for a few bits.
var shapes = map[string]func(*rand.Rand) key{
	"spread": func(rnd *rand.Rand) (k key) {
		for i := 0; i < len(k); i += 8 {
			var b [8]byte
			binary.LittleEndian.PutUint64(b[:], rnd.Uint64())
			copy(k[i:], b[:])
		}
		return k
	},
	"clusters": func(rnd *rand.Rand) (k key) {
		k[0], k[9], k[30] = byte(rnd.IntN(3))<<6, byte(rnd.IntN(8)), byte(rnd.IntN(256))
		return k
	},
	"deep": func(rnd *rand.Rand) (k key) {
		k[29], k[30] = byte(rnd.IntN(16)), byte(rnd.IntN(256))
		return k
	},
}

func sortedWrites(m map[key]*[]byte) []merkle.Write {
	keys := slices.SortedFunc(maps.Keys(m), func(a, b key) int { return bytes.Compare(a[:], b[:]) })
	var out []merkle.Write
	for _, k := range keys {
		w := merkle.Write{Key: bytes.Clone(k[:]), Delete: m[k] == nil}
		if m[k] != nil {
			w.Value = *m[k]
		}
		out = append(out, w)
	}
	return out
}

// Random write sets over random forks: each trie has the naive root, and its
// records are those of a trie that is built from scratch.
func TestUpdateEqualsBuild(t *testing.T) {
	for name, draw := range shapes {
		t.Run(name, func(t *testing.T) {
			const seed = 7
			rnd := rand.New(rand.NewPCG(seed, 0))
			type version struct {
				state map[key][]byte
				recs  records
				trie  *merkle.Trie
			}
			cache := merkle.NewCache(1 << 16)
			empty, err := merkle.Open(records{}, forks.Hash{}, cache)
			if err != nil {
				t.Fatal(err)
			}
			versions := []version{{map[key][]byte{}, records{}, empty}}
			for step := range 120 {
				from := versions[rnd.IntN(len(versions))]
				if step%3 != 0 {
					from = versions[len(versions)-1]
				}
				state := maps.Clone(from.state)
				writes := make(map[key]*[]byte)
				held := slices.SortedFunc(maps.Keys(state), func(a, b key) int { return bytes.Compare(a[:], b[:]) })
				size := []int{1, 5, 40, 700}[rnd.IntN(4)]
				removing := rnd.IntN(3) == 0
				for range size {
					k := draw(rnd)
					if len(held) > 0 && rnd.IntN(2) == 0 {
						k = held[rnd.IntN(len(held))]
					}
					if removing && rnd.IntN(10) > 0 || rnd.IntN(5) == 0 {
						if len(held) > 0 && rnd.IntN(8) > 0 {
							k = held[rnd.IntN(len(held))]
						}
						writes[k] = nil // perhaps of an absent key
						delete(state, k)
						continue
					}
					v := make([]byte, []int{0, 1, 32, 33, 200}[rnd.IntN(5)])
					for i := range v {
						v[i] = byte(rnd.Uint32())
					}
					if old, ok := state[k]; ok && rnd.IntN(4) == 0 {
						v = old // a put that changes nothing
					}
					writes[k] = &v
					state[k] = v
				}
				if step == 60 {
					for k := range state {
						writes[k] = nil
					}
					for k := range writes {
						writes[k] = nil
					}
					clear(state)
				}
				trie, changes, err := from.trie.Update(sortedWrites(writes))
				if err != nil {
					t.Fatalf("seed %d, step %d: %v", seed, step, err)
				}
				recs := from.recs.with(changes)
				want, wantRoot := build(t, state)
				if naive := naiveRoot(state, 0); trie.Root() != naive || wantRoot != naive || trie.Count() != len(state) {
					t.Fatalf("seed %d, step %d: root %s of %d keys, built %s, naive %x of %d", seed, step,
						trie.Root(), trie.Count(), wantRoot, naive, len(state))
				}
				if err := sameRecords(recs, want); err != nil {
					t.Fatalf("seed %d, step %d, %d keys: %v", seed, step, len(state), err)
				}
				reopened, err := merkle.Open(recs, trie.Root(), cache)
				if err != nil {
					t.Fatalf("seed %d, step %d: %v", seed, step, err)
				}
				versions = append(versions, version{state, recs, reopened})
			}
		})
	}
}

func sameRecords(got, want records) error {
	for k := range got {
		if _, ok := want[k]; !ok {
			return fmt.Errorf("record %x too many", k)
		}
	}
	for k, v := range want {
		if !bytes.Equal(got[k], v) {
			return fmt.Errorf("record %x is %x, want %x", k, got[k], v)
		}
	}
	return nil
}

// Whatever is changed of the records, reading them all fails, or gives what they
// are records of.
func TestDamagedRecordsAreRefused(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 0))
	state := make(map[key][]byte)
	var writes []merkle.Write
	for range 700 {
		state[shapes["spread"](rnd)] = []byte{byte(rnd.Uint32())}
	}
	recs, root := build(t, state)
	m := make(map[key]*[]byte)
	for k := range state {
		v := []byte("new")
		m[k] = &v
	}
	writes = sortedWrites(m)
	touchAll := func(r records) error {
		trie, err := merkle.Open(r, root, nil)
		if err != nil {
			return err
		}
		_, _, err = trie.Update(writes)
		return err
	}
	if err := touchAll(recs); err != nil {
		t.Fatal(err)
	}
	for k, v := range recs {
		missing := maps.Clone(recs)
		delete(missing, k)
		if err := touchAll(missing); !errors.Is(err, merkle.ErrDamaged) {
			t.Fatalf("record %x missing: error %v", k, err)
		}
		for _, at := range []int{0, len(v) / 2, len(v) - 1} {
			garbled := maps.Clone(recs)
			garbled[k] = bytes.Clone(v)
			garbled[k][at] ^= 1 << rnd.IntN(8)
			if err := touchAll(garbled); !errors.Is(err, merkle.ErrDamaged) {
				t.Fatalf("record %x garbled at %d: error %v", k, at, err)
			}
		}
		short := maps.Clone(recs)
		short[k] = v[:len(v)-1]
		if err := touchAll(short); !errors.Is(err, merkle.ErrDamaged) {
			t.Fatalf("record %x cut: error %v", k, err)
		}
	}
}

func TestUpdateRefusesBadWrites(t *testing.T) {
	trie, err := merkle.Open(records{}, forks.Hash{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	a, b := make([]byte, 31), bytes.Repeat([]byte{1}, 31)
	for name, tc := range map[string]struct {
		writes []merkle.Write
		want   error
	}{
		"short key": {[]merkle.Write{{Key: a[:30]}}, merkle.ErrKeySize},
		"order":     {[]merkle.Write{{Key: b}, {Key: a}}, merkle.ErrOrder},
		"twice":     {[]merkle.Write{{Key: a}, {Key: a}}, merkle.ErrOrder},
	} {
		if _, _, err := trie.Update(tc.writes); !errors.Is(err, tc.want) {
			t.Errorf("%s: error %v, want %v", name, err, tc.want)
		}
	}
}

// counting counts how often records are scanned.
type counting struct {
	records
	scans *int
}

func (c counting) Scan(from, to []byte, yield func(key, value []byte) bool) error {
	*c.scans++
	return c.records.Scan(from, to, yield)
}

// A trie that was warmed up has its groups in memory.
func TestWarm(t *testing.T) {
	rnd := rand.New(rand.NewPCG(5, 0))
	state := make(map[key][]byte)
	for range 3000 {
		state[shapes["spread"](rnd)] = []byte{1}
	}
	recs, root := build(t, state)
	scans := 0
	trie, err := merkle.Open(counting{recs, &scans}, root, merkle.NewCache(1<<20))
	if err != nil {
		t.Fatal(err)
	}
	if err := trie.Warm(t.Context()); err != nil {
		t.Fatal(err)
	}
	before := scans
	if before < 15 {
		t.Fatalf("%d scans to read all groups", before)
	}
	writes := make(map[key]*[]byte)
	for k := range state {
		writes[k] = nil
	}
	after, _, err := trie.Update(sortedWrites(writes))
	if err != nil {
		t.Fatal(err)
	}
	if (after.Root() != forks.Hash{}) || scans != before {
		t.Errorf("root %s, %d scans more; want none", after.Root(), scans-before)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := trie.Warm(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: error %v", err)
	}
}

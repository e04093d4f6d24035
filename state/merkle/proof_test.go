package merkle_test

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"accessor/forks"
	"accessor/state/merkle"
	"accessor/trace"
)

// proving is a state with its trie.
type proving struct {
	state map[key][]byte
	keys  []key // in order
	root  forks.Hash
	trie  *merkle.Trie
}

func newProving(t testing.TB, state map[key][]byte) *proving {
	t.Helper()
	recs, root := build(t, state)
	trie, err := merkle.Open(recs, root, merkle.NewCache(1<<20))
	if err != nil {
		t.Fatal(err)
	}
	keys := slices.SortedFunc(maps.Keys(state), func(a, b key) int { return bytes.Compare(a[:], b[:]) })
	return &proving{state, keys, root, trie}
}

func (p *proving) value(k []byte) ([]byte, bool, error) {
	v, ok := p.state[key(k)]
	return v, ok, nil
}

func (p *proving) walk(from []byte, yield func(k, v []byte) bool) error {
	at, _ := slices.BinarySearchFunc(p.keys, key(from), func(a, b key) int { return bytes.Compare(a[:], b[:]) })
	for _, k := range p.keys[at:] {
		if !yield(k[:], p.state[k]) {
			break
		}
	}
	return nil
}

// recode sends a proof through its binary form.
func recode(t testing.TB, p *merkle.Proof, keys int) *merkle.Proof {
	t.Helper()
	nodes, pairs := p.AppendNodes(nil), p.AppendPairs(nil)
	if len(nodes)+len(pairs) != p.Size() {
		t.Errorf("size %d, want %d", p.Size(), len(nodes)+len(pairs))
	}
	out, err := merkle.DecodeProof(nodes, pairs, keys)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// proofStates are made-up states, and the published anchors where they are found.
func proofStates(t *testing.T, yield func(name string, p *proving)) {
	rnd := rand.New(rand.NewPCG(11, 0))
	some := func(draw func(*rand.Rand) key, n int) map[key][]byte {
		state := make(map[key][]byte)
		for range n {
			v := make([]byte, []int{0, 1, 31, 32, 33, 64, 500}[rnd.IntN(7)])
			for i := range v {
				v[i] = byte(rnd.Uint32())
			}
			state[draw(rnd)] = v
		}
		return state
	}
	yield("empty", newProving(t, nil))
	yield("one key", newProving(t, some(shapes["spread"], 1)))
	twins := some(shapes["spread"], 1)
	for k := range twins {
		k[30] ^= 1
		twins[k] = make([]byte, 1<<20)
		break
	}
	yield("247 bits alike, 1 MiB", newProving(t, twins))
	for name, draw := range shapes {
		yield(name, newProving(t, some(draw, 900)))
	}
	vectors := os.Getenv("ACCESSOR_VECTORS")
	if vectors == "" {
		t.Log("ACCESSOR_VECTORS is not set: without real states")
		return
	}
	files, err := filepath.Glob(filepath.Join(vectors, "jamtrace", "*.jsonl.zst"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no traces in %s: %v", vectors, err)
	}
	step := 40
	if testing.Short() {
		step = 200
	}
	for i := 0; i < len(files); i += step {
		yield(filepath.Base(files[i]), newProving(t, anchorState(t, files[i])))
	}
}

func anchorState(t *testing.T, path string) map[key][]byte {
	src, err := trace.Open(path, trace.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	for {
		entry, err := src.Next()
		if err != nil {
			t.Fatal(err)
		}
		if a, ok := entry.(*trace.Anchor); ok {
			state := make(map[key][]byte)
			for _, p := range a.Pairs {
				state[key(p.Key)] = p.Value
			}
			return state
		}
	}
}

// near gives keys of the state and such as are not in it, close by and far.
func (p *proving) near(rnd *rand.Rand, n int) []key {
	set := make(map[key]bool)
	for range n {
		k := shapes["spread"](rnd)
		if len(p.keys) > 0 && rnd.IntN(4) > 0 {
			k = p.keys[rnd.IntN(len(p.keys))]
			if rnd.IntN(2) == 0 {
				k[rnd.IntN(31)] ^= 1 << rnd.IntN(8)
			}
		}
		set[k] = true
	}
	return slices.SortedFunc(maps.Keys(set), func(a, b key) int { return bytes.Compare(a[:], b[:]) })
}

func TestProveKeys(t *testing.T) {
	proofStates(t, func(name string, p *proving) {
		rnd := rand.New(rand.NewPCG(12, 0))
		for _, n := range []int{1, 1, 1, 2, 5, 60} {
			keys := p.near(rnd, n)
			proof, err := p.trie.Prove(keys, p.value)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			proof = recode(t, proof, len(keys))
			values, err := merkle.VerifyKeys(p.root, keys, proof)
			if err != nil {
				t.Fatalf("%s, %d keys: %v", name, len(keys), err)
			}
			for i, k := range keys {
				want, present := p.state[k]
				if (values[i] != nil) != present || !bytes.Equal(values[i], want) {
					t.Errorf("%s: key %x is %x, want %x, %v", name, k, values[i], want, present)
				}
			}
			// For nothing else.
			other := p.root
			other[31] ^= 1
			if _, err := merkle.VerifyKeys(other, keys, proof); len(p.keys) > 0 && !errors.Is(err, merkle.ErrProof) {
				t.Errorf("%s: verified for another root: %v", name, err)
			}
			if len(proof.Nodes) > 0 {
				more := *proof
				more.Nodes = append(slices.Clone(proof.Nodes), proof.Nodes[0])
				if _, err := merkle.VerifyKeys(p.root, keys, &more); !errors.Is(err, merkle.ErrProof) {
					t.Errorf("%s: a node too many: %v", name, err)
				}
				less := *proof
				less.Nodes = proof.Nodes[:len(proof.Nodes)-1]
				if _, err := merkle.VerifyKeys(p.root, keys, &less); !errors.Is(err, merkle.ErrProof) {
					t.Errorf("%s: a node too few: %v", name, err)
				}
			}
		}
	})
}

// A client walks a whole state in pages of any size.
func TestProveRange(t *testing.T) {
	proofStates(t, func(name string, p *proving) {
		for _, size := range []uint32{0, 2000, 20_000, 1 << 30} {
			if size < 2000 && len(p.keys) > 300 {
				continue
			}
			got := make(map[key][]byte)
			req := merkle.RangeRequest{MaxSize: size}
			for i := range req.End {
				req.End[i] = 0xff
			}
			for {
				proof, err := p.trie.ProveRange(req, p.value, p.walk)
				if err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				proof = recode(t, proof, 2)
				more, err := merkle.VerifyRange(p.root, req, proof)
				if err != nil {
					t.Fatalf("%s, %d bytes from %x: %v", name, size, req.Start, err)
				}
				for _, pair := range proof.Pairs {
					got[pair.Key] = pair.Value
				}
				if !more {
					break
				}
				if len(proof.Pairs) == 0 {
					t.Fatalf("%s: no pairs, and more", name)
				}
				req.Start = proof.Pairs[len(proof.Pairs)-1].Key
				for i := 30; i >= 0; i-- {
					if req.Start[i]++; req.Start[i] != 0 {
						break
					}
				}
			}
			if len(got) != len(p.state) {
				t.Errorf("%s, %d bytes: %d keys, want %d", name, size, len(got), len(p.state))
			}
			for k, v := range p.state {
				if !bytes.Equal(got[k], v) {
					t.Errorf("%s: key %x is %x, want %x", name, k, got[k], v)
				}
			}
		}
	})
}

// A range answer takes what fits, and no pair less than that.
func TestRangeFills(t *testing.T) {
	proofStates(t, func(name string, p *proving) {
		rnd := rand.New(rand.NewPCG(13, 0))
		for range 30 {
			edges := p.near(rnd, 2)
			req := merkle.RangeRequest{Start: edges[0], End: edges[len(edges)-1], MaxSize: uint32(rnd.IntN(9000))}
			proof, err := p.trie.ProveRange(req, p.value, p.walk)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := merkle.VerifyRange(p.root, req, proof); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			last := req.Start
			if n := len(proof.Pairs); n > 0 {
				last = proof.Pairs[n-1].Key
			}
			var next *key
			for _, k := range p.keys {
				if bytes.Compare(k[:], last[:]) > 0 && bytes.Compare(k[:], req.End[:]) <= 0 {
					next = &k
					break
				}
			}
			if next == nil || len(proof.Pairs) == 0 && p.state[last] == nil {
				continue
			}
			wider := req
			wider.End, wider.MaxSize = *next, 1<<30
			if larger, err := p.trie.ProveRange(wider, p.value, p.walk); err != nil || uint32(larger.Size()) <= req.MaxSize {
				t.Errorf("%s: %d bytes of %d, though one pair more takes %d, %v", name, proof.Size(), req.MaxSize, larger.Size(), err)
			}
		}
	})
}

// Every change of a byte of an answer is refused.
func TestEveryChangedByteIsRefused(t *testing.T) {
	proofStates(t, func(name string, p *proving) {
		if len(p.keys) == 0 {
			return
		}
		rnd := rand.New(rand.NewPCG(14, 0))
		// Small values, so that all bytes can be tried.
		keys := slices.DeleteFunc(p.near(rnd, 4), func(k key) bool { return len(p.state[k]) > 1000 })
		keysProof, err := p.trie.Prove(keys, p.value)
		if err != nil {
			t.Fatal(err)
		}
		from := slices.IndexFunc(p.keys[len(p.keys)/3:], func(k key) bool { return len(p.state[k]) <= 1000 })
		if from < 0 {
			return
		}
		req := merkle.RangeRequest{Start: p.keys[len(p.keys)/3+from], End: p.keys[len(p.keys)-1], MaxSize: 3000}
		rangeProof, err := p.trie.ProveRange(req, p.value, p.walk)
		if err != nil {
			t.Fatal(err)
		}
		for what, tc := range map[string]struct {
			proof  *merkle.Proof
			keys   int
			verify func(*merkle.Proof) error
		}{
			"keys":  {keysProof, len(keys), func(q *merkle.Proof) error { _, err := merkle.VerifyKeys(p.root, keys, q); return err }},
			"range": {rangeProof, 2, func(q *merkle.Proof) error { _, err := merkle.VerifyRange(p.root, req, q); return err }},
		} {
			nodes, pairs := tc.proof.AppendNodes(nil), tc.proof.AppendPairs(nil)
			all := append(bytes.Clone(nodes), pairs...)
			for at := range all {
				for _, flip := range []byte{0x80, byte(1 + rnd.IntN(255))} {
					garbled := bytes.Clone(all)
					garbled[at] ^= flip
					q, err := merkle.DecodeProof(garbled[:len(nodes)], garbled[len(nodes):], tc.keys)
					if err == nil {
						err = tc.verify(q)
					}
					if !errors.Is(err, merkle.ErrProof) {
						t.Fatalf("%s, %s: byte %d of %d changed by %02x: %v", name, what, at, len(all), flip, err)
					}
				}
			}
		}
	})
}

func TestDecodeProofRefuses(t *testing.T) {
	for name, tc := range map[string]struct{ nodes, pairs []byte }{
		"part of a node": {nodes: make([]byte, 63)},
		"endless nodes":  {nodes: make([]byte, 64*(249*2+1))},
		"part of a key":  {pairs: make([]byte, 30)},
		"no length":      {pairs: make([]byte, 31)},
		"value cut":      {pairs: append(make([]byte, 31), 5, 1)},
		"absurd length":  {pairs: append(make([]byte, 31), 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff)},
		"long length":    {pairs: append(make([]byte, 31), 0x80, 1, 7)},
	} {
		if _, err := merkle.DecodeProof(tc.nodes, tc.pairs, 2); !errors.Is(err, merkle.ErrProof) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Whatever arrives, it is refused, or says the truth.
func FuzzVerify(f *testing.F) {
	rnd := rand.New(rand.NewPCG(15, 0))
	state := make(map[key][]byte)
	for range 40 {
		state[shapes["clusters"](rnd)] = []byte(fmt.Sprint(rnd.IntN(1000)))
	}
	p := newProving(f, state)
	keys := []key{p.keys[3], p.keys[20]}
	proof, err := p.trie.Prove(keys, p.value)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(proof.AppendNodes(nil), proof.AppendPairs(nil))
	req := merkle.RangeRequest{Start: p.keys[5], End: p.keys[30], MaxSize: 1500}
	if proof, err = p.trie.ProveRange(req, p.value, p.walk); err != nil {
		f.Fatal(err)
	}
	f.Add(proof.AppendNodes(nil), proof.AppendPairs(nil))
	f.Fuzz(func(t *testing.T, nodes, pairs []byte) {
		q, err := merkle.DecodeProof(nodes, pairs, 2)
		if err != nil {
			return
		}
		if !bytes.Equal(q.AppendNodes(nil), nodes) || !bytes.Equal(q.AppendPairs(nil), pairs) {
			t.Error("decoded and encoded again, it is another")
		}
		if values, err := merkle.VerifyKeys(p.root, keys, q); err == nil {
			for i, k := range keys {
				if !bytes.Equal(values[i], state[k]) {
					t.Errorf("verified key %x as %x, is %x", k, values[i], state[k])
				}
			}
		}
		if _, err := merkle.VerifyRange(p.root, req, q); err == nil {
			for _, pair := range q.Pairs {
				if v, ok := state[pair.Key]; !ok || !bytes.Equal(v, pair.Value) {
					t.Errorf("verified pair %x=%x, is %x", pair.Key, pair.Value, v)
				}
			}
		}
	})
}

package merkle

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"accessor/forks"

	"golang.org/x/crypto/blake2b"
)

// someNodes is what a test knows of tries.
type someNodes struct {
	nodes  map[forks.Hash]Node
	values map[forks.Hash][]byte
}

func newSomeNodes() *someNodes {
	return &someNodes{make(map[forks.Hash]Node), make(map[forks.Hash][]byte)}
}

func (s *someNodes) Node(key forks.Hash) (Node, bool, error) {
	n, ok := s.nodes[key]
	return n, ok, nil
}

func (s *someNodes) Value(hash forks.Hash) ([]byte, bool, error) {
	v, ok := s.values[hash]
	return v, ok, nil
}

func (s *someNodes) absorb(p *Proof) {
	s.addNodes(p.Nodes)
	for _, pair := range p.Pairs {
		if len(pair.Value) > MaxEmbedded {
			s.values[blake2b.Sum256(pair.Value)] = pair.Value
		}
	}
}

func (s *someNodes) addNodes(list []Node) {
	for _, n := range list {
		s.nodes[NodeKey(n.Hash())] = n
	}
}

// sparseModel is a state as a map, with keys that share long prefixes so that deletes
// collapse whole chains of branches.
type sparseModel struct {
	rnd  *rand.Rand
	data map[[KeySize]byte][]byte
}

func (m *sparseModel) key() (key [KeySize]byte) {
	if n := len(m.data); n > 0 && m.rnd.IntN(2) == 0 {
		list := m.keys()
		key = list[m.rnd.IntN(n)]
		if m.rnd.IntN(3) > 0 {
			at := m.rnd.IntN(40)
			if m.rnd.IntN(16) == 0 { // a long chain of branches, which takes its time
				at = []int{m.rnd.IntN(MaxDepth), MaxDepth - 1}[m.rnd.IntN(2)]
			}
			key[at/8] ^= 1 << (7 - at%8)
		}
		return key
	}
	key[0] = byte(m.rnd.IntN(4)) << 6
	key[1+m.rnd.IntN(3)] = byte(m.rnd.IntN(4))
	return key
}

func (m *sparseModel) keys() [][KeySize]byte {
	return slices.SortedFunc(maps.Keys(m.data), func(a, b [KeySize]byte) int { return bytes.Compare(a[:], b[:]) })
}

func (m *sparseModel) value() []byte {
	v := make([]byte, []int{0, 1, 31, 32, 33, 70}[m.rnd.IntN(6)])
	for i := range v {
		v[i] = byte(m.rnd.Uint32())
	}
	return v
}

// trie is the whole trie of the model, with its values.
func (m *sparseModel) trie(t *testing.T) (*Trie, Values) {
	t.Helper()
	records := make(mapSource)
	root, err := Build(func(yield func([]byte, []byte) bool) {
		for _, k := range m.keys() {
			if !yield(k[:], m.data[k]) {
				return
			}
		}
	}, func(k, v []byte) error { records[string(k)] = v; return nil })
	if err != nil {
		t.Fatal(err)
	}
	trie, err := Open(records, root, nil)
	if err != nil {
		t.Fatal(err)
	}
	return trie, func(key []byte) ([]byte, bool, error) {
		v, ok := m.data[[KeySize]byte(key)]
		return v, ok, nil
	}
}

// prove gives a proof as a peer would, checked as a fetcher does.
func prove(t *testing.T, trie *Trie, values Values, keys [][KeySize]byte) *Proof {
	t.Helper()
	p, err := trie.Prove(keys, values)
	if err == nil {
		_, err = VerifyKeys(trie.Root(), keys, p)
	}
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// mapSource is a trie's records in a map.
type mapSource map[string][]byte

func (s mapSource) Get(key []byte) ([]byte, bool, error) {
	v, ok := s[string(key)]
	return v, ok, nil
}

func (s mapSource) GetMany(keys [][]byte) ([][]byte, error) {
	out := make([][]byte, len(keys))
	for i, k := range keys {
		out[i] = s[string(k)]
	}
	return out, nil
}

func (s mapSource) Scan(from, to []byte, yield func(key, value []byte) bool) error {
	for _, k := range slices.Sorted(maps.Keys(s)) {
		if k >= string(from) && k < string(to) && !yield([]byte(k), s[k]) {
			return nil
		}
	}
	return nil
}

func (m *sparseModel) writes() []Write {
	set := make(map[[KeySize]byte]Write)
	for range 1 + m.rnd.IntN(8) {
		k := m.key()
		w := Write{Key: k[:], Delete: m.rnd.IntN(2) == 0}
		if !w.Delete {
			w.Value = m.value()
		}
		set[k] = w
	}
	if m.rnd.IntN(20) == 0 { // nearly all goes
		for _, k := range m.keys() {
			if m.rnd.IntN(8) > 0 {
				set[k] = Write{Key: k[:], Delete: true}
			}
		}
	}
	return slices.SortedFunc(maps.Values(set), func(a, b Write) int { return bytes.Compare(a.Key, b.Key) })
}

// TestSparse wants a trie that starts with nothing known, and is told no more than it
// asks for, to give the values, roots and proofs of the whole one, over chains of
// write sets.
func TestSparse(t *testing.T) {
	for seed := range uint64(40) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			m := &sparseModel{rand.New(rand.NewPCG(seed, 0)), make(map[[KeySize]byte][]byte)}
			for range m.rnd.IntN(60) {
				m.data[m.key()] = m.value()
			}
			known := newSomeNodes()
			for range 10 {
				trie, values := m.trie(t)
				m.checkReads(t, known, trie, values)
				writes := m.writes()
				var after forks.Hash
				var added []Node
				for fetches := 0; ; fetches++ {
					var err error
					after, added, err = SparseUpdate(known, trie.Root(), writes)
					if err == nil {
						break
					}
					var missing *MissingError
					if !errors.As(err, &missing) {
						t.Fatal(err)
					}
					// The keys written, then the neighbours of what is deleted.
					if fetches == 2 {
						t.Fatalf("more than 2 fetches: %v", err)
					}
					known.absorb(prove(t, trie, values, missing.Keys))
				}
				known.addNodes(added)
				for _, w := range writes {
					if delete(m.data, [KeySize]byte(w.Key)); !w.Delete {
						m.data[[KeySize]byte(w.Key)] = w.Value
						known.values[blake2b.Sum256(w.Value)] = w.Value
					}
				}
				if want, _ := m.trie(t); after != want.Root() {
					t.Fatalf("root %s, want %s", after, want.Root())
				}
			}
		})
	}
}

func (m *sparseModel) checkReads(t *testing.T, known *someNodes, trie *Trie, values Values) {
	t.Helper()
	for range 6 {
		key := m.key()
		value, present, err := SparseGet(known, trie.Root(), key)
		if missing := (*MissingError)(nil); errors.As(err, &missing) {
			known.absorb(prove(t, trie, values, missing.Keys))
			value, present, err = SparseGet(known, trie.Root(), key)
		}
		want, ok := m.data[key]
		if err != nil || present != ok || !bytes.Equal(value, want) {
			t.Fatalf("get %x: %x, %v, %v; want %x, %v", key, value, present, err, want, ok)
		}
		again := [][KeySize]byte{key}
		p, err := SparseProve(known, trie.Root(), again, values)
		if err != nil {
			t.Fatal(err)
		}
		if whole := prove(t, trie, values, again); !slices.Equal(p.Nodes, whole.Nodes) {
			t.Fatalf("proof of %x has %d nodes, want %d", key, len(p.Nodes), len(whole.Nodes))
		}
		if got, err := VerifyKeys(trie.Root(), again, p); err != nil || !bytes.Equal(got[0], want) {
			t.Fatalf("proof of %x: %x, %v", key, got, err)
		}
	}
	var keys [][KeySize]byte
	for range 4 {
		keys = append(keys, m.key())
	}
	slices.SortFunc(keys, func(a, b [KeySize]byte) int { return bytes.Compare(a[:], b[:]) })
	keys = slices.Compact(keys)
	p, err := SparseProve(known, trie.Root(), keys, values)
	if missing := (*MissingError)(nil); errors.As(err, &missing) {
		known.absorb(prove(t, trie, values, missing.Keys))
		p, err = SparseProve(known, trie.Root(), keys, values)
	}
	if err == nil {
		_, err = VerifyKeys(trie.Root(), keys, p)
	}
	if err != nil {
		t.Fatalf("proof of %d keys: %v", len(keys), err)
	}
}

// What is stored under a hash that it doesn't have is no answer.
func TestSparseTrustsNoStore(t *testing.T) {
	m := &sparseModel{rand.New(rand.NewPCG(1, 0)), make(map[[KeySize]byte][]byte)}
	for range 30 {
		m.data[m.key()] = bytes.Repeat([]byte{1}, 40)
	}
	trie, values := m.trie(t)
	known := newSomeNodes()
	known.absorb(prove(t, trie, values, m.keys()))
	for h, n := range known.nodes {
		n[40] ^= 1
		known.nodes[h] = n
	}
	var missing *MissingError
	for _, k := range m.keys() {
		if _, _, err := SparseGet(known, trie.Root(), k); !errors.As(err, &missing) {
			t.Fatalf("get from changed nodes: %v", err)
		}
		writes := []Write{{Key: k[:], Delete: true}}
		if _, _, err := SparseUpdate(known, trie.Root(), writes); !errors.As(err, &missing) {
			t.Fatalf("update of changed nodes: %v", err)
		}
	}
	known.absorb(prove(t, trie, values, m.keys()))
	for h := range known.values {
		known.values[h] = []byte("another")
	}
	if _, _, err := SparseGet(known, trie.Root(), m.keys()[0]); !errors.As(err, &missing) {
		t.Fatalf("get a changed value: %v", err)
	}
}

func TestSparseRefusesDisorder(t *testing.T) {
	a, b := make([]byte, KeySize), bytes.Repeat([]byte{1}, KeySize)
	for name, tc := range map[string]struct {
		writes []Write
		want   error
	}{
		"descending": {[]Write{{Key: b}, {Key: a}}, ErrOrder},
		"twice":      {[]Write{{Key: a}, {Key: a}}, ErrOrder},
		"short key":  {[]Write{{Key: a[1:]}}, ErrKeySize},
	} {
		if _, _, err := SparseUpdate(newSomeNodes(), forks.Hash{}, tc.writes); !errors.Is(err, tc.want) {
			t.Errorf("%s: %v, want %v", name, err, tc.want)
		}
	}
	if _, err := SparseProve(newSomeNodes(), forks.Hash{}, [][KeySize]byte{[KeySize]byte(b), [KeySize]byte(a)}, nil); !errors.Is(err, ErrOrder) {
		t.Errorf("prove: %v, want ErrOrder", err)
	}
}

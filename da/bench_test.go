package da

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/libp2p/go-libp2p/p2p/protocol/ping"

	"accessor/da/erasure"
	"accessor/forks"
	"accessor/state/merkle"
)

// BenchmarkFetchKey is a miss of one key from one peer on loopback, proof checked.
func BenchmarkFetchKey(b *testing.B) {
	l := books()
	server, client := pair(b, overQUIC, l)
	server.serve.config.Rate = 1 << 30
	if err := fetchOne(b.Context(), client, 0); err != nil {
		b.Fatal(err)
	}
	i := 0
	for b.Loop() {
		if err := fetchOne(b.Context(), client, i%len(l.keys)); err != nil {
			b.Fatal(err)
		}
		i++
	}
}

// BenchmarkPing is libp2p's own round trip, to compare with.
func BenchmarkPing(b *testing.B) {
	server, client := pair(b, overQUIC, books())
	if err := fetchOne(b.Context(), client, 0); err != nil {
		b.Fatal(err)
	}
	results := ping.Ping(b.Context(), client.host, server.host.ID())
	for b.Loop() {
		if r := <-results; r.Error != nil {
			b.Fatal(r.Error)
		}
	}
}

// BenchmarkFetchBundle is a bundle of 20 kB from any 342 shards of one peer.
func BenchmarkFetchBundle(b *testing.B) {
	_, client := pair(b, overQUIC, books())
	spec := books().work(erasure.Full()).spec
	b.SetBytes(int64(spec.Length))
	for b.Loop() {
		if _, err := client.FetchErasure(b.Context(), spec); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkFill is a state of 20,000 keys with values of 100 bytes, from three peers on
// loopback at once, in pages of 256 KiB, checked.
func BenchmarkFill(b *testing.B) {
	l := &library{values: map[key][]byte{}}
	r := rand.New(rand.NewPCG(5, 6))
	for range 20_000 {
		k := key(filled(r, merkle.KeySize))
		l.keys, l.values[k] = append(l.keys, k), filled(r, 100)
	}
	slices.SortFunc(l.keys, func(a, b key) int { return bytes.Compare(a[:], b[:]) })
	recs := records{}
	root, err := merkle.Build(l.pairs(), func(k, v []byte) error { recs[string(k)] = bytes.Clone(v); return nil })
	if err != nil {
		b.Fatal(err)
	}
	if l.trie, err = merkle.Open(recs, root, merkle.NewCache(16<<20)); err != nil {
		b.Fatal(err)
	}
	l.at = forks.Block{Hash: forks.Hash{1}, Root: root}
	client := newNode(b, Config{}, nil)
	for range 3 {
		server := newNode(b, Config{Listen: []string{overQUIC}, Serve: Serve{State: Anyone, BytesPerSecond: 1 << 30}}, l)
		if err := client.AddPeer(server.Addrs()[0]); err != nil {
			b.Fatal(err)
		}
	}
	b.SetBytes(int64(len(l.keys) * (merkle.KeySize + 100)))
	for b.Loop() {
		var wg sync.WaitGroup
		for part := range 8 {
			wg.Go(func() {
				if err := fill(b, client, l, byte(part)); err != nil {
					b.Error(err)
				}
			})
		}
		wg.Wait()
	}
}

// fill fetches the eighth of a state whose keys start with these three bits.
func fill(b *testing.B, n *Node, l *library, part byte) error {
	req := merkle.RangeRequest{Start: key{part << 5}, End: key(bytes.Repeat([]byte{0xff}, 31)), MaxSize: 256 << 10}
	req.End[0] = part<<5 | 0x1f
	for more := true; more; {
		var p *merkle.Proof
		var err error
		if p, more, err = n.FetchRange(b.Context(), l.at, req); err != nil {
			return err
		}
		for _, pair := range p.Pairs {
			if !bytes.Equal(pair.Value, l.values[pair.Key]) {
				return fmt.Errorf("%w: of %x", errWrongAnswer, pair.Key)
			}
		}
		req.Start = above(p.Pairs[len(p.Pairs)-1].Key)
	}
	return nil
}

// BenchmarkAbsentShards asks for all shards of which none but the last is here.
func BenchmarkAbsentShards(b *testing.B) {
	l := books()
	w := l.work(erasure.Full())
	var indices []uint16
	for i := range 1023 {
		indices = append(indices, uint16(i))
	}
	sv := testServer(Serve{Shards: Anyone, Rate: 1 << 30}, part{l, func(i uint16) bool { return i == 1022 }})
	request := appendMessage(nil, shardRequest{w.spec.Root, -1, 1, indices}.encode())
	for b.Loop() {
		if status, _, err := ask(sv, "a", kindBundle, request, true); status != statusOK || err != nil {
			b.Fatal(status, err)
		}
	}
}

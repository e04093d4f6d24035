package da

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/libp2p/go-libp2p/core/peer"

	"accessor/da/datest"
	"accessor/da/erasure"
	"accessor/forks"
	"accessor/state/merkle"
)

// fetches are one fetch of each kind, that compares what it gets with the library.
func fetches() map[string]func(ctx context.Context, n *Node) error {
	l := books()
	tiny, full := l.work(erasure.Tiny()), l.work(erasure.Full())
	same := func(got, want any, err error) error {
		if b, ok := want.([]byte); ok && err == nil {
			if !bytes.Equal(got.([]byte), b) {
				err = errWrongAnswer
			}
		} else if err == nil {
			if diff := cmp.Diff(want, got); diff != "" {
				err = fmt.Errorf("%w: %s", errWrongAnswer, diff[:min(len(diff), 500)])
			}
		}
		return err
	}
	item := slices.MaxFunc(slices.Collect(maps.Values(l.items)), func(a, b []byte) int { return len(a) - len(b) })
	return map[string]func(ctx context.Context, n *Node) error{
		"keys": func(ctx context.Context, n *Node) error {
			keys := []key{l.keys[3], l.keys[4], {0x80}}
			p, err := n.FetchKeys(ctx, l.at, keys)
			if err != nil {
				return err
			}
			values, err := merkle.VerifyKeys(l.at.Root, keys, p)
			return same(values, [][]byte{l.values[keys[0]], l.values[keys[1]], nil}, err)
		},
		"range": func(ctx context.Context, n *Node) error {
			req := merkle.RangeRequest{Start: l.keys[10], End: l.keys[200], MaxSize: 4000}
			p, more, err := n.FetchRange(ctx, l.at, req)
			if err == nil && (!more || len(p.Pairs) < 5 || p.Pairs[0].Key != l.keys[10]) {
				err = errWrongAnswer
			}
			return err
		},
		"blocks": func(ctx context.Context, n *Node) error {
			got, err := n.FetchBlocks(ctx, l.at.Hash, 0)
			for i := range got {
				got[i].From = ""
			}
			return same(got, l.blocks, err)
		},
		"item": func(ctx context.Context, n *Node) error {
			got, err := n.FetchItem(ctx, hashOf(item))
			return same(got, item, err)
		},
		"tiny bundle": func(ctx context.Context, n *Node) error {
			got, err := n.FetchErasure(ctx, tiny.spec)
			return same(got, tiny.bundle, err)
		},
		"full bundle": func(ctx context.Context, n *Node) error {
			got, err := n.FetchErasure(ctx, full.spec)
			return same(got, full.bundle, err)
		},
		"tiny segment": func(ctx context.Context, n *Node) error {
			got, err := n.FetchSegment(ctx, tiny.spec, 65)
			return same(got, tiny.segments[65], err)
		},
		"full segment": func(ctx context.Context, n *Node) error {
			got, err := n.FetchSegment(ctx, full.spec, 2)
			return same(got, full.segments[2], err)
		},
	}
}

var errWrongAnswer = errors.New("wrong answer")

// Whatever a peer says, the reader gets what is right, from another one; and a peer
// that lies does so once.
func TestLies(t *testing.T) {
	for what, fetch := range fetches() {
		for _, lie := range datest.Lies {
			if what == "blocks" && lie.Name == "wrong byte at the end" {
				continue // of a write set: only an import finds that out
			}
			t.Run(what+"/"+lie.Name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					n, net := newFake(t, map[peer.ID]behaviour{"honest": honest(books()), "liar": altered(books(), lie.Tell)})
					// The liar looks better, so it is asked first.
					for k := range kinds {
						n.book.peers["liar"].latency[k] = time.Millisecond
					}
					for range 3 {
						if err := fetch(t.Context(), n); err != nil {
							t.Fatal(err)
						}
					}
					// A lie behind the last shard that was needed is found a little later.
					if got := net.times("liar"); got > 1 && !strings.Contains(what, " ") || got > 3 || !n.book.isBanned("liar") {
						t.Errorf("liar was asked %d times, %d answers rejected, banned: %v", got, n.Stats().Rejected, n.book.isBanned("liar"))
					}
					if n.book.isBanned("honest") {
						t.Error("the honest peer is banned")
					}
				})
			})
		}
	}
}

// With nobody else to ask, a lie is an error, and nothing is given.
func TestLiarAlone(t *testing.T) {
	for what, fetch := range fetches() {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n, _ := newFake(t, map[peer.ID]behaviour{"liar": altered(books(), datest.Lies[1].Tell)})
				if err := fetch(t.Context(), n); !errors.Is(err, ErrUnavailable) {
					t.Errorf("got %v", err)
				}
				if err := fetch(t.Context(), n); !errors.Is(err, ErrNoPeers) {
					t.Errorf("then got %v", err)
				}
			})
		})
	}
}

// lying changes what a source says, so that the bytes are well-formed.
type lying struct {
	*library
	keys  func(p *merkle.Proof)
	pairs func(req merkle.RangeRequest, p *merkle.Proof) *merkle.Proof
	block func(b []Block) []Block
	shard func(index uint16, s Shard) Shard
}

func (l lying) Prove(ctx context.Context, block forks.Hash, keys []key, most int) (*merkle.Proof, error) {
	p, err := l.library.Prove(ctx, block, keys, most)
	if err == nil && l.keys != nil {
		l.keys(p)
	}
	return p, err
}

func (l lying) ProveRange(ctx context.Context, block forks.Hash, req merkle.RangeRequest) (*merkle.Proof, error) {
	p, err := l.library.ProveRange(ctx, block, req)
	if err == nil && l.pairs != nil {
		p = l.pairs(req, p)
	}
	return p, err
}

func (l lying) Blocks(ctx context.Context, above forks.Hash, most int) ([]Block, error) {
	b, err := l.library.Blocks(ctx, above, most)
	if err == nil && l.block != nil {
		b = l.block(slices.Clone(b))
	}
	return b, err
}

func (l lying) Shard(ctx context.Context, root forks.Hash, index uint16) (Shard, error) {
	s, err := l.library.Shard(ctx, root, index)
	if err == nil && l.shard != nil {
		s = l.shard(index, s)
	}
	return s, err
}

// Lies that only a check of the contents finds.
func TestWellFormedLies(t *testing.T) {
	l := books()
	other := l.keys[300]
	shards := func(change func(index uint16, s Shard) Shard) lying { return lying{library: l, shard: change} }
	blocks := func(change func(b []Block) []Block) lying { return lying{library: l, block: change} }
	ranges := func(change func(req merkle.RangeRequest, p *merkle.Proof) *merkle.Proof) lying {
		return lying{library: l, pairs: change}
	}
	for name, c := range map[string]struct {
		fetch string
		src   Source
	}{
		"wrong value":       {"keys", lying{library: l, keys: func(p *merkle.Proof) { p.Pairs[0].Value = []byte("other") }}},
		"value left out":    {"keys", lying{library: l, keys: func(p *merkle.Proof) { p.Pairs = p.Pairs[1:] }}},
		"value of another":  {"keys", lying{library: l, keys: func(p *merkle.Proof) { p.Pairs[0].Key = other }}},
		"wrong proof":       {"keys", lying{library: l, keys: func(p *merkle.Proof) { p.Nodes[1][7] ^= 1 }}},
		"node left out":     {"keys", lying{library: l, keys: func(p *merkle.Proof) { p.Nodes = p.Nodes[:len(p.Nodes)-1] }}},
		"nodes and no more": {"keys", lying{library: l, keys: func(p *merkle.Proof) { p.Pairs = nil }}},
		"range with a hole": {"range", ranges(func(_ merkle.RangeRequest, p *merkle.Proof) *merkle.Proof {
			return &merkle.Proof{Nodes: p.Nodes, Pairs: slices.Delete(slices.Clone(p.Pairs), 2, 3)}
		})},
		"range cut at its front": {"range", ranges(func(_ merkle.RangeRequest, p *merkle.Proof) *merkle.Proof {
			return &merkle.Proof{Nodes: p.Nodes, Pairs: p.Pairs[1:]}
		})},
		"range cut at its end": {"range", ranges(func(_ merkle.RangeRequest, p *merkle.Proof) *merkle.Proof {
			return &merkle.Proof{Nodes: p.Nodes, Pairs: p.Pairs[:len(p.Pairs)-1]}
		})},
		"range of another start": {"range", ranges(func(req merkle.RangeRequest, _ *merkle.Proof) *merkle.Proof {
			req.Start = l.keys[11]
			p, _ := l.library().ProveRange(context.Background(), l.at.Hash, req)
			return p
		})},
		"range above its size": {"range", ranges(func(req merkle.RangeRequest, _ *merkle.Proof) *merkle.Proof {
			req.MaxSize *= 2
			p, _ := l.library().ProveRange(context.Background(), l.at.Hash, req)
			return p
		})},
		"block with another header": {"blocks", blocks(func(b []Block) []Block { b[1].Header = b[2].Header; return b })},
		"block with another slot":   {"blocks", blocks(func(b []Block) []Block { b[1].Slot += 5; return b })},
		"block with another root":   {"blocks", blocks(func(b []Block) []Block { b[1].PostRoot[3]++; return b })},
		"child before its parent":   {"blocks", blocks(func(b []Block) []Block { b[0], b[1] = b[1], b[0]; return b })},
		"block twice":               {"blocks", blocks(func(b []Block) []Block { return append(b, b[0]) })},
		"headless block with another prior root": {"blocks", blocks(func(b []Block) []Block {
			b[1].Header, b[1].PriorRoot = nil, forks.Hash{5}
			return b
		})},
		"shard of another index": {"tiny bundle", shards(func(index uint16, _ Shard) Shard {
			return l.work(erasure.Tiny()).shards[(index+1)%6]
		})},
		"shard of another package": {"full bundle", shards(func(index uint16, s Shard) Shard {
			s.Bundle = make([]byte, len(s.Bundle))
			return s
		})},
		"shard of another size": {"full bundle", shards(func(index uint16, s Shard) Shard {
			s.Bundle = s.Bundle[:len(s.Bundle)-2]
			return s
		})},
		"shard of another segment": {"tiny segment", shards(func(index uint16, s Shard) Shard {
			s.Segments = slices.Clone(s.Segments)
			s.Segments[65], s.Segments[66] = s.Segments[66], s.Segments[65]
			return s
		})},
		"justification of another": {"full segment", shards(func(index uint16, s Shard) Shard {
			s.Path = l.work(erasure.Full()).shards[(index+1)%1023].Path
			return s
		})},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n, net := newFake(t, map[peer.ID]behaviour{"honest": honest(l), "liar": honest(c.src)})
				for k := range kinds {
					n.book.peers["liar"].latency[k] = time.Millisecond
				}
				for range 2 {
					if err := fetches()[c.fetch](t.Context(), n); err != nil {
						t.Fatal(err)
					}
				}
				if net.times("liar") != 1 || !n.book.isBanned("liar") {
					t.Errorf("liar was asked %d times, banned: %v", net.times("liar"), n.book.isBanned("liar"))
				}
			})
		})
	}
}

func (l *library) library() *library { return l }

// A peer that shows where a range starts, and no pair of it, would keep its reader
// busy forever.
func TestEmptyRange(t *testing.T) {
	l := books()
	// A proof without pairs: that of the start alone, were it the range's end as well.
	hide := func(req merkle.RangeRequest, _ *merkle.Proof) *merkle.Proof {
		req.End = req.Start
		p, _ := l.ProveRange(context.Background(), l.at.Hash, req)
		return p
	}
	between := l.keys[10]
	between[30]++ // no key of the state
	synctest.Test(t, func(t *testing.T) {
		n, _ := newFake(t, map[peer.ID]behaviour{"honest": honest(l), "liar": honest(lying{library: l, pairs: hide})})
		n.book.peers["liar"].latency[kindRange] = time.Millisecond
		p, _, err := n.FetchRange(t.Context(), l.at, merkle.RangeRequest{Start: between, End: l.keys[20]})
		if err != nil || len(p.Pairs) != 10 || !n.book.isBanned("liar") {
			t.Errorf("%v: %d pairs, want 10", err, len(p.Pairs))
		}
		// Ranges that are empty are found to be so.
		for _, end := range []key{between, l.keys[11]} {
			if end == l.keys[11] {
				end[30]--
			}
			p, more, err := n.FetchRange(t.Context(), l.at, merkle.RangeRequest{Start: between, End: end})
			if err != nil || more || len(p.Pairs) > 0 {
				t.Errorf("%v: %d pairs, more: %v", err, len(p.Pairs), more)
			}
		}
	})
}

// A peer that gives one pair at a time says nothing wrong, but is left alone.
func TestShortRanges(t *testing.T) {
	l := books()
	one := func(req merkle.RangeRequest, _ *merkle.Proof) *merkle.Proof {
		req.MaxSize = 1
		p, _ := l.ProveRange(context.Background(), l.at.Hash, req)
		return p
	}
	synctest.Test(t, func(t *testing.T) {
		n, net := newFake(t, map[peer.ID]behaviour{"good": honest(l), "short": honest(lying{library: l, pairs: one})})
		for i := range 100 {
			if _, _, err := n.FetchRange(t.Context(), l.at, merkle.RangeRequest{Start: l.keys[i], End: l.keys[i+100]}); err != nil {
				t.Fatal(err)
			}
		}
		if got := net.times("short"); got > 10 || n.book.isBanned("short") {
			t.Errorf("asked %d times of 100, banned: %v", got, n.book.isBanned("short"))
		}
	})
}

// Reading all ranges gives all the state.
func TestRangesToTheEnd(t *testing.T) {
	l := books()
	synctest.Test(t, func(t *testing.T) {
		n, _ := newFake(t, map[peer.ID]behaviour{"a": honest(l), "b": honest(l)})
		req := merkle.RangeRequest{End: key(bytes.Repeat([]byte{0xff}, 31)), MaxSize: 3000}
		var keys []key
		for more := true; more; {
			var p *merkle.Proof
			var err error
			if p, more, err = n.FetchRange(t.Context(), l.at, req); err != nil {
				t.Fatal(err)
			}
			for _, pair := range p.Pairs {
				if !bytes.Equal(l.values[pair.Key], pair.Value) {
					t.Fatalf("wrong value of %x", pair.Key)
				}
				keys = append(keys, pair.Key)
			}
			req.Start = above(keys[len(keys)-1])
		}
		if diff := cmp.Diff(l.keys, keys); diff != "" {
			t.Error(diff)
		}
	})
}

// above is the key that follows one.
func above(k key) key {
	for i := len(k) - 1; i >= 0; i-- {
		if k[i]++; k[i] != 0 {
			break
		}
	}
	return k
}

package testnet

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"accessor/da"
	"accessor/da/datest"
	"accessor/forks"
	"accessor/state/merkle"
)

// TestLiars: an answer about a state that is spoiled in any way is refused, and who gave it is
// banned; one that says nothing is given up. Unspoiled, the same answers are taken.
func TestLiars(t *testing.T) {
	c, err := newChain(1, 300)
	if err != nil {
		t.Fatal(err)
	}
	at := c.anchor()
	all, err := newProvable(at.whole)
	if err != nil {
		t.Fatal(err)
	}
	trusted := forks.Block{Hash: at.Hash, Slot: at.Slot, Root: at.root}
	present, absent := [merkle.KeySize]byte([]byte(c.keys[7])), [merkle.KeySize]byte{1, 2, 3}
	list := map[string]way{"honest": {}}
	for name, how := range ways {
		if how.spoil != nil || how.manner != nil {
			list[name] = how
		}
	}
	for name, how := range list {
		for what, fetch := range map[string]func(n *da.Node) error{
			"present": func(n *da.Node) error {
				p, err := n.FetchKeys(t.Context(), trusted, [][merkle.KeySize]byte{present})
				if err == nil && !bytes.Equal(p.Pairs[0].Value, at.whole[c.keys[7]]) {
					t.Errorf("%s: another value", name)
				}
				return err
			},
			"absent": func(n *da.Node) error {
				_, err := n.FetchKeys(t.Context(), trusted, [][merkle.KeySize]byte{absent})
				return err
			},
			"range": func(n *da.Node) error {
				end := [merkle.KeySize]byte(bytes.Repeat([]byte{0xff}, merkle.KeySize))
				p, more, err := n.FetchRange(t.Context(), trusted, merkle.RangeRequest{End: end, MaxSize: 4 << 20})
				if err == nil && (more || len(p.Pairs) != len(at.whole)) {
					t.Errorf("%s: %d pairs of %d", name, len(p.Pairs), len(at.whole))
				}
				return err
			},
		} {
			t.Run(name+"/"+what, func(t *testing.T) {
				t.Parallel()
				l := startLiar(t, how)
				l.learn(at, all)
				n, err := da.New(t.Context(), da.Config{Peers: l.node.Addrs(), Timeout: 5 * time.Second, Answer: 2 * time.Second}, nil)
				if err != nil {
					t.Fatal(err)
				}
				defer n.Close()
				err = fetch(n)
				s := n.Stats()
				want := uint64(1)
				if name == "honest" || name == "stall" {
					want = 0
				}
				if (err == nil) != (name == "honest") || s.Rejected != want || s.Banned != int(want) {
					t.Errorf("%v; %d rejected, %d banned", err, s.Rejected, s.Banned)
				}
			})
		}
	}
}

// startLiar makes a liar on loopback, for as long as the test runs.
func startLiar(t *testing.T, how way) *liar {
	t.Helper()
	h, err := datest.NewHost()
	if err != nil {
		t.Fatal(err)
	}
	l, err := newLiar(t.Context(), datest.Host{Host: h}, how)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// TestShardLiars: shards of liars are refused whatever they spoil, of bundles and of
// segments, and those of honest peers, who have just enough, are taken.
func TestShardLiars(t *testing.T) {
	c, err := newChain(1, 10)
	if err != nil {
		t.Fatal(err)
	}
	r := &run{chain: c}
	w, err := r.makeWork("w", 5000, 2)
	if err != nil {
		t.Fatal(err)
	}
	var addresses []string
	for _, how := range []way{ways["shard"], ways["shard"], {shard: func(uint16, *da.Shard) {}}} {
		l := startLiar(t, how)
		l.learnWork(w)
		addresses = append(addresses, l.node.Addrs()...)
	}
	for name, honest := range map[string]bool{"with an honest one": true, "liars alone": false} {
		peers := addresses
		if !honest {
			peers = addresses[:2]
		}
		for i := -1; i < 2; i++ {
			n, err := da.New(t.Context(), da.Config{Peers: peers}, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer n.Close()
			var got []byte
			want := w.bundle
			if i < 0 {
				got, err = n.FetchErasure(t.Context(), w.spec)
			} else {
				want = w.segments[i]
				got, err = n.FetchSegment(t.Context(), w.spec, i)
			}
			if honest && (err != nil || !bytes.Equal(got, want)) || !honest && err == nil {
				t.Errorf("%s, %d: %v", name, i, err)
			}
			if s := n.Stats(); !honest && (s.Rejected != 2 || s.Banned != 2) {
				t.Errorf("%s, %d: %d rejected, %d banned", name, i, s.Rejected, s.Banned)
			}
		}
	}
}

// TestLiarKnowsNoOther: of states that it wasn't told it says that it hasn't them.
func TestLiarKnowsNoOther(t *testing.T) {
	l := &liar{}
	if _, err := l.Prove(t.Context(), forks.Hash{1}, nil, 0); !errors.Is(err, da.ErrNotHeld) {
		t.Error(err)
	}
}

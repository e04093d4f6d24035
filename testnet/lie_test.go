package testnet

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"accessor/da"
	"accessor/forks"
	"accessor/state/merkle"
)

// TestLiars: an answer in any way is refused, and who gave it is banned; one that says
// nothing is given up. Unspoiled, the same answers are taken.
func TestLiars(t *testing.T) {
	c, err := newChain(1, 300)
	if err != nil {
		t.Fatal(err)
	}
	at := c.anchor()
	trusted := forks.Block{Hash: at.Hash, Slot: at.Slot, Root: at.root}
	present, absent := [merkle.KeySize]byte([]byte(c.keys[7])), [merkle.KeySize]byte{1, 2, 3}
	list := map[string]way{"honest": {}}
	for name, how := range ways {
		list[name] = how
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
				l, err := newLiar(t.Context(), how)
				if err != nil {
					t.Fatal(err)
				}
				defer l.Close()
				if err := l.learn(at); err != nil {
					t.Fatal(err)
				}
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

// TestLiarKnowsNoOther: of states that it wasn't told it says that it hasn't them.
func TestLiarKnowsNoOther(t *testing.T) {
	l := &liar{}
	if _, err := l.Prove(t.Context(), forks.Hash{1}, nil, 0); !errors.Is(err, da.ErrNotHeld) {
		t.Error(err)
	}
}

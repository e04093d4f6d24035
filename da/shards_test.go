package da

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"accessor/da/erasure"
)

// Shards come together from peers that have one each, some, or all; those that stall
// or lie don't matter.
func TestShardsOfMany(t *testing.T) {
	l := books()
	w := l.work(erasure.Full())
	for name, peers := range map[string]map[peer.ID]behaviour{
		"halves": {
			"low":  honest(part{l, func(i uint16) bool { return i%2 == 0 && i < 500 }}),
			"high": honest(part{l, func(i uint16) bool { return i > 900 }}),
		},
		"one each": func() map[peer.ID]behaviour {
			peers := map[peer.ID]behaviour{}
			for i := range uint16(400) {
				peers[peer.ID(fmt.Sprint(i))] = honest(part{l, func(at uint16) bool { return at == 2*i }})
			}
			return peers
		}(),
		"a staller": {
			"a": honest(l), "b": honest(l), "staller": silent, "drip": dripping(l), "broken": breaking(l),
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n, _ := newFake(t, peers)
				d := took(func() {
					for _, what := range []string{"full bundle", "full segment"} {
						if err := fetches()[what](t.Context(), n); err != nil {
							t.Error(err)
						}
					}
				})
				t.Logf("%v, %+v", d, n.Stats())
				if d > 3*time.Second {
					t.Errorf("took %v", d)
				}
			})
		})
	}
	synctest.Test(t, func(t *testing.T) {
		n, _ := newFake(t, map[peer.ID]behaviour{
			"a": honest(part{l, func(i uint16) bool { return i < 200 }}),
			"b": honest(part{l, func(i uint16) bool { return i < 341 }}),
		})
		if _, err := n.FetchErasure(t.Context(), w.spec); !errors.Is(err, ErrNotFound) {
			t.Errorf("with too few shards: %v", err)
		}
	})
}

// The work of four peers is shared among them, without shards that come twice.
func TestShardsAreShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := books()
		n, _ := newFake(t, map[peer.ID]behaviour{"a": honest(l), "b": honest(l), "c": honest(l), "d": honest(l)})
		w := l.work(erasure.Full())
		if err := fetches()["full bundle"](t.Context(), n); err != nil {
			t.Fatal(err)
		}
		each := len(w.shards[0].Bundle) + 4 + 6 + 4 + 11*34
		if s := n.Stats(); s.Requests != 4 || s.ReadBytes > uint64(360*each) {
			t.Errorf("%d requests, %d bytes for 342 shards of %d", s.Requests, s.ReadBytes, each)
		}
	})
}

// An encoder that lied is found out, and no peer is blamed.
func TestEncoderLies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := books()
		n, _ := newFake(t, map[peer.ID]behaviour{"a": honest(l)})
		w := l.work(erasure.Tiny())
		spec := w.spec
		spec.Hash[0] ^= 1
		if _, err := n.FetchErasure(t.Context(), spec); !errors.Is(err, ErrEncoding) {
			t.Errorf("got %v", err)
		}
		spec = w.spec
		spec.SegmentsRoot[0] ^= 1
		if _, err := n.FetchSegment(t.Context(), spec, 1); !errors.Is(err, ErrEncoding) {
			t.Errorf("got %v", err)
		}
		if n.book.isBanned("a") {
			t.Error("a peer is banned for it")
		}
	})
}

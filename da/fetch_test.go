package da

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"accessor/da/datest"
	"accessor/da/erasure"
	"accessor/forks"
	"accessor/state/merkle"
)

func fetchOne(ctx context.Context, n *Node, i int) error {
	l := books()
	p, err := n.FetchKeys(ctx, l.at, []key{l.keys[i]})
	if err == nil && string(p.Pairs[0].Value) != string(l.values[l.keys[i]]) {
		err = errWrongAnswer
	}
	return err
}

// within says how long something took.
func took(f func()) time.Duration {
	start := time.Now()
	f()
	return time.Since(start)
}

func TestConcurrentEqualFetchesAreOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, net := newFake(t, map[peer.ID]behaviour{"a": honest(books()), "b": honest(books())})
		var wg sync.WaitGroup
		for range 1000 {
			wg.Go(func() {
				if err := fetchOne(t.Context(), n, 5); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if s := n.Stats(); s.Fetches != 1 || s.Joined != 999 || s.Requests != 1 || net.times("a")+net.times("b") != 1 {
			t.Errorf("%+v", s)
		}
	})
}

// Who leaves a shared fetch doesn't end it for others; when all have left, it ends.
func TestLeavingASharedFetch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := *books()
		slow.delay = 2 * time.Second
		n, _ := newFake(t, map[peer.ID]behaviour{"a": honest(&slow)})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := fetchOne(t.Context(), n, 5); err != nil {
				t.Error(err)
			}
		})
		wg.Go(func() {
			if err := fetchOne(ctx, n, 5); !errors.Is(err, ErrUnavailable) || !errors.Is(err, context.DeadlineExceeded) {
				t.Error(err)
			}
		})
		wg.Wait()
		if s := n.Stats(); s.Fetches != 1 || s.Requests != 1 {
			t.Errorf("%+v", s)
		}
		left, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if err := fetchOne(left, n, 6); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		synctest.Wait()
		if len(n.fetch.calls) != 0 {
			t.Error("a fetch goes on that nobody waits for")
		}
	})
}

// A peer that is in the way costs the time of a hedge once, and is asked last then.
func TestSlowPeersAreDemoted(t *testing.T) {
	for name, bad := range map[string]behaviour{
		"silent": silent, "dripping": dripping(books()), "reset": resetting, "breaking": breaking(books()), "dead": nil,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n, net := newFake(t, map[peer.ID]behaviour{"bad": bad, "good": honest(books())})
				n.book.peers["bad"].latency[kindKeys] = time.Millisecond
				first := took(func() {
					if err := fetchOne(t.Context(), n, 1); err != nil {
						t.Fatal(err)
					}
				})
				if first > hedgeUnknown+50*time.Millisecond {
					t.Errorf("the first fetch took %v", first)
				}
				for i := range 50 {
					if d := took(func() {
						if err := fetchOne(t.Context(), n, i); err != nil {
							t.Fatal(err)
						}
					}); d > 50*time.Millisecond {
						t.Errorf("fetch %d took %v", i, d)
					}
				}
				if most := map[string]int{"dead": 2, "reset": 2, "breaking": 2}[name]; net.times("bad") > max(most, 1) || n.book.isBanned("bad") {
					t.Errorf("bad peer was asked %d times, banned: %v", net.times("bad"), n.book.isBanned("bad"))
				}
			})
		})
	}
}

// However fast the known peers are, a new one gets its share of work that is done side
// by side; reads one after the other stay with the fast ones.
func TestNewPeersBesideFastOnes(t *testing.T) {
	b := newBook(time.Hour, nil)
	for _, id := range []peer.ID{"a", "b", "new"} {
		b.add(id, true)
	}
	for _, id := range []peer.ID{"a", "b"} {
		b.peers[id].latency[kindRange] = time.Millisecond
	}
	pick := func() peer.ID {
		id, ok := b.pick(kindRange, false, nil)
		if !ok {
			t.Fatal("nobody is asked")
		}
		return id
	}
	for range 100 {
		id := pick()
		if id == "new" {
			t.Fatal("a new peer is asked before fast ones that have nothing to do")
		}
		b.done(id, kindRange, time.Millisecond, outcomeGood, nil)
	}
	asked := map[peer.ID]int{}
	for range 4 {
		asked[pick()]++
	}
	if asked["new"] == 0 {
		t.Errorf("of four requests at once: %v", asked)
	}
}

// Who asks for blocks asks each peer in turn, a far and a lagging one too: they may have
// forks that others don't have. One that is demoted is asked seldom.
func TestBlocksInTurn(t *testing.T) { synctest.Test(t, testBlocksInTurn) }

func testBlocksInTurn(t *testing.T) {
	b := newBook(time.Hour, nil)
	for _, id := range []peer.ID{"near", "far", "bad"} {
		b.add(id, true)
	}
	asked := map[peer.ID]int{}
	for range 60 {
		id, ok := b.pick(kindBlocks, true, nil)
		if !ok {
			t.Fatal("nobody is asked")
		}
		asked[id]++
		took, how := time.Millisecond, outcomeGood
		if id != "near" {
			took, how = 200*time.Millisecond, outcomeNotHeld
		}
		b.done(id, kindBlocks, took, how, nil)
		if id == "bad" {
			b.peers[id].blame(time.Now(), maxDemerit)
		}
		time.Sleep(time.Second)
	}
	if asked["near"] < 15 || asked["far"] < 15 || asked["bad"] == 0 || asked["bad"] > 15 {
		t.Error(asked)
	}
}

// A hedge goes out after the 95th percentile of what requests take.
func TestHedgeAfterP95(t *testing.T) {
	var d durations
	if d.hedge() != hedgeUnknown {
		t.Errorf("without any: %v", d.hedge())
	}
	for i := range 100 {
		d.add(time.Duration(i%64) * 10 * time.Millisecond)
	}
	if got := d.hedge(); got != 590*time.Millisecond {
		t.Errorf("of 0 to 630 ms: %v", got)
	}
	for range 64 {
		d.add(time.Millisecond)
	}
	if d.hedge() != hedgeLeast {
		t.Errorf("of 1 ms: %v", d.hedge())
	}

	synctest.Test(t, func(t *testing.T) {
		n, net := newFake(t, map[peer.ID]behaviour{"a": honest(books())})
		for i := range 20 {
			if err := fetchOne(t.Context(), n, i); err != nil {
				t.Fatal(err)
			}
		}
		net.set("a", silent)
		net.set("b", honest(books()))
		n.book.add("b", true)
		d := took(func() {
			if err := fetchOne(t.Context(), n, 30); err != nil {
				t.Error(err)
			}
		})
		if d < hedgeLeast || d > hedgeLeast+15*time.Millisecond || n.Stats().Hedges != 1 {
			t.Errorf("took %v with %d hedges", d, n.Stats().Hedges)
		}
	})
}

func TestNotFound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, net := newFake(t, map[peer.ID]behaviour{"a": honest(empty{}), "b": honest(empty{}), "c": honest(empty{})})
		for i := range 2 { // it isn't kept
			if err := fetchOne(t.Context(), n, 1); !errors.Is(err, ErrNotFound) {
				t.Errorf("got %v", err)
			}
			if net.times("a") != i+1 || net.times("b") != i+1 || net.times("c") != i+1 {
				t.Errorf("asked %v", net.asked)
			}
		}
		net.set("b", honest(books()))
		for what, fetch := range fetches() {
			if err := fetch(t.Context(), n); err != nil {
				t.Errorf("%s, which one of three has: %v", what, err)
			}
		}
		// With one that can't be asked, nobody knows.
		net.set("b", nil)
		if err := fetchOne(t.Context(), n, 2); !errors.Is(err, ErrUnavailable) || errors.Is(err, ErrNotFound) {
			t.Errorf("got %v", err)
		}
	})
}

// Peers that have something are asked before those that never do.
func TestWhoHasItIsAskedFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, net := newFake(t, map[peer.ID]behaviour{"a": honest(empty{}), "b": honest(empty{}), "c": honest(books())})
		for i := range 100 {
			if err := fetchOne(t.Context(), n, i); err != nil {
				t.Fatal(err)
			}
		}
		if got := net.times("a") + net.times("b"); got > 10 {
			t.Errorf("asked those that have nothing %d times", got)
		}
	})
}

func TestNoPeers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, _ := newFake(t, nil)
		if err := fetchOne(t.Context(), n, 1); !errors.Is(err, ErrNoPeers) {
			t.Errorf("got %v", err)
		}
		// Nor is one that doesn't serve this, or not to this node.
		n.book.add("unsupported", true)
		if err := fetchOne(t.Context(), n, 1); !errors.Is(err, ErrNoPeers) {
			t.Errorf("got %v", err)
		}
		sv := testServer(Serve{State: Listed}, books())
		n, net := newFake(t, map[peer.ID]behaviour{"a": func(k kind, s stream) { sv.handle(k, "stranger", s) }})
		for range 2 {
			if err := fetchOne(t.Context(), n, 1); !errors.Is(err, ErrNoPeers) {
				t.Errorf("got %v", err)
			}
		}
		n.book.add("liar", true)
		n.book.ban("liar", errors.New("a lie"))
		const why = "no peers: 1 refuse this (is this node's id in their da.allow?), 1 are banned, one of them for a lie"
		if err := fetchOne(t.Context(), n, 1); !errors.Is(err, ErrNoPeers) || !strings.Contains(err.Error(), why) {
			t.Errorf("got %v", err)
		}
		if net.times("a") != 1 || sv.stats.refused.Load() != 1 {
			t.Errorf("asked %d times", net.times("a"))
		}
		time.Sleep(refusedFor)
		sv.listed = func(peer.ID) bool { return true }
		if err := fetchOne(t.Context(), n, 1); err != nil {
			t.Errorf("once it is served: %v", err)
		}
	})
}

// An overloaded peer is left alone as long as it wishes.
func TestOverloaded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, net := newFake(t, map[peer.ID]behaviour{"a": overloadedUntil(time.Now().Add(3*time.Second), books())})
		d := took(func() {
			if err := fetchOne(t.Context(), n, 1); err != nil {
				t.Error(err)
			}
		})
		if d < 2900*time.Millisecond || d > 3300*time.Millisecond || net.times("a") > 2 {
			t.Errorf("took %v and %d requests", d, net.times("a"))
		}
	})
}

// One that is always overloaded doesn't keep readers forever.
func TestAlwaysOverloaded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		busy := func(_ kind, s stream) { decline(s, statusOverloaded, 100*time.Millisecond) }
		n, net := newFake(t, map[peer.ID]behaviour{"busy": busy, "empty": honest(empty{})})
		d := took(func() {
			if err := fetchOne(t.Context(), n, 1); !errors.Is(err, ErrUnavailable) {
				t.Errorf("got %v", err)
			}
		})
		if d > 2*time.Second || net.times("busy") != maxOverloaded || net.times("empty") != 1 {
			t.Errorf("took %v, asked %v", d, net.asked)
		}
	})
}

// Nor does it keep readers of shards; and who refuses all is as good as nobody.
func TestNoShards(t *testing.T) {
	spec := books().work(erasure.Tiny()).spec
	for name, c := range map[string]struct {
		status byte
		wait   []time.Duration
		want   error
		times  int
	}{
		"overloaded": {statusOverloaded, []time.Duration{100 * time.Millisecond}, ErrUnavailable, maxOverloaded},
		"refused":    {statusRefused, nil, ErrNoPeers, 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n, net := newFake(t, map[peer.ID]behaviour{"peer": func(_ kind, s stream) { decline(s, c.status, c.wait...) }})
				d := took(func() {
					if _, err := n.FetchErasure(t.Context(), spec); !errors.Is(err, c.want) {
						t.Errorf("got %v", err)
					}
				})
				if d > 2*time.Second || net.times("peer") != c.times {
					t.Errorf("took %v, asked %d times", d, net.times("peer"))
				}
			})
		})
	}
}

// A dead network costs a reader no more than its timeout, and soon nothing; when peers
// are back, they are found.
func TestDeadNetwork(t *testing.T) {
	for name, dead := range map[string]behaviour{"dead": nil, "silent": silent} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n, net := newFake(t, map[peer.ID]behaviour{"a": dead, "b": dead, "c": dead})
				read := func() time.Duration {
					return took(func() {
						ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
						defer cancel()
						if err := fetchOne(ctx, n, 1); !errors.Is(err, ErrUnavailable) {
							t.Errorf("got %v", err)
						}
						synctest.Wait()
					})
				}
				for range 5 {
					if d := read(); d > 2*time.Second {
						t.Errorf("took %v", d)
					}
				}
				before := net.times("a") + net.times("b") + net.times("c")
				var sum time.Duration
				for range 100 {
					sum += read()
				}
				if sum > 20*time.Millisecond {
					t.Errorf("100 more reads took %v", sum)
				}
				if after := net.times("a") + net.times("b") + net.times("c"); after-before > 3 {
					t.Errorf("%d requests for 100 reads", after-before)
				}
				net.set("b", honest(books()))
				n.book.awake("b") // it connects
				if err := fetchOne(t.Context(), n, 1); err != nil {
					t.Errorf("with a peer: %v", err)
				}
				net.set("c", honest(books()))
				net.set("b", nil)
				time.Sleep(2 * breakMost)
				for i := range 3 {
					if err := fetchOne(t.Context(), n, i); err != nil {
						t.Errorf("with another peer: %v", err)
					}
				}
			})
		})
	}
}

// Failures are tried again, after pauses.
func TestRetries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		failures := 2
		n, _ := newFake(t, map[peer.ID]behaviour{"a": func(k kind, s stream) {
			if failures--; failures >= 0 {
				_ = s.Reset()
				return
			}
			honest(books())(k, s)
		}})
		if err := fetchOne(t.Context(), n, 1); err != nil {
			t.Error(err)
		}
		if s := n.Stats(); s.Retries != 2 || s.Requests != 3 {
			t.Errorf("%+v", s)
		}
	})
}

// With a third of the peers lying in every way, readers get what is right, about as
// fast.
func TestAThirdLies(t *testing.T) {
	measure := func(t *testing.T, bad map[peer.ID]behaviour) (all []time.Duration, n *Node, net *fakeNet) {
		peers := map[peer.ID]behaviour{}
		for i := range 10 {
			peers[peer.ID(fmt.Sprint("honest", i))] = honest(books())
		}
		i := 0
		for id, b := range bad {
			delete(peers, peer.ID(fmt.Sprint("honest", i)))
			peers[id] = b
			i++
		}
		n, net = newFake(t, peers)
		for i := range 500 {
			all = append(all, took(func() {
				if err := fetchOne(t.Context(), n, i); err != nil {
					t.Error(err)
				}
			}))
		}
		slices.Sort(all)
		return all, n, net
	}
	synctest.Test(t, func(t *testing.T) {
		usual, _, _ := measure(t, nil)
		for range 10 {
			bad := map[peer.ID]behaviour{}
			for _, i := range rand.Perm(len(datest.Lies))[:2] {
				lie := datest.Lies[i]
				bad[peer.ID("liar: "+lie.Name)] = altered(books(), lie.Tell)
			}
			stallers := []behaviour{silent, dripping(books()), breaking(books()), resetting}
			bad["staller"] = stallers[rand.N(len(stallers))]
			all, n, net := measure(t, bad)
			if usual, got := usual[495], all[495]; got > 3*usual {
				t.Errorf("p99 is %v, of honest peers %v", got, usual)
			}
			for id := range bad {
				if net.times(id) > 3 {
					t.Errorf("%s was asked %d times", id, net.times(id))
				}
			}
			if s := n.Stats(); s.Failed > 0 {
				t.Errorf("%+v", s)
			}
		}
	})
}

func TestBadRequests(t *testing.T) {
	n, _ := newFake(t, nil)
	ctx, l := t.Context(), books()
	spec := l.work(erasure.Tiny()).spec
	for name, fetch := range map[string]func() error{
		"no keys":    func() error { _, err := n.FetchKeys(ctx, l.at, nil); return err },
		"many keys":  func() error { _, err := n.FetchKeys(ctx, l.at, make([]key, MaxKeys+1)); return err },
		"key twice":  func() error { _, err := n.FetchKeys(ctx, l.at, []key{{1}, {1}}); return err },
		"descending": func() error { _, err := n.FetchKeys(ctx, l.at, []key{{2}, {1}}); return err },
		"start above end": func() error {
			_, _, err := n.FetchRange(ctx, l.at, merkle.RangeRequest{Start: key{1}})
			return err
		},
		"odd code":   func() error { s := spec; s.Shards = 7; _, err := n.FetchErasure(ctx, s); return err },
		"too large":  func() error { s := spec; s.Length = MaxItem + 1; _, err := n.FetchErasure(ctx, s); return err },
		"no segment": func() error { _, err := n.FetchSegment(ctx, spec, spec.Exported); return err },
		"segments":   func() error { s := spec; s.Exported = 5000; _, err := n.FetchSegment(ctx, s, 1); return err },
	} {
		if err := fetch(); !errors.Is(err, ErrRequest) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A proof that is too large for an answer is told apart from one that isn't there.
func TestTooLarge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, _ := newFake(t, map[peer.ID]behaviour{"a": honest(large{books()}), "b": honest(empty{})})
		if err := fetchOne(t.Context(), n, 1); !errors.Is(err, ErrTooLarge) {
			t.Errorf("got %v", err)
		}
	})
}

type large struct{ *library }

func (large) Prove(context.Context, forks.Hash, []key, int) (*merkle.Proof, error) {
	return &merkle.Proof{Pairs: []merkle.Pair{{Value: make([]byte, MaxItem)}}}, nil
}

// The end of the node's own time is not that of the caller.
func TestTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, _ := newFake(t, map[peer.ID]behaviour{"a": silent})
		n.fetch.timeout = 2 * time.Second
		d := took(func() {
			if err := fetchOne(t.Context(), n, 1); !errors.Is(err, ErrUnavailable) || errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("got %v", err)
			}
		})
		if d != 2*time.Second {
			t.Errorf("took %v", d)
		}
	})
}

func TestCloseEndsFetches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, _ := newFake(t, map[peer.ID]behaviour{"a": silent})
		base, cancel := context.WithCancel(context.Background())
		n.fetch.base = base
		go func() {
			time.Sleep(100 * time.Millisecond)
			cancel()
		}()
		if err := fetchOne(t.Context(), n, 1); !errors.Is(err, ErrUnavailable) || !errors.Is(err, ErrClosed) {
			t.Errorf("got %v", err)
		}
		n.fetch.close()
		if err := fetchOne(t.Context(), n, 1); !errors.Is(err, ErrClosed) {
			t.Errorf("got %v", err)
		}
	})
}

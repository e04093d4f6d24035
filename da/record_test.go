package da

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

// Callers who give up early on a slow network don't make its peers look dead.
func TestImpatientReaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, net := newFake(t, map[peer.ID]behaviour{"far": honest(books())})
		net.latency = 300 * time.Millisecond
		for i := range 10 {
			if err := fetchOne(t.Context(), n, i); err != nil {
				t.Fatal(err)
			}
		}
		for i := range 5 {
			ctx, cancel := context.WithTimeout(t.Context(), 400*time.Millisecond)
			if err := fetchOne(ctx, n, i); !errors.Is(err, context.DeadlineExceeded) {
				t.Error(err)
			}
			cancel()
		}
		if err := fetchOne(t.Context(), n, 1); err != nil {
			t.Error(err)
		}
	})
}

// One peer that hasn't it, and fails at other things meanwhile, doesn't keep another from
// being tried again.
func TestRestingPeersThatSaidNo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n *Node
		failures := 1
		n, _ = newFake(t, map[peer.ID]behaviour{"no": honest(empty{}), "yes": func(k kind, s stream) {
			if failures--; failures < 0 {
				honest(books())(k, s)
				return
			}
			time.Sleep(20 * time.Millisecond)
			n.book.mu.Lock()
			n.book.peers["no"].resting = time.Now().Add(time.Minute)
			n.book.mu.Unlock()
			_ = s.Reset()
		}})
		n.book.peers["no"].latency[kindKeys] = time.Millisecond // it is asked first
		if err := fetchOne(t.Context(), n, 1); err != nil {
			t.Error(err)
		}
	})
}

// A peer that connects again and again, and never answers, is left alone all the same.
func TestConnectingIsNoAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, net := newFake(t, map[peer.ID]behaviour{"a": silent})
		for range 50 {
			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			if err := fetchOne(ctx, n, 1); !errors.Is(err, ErrUnavailable) {
				t.Errorf("got %v", err)
			}
			cancel()
			n.book.awake("a")
			time.Sleep(50 * time.Millisecond)
		}
		if got := net.times("a"); got > 15 {
			t.Errorf("asked %d times", got)
		}
	})
}

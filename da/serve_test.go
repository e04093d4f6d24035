package da

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"accessor/da/items"
	"accessor/forks"
	"accessor/state/merkle"
)

// ask sends bytes to a server as a peer does, ends the request if it should, and gives
// the status, or the error of the stream.
func ask(sv *server, id peer.ID, k kind, sent []byte, end bool) (status int, rest []byte, err error) {
	ours, theirs := newStreams()
	go sv.handle(k, id, theirs)
	_, _ = ours.Write(sent)
	if end {
		_ = ours.CloseWrite()
	}
	b := make([]byte, 1<<20)
	n, err := readFull(ours, b)
	if err != nil || n == 0 {
		return -1, nil, err
	}
	return int(b[0]), b[1:n], nil
}

func keysRequest(i int) []byte {
	l := books()
	return appendMessage(nil, encodeKeys(l.at.Hash, l.keys[i:i+1], MaxItem))
}

func TestServesWhomItShould(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		item := hashOf(nil)
		sv := testServer(DefaultServe(), books())
		for _, c := range []struct {
			id   peer.ID
			k    kind
			want int
		}{
			{"listed", kindKeys, statusOK}, {"stranger", kindKeys, statusRefused}, {"stranger", kindRange, statusRefused},
			{"stranger", kindBlocks, statusRefused}, {"stranger", kindItem, statusOK}, {"banned", kindItem, -1},
		} {
			request := keysRequest(1)
			if c.k == kindItem {
				request = appendMessage(nil, item[:])
			}
			if got, _, err := ask(sv, c.id, c.k, request, true); got != c.want {
				t.Errorf("%s asks for %s: status %d, %v, want %d", c.id, protocols[c.k], got, err, c.want)
			}
		}
		for k := range kinds {
			if testServer(Serve{}, books()).serves(k) || testServer(DefaultServe(), nil).serves(k) {
				t.Errorf("%s is served though nothing is switched on, or there", protocols[k])
			}
		}
	})
}

// What clients may send that isn't a request costs them an answer, and nobody else.
func TestHostileClients(t *testing.T) {
	l := books()
	huge := appendMessage(nil, make([]byte, maxRequest[kindKeys]+1))
	good := keysRequest(1)
	for name, c := range map[string]struct {
		sent []byte
		end  bool
		want int // -1: the stream is reset
	}{
		"too long":         {huge, true, statusBad},
		"length of 4 GiB":  {[]byte("\xff\xff\xff\xff"), false, statusBad},
		"two requests":     {append(bytes.Clone(good), good...), true, statusBad},
		"cut":              {good[:20], true, statusBad},
		"nothing":          {nil, true, statusBad},
		"garbage":          {appendMessage(nil, bytes.Repeat([]byte{0xee}, 98)), true, statusBad},
		"never ends":       {good, false, -1},
		"stops in between": {good[:20], false, -1},
		"says nothing":     {nil, false, -1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				sv := testServer(DefaultServe(), l)
				start := time.Now()
				status, _, err := ask(sv, "listed", kindKeys, c.sent, c.end)
				if status != c.want || time.Since(start) > requestTime || status < 0 && !errors.Is(err, errReset) {
					t.Errorf("status %d, %v after %v", status, err, time.Since(start))
				}
				synctest.Wait()
				if sv.active != 0 {
					t.Errorf("%d requests at work", sv.active)
				}
				if status, _, err := ask(sv, "listed", kindKeys, good, true); status != statusOK {
					t.Errorf("another request: %d, %v", status, err)
				}
			})
		})
	}
}

// blocking is a source that works until it is told to end.
type blocking struct{ empty }

func (blocking) Item(ctx context.Context, _ forks.Hash) ([]byte, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

// Requests that the end of the node cuts off are no errors of the source.
func TestClosingIsNoError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		core, told := observer.New(zap.WarnLevel)
		base, cancel := context.WithCancel(t.Context())
		sv := testServer(Serve{Items: Anyone}, blocking{})
		sv.base, sv.log = base, zap.New(core)
		time.AfterFunc(time.Second, cancel)
		if _, _, err := ask(sv, "a", kindItem, appendMessage(nil, make([]byte, 32)), true); !errors.Is(err, errReset) {
			t.Errorf("got %v", err)
		}
		sv.close()
		if told.Len() != 0 {
			t.Errorf("the log has %v", told.All())
		}
	})
}

// A peer that doesn't read its answer keeps its place for a while, and only as many
// as a peer may have.
func TestSlowReaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		big := &library{items: map[forks.Hash][]byte{}}
		item := make([]byte, 2<<20)
		hash := hashOf(item)
		big.items[hash] = item
		sv := testServer(Serve{Items: Anyone, Concurrent: 10, PerPeer: 4}, big)
		var held []*memStream
		for range 20 {
			ours, theirs := newStreams()
			go sv.handle(kindItem, "slow", theirs)
			_, _ = ours.Write(appendMessage(nil, hash[:]))
			_ = ours.CloseWrite()
			held = append(held, ours)
		}
		synctest.Wait()
		if sv.active != 4 || sv.stats.limited.Load() != 16 {
			t.Errorf("%d at work, %d sent away", sv.active, sv.stats.limited.Load())
		}
		ours, theirs := newStreams()
		go sv.handle(kindItem, "other", theirs)
		_, _ = ours.Write(appendMessage(nil, hash[:]))
		_ = ours.CloseWrite()
		if n, err := readFull(ours, make([]byte, 3<<20)); n != len(item)+5 || err != nil {
			t.Errorf("another peer got %d bytes, %v", n, err)
		}
		time.Sleep(2 * writeGrace)
		synctest.Wait()
		if sv.active != 0 || sv.stats.aborted.Load() != 4 {
			t.Errorf("%d at work after %v, %d aborted", sv.active, 2*writeGrace, sv.stats.aborted.Load())
		}
		for _, s := range held {
			_ = s.Reset()
		}
	})
}

// Requests beyond a peer's rate are told when to come again; other peers and protocols
// have rates of their own.
func TestRates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		config := Serve{State: Anyone, Items: Anyone, Rate: 10}
		sv := testServer(config, books())
		for range 10 {
			if status, _, err := ask(sv, "a", kindKeys, keysRequest(1), true); status != statusOK {
				t.Fatalf("status %d, %v", status, err)
			}
		}
		status, rest, _ := ask(sv, "a", kindKeys, keysRequest(1), true)
		if status != statusOverloaded || len(rest) != 4 || rest[0] > 100 {
			t.Errorf("status %d, %x", status, rest)
		}
		if status, _, _ := ask(sv, "b", kindKeys, keysRequest(1), true); status != statusOK {
			t.Errorf("another peer gets %d", status)
		}
		if status, _, _ := ask(sv, "a", kindItem, appendMessage(nil, make([]byte, 32)), true); status != statusNotHeld {
			t.Errorf("another protocol gets %d", status)
		}
		time.Sleep(time.Duration(rest[0]) * time.Millisecond)
		if status, _, _ := ask(sv, "a", kindKeys, keysRequest(1), true); status != statusOK {
			t.Errorf("later it gets %d", status)
		}
	})
}

// Many peers don't make the server remember them all.
func TestManyPeers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sv := testServer(Serve{State: Anyone}, books())
		for i := range 2 * maxKnown {
			wait, ok := sv.admit(kindKeys, string(rune(i)), false)
			if !ok {
				t.Fatal("closed")
			}
			if len(sv.users) > maxKnown {
				t.Fatalf("%d peers are known", len(sv.users))
			}
			if wait == 0 {
				sv.leave(string(rune(i)))
			}
		}
		if wait, _ := sv.admit(kindKeys, "listed", true); wait > 0 {
			t.Errorf("a listed peer is sent away for %v", wait)
		}
		time.Sleep(2 * time.Second)
		if wait, _ := sv.admit(kindKeys, "late", false); wait > 0 {
			t.Errorf("a peer is sent away for %v, though the others have gone", wait)
		}
	})
}

// Answers together are not faster than they may be.
func TestBytesPerSecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &library{items: map[forks.Hash][]byte{}}
		item := make([]byte, 900<<10)
		hash := hashOf(item)
		l.items[hash] = item
		sv := testServer(Serve{Items: Anyone, BytesPerSecond: 1 << 20}, l)
		start := time.Now()
		done := make(chan int)
		for range 4 {
			go func() {
				_, rest, _ := ask(sv, "a", kindItem, appendMessage(nil, hash[:]), true)
				done <- len(rest)
			}()
		}
		for range 4 {
			if n := <-done; n != len(item)+4 {
				t.Errorf("got %d bytes", n)
			}
		}
		if d := time.Since(start); d < 3*time.Second || d > 4*time.Second {
			t.Errorf("3.6 MiB took %v at 1 MiB a second", d)
		}
	})
}

// failing is a source with an error of its own.
type failing struct{ empty }

func (failing) Prove(context.Context, forks.Hash, []key, int) (*merkle.Proof, error) {
	return nil, io.ErrUnexpectedEOF
}

func TestSourceErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sv := testServer(Serve{State: Anyone}, failing{})
		status, rest, _ := ask(sv, "a", kindKeys, keysRequest(1), true)
		if status != statusOverloaded || !bytes.Equal(rest, []byte{0xe8, 3, 0, 0}) || sv.stats.aborted.Load() != 1 {
			t.Errorf("status %d, %x", status, rest)
		}
		sv = testServer(Serve{State: Anyone}, large{books()})
		if status, _, _ := ask(sv, "a", kindKeys, keysRequest(1), true); status != statusTooLarge {
			t.Errorf("status %d", status)
		}
	})
}

// Items are served from the store as well, and what is fetched goes there.
func TestItemStore(t *testing.T) {
	store, err := items.Open(t.TempDir(), 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	item := []byte("an item")
	hash := hashOf(item)
	peers := &library{items: map[forks.Hash][]byte{hash: item}}
	n, net := newFake(t, map[peer.ID]behaviour{"a": honest(peers)})
	n.config.Items = store
	for range 2 {
		if got, err := n.FetchItem(t.Context(), hash); err != nil || !bytes.Equal(got, item) {
			t.Fatalf("%q, %v", got, err)
		}
		n.wg.Wait()
	}
	if net.times("a") != 1 || n.Stats().StoredItems != 1 {
		t.Errorf("asked %d times, %+v", net.times("a"), n.Stats())
	}
	sv := testServer(Serve{Items: Anyone}, nil)
	sv.items = store
	if status, rest, err := ask(sv, "b", kindItem, appendMessage(nil, hash[:]), true); status != statusOK || !bytes.Equal(rest[4:], item) {
		t.Errorf("status %d, %q, %v", status, rest, err)
	}
	if !sv.serves(kindItem) || sv.serves(kindKeys) {
		t.Error("with a store alone, items are served and nothing else")
	}
}

// Close waits for requests at work, and ends them.
func TestCloseEndsServing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := *books()
		slow.delay = time.Hour
		base, cancel := context.WithCancel(t.Context())
		sv := newServer(base, Serve{State: Anyone}, &slow, &counters{}, testServer(Serve{}, nil).log)
		sv.listed, sv.banned = func(peer.ID) bool { return true }, func(peer.ID) bool { return false }
		got := make(chan error)
		go func() {
			_, _, err := ask(sv, "a", kindKeys, keysRequest(1), true)
			got <- err
		}()
		synctest.Wait()
		cancel()
		sv.close()
		if err := <-got; !errors.Is(err, errReset) {
			t.Errorf("got %v", err)
		}
		if status, _, err := ask(sv, "a", kindKeys, keysRequest(1), true); status != -1 || !errors.Is(err, errReset) {
			t.Errorf("after it: %d, %v", status, err)
		}
	})
}

package da

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"accessor/forks"
	"accessor/state/merkle"
)

// Strangers with many identities leave places to listed peers, and those who send
// slowly take none from anybody.
func TestStrangersLeavePlaces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		item := make([]byte, 2<<20)
		hash := hashOf(item)
		request := appendMessage(nil, hash[:])
		other := appendMessage(nil, make([]byte, 32))
		sv := testServer(Serve{Items: Anyone, Concurrent: 9, PerPeer: 2}, &library{items: map[forks.Hash][]byte{hash: item}})
		sv.lists = func() bool { return true }
		var held []*memStream
		begin := func(id string, sent []byte) {
			ours, theirs := newStreams()
			go sv.handle(kindItem, peer.ID(id), theirs)
			_, _ = ours.Write(sent)
			if len(sent) == len(request) {
				_ = ours.CloseWrite()
			}
			held = append(held, ours)
		}
		for i := range 40 {
			begin(fmt.Sprint("slow sender", i), request[:5])
		}
		synctest.Wait()
		if status, rest, err := ask(sv, "stranger", kindItem, other, true); status != statusNotHeld {
			t.Errorf("beside slow senders: %d, %x, %v", status, rest, err)
		}
		for i := range 40 {
			begin(fmt.Sprint("slow reader", i), request)
		}
		synctest.Wait()
		if sv.active != 6 {
			t.Errorf("%d strangers are answered, not two thirds of 9", sv.active)
		}
		if status, _, _ := ask(sv, "stranger", kindItem, other, true); status != statusOverloaded {
			t.Errorf("one stranger more: %d", status)
		}
		if status, _, err := ask(sv, "listed", kindItem, other, true); status != statusNotHeld {
			t.Errorf("a listed peer: %d, %v", status, err)
		}
		for _, s := range held {
			_ = s.Reset()
		}
		synctest.Wait()
		if sv.active != 0 || sv.strangers != 0 {
			t.Errorf("%d and %d are still counted", sv.active, sv.strangers)
		}
	})
}

// onConn is a stream of a connection.
type onConn struct {
	network.Stream
	conn network.Conn
}

func (s onConn) Conn() network.Conn { return s.conn }

// remote is a connection from an address.
type remote struct {
	network.Conn
	address string
}

func (r remote) RemoteMultiaddr() ma.Multiaddr { return ma.StringCast(r.address) }

// One network has one stranger's limits, whatever identities and addresses it uses.
func TestClients(t *testing.T) {
	sv := testServer(Serve{}, nil)
	client := func(id peer.ID, address string) string {
		return sv.client(id, onConn{conn: remote{address: address}})
	}
	for _, c := range []struct {
		a, b, at, bt string
		same         bool
	}{
		{"x", "y", "/ip4/10.1.2.3/tcp/1", "/ip4/10.1.2.3/udp/2/quic-v1", true},
		{"x", "y", "/ip4/10.1.2.3/tcp/1", "/ip4/10.1.2.4/tcp/1", false},
		{"x", "y", "/ip6/2001:db8:0:1::1/tcp/1", "/ip6/2001:db8:0:2::1/tcp/1", true},
		{"x", "y", "/ip6/2001:db8:0:100::1/tcp/1", "/ip6/2001:db8:0:2::1/tcp/1", false},
		{"x", "y", "/ip4/127.0.0.1/tcp/1", "/ip4/127.0.0.1/tcp/1", false},
		{"listed", "x", "/ip4/10.1.2.3/tcp/1", "/ip4/10.1.2.3/tcp/1", false},
		{"x", "y", "/dns/example.org/tcp/1", "/dns/example.org/tcp/1", false},
	} {
		if got := client(peer.ID(c.a), c.at) == client(peer.ID(c.b), c.bt); got != c.same {
			t.Errorf("%s at %s and %s at %s: %v", c.a, c.at, c.b, c.bt, got)
		}
	}
}

// counting is a source that says how many calls it had at a time.
type counting struct {
	empty
	now, most atomic.Int32
}

func (c *counting) Item(context.Context, forks.Hash) ([]byte, error) {
	if now := c.now.Add(1); now > c.most.Load() {
		c.most.Store(now)
	}
	time.Sleep(time.Second)
	c.now.Add(-1)
	return nil, ErrNotHeld
}

// However many requests there are, the source has few at a time: readers here need
// processors too.
func TestFewAtWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := &counting{}
		sv := testServer(Serve{Items: Anyone, Concurrent: 100, PerPeer: 100}, src)
		var wg sync.WaitGroup
		for range min(50, 10*cap(sv.workers)) {
			wg.Go(func() {
				if status, _, err := ask(sv, "a", kindItem, appendMessage(nil, make([]byte, 32)), true); status != statusNotHeld {
					t.Errorf("status %d, %v", status, err)
				}
			})
		}
		wg.Wait()
		if most := int(src.most.Load()); most != cap(sv.workers) {
			t.Errorf("%d calls at a time, want %d", most, cap(sv.workers))
		}
	})
}

// hugePair has one pair that is larger than any answer.
type hugePair struct{ *library }

func (hugePair) ProveRange(context.Context, forks.Hash, merkle.RangeRequest) (*merkle.Proof, error) {
	return &merkle.Proof{Pairs: []merkle.Pair{{Value: make([]byte, MaxItem)}}}, nil
}

func (hugePair) Blocks(context.Context, forks.Hash, int) ([]Block, error) {
	return []Block{{Header: make([]byte, MaxItem)}}, nil
}

// What readers would ban a node for isn't sent: more than a message may have.
func TestTooLargeIsntSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := books()
		sv := testServer(Serve{State: Anyone, Blocks: Anyone}, hugePair{l})
		for k, c := range map[kind]struct {
			request []byte
			want    int
		}{
			kindRange:  {encodeRange(l.at.Hash, merkle.RangeRequest{End: key{0xff}, MaxSize: MaxAnswer}), statusTooLarge},
			kindBlocks: {encodeBlocks(l.at.Hash, MaxAnswer), statusNotHeld},
		} {
			if status, _, err := ask(sv, "a", k, appendMessage(nil, c.request), true); status != c.want {
				t.Errorf("%s: status %d, %v", protocols[k], status, err)
			}
		}
	})
}

// A node with little bandwidth answers few requests, and these so that they arrive in
// the time that their readers give them.
func TestLittleBandwidth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for bandwidth, want := range map[int]struct{ concurrent, most int }{
			100_000:  {1, 1_000_000},
			1 << 20:  {8, 10 << 17},
			64 << 20: {24, MaxAnswer},
			1000:     {1, writePart},
		} {
			sv := testServer(Serve{State: Anyone, BytesPerSecond: bandwidth}, books())
			if sv.config.Concurrent != want.concurrent || sv.most != want.most {
				t.Errorf("%d bytes a second: %d requests, %d bytes of an answer", bandwidth, sv.config.Concurrent, sv.most)
			}
		}
	})
}

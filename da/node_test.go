package da

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	"go.uber.org/goleak"

	"accessor/state/merkle"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

const (
	overQUIC = "/ip4/127.0.0.1/udp/0/quic-v1"
	overTCP  = "/ip4/127.0.0.1/tcp/0"
)

func newNode(t testing.TB, config Config, src Source) *Node {
	t.Helper()
	n, err := New(context.Background(), config, src)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	return n
}

// pair gives a node that serves all to the other, which asks it.
func pair(t testing.TB, listen string, src Source) (server, client *Node) {
	t.Helper()
	identity := filepath.Join(t.TempDir(), "identity")
	client = newNode(t, Config{Identity: identity, Answer: time.Second}, nil)
	server = newNode(t, Config{Listen: []string{listen}, Allow: []string{client.ID()}, Serve: DefaultServe()}, src)
	if err := client.AddPeer(server.Addrs()[0]); err != nil {
		t.Fatal(err)
	}
	return server, client
}

func soon(t testing.TB, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !f(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not within 10 s", what)
		}
	}
}

// All kinds of fetches between two real nodes, over both transports.
func TestTwoNodes(t *testing.T) {
	for _, listen := range []string{overQUIC, overTCP} {
		t.Run(strings.Split(listen, "/")[3], func(t *testing.T) {
			server, client := pair(t, listen, books())
			for what, fetch := range fetches() {
				if err := fetch(t.Context(), client); err != nil {
					t.Errorf("%s: %v", what, err)
				}
			}
			if _, err := client.FetchItem(t.Context(), hashOf([]byte("not there"))); !errors.Is(err, ErrNotFound) {
				t.Errorf("an item that nobody has: %v", err)
			}
			peers := client.Peers()
			if len(peers) != 1 || peers[0].ID != server.ID() || !peers[0].Connected || peers[0].Latency == 0 || peers[0].Answers < 8 {
				t.Errorf("%+v", peers)
			}
			soon(t, "count", func() bool { return server.Stats().Served >= 8 })
			if s := server.Stats(); s.Served < 8 || s.ServedBytes < 300_000 || s.ServedEmpty < 1 || s.Malformed+s.Refused > 0 {
				t.Errorf("%+v", s)
			}
			soon(t, "count", func() bool { return server.Stats().ServedBytes >= client.Stats().ReadBytes })
		})
	}
}

// Many different fetches at once overload nobody, and don't make a peer look bad.
func TestManyFetchesAtOnce(t *testing.T) {
	l := books()
	for _, listen := range []string{overQUIC, overTCP} {
		server, client := pair(t, listen, l)
		client.fetch.answer = client.fetch.timeout // a machine with other work is no peer's failure
		var wg sync.WaitGroup
		for i := range l.keys {
			wg.Go(func() {
				if err := fetchOne(t.Context(), client, i); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if s := client.Stats(); s.Failures > 0 || s.Overloaded > 20 || server.Stats().Limited > 20 {
			t.Errorf("%+v", s)
		}
	}
}

// A stranger gets no state, and a node that serves nothing isn't asked.
func TestStrangers(t *testing.T) {
	server := newNode(t, Config{Listen: []string{overQUIC}, Serve: DefaultServe()}, books())
	silent := newNode(t, Config{Listen: []string{overTCP}}, books())
	client := newNode(t, Config{Peers: []string{server.Addrs()[0], silent.Addrs()[0]}}, nil)
	if err := fetches()["keys"](t.Context(), client); !errors.Is(err, ErrNoPeers) {
		t.Errorf("got %v", err)
	}
	if err := fetches()["item"](t.Context(), client); err != nil {
		t.Error(err)
	}
	if s := server.Stats(); s.Refused != 1 {
		t.Errorf("%+v", s)
	}
}

// A peer that lies is disconnected, and stays out.
func TestBanDisconnects(t *testing.T) {
	l := books()
	server, client := pair(t, overQUIC, lying{library: l, keys: func(p *merkle.Proof) { p.Nodes[0][3]++ }})
	if err := fetches()["keys"](t.Context(), client); !errors.Is(err, ErrUnavailable) {
		t.Errorf("got %v", err)
	}
	soon(t, "disconnect", func() bool { return client.host.Network().Connectedness(server.host.ID()) != network.Connected })
	if err := client.host.Connect(t.Context(), peer.AddrInfo{ID: server.host.ID(), Addrs: server.host.Addrs()}); err == nil {
		t.Error("connected with a banned peer")
	}
	info := client.Peers()[0]
	if info.Invalid != 1 || !info.Banned.After(time.Now()) || info.Reason == "" || client.Stats().Banned != 1 {
		t.Errorf("%+v", info)
	}
	if err := fetches()["item"](t.Context(), client); !errors.Is(err, ErrNoPeers) {
		t.Errorf("then got %v", err)
	}
}

// Blocks whose write set is wrong are found out by who imports them.
func TestBlame(t *testing.T) {
	server, client := pair(t, overQUIC, books())
	blocks, err := client.FetchBlocks(t.Context(), books().at.Hash, 0)
	if err != nil || blocks[0].From != server.ID() {
		t.Fatalf("%v: %+v", err, blocks)
	}
	client.Blame(blocks[0].From, errors.New("wrong root"))
	if _, err := client.FetchBlocks(t.Context(), books().at.Hash, 0); !errors.Is(err, ErrNoPeers) {
		t.Errorf("got %v", err)
	}
	client.Blame("nonsense", errors.New("x"))
}

// At the end of a branch a peer that is gone doesn't keep a reader from learning that
// there are no more blocks: it is the same whatever that peer would say. A state's key is
// another matter.
func TestNoMoreBlocks(t *testing.T) {
	server, client := pair(t, overQUIC, empty{})
	gone := newNode(t, Config{Listen: []string{overQUIC}}, nil)
	if err := errors.Join(client.AddPeer(gone.Addrs()[0]), gone.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := client.FetchBlocks(t.Context(), books().at.Hash, 0); !errors.Is(err, ErrNotFound) {
		t.Errorf("got %v", err)
	}
	if err := fetches()["keys"](t.Context(), client); !errors.Is(err, ErrUnavailable) {
		t.Errorf("a key: got %v", err)
	}
	if err := server.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := client.FetchBlocks(t.Context(), books().at.Hash, 0); !errors.Is(err, ErrUnavailable) {
		t.Errorf("with both gone: got %v", err)
	}
}

func TestGater(t *testing.T) {
	known := newNode(t, Config{}, nil)
	stranger := newNode(t, Config{}, nil)
	denied := newNode(t, Config{}, nil)
	for name, c := range map[string]struct {
		config  Config
		refused []*Node
	}{
		"open":    {Config{Deny: []string{denied.ID(), "10.0.0.0/8"}}, []*Node{denied}},
		"private": {Config{Private: true, Allow: []string{known.ID(), denied.ID()}, Deny: []string{denied.ID()}}, []*Node{stranger, denied}},
		"network": {Config{Deny: []string{"127.0.0.0/8"}}, []*Node{known, stranger, denied}},
		"address": {Config{Deny: []string{"127.0.0.1"}}, []*Node{known, stranger, denied}},
	} {
		for _, listen := range []string{overQUIC, overTCP} {
			c.config.Listen = []string{listen}
			server := newNode(t, c.config, nil)
			for _, client := range []*Node{known, stranger, denied} {
				_ = client.host.Connect(t.Context(), peer.AddrInfo{ID: server.host.ID(), Addrs: server.host.Addrs()})
				want := true
				for _, r := range c.refused {
					want = want && r != client
				}
				// A client may think it is connected for a moment.
				time.Sleep(50 * time.Millisecond)
				if got := server.host.Network().Connectedness(client.host.ID()) == network.Connected; got != want {
					t.Errorf("%s over %s: connected is %v, want %v", name, listen, got, want)
				}
			}
		}
	}
	for _, bad := range []Config{{Deny: []string{"nonsense"}}, {Allow: []string{"x"}}, {Peers: []string{"/ip4/127.0.0.1/tcp/1"}}, {Listen: []string{"x"}}, {Timeout: -1}} {
		if _, err := New(context.Background(), bad, nil); err == nil {
			t.Errorf("made a node with %+v", bad)
		}
	}
}

// An attacker opens many streams and keeps them: others are served meanwhile.
func TestManyStreams(t *testing.T) {
	for _, listen := range []string{overQUIC, overTCP} {
		server, client := pair(t, listen, books())
		attacker, err := libp2p.New(libp2p.NoListenAddrs, libp2p.DisableRelay(), libp2p.DisableMetrics(),
			libp2p.ResourceManager(&network.NullResourceManager{}))
		if err != nil {
			t.Fatal(err)
		}
		defer attacker.Close()
		if err := attacker.Connect(t.Context(), peer.AddrInfo{ID: server.host.ID(), Addrs: server.host.Addrs()}); err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for range 500 {
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				s, err := attacker.NewStream(ctx, server.host.ID(), protocols[kindItem])
				if err == nil {
					_, _ = s.Write([]byte{32, 0})
				}
			})
		}
		wg.Wait()
		start := time.Now()
		for what, fetch := range fetches() {
			if err := fetch(t.Context(), client); err != nil {
				t.Errorf("%s: %v", what, err)
			}
		}
		if d := time.Since(start); d > 3*time.Second {
			t.Errorf("another peer's fetches took %v", d)
		}
		server.serve.mu.Lock()
		active := server.serve.users[string(attacker.ID())].active
		server.serve.mu.Unlock()
		if active > server.serve.config.PerPeer {
			t.Errorf("%d requests of one peer at work", active)
		}
	}
}

// A peer that was away is found again without a reader's help.
func TestPeerComesBack(t *testing.T) {
	identity := filepath.Join(t.TempDir(), "identity")
	config := Config{Listen: []string{overTCP}, Identity: identity, Serve: Serve{State: Anyone, Blocks: Anyone, Items: Anyone, Shards: Anyone}}
	server, err := New(context.Background(), config, books())
	if err != nil {
		t.Fatal(err)
	}
	client := newNode(t, Config{Peers: server.Addrs(), Answer: time.Second}, nil)
	if err := fetches()["keys"](t.Context(), client); err != nil {
		t.Fatal(err)
	}
	config.Listen = []string{strings.Split(server.Addrs()[0], "/p2p/")[0]}
	if err := server.Close(); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		if err := fetches()["keys"](ctx, client); !errors.Is(err, ErrUnavailable) {
			t.Errorf("with nobody there: %v", err)
		}
		cancel()
	}
	server, err = New(context.Background(), config, books())
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	soon(t, "connect again", func() bool { return client.Peers()[0].Connected })
	if err := fetches()["keys"](t.Context(), client); err != nil {
		t.Error(err)
	}
	if err := server.Close(); err != nil {
		t.Error(err)
	}
	if err := server.Close(); err != nil {
		t.Errorf("closing again: %v", err)
	}
	if err := server.AddPeer(client.ID()); err == nil {
		t.Error("added a peer without an address, after Close")
	}
}

// A port that another node has isn't shared with it, and one address of several that
// can't be listened on is an error.
func TestPortsOfOthers(t *testing.T) {
	for _, transport := range []string{"/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/udp/0/quic-v1"} {
		first, err := New(t.Context(), Config{Listen: []string{transport}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer first.Close()
		taken, _, _ := strings.Cut(first.Addrs()[0], "/p2p/")
		second, err := New(t.Context(), Config{Listen: []string{"/ip4/127.0.0.1/udp/0/quic-v1", taken}}, nil)
		if err == nil {
			second.Close()
			t.Fatalf("two nodes listen on %s", taken)
		}
		if !strings.Contains(err.Error(), "listen on "+taken) {
			t.Error(err)
		}
	}
}

func TestIdentity(t *testing.T) {
	path := filepath.Join(t.TempDir(), "identity")
	first := newNode(t, Config{Identity: path}, nil)
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("%v: mode %v", err, info.Mode())
	}
	if again := newNode(t, Config{Identity: path}, nil); again.ID() != first.ID() {
		t.Errorf("%s, then %s", first.ID(), again.ID())
	}
	if files, _ := os.ReadDir(filepath.Dir(path)); len(files) != 1 {
		t.Errorf("%d files beside it", len(files)-1)
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := New(t.Context(), Config{Identity: path}, nil); !errors.Is(err, ErrIdentity) {
		t.Errorf("a file that others read: %v", err)
	}
	if err := os.WriteFile(path, []byte("garbage"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := New(t.Context(), Config{Identity: path}, nil); !errors.Is(err, ErrIdentity) {
		t.Errorf("a file of garbage: %v", err)
	}
	var wg sync.WaitGroup
	path += "-new"
	ids := make([]string, 8)
	for i := range ids {
		wg.Go(func() {
			key, err := identity(path)
			if err != nil {
				t.Error(err)
				return
			}
			id, _ := peer.IDFromPrivateKey(key)
			ids[i] = id.String()
		})
	}
	wg.Wait()
	for _, id := range ids {
		if id != ids[0] {
			t.Errorf("at once: %s and %s", ids[0], id)
		}
	}
}

// A node can be closed at any moment of its dials.
func TestCloseWhileDialling(t *testing.T) {
	for range 20 {
		n := newNode(t, Config{}, nil)
		var wg sync.WaitGroup
		for i := range 100 {
			id := peer.ID(fmt.Sprint("peer ", i))
			info := peer.AddrInfo{ID: id, Addrs: []ma.Multiaddr{ma.StringCast(fmt.Sprintf("/ip4/127.0.0.1/tcp/%d", 1+i%9))}}
			wg.Go(func() {
				for n.connect(n.fetch.base, info) != nil && n.fetch.base.Err() == nil {
				}
			})
		}
		if err := n.Close(); err != nil {
			t.Error(err)
		}
		wg.Wait()
	}
}

// Peers from the local network are asked, though not for blocks.
func TestFoundPeers(t *testing.T) {
	all := Serve{State: Anyone, Blocks: Anyone, Items: Anyone, Shards: Anyone}
	server := newNode(t, Config{Listen: []string{overQUIC}, Serve: all}, books())
	client := newNode(t, Config{MDNS: true, Listen: []string{overQUIC}}, nil)
	found{client, t.Context()}.HandlePeerFound(peer.AddrInfo{ID: server.host.ID(), Addrs: server.host.Addrs()})
	for what, fetch := range fetches() {
		want := error(nil)
		if what == "blocks" {
			want = ErrNoPeers
		}
		if err := fetch(t.Context(), client); !errors.Is(err, want) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := client.AddPeer(server.Addrs()[0]); err != nil {
		t.Fatal(err)
	}
	if err := fetches()["blocks"](t.Context(), client); err != nil {
		t.Errorf("blocks of a peer that was added: %v", err)
	}
	for i := range 2 * maxFound {
		found{client, t.Context()}.HandlePeerFound(peer.AddrInfo{ID: peer.ID(rune(i))})
	}
	if got := len(client.Peers()); got != maxFound {
		t.Errorf("%d peers, at most %d are taken", got, maxFound)
	}
}

package da

import (
	"errors"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"accessor/da/datest"
)

func isConnected(a, b *Node) bool {
	return a.host.Network().Connectedness(b.host.ID()) == network.Connected
}

// Lists are changed while the node runs: who comes in is asked and served, who goes is
// not, and who is denied is disconnected.
func TestSetLists(t *testing.T) {
	server := newNode(t, Config{Listen: []string{overQUIC}, Serve: DefaultServe()}, books())
	other := newNode(t, Config{Listen: []string{overTCP}, Serve: Serve{Items: Anyone}}, books())
	client := newNode(t, Config{Answer: time.Second}, nil)
	set := func(n *Node, peers, allow, deny []string) {
		t.Helper()
		if err := n.SetLists(peers, allow, deny); err != nil {
			t.Fatal(err)
		}
	}
	for round := range 2 {
		set(client, append(server.Addrs(), other.Addrs()...), nil, nil)
		soon(t, "connect", func() bool { return isConnected(client, server) && isConnected(client, other) })
		if err := fetches()["keys"](t.Context(), client); !errors.Is(err, ErrNoPeers) {
			t.Errorf("round %d: state for a stranger: %v", round, err)
		}
		set(server, nil, []string{client.ID()}, nil)
		client.book.awake(server.host.ID()) // it was refused a moment ago
		for _, what := range []string{"keys", "blocks", "item"} {
			if err := fetches()[what](t.Context(), client); err != nil {
				t.Errorf("round %d: %s, allowed: %v", round, what, err)
			}
		}
		// The server has enough of the client.
		set(server, nil, nil, []string{client.ID()})
		if isConnected(server, client) {
			t.Errorf("round %d: connected with one who is denied", round)
		}
		soon(t, "be disconnected", func() bool { return !isConnected(client, server) })
		if err := client.connect(t.Context(), peer.AddrInfo{ID: server.host.ID(), Addrs: server.host.Addrs()}); err == nil {
			soon(t, "be disconnected again", func() bool { return !isConnected(server, client) })
		}
		// The client gives both up.
		set(server, nil, nil, nil)
		soon(t, "connect again", func() bool { return isConnected(client, server) })
		set(client, nil, nil, nil)
		if isConnected(client, server) || isConnected(client, other) || len(client.Peers()) > 0 {
			t.Errorf("round %d: still has peers: %+v", round, client.Peers())
		}
		if err := fetches()["item"](t.Context(), client); !errors.Is(err, ErrNoPeers) {
			t.Errorf("round %d: without peers: %v", round, err)
		}
	}
}

// What is wrong changes nothing; nor does what is as it was.
func TestSetListsKeeps(t *testing.T) {
	server, client := pair(t, overQUIC, books())
	soon(t, "connect", func() bool { return isConnected(client, server) })
	before := client.host.Network().ConnsToPeer(server.host.ID())[0].ID()
	for _, bad := range [][3][]string{{{"/ip4/127.0.0.1/tcp/1"}}, {nil, {"x"}}, {nil, nil, {"nonsense"}}} {
		if err := client.SetLists(bad[0], bad[1], bad[2]); err == nil {
			t.Errorf("took %q", bad)
		}
	}
	if err := client.SetLists(server.Addrs(), nil, nil); err != nil {
		t.Error(err)
	}
	if err := fetches()["blocks"](t.Context(), client); err != nil {
		t.Error(err)
	}
	if all := client.host.Network().ConnsToPeer(server.host.ID()); len(all) != 1 || all[0].ID() != before {
		t.Errorf("connected anew: %v", all)
	}
	// A network is denied, in which the peer is.
	if err := client.SetLists(server.Addrs(), nil, []string{"127.0.0.0/8"}); err != nil || isConnected(client, server) {
		t.Errorf("connected in a network that is denied: %v", err)
	}
	if err := client.Close(); err != nil {
		t.Error(err)
	}
	if err := client.SetLists(nil, nil, nil); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

// A private node takes in who is added, and lets those go who are on no list any more.
func TestSetListsPrivate(t *testing.T) {
	server := newNode(t, Config{Listen: []string{overTCP}, Serve: Serve{Items: Anyone}}, books())
	client := newNode(t, Config{Private: true, Listen: []string{overTCP}, Answer: time.Second}, nil)
	if err := client.AddPeer(server.Addrs()[0]); err != nil {
		t.Fatal(err)
	}
	if err := fetches()["item"](t.Context(), client); err != nil {
		t.Errorf("of a peer that was added: %v", err)
	}
	if err := client.SetLists(nil, []string{server.ID()}, nil); err != nil {
		t.Fatal(err)
	}
	if !isConnected(client, server) {
		t.Error("disconnected one who is allowed")
	}
	if err := client.SetLists(nil, nil, nil); err != nil {
		t.Fatal(err)
	}
	if isConnected(client, server) {
		t.Error("connected with a stranger")
	}
}

// A peer that is taken out while it is asked, and put in again, is counted rightly.
func TestDropWhileAsked(t *testing.T) {
	b := newBook(time.Hour, nil)
	b.add("a", true)
	id, ok := b.pick(kindItem, false, nil)
	if !ok || !b.drop(id) || b.knows(id) || len(b.list()) != 0 {
		t.Fatal("it isn't dropped")
	}
	if _, ok := b.pick(kindItem, false, nil); ok {
		t.Error("asked one that was dropped")
	}
	b.add("a", true)
	b.done("a", kindItem, time.Millisecond, outcomeGood, nil)
	if r := b.peers["a"]; r == nil || r.inFlight != 0 {
		t.Errorf("%+v", r)
	}
	b.pick(kindItem, false, nil)
	b.drop("a")
	b.done("a", kindItem, time.Millisecond, outcomeFailed, errTooSlow)
	b.late("a", kindItem, time.Second)
	if len(b.peers) != 0 {
		t.Error("still there")
	}
	b.add("a", false)
	b.add("a", true)
	if b.drop("a") || !b.knows("a") || b.standing(kindItem, true, nil).peers > 0 {
		t.Error("one that was found as well is gone, or trusted")
	}
}

// Denied networks are denied, in whichever form an address comes; what would deny nothing is
// an error.
func TestDeniedNetworks(t *testing.T) {
	for _, c := range []struct {
		deny, at string
		admitted bool
	}{
		{"10.0.0.0/8", "/ip4/10.1.2.3/tcp/1", false},
		{"10.0.0.0/8", "/ip6/::ffff:10.1.2.3/tcp/1", false},
		{"10.0.0.0/8", "/ip4/11.1.2.3/tcp/1", true},
		{"10.1.2.3", "/ip4/10.1.2.3/tcp/1", false},
		{"::ffff:10.1.2.3", "/ip4/10.1.2.3/tcp/1", false},
		{"2001:db8::/32", "/ip6/2001:db8::1/tcp/1", false},
		{"2001:db8::/32", "/dns/example.org/tcp/1", true},
	} {
		l, err := readLists(nil, nil, []string{c.deny})
		if err != nil {
			t.Errorf("%s: %v", c.deny, err)
			continue
		}
		g := &gater{}
		g.lists.Store(l)
		if g.address(ma.StringCast(c.at)) != c.admitted {
			t.Errorf("%s denied: %s", c.deny, c.at)
		}
	}
	if _, err := readLists(nil, nil, []string{"::ffff:10.0.0.0/104"}); err == nil {
		t.Error("took a prefix of mapped addresses")
	}
}

// A host that was given has no gater of this node's, and keeps nobody who is denied.
func TestDenyOnGivenHost(t *testing.T) {
	h, err := datest.NewHost()
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	client := newNode(t, Config{}, nil)
	server := newNode(t, Config{Host: h, Deny: []string{client.ID()}}, nil)
	// The client may think it is connected for a moment.
	_ = client.host.Connect(t.Context(), peer.AddrInfo{ID: h.ID(), Addrs: h.Addrs()})
	soon(t, "be disconnected", func() bool { return !isConnected(client, server) })
	if isConnected(server, client) {
		t.Error("connected with one who is denied")
	}
}

package da

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

// Peers that were found, as anybody can be, make room for others when they are banned or
// gone; peers of the configuration don't count among them.
func TestRoomForFoundPeers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBook(time.Hour, func(peer.ID, error) {})
		b.add("static", true)
		for i := range 4 {
			if out, ok := b.find(peer.ID(fmt.Sprint(i)), 4, false); !ok || out != "" {
				t.Fatalf("%d: %q, %v", i, out, ok)
			}
			time.Sleep(time.Second)
		}
		if _, ok := b.find("more", 4, false); ok {
			t.Error("no peer is bad, and yet one makes room")
		}
		b.ban("2", errors.New("lied"))
		if out, ok := b.find("x", 4, false); !ok || out != "2" || !b.isBanned("2") {
			t.Errorf("the banned one should make room: %q, %v", out, ok)
		}
		b.unreachable("1")
		if out, ok := b.find("y", 4, false); !ok || out != "1" {
			t.Errorf("the unreachable one should make room: %q, %v", out, ok)
		}
		// One that is wanted now takes the place of whoever was of no use for longest.
		b.pick(kindItem, false, map[peer.ID]bool{"3": true, "x": true, "y": true, "static": true})
		b.done("0", kindItem, time.Millisecond, outcomeGood, nil)
		time.Sleep(time.Second)
		if out, ok := b.find("wanted", 4, true); !ok || out != "3" {
			t.Errorf("the useless one should make room: %q, %v", out, ok)
		}
		if !b.knows("static") || !b.knows("0") || len(b.list()) != 5 {
			t.Errorf("%+v", b.list())
		}
	})
}

// A peer that is found again, elsewhere, is asked there; where one of the configuration is,
// only that says.
func TestFoundElsewhere(t *testing.T) {
	server := newNode(t, Config{Listen: []string{overTCP}, Serve: Serve{Items: Anyone}}, books())
	client := newNode(t, Config{Answer: time.Second}, nil)
	find := func(addrs ...ma.Multiaddr) {
		found{client, t.Context()}.HandlePeerFound(peer.AddrInfo{ID: server.host.ID(), Addrs: addrs})
	}
	nowhere := ma.StringCast("/ip4/127.0.0.1/tcp/1")
	find(nowhere)
	if err := fetches()["item"](t.Context(), client); err == nil {
		t.Fatal("fetched from nowhere")
	}
	find(server.host.Addrs()...)
	soon(t, "connect where it is now", func() bool { return isConnected(client, server) })
	if err := fetches()["item"](t.Context(), client); err != nil {
		t.Error(err)
	}
	for i := range 10 * maxFoundAddrs {
		_ = client.host.Network().ClosePeer(server.host.ID())
		find(ma.StringCast(fmt.Sprintf("/ip4/127.0.0.1/tcp/%d", i+2)))
	}
	if n := len(client.host.Peerstore().Addrs(server.host.ID())); n > maxFoundAddrs {
		t.Errorf("%d addresses", n)
	}
	static := newNode(t, Config{Peers: []string{nowhere.String() + "/p2p/" + server.ID()}}, nil)
	found{static, t.Context()}.HandlePeerFound(peer.AddrInfo{ID: server.host.ID(), Addrs: server.host.Addrs()})
	if all := static.host.Peerstore().Addrs(server.host.ID()); len(all) != 1 || !all[0].Equal(nowhere) {
		t.Errorf("the configured peer is at %v", all)
	}
}

// Peers that were found are asked after those of the configuration.
func TestFoundPeersComeLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := map[peer.ID]behaviour{}
		for i := range 9 {
			all[peer.ID(fmt.Sprint("found", i))] = silent
		}
		n, net := newFake(t, all)
		for id := range all {
			n.book.drop(id)
			n.book.find(id, maxFound, false)
		}
		net.latency = 40 * time.Millisecond // 80 ms there and back: longer than is usual
		net.set("static", honest(books()))
		n.book.add("static", true)
		for i := range 20 {
			d := took(func() {
				if err := fetchOne(t.Context(), n, i); err != nil {
					t.Fatal(err)
				}
			})
			if d > 90*time.Millisecond {
				t.Errorf("fetch %d took %v: others were asked first", i, d)
			}
		}
	})
}

// Bans of identities that are made up don't take memory without end.
func TestManyBans(t *testing.T) {
	b := newBook(time.Hour, func(peer.ID, error) {})
	for i := range 2 * maxBans {
		b.ban(peer.ID(fmt.Sprint(i)), errors.New("lied"))
	}
	if len(b.bans) > maxBans || !b.isBanned(peer.ID(fmt.Sprint(2*maxBans-1))) {
		t.Errorf("%d bans", len(b.bans))
	}
}

// Strangers that keep connections leave room for listed peers.
func TestStrangersLeaveConnections(t *testing.T) {
	listed := newNode(t, Config{}, nil)
	server := newNode(t, Config{Listen: []string{overTCP}, Allow: []string{listed.ID()}}, nil)
	server.strangers = 2
	to := peer.AddrInfo{ID: server.host.ID(), Addrs: server.host.Addrs()}
	var strangers []*Node
	for range 4 {
		strangers = append(strangers, newNode(t, Config{}, nil))
		_ = strangers[len(strangers)-1].host.Connect(t.Context(), to) // it may be told at once
	}
	soon(t, "let two go", func() bool { return len(server.host.Network().Conns()) == 2 })
	if err := listed.host.Connect(t.Context(), to); err != nil {
		t.Fatal(err)
	}
	time.Sleep(100 * time.Millisecond)
	if !isConnected(server, listed) || len(server.host.Network().Conns()) != 3 {
		t.Errorf("%d connections, listed: %v", len(server.host.Network().Conns()), isConnected(server, listed))
	}
	if !server.host.ConnManager().IsProtected(listed.host.ID(), "") || server.host.ConnManager().IsProtected(strangers[0].host.ID(), "") {
		t.Error("the listed peer, and no other, should be protected")
	}
	if err := server.SetLists(nil, nil, nil); err != nil || server.host.ConnManager().IsProtected(listed.host.ID(), "") {
		t.Errorf("still protected: %v", err)
	}
}

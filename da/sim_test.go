package da

import (
	"errors"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"

	"accessor/da/datest"
	"accessor/da/datest/sim"
	"accessor/state/merkle"
)

func address(t *testing.T, h host.Host) string {
	t.Helper()
	all, err := peer.AddrInfoToP2pAddrs(&peer.AddrInfo{ID: h.ID(), Addrs: h.Addrs()})
	if err != nil || len(all) == 0 {
		t.Fatal(err, all)
	}
	return all[0].String()
}

// A node takes the host it is given, and all works on a network in virtual time: with
// a liar, and one whose answers take ten seconds.
func TestSimulatedNetwork(t *testing.T) {
	sim.Test(t, func(t *testing.T, network *sim.Network) {
		hosts := network.Hosts(t, 5)
		slow := *books()
		slow.delay = 10 * time.Second
		liar := lying{library: books(), keys: func(p *merkle.Proof) { p.Nodes[0][9] ^= 1 }}
		config := Config{Serve: Serve{State: Anyone, Blocks: Anyone, Items: Anyone, Shards: Anyone}}
		asking := Config{Host: hosts[0]}
		for i, src := range []Source{books(), books(), liar, &slow} {
			config.Host = hosts[i+1]
			newNode(t, config, src)
			asking.Peers = append(asking.Peers, address(t, hosts[i+1]))
		}
		n := newNode(t, asking, nil)
		time.Sleep(time.Second)
		for range 5 {
			for what, fetch := range fetches() {
				start := time.Now()
				if err := fetch(t.Context(), n); err != nil {
					t.Errorf("%s: %v", what, err)
				}
				if d := time.Since(start); d > 2*time.Second {
					t.Errorf("%s took %v", what, d)
				}
			}
		}
		for range 3 {
			if err := hosts[0].Network().ClosePeer(hosts[1].ID()); err != nil {
				t.Error(err)
			}
			if err := fetches()["item"](t.Context(), n); err != nil {
				t.Error(err)
			}
		}
		for _, h := range hosts[1:] {
			_ = h.Close()
		}
		time.Sleep(time.Minute)
		if err := fetches()["item"](t.Context(), n); !errors.Is(err, ErrUnavailable) && !errors.Is(err, ErrNoPeers) {
			t.Errorf("with all gone: %v", err)
		}
	})
}

// What a divided network keeps from a node it has once the network is whole; and a host
// that has vanished comes back under its name.
func TestDividedNetwork(t *testing.T) {
	sim.Test(t, func(t *testing.T, network *sim.Network) {
		hosts := network.Hosts(t, 2)
		serve := Serve{Items: Anyone}
		old := newNode(t, Config{Host: hosts[1], Serve: serve}, books())
		n := newNode(t, Config{Host: hosts[0], Peers: []string{address(t, hosts[1])}}, nil)
		want := func(what string, ok bool) {
			t.Helper()
			time.Sleep(3 * time.Minute) // so long nobody who failed is left alone
			if err := fetches()["item"](t.Context(), n); (err == nil) != ok || err != nil && !errors.Is(err, ErrUnavailable) {
				t.Errorf("%s: %v", what, err)
			}
		}
		want("at first", true)
		network.Divide([][]int{{0}, {1}})
		want("divided", false)
		network.Divide(nil)
		want("whole again", true)
		network.Vanish(1)
		want("gone", false)
		if err := errors.Join(old.Close(), hosts[1].Close()); err != nil {
			t.Error(err)
		}
		again, err := network.Host(1)
		if err != nil || again.ID() != hosts[1].ID() {
			t.Fatal(err)
		}
		newNode(t, Config{Host: again, Serve: serve}, books())
		want("back", true)
	})
}

// A node that breaks the protocol on a real stream is banned; one that is silent isn't.
func TestLyingHost(t *testing.T) {
	manners := map[string]datest.Manner{"silence": datest.Silent}
	for _, lie := range datest.Lies {
		manners[lie.Name] = datest.Telling(lie)
	}
	for name, manner := range manners {
		t.Run(name, func(t *testing.T) {
			sim.Test(t, func(t *testing.T, network *sim.Network) {
				hosts := network.Hosts(t, 3)
				config := Config{Serve: Serve{State: Anyone}}
				config.Host = hosts[1]
				newNode(t, config, books())
				config.Host = datest.Host{Host: hosts[2], Manner: manner}
				newNode(t, config, books())
				n := newNode(t, Config{Host: hosts[0], Peers: []string{address(t, hosts[1]), address(t, hosts[2])}}, nil)
				time.Sleep(time.Second)
				n.book.mu.Lock()
				n.book.peers[hosts[2].ID()].latency[kindKeys] = time.Millisecond
				n.book.mu.Unlock()
				for i := range 10 {
					if err := fetchOne(t.Context(), n, i); err != nil {
						t.Error(err)
					}
				}
				if want := name != "silence"; n.book.isBanned(hosts[2].ID()) != want {
					t.Errorf("banned: %v", !want)
				}
			})
		})
	}
}

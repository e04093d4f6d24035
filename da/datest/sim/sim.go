// Package sim gives tests libp2p hosts on libp2p's simulated network, for bubbles of
// testing/synctest: packets take their time, which is virtual, and are lost where the
// network is divided. It imports package testing.
package sim

import (
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/x/simlibp2p"
	"github.com/marcopolo/simnet"

	"accessor/da/datest"
)

// A packet takes 20 ms from one host to another, and each of them has 20 Mbit/s.
const latency = 20 * time.Millisecond

var link = simnet.NodeBiDiLinkSettings{
	Downlink: simnet.LinkSettings{BitsPerSecond: 20 * simlibp2p.OneMbps},
	Uplink:   simnet.LinkSettings{BitsPerSecond: 20 * simlibp2p.OneMbps},
}

// Network is a simulated network. Its methods are safe for concurrent use.
type Network struct {
	sim simnet.Simnet

	making sync.Mutex // one host is made at a time
	hosts  []host.Host

	mu    sync.Mutex     // guards sides and dark
	sides map[string]int // of places, by address; who isn't there reaches everybody
	dark  map[string]bool
}

var _ datest.Network = (*Network)(nil)

// Test runs f in a bubble that has a network. Go 1.26's runtime gives all timers of a
// bubble one context of the race detector, and runs those that are due already from
// several threads at a time (maybeRunChan): with the many timers of libp2p that crashes
// now and then. So under the race detector the test is skipped.
func Test(t *testing.T, f func(t *testing.T, n *Network)) {
	t.Helper()
	if raceEnabled {
		t.Skip("libp2p in a bubble, under the race detector")
	}
	synctest.Test(t, func(t *testing.T) { f(t, start(t)) })
}

// start makes a network, which ends with the bubble.
func start(t *testing.T) *Network {
	n := &Network{dark: make(map[string]bool)}
	n.sim.Logger = slog.New(slog.DiscardHandler) // of packets that are lost, which is their fate
	n.sim.LatencyFunc = func(p *simnet.Packet) time.Duration {
		if n.lost(p) {
			p.To = &net.UDPAddr{} // where nobody is
		}
		return latency
	}
	n.sim.Start()
	t.Cleanup(func() {
		for _, h := range n.hosts {
			_ = h.Close()
		}
		n.sim.Close()
	})
	return n
}

func ipOf(place int) net.IP { return simnet.IntToPublicIPv4(place) }

// Host makes the host of a place. It implements datest.Network.
func (n *Network) Host(place int) (datest.Host, error) {
	n.making.Lock()
	defer n.making.Unlock()
	seed := sha256.Sum256(fmt.Append(nil, "place ", place))
	key, err := crypto.UnmarshalEd25519PrivateKey(ed25519.NewKeyFromSeed(seed[:]))
	if err != nil {
		return datest.Host{}, err
	}
	n.light(place, true)
	h, err := libp2p.New(
		libp2p.Identity(key), libp2p.ListenAddrStrings(fmt.Sprintf("/ip4/%s/udp/8000/quic-v1", ipOf(place))),
		simlibp2p.QUICSimnet(&n.sim, link), libp2p.DisableIdentifyAddressDiscovery(),
		libp2p.ResourceManager(&network.NullResourceManager{}),
	)
	if err != nil {
		return datest.Host{}, err
	}
	n.hosts = append(n.hosts, h)
	return datest.Host{Host: h}, nil
}

// Hosts makes the hosts of the first places.
func (n *Network) Hosts(t *testing.T, count int) (list []host.Host) {
	t.Helper()
	for place := range count {
		h, err := n.Host(place)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, h)
	}
	return list
}

// Vanish implements datest.Network.
func (n *Network) Vanish(place int) { n.light(place, false) }

func (n *Network) light(place int, on bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.dark[ipOf(place).String()] = !on
}

// Divide implements datest.Network.
func (n *Network) Divide(sides [][]int) {
	of := make(map[string]int)
	for side, places := range sides {
		for _, place := range places {
			of[ipOf(place).String()] = side
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.sides = of
}

// lost says whether a packet doesn't arrive.
func (n *Network) lost(p *simnet.Packet) bool {
	from, errFrom := ip(p.From)
	to, errTo := ip(p.To)
	if err := errors.Join(errFrom, errTo); err != nil {
		return true
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	one, divided := n.sides[from]
	other, both := n.sides[to]
	return n.dark[from] || n.dark[to] || divided && both && one != other
}

func ip(a net.Addr) (string, error) {
	text, _, err := net.SplitHostPort(a.String())
	return text, err
}

package da

import (
	"net/netip"
	"sync/atomic"

	"github.com/libp2p/go-libp2p/core/connmgr"
	"github.com/libp2p/go-libp2p/core/control"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

// gater decides who may be connected. Bans are the book's.
type gater struct {
	private bool // only peers of the lists
	banned  func(peer.ID) bool
	lists   atomic.Pointer[lists]
}

var _ connmgr.ConnectionGater = (*gater)(nil)

func (g *gater) peer(id peer.ID) bool {
	l := g.lists.Load()
	return !l.denied[id] && !g.banned(id) && (!g.private || l.knows(id))
}

func (g *gater) address(a ma.Multiaddr) bool {
	networks := g.lists.Load().networks
	if len(networks) == 0 || a == nil {
		return true
	}
	ip, err := manet.ToIP(a)
	if err != nil {
		return true // a name: its addresses come here once they are known
	}
	addr, _ := netip.AddrFromSlice(ip)
	addr = addr.Unmap()
	for _, n := range networks {
		if n.Contains(addr) {
			return false
		}
	}
	return true
}

// admits says whether a connection may stay.
func (g *gater) admits(c network.Conn) bool {
	return g.peer(c.RemotePeer()) && g.address(c.RemoteMultiaddr())
}

// InterceptPeerDial says whether to dial a peer.
func (g *gater) InterceptPeerDial(id peer.ID) bool { return g.peer(id) }

// InterceptAddrDial says whether to dial a peer at an address.
func (g *gater) InterceptAddrDial(id peer.ID, a ma.Multiaddr) bool { return g.peer(id) && g.address(a) }

// InterceptAccept says whether to go on with a connection from outside.
func (g *gater) InterceptAccept(c network.ConnMultiaddrs) bool { return g.address(c.RemoteMultiaddr()) }

// InterceptSecured says whether to go on with a connection whose peer is known now.
func (g *gater) InterceptSecured(_ network.Direction, id peer.ID, c network.ConnMultiaddrs) bool {
	return g.peer(id) && g.address(c.RemoteMultiaddr())
}

// InterceptUpgraded has nothing to add.
func (g *gater) InterceptUpgraded(network.Conn) (bool, control.DisconnectReason) { return true, 0 }

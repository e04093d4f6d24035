package da

import (
	"fmt"
	"net/netip"

	"github.com/libp2p/go-libp2p/core/connmgr"
	"github.com/libp2p/go-libp2p/core/control"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

// gater decides who may be connected. Its lists don't change; bans are the book's.
type gater struct {
	private  bool // only peers of the lists
	known    map[peer.ID]bool
	denied   map[peer.ID]bool
	networks []netip.Prefix // denied
	banned   func(peer.ID) bool
}

var _ connmgr.ConnectionGater = (*gater)(nil)

// deny reads an entry of Config.Deny: a peer's id, an IP address or a prefix.
func (g *gater) deny(text string) error {
	if p, err := netip.ParsePrefix(text); err == nil {
		g.networks = append(g.networks, netip.PrefixFrom(p.Addr().Unmap(), p.Bits()).Masked())
		return nil
	}
	if ip, err := netip.ParseAddr(text); err == nil {
		ip = ip.Unmap()
		g.networks = append(g.networks, netip.PrefixFrom(ip, ip.BitLen()))
		return nil
	}
	id, err := peer.Decode(text)
	if err != nil {
		return fmt.Errorf("deny %q: neither a peer's id nor an address", text)
	}
	g.denied[id] = true
	return nil
}

func (g *gater) peer(id peer.ID) bool {
	return !g.denied[id] && !g.banned(id) && (!g.private || g.known[id])
}

func (g *gater) address(a ma.Multiaddr) bool {
	if len(g.networks) == 0 || a == nil {
		return true
	}
	ip, err := manet.ToIP(a)
	if err != nil {
		return true // a name: its addresses come here once they are known
	}
	addr, _ := netip.AddrFromSlice(ip)
	addr = addr.Unmap()
	for _, n := range g.networks {
		if n.Contains(addr) {
			return false
		}
	}
	return true
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

package da

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

// lists are who is asked, served and never connected with. They aren't changed once
// they are made: others take their place.
type lists struct {
	static   map[peer.ID][]ma.Multiaddr // asked and kept connected
	allowed  map[peer.ID]bool
	denied   map[peer.ID]bool
	networks []netip.Prefix // denied
}

// readLists reads Config.Peers, Allow and Deny. Who is denied is no peer.
func readLists(peers, allow, deny []string) (*lists, error) {
	l := &lists{static: map[peer.ID][]ma.Multiaddr{}, allowed: map[peer.ID]bool{}, denied: map[peer.ID]bool{}}
	for _, text := range deny {
		if err := l.deny(text); err != nil {
			return nil, err
		}
	}
	for _, text := range peers {
		if err := l.add(text); err != nil {
			return nil, err
		}
	}
	for _, text := range allow {
		id, err := peer.Decode(text)
		if err != nil {
			return nil, fmt.Errorf("allow %q: %w", text, err)
		}
		l.allowed[id] = true
	}
	return l, nil
}

// add reads an entry of Config.Peers. A peer may have several addresses.
func (l *lists) add(text string) error {
	info, err := peer.AddrInfoFromString(text)
	if err != nil {
		return fmt.Errorf("peer %q: %w; want a multiaddr that ends in /p2p/ID", text, err)
	}
	if l.denied[info.ID] {
		return nil
	}
	addrs := slices.Clone(l.static[info.ID])
	for _, a := range info.Addrs {
		if !slices.ContainsFunc(addrs, a.Equal) {
			addrs = append(addrs, a)
		}
	}
	l.static[info.ID] = addrs
	return nil
}

// deny reads an entry of Config.Deny: a peer's id, an IP address or a prefix.
func (l *lists) deny(text string) error {
	if p, err := netip.ParsePrefix(text); err == nil {
		if p.Addr().Is4In6() {
			return fmt.Errorf("deny %q: want a prefix of IPv4, such as 10.0.0.0/8", text)
		}
		l.networks = append(l.networks, p.Masked())
		return nil
	}
	if ip, err := netip.ParseAddr(text); err == nil {
		ip = ip.Unmap()
		l.networks = append(l.networks, netip.PrefixFrom(ip, ip.BitLen()))
		return nil
	}
	id, err := peer.Decode(text)
	if err != nil {
		return fmt.Errorf("deny %q: neither a peer's id nor an address", text)
	}
	l.denied[id] = true
	return nil
}

// with gives the lists with one peer more.
func (l *lists) with(text string) (*lists, error) {
	more := *l
	more.static = maps.Clone(l.static)
	return &more, more.add(text)
}

// knows says whether a private node has to do with a peer.
func (l *lists) knows(id peer.ID) bool {
	_, static := l.static[id]
	return static || l.allowed[id]
}

// SetLists puts others in the place of Config.Peers (and of those that AddPeer added),
// Allow and Deny while the node runs. Peers that are new are connected with; who is
// denied now, and who was a peer and is on no list any more, is disconnected, and what
// goes on with it breaks off. Error: what is wrong with them, and then all is as before;
// ErrClosed.
func (n *Node) SetLists(peers, allow, deny []string) error {
	l, err := readLists(peers, allow, deny)
	if err != nil {
		return err
	}
	n.mu.Lock()
	if n.closed {
		n.mu.Unlock()
		return ErrClosed
	}
	dropped := n.useLocked(l)
	n.mu.Unlock()
	for _, c := range n.host.Network().Conns() {
		if !n.gater.admits(c) || dropped[c.RemotePeer()] {
			_ = c.Close()
		}
	}
	return nil
}

// AddPeer makes a peer one of Config.Peers: asked, for blocks too, and kept connected
// until the node is closed or has other lists. The address ends in /p2p/ID. A peer that
// is denied stays out.
func (n *Node) AddPeer(address string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	l, err := n.gater.lists.Load().with(address)
	switch {
	case err != nil:
		return err
	case n.closed:
		return ErrClosed
	}
	n.useLocked(l)
	return nil
}

// useLocked makes lists those of the node. dropped are those who were peers and are on
// no list any more.
func (n *Node) useLocked(l *lists) (dropped map[peer.ID]bool) {
	before := n.gater.lists.Swap(l)
	dropped = map[peer.ID]bool{}
	for id := range before.allowed {
		if !l.knows(id) {
			n.host.ConnManager().Unprotect(id, protection)
		}
	}
	for id := range l.allowed {
		n.host.ConnManager().Protect(id, protection)
	}
	for id, k := range n.keepers {
		addrs, static := l.static[id]
		if static && slices.EqualFunc(addrs, k.addrs, ma.Multiaddr.Equal) {
			continue
		}
		k.stop()
		delete(n.keepers, id)
		n.host.Peerstore().ClearAddrs(id)
		if static {
			continue // at other addresses
		}
		if !l.allowed[id] {
			n.host.ConnManager().Unprotect(id, protection)
		}
		if gone := n.book.drop(id); gone && !l.knows(id) {
			dropped[id] = true
		}
	}
	for id, addrs := range l.static {
		if n.keepers[id] == nil && id != n.host.ID() {
			n.keepConnectedLocked(peer.AddrInfo{ID: id, Addrs: addrs})
		}
	}
	return dropped
}

// keeper keeps one peer connected.
type keeper struct {
	addrs []ma.Multiaddr
	stop  context.CancelFunc
}

// connected is told of each connection.
func (n *Node) connected(_ network.Network, c network.Conn) {
	n.mu.Lock()
	defer n.mu.Unlock()
	switch id := c.RemotePeer(); {
	case n.closed:
		return
	case !n.gater.admits(c):
		// It was let in by lists that have changed since, or before a ban; or the host
		// was given, and hasn't this gater.
	case n.gater.lists.Load().knows(id) || !n.tooMany(c):
		n.book.awake(id)
		return
	}
	n.wg.Go(func() { _ = c.Close() })
}

// tooMany says whether a stranger's connection is one too many: there is always room for
// listed peers.
func (n *Node) tooMany(c network.Conn) bool {
	if c.Stat().Direction != network.DirInbound {
		return false
	}
	l, strangers := n.gater.lists.Load(), 0
	for _, other := range n.host.Network().Conns() {
		if other.Stat().Direction == network.DirInbound && !l.knows(other.RemotePeer()) {
			strangers++
		}
	}
	return strangers > n.strangers
}

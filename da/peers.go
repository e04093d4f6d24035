package da

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	ma "github.com/multiformats/go-multiaddr"
	"go.uber.org/zap"
)

// Pauses between attempts to connect with a static peer.
const (
	connectPause   = time.Second
	connectPauseMx = time.Minute
)

// protection is the name under which peers are protected from the connection manager.
const protection = "accessor"

func (n *Node) keepConnectedLocked(info peer.AddrInfo) {
	ctx, stop := context.WithCancel(n.fetch.base)
	n.keepers[info.ID] = &keeper{addrs: info.Addrs, stop: stop}
	n.host.Peerstore().AddAddrs(info.ID, info.Addrs, peerstore.PermanentAddrTTL)
	n.book.add(info.ID, true)
	n.host.ConnManager().Protect(info.ID, protection)
	n.wg.Go(func() {
		defer stop()
		pause, told := connectPause, false
		for ctx.Err() == nil {
			if n.host.Network().Connectedness(info.ID) == network.Connected {
				pause, told = connectPause, false
			} else {
				var err error
				if n.gater.peer(info.ID) { // a host that was given dials whom the gater doesn't admit
					err = n.connect(ctx, info)
				}
				// If it is connected now, the pause is short again.
				pause = min(2*pause, connectPauseMx)
				if err != nil && !told && ctx.Err() == nil {
					n.log.Warn("can't connect with a peer; it is tried again", zap.Stringer("peer", info.ID), zap.String("error", oneLine(err)))
					told = true
				}
			}
			select {
			case <-time.After(jitter(pause)):
			case <-ctx.Done():
			}
		}
	})
}

func (n *Node) connect(ctx context.Context, info peer.AddrInfo) error {
	ctx, cancel := context.WithTimeout(ctx, n.config.Answer)
	defer cancel()
	ownPace(n.host, info.ID)
	return n.host.Connect(ctx, info)
}

// found is told of peers on the local network, by mDNS.
type found struct {
	n    *Node
	base context.Context
}

const (
	// maxFound bounds the peers that were found: anybody can be.
	maxFound = 64
	// maxFoundAddrs bounds the addresses of each.
	maxFoundAddrs = 16
)

// HandlePeerFound asks the peer from now on.
func (f found) HandlePeerFound(info peer.AddrInfo) {
	f.n.mu.Lock()
	defer f.n.mu.Unlock()
	if !f.n.findLocked(info, false) {
		return
	}
	f.n.wg.Go(func() {
		if err := f.n.connect(f.base, info); err != nil && f.base.Err() == nil {
			f.n.book.unreachable(info.ID)
			f.n.log.Debug("connect with a peer found by mDNS", zap.Stringer("peer", info.ID), zap.Error(err))
		}
	})
}

// findLocked takes in a peer that was found; wanted says that it is to be asked now. False
// where it is known (but for its addresses), may not be connected with, or there is no room
// for it.
func (n *Node) findLocked(info peer.AddrInfo, wanted bool) bool {
	if n.closed || info.ID == n.host.ID() || !n.gater.peer(info.ID) {
		return false
	}
	addrs := info.Addrs[:min(len(info.Addrs), maxFoundAddrs)]
	if n.book.knows(info.ID) {
		return n.movedLocked(info.ID, addrs)
	}
	out, ok := n.book.find(info.ID, maxFound, wanted)
	if out != "" && n.keepers[out] == nil {
		n.host.Peerstore().ClearAddrs(out)
	}
	if ok {
		n.host.Peerstore().AddAddrs(info.ID, addrs, peerstore.PermanentAddrTTL)
	}
	return ok
}

// movedLocked takes addresses of a peer that was found before and isn't connected: it may
// be elsewhere now. Those of the configuration are where that says.
func (n *Node) movedLocked(id peer.ID, addrs []ma.Multiaddr) bool {
	known := n.host.Peerstore().Addrs(id)
	isKnown := func(a ma.Multiaddr) bool { return slices.ContainsFunc(known, a.Equal) }
	addrs = slices.DeleteFunc(slices.Clone(addrs), isKnown)
	if len(addrs) == 0 || n.keepers[id] != nil || n.host.Network().Connectedness(id) == network.Connected {
		return false
	}
	addrs = append(addrs, known...)
	n.host.Peerstore().ClearAddrs(id)
	n.host.Peerstore().AddAddrs(id, addrs[:min(len(addrs), maxFoundAddrs)], peerstore.PermanentAddrTTL)
	n.book.awake(id)
	return true
}

// PeerInfo is what a node knows of a peer that it asks.
type PeerInfo struct {
	ID        string
	Addrs     []string
	Trusted   bool // of the configuration
	Connected bool
	Latency   time.Duration // of its answers, usually; 0: none yet
	Demerit   float64       // 0 to 10: the higher, the later it is asked
	Failures  int           // in a row
	Resting   time.Time     // not asked until then, after failures
	Banned    time.Time     // until then
	Reason    string        // of the last ban
	Answers   uint64        // valid ones
	Invalid   uint64        // answers
}

// Peers lists the peers that this node asks, by id.
func (n *Node) Peers() []PeerInfo {
	all := n.book.list()
	for i := range all {
		id, _ := peer.Decode(all[i].ID)
		all[i].Connected = n.host.Network().Connectedness(id) == network.Connected
		all[i].Addrs = texts(n.host.Peerstore().Addrs(id))
	}
	slices.SortFunc(all, func(a, b PeerInfo) int { return strings.Compare(a.ID, b.ID) })
	return all
}

// ownPace makes the next dial go when it is asked to, without libp2p's own back-off, which
// would keep a peer that is back away for up to five minutes: pauses are the node's
// (keepConnected) and the breaker's (book). (A dial that is forced has none either, but
// where the host is closed meanwhile, libp2p 0.51 crashes.)
func ownPace(h host.Host, id peer.ID) {
	if s, ok := h.Network().(interface{ Backoff() *swarm.DialBackoff }); ok {
		s.Backoff().Clear(id)
	}
}

// libp2pOpener opens streams, and connections where there is none.
type libp2pOpener struct{ host host.Host }

func (o libp2pOpener) open(ctx context.Context, id peer.ID, p protocol.ID) (stream, error) {
	ownPace(o.host, id)
	s, err := o.host.NewStream(ctx, id, p)
	if err != nil {
		return nil, unsupported(err)
	}
	return s, nil
}

package da

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/discovery/mdns"
	ma "github.com/multiformats/go-multiaddr"
	"go.uber.org/zap"

	"accessor/da/items"
	"accessor/da/shards"
	"accessor/forks"
)

// Config configures a node. The zero value makes one that knows nobody, listens
// nowhere and serves nothing.
type Config struct {
	// Host is used where it is given, and not closed; Listen, Identity and limits are
	// then the giver's business, and who may not be connected with (Private, Deny) is
	// disconnected at once.
	Host host.Host
	// Listen are multiaddrs such as /ip4/0.0.0.0/udp/4001/quic-v1 and
	// /ip4/0.0.0.0/tcp/4001. None: others can't connect.
	Listen []string
	// Identity is the file of this node's key, made on first start, mode 0600. Empty:
	// a new identity each time.
	Identity string

	// Peers are multiaddrs that end in /p2p/ID: asked, and kept connected.
	Peers []string
	// Allow are ids of peers that are served what Serve says is for listed ones.
	Allow []string
	// Deny are ids of peers, addresses and prefixes (10.0.0.0/8) never connected with.
	Deny []string
	// Private: connect with Peers and Allow only.
	Private bool
	// MDNS finds peers on the local network, and is found there. They are asked, but not
	// for blocks.
	MDNS bool
	// DHT finds peers by what they announce to have, where Peers (by whom the DHT is
	// entered) and others known haven't it; and announces what Serve gives to anyone. They
	// are asked, but not for blocks.
	DHT bool

	// Timeout bounds a fetch. Default: 30 s.
	Timeout time.Duration
	// Answer is how long a peer may take to connect, and then to begin an answer.
	// Default: 3 s.
	Answer time.Duration
	// MinRate is what an answer has to keep up then, in bytes a second. Default: 64 KiB.
	MinRate int
	// BanFor is how long a peer that lied is banned. Default: 1 h.
	BanFor time.Duration

	// Items keeps fetched items, and serves them. May be nil.
	Items *items.Store
	// Shards keeps erasure-coded shards: they are taken first when an item is put
	// together, and served. May be nil.
	Shards *shards.Store
	// Serve says what is served.
	Serve Serve
	// Log: default none.
	Log *zap.Logger

	announce time.Duration // between looks for what is to be announced; default: announceLook
}

// Node is a member of the network. It is safe for concurrent use.
type Node struct {
	config    Config
	log       *zap.Logger
	host      host.Host
	own       bool // the host is the node's
	book      *book
	gater     *gater
	fetch     *fetcher
	serve     *server
	stats     *counters
	mdns      mdns.Service
	guide     *guide // nil without a DHT
	strangers int    // connections of theirs from outside, at most
	notify    *network.NotifyBundle

	cancel context.CancelFunc
	wg     sync.WaitGroup
	keeps  chan struct{} // tokens of writes to Config.Items

	mu      sync.Mutex // guards the rest, changes of the lists, and that nothing begins after closed
	closed  bool
	keepers map[peer.ID]*keeper
}

// keepsAtATime bounds the background writes of items.
const keepsAtATime = 4

// New makes a node and connects with Config.Peers in the background. src may be nil.
// Error: what is wrong with the configuration, or that it can't listen.
func New(ctx context.Context, config Config, src Source) (*Node, error) {
	setDefault(&config.Timeout, 30*time.Second)
	setDefault(&config.Answer, 3*time.Second)
	setDefault(&config.MinRate, 64<<10)
	setDefault(&config.BanFor, time.Hour)
	n := &Node{config: config, log: config.Log, stats: &counters{}, strangers: maxStrangers, keeps: make(chan struct{}, keepsAtATime), keepers: map[peer.ID]*keeper{}}
	if n.log == nil {
		n.log = zap.NewNop()
	}
	if min(config.Timeout, config.Answer, config.BanFor) < 0 || config.MinRate < 0 {
		return nil, errors.New("da: a time or a rate is negative")
	}
	n.book = newBook(config.BanFor, n.onBan)
	n.gater = &gater{private: config.Private, banned: n.book.isBanned}
	l, err := readLists(config.Peers, config.Allow, config.Deny)
	if err != nil {
		return nil, fmt.Errorf("da: %w", err)
	}
	n.gater.lists.Store(l)
	n.host, n.own = config.Host, config.Host == nil
	if n.own {
		if n.host, err = newHost(&config, n.gater); err != nil {
			return nil, fmt.Errorf("da: %w", err)
		}
	}
	base, cancel := context.WithCancel(context.WithoutCancel(ctx))
	n.cancel = cancel
	kept := newKept(config.Shards, n.log)
	n.fetch = &fetcher{
		net: libp2pOpener{n.host}, book: n.book, stats: n.stats, timeout: config.Timeout,
		answer: config.Answer, minRate: config.MinRate, kept: kept, base: base, calls: map[string]*call{},
	}
	n.serve = newServer(base, config.Serve, src, n.stats, n.log)
	n.serve.items, n.serve.kept = config.Items, kept
	n.serve.listed = func(id peer.ID) bool { return n.gater.lists.Load().allowed[id] }
	n.serve.lists = func() bool { return len(n.gater.lists.Load().allowed) > 0 }
	n.serve.banned = func(id peer.ID) bool { return !n.gater.peer(id) }
	n.start(l)
	if config.DHT {
		if n.guide, err = newGuide(n); err != nil {
			return nil, fmt.Errorf("da: %w", errors.Join(err, n.Close()))
		}
		n.fetch.seek = n.guide.seek
	}
	if n.own {
		if err := listen(n.host, config.Listen); err != nil {
			return nil, fmt.Errorf("da: %w", errors.Join(err, n.Close()))
		}
	}
	if n.guide != nil && len(n.host.Addrs()) > 0 { // else nobody could come
		n.wg.Go(func() { n.guide.announce(base) })
	}
	if config.MDNS {
		n.mdns = mdns.NewMdnsService(n.host, "_accessor._udp", found{n, base})
		if err := n.mdns.Start(); err != nil {
			return nil, fmt.Errorf("da: mdns: %w", errors.Join(err, n.Close()))
		}
	}
	return n, nil
}

// start begins serving, and keeps the static peers connected.
func (n *Node) start(l *lists) {
	n.notify = &network.NotifyBundle{ConnectedF: n.connected}
	n.host.Network().Notify(n.notify)
	for k := range kinds {
		if n.serve.serves(k) {
			n.host.SetStreamHandler(protocols[k], func(s network.Stream) { n.serve.handle(k, s.Conn().RemotePeer(), s) })
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.useLocked(l)
}

func (n *Node) onBan(id peer.ID, reason error) {
	n.log.Warn("ban a peer", zap.Stringer("peer", id), zap.Error(reason))
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.closed {
		n.wg.Go(func() { _ = n.host.Network().ClosePeer(id) })
	}
}

// Blame bans the peer that gave a block, named by Block.From, whose write set didn't
// lead to the root it claims.
func (n *Node) Blame(from string, reason error) {
	if id, err := peer.Decode(from); err == nil {
		n.stats.rejected.Add(1)
		n.book.ban(id, reason)
	}
}

// keep puts an item into the store, in the background. Where too many are on their
// way already, it is left out.
func (n *Node) keep(hash forks.Hash, item []byte) {
	if n.config.Items == nil {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	select {
	case n.keeps <- struct{}{}:
	default:
		n.stats.storeSkipped.Add(1)
		return
	}
	// A fetch calls it, and Close waits for those first.
	n.wg.Go(func() {
		defer func() { <-n.keeps }()
		if err := n.config.Items.Put(hash, item); err != nil {
			n.stats.storeErrors.Add(1)
			n.log.Warn("keep an item", zap.Error(err))
			return
		}
		n.stats.stored.Add(1)
	})
}

// Close ends all requests, in both directions, and waits for them. Only then is the
// source no longer called. Closing again does nothing.
func (n *Node) Close() error {
	n.mu.Lock()
	if n.closed {
		n.mu.Unlock()
		return nil
	}
	n.closed = true
	n.mu.Unlock()
	n.cancel()
	for k := range kinds {
		if n.serve.serves(k) {
			n.host.RemoveStreamHandler(protocols[k])
		}
	}
	n.host.Network().StopNotify(n.notify)
	var err error
	if n.mdns != nil {
		err = n.mdns.Close()
	}
	n.fetch.close()
	n.serve.close()
	n.wg.Wait()
	if n.guide != nil {
		err = errors.Join(err, n.guide.close())
	}
	if n.own {
		err = errors.Join(err, n.host.Close())
	}
	return err
}

// ID is this node's peer id.
func (n *Node) ID() string { return n.host.ID().String() }

// Addrs are the multiaddrs under which others reach this node, with /p2p/ID.
func (n *Node) Addrs() []string {
	all, err := peer.AddrInfoToP2pAddrs(&peer.AddrInfo{ID: n.host.ID(), Addrs: n.host.Addrs()})
	if err != nil {
		return nil
	}
	return texts(all)
}

func texts(all []ma.Multiaddr) []string {
	out := make([]string, len(all))
	for i, a := range all {
		out[i] = a.String()
	}
	slices.Sort(out)
	return out
}

// Stats counts what the node did.
func (n *Node) Stats() Stats {
	s := n.stats.stats()
	s.Banned = n.book.banned()
	return s
}

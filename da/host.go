package da

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/protocol"
	rcmgr "github.com/libp2p/go-libp2p/p2p/host/resource-manager"
	"github.com/libp2p/go-libp2p/p2p/net/connmgr"
	libp2pquic "github.com/libp2p/go-libp2p/p2p/transport/quic"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/multiformats/go-multistream"
)

// ErrIdentity: the identity file is not what it should be.
var ErrIdentity = errors.New("bad identity file")

// identity reads the key that names this node, or makes it: an Ed25519 key in
// libp2p's encoding, which nobody else may read. Without a path, it lasts as long as
// the node.
func identity(path string) (crypto.PrivKey, error) {
	if path == "" {
		key, _, err := crypto.GenerateEd25519Key(rand.Reader)
		return key, err
	}
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return newIdentity(path)
	}
	if err != nil {
		return nil, err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%w: %s may be read by others: %v, should be 0600", ErrIdentity, path, info.Mode().Perm())
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	key, err := crypto.UnmarshalPrivateKey(b)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrIdentity, path, err)
	}
	return key, nil
}

// newIdentity makes the file whole or not at all; where two do so at once, both get
// the same key.
func newIdentity(path string) (crypto.PrivKey, error) {
	key, _, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		return nil, err
	}
	b, err := crypto.MarshalPrivateKey(key)
	if err != nil {
		return nil, err
	}
	temp, err := os.CreateTemp(filepath.Dir(path), ".identity-*") // mode 0600
	if err != nil {
		return nil, err
	}
	defer os.Remove(temp.Name())
	_, err = temp.Write(b)
	if err == nil {
		err = temp.Sync()
	}
	if err = errors.Join(err, temp.Close()); err != nil {
		return nil, err
	}
	if err := os.Link(temp.Name(), path); err != nil {
		if errors.Is(err, fs.ErrExist) {
			return identity(path)
		}
		return nil, err
	}
	return key, nil
}

// Limits of the host. Streams of one peer are bounded above what it may have at work
// (Serve.PerPeer), so that it is told so rather than cut off.
const (
	maxPeers       = 256 // connections are closed down to three quarters of it, but for listed peers
	maxStrangers   = 256 // connections of peers that aren't listed, from outside
	maxInbound     = 384
	maxPeerConns   = 8
	maxPeerStreams = 128
	maxHostMemory  = 512 << 20
)

func resources() rcmgr.Limiter {
	limits := rcmgr.DefaultLimits
	libp2p.SetDefaultServiceLimits(&limits)
	partial := rcmgr.PartialLimitConfig{
		System: rcmgr.ResourceLimits{
			Conns: maxInbound + maxPeers, ConnsInbound: maxInbound, ConnsOutbound: maxPeers,
			Streams: 16 * maxPeers, StreamsInbound: 8 * maxPeers, StreamsOutbound: 8 * maxPeers,
			Memory: maxHostMemory,
		},
		PeerDefault: rcmgr.ResourceLimits{
			Conns: maxPeerConns, ConnsInbound: maxPeerConns, ConnsOutbound: maxPeerConns,
			Streams: 2 * maxPeerStreams, StreamsInbound: maxPeerStreams, StreamsOutbound: maxPeerStreams,
			Memory: maxHostMemory / 4,
		},
		ProtocolPeerDefault: rcmgr.ResourceLimits{
			Streams: 2 * maxPeerStreams, StreamsInbound: maxPeerStreams, StreamsOutbound: maxPeerStreams,
			Memory: maxHostMemory / 4,
		},
		ProtocolDefault: rcmgr.ResourceLimits{
			Streams: 8 * maxPeers, StreamsInbound: 4 * maxPeers, StreamsOutbound: 4 * maxPeers,
			Memory: maxHostMemory,
		},
	}
	return rcmgr.NewFixedLimiter(partial.Build(limits.Scale(maxHostMemory, 4*maxPeers)))
}

// newHost makes a host: QUIC and TCP, TLS or noise, no relay, no hole punching, no
// address discovery. It doesn't listen yet.
func newHost(c *Config, g *gater) (host.Host, error) {
	key, err := identity(c.Identity)
	if err != nil {
		return nil, fmt.Errorf("identity: %w", err)
	}
	manager, err := rcmgr.NewResourceManager(resources(), rcmgr.WithMetricsDisabled())
	if err != nil {
		return nil, err
	}
	conns, err := connmgr.NewConnManager(maxPeers*3/4, maxPeers, connmgr.WithGracePeriod(20*time.Second))
	if err != nil {
		return nil, errors.Join(err, manager.Close())
	}
	h, err := libp2p.New(
		libp2p.Identity(key), libp2p.NoListenAddrs,
		// A port that another process listens on is not shared with it: it would be given
		// half of the connections.
		libp2p.Transport(libp2pquic.NewTransport), libp2p.Transport(tcp.NewTCPTransport, tcp.DisableReuseport()),
		libp2p.ResourceManager(manager), libp2p.ConnectionManager(conns), libp2p.ConnectionGater(g),
		libp2p.DisableRelay(), libp2p.ForceReachabilityPublic(), libp2p.DisableIdentifyAddressDiscovery(),
		libp2p.DisableMetrics(), libp2p.UserAgent("accessor"),
	)
	if err != nil {
		return nil, errors.Join(err, conns.Close(), manager.Close())
	}
	return h, nil
}

// listen has a host listen on each address: libp2p itself is content with one of them. It
// does so once it answers: who comes before is told that it doesn't know the protocols.
func listen(h host.Host, addresses []string) error {
	for _, text := range addresses {
		a, err := ma.NewMultiaddr(text)
		if err == nil {
			err = h.Network().Listen(a)
		}
		if err != nil {
			return fmt.Errorf("listen on %s: %w", text, err)
		}
	}
	return nil
}

// unsupported marks the errors that say that a peer doesn't know a protocol.
func unsupported(err error) error {
	var no multistream.ErrNotSupported[protocol.ID]
	if errors.As(err, &no) {
		return fmt.Errorf("%w: %w", errUnsupported, err)
	}
	return err
}

package datest

import (
	"sync"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/protocol"
	libp2pquic "github.com/libp2p/go-libp2p/p2p/transport/quic"
)

// NewHost makes a host on loopback, over QUIC.
func NewHost() (host.Host, error) {
	return libp2p.New(
		libp2p.ListenAddrStrings("/ip4/127.0.0.1/udp/0/quic-v1"), libp2p.Transport(libp2pquic.NewTransport),
		libp2p.DisableRelay(), libp2p.ForceReachabilityPublic(), libp2p.DisableIdentifyAddressDiscovery(),
		libp2p.DisableMetrics(),
	)
}

// Manner is how a peer hands over an answer that its node has ready. It ends the
// stream, or leaves that to the reader.
type Manner func(s network.Stream, answer []byte)

// Telling hands over a lie, where the answer has messages.
func Telling(l Lie) Manner {
	return func(s network.Stream, answer []byte) {
		if len(answer) > 5 && answer[0] == statusOK {
			answer = l.Tell(answer)
		}
		if _, err := s.Write(answer); err != nil {
			_ = s.Reset()
			return
		}
		_ = s.Close()
	}
}

// Silent hands nothing over: the reader waits.
func Silent(network.Stream, []byte) {}

// Dripping hands over a byte each 100 ms.
func Dripping(s network.Stream, answer []byte) {
	go func() { // the node is done: it doesn't wait for slow readers
		for i := range answer {
			if _, err := s.Write(answer[i : i+1]); err != nil {
				return
			}
			time.Sleep(100 * time.Millisecond)
		}
		_ = s.Close()
	}()
}

// Breaking breaks off in the middle.
func Breaking(s network.Stream, answer []byte) {
	_, _ = s.Write(answer[:len(answer)/2])
	_ = s.Reset()
}

// Resetting breaks off before the first byte.
func Resetting(s network.Stream, _ []byte) { _ = s.Reset() }

// Host gives what its node answers over in a manner: so a node that breaks the protocol
// is made of an honest one. Requests are not changed. Without a manner it is honest.
type Host struct {
	host.Host
	Manner Manner
}

// Network gives nodes their hosts, each at a place of its own, a number.
type Network interface {
	// Host makes the host of a place, with the same identity and address each time. The
	// one that was there before is closed.
	Host(place int) (Host, error)
	// Vanish has a place reach nobody, and nobody it, until its next host is made: others
	// aren't told, as if its machine had lost its power.
	Vanish(place int)
	// Divide has places on different sides not reach each other. Those on none reach all.
	Divide(sides [][]int)
}

// SetStreamHandler implements host.Host.
func (h Host) SetStreamHandler(id protocol.ID, f network.StreamHandler) {
	if h.Manner == nil {
		h.Host.SetStreamHandler(id, f)
		return
	}
	h.Host.SetStreamHandler(id, func(s network.Stream) { f(&stream{Stream: s, manner: h.Manner}) })
}

// stream keeps an answer until it is whole.
type stream struct {
	network.Stream
	manner Manner
	once   sync.Once
	answer []byte
}

// Write implements network.Stream.
func (s *stream) Write(b []byte) (int, error) {
	s.answer = append(s.answer, b...)
	return len(b), nil
}

func (s *stream) hand() error {
	s.once.Do(func() { s.manner(s.Stream, s.answer) })
	return nil
}

// CloseWrite implements network.Stream.
func (s *stream) CloseWrite() error { return s.hand() }

// Close implements network.Stream.
func (s *stream) Close() error { return s.hand() }

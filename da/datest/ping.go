package datest

import (
	"context"
	"errors"
	"io"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
)

const pingProtocol = "/accessor/test/ping/1"

// Pinger does bare round trips between two hosts on loopback, on one stream.
type Pinger struct {
	hosts           []host.Host
	stream          network.Stream
	request, answer []byte
}

// NewPinger makes the hosts; a request and its answer have so many bytes, 1 at least.
func NewPinger(ctx context.Context, request, answer int) (*Pinger, error) {
	p := &Pinger{request: make([]byte, request), answer: make([]byte, answer)}
	if err := p.connect(ctx); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

func (p *Pinger) connect(ctx context.Context) error {
	for range 2 {
		h, err := NewHost()
		if err != nil {
			return err
		}
		p.hosts = append(p.hosts, h)
	}
	from, to := p.hosts[0], p.hosts[1]
	answer := make([]byte, len(p.answer))
	request := make([]byte, len(p.request))
	to.SetStreamHandler(pingProtocol, func(s network.Stream) {
		for {
			_, err := io.ReadFull(s, request)
			if err == nil {
				_, err = s.Write(answer)
			}
			if err != nil {
				_ = s.Reset()
				return
			}
		}
	})
	err := from.Connect(ctx, peer.AddrInfo{ID: to.ID(), Addrs: to.Addrs()})
	if err == nil {
		p.stream, err = from.NewStream(ctx, to.ID(), pingProtocol)
	}
	return err
}

// Ping does one round trip.
func (p *Pinger) Ping() error {
	_, err := p.stream.Write(p.request)
	if err == nil {
		_, err = io.ReadFull(p.stream, p.answer)
	}
	return err
}

// Close closes the hosts.
func (p *Pinger) Close() error {
	var err error
	for _, h := range p.hosts {
		err = errors.Join(err, h.Close())
	}
	return err
}

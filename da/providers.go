package da

import (
	"context"
	"encoding/binary"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

const (
	// providerTime is how long a record is kept.
	providerTime = 24 * time.Hour
	// maxProviders bounds all records, and maxPerPlace those of one place. Where there
	// are as many, any of them makes room: nobody can keep others out for long by making
	// up more, and all announce themselves again.
	maxProviders = 16_384
	maxPerPlace  = 64
	// maxRecord bounds the addresses of each, in bytes: 16 such as nodes have.
	maxRecord = 1024
)

// providers are the records that a node keeps of the DHT: who says that he has
// something. Any peer may write them, so they are bounded.
type providers struct {
	self  peer.ID
	addrs func() []ma.Multiaddr // of this node

	mu     sync.Mutex // guards the rest
	count  int
	swept  time.Time // what had run out was removed
	places map[string]map[peer.ID]provider
}

type provider struct {
	addrs []byte // each with its length, u16, in front: parsed, they take up to 20 times as much
	until time.Time
}

// pack gives the first addresses, as many as a record may have.
func pack(all []ma.Multiaddr) (b []byte) {
	for _, a := range all[:min(len(all), maxFoundAddrs)] {
		if one := a.Bytes(); len(b)+2+len(one) <= maxRecord {
			b = append(binary.LittleEndian.AppendUint16(b, uint16(len(one))), one...)
		}
	}
	return b
}

func unpack(b []byte) (all []ma.Multiaddr) {
	for len(b) > 0 {
		end := 2 + int(binary.LittleEndian.Uint16(b))
		if a, err := ma.NewMultiaddrBytes(b[2:end]); err == nil {
			all = append(all, a)
		}
		b = b[end:]
	}
	return all
}

func newProviders(self peer.ID, addrs func() []ma.Multiaddr) *providers {
	return &providers{self: self, addrs: addrs, places: map[string]map[peer.ID]provider{}}
}

// AddProvider implements records.ProviderStore.
func (p *providers) AddProvider(_ context.Context, key []byte, who peer.AddrInfo) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	at := p.places[string(key)]
	if _, known := at[who.ID]; !known {
		if p.count >= maxProviders && now.Sub(p.swept) > time.Minute {
			p.forgetLocked(now)
			p.swept = now
		}
		if at = p.places[string(key)]; len(at) >= maxPerPlace {
			p.removeAnyLocked(string(key), at)
		}
		for p.count >= maxProviders {
			for other, at := range p.places {
				p.removeAnyLocked(other, at)
				break
			}
		}
		if at = p.places[string(key)]; at == nil {
			at = map[peer.ID]provider{}
			p.places[string(key)] = at
		}
		p.count++
	}
	at[who.ID] = provider{pack(who.Addrs), now.Add(providerTime)}
	return nil
}

// GetProviders implements records.ProviderStore.
func (p *providers) GetProviders(_ context.Context, key []byte) (all []peer.AddrInfo, _ error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	for id, one := range p.places[string(key)] {
		switch {
		case id == p.self:
			all = append(all, peer.AddrInfo{ID: id, Addrs: p.addrs()})
		case now.Before(one.until):
			all = append(all, peer.AddrInfo{ID: id, Addrs: unpack(one.addrs)})
		}
	}
	return all, nil
}

// Close implements records.ProviderStore.
func (p *providers) Close() error { return nil }

// forgetLocked removes what has run out.
func (p *providers) forgetLocked(now time.Time) {
	for key, at := range p.places {
		for id, one := range at {
			if now.After(one.until) {
				p.removeLocked(key, at, id)
			}
		}
	}
}

func (p *providers) removeAnyLocked(key string, at map[peer.ID]provider) {
	for id := range at {
		p.removeLocked(key, at, id)
		return
	}
}

func (p *providers) removeLocked(key string, at map[peer.ID]provider, id peer.ID) {
	delete(at, id)
	if p.count--; len(at) == 0 {
		delete(p.places, key)
	}
}

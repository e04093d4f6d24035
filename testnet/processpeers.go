package testnet

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// loopback is where a node listens first. Later it listens where it did then, so that
// its peers find it.
const loopback = "/ip4/127.0.0.1/udp/0/quic-v1"

// listen gives the address on which a node listens.
func (p *Processes) listen(node int) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	address, _, _ := strings.Cut(p.addresses[node], "/p2p/")
	return cmp.Or(address, loopback)
}

// others gives the addresses of all nodes but one, also of those that are down: they
// come back there.
func (p *Processes) others(node int) (list []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, other := range slices.Sorted(maps.Keys(p.addresses)) {
		if other != node {
			list = append(list, p.addresses[other])
		}
	}
	return list
}

// origin is the flags that say what the store starts from.
func (p *process) origin() []string {
	if p.trusted == nil {
		return []string{"--anchor", p.of.anchorFile()}
	}
	flags := []string{"--trust", fmt.Sprintf("%s:%d:%s", p.trusted.Hash, p.trusted.Slot, p.trusted.Root)}
	for _, peer := range append(p.of.others(p.node), p.liars...) {
		flags = append(flags, "--peer", peer)
	}
	return flags
}

// findAddress notes where other nodes reach this one.
func (p *process) findAddress(ctx context.Context) error {
	s, err := p.client.Status(ctx)
	if err == nil && len(s.PeerAddresses) == 0 {
		err = fmt.Errorf("has no address for peers; see %s", p.of.Log(p.node))
	}
	if err != nil {
		return err
	}
	p.of.mu.Lock()
	defer p.of.mu.Unlock()
	p.of.addresses[p.node] = s.PeerAddresses[0]
	return nil
}

// maxFigures bounds the figures of a sidecar, in bytes.
const maxFigures = 4 << 20

// askPeerFigures reads what the node did with its peers, from its metrics.
func (p *process) askPeerFigures(ctx context.Context, s *Status) error {
	t := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", p.socket)
	}}
	defer t.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(ctx, requestPatience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://sidecar/metrics", nil)
	if err != nil {
		return err
	}
	res, err := t.RoundTrip(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(io.LimitReader(res.Body, maxFigures))
	if err != nil || res.StatusCode != http.StatusOK {
		return fmt.Errorf("metrics: %s: %w", res.Status, err)
	}
	for name, into := range map[string]func(n uint64){
		"accessor_peers_fetches_total ":                       func(n uint64) { s.Fetches = n },
		`accessor_peers_unanswered_total{result="rejected"} `: func(n uint64) { s.Rejected = n },
		"accessor_peers_banned ":                              func(n uint64) { s.Banned = int(n) },
	} {
		_, rest, found := strings.Cut(string(text), "\n"+name)
		line, _, _ := strings.Cut(rest, "\n")
		n, err := strconv.ParseFloat(line, 64)
		if !found || err != nil {
			return fmt.Errorf("metrics: %s%q: %w", name, line, err)
		}
		into(uint64(n))
	}
	return nil
}

package testnet

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"accessor/da/datest"
)

// loopback is where a node listens first. Later it listens where it did then, so that
// its peers find it.
const loopback = "/ip4/127.0.0.1/udp/0/quic-v1"

var _ Peers = (*Processes)(nil)

// Join implements Peers.
func (p *Processes) Join(node int, how Joining) (Sidecar, error) {
	s, err := p.make(node)
	if err != nil {
		return nil, err
	}
	s.joined = &how
	return s, nil
}

// Host implements Peers.
func (p *Processes) Host(int) (datest.Host, error) {
	h, err := datest.NewHost()
	return datest.Host{Host: h}, err
}

// Divide implements Peers: nodes deny those on other sides, and disconnect.
func (p *Processes) Divide(ctx context.Context, sides [][]int) error {
	of := make(map[int]int)
	for side, nodes := range sides {
		for _, node := range nodes {
			of[node] = side
		}
	}
	for _, one := range p.all {
		var deny []string
		for _, other := range p.all {
			mine, divided := of[one.node]
			theirs, both := of[other.node]
			// One that has no name yet denies others itself.
			if _, id, named := strings.Cut(p.addresses.get(other.node), "/p2p/"); named && divided && both && mine != theirs {
				deny = append(deny, id)
			}
		}
		if slices.Equal(deny, one.deny) {
			continue
		}
		one.deny = deny
		if err := one.reload(ctx); err != nil {
			return fmt.Errorf("node %d: %w", one.node, err)
		}
	}
	return nil
}

// Meet implements Peers.
func (p *Processes) Meet(ctx context.Context, liars []string) error {
	p.met, p.liars = true, liars
	for _, one := range p.all {
		if err := one.reload(ctx); err != nil {
			return fmt.Errorf("node %d: %w", one.node, err)
		}
	}
	return nil
}

// lists is what may change while a process runs.
type lists struct {
	Peers []string `json:"peers"`
	Deny  []string `json:"deny"` // ids of nodes on other sides of a partition
}

func (l lists) equal(o lists) bool {
	return slices.Equal(l.Peers, o.Peers) && slices.Equal(l.Deny, o.Deny)
}

func (p *process) lists() lists {
	return lists{Peers: p.of.addresses.asked(p.node, p.joined, p.of.met, p.of.liars), Deny: p.deny}
}

func (p *process) configFile() string {
	return filepath.Join(p.of.dir, fmt.Sprintf("node%d.toml", p.node))
}

// writeConfig writes the lists to the process's configuration.
func (p *process) writeConfig() (lists, error) {
	l := p.lists()
	quoted := func(words []string) string {
		out := make([]string, len(words))
		for i, word := range words {
			out[i] = strconv.Quote(word)
		}
		return strings.Join(out, ", ")
	}
	text := fmt.Sprintf("[da]\npeers = [%s]\ndeny = [%s]\n", quoted(l.Peers), quoted(l.Deny))
	return l, os.WriteFile(p.configFile(), []byte(text), 0o600)
}

// reload has the process go by its lists, from its return on; one that is down does
// when it starts.
func (p *process) reload(ctx context.Context) error {
	if p.cmd == nil {
		return nil
	}
	want, err := p.writeConfig()
	if err != nil {
		return err
	}
	_ = p.cmd.Process.Signal(syscall.SIGHUP) // it may have ended by itself
	ctx, cancel := context.WithTimeoutCause(ctx, requestPatience, fmt.Errorf("SIGHUP was not heeded within %v; see %s", requestPatience, p.of.Log(p.node)))
	defer cancel()
	for {
		var now struct {
			Settings struct {
				DA lists `json:"da"`
			} `json:"settings"`
		}
		text, err := p.client.Config(ctx)
		if err == nil {
			err = json.Unmarshal(text, &now)
		}
		select {
		case <-p.gone:
			return nil // who asks it next finds out, and says so
		default:
		}
		if err != nil {
			return err
		}
		if now.Settings.DA.equal(want) {
			return nil
		}
		select {
		case <-time.After(5 * time.Millisecond):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// listen gives the address on which a node listens.
func (p *Processes) listen(node int) string {
	address, _, _ := strings.Cut(p.addresses.get(node), "/p2p/")
	return cmp.Or(address, loopback)
}

// origin is the flags that say what the store starts from.
func (p *process) origin() []string {
	if p.joined == nil {
		return []string{"--anchor", p.of.anchorFile()}
	}
	t := &p.joined.Trusted
	return []string{"--trust", fmt.Sprintf("%s:%d:%s", t.Hash, t.Slot, t.Root)}
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
	p.of.addresses.note(p.node, s.PeerAddresses[0])
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

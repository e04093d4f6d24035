package config

import (
	"cmp"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"accessor/da"
	"accessor/forks"
	"accessor/state"
)

// accesses are who is served something, as the settings name them.
var accesses = map[string]da.Access{"off": da.Nobody, "listed": da.Listed, "anyone": da.Anyone}

// checkDA looks at the settings of peers, and at the block that is trusted.
func (l *loader) checkDA() {
	d := &l.DA
	for _, one := range []struct{ key, text string }{{"da.serve_state", d.ServeState}, {"da.serve_items", d.ServeItems}} {
		if _, ok := accesses[one.text]; !ok {
			l.wrong(one.key, "%q: want off, listed or anyone", clip(one.text))
		}
	}
	for _, one := range []struct {
		key  string
		list da.Config
	}{
		{"da.listen", da.Config{Listen: d.Listen}}, {"da.peers", da.Config{Peers: d.Peers}},
		{"da.allow", da.Config{Allow: d.Allow}}, {"da.deny", da.Config{Deny: d.Deny}},
	} {
		if err := one.list.Check(); err != nil {
			l.wrong(one.key, "%v", err)
		}
	}
	if d.Follow && len(d.Peers) == 0 {
		l.wrong("da.follow", "blocks are taken from da.peers alone, and there are none")
	}
	if d.DHT && !d.Enabled && len(d.Peers) == 0 {
		l.wrong("da.dht", "it is entered by da.peers, and there are none")
	}
	l.checkFetching()
	if l.Trust == "" {
		return
	}
	if _, err := ParseTrust(l.Trust); err != nil {
		l.wrong("trust", "%v", err)
	}
	if l.Anchor != "" || l.AwaitAnchor {
		l.wrong("trust", "it stands in place of anchor and await_anchor: take one of them")
	}
	if l.Commitment != "jam" {
		l.wrong("trust", "states without roots can't be had from peers: commitment is %s", clip(l.Commitment))
	}
}

// checkFetching looks at the bounds of what is fetched.
func (l *loader) checkFetching() {
	const most = 10 * time.Minute
	d := &l.DA
	for _, one := range []struct {
		key             string
		at, least, most int64
		want            string
	}{
		{"da.fetch_timeout", int64(d.FetchTimeout), int64(time.Millisecond), int64(most), "1ms to 10m"},
		{"da.fill_parallel", int64(d.FillParallel), 1, 64, "1 to 64"},
		{"da.fill_page", int64(d.FillPage), 1 << 10, da.MaxAnswer, "1KiB to 8MiB"},
		{"da.catch_up_blocks", int64(d.CatchUpBlocks), 1, math.MaxInt32, "1 to 2147483647"},
		{"da.catch_up_bytes", int64(d.CatchUpBytes), 1, math.MaxInt64, "more than 0"},
	} {
		if one.at < one.least || one.at > one.most {
			l.wrong(one.key, "want %s", one.want)
		}
	}
}

// Fill gives the settings of a fill.
func (c *Config) Fill() state.FillOptions {
	d := &c.DA
	return state.FillOptions{Parallel: d.FillParallel, PageBytes: uint32(d.FillPage), BytesPerSecond: int64(d.Bandwidth)}
}

// ParseTrust reads HASH:SLOT:ROOT, a trusted block.
func ParseTrust(text string) (b forks.Block, err error) {
	parts := strings.Split(text, ":")
	if len(parts) != 3 {
		return b, fmt.Errorf("%q: want HASH:SLOT:ROOT, which accessor status prints of head, finalized and anchor", clip(text))
	}
	slot, err := strconv.ParseUint(parts[1], 10, 32)
	if err != nil {
		return b, fmt.Errorf("%q: the slot is no number from 0 to 4294967295", clip(text))
	}
	b.Slot = forks.Slot(slot)
	for i, into := range map[int]*forks.Hash{0: &b.Hash, 2: &b.Root} {
		if *into, err = forks.ParseHash(parts[i]); err != nil {
			return b, fmt.Errorf("%q: %w", clip(text), err)
		}
	}
	return b, nil
}

// PeersDir is the folder in a store's directory with what is of its node: identity,
// items and shards.
func (c *Config) PeersDir() string { return filepath.Join(c.Data, "peers") }

// Node gives the settings of the node. Its Items and Shards, and the folder of its
// identity, are the caller's to open and make.
func (c *Config) Node() *da.Config {
	d := &c.DA
	out := &da.Config{
		Identity: cmp.Or(d.Identity, filepath.Join(c.PeersDir(), "identity")),
		Peers:    d.Peers, Deny: d.Deny, Private: d.Private, MDNS: d.MDNS, DHT: d.DHT,
		Timeout: max(time.Duration(d.FetchTimeout), 30*time.Second), // others may wait longer
	}
	// Whoever is trusted for blocks may have ours.
	out.Allow = slices.Clone(d.Allow)
	for _, text := range d.Peers {
		if i := strings.LastIndex(text, "/p2p/"); i >= 0 {
			out.Allow = append(out.Allow, text[i+len("/p2p/"):])
		}
	}
	if d.Enabled {
		out.Listen = d.Listen
		state, items := accesses[d.ServeState], accesses[d.ServeItems]
		out.Serve = da.Serve{State: state, Blocks: state, Items: items, Shards: items, BytesPerSecond: int(d.Bandwidth)}
	}
	return out
}

package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"accessor/state"
)

// Peers is what a node of the network has done since it was made.
type Peers struct {
	Connected, Banned int // peers that are asked, now

	Fetches, Joined, Failed   uint64 // fetches; those that waited for an equal one's result; those that ended with an error
	Requests, Hedges, Retries uint64 // to peers; of these because another was slow; rounds after the first
	// How requests to peers ended that brought nothing.
	Rejected, NotHeld, Overloaded, Failures uint64
	ReadBytes                               uint64

	// How requests of peers ended.
	Served, ServedEmpty, Refused, Limited, Malformed, Aborted uint64
	ServedBytes                                               uint64

	// Items written in the background, failed writes, and those left out.
	StoredItems, StoreErrors, StoreSkipped uint64

	Shards     int   // erasure-coded ones that are kept
	ShardBytes int64 // that they take
	// Shards for which there was no room, and those that went: their files were damaged,
	// or they made room for others.
	ShardsRefused, ShardsDamaged, ShardsAged uint64
}

// peerFigure is one figure of the network, or of a partial store.
type peerFigure[T any] struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	get   func(*T) float64
	label []string // the value of its label, if it has one
}

// network is what there is about peers and partial stores.
type network struct {
	peers   []peerFigure[Peers]
	partial []peerFigure[state.PartialStats]
}

func newNetwork() *network { return &network{peers: peerFigures(), partial: partialFigures()} }

func peerFigures() (list []peerFigure[Peers]) {
	add := func(kind prometheus.ValueType, d *prometheus.Desc, get func(*Peers) float64, label ...string) {
		list = append(list, peerFigure[Peers]{d, kind, get, label})
	}
	counter := func(name, help string, get func(*Peers) uint64) {
		add(prometheus.CounterValue, desc(name, help), func(p *Peers) float64 { return float64(get(p)) })
	}
	counters := func(name, help string, results map[string]func(*Peers) uint64) {
		d := desc(name, help, "result")
		for result, get := range results {
			add(prometheus.CounterValue, d, func(p *Peers) float64 { return float64(get(p)) }, result)
		}
	}
	add(prometheus.GaugeValue, desc("peers_connected", "Peers that are asked and connected."), func(p *Peers) float64 { return float64(p.Connected) })
	add(prometheus.GaugeValue, desc("peers_banned", "Peers that are banned, for invalid answers."), func(p *Peers) float64 { return float64(p.Banned) })
	counter("peers_fetches_total", "Fetches from peers; equal ones at one time count once.", func(p *Peers) uint64 { return p.Fetches })
	counter("peers_fetches_joined_total", "Fetches that waited for the result of an equal one.", func(p *Peers) uint64 { return p.Joined })
	counter("peers_fetches_failed_total", "Fetches that ended with an error.", func(p *Peers) uint64 { return p.Failed })
	counter("peers_requests_total", "Requests sent to peers.", func(p *Peers) uint64 { return p.Requests })
	counter("peers_hedges_total", "Requests sent because another peer was slow.", func(p *Peers) uint64 { return p.Hedges })
	counter("peers_retries_total", "Rounds of requests after a fetch's first.", func(p *Peers) uint64 { return p.Retries })
	counters("peers_unanswered_total", "Requests to peers that brought nothing: rejected answers were invalid, and each bans a peer.", map[string]func(*Peers) uint64{
		"rejected": func(p *Peers) uint64 { return p.Rejected }, "not-held": func(p *Peers) uint64 { return p.NotHeld },
		"overloaded": func(p *Peers) uint64 { return p.Overloaded }, "failed": func(p *Peers) uint64 { return p.Failures },
	})
	counter("peers_read_bytes_total", "Bytes of answers of peers.", func(p *Peers) uint64 { return p.ReadBytes })
	counters("peers_served_total", "Requests of peers that ended, by what they got.", map[string]func(*Peers) uint64{
		"served": func(p *Peers) uint64 { return p.Served }, "empty": func(p *Peers) uint64 { return p.ServedEmpty },
		"refused": func(p *Peers) uint64 { return p.Refused }, "limited": func(p *Peers) uint64 { return p.Limited },
		"malformed": func(p *Peers) uint64 { return p.Malformed }, "aborted": func(p *Peers) uint64 { return p.Aborted },
	})
	counter("peers_served_bytes_total", "Bytes of answers to peers.", func(p *Peers) uint64 { return p.ServedBytes })
	counters("peers_items_total", "Fetched items that were to be kept: stored, failed to be written, skipped because too many were being written.", map[string]func(*Peers) uint64{
		"stored": func(p *Peers) uint64 { return p.StoredItems }, "failed": func(p *Peers) uint64 { return p.StoreErrors },
		"skipped": func(p *Peers) uint64 { return p.StoreSkipped },
	})
	add(prometheus.GaugeValue, desc("shards", "Erasure-coded shards that are kept."), func(p *Peers) float64 { return float64(p.Shards) })
	add(prometheus.GaugeValue, desc("shards_bytes", "Bytes that they take."), func(p *Peers) float64 { return float64(p.ShardBytes) })
	counter("shards_refused_total", "Shards for which there was no room.", func(p *Peers) uint64 { return p.ShardsRefused })
	counters("shards_removed_total", "Shards that went: aged made room for others, damaged had a file that was.", map[string]func(*Peers) uint64{
		"aged": func(p *Peers) uint64 { return p.ShardsAged }, "damaged": func(p *Peers) uint64 { return p.ShardsDamaged },
	})
	return list
}

func partialFigures() (list []peerFigure[state.PartialStats]) {
	add := func(kind prometheus.ValueType, name, help string, get func(*state.PartialStats) float64) {
		list = append(list, peerFigure[state.PartialStats]{desc: desc(name, help), kind: kind, get: get})
	}
	gauge, counter := prometheus.GaugeValue, prometheus.CounterValue
	add(gauge, "partial", "1 while only a part of the state is here.", func(p *state.PartialStats) float64 { return one(p.Partial) })
	add(gauge, "fill_pairs", "Pairs of the state that a fill has fetched; 0 once the state is whole.", func(p *state.PartialStats) float64 { return float64(p.Pairs) })
	add(gauge, "fill_bytes", "Bytes of these.", func(p *state.PartialStats) float64 { return float64(p.Bytes) })
	add(gauge, "fill_ratio", "How much of all possible keys a fill has covered, 0 to 1; 0 once the state is whole.", func(p *state.PartialStats) float64 { return p.Covered })
	add(gauge, "fill_anchor_gone", "1 while peers don't have the state that a fill is for any more: a later block has to be trusted.", func(p *state.PartialStats) float64 { return one(p.AnchorGone) })
	add(counter, "partial_fetches_total", "Keys, and ranges, of a partial state that were asked for.", func(p *state.PartialStats) float64 { return float64(p.Fetches) })
	add(counter, "partial_rejected_total", "Answers to these that proved nothing, beside those that were rejected before.", func(p *state.PartialStats) float64 { return float64(p.Rejected) })
	add(counter, "partial_failed_total", "Fetches for a partial state that nobody could answer.", func(p *state.PartialStats) float64 { return float64(p.Failed) })
	add(counter, "partial_unkept_total", "Fetched nodes and values that could not be written in the background.", func(p *state.PartialStats) float64 { return float64(p.Unkept) })
	return list
}

func (n *network) describe(ch chan<- *prometheus.Desc) {
	for _, f := range n.peers {
		ch <- f.desc
	}
	for _, f := range n.partial {
		ch <- f.desc
	}
}

// collect gives what a source tells.
func (n *network) collect(source *Source, ch chan<- prometheus.Metric) {
	if source.Peers != nil {
		if p, ok := source.Peers(); ok {
			give(n.peers, &p, ch)
		}
	}
	if source.Partial != nil {
		if p, ok := source.Partial(); ok {
			give(n.partial, &p, ch)
		}
	}
}

func give[T any](figures []peerFigure[T], at *T, ch chan<- prometheus.Metric) {
	for _, f := range figures {
		ch <- prometheus.MustNewConstMetric(f.desc, f.kind, f.get(at), f.label...)
	}
}

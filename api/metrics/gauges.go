package metrics

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"accessor/state"
)

// gauges reads the source at each scrape.
type gauges struct {
	source *atomic.Pointer[Source]
	up     *prometheus.Desc
	ready  *prometheus.Desc
	open   *prometheus.Desc
	turned *prometheus.Desc
	reads  *prometheus.Desc
	stats  []stat
	below  *below
	net    *network
}

// stat is a figure of the store's.
type stat struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
	get  func(*state.Stats) float64
}

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(prometheus.BuildFQName(namespace, "", name), help, labels, nil)
}

func newGauges(source *atomic.Pointer[Source]) *gauges {
	g := &gauges{
		source: source,
		up:     desc("open", "1 while there is an open store."),
		ready:  desc("ready", "1 while imports are taken."),
		open:   desc("connections", "Connections of clients."),
		turned: desc("connections_turned_away_total", "Connections refused, or closed while idle to make room."),
		below:  newBelow(),
		net:    newNetwork(),
		reads:  desc("reads_total", "Keys read, by where they were found.", "tier"),
	}
	gauge := func(name, help string, get func(*state.Stats) float64) {
		g.stats = append(g.stats, stat{desc(name, help), prometheus.GaugeValue, get})
	}
	counter := func(name, help string, get func(*state.Stats) float64) {
		g.stats = append(g.stats, stat{desc(name, help), prometheus.CounterValue, get})
	}
	treeStats(gauge)
	useStats(gauge)
	storeStats(gauge, counter)
	return g
}

// add adds a figure.
type add func(name, help string, get func(*state.Stats) float64)

func treeStats(gauge add) {
	gauge("blocks", "Blocks held.", func(s *state.Stats) float64 { return float64(s.Blocks) })
	gauge("lost_blocks", "Blocks held on forks that lost by finality.", func(s *state.Stats) float64 { return float64(s.LostBlocks) })
	gauge("lost_forks", "Leaves of forks that lost by finality.", func(s *state.Stats) float64 { return float64(s.LostForks) })
	gauge("leaves", "Blocks without children: forks.", func(s *state.Stats) float64 { return float64(s.Leaves) })
	gauge("head_slot", "Slot of the head.", func(s *state.Stats) float64 { return float64(s.Head.Slot) })
	gauge("finalized_slot", "Slot of the finalized block.", func(s *state.Stats) float64 { return float64(s.Finalized.Slot) })
	gauge("anchor_slot", "Slot of the oldest canonical block that is kept.", func(s *state.Stats) float64 { return float64(s.Anchor.Slot) })
	gauge("head_height", "Blocks from the anchor to the head.", func(s *state.Stats) float64 { return float64(s.HeadHeight) })
	gauge("finalized_height", "Blocks from the anchor to the finalized one.", func(s *state.Stats) float64 { return float64(s.FinalHeight) })
	gauge("events", "Events that are kept for subscribers.", func(s *state.Stats) float64 { return float64(s.Events) })
	gauge("oldest_event", "Position of the oldest event that is kept.", func(s *state.Stats) float64 { return float64(s.OldestEvent) })
	gauge("newest_event", "Position of the newest event.", func(s *state.Stats) float64 { return float64(s.NewestEvent) })
}

func useStats(gauge add) {
	gauge("importing", "Imports on their way.", func(s *state.Stats) float64 { return float64(s.Importing) })
	gauge("drafts", "Drafts that are open.", func(s *state.Stats) float64 { return float64(s.Drafts) })
	gauge("pins", "Pins.", func(s *state.Stats) float64 { return float64(s.Pins) })
	gauge("pin_directories", "Pins with a directory.", func(s *state.Stats) float64 { return float64(s.PinDirectories) })
	gauge("locks", "Slots that are locked.", func(s *state.Stats) float64 { return float64(s.Locks) })
	gauge("lock_waiters", "Imports that wait for a slot.", func(s *state.Stats) float64 { return float64(s.LockWaiters) })
	gauge("open_views", "Views that somebody reads.", func(s *state.Stats) float64 { return float64(s.OpenViews) })
	gauge("open_checkpoints", "Checkpoints that are open for reading.", func(s *state.Stats) float64 { return float64(s.OpenCheckpoints) })
	gauge("working_databases", "Databases that stay open for the next import.", func(s *state.Stats) float64 { return float64(s.WorkingDBs) })
}

func storeStats(gauge, counter add) {
	gauge("cache_bytes", "Bytes of values in the read cache.", func(s *state.Stats) float64 { return float64(s.CacheBytes) })
	gauge("cache_ready", "1 once the read cache has its index.", func(s *state.Stats) float64 { return one(s.CacheReady) })
	gauge("disk_bytes", "Space that the store took when it was measured last; 0 before that.", func(s *state.Stats) float64 { return float64(s.DiskBytes) })
	gauge("disk_budget_bytes", "Space that it may take; 0 for any.", func(s *state.Stats) float64 { return float64(s.DiskBudget) })
	gauge("missing_deltas", "Write sets that were missing at the start.", func(s *state.Stats) float64 { return float64(s.MissingDeltas) })
	counter("cache_misses_total", "Reads that the cache could not answer though it has an index.", func(s *state.Stats) float64 { return float64(s.CacheMisses) })
	counter("store_clones_total", "Checkpoints cloned into working databases.", func(s *state.Stats) float64 { return float64(s.Clones) })
	counter("store_adopted_total", "Working databases taken over from the background.", func(s *state.Stats) float64 { return float64(s.Adopted) })
	counter("store_ingested_total", "Tables ingested.", func(s *state.Stats) float64 { return float64(s.Ingested) })
	counter("store_sealed_total", "Checkpoints sealed.", func(s *state.Stats) float64 { return float64(s.Sealed) })
	counter("store_runs_total", "Runs of write sets made.", func(s *state.Stats) float64 { return float64(s.Runs) })
	counter("store_images_total", "Images of the state made.", func(s *state.Stats) float64 { return float64(s.Images) })
	counter("store_archived_total", "Blocks archived.", func(s *state.Stats) float64 { return float64(s.Archived) })
	counter("store_settles_total", "Imports that had to wait for runs.", func(s *state.Stats) float64 { return float64(s.Settles) })
}

func one(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// Describe implements prometheus.Collector.
func (g *gauges) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{g.up, g.ready, g.open, g.turned, g.reads} {
		ch <- d
	}
	for _, s := range g.stats {
		ch <- s.desc
	}
	g.below.describe(ch)
	g.net.describe(ch)
}

// Collect implements prometheus.Collector.
func (g *gauges) Collect(ch chan<- prometheus.Metric) {
	source := g.source.Load()
	gauge := func(d *prometheus.Desc, v float64) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v)
	}
	if source.Connections != nil {
		open, turned := source.Connections()
		gauge(g.open, float64(open))
		ch <- prometheus.MustNewConstMetric(g.turned, prometheus.CounterValue, float64(turned))
	}
	g.below.collect(source, ch)
	g.net.collect(source, ch)
	var s state.Stats
	ok := false
	if source.Stats != nil {
		s, ok = source.Stats()
	}
	gauge(g.up, one(ok))
	gauge(g.ready, one(ok && s.NotReady == nil))
	if !ok {
		return
	}
	ch <- prometheus.MustNewConstMetric(g.reads, prometheus.CounterValue, float64(s.CacheHits), "cache")
	ch <- prometheus.MustNewConstMetric(g.reads, prometheus.CounterValue, float64(s.CheckpointReads), "checkpoint")
	ch <- prometheus.MustNewConstMetric(g.reads, prometheus.CounterValue, float64(s.PeerReads), "peers")
	for _, f := range g.stats {
		ch <- prometheus.MustNewConstMetric(f.desc, f.kind, f.get(&s))
	}
}

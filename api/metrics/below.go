package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"accessor/state"
)

// mostForks is how many branches have gauges of their own.
const mostForks = 16

// Load is what a server has on its way.
type Load struct {
	Bodies      int64 // bytes that request bodies have taken of their budget
	Budget      int64 // bytes
	Subscribers int   // requests that may go on for ever: those for events
}

// below is what is there beside the store's own figures: branches, what the engine
// uses, and what the server has on its way.
type below struct {
	forkBlocks, forkBehind, forkTables  *prometheus.Desc
	cacheBytes, cachePinned, cacheLimit *prometheus.Desc
	databases, tableReaders             *prometheus.Desc
	bodies, budget, subscribers         *prometheus.Desc
}

func newBelow() *below {
	return &below{
		forkBlocks:   desc("fork_blocks", "Blocks of a branch above the finalized block, of the 16 longest; its oldest block names it, the head's is called head.", "fork"),
		forkBehind:   desc("fork_slots_behind", "Slots from a branch's tip to the head.", "fork"),
		forkTables:   desc("fork_tables", "Tables in the checkpoint of a branch's tip, beside those of its image.", "fork"),
		cacheBytes:   desc("engine_cache_bytes", "Bytes in the storage engine's cache of table blocks."),
		cachePinned:  desc("engine_cache_pinned_bytes", "Bytes of these that are in use."),
		cacheLimit:   desc("engine_cache_capacity_bytes", "Bytes that the engine's cache may hold."),
		databases:    desc("engine_databases", "Databases that are open: checkpoints, images and working databases."),
		tableReaders: desc("engine_table_reader_bytes", "Memory of open tables beside the cache, as the engine estimates it."),
		bodies:       desc("http_body_bytes", "Memory that request bodies on their way have taken."),
		budget:       desc("http_body_budget_bytes", "Memory that they may take."),
		subscribers:  desc("http_subscribers", "Requests that may go on for ever: subscribers of events."),
	}
}

func (b *below) describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		b.forkBlocks, b.forkBehind, b.forkTables, b.cacheBytes, b.cachePinned, b.cacheLimit,
		b.databases, b.tableReaders, b.bodies, b.budget, b.subscribers,
	} {
		ch <- d
	}
}

// collect gives what a source tells.
func (b *below) collect(source *Source, ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	if source.Load != nil {
		if l, ok := source.Load(); ok {
			gauge(b.bodies, float64(l.Bodies))
			gauge(b.budget, float64(l.Budget))
			gauge(b.subscribers, float64(l.Subscribers))
		}
	}
	if source.Engine != nil {
		if u, ok := source.Engine(); ok {
			gauge(b.cacheBytes, float64(u.CacheBytes))
			gauge(b.cachePinned, float64(u.CachePinned))
			gauge(b.cacheLimit, float64(u.CacheCapacity))
			gauge(b.databases, float64(u.Databases))
			gauge(b.tableReaders, float64(u.TableReaders))
		}
	}
	if source.Forks != nil {
		for _, f := range source.Forks(mostForks) {
			name := forkName(&f)
			gauge(b.forkBlocks, float64(f.Blocks), name)
			gauge(b.forkBehind, float64(f.Behind), name)
			gauge(b.forkTables, float64(f.Tables), name)
		}
	}
}

// forkName is the label of a branch: its oldest block, which stays while it grows; the
// head's, whose oldest block moves with finality, has a name of its own.
func forkName(f *state.Fork) string {
	if f.Head {
		return "head"
	}
	return f.First.Hash.String()[:16]
}

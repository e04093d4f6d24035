// Package metrics turns what an accessor tells about itself into Prometheus
// metrics: what happens by an Observer, what is there by its Stats at each scrape.
// It owns their names, which never change: dashboards and alert rules go by them.
// It decides nothing, and knows nothing of who asks.
//
// Invariants: counting never waits and does no I/O; a scrape reads what is in
// memory; no label has values that come from clients, but the hashes of a few blocks
// that are held.
package metrics

import (
	"context"
	"errors"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"accessor/state"
)

// namespace begins the name of each metric.
const namespace = "accessor"

// Source is what is asked at each scrape. Each func may be nil.
type Source struct {
	// Stats describes the store; ok is false while there is none.
	Stats func() (s state.Stats, ok bool)
	// Connections gives how many are open, and how many were turned away.
	Connections func() (open int, turned uint64)
	// Load says what the server has on its way; ok is false while there is none.
	Load func() (l Load, ok bool)
	// Engine says what the storage engine uses; ok is false where it doesn't tell.
	Engine func() (u state.EngineUsage, ok bool)
	// Forks gives the branches above the finalized block, at most so many.
	Forks func(most int) []state.Fork
	// Peers says what the node has done; ok is false where there is none.
	Peers func() (p Peers, ok bool)
	// Partial describes a store that has, or had, only a part of its state; ok is false
	// while there is none.
	Partial func() (p state.PartialStats, ok bool)
}

// Metrics counts. It is safe for concurrent use. See New.
type Metrics struct {
	registry *prometheus.Registry
	source   atomic.Pointer[Source]

	imports       *prometheus.CounterVec
	importTime    prometheus.Histogram
	importBytes   prometheus.Counter
	lockWait      prometheus.Histogram
	walkBack      prometheus.Histogram
	replayed      prometheus.Histogram
	retained      *prometheus.CounterVec
	retentionTime prometheus.Histogram
	pruned        prometheus.Counter
	thinned       prometheus.Counter
	freed         prometheus.Counter
	drafts        *prometheus.CounterVec
	requests      *prometheus.HistogramVec
	refused       *prometheus.CounterVec
}

// How imports end.
const (
	imported = "imported"
	held     = "held"
	refused  = "refused" // the block's fault
	gaveUp   = "gave-up" // who sent it didn't wait, or the store was closed
	failed   = "failed"  // the store's
	lacking  = "lacking" // what it needs of a partial state could not be had from peers
)

// New makes metrics for a program of a version. They say little until SetSource.
func New(version, engine string) *Metrics {
	m := &Metrics{registry: prometheus.NewRegistry()}
	m.registry.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		newGauges(&m.source),
	)
	m.source.Store(&Source{})
	info := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Namespace: namespace, Name: "build_info", Help: "1, with the program's version and storage engine.",
	}, []string{"version", "engine"})
	info.WithLabelValues(version, engine).Set(1)
	m.registry.MustRegister(info)
	m.makeImports()
	m.makeRetention()
	m.makeHTTP()
	return m
}

// SetSource says what to ask at each scrape.
func (m *Metrics) SetSource(s Source) { m.source.Store(&s) }

// Handler answers scrapes.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{
		MaxRequestsInFlight: 4, // scrapers ask one at a time
		Timeout:             10 * time.Second,
	})
}

func (m *Metrics) counter(name, help string) prometheus.Counter {
	c := prometheus.NewCounter(prometheus.CounterOpts{Namespace: namespace, Name: name, Help: help})
	m.registry.MustRegister(c)
	return c
}

// counters makes a counter for each value of a label, all of them there from the
// start, so that the first of a kind is seen as a rise.
func (m *Metrics) counters(name, help, label string, values ...string) *prometheus.CounterVec {
	c := prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: namespace, Name: name, Help: help}, []string{label})
	for _, v := range values {
		c.WithLabelValues(v)
	}
	m.registry.MustRegister(c)
	return c
}

func (m *Metrics) histogram(name, help string, buckets []float64) prometheus.Histogram {
	h := prometheus.NewHistogram(prometheus.HistogramOpts{Namespace: namespace, Name: name, Help: help, Buckets: buckets})
	m.registry.MustRegister(h)
	return h
}

// importBuckets are around the few milliseconds that a block takes.
var importBuckets = []float64{.001, .002, .004, .006, .008, .012, .02, .04, .08, .16, .32, .64, 1.3, 2.5, 5, 10, 30}

// waitBuckets begin where a lock is free.
var waitBuckets = []float64{.0001, .001, .005, .01, .05, .1, .5, 1, 5, 10, 30}

// blockBuckets are numbers of blocks.
var blockBuckets = []float64{1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024}

func (m *Metrics) makeImports() {
	m.imports = m.counters("imports_total", "Imports that ended: imported, held already, refused for the block, given up by the client or at the end, failed for the store, lacking what peers did not give.",
		"result", imported, held, refused, gaveUp, failed, lacking)
	m.importTime = m.histogram("import_seconds", "Time of imports that brought a new block.", importBuckets)
	m.importBytes = m.counter("import_bytes_total", "Bytes of write sets that were written.")
	m.lockWait = m.histogram("lock_wait_seconds", "Time that imports waited for their slot.", waitBuckets)
	m.walkBack = m.histogram("walkback_blocks", "Obstacles met by imports that had to walk back: blocks without a usable checkpoint.", blockBuckets)
	m.replayed = m.histogram("replayed_blocks", "Blocks replayed by imports that had to walk back.", blockBuckets)
}

func (m *Metrics) makeRetention() {
	m.retained = m.counters("retention_runs_total", "Runs of retention.", "result", "done", failed)
	m.retentionTime = m.histogram("retention_seconds", "Time of runs of retention.", []float64{.001, .01, .1, 1, 10, 60, 600})
	m.pruned = m.counter("pruned_blocks_total", "Blocks that retention removed.")
	m.thinned = m.counter("thinned_blocks_total", "Blocks whose checkpoints retention removed.")
	m.freed = m.counter("freed_bytes_total", "Bytes that retention freed.")
	m.drafts = m.counters("drafts_ended_total", "Drafts that ended.", "fate",
		string(state.DraftCommitted), string(state.DraftDropped), string(state.DraftExpired), string(state.DraftClosed))
}

// Observer gives what counts, for state.Config.
func (m *Metrics) Observer() state.Observer {
	return state.Observer{Imported: m.importEnded, Retained: m.retentionEnded, DraftEnded: m.draftEnded}
}

func (m *Metrics) importEnded(i state.Imported) {
	result := resultOf(&i)
	m.imports.WithLabelValues(result).Inc()
	m.lockWait.Observe(i.LockWait.Seconds())
	if result == imported {
		m.importTime.Observe(i.Result.Took.Seconds())
		m.importBytes.Add(float64(i.Bytes))
	}
	if w := i.Result.WalkBack; w != nil {
		m.walkBack.Observe(float64(len(w.Obstacles)))
		m.replayed.Observe(float64(w.Blocks))
	}
}

// theBlocks are the errors that say that a block, or who sent it, is wrong.
var theBlocks = []error{
	state.ErrUnknownParent, state.ErrSlotOrder, state.ErrPriorRoot, state.ErrWrongRoot, state.ErrConflict, state.ErrInvalid,
	state.ErrReplayRefused,
}

// theClients are the errors that say that a client waited no longer, or that the
// store was closed meanwhile: neither the block nor the disk has a fault.
var theClients = []error{state.ErrLocked, state.ErrReserved, context.Canceled, context.DeadlineExceeded, state.ErrClosed}

func resultOf(i *state.Imported) string {
	switch {
	case i.Err == nil && i.Result.Held:
		return held
	case i.Err == nil:
		return imported
	case errors.Is(i.Err, state.ErrNotFetched) && !errors.Is(i.Err, context.Canceled): // whatever peers said beside
		return lacking
	}
	for _, kind := range theBlocks {
		if errors.Is(i.Err, kind) {
			return refused
		}
	}
	for _, kind := range theClients {
		if errors.Is(i.Err, kind) {
			return gaveUp
		}
	}
	return failed
}

func (m *Metrics) retentionEnded(p state.Pruning) {
	result := "done"
	if p.Err != nil {
		result = failed
	}
	m.retained.WithLabelValues(result).Inc()
	m.retentionTime.Observe(p.Took.Seconds())
	m.pruned.Add(float64(p.Pruned))
	m.thinned.Add(float64(p.Thin))
	m.freed.Add(float64(p.Freed))
}

func (m *Metrics) draftEnded(d state.DraftEnd) { m.drafts.WithLabelValues(string(d.Fate)).Inc() }

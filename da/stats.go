package da

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Stats counts what a node did since it was made.
type Stats struct {
	Fetches    uint64 // logical ones: concurrent equal ones count once
	Joined     uint64 // fetches that waited for another's result
	Failed     uint64 // fetches that ended with an error
	Requests   uint64 // sent to peers
	Hedges     uint64 // of these: sent because another one was slow
	Retries    uint64 // rounds after the first
	Rejected   uint64 // invalid answers; each bans a peer
	NotHeld    uint64 // answers "not here"
	Overloaded uint64 // answers "later"
	Failures   uint64 // requests broken off or too slow
	ReadBytes  uint64 // of answers

	Served      uint64 // requests answered with data
	ServedBytes uint64 // of these answers
	ServedEmpty uint64 // requests answered with "not here" or "too large"
	Refused     uint64 // requests of peers that aren't served
	Limited     uint64 // requests beyond the limits
	Malformed   uint64 // requests that weren't any
	Aborted     uint64 // requests broken off: too slow, or an error of the source

	Banned       int // peers, now
	StoredItems  uint64
	StoreErrors  uint64 // failed writes to Config.Items
	StoreSkipped uint64 // writes left out because too many were going on
}

// counters are Stats while they grow.
type counters struct {
	fetches, joined, failed, requests, hedges, retries, rejected, notHeld, overloaded, failures, readBytes,
	served, servedBytes, servedEmpty, refused, limited, malformed, aborted, stored, storeErrors, storeSkipped atomic.Uint64
}

func (c *counters) stats() Stats {
	return Stats{
		Fetches: c.fetches.Load(), Joined: c.joined.Load(), Failed: c.failed.Load(), Requests: c.requests.Load(),
		Hedges: c.hedges.Load(), Retries: c.retries.Load(), Rejected: c.rejected.Load(), NotHeld: c.notHeld.Load(),
		Overloaded: c.overloaded.Load(), Failures: c.failures.Load(), ReadBytes: c.readBytes.Load(),
		Served: c.served.Load(), ServedBytes: c.servedBytes.Load(), ServedEmpty: c.servedEmpty.Load(),
		Refused: c.refused.Load(), Limited: c.limited.Load(), Malformed: c.malformed.Load(), Aborted: c.aborted.Load(),
		StoredItems: c.stored.Load(), StoreErrors: c.storeErrors.Load(), StoreSkipped: c.storeSkipped.Load(),
	}
}

// Bounds of the time after which a second peer is asked.
const (
	hedgeUnknown = 30 * time.Millisecond // too little is known of usual durations: a few requests too many, once
	hedgeLeast   = 25 * time.Millisecond
	hedgeMost    = 3 * time.Second // what a peer has to begin its answer
)

// durations are the last successful requests of a kind, for the time after which a
// request is unusually slow.
type durations struct {
	mu   sync.Mutex
	last [64]time.Duration
	n    int // written so far
}

func (d *durations) add(took time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.last[d.n%len(d.last)] = took
	d.n++
}

// hedge is the 95th percentile, within bounds.
func (d *durations) hedge() time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := min(d.n, len(d.last))
	if n < 8 {
		return hedgeUnknown
	}
	sorted := d.last
	slices.Sort(sorted[:n])
	return max(hedgeLeast, min(hedgeMost, sorted[(n-1)*95/100]))
}

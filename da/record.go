package da

import (
	"cmp"
	"math"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

// outcome is how one request to one peer ended.
type outcome int

const (
	outcomeGood outcome = iota
	outcomeNotHeld
	outcomeOverloaded
	outcomeRefused
	outcomeFailed  // no connection, broken off, too slow
	outcomeInvalid // the peer lied
	outcomeTooLarge
	outcomeLost // another was faster
)

// record is what is known of a peer.
type record struct {
	id      peer.ID
	trusted bool // by configuration
	found   bool // by mDNS or the DHT

	latency  [kinds]time.Duration // moving average; 0: never asked
	misses   [kinds]int           // answers "not here" since the last good one
	inFlight int
	demerit  float64 // as of demeritAt
	at       time.Time

	failures int                     // in a row
	failed   time.Time               // last
	failure  string                  // what it was
	resting  time.Time               // not asked until then, after failures
	awoken   time.Time               // last
	useful   time.Time               // last: it gave something, or was new
	turn     time.Time               // last that it was asked for blocks
	busy     time.Time               // not asked until then, as it wished
	probing  bool                    // after a rest, one request goes first
	refused  [kinds]time.Time        // not asked for that until then
	banned   time.Time               // until then
	reason   string                  // of the last ban
	counts   [outcomeLost + 1]uint64 // of outcomes
}

func (r *record) askable(k kind, trusted bool, now time.Time) bool {
	return (r.trusted || r.found && !trusted) && !now.Before(r.banned) && !now.Before(r.refused[k])
}

func (r *record) cost(k kind, now time.Time, unknown time.Duration) float64 {
	if k == kindBlocks {
		// Peers take turns, however fast: each may have forks that others don't have.
		age := max(now.Sub(r.turn), time.Millisecond)
		return float64(1+r.inFlight) * math.Exp2(r.demeritAt(now)) / age.Seconds()
	}
	latency := r.latency[k]
	if latency == 0 {
		latency = unknown
	}
	return latency.Seconds() * float64(1+r.inFlight) * math.Exp2(r.demeritAt(now)+float64(min(r.misses[k], maxMisses)))
}

func (r *record) demeritAt(now time.Time) float64 {
	return r.demerit * math.Exp2(-now.Sub(r.at).Seconds()/demeritHalf.Seconds())
}

func (r *record) blame(now time.Time, by float64) {
	r.demerit, r.at = max(0, min(maxDemerit, r.demeritAt(now)+by)), now
}

// seen takes a duration into the average. One that was given up counts only where it
// is above the average, or what a new peer is taken for: it would have taken longer.
func (r *record) seen(k kind, took time.Duration, whole bool) {
	switch old := r.latency[k]; {
	case !whole && took < cmp.Or(old, priorLatency):
	case old == 0:
		r.latency[k] = max(took, 1)
	default:
		r.latency[k] = max((3*old+took)/4, 1)
	}
}

// rest opens the breaker of a peer that keeps failing.
func (r *record) rest(now time.Time) {
	if r.failures < breakAfter {
		return
	}
	pause := min(breakFor<<min(r.failures-breakAfter, 10), breakMost)
	r.resting = now.Add(jitter(pause))
}

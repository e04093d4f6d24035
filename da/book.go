package da

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

// How peers are judged.
const (
	// priorLatency is what a peer that was never asked is taken for, so that new peers
	// get their chance beside known slow ones; but for no more than newcomer times the
	// fastest known one: it is asked as soon as that one is at work.
	priorLatency = 50 * time.Millisecond
	newcomer     = 1.5
	// demeritHalf is how long it takes to forgive half of a peer's demerits.
	demeritHalf = 30 * time.Second
	// maxDemerit bounds what is held against a peer: its cost is 2^10 times that of
	// others.
	maxDemerit = 10
	// maxMisses bounds what "not here" does to a peer's place: it may have the next one.
	maxMisses = 4
	// breakAfter failures in a row a peer is left alone for a while: breakFor, twice as
	// long after each further one, up to breakMost.
	breakAfter = 3
	breakFor   = time.Second
	breakMost  = time.Minute
	// maxInFlight is how many requests a peer gets at a time: a little less than what a
	// node takes by default (Serve.PerPeer).
	maxInFlight = 6
	// fullPause is how long a fetch waits where all peers have that many.
	fullPause = 5 * time.Millisecond
	// awakeEvery is how often a peer that gives nothing may end its rest by connecting: who
	// connects again and again, and never answers, stays at rest.
	awakeEvery = 10 * time.Second
	// foundDemerit is what a peer that was found begins with: anybody can be found, so
	// others are asked before it, for some minutes or until it has given answers.
	foundDemerit = 3
	// maxBans bounds the bans that are remembered.
	maxBans = 4096
	// refusedFor is how long a peer that doesn't serve something isn't asked for it.
	refusedFor = 30 * time.Second
)

// book knows the peers that may be asked. It has no goroutines; its methods don't
// block.
type book struct {
	banFor time.Duration
	onBan  func(peer.ID, error) // called without the lock

	mu    sync.Mutex
	peers map[peer.ID]*record
	bans  map[peer.ID]time.Time // of peers that aren't in the book, too
}

func newBook(banFor time.Duration, onBan func(peer.ID, error)) *book {
	return &book{banFor: banFor, onBan: onBan, peers: map[peer.ID]*record{}, bans: map[peer.ID]time.Time{}}
}

// add makes a peer one that is asked.
func (b *book) add(id peer.ID, trusted bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.addLocked(id, trusted)
}

func (b *book) addLocked(id peer.ID, trusted bool) {
	r := b.peers[id]
	if r == nil {
		r = &record{useful: time.Now(), id: id, banned: b.bans[id]}
		b.peers[id] = r
		if !trusted {
			r.blame(time.Now(), foundDemerit)
		}
	}
	r.trusted, r.found = r.trusted || trusted, r.found || !trusted
}

// drop takes a peer of the configuration out. gone says that it isn't asked any more:
// it wasn't found as well.
func (b *book) drop(id peer.ID) (gone bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if r := b.peers[id]; r != nil {
		r.trusted, gone = false, !r.found
		b.forgetLocked(r)
	}
	return gone
}

// forgetLocked removes the record of a peer that isn't asked any more, once all
// requests to it have ended.
func (b *book) forgetLocked(r *record) {
	if !r.trusted && !r.found && r.inFlight == 0 {
		delete(b.peers, r.id)
	}
}

// awake says that a peer is there (again): it came by itself.
func (b *book) awake(id peer.ID) {
	b.mu.Lock()
	defer b.mu.Unlock()
	r, now := b.peers[id], time.Now()
	if r == nil {
		return
	}
	r.refused = [kinds]time.Time{} // it may have been given other lists
	if r.useful.After(r.awoken) || now.Sub(r.awoken) >= awakeEvery {
		r.awoken, r.failures, r.resting = now, 0, time.Time{}
	}
}

func (b *book) isBanned(id peer.ID) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return time.Now().Before(b.bans[id])
}

// ban bans a peer at once.
func (b *book) ban(id peer.ID, reason error) {
	b.mu.Lock()
	until := time.Now().Add(b.banFor)
	b.forgetOldBansLocked()
	b.bans[id] = until
	if r := b.peers[id]; r != nil {
		r.banned, r.reason = until, reason.Error()
	}
	b.mu.Unlock()
	b.onBan(id, reason)
}

// forgetOldBansLocked keeps the list of bans as short as the bans are.
func (b *book) forgetOldBansLocked() {
	now := time.Now()
	for id, until := range b.bans {
		if now.After(until) {
			delete(b.bans, id)
		}
	}
	for len(b.bans) >= maxBans { // any: somebody makes up identities faster than bans end
		for id := range b.bans {
			delete(b.bans, id)
			break
		}
	}
}

// standing is why nobody could be picked.
type standing struct {
	peers   int           // that may be asked for this kind, now or later
	open    int           // of these: may yet have it
	resting int           // of these: not now, they failed lately
	busy    int           // not now either: they are overloaded, or have enough requests
	free    time.Duration // until the first of the busy ones may be asked
	failure string        // of one of those that failed lately
	refused int           // beside these: they don't serve that, or not to this node
	banned  int           // beside these, too
	reason  string        // of one of those that are banned
}

// none gives ErrNoPeers, and why there are none.
func (s *standing) none() error {
	var why []string
	if s.refused > 0 {
		why = append(why, fmt.Sprintf("%d refuse this (is this node's id in their da.allow?)", s.refused))
	}
	if s.banned > 0 {
		why = append(why, fmt.Sprintf("%d are banned, one of them for %s", s.banned, s.reason))
	}
	if len(why) == 0 {
		return ErrNoPeers
	}
	return fmt.Errorf("%w: %s", ErrNoPeers, strings.Join(why, ", "))
}

// oneLine gives an error's text: libp2p's have several lines.
func oneLine(err error) string { return strings.Join(strings.Fields(err.Error()), " ") }

// pick chooses the peer to ask next, other than those in skip, and counts it as busy
// until done is called. The cheapest is taken: cost is the usual latency, times the
// requests it already has, times 2 for each demerit, and for each time in a row that
// it hadn't what was asked for; of blocks it's who was asked longest ago.
func (b *book) pick(k kind, trusted bool, skip map[peer.ID]bool) (peer.ID, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	var best *record
	least := math.Inf(1)
	unknown := b.unknownLocked(k, trusted, now)
	for _, r := range b.peers {
		if skip[r.id] || !r.askable(k, trusted, now) || now.Before(r.resting) || now.Before(r.busy) || r.probing || r.inFlight >= maxInFlight {
			continue
		}
		// A little noise, so that equals share the work.
		if cost := r.cost(k, now, unknown) * (1 + rand.Float64()/8); cost < least {
			best, least = r, cost
		}
	}
	if best == nil {
		return "", false
	}
	if k == kindBlocks {
		best.turn = now
	}
	best.inFlight++
	best.probing = best.failures >= breakAfter
	return best.id, true
}

// standing counts the peers that a fetch may hope for: those that haven't given their
// last word.
func (b *book) standing(k kind, trusted bool, final map[peer.ID]bool) (s standing) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	for _, r := range b.peers {
		switch {
		case now.Before(r.banned):
			s.banned++
			s.reason = r.reason
		case now.Before(r.refused[k]):
			s.refused++
		}
		if !r.askable(k, trusted, now) {
			continue
		}
		s.peers++
		if !final[r.id] {
			s.open++
			switch {
			case now.Before(r.resting) || r.probing:
				s.resting++
				s.failure = r.failure
			case now.Before(r.busy), r.inFlight >= maxInFlight:
				if wait := max(r.busy.Sub(now), fullPause); s.busy == 0 || wait < s.free {
					s.free = wait
				}
				s.busy++
			}
		}
	}
	return s
}

// unknownLocked is the latency that a peer is taken for which was never asked.
func (b *book) unknownLocked(k kind, trusted bool, now time.Time) time.Duration {
	least := priorLatency
	for _, r := range b.peers {
		if took := r.latency[k]; took > 0 && r.askable(k, trusted, now) && now.After(r.resting) {
			least = min(least, time.Duration(newcomer*float64(took)))
		}
	}
	return least
}

// late says that a request is at work for so long that another peer is asked. So other
// fetches know before it ends.
func (b *book) late(id peer.ID, k kind, took time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if r := b.peers[id]; r != nil { // it may just have ended, and been the last one
		r.seen(k, took, false)
		r.blame(time.Now(), 0.5)
	}
}

// short says that an answer was right but far shorter than it could be. There may be a
// reason; a peer that always does it only wastes time.
func (b *book) short(id peer.ID) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.peers[id].blame(time.Now(), 2)
}

// done says how a request ended that pick began, how long it took, and the error.
func (b *book) done(id peer.ID, k kind, took time.Duration, how outcome, err error) {
	b.mu.Lock()
	r := b.peers[id]
	now := time.Now()
	r.inFlight--
	r.counts[how]++
	wasProbe := r.probing
	r.probing = false
	switch how {
	case outcomeGood, outcomeNotHeld, outcomeTooLarge:
		r.failures = 0
		r.blame(now, -1)
		if how == outcomeGood {
			r.seen(k, took, true)
			r.misses[k], r.useful = 0, now
		} else {
			r.misses[k]++
		}
	case outcomeOverloaded:
		var over *overloadedError
		if errors.As(err, &over) {
			r.busy = now.Add(over.after)
		}
		r.failures = 0
		r.blame(now, 0.5)
	case outcomeRefused:
		r.failures = 0
		r.refused[k] = now.Add(refusedFor)
	case outcomeLost:
		// It may have been about to answer: slow perhaps, but no failure.
		r.seen(k, took, false)
	case outcomeFailed:
		r.seen(k, took, false)
		r.blame(now, 2)
		// Requests that break off together are one failure.
		if !now.Add(-took).Before(r.failed) {
			r.failures++
			r.failed, r.failure = now, oneLine(err)
		}
	}
	if how == outcomeFailed || wasProbe && how == outcomeLost {
		r.rest(now)
	}
	b.forgetLocked(r)
	b.mu.Unlock()
	if how == outcomeInvalid {
		b.ban(id, err)
	}
}

// jitter gives half to one and a half of d.
func jitter(d time.Duration) time.Duration {
	return d/2 + rand.N(max(d, 1))
}

func (b *book) knows(id peer.ID) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	r := b.peers[id]
	return r != nil && (r.trusted || r.found)
}

// find makes a peer one that was found, of at most so many. Where there are as many, one
// makes room (out): that is banned, or keeps failing; or, if it is wanted now, the one
// that has been of no use for longest. False where there is no room.
func (b *book) find(id peer.ID, most int, wanted bool) (out peer.ID, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now, count := time.Now(), 0
	var worst *record
	for _, r := range b.peers {
		if !r.found {
			continue
		}
		count++
		gone := now.Before(r.banned) || r.failures >= breakAfter
		if (gone || wanted && r.inFlight == 0) && (worst == nil || r.useful.Before(worst.useful)) {
			worst = r
		}
	}
	if count >= most {
		if worst == nil {
			return "", false
		}
		out, worst.found = worst.id, false
		b.forgetLocked(worst)
	}
	b.addLocked(id, false)
	return out, true
}

// unreachable says that a peer that was found isn't there.
func (b *book) unreachable(id peer.ID) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if r := b.peers[id]; r != nil {
		r.failures = max(r.failures, breakAfter)
		r.rest(time.Now())
	}
}

// banned counts the bans in force.
func (b *book) banned() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.forgetOldBansLocked()
	return len(b.bans)
}

// list gives what is known of each peer, without what the host knows.
func (b *book) list() []PeerInfo {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	all := make([]PeerInfo, 0, len(b.peers))
	for _, r := range b.peers {
		if !r.trusted && !r.found {
			continue
		}
		p := PeerInfo{
			ID: r.id.String(), Trusted: r.trusted, Demerit: r.demeritAt(now), Failures: r.failures,
			Resting: r.resting, Banned: r.banned, Reason: r.reason,
			Answers: r.counts[outcomeGood] + r.counts[outcomeNotHeld] + r.counts[outcomeTooLarge],
			Invalid: r.counts[outcomeInvalid],
		}
		for _, took := range r.latency {
			if p.Latency == 0 || took > 0 && took < p.Latency {
				p.Latency = took
			}
		}
		all = append(all, p)
	}
	return all
}

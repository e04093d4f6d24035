package da

import (
	"context"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"go.uber.org/zap"
	"golang.org/x/time/rate"

	"accessor/da/items"
)

// Access says who is served something.
type Access int

const (
	Nobody Access = iota
	Listed        // peers in Config.Allow
	Anyone
)

// Serve says what a node serves, to whom, and how much at most. The zero value serves
// nothing; DefaultServe is what switching it on means.
type Serve struct {
	State  Access // keys and ranges with proofs
	Blocks Access
	Items  Access
	Shards Access

	Concurrent     int // requests at a time. Default: 16
	PerPeer        int // of these, from one peer. Default: 8
	Rate           int // requests a second of one peer for one protocol. Default: 1,000
	BytesPerSecond int // of all answers. Default: 64 MiB
}

// DefaultServe serves items and shards to anyone, and states and blocks to peers that
// are on the list.
func DefaultServe() Serve {
	return Serve{State: Listed, Blocks: Listed, Items: Anyone, Shards: Anyone}
}

func (s Serve) access(k kind) Access {
	switch k {
	case kindRange, kindKeys:
		return s.State
	case kindBlocks:
		return s.Blocks
	case kindItem:
		return s.Items
	default:
		return s.Shards
	}
}

const (
	// requestTime is how long a peer may take to send its request.
	requestTime = 5 * time.Second
	// serveTime bounds the work of the source and the wait for bytes to be allowed.
	serveTime = 30 * time.Second
	// busyPause is what a peer is told to wait where too many requests are at work.
	busyPause = 100 * time.Millisecond
	// writeGrace and writeRate are what a peer has to keep up with in reading its answer.
	writeGrace = 10 * time.Second
	writeRate  = 32 << 10
	// maxKnown bounds the peers whose use is remembered.
	maxKnown = 4096
)

// server is the answering side of a node.
type server struct {
	config Serve
	src    Source       // may be nil
	items  *items.Store // may be nil
	kept   kept         // shards of this machine
	listed func(peer.ID) bool
	banned func(peer.ID) bool
	stats  *counters
	log    *zap.Logger
	base   context.Context // ends with the node
	bytes  *rate.Limiter

	mu     sync.Mutex // guards the rest
	closed bool
	active int
	users  map[peer.ID]*user
	wg     sync.WaitGroup
}

// user is what a peer uses of this node.
type user struct {
	active int
	last   time.Time
	rate   [kinds]*rate.Limiter
}

func newServer(base context.Context, config Serve, src Source, stats *counters, log *zap.Logger) *server {
	setDefault(&config.Concurrent, 16)
	setDefault(&config.PerPeer, 8)
	setDefault(&config.Rate, 1000)
	setDefault(&config.BytesPerSecond, 64<<20)
	return &server{
		config: config, src: src, stats: stats, log: log, base: base,
		// One part of an answer may always be written at once.
		bytes: rate.NewLimiter(rate.Limit(config.BytesPerSecond), max(writePart, config.BytesPerSecond/10)),
		users: map[peer.ID]*user{},
	}
}

func setDefault[T ~int | ~int64](v *T, to T) {
	if *v == 0 {
		*v = to
	}
}

// serves says whether anybody is served that.
func (sv *server) serves(k kind) bool {
	here := k == kindItem && sv.items != nil || (k == kindBundle || k == kindSegment) && sv.kept.store != nil
	return sv.config.access(k) != Nobody && (sv.src != nil || here)
}

// admit takes a request in, or says how long the peer has to wait, or that it came
// too late.
func (sv *server) admit(k kind, id peer.ID) (wait time.Duration, ok bool) {
	sv.mu.Lock()
	defer sv.mu.Unlock()
	if sv.closed {
		return 0, false
	}
	u := sv.userLocked(id)
	if u == nil || u.active >= sv.config.PerPeer || sv.active >= sv.config.Concurrent {
		return busyPause, true
	}
	if r := u.rate[k].Reserve(); r.Delay() > 0 {
		wait = r.Delay()
		r.Cancel()
		return wait, true
	}
	u.active++
	sv.active++
	sv.wg.Add(1)
	return 0, true
}

// userLocked gives nil where too many peers are known.
func (sv *server) userLocked(id peer.ID) *user {
	now := time.Now()
	u := sv.users[id]
	if u == nil {
		if len(sv.users) >= maxKnown {
			for other, u := range sv.users {
				if u.active == 0 && now.Sub(u.last) > time.Second { // its limits are full again
					delete(sv.users, other)
				}
			}
			if len(sv.users) >= maxKnown {
				return nil
			}
		}
		u = &user{}
		for k := range u.rate {
			u.rate[k] = rate.NewLimiter(rate.Limit(sv.config.Rate), sv.config.Rate)
		}
		sv.users[id] = u
	}
	u.last = now
	return u
}

func (sv *server) leave(id peer.ID) {
	sv.mu.Lock()
	defer sv.mu.Unlock()
	sv.active--
	sv.users[id].active--
	sv.wg.Done()
}

// close waits for the requests at work; the base context has ended.
func (sv *server) close() {
	sv.mu.Lock()
	sv.closed = true
	sv.mu.Unlock()
	sv.wg.Wait()
}

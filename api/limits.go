package api

import (
	"errors"
	"fmt"
	"maps"
	"sync"
	"sync/atomic"
	"time"
)

// Limits bound what clients may ask for. Zero fields mean the defaults.
type Limits struct {
	Body   int64 // of a block as JSON, in bytes; default 160 MiB
	Bodies int64 // of all bodies in flight, in bytes; default 256 MiB, at least Body
	Answer int64 // of an answer that isn't a stream, in bytes of keys and values; default 64 MiB
	Page   int   // pairs or blocks of a page; default 10,000
	Keys   int   // of a batch; default 10,000
	Blocks int   // between the two of a diff, and of a history; default 16,384
	Client int   // requests of one client at a time; default 256
	Stream int   // lines of one import stream; default 1,000,000

	// What brings databases to blocks without a checkpoint; imports by importing roles
	// are bounded by Rebuilds alone.
	Replay         int // blocks that one client may have replayed at once; default 16,384
	ReplayRate     int // of which so many come back a second; default 256
	Rebuilds       int // states that are rebuilt at a time, for readers and as many for imports; default 4
	Subscribers    int // streams of events of one client at a time; default 128
	AllSubscribers int // streams of events in all; default 512
}

// DefaultLimits are the limits where nothing else is said.
var DefaultLimits = Limits{
	Body: 160 << 20, Bodies: 256 << 20, Answer: 64 << 20,
	Page: 10_000, Keys: 10_000, Blocks: 16_384, Client: 256, Stream: 1_000_000,
	Replay: 16_384, ReplayRate: 256, Rebuilds: 4,
	Subscribers: 128, AllSubscribers: 512,
}

// Bounds of what is small in any case.
const (
	smallBody   = 64 << 10         // bytes of a request that names blocks and times alone
	maxTarget   = 8 << 10          // bytes of a path with its query
	maxWait     = 60 * time.Second // of a request for something to happen
	maxHeld     = 10_000           // hashes of POST /v1/blocks/held
	defaultPage = 1_000            // pairs or blocks of a page where no limit is given
)

var errLimits = errors.New("invalid limits")

func (l Limits) withDefaults() (Limits, error) {
	for _, f := range []struct {
		name string
		at   *int64
		def  int64
	}{{"Body", &l.Body, DefaultLimits.Body}, {"Bodies", &l.Bodies, DefaultLimits.Bodies}, {"Answer", &l.Answer, DefaultLimits.Answer}} {
		if *f.at == 0 {
			*f.at = f.def
		}
		if *f.at < 0 {
			return l, fmt.Errorf("%w: %s is %d, want more than 0", errLimits, f.name, *f.at)
		}
	}
	for _, f := range []struct {
		name string
		at   *int
		def  int
	}{
		{"Page", &l.Page, DefaultLimits.Page}, {"Keys", &l.Keys, DefaultLimits.Keys}, {"Blocks", &l.Blocks, DefaultLimits.Blocks},
		{"Client", &l.Client, DefaultLimits.Client}, {"Stream", &l.Stream, DefaultLimits.Stream},
		{"Replay", &l.Replay, DefaultLimits.Replay}, {"ReplayRate", &l.ReplayRate, DefaultLimits.ReplayRate},
		{"Rebuilds", &l.Rebuilds, DefaultLimits.Rebuilds},
		{"Subscribers", &l.Subscribers, DefaultLimits.Subscribers}, {"AllSubscribers", &l.AllSubscribers, DefaultLimits.AllSubscribers},
	} {
		if *f.at == 0 {
			*f.at = f.def
		}
		if *f.at < 0 {
			return l, fmt.Errorf("%w: %s is %d, want more than 0", errLimits, f.name, *f.at)
		}
	}
	if l.Bodies < max(l.Body, smallBody) {
		return l, fmt.Errorf("%w: Bodies is %d, below the one body of %d that it must take", errLimits, l.Bodies, max(l.Body, smallBody))
	}
	return l, nil
}

// clientID tells clients apart: by the token or, on a Unix socket, by the user.
type clientID struct {
	tcp  bool
	uid  int
	name string
}

// clients counts the requests on their way by client. The zero value has none.
type clients struct {
	mu   sync.RWMutex
	busy map[clientID]*requests // guarded by mu; a client without requests stays a while
}

// requests are how many a client has on their way.
type requests struct{ n atomic.Int64 }

// manyClients is from how many on those without requests are forgotten.
const manyClients = 256

// enter lets a client's request in, which leaves when it is over; nil where the
// client has too many.
func (l *clients) enter(who clientID, most int) *requests {
	l.mu.RLock()
	r := l.busy[who]
	if r != nil {
		// With the lock: else it might just be forgotten.
		defer l.mu.RUnlock()
		return r.enter(most)
	}
	l.mu.RUnlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	if r = l.busy[who]; r == nil {
		if len(l.busy) >= manyClients {
			maps.DeleteFunc(l.busy, func(_ clientID, r *requests) bool { return r.n.Load() == 0 })
		}
		if l.busy == nil {
			l.busy = make(map[clientID]*requests)
		}
		r = new(requests)
		l.busy[who] = r
	}
	return r.enter(most)
}

func (r *requests) enter(most int) *requests {
	if r.n.Add(1) > int64(most) {
		r.leave()
		return nil
	}
	return r
}

func (r *requests) leave() { r.n.Add(-1) }

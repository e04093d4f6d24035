package da

import (
	"context"
	"net/netip"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	manet "github.com/multiformats/go-multiaddr/net"
	"go.uber.org/zap"
	"golang.org/x/time/rate"

	"accessor/da/items"
	"accessor/da/shards"
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

	// Requests of peers that aren't in Config.Allow count for the network that they come
	// from (but on loopback): who has many identities gets no more than one.
	Concurrent     int // requests at a time; a third is kept for Config.Allow. Default: 24
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
	// readRate is how many bytes of kept shards are read for peers in a second: of a shard
	// all is read and hashed, though but one segment of it is asked for.
	readRate = 128 << 20
	// writeGrace and writeRate are what a peer has to keep up with in reading its answer.
	writeGrace = 10 * time.Second
	writeRate  = 32 << 10
	// maxKnown bounds the peers whose use is remembered, beside those that are listed.
	maxKnown = 4096
	// leastShare is what each request at work should have of BytesPerSecond: a reader
	// takes less than half of it for a stall. shareTime is what an answer that can be cut
	// takes at most at its share.
	leastShare = 128 << 10
	shareTime  = 10 * time.Second
	// sourceErrorsEvery is how often the log has an error of the source.
	sourceErrorsEvery = 10 * time.Second
)

// server is the answering side of a node.
type server struct {
	config  Serve
	src     Source       // may be nil
	items   *items.Store // may be nil
	kept    *kept        // shards of this machine
	listed  func(peer.ID) bool
	lists   func() bool // whether anybody is listed
	banned  func(peer.ID) bool
	stats   *counters
	log     *zap.Logger
	base    context.Context // ends with the node
	bytes   *rate.Limiter
	most    int            // bytes of an answer that can be cut
	workers workers        // call the source, and read what is kept
	told    rate.Sometimes // of errors of the source
	reads   *rate.Limiter  // of kept shards

	mu        sync.Mutex // guards the rest
	closed    bool
	active    int // requests that have come, and are being answered
	strangers int // of these: of peers that aren't listed
	users     map[string]*user
	wg        sync.WaitGroup
}

// user is what a client uses of this node.
type user struct {
	active int
	last   time.Time
	rate   [kinds]*rate.Limiter
}

func newServer(base context.Context, config Serve, src Source, stats *counters, log *zap.Logger) *server {
	setDefault(&config.Concurrent, 24)
	setDefault(&config.PerPeer, 8)
	setDefault(&config.Rate, 1000)
	setDefault(&config.BytesPerSecond, 64<<20)
	config.Concurrent = min(config.Concurrent, max(1, config.BytesPerSecond/leastShare))
	share := config.BytesPerSecond / config.Concurrent * int(shareTime/time.Second)
	return &server{
		config: config, src: src, stats: stats, log: log, base: base, lists: func() bool { return false },
		// One part of an answer may always be written at once.
		bytes:   rate.NewLimiter(rate.Limit(config.BytesPerSecond), max(writePart, config.BytesPerSecond/10)),
		most:    max(writePart, min(share, MaxAnswer)),
		workers: newWorkers(),
		told:    rate.Sometimes{Interval: sourceErrorsEvery},
		reads:   rate.NewLimiter(readRate, shards.MaxFile),
		users:   map[string]*user{},
	}
}

func setDefault[T ~int | ~int64](v *T, to T) {
	if *v == 0 {
		*v = to
	}
}

// serves says whether anybody is served that.
func (sv *server) serves(k kind) bool {
	here := k == kindItem && sv.items != nil || (k == kindBundle || k == kindSegment) && sv.kept != nil
	return sv.config.access(k) != Nobody && (sv.src != nil || here)
}

// client is for whom a request counts: a listed peer itself, others by their network.
// On loopback, where all have one address, they count for themselves, too.
func (sv *server) client(id peer.ID, s stream) string {
	if on, ok := s.(network.Stream); ok && !sv.listed(id) {
		ip, err := manet.ToIP(on.Conn().RemoteMultiaddr())
		if addr, ok := netip.AddrFromSlice(ip); err == nil && ok && !addr.IsLoopback() {
			return networkOf(addr)
		}
	}
	return string(id)
}

// networkOf gives what one client easily has of addresses: one of IPv4, a /56 of IPv6.
func networkOf(addr netip.Addr) string {
	addr = addr.Unmap()
	bits := 32
	if addr.Is6() {
		bits = 56
	}
	return netip.PrefixFrom(addr, bits).Masked().String()
}

// admit takes a client's request in, or says how long the client has to wait, or that it
// came too late.
func (sv *server) admit(k kind, client string, listed bool) (wait time.Duration, ok bool) {
	sv.mu.Lock()
	defer sv.mu.Unlock()
	if sv.closed {
		return 0, false
	}
	u := sv.userLocked(client, listed)
	if u == nil || u.active >= sv.config.PerPeer {
		return busyPause, true
	}
	if r := u.rate[k].Reserve(); r.Delay() > 0 {
		wait = r.Delay()
		r.Cancel()
		return wait, true
	}
	u.active++
	sv.wg.Add(1)
	return 0, true
}

// userLocked gives nil where too many clients are known.
func (sv *server) userLocked(client string, listed bool) *user {
	now := time.Now()
	u := sv.users[client]
	if u == nil {
		if len(sv.users) >= maxKnown {
			for other, u := range sv.users {
				if u.active == 0 && now.Sub(u.last) > time.Second { // its limits are full again
					delete(sv.users, other)
				}
			}
			if len(sv.users) >= maxKnown && !listed {
				return nil
			}
		}
		u = &user{}
		for k := range u.rate {
			u.rate[k] = rate.NewLimiter(rate.Limit(sv.config.Rate), sv.config.Rate)
		}
		sv.users[client] = u
	}
	u.last = now
	return u
}

func (sv *server) leave(client string) {
	sv.mu.Lock()
	defer sv.mu.Unlock()
	sv.users[client].active--
	sv.wg.Done()
}

// enter begins to answer a request that has come, where there is a place for it. So who
// sends slowly takes none.
func (sv *server) enter(listed bool) bool {
	sv.mu.Lock()
	defer sv.mu.Unlock()
	places := sv.config.Concurrent
	if !listed && sv.lists() {
		places -= places / 3
	}
	if sv.active >= sv.config.Concurrent || !listed && sv.strangers >= places {
		return false
	}
	sv.active++
	if !listed {
		sv.strangers++
	}
	return true
}

func (sv *server) exit(listed bool) {
	sv.mu.Lock()
	defer sv.mu.Unlock()
	sv.active--
	if !listed {
		sv.strangers--
	}
}

// close waits for the requests at work; the base context has ended.
func (sv *server) close() {
	sv.mu.Lock()
	sv.closed = true
	sv.mu.Unlock()
	sv.wg.Wait()
}

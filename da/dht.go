package da

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/ipfs/go-cid"
	dht "github.com/libp2p/go-libp2p-kad-dht"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multihash"
	"go.uber.org/zap"
	"golang.org/x/time/rate"

	"accessor/forks"
)

const (
	// seekTime bounds the search for who has something; seekMore is how long it goes on
	// once somebody was found. maxSeeks searches go on at a time.
	seekTime = 5 * time.Second
	seekMore = 200 * time.Millisecond
	maxSeeks = 4
	// stateEvery is how often peers are looked for that give states. Who looks for a block
	// that is new asks for its parent meanwhile, and shouldn't wait.
	stateEvery = 30 * time.Second
	// maxSought is how many are looked for.
	maxSought = 8
	// What is kept here is announced at the next look after it came, a few a second; then
	// again, after six looks, twice as many, and so on, as it isn't told whether others
	// took it, and at last in time before they forget it (providerTime).
	announceEvery  = 8 * time.Hour
	announceRate   = 4 // a second
	announceAtOnce = 16
	announceTime   = 20 * time.Second
	announceLook   = 10 * time.Second
	maxAnnounced   = 4096 // items, and work packages
)

// dhtPrefix makes the DHT one of such nodes alone.
const dhtPrefix = "/accessor"

// placeOfState is where nodes announce themselves that give states to anyone.
const placeOfState = "state"

func placeOfItem(hash forks.Hash) string   { return "item" + string(hash[:]) }
func placeOfShards(root forks.Hash) string { return "shards" + string(root[:]) }

// keyOf is the place of something in the DHT.
func keyOf(place string) cid.Cid {
	hash := hashOf([]byte("accessor/" + place))
	mh, err := multihash.Encode(hash[:], multihash.BLAKE2B_MIN+forks.HashSize-1)
	if err != nil {
		panic(err) // it knows that hash
	}
	return cid.NewCidV1(cid.Raw, mh)
}

// guide finds peers through a Kademlia DHT of such nodes alone, entered by the peers of
// the configuration. Whoever it finds proves what he gives, as all do.
type guide struct {
	n     *Node
	dht   *dht.IpfsDHT
	seeks chan struct{} // tokens
	look  time.Duration // between looks for what is to be announced

	// search is searchDHT, but in tests.
	search func(ctx context.Context, place string) (found bool)

	mu    sync.Mutex
	state *stateSearch
}

// newGuide joins the DHT: as one who is asked, where others can reach this node.
func newGuide(n *Node) (*guide, error) {
	mode := dht.ModeServer
	if n.own && len(n.config.Listen) == 0 {
		mode = dht.ModeClient
	}
	h := &guardedHost{
		Host: n.host, n: n, active: map[string]int{}, bytes: rate.NewLimiter(dhtBytes, 64<<10),
		answers: rate.NewLimiter(rate.Limit(min(dhtAnswers, n.serve.config.BytesPerSecond)), writePart),
	}
	d, err := dht.New(n.fetch.base, h,
		dht.ProtocolPrefix(dhtPrefix), dht.Mode(mode), dht.DisableValues(), dht.BootstrapPeersFunc(n.static),
		dht.ProviderStore(newProviders(n.host.ID(), n.host.Addrs)),
	)
	if err != nil {
		return nil, fmt.Errorf("dht: %w", err)
	}
	g := &guide{n: n, dht: d, seeks: make(chan struct{}, maxSeeks), look: n.config.announce}
	setDefault(&g.look, announceLook)
	g.search = g.searchDHT
	return g, nil
}

// static are the peers of the configuration.
func (n *Node) static() (all []peer.AddrInfo) {
	for id, addrs := range n.gater.lists.Load().static {
		all = append(all, peer.AddrInfo{ID: id, Addrs: addrs})
	}
	return all
}

// seek looks for peers at a place. They are asked from now on; true where there is one
// that wasn't before.
func (g *guide) seek(ctx context.Context, place string) (found bool) {
	if place == placeOfState {
		return g.seekState(ctx)
	}
	return g.search(ctx, place)
}

func (g *guide) searchDHT(ctx context.Context, place string) (found bool) {
	ctx, cancel := context.WithTimeout(ctx, seekTime)
	defer cancel()
	select {
	case g.seeks <- struct{}{}:
		defer func() { <-g.seeks }()
	case <-ctx.Done():
		return false
	}
	all := g.dht.FindProvidersAsync(ctx, keyOf(place), maxSought)
	var enough <-chan time.Time
	for {
		select {
		case info, more := <-all:
			if !more {
				return found
			}
			g.n.mu.Lock()
			isNew := g.n.findLocked(info, true)
			g.n.mu.Unlock()
			if isNew && !found {
				found, enough = true, time.After(seekMore)
			}
		case <-enough:
			return true
		case <-ctx.Done():
			return found
		}
	}
}

// stateSearch is the last search for peers that give states.
type stateSearch struct {
	began time.Time
	done  chan struct{}
	found bool // once it is done
}

// seekState looks for peers that give states: once in a while, for all who wait for it
// together, and whether they go on to wait or not.
func (g *guide) seekState(ctx context.Context) (found bool) {
	g.mu.Lock()
	last := g.state
	if last == nil || last.isDone() {
		if last != nil && time.Since(last.began) < stateEvery {
			g.mu.Unlock()
			return false
		}
		last = &stateSearch{began: time.Now(), done: make(chan struct{})}
		g.state = last
		g.n.wg.Go(func() { // a fetch calls it, and Close waits for those first
			defer close(last.done)
			last.found = g.search(g.n.fetch.base, placeOfState)
		})
	}
	g.mu.Unlock()
	select {
	case <-last.done:
		return last.found
	case <-ctx.Done():
		return false
	}
}

func (s *stateSearch) isDone() bool {
	select {
	case <-s.done:
		return true
	default:
		return false
	}
}

// schedule is when each place is to be announced next.
type schedule struct {
	first  time.Duration // pause after the first time
	places map[string]announcing
}

type announcing struct {
	next  time.Time
	pause time.Duration
}

// due gives those of the places whose time has come, in their order, so many at most. It
// forgets all others than these places.
func (s *schedule) due(places []string, now time.Time, most int) (due []string) {
	held := map[string]announcing{}
	for _, place := range places {
		at, known := s.places[place]
		if known {
			held[place] = at
		}
		if len(due) < most && !now.Before(at.next) {
			due = append(due, place)
		}
	}
	s.places = held
	return due
}

// announced says that one was announced, or that this failed.
func (s *schedule) announced(place string, now time.Time, ok bool) {
	pause := s.places[place].pause
	if ok {
		pause = min(max(s.first, 2*pause), announceEvery)
	}
	s.places[place] = announcing{now.Add(max(pause, s.first)), pause}
}

// announce says what is kept here and given to anyone, now and again: a few at a time, so
// that what comes meanwhile doesn't wait for all.
func (g *guide) announce(ctx context.Context) {
	limit := rate.NewLimiter(announceRate, 1)
	s := &schedule{first: 6 * g.look}
	for ctx.Err() == nil {
		var due []string
		if g.dht.RoutingTable().Size() > 0 {
			due = s.due(g.places(), time.Now(), announceAtOnce)
		}
		for _, place := range due {
			if limit.Wait(ctx) != nil {
				return
			}
			err := g.provide(ctx, place)
			if err != nil {
				g.n.log.Debug("announce in the DHT", zap.Error(err))
			}
			s.announced(place, time.Now(), err == nil)
		}
		if len(due) == announceAtOnce {
			continue
		}
		select {
		case <-time.After(g.look):
		case <-ctx.Done():
		}
	}
}

func (g *guide) provide(ctx context.Context, place string) error {
	ctx, cancel := context.WithTimeout(ctx, announceTime)
	defer cancel()
	return g.dht.Provide(ctx, keyOf(place), true)
}

// places are those of what anyone is given here.
func (g *guide) places() (all []string) {
	c := &g.n.config
	if c.Serve.State == Anyone && g.n.serve.src != nil {
		all = append(all, placeOfState)
	}
	if c.Serve.Items == Anyone && c.Items != nil {
		for _, hash := range c.Items.Newest(maxAnnounced) {
			all = append(all, placeOfItem(hash))
		}
	}
	if c.Serve.Shards == Anyone && c.Shards != nil {
		for _, root := range c.Shards.Newest(maxAnnounced) {
			all = append(all, placeOfShards(root))
		}
	}
	return all
}

// close ends the DHT, which leaves its stream handlers on the host.
func (g *guide) close() error {
	err := g.dht.Close()
	for _, id := range g.n.host.Mux().Protocols() {
		if strings.HasPrefix(string(id), dhtPrefix+"/kad/") {
			g.n.host.RemoveStreamHandler(id)
		}
	}
	return err
}

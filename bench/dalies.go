package bench

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/network"

	"accessor/da"
	"accessor/da/datest"
	"accessor/forks"
	"accessor/state/merkle"
)

// Of the crowd.
const (
	crowdPeers   = 10 // of which three lie or stall
	crowdReaders = 4  // fetches at a time
	crowdBursts  = 20 // of fetches of each kind at once, at most, until each bad peer was met
	crowdMost    = 60 // fetches at once: a node gives a peer six requests at a time
)

// badPeer is a peer that lies or stalls in one way.
type badPeer struct {
	name   string
	server server
	stalls bool
	met    *atomic.Int64 // times that it did so
}

// lyingSource lies in well-formed answers.
type lyingSource struct {
	da.Source
	met   *atomic.Int64
	keys  func(p *merkle.Proof)
	pairs func(p *merkle.Proof)
	shard bool // gives another one
}

// told makes a lie of an answer.
func (l lyingSource) told(p *merkle.Proof, err error, lie func(*merkle.Proof)) (*merkle.Proof, error) {
	if err == nil && lie != nil && len(p.Nodes) > 0 && len(p.Pairs) > 0 {
		l.met.Add(1)
		p = &merkle.Proof{Nodes: slices.Clone(p.Nodes), Pairs: slices.Clone(p.Pairs)}
		lie(p)
	}
	return p, err
}

// Prove implements da.Source.
func (l lyingSource) Prove(ctx context.Context, block forks.Hash, keys [][merkle.KeySize]byte, most int) (*merkle.Proof, error) {
	p, err := l.Source.Prove(ctx, block, keys, most)
	return l.told(p, err, l.keys)
}

// ProveRange implements da.Source.
func (l lyingSource) ProveRange(ctx context.Context, block forks.Hash, req merkle.RangeRequest) (*merkle.Proof, error) {
	p, err := l.Source.ProveRange(ctx, block, req)
	return l.told(p, err, l.pairs)
}

// Shard implements da.Source.
func (l lyingSource) Shard(ctx context.Context, root forks.Hash, index uint16) (da.Shard, error) {
	if l.shard {
		l.met.Add(1)
		index ^= 1
	}
	return l.Source.Shard(ctx, root, index)
}

// badPeers are peers that lie or stall, each in another way.
func (s *stock) badPeers() (liars, stallers []badPeer) {
	for _, l := range []struct {
		name string
		src  lyingSource
	}{
		{"wrong value", lyingSource{keys: func(p *merkle.Proof) { p.Pairs[0].Value = []byte("another") }}},
		{"value left out", lyingSource{keys: func(p *merkle.Proof) { p.Pairs = nil }}},
		{"wrong proof", lyingSource{keys: func(p *merkle.Proof) { p.Nodes[len(p.Nodes)/2][7] ^= 1 }}},
		{"wrong value in a range", lyingSource{pairs: func(p *merkle.Proof) { p.Pairs[len(p.Pairs)/2].Value = []byte("another") }}},
		{"range with a hole", lyingSource{pairs: func(p *merkle.Proof) { p.Pairs = slices.Delete(p.Pairs, len(p.Pairs)/2, len(p.Pairs)/2+1) }}},
		{"range cut at its front", lyingSource{pairs: func(p *merkle.Proof) { p.Pairs = p.Pairs[1:] }}},
		{"range cut at its end", lyingSource{pairs: func(p *merkle.Proof) { p.Pairs = p.Pairs[:len(p.Pairs)-1] }}},
		{"shard of another index", lyingSource{shard: true}},
	} {
		l.src.Source, l.src.met = s, &atomic.Int64{}
		liars = append(liars, badPeer{name: l.name, server: server{src: l.src}, met: l.src.met})
	}
	mannered := func(name string, m datest.Manner) badPeer {
		met := &atomic.Int64{}
		return badPeer{name: name, met: met, server: server{src: s, manner: func(stream network.Stream, answer []byte) {
			met.Add(1)
			m(stream, answer)
		}}}
	}
	for _, l := range datest.Lies {
		liars = append(liars, mannered(l.Name, datest.Telling(l)))
	}
	for _, m := range []struct {
		name   string
		manner datest.Manner
	}{
		{"silent", datest.Silent}, {"dripping", datest.Dripping}, {"breaking off", datest.Breaking}, {"resetting", datest.Resetting},
	} {
		b := mannered(m.name, m.manner)
		b.stalls = true
		stallers = append(stallers, b)
	}
	return liars, stallers
}

// crowd is what fetches from ten peers came to.
type crowd struct {
	mu     sync.Mutex                  // guards the fields up to last
	first  [fetchKinds][]time.Duration // of fetches while peers were not known yet
	later  [fetchKinds][]time.Duration
	wrong  int
	failed int
	last   error

	invalid float64  // answers of one liar, most
	free    []string // liars that aren't banned
	share   float64  // of a stalling peer of the second half of requests, most, times what is fair
}

// timed takes in a fetch that ended; of one without a right answer the time is not
// kept.
func (c *crowd) timed(times *[fetchKinds][]time.Duration, kind int, fetch func() error) {
	start := time.Now()
	err := fetch()
	took := time.Since(start)
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case err == nil:
		times[kind] = append(times[kind], took)
	case errors.Is(err, errAnswer):
		c.wrong++
	default:
		c.failed, c.last = c.failed+1, err
	}
}

// lying measures fetches from ten peers, three of which lie or stall, until each way
// has had its turn; and in turn with them from ten honest ones.
func (r *daRun) lying() error {
	s, err := r.newStock()
	if err != nil {
		return err
	}
	liars, stallers := s.badPeers()
	var honest, with crowd
	for i := 0; 2*i < len(liars); i++ {
		r.Progress("peers that lie", int64(2*i), int64(len(liars)))
		bad := append(slices.Clone(liars[2*i:min(2*i+2, len(liars))]), stallers[i%len(stallers)])
		if err := r.ask(s, nil, &honest); err != nil {
			return err
		}
		if err := r.ask(s, bad, &with); err != nil {
			return err
		}
	}
	fetches := 0
	for kind := range fetchKinds {
		fetches += len(with.first[kind]) + len(with.later[kind])
	}
	const what = "30 % of 10 peers lie or stall: "
	r.add(DARow{What: what + "wrong answers", Value: float64(with.wrong + honest.wrong), Must: "≤ 0",
		Beside: fmt.Sprintf("%d right ones; ways to lie %d, to stall %d", fetches, len(liars), len(stallers))})
	r.add(DARow{What: what + "fetches without an answer", Value: float64(with.failed + honest.failed), Must: "≤ 0"})
	r.add(DARow{What: what + "invalid answers of a liar until its ban, most", Value: with.invalid, Must: "≤ 3"})
	r.add(DARow{What: what + "liars not banned", Value: float64(len(with.free)), Must: "≤ 0", Beside: fmt.Sprint(with.free)})
	r.add(DARow{What: what + "later requests to one that stalls, most", Value: 100 * with.share, Unit: "% of a fair share", Must: "≤ 10"})
	// The first ones are a few of a hundred, and those that say most of what a peer costs
	// that is not known yet.
	r.add(slower(what+"p99 of the first fetches, at once", "", &with.first, &honest.first))
	r.add(slower(what+"p99 of the later ones", "", &with.later, &honest.later))
	for kind := range fetchKinds {
		honest.first[kind] = append(honest.first[kind], honest.later[kind]...)
		with.first[kind] = append(with.first[kind], with.later[kind]...)
	}
	r.add(slower(what+"p99 of all over the honest run's, worst kind", "≤ 3", &with.first, &honest.first))
	return nil
}

// slower compares the 99th percentiles of each kind.
func slower(what, must string, with, honest *[fetchKinds][]time.Duration) DARow {
	worst, texts := 0.0, make([]string, fetchKinds)
	for kind := range fetchKinds {
		usual, got := percentile(honest[kind], 99), percentile(with[kind], 99)
		worst = max(worst, got/usual)
		texts[kind] = fmt.Sprintf("%s %.1f, honest %.1f ms", fetchNames[kind], got, usual)
	}
	return DARow{What: what, Value: worst, Unit: "×", Must: must, Beside: strings.Join(texts, "; ")}
}

// ask fetches from a new crowd with some bad peers among them.
func (r *daRun) ask(s *stock, bad []badPeer, c *crowd) error {
	servers := make([]server, 0, crowdPeers)
	for _, b := range bad {
		servers = append(servers, b.server)
	}
	for len(servers) < crowdPeers {
		servers = append(servers, server{src: s})
	}
	w, err := newSwarm(r.ctx, da.Config{}, servers...)
	if err != nil {
		return err
	}
	defer w.Close()
	r.meet(w.reader, s, bad, c)
	r.load(w.reader, s, r.da.Fetches/2, c)
	before, asked := w.reader.Stats().Requests, make([]int64, len(bad))
	for i, b := range bad {
		asked[i] = b.met.Load()
	}
	r.load(w.reader, s, r.da.Fetches/2, c)
	fair := float64(w.reader.Stats().Requests-before) / crowdPeers
	infos := map[string]da.PeerInfo{}
	for _, p := range w.reader.Peers() {
		infos[p.ID] = p
	}
	for i, b := range bad {
		info := infos[w.servers[i].ID()]
		switch {
		case b.met.Load() == 0:
			return fmt.Errorf("a peer that should lie or stall was never asked: %s", b.name)
		case b.stalls:
			c.share = max(c.share, float64(b.met.Load()-asked[i])/fair)
		case !info.Banned.After(time.Now()):
			c.free = append(c.free, b.name)
		default:
			c.invalid = max(c.invalid, float64(info.Invalid))
		}
	}
	return context.Cause(r.ctx)
}

// meet fetches as many things of a kind at once as there are peers, so that each is
// asked, and then more, until all bad ones were.
func (r *daRun) meet(n *da.Node, s *stock, bad []badPeer, c *crowd) {
	for burst := range crowdBursts {
		for kind := range fetchKinds {
			r.atOnce(min(crowdMost, crowdPeers*(1+burst)), func(rnd *rand.Rand) {
				c.timed(&c.first, kind, func() error { return r.fetch(n, s, kind, rnd) })
			})
		}
		if r.ctx.Err() != nil || !slices.ContainsFunc(bad, func(b badPeer) bool { return b.met.Load() == 0 }) {
			return
		}
	}
}

// load fetches so many things of all kinds, a few at a time.
func (r *daRun) load(n *da.Node, s *stock, count int, c *crowd) {
	var next atomic.Int64
	r.atOnce(crowdReaders, func(rnd *rand.Rand) {
		for next.Add(1) <= int64(count) && r.ctx.Err() == nil {
			kind := ofKey // six of ten
			if x := rnd.IntN(10); x >= 6 {
				kind = []int{ofRange, ofRange, ofItem, ofBundle}[x-6]
			}
			c.timed(&c.later, kind, func() error { return r.fetch(n, s, kind, rnd) })
		}
	})
}

// atOnce calls f so many times at once, each with a generator of its own.
func (r *daRun) atOnce(count int, f func(*rand.Rand)) {
	var wg sync.WaitGroup
	begin := make(chan struct{})
	for range count {
		rnd := rand.New(rand.NewPCG(r.rnd.Uint64(), 0))
		wg.Go(func() {
			<-begin
			f(rnd)
		})
	}
	close(begin)
	wg.Wait()
}

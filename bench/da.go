package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"accessor/checkpoint"
	"accessor/da"
	"accessor/da/datest"
	"accessor/forks"
	"accessor/peers"
	"accessor/state"
)

// DAParams are those of the benchmark of data from peers.
type DAParams struct {
	Keys    int    `json:"keys"`    // of the state, 100 bytes each
	Misses  int    `json:"misses"`  // of one peer, one by one
	Readers int    `json:"readers"` // of one missing key at once
	Rounds  int    `json:"rounds"`  // fills, and turns of the readers
	Fetches int    `json:"fetches"` // from peers a third of which lies, for each three that do
	Items   int    `json:"items"`   // reconstructed, of each kind
	Imports int    `json:"imports"` // while peers are there, and as many without
	Seed    uint64 `json:"seed"`
	Engine  string `json:"engine"`
	Dir     string `json:"-"` // where the stores are made; default the system's
	Program string `json:"-"` // the accessor; default this program

	// Progress, where given, is told what is being done.
	Progress func(what string, done, all int64) `json:"-"`
}

// DADefaults are the parameters where nothing else is said.
var DADefaults = DAParams{Keys: 200_000, Misses: 2_000, Readers: 1_000, Rounds: 5, Fetches: 1_000, Items: 200, Imports: 40, Seed: 1}

// daValue is the size of values, in bytes.
const daValue = 100

// DARow is one thing that was measured.
type DARow struct {
	What    string  `json:"what"`
	Value   float64 `json:"value"`
	Unit    string  `json:"unit"`
	Must    string  `json:"must,omitempty"` // such as "≤ 3"
	Reached bool    `json:"reached"`        // true where nothing must be
	Beside  string  `json:"beside,omitempty"`
}

// DAResult of the benchmark. All nodes are in this one process, but those that ask beside
// local reads; they speak QUIC over loopback.
type DAResult struct {
	Bench  string   `json:"bench"`
	Params DAParams `json:"params"`
	Rows   []DARow  `json:"rows"`
}

// daRun is the benchmark on its way. The store of run is the complete one, from which
// all nodes serve.
type daRun struct {
	run
	da   DAParams
	res  DAResult
	at   forks.Block // the anchor, which is asked for
	view *state.View // of it
}

// DA measures what comes from peers: misses, a fill, many readers at once, erasure
// coding, peers that lie, and that all are gone.
func DA(ctx context.Context, p DAParams) (res DAResult, err error) {
	if p.Program == "" {
		if p.Program, err = os.Executable(); err != nil {
			return res, err
		}
	}
	dir, err := os.MkdirTemp(p.Dir, "accessor-bench-")
	if err != nil {
		return res, err
	}
	defer removeAll(dir)
	r := &daRun{da: p, run: *newRun(ctx, dir, Params{
		Keys: p.Keys, Puts: 500, ValueSize: daValue, Commitment: state.JAM{}.Name(), Seed: p.Seed, Progress: p.Progress,
	})}
	r.da.Engine = r.Engine
	defer func() { r.engine.Close() }() // the last one
	err = errors.Join(r.measure(), r.close())
	r.res.Bench, r.res.Params = "da", r.da
	return r.res, err
}

func (r *daRun) measure() (err error) {
	if err := r.create(checkpoint.Options{}); err != nil {
		return err
	}
	r.at = r.acc.Anchor()
	if r.view, err = r.acc.View(r.ctx, r.at.Hash); err != nil {
		return err
	}
	defer func() { r.view.Close() }() // the last one
	if err := r.acc.Warm(r.ctx, r.at.Hash); err != nil {
		return err
	}
	for _, f := range []func() error{r.misses, r.readers, r.fills, r.coding, r.lying, r.besidePeers, r.gone} {
		if err := f(); err != nil {
			return err
		}
	}
	return nil
}

// add takes a row in, and says whether it reached what it must.
func (r *daRun) add(row DARow) {
	row.Reached = reached(row.Must, row.Value)
	r.res.Rows = append(r.res.Rows, row)
}

const overLoopback = "/ip4/127.0.0.1/udp/0/quic-v1"

// generous is what a node serves in a benchmark: everything, without the bounds that
// keep one reader from slowing down others.
var generous = da.Serve{
	State: da.Anyone, Blocks: da.Anyone, Items: da.Anyone, Shards: da.Anyone,
	Concurrent: 64, Rate: 1 << 20, BytesPerSecond: 1 << 30,
}

// swarm is some nodes that serve, and one that asks them.
type swarm struct {
	reader  *da.Node
	servers []*da.Node
	close   []func() error // in this order
}

func (s *swarm) Close() error {
	var errs []error
	for _, f := range s.close {
		errs = append(errs, f())
	}
	s.close = nil
	return errors.Join(errs...)
}

// newSwarm makes a node that asks, by a configuration, and one for each server; it
// returns when all are connected.
func newSwarm(ctx context.Context, config da.Config, servers ...server) (s *swarm, err error) {
	s = &swarm{}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	for _, srv := range servers {
		node, err := s.serve(ctx, srv)
		if err != nil {
			return s, err
		}
		config.Peers = append(config.Peers, node.Addrs()[0])
	}
	if s.reader, err = da.New(ctx, config, nil); err != nil {
		return s, err
	}
	s.close = append([]func() error{s.reader.Close}, s.close...)
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		connected := 0
		for _, p := range s.reader.Peers() {
			if p.Connected {
				connected++
			}
		}
		switch {
		case connected == len(servers):
			return s, nil
		case ctx.Err() != nil:
			return s, context.Cause(ctx)
		case time.Now().After(end):
			return s, fmt.Errorf("%d of %d peers are connected after 30 s", connected, len(servers))
		}
	}
}

// server is what a node serves from and how it hands its answers over; nil: as it
// should.
type server struct {
	src    da.Source
	manner datest.Manner
}

func (s *swarm) serve(ctx context.Context, srv server) (*da.Node, error) {
	config := da.Config{Listen: []string{overLoopback}, Serve: generous}
	if srv.manner != nil {
		h, err := datest.NewHost()
		if err != nil {
			return nil, err
		}
		config.Host = datest.Host{Host: h, Manner: srv.manner}
		s.close = append(s.close, h.Close)
	}
	node, err := da.New(ctx, config, srv.src)
	if err != nil {
		return nil, err
	}
	s.close = append([]func() error{node.Close}, s.close...) // before its host
	s.servers = append(s.servers, node)
	return node, nil
}

// source is the complete store's.
func (r *daRun) source() da.Source { return peers.NewSource(r.acc, nil) }

// honest are so many servers of the complete store.
func (r *daRun) honest(n int) []server {
	list := make([]server, n)
	for i := range list {
		list[i].src = r.source()
	}
	return list
}

// partial makes a partial store with a swarm's reader to ask. end closes and removes it.
func (r *daRun) partial(s *swarm, timeout time.Duration) (acc *state.Accessor, end func() error, err error) {
	dir, err := os.MkdirTemp(r.dir, "partial-")
	if err != nil {
		return nil, nil, err
	}
	fetcher := &peers.Fetcher{}
	fetcher.Use(s.reader)
	acc, err = state.CreatePartial(state.Config{
		Dir: filepath.Join(dir, "store"), Engine: r.engine, Commitment: state.JAM{}, Owner: "bench",
		Fetcher: fetcher, FetchTimeout: timeout, CacheBytes: state.DefaultCacheBytes,
	}, state.Anchor{Hash: r.at.Hash, Slot: r.at.Slot, Root: r.at.Root})
	if err != nil {
		return nil, nil, err
	}
	return acc, func() error {
		err := acc.Close()
		removeAll(dir)
		return err
	}, nil
}

// right compares a value with that of the complete store.
func (r *daRun) right(k, value []byte) error {
	want, _, err := r.view.Get(k)
	if err == nil && !bytes.Equal(value, want) {
		err = fmt.Errorf("%w: of key %x", errAnswer, k)
	}
	return err
}

// misses measures reads of a partial store that have to ask its one peer, and in turn
// with them a bare round trip of as many bytes.
func (r *daRun) misses() error {
	return r.withPartial(1, func(s *swarm, acc *state.Accessor, v *state.View) error {
		keys := r.rnd.Perm(r.Keys)
		miss := func() (time.Duration, error) {
			k := key(keys[0])
			keys = keys[1:]
			start := time.Now()
			value, _, err := v.Get(k)
			took := time.Since(start)
			if err == nil {
				err = r.right(k, value)
			}
			return took, err
		}
		const first = 20 // after which the top of the trie is known
		for range first {
			if _, err := miss(); err != nil {
				return err
			}
		}
		before := s.reader.Stats()
		if _, err := miss(); err != nil {
			return err
		}
		const request = 4 + 32 + 4 + 31 // da/PROTOCOL.md
		ping, err := datest.NewPinger(r.ctx, request, int(s.reader.Stats().ReadBytes-before.ReadBytes))
		if err != nil {
			return err
		}
		defer ping.Close()
		n := min(r.da.Misses, len(keys))
		fetched := s.reader.Stats().Fetches
		var ours, raw []time.Duration
		for i := range n {
			r.Progress("misses", int64(i), int64(n))
			took, err := miss()
			if err != nil {
				return err
			}
			start := time.Now()
			if err := ping.Ping(); err != nil {
				return err
			}
			ours, raw = append(ours, took), append(raw, time.Since(start))
		}
		if got := s.reader.Stats().Fetches - fetched; got != uint64(n) {
			return fmt.Errorf("%d reads made %d fetches", n, got)
		}
		r.add(DARow{What: "miss from one peer, proof checked, p50 over the raw round trip",
			Value: percentile(ours, 50) - percentile(raw, 50), Unit: "ms", Must: "≤ 3",
			Beside: fmt.Sprintf("miss %.2f ms, p99 %.2f; round trip %.3f", percentile(ours, 50), percentile(ours, 99), percentile(raw, 50))})
		return nil
	})
}

// withPartial calls f with so many honest peers and a partial store that asks them.
func (r *daRun) withPartial(servers int, f func(*swarm, *state.Accessor, *state.View) error) error {
	s, err := newSwarm(r.ctx, da.Config{}, r.honest(servers)...)
	if err != nil {
		return err
	}
	defer s.Close()
	acc, end, err := r.partial(s, 0)
	if err != nil {
		return err
	}
	v, err := acc.View(r.ctx, r.at.Hash)
	if err == nil {
		err = f(s, acc, v)
		v.Close()
	}
	return errors.Join(err, end())
}

// readers measures how often a key is asked for that many miss at once.
func (r *daRun) readers() error {
	return r.withPartial(3, func(s *swarm, acc *state.Accessor, v *state.View) error {
		var fetches, requests, slowest float64
		for turn := range r.da.Rounds {
			r.Progress("readers of one key", int64(turn), int64(r.da.Rounds))
			before, k := s.reader.Stats(), key(r.rnd.IntN(r.Keys/r.da.Rounds)*r.da.Rounds+turn)
			begin := make(chan struct{})
			errs := make([]error, r.da.Readers)
			var wg sync.WaitGroup
			for i := range errs {
				wg.Go(func() {
					<-begin
					value, _, err := v.Get(k)
					if err == nil {
						err = r.right(k, value)
					}
					errs[i] = err
				})
			}
			start := time.Now()
			close(begin)
			wg.Wait()
			if err := errors.Join(errs...); err != nil {
				return err
			}
			after := s.reader.Stats()
			fetches = max(fetches, float64(after.Fetches-before.Fetches))
			requests = max(requests, float64(after.Requests-before.Requests))
			slowest = max(slowest, time.Since(start).Seconds()*1000)
		}
		what := fmt.Sprintf("%d readers of one missing key, ", r.da.Readers)
		r.add(DARow{What: what + "logical fetches, most", Value: fetches, Must: "≤ 1",
			Beside: fmt.Sprintf("all answered within %.0f ms", slowest)})
		r.add(DARow{What: what + "requests, most", Value: requests, Must: "≤ 2"})
		if fetches == 0 {
			return errors.New("nothing was fetched")
		}
		return nil
	})
}

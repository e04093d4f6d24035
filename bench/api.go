package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"accessor/api"
	"accessor/checkpoint"
	"accessor/checkpoint/rocks"
	"accessor/forks"
	"accessor/state"
)

// APIParams are those of the benchmark of the API.
type APIParams struct {
	Keys       int    `json:"keys"`       // of the state, 200 bytes each
	Requests   int    `json:"requests"`   // of a round
	Rounds     int    `json:"rounds"`     // each measures the accessor and what is beside it in turn
	Imports    int    `json:"imports"`    // blocks through the socket, and as many in process
	Commitment string `json:"commitment"` // jam or none
	Soak       int64  `json:"soak"`       // requests of a soak, in place of all else; 0 for none
	Seed       uint64 `json:"seed"`
	Engine     string `json:"engine"`
	Socket     string `json:"socket,omitempty"` // of a server that runs already; default one of its own
	Dir        string `json:"-"`                // where the store is made; default the system's

	// Progress, where given, is told what is being done.
	Progress func(what string, done, all int64) `json:"-"`
}

// APIDefaults are the parameters where nothing else is said.
var APIDefaults = APIParams{Keys: 20_000, Requests: 20_000, Rounds: 7, Imports: 40, Commitment: "none", Seed: 1}

// Of the load.
const (
	apiValue      = 200                    // bytes
	apiHot        = 1_000                  // keys that are read
	apiBatch      = 100                    // keys
	apiConns      = 16                     // connections
	apiPuts       = 500                    // of an import
	apiPutSize    = 100                    // bytes
	apiImportStep = 100 * time.Millisecond // between imports while reads are measured
)

// APIRow is one thing that was measured: the median of the rounds.
type APIRow struct {
	What     string  `json:"what"`
	Unit     string  `json:"unit"`
	Accessor float64 `json:"accessor"`
	Beside   string  `json:"beside,omitempty"` // what the accessor is compared with
	Other    float64 `json:"other,omitempty"`
	Ratio    float64 `json:"ratio,omitempty"` // accessor / other
	Must     string  `json:"must,omitempty"`
	Reached  bool    `json:"reached"`         // true where nothing must be
	Redis    float64 `json:"redis,omitempty"` // the same of redis-server, in the same unit
}

// APIResult of the benchmark. Clients are in the same process as the servers, but for
// redis-server and with a socket of somebody else's.
type APIResult struct {
	Bench  string    `json:"bench"`
	Params APIParams `json:"params"`
	Rows   []APIRow  `json:"rows"`
	Soak   *APISoak  `json:"soak,omitempty"`
}

// apiRun is the benchmark on its way.
type apiRun struct {
	run     // the store
	api     APIParams
	res     APIResult
	keys    [][]byte // that are read
	values  [][]byte
	at      forks.Block // where they are read
	tip     forks.Block // on which blocks are imported
	servers servers
	redis   string // socket; empty where there is none
}

// API measures the API over a Unix socket: on a temporary store with a server of its
// own, or at a socket where a server listens.
func API(ctx context.Context, p APIParams) (res APIResult, err error) {
	r, end, err := p.begin(ctx)
	if err != nil {
		return res, err
	}
	defer func() { err = errors.Join(err, end()) }()
	if p.Socket == "" {
		err = r.ownServer()
	} else {
		err = r.othersServer()
	}
	switch {
	case err != nil:
	case p.Soak > 0:
		err = r.soak()
	default:
		err = r.measure()
	}
	r.res.Bench, r.res.Params = "api", r.api
	return r.res, err
}

// begin makes a run, and gives what ends it.
func (p APIParams) begin(ctx context.Context) (r *apiRun, end func() error, err error) {
	dir, err := os.MkdirTemp(p.Dir, "accessor-bench-")
	if err != nil {
		return nil, nil, err
	}
	r = &apiRun{api: p, run: *newRun(ctx, dir, Params{
		Keys: p.Keys, Puts: apiPuts, ValueSize: apiValue, Commitment: p.Commitment, Seed: p.Seed, Dir: p.Dir, Progress: p.Progress,
	})}
	if p.Socket == "" {
		r.api.Engine = r.Engine
	}
	return r, func() error {
		err := errors.Join(r.servers.Close(), r.close())
		r.engine.Close() // the last one: the store may have been opened with another
		removeAll(dir)
		return err
	}, nil
}

// ownServer makes the store, and serves it.
func (r *apiRun) ownServer() error {
	if err := r.create(checkpoint.Options{}); err != nil {
		return err
	}
	if err := r.reopen(rocks.Options{}, state.DefaultCacheBytes, state.Retention{}); err != nil {
		return err
	}
	<-r.acc.CacheReady()
	r.ValueSize = apiPutSize
	chain, err := r.grow(r.acc.Anchor(), 3)
	if err != nil {
		return err
	}
	r.at = chain[2]
	v, err := r.acc.View(r.ctx, r.at.Hash)
	if err != nil {
		return err
	}
	defer v.Close()
	for i := 0; len(r.keys) < apiHot && i < r.Keys; i++ {
		value, _, err := v.Get(key(i))
		if err != nil {
			return err
		}
		if len(value) == apiValue { // not one that the blocks wrote
			r.keys, r.values = append(r.keys, key(i)), append(r.values, value)
		}
	}
	if len(r.keys) < 2*apiBatch {
		return fmt.Errorf("a state of %d keys is too small: want some 2,000 at least", r.Keys)
	}
	return errors.Join(r.serveOurs(), r.serveBare(), r.serveRedis())
}

func (r *apiRun) byKey() map[string][]byte {
	m := make(map[string][]byte, len(r.keys))
	for i, k := range r.keys {
		m[string(k)] = r.values[i]
	}
	return m
}

// measure measures all rows.
func (r *apiRun) measure() error {
	for _, f := range []func() error{r.single, r.many, r.batch} {
		if err := f(); err != nil {
			return err
		}
	}
	if r.acc == nil {
		return nil // blocks are not imported into somebody else's store
	}
	return errors.Join(r.imports(), r.readsBesideImports())
}

// compared is a row that is made of rounds, each of the accessor and of what is beside
// it in turn.
type compared struct {
	row              APIRow
	ours, bare, resp load
	of               func(measured) float64
}

func (r *apiRun) compare(c compared) error {
	var ours, other, ratios, redis []float64
	for round := range r.api.Rounds {
		r.Progress(c.row.What, int64(round), int64(r.api.Rounds))
		m, err := c.ours.run(r.ctx)
		if err != nil {
			return fmt.Errorf("%s: %w", c.row.What, err)
		}
		ours = append(ours, c.of(m))
		if c.bare.path != "" {
			if m, err = c.bare.run(r.ctx); err != nil {
				return fmt.Errorf("%s, %s: %w", c.row.What, c.row.Beside, err)
			}
			other = append(other, c.of(m))
			ratios = append(ratios, ours[round]/other[round])
		}
		if c.resp.path != "" {
			if m, err = c.resp.run(r.ctx); err != nil {
				return fmt.Errorf("%s, redis: %w", c.row.What, err)
			}
			redis = append(redis, c.of(m))
		}
	}
	c.row.Accessor, c.row.Other, c.row.Ratio, c.row.Redis = median(ours), median(other), median(ratios), median(redis)
	r.add(c.row)
	return nil
}

// add takes a row in.
func (r *apiRun) add(row APIRow) { r.res.Rows = append(r.res.Rows, row.judged()) }

// judged says whether what must be is reached.
func (row APIRow) judged() APIRow {
	is := row.Ratio
	if row.Beside == "" {
		is = row.Accessor
	}
	if is == 0 { // nothing was beside it
		row.Must = ""
	}
	row.Reached = reached(row.Must, is)
	return row
}

func median(list []float64) float64 {
	if len(list) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(list))
	return sorted[len(sorted)/2]
}

// gets are requests of one value each.
func (r *apiRun) gets(block string) []request {
	list := make([]request, len(r.keys))
	for i, k := range r.keys {
		list[i] = request{want: r.values[i], bytes: fmt.Appendf(nil,
			"GET /v1/blocks/%s/state/%x HTTP/1.1\r\nHost: accessor\r\nAccept: application/octet-stream\r\n\r\n", block, k)}
	}
	return list
}

func (r *apiRun) getLoads(conns int) (ours, bare, resp load) {
	each := max(1, r.api.Requests/conns)
	ours = load{path: r.servers.ours, read: readHTTP, requests: r.gets(r.at.Hash.String()), conns: conns, each: each}
	bare = ours
	bare.path, bare.requests = r.servers.bare, slices.Clone(ours.requests)
	for i := range bare.requests {
		bare.requests[i].want = r.values[0]
	}
	resp = load{path: r.redis, read: readRESP, conns: conns, each: each}
	for i, k := range r.keys {
		resp.requests = append(resp.requests, request{bytes: command([]byte("GET"), k), want: r.values[i]})
	}
	return ours, bare, resp
}

// single measures reads of one value on one connection.
func (r *apiRun) single() error {
	ours, bare, resp := r.getLoads(1)
	return r.compare(compared{
		row:  APIRow{What: "GET of a 200-byte value, 1 connection, p50", Unit: "µs", Beside: "bare net/http handler", Must: "≤ 1.3 ×"},
		ours: ours, bare: bare, resp: resp, of: func(m measured) float64 { return m.micros(50) },
	})
}

// many measures the same on many connections.
func (r *apiRun) many() error {
	ours, bare, resp := r.getLoads(apiConns)
	return r.compare(compared{
		row:  APIRow{What: "GET of a 200-byte value, 16 connections", Unit: "/s", Beside: "bare net/http handler", Must: "≥ 0.8 ×"},
		ours: ours, bare: bare, resp: resp, of: func(m measured) float64 { return m.rate },
	})
}

// batchLoads are batches of keys in the binary form.
func (r *apiRun) batchLoads() (ours, bare, resp load) {
	ours = load{path: r.servers.ours, read: readHTTP, conns: apiConns, each: max(1, r.api.Requests/4/apiConns)}
	resp = load{path: r.redis, read: readRESP, conns: apiConns, each: ours.each}
	for i := 0; i+apiBatch <= len(r.keys); i += apiBatch / 2 {
		keys, values := r.keys[i:i+apiBatch], r.values[i:i+apiBatch]
		body := api.AppendKeys(nil, keys)
		ours.requests = append(ours.requests, request{want: api.AppendKeys(nil, values), bytes: append(fmt.Appendf(nil,
			"POST /v1/blocks/%s/state HTTP/1.1\r\nHost: accessor\r\nContent-Type: application/octet-stream\r\nContent-Length: %d\r\n\r\n",
			r.at.Hash, len(body)), body...)})
		resp.requests = append(resp.requests, request{
			bytes: command(append([][]byte{[]byte("MGET")}, keys...)...), want: slices.Concat(values...),
		})
	}
	bare = ours
	bare.path = r.servers.bare
	return ours, bare, resp
}

// batch measures them.
func (r *apiRun) batch() error {
	ours, bare, resp := r.batchLoads()
	return r.compare(compared{
		row:  APIRow{What: "batch of 100 keys, binary, 16 connections", Unit: "/s", Beside: "the same over a Go map", Must: "≥ 0.5 ×"},
		ours: ours, bare: bare, resp: resp, of: func(m measured) float64 { return m.rate },
	})
}

package bench

import (
	"context"
	"fmt"
	"slices"
	"time"

	"accessor/api"
	"accessor/forks"
	"accessor/state"
)

// post gives the request that imports a block.
func post(b *state.Block) *request {
	body := api.AppendBlock(nil, b)
	return &request{status: 201, bytes: append(fmt.Appendf(nil,
		"POST /v1/blocks HTTP/1.1\r\nHost: accessor\r\nContent-Type: application/octet-stream\r\nContent-Length: %d\r\n\r\n", len(body)), body...)}
}

// imports measures imports through the socket and in process, in turn, on one chain.
func (r *apiRun) imports() error {
	row := APIRow{
		What: fmt.Sprintf("import of %d × %d bytes, median", apiPuts, apiPutSize), Unit: "ms", Beside: "in process", Must: "≤ 1.3 ×",
	}
	c, err := dialClient(r.ctx, r.servers.ours, readHTTP)
	if err != nil {
		return err
	}
	defer c.Close()
	var through, within []time.Duration
	parent := r.at
	for i := range 2 * r.api.Imports {
		r.Progress(row.What, int64(i), int64(2*r.api.Imports))
		b := r.block(parent, apiPuts)
		req := post(b)
		if err := r.quiesce(); err != nil {
			return err
		}
		_ = c.SetDeadline(time.Now().Add(clientPatience))
		start := time.Now()
		if i%2 == 0 {
			err = c.do(req)
			through = append(through, time.Since(start))
		} else {
			_, err = r.importOne(b)
			within = append(within, time.Since(start))
		}
		if err != nil {
			return fmt.Errorf("%s: %w", row.What, err)
		}
		parent = forks.Block{Hash: b.Hash, Slot: b.Slot}
	}
	r.tip = parent
	row.Accessor, row.Other = percentile(through, 50), percentile(within, 50)
	row.Ratio = row.Accessor / row.Other
	r.add(row)
	return nil
}

// readsBesideImports measures single reads on one connection while another one
// imports blocks.
func (r *apiRun) readsBesideImports() error {
	row := APIRow{What: "single reads while imports run, p99", Unit: "ms", Must: "≤ 5 ms"}
	ctx, cancel := context.WithCancel(r.ctx)
	defer cancel()
	importing := make(chan error, 1)
	go func() { importing <- r.importEvery(ctx) }()
	reader := load{path: r.servers.ours, read: readHTTP, requests: r.gets("head"), conns: 1, each: max(1, r.api.Requests/10)}
	for i := range reader.requests {
		reader.requests[i].want = nil // a block may just have written it
	}
	var times []time.Duration
	began := time.Now()
	for wait := time.Duration(r.api.Imports) * apiImportStep; time.Since(began) < wait; {
		r.Progress(row.What, int64(time.Since(began)), int64(wait))
		m, err := reader.run(ctx)
		if err != nil {
			return fmt.Errorf("%s: %w", row.What, err)
		}
		times = append(times, m.times...)
	}
	cancel()
	if err := <-importing; err != nil {
		return fmt.Errorf("%s: %w", row.What, err)
	}
	slices.Sort(times)
	all := measured{times: times}
	row.Accessor = all.micros(99) / 1000
	r.add(row)
	return nil
}

// importEvery imports a block every so often, until the context ends.
func (r *apiRun) importEvery(ctx context.Context) error {
	c, err := dialClient(ctx, r.servers.ours, readHTTP)
	if err != nil {
		return err
	}
	defer c.Close()
	for ctx.Err() == nil {
		next := time.After(apiImportStep)
		b := r.block(r.tip, apiPuts)
		_ = c.SetDeadline(time.Now().Add(clientPatience))
		if err := c.do(post(b)); err != nil {
			return err
		}
		r.tip = forks.Block{Hash: b.Hash, Slot: b.Slot}
		select {
		case <-ctx.Done():
		case <-next:
		}
	}
	return nil
}

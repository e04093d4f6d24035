package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"accessor/api"
)

// APISoak is what a long series of requests leaves behind.
type APISoak struct {
	Requests   int64   `json:"requests"`
	Rate       float64 `json:"requests_per_second"`
	Early      Weight  `json:"at_10_percent"`
	Late       Weight  `json:"at_end"`
	Memory     float64 `json:"memory_ratio"`     // late / early
	Goroutines float64 `json:"goroutines_ratio"` // 0 where they are another process's
	Flat       bool    `json:"flat"`             // both within 5 %
}

// Weight is what the server's process takes while nobody asks anything.
type Weight struct {
	RSS        int64 `json:"rss_bytes"`
	Goroutines int   `json:"goroutines,omitempty"`
}

// flatWithin is by how much the later weight may exceed the earlier.
const flatWithin = 1.05

// soakStay is how many requests a connection sends before another takes its place.
const soakStay = 2_000

// soak sends requests of many kinds, those that are refused among them, and weighs the
// server after a tenth and at the end.
func (r *apiRun) soak() error {
	requests := r.soakRequests()
	out := &APISoak{Requests: r.api.Soak}
	r.res.Soak = out
	began := time.Now()
	send := func(from, to int64) error {
		var sent atomic.Int64
		sent.Store(from)
		group, ctx := errgroup.WithContext(r.ctx)
		for i := range apiConns {
			group.Go(func() error {
				for sent.Load() < to {
					if err := r.soakConn(ctx, requests, i, &sent, to); err != nil {
						return err
					}
				}
				return nil
			})
		}
		return group.Wait()
	}
	var err error
	if err = send(0, r.api.Soak/10); err == nil {
		out.Early, err = r.weigh()
	}
	if err == nil {
		err = send(r.api.Soak/10, r.api.Soak)
	}
	out.Rate = float64(r.api.Soak) / time.Since(began).Seconds()
	if err == nil {
		out.Late, err = r.weigh()
	}
	if err != nil {
		return fmt.Errorf("soak: %w", err)
	}
	out.Memory = float64(out.Late.RSS) / float64(out.Early.RSS)
	if out.Early.Goroutines > 0 {
		out.Goroutines = float64(out.Late.Goroutines) / float64(out.Early.Goroutines)
	}
	out.Flat = out.Memory <= flatWithin && out.Goroutines <= flatWithin
	return nil
}

// soakConn sends requests on one connection, until it has sent its share or all are
// sent. Every other one is left in the middle of a stream of events.
func (r *apiRun) soakConn(ctx context.Context, requests []request, from int, sent *atomic.Int64, to int64) error {
	c, err := dialClient(ctx, r.servers.ours, readHTTP)
	if err != nil {
		return err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(clientPatience + soakStay*10*time.Millisecond))
	at := from * 37
	for range soakStay {
		n := sent.Add(1)
		if n > to || ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if n%10_000 == 0 {
			r.Progress("soak", n, r.api.Soak)
		}
		at++
		if err := c.do(&requests[at%len(requests)]); err != nil {
			return err
		}
	}
	if from%2 == 0 {
		return nil
	}
	_, err = io.WriteString(c, "GET /v1/events?after=1 HTTP/1.1\r\nHost: accessor\r\n\r\n")
	if err == nil {
		_, err = c.in.Peek(1)
	}
	return err
}

// soakRequests are of all kinds that leave the store as it is.
func (r *apiRun) soakRequests() []request {
	block := r.at.Hash.String()
	get := func(status int, target, headers string) request {
		return request{status: status, bytes: fmt.Appendf(nil, "GET %s HTTP/1.1\r\nHost: accessor\r\n%s\r\n", target, headers)}
	}
	post := func(status int, target, media string, body []byte) request {
		return request{status: status, bytes: append(fmt.Appendf(nil, "POST %s HTTP/1.1\r\nHost: accessor\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n",
			target, media, len(body)), body...)}
	}
	var list []request
	for i, g := range r.gets(block) {
		list = append(list, g)
		switch i % 20 {
		case 1:
			list = append(list, get(200, fmt.Sprintf("/v1/blocks/head/state/%x", r.keys[i]), ""))
		case 3:
			list = append(list, get(200, "/v1/blocks/"+block, ""), get(200, "/v1/blocks?limit=10", ""))
		case 5:
			absent := append([]byte(nil), r.keys[i]...)
			absent[len(absent)-1] ^= 0xff
			list = append(list, get(404, fmt.Sprintf("/v1/blocks/%s/state/%x", block, absent), ""))
		case 7:
			list = append(list, get(400, "/v1/blocks/%00/state/zz", ""), get(404, "/nothing", ""), get(406, "/v1/blocks/head/state", "Accept: text/html\r\n"))
		case 9:
			keys := r.keys[max(0, i-apiBatch):i]
			list = append(list, post(200, "/v1/blocks/"+block+"/state", "application/octet-stream", api.AppendKeys(nil, keys)))
		case 11:
			list = append(list, get(200, fmt.Sprintf("/v1/blocks/%s/state?limit=20&from=%x", block, r.keys[i]), ""))
		case 13:
			list = append(list, post(400, "/v1/blocks", "application/json", []byte(`{"hash":`)), get(200, "/v1/status", ""))
		}
	}
	return list
}

// weigh weighs the server once it has nothing to do.
func (r *apiRun) weigh() (w Weight, err error) {
	pid, err := r.serverPID()
	if err != nil {
		return w, err
	}
	if r.api.Socket == "" {
		// Connections that have just been closed have a moment to end, and memory that
		// nobody has any more is given back.
		for previous := -1; previous != runtime.NumGoroutine(); {
			previous = runtime.NumGoroutine()
			select {
			case <-time.After(200 * time.Millisecond):
			case <-r.ctx.Done():
				return w, context.Cause(r.ctx)
			}
		}
		debug.FreeOSMemory()
		w.Goroutines = runtime.NumGoroutine()
	}
	w.RSS, err = residentOf(pid)
	if err == nil && w.RSS == 0 {
		err = errors.New("the server's process takes no memory")
	}
	return w, err
}

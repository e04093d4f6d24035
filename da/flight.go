package da

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
)

// How a fetch goes about it.
const (
	rounds      = 3                      // of asking peers that failed or were overloaded
	roundPause  = 100 * time.Millisecond // before the second, twice as long before the third
	maxParallel = 4                      // requests of one fetch at a time
	// maxOverloaded is in how many rounds a fetch finds a peer overloaded before it ends.
	// Nobody can keep a reader waiting for long by being busy.
	maxOverloaded = 8
	// patience is how long a peer may take, at least, before a caller's end of time is
	// held against the peer: else twice what is unusual.
	patience = 250 * time.Millisecond
)

// stream is what is needed of a libp2p stream.
type stream interface {
	Read(p []byte) (int, error)
	Write(p []byte) (int, error)
	CloseWrite() error
	Close() error
	Reset() error
	SetReadDeadline(t time.Time) error
	SetWriteDeadline(t time.Time) error
}

// opener opens streams to peers. Errors that wrap errUnsupported say that the peer
// doesn't know the protocol.
type opener interface {
	open(ctx context.Context, id peer.ID, p protocol.ID) (stream, error)
}

// fetcher is the asking side of a node.
type fetcher struct {
	net     opener
	book    *book
	stats   *counters
	usual   [kinds]durations
	timeout time.Duration                                        // of a fetch
	answer  time.Duration                                        // until the first byte of an answer
	minRate int                                                  // bytes a second
	seek    func(ctx context.Context, place string) (found bool) // finds more peers; nil: none can be
	kept    *kept                                                // shards of this machine

	base context.Context // ends with the node
	wg   sync.WaitGroup  // of all goroutines

	mu     sync.Mutex // guards the rest
	closed bool
	calls  map[string]*call
}

// call is a fetch that goes on, and who waits for it.
type call struct {
	done    chan struct{} // closed when value and err are there
	value   any
	err     error
	waiters int
	cancel  context.CancelFunc
}

// share runs a fetch, or waits for the equal one that is going on. A fetch ends when
// nobody waits for it any more.
func (f *fetcher) share(ctx context.Context, key string, run func(ctx context.Context) (any, error)) (any, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	f.mu.Lock()
	if f.closed {
		f.mu.Unlock()
		return nil, ErrClosed
	}
	c := f.calls[key]
	if c == nil {
		inner, cancel := context.WithTimeout(f.base, f.timeout)
		c = &call{done: make(chan struct{}), cancel: cancel}
		f.calls[key] = c
		f.stats.fetches.Add(1)
		f.wg.Go(func() { f.finish(inner, key, c, run) })
	} else {
		f.stats.joined.Add(1)
	}
	c.waiters++
	f.mu.Unlock()

	select {
	case <-c.done:
		return c.value, c.err
	case <-ctx.Done():
	}
	f.mu.Lock()
	if c.waiters--; c.waiters == 0 {
		c.cancel()
		if f.calls[key] == c {
			delete(f.calls, key) // who comes now begins anew
		}
	}
	f.mu.Unlock()
	return nil, fmt.Errorf("%w: %w", ErrUnavailable, ctx.Err())
}

func (f *fetcher) finish(ctx context.Context, key string, c *call, run func(ctx context.Context) (any, error)) {
	value, err := run(ctx)
	c.cancel()
	if err != nil {
		f.stats.failed.Add(1)
	}
	f.mu.Lock()
	c.value, c.err = value, err
	if f.calls[key] == c {
		delete(f.calls, key)
	}
	f.mu.Unlock()
	close(c.done)
}

// operation is one thing to be fetched from any one peer.
type operation struct {
	kind    kind
	trusted bool   // ask only peers of the configuration
	place   string // where those are found who have it, besides; empty: nowhere
	// ask asks one peer and checks the answer. Its errors are those of outcomeOf.
	ask func(ctx context.Context, id peer.ID) (any, error)
}

// flight is the work on an operation.
type flight struct {
	*fetcher
	op      operation
	final   map[peer.ID]bool // not to be asked again
	asked   map[peer.ID]bool // in this round, or final
	said    [outcomeLost + 1]int
	busy    bool  // in this round, a peer was overloaded
	away    int   // rounds in which one was
	last    error // the last failure
	results chan result
	running int
	since   map[peer.ID]time.Time // of the requests at work
	rounds  int                   // that ended without an answer
	idle    bool                  // the last round found nobody to ask
	sought  bool                  // others were looked for
}

type result struct {
	id    peer.ID
	value any
	err   error
}

// errSettled is why requests end whose answer isn't needed any more.
var errSettled = errors.New("another peer was faster")

func (f *fetcher) fly(ctx context.Context, op operation) (any, error) {
	fl := &flight{fetcher: f, op: op, final: map[peer.ID]bool{}, results: make(chan result)}
	for {
		value, err := fl.round(ctx)
		if err == nil {
			return value, nil
		}
		pause, err := fl.verdict(ctx)
		if err != nil && fl.seekOthers(ctx, err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
	}
}

// round asks each peer once that hasn't given its last word, until one answers.
func (fl *flight) round(parent context.Context) (any, error) {
	ctx, cancel := context.WithCancelCause(parent)
	defer cancel(errSettled)
	fl.asked = maps.Clone(fl.final)
	fl.running, fl.since = 0, map[peer.ID]time.Time{}
	wait := fl.usual[fl.op.kind].hedge()
	hedge := time.NewTimer(wait)
	defer hedge.Stop()
	fl.idle = !fl.start(ctx)
	for fl.running > 0 {
		select {
		case <-hedge.C:
			for id, since := range fl.since {
				fl.book.late(id, fl.op.kind, time.Since(since))
			}
			if fl.running < maxParallel && fl.start(ctx) {
				fl.stats.hedges.Add(1)
			}
			wait *= 2
			hedge.Reset(wait)
		case r := <-fl.results:
			fl.running--
			delete(fl.since, r.id)
			if r.err == nil {
				return r.value, nil
			}
			fl.note(r)
			fl.start(ctx)
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return nil, ErrUnavailable
}

// start asks one more peer; false where there is none.
func (fl *flight) start(ctx context.Context) bool {
	id, ok := fl.book.pick(fl.op.kind, fl.op.trusted, fl.asked)
	if !ok {
		return false
	}
	fl.asked[id] = true
	fl.since[id] = time.Now()
	fl.running++
	fl.wg.Go(func() {
		value, err := fl.attempt(ctx, fl.op.kind, id, fl.op.ask)
		select {
		case fl.results <- result{id, value, err}:
		case <-ctx.Done():
		}
	})
	return true
}

// note remembers what a peer said.
func (fl *flight) note(r result) {
	how := outcomeOf(r.err)
	fl.said[how]++
	fl.busy = fl.busy || how == outcomeOverloaded
	switch how {
	case outcomeFailed, outcomeOverloaded, outcomeLost:
		fl.last = r.err
	default:
		fl.final[r.id] = true
		if how == outcomeInvalid {
			fl.last = r.err
		}
	}
}

// verdict says how the fetch ends after a round without an answer, or after which
// pause another round makes sense.
func (fl *flight) verdict(ctx context.Context) (pause time.Duration, err error) {
	switch {
	case fl.base.Err() != nil:
		return 0, fl.unavailable(ErrClosed)
	case ctx.Err() != nil:
		return 0, fl.unavailable(fmt.Errorf("not within %v", fl.timeout))
	}
	if fl.busy {
		fl.away++
		fl.busy = false
	}
	s := fl.book.standing(fl.op.kind, fl.op.trusted, fl.final)
	switch {
	case s.open == 0 && fl.said[outcomeTooLarge] > 0:
		return 0, ErrTooLarge
	case s.open == 0 && fl.said[outcomeNotHeld] > 0:
		return 0, ErrNotFound
	case fl.op.kind == kindBlocks && fl.said[outcomeNotHeld] > 0:
		// At the end of each branch there are no more. Who asks for blocks comes again, and
		// a peer that is down mustn't hide what the others will say of the other branches.
		return 0, ErrNotFound
	case s.peers == 0 && fl.said[outcomeInvalid] == 0:
		return 0, s.none()
	case s.open == 0:
		return 0, fl.unavailable(errors.New("no peer is left"))
	case s.resting == s.open:
		return 0, fl.unavailable(fmt.Errorf("peers failed lately (one of them: %s)", s.failure))
	case fl.away >= maxOverloaded:
		return 0, fl.unavailable(errors.New("peers are overloaded"))
	case s.resting+s.busy == s.open || fl.idle:
		// Waiting doesn't count as a round, nor does finding all peers busy.
		return s.free + jitter(max(fullPause, min(s.free, roundPause)/2)), nil
	case fl.rounds == rounds-1:
		return 0, fl.unavailable(fmt.Errorf("asked %d times", rounds))
	}
	fl.rounds++
	fl.stats.retries.Add(1)
	return jitter(roundPause << (fl.rounds - 1)), nil
}

// seekOthers looks, once, for peers that weren't known, where those that are have it not.
func (fl *flight) seekOthers(ctx context.Context, err error) (found bool) {
	if fl.seek == nil || fl.sought || fl.op.place == "" || ctx.Err() != nil || errors.Is(err, ErrTooLarge) {
		return false
	}
	fl.sought = true
	return fl.seek(ctx, fl.op.place)
}

// unavailable gives the last failure as text: what it wraps (such as the end of a time)
// is about one peer, and not about the caller.
func (fl *flight) unavailable(why error) error {
	if fl.last != nil {
		return fmt.Errorf("%w: %w (last: %s)", ErrUnavailable, why, fl.last.Error())
	}
	return fmt.Errorf("%w: %w", ErrUnavailable, why)
}

// attempt asks one peer and takes the outcome to its record.
func (f *fetcher) attempt(ctx context.Context, k kind, id peer.ID, ask func(context.Context, peer.ID) (any, error)) (any, error) {
	f.stats.requests.Add(1)
	start := time.Now()
	value, err := ask(ctx, id)
	took := time.Since(start)
	how := outcomeOf(err)
	if how == outcomeFailed && ctx.Err() != nil {
		// The answer isn't wanted any more. Where the caller's time ended, and it
		// wasn't short, the peer is at fault.
		if errors.Is(context.Cause(ctx), errSettled) || took < max(patience, 2*f.usual[k].hedge()) {
			how = outcomeLost
		}
	}
	f.count(how)
	if how == outcomeGood {
		f.usual[k].add(took)
	}
	f.book.done(id, k, took, how, err)
	return value, err
}

func (f *fetcher) count(how outcome) {
	switch how {
	case outcomeInvalid:
		f.stats.rejected.Add(1)
	case outcomeNotHeld:
		f.stats.notHeld.Add(1)
	case outcomeOverloaded:
		f.stats.overloaded.Add(1)
	case outcomeFailed:
		f.stats.failures.Add(1)
	}
}

// outcomeOf says what the error of a request means for the peer.
func outcomeOf(err error) outcome {
	var over *overloadedError
	switch {
	case err == nil:
		return outcomeGood
	case errors.Is(err, errInvalid):
		return outcomeInvalid
	case errors.Is(err, ErrNotHeld):
		return outcomeNotHeld
	case errors.Is(err, ErrTooLarge):
		return outcomeTooLarge
	case errors.Is(err, errRefused), errors.Is(err, errUnsupported):
		return outcomeRefused
	case errors.As(err, &over):
		return outcomeOverloaded
	}
	return outcomeFailed
}

// close ends all fetches and waits for them.
func (f *fetcher) close() {
	f.mu.Lock()
	f.closed = true
	f.mu.Unlock()
	f.wg.Wait()
}

package client

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"iter"
	"net/url"
	"strconv"
	"strings"
	"time"

	"accessor/forks"
)

// Event is something that has happened to the store; docs/API.md says which members
// each kind has, docs/EVENTS.md when it comes.
type Event struct {
	Kind     string `json:"kind"`     // block, head, reorg, finalized, pruned, walkback, lock, complete, gap
	Position uint64 `json:"position"` // ascending
	TimeMS   int64  `json:"time_ms,omitempty"`

	Block  *Hash       `json:"block,omitempty"`
	Slot   *forks.Slot `json:"slot,omitempty"`
	Root   *Hash       `json:"root,omitempty"`
	Parent *Hash       `json:"parent,omitempty"`

	Old    *About `json:"old,omitempty"`    // of before, if there was one
	Common *About `json:"common,omitempty"` // of a reorg: the newest block on both branches
	Depth  *int   `json:"depth,omitempty"`  // of a reorg: how many blocks of the old branch are left
	Lost   *int   `json:"lost,omitempty"`   // of finalized: how many blocks lost by it
	Pruned *int   `json:"pruned,omitempty"` // of pruned: how many blocks went

	WalkBack *WalkBack  `json:"walkback,omitempty"`
	Lock     *EventLock `json:"lock,omitempty"`

	First *uint64 `json:"first,omitempty"` // of a gap: the first position that can't be given any more
	Last  *uint64 `json:"last,omitempty"`  // of a gap: the last one
}

// EventLock is what became of an import that found its slot locked.
type EventLock struct {
	Block    Hash       `json:"block"` // for which the slot was locked
	Slot     forks.Slot `json:"slot"`
	Owner    string     `json:"owner"`   // who had it locked
	Outcome  string     `json:"outcome"` // waiting, granted, gave-up
	WaitedMS int64      `json:"waited_ms"`
}

// EventOptions says which events are wanted.
type EventOptions struct {
	After       *uint64  // position to go on after; 1 is the oldest kept; nil: what happens from now on
	Kinds       []string // only these; gaps come in any case. None: all
	NoReconnect bool     // a stream that ends is an error
	// Subscribed, unless nil, is called each time when the stream stands: what happens
	// from then on is given.
	Subscribed func()
}

// Bounds of a stream of events.
const (
	defaultRetry = 2 * time.Second
	minRetry     = 10 * time.Millisecond // whatever the server says
	maxRetry     = time.Minute
	eventSilence = time.Minute // the server says every 15 s that it is there
)

// Events gives what happens, from when it is ranged over until the context ends, which
// is its last error (ErrDeadline). A stream that breaks off is taken up again where it
// was, so that no event is missed or comes twice; what the server can't give any more is
// an event of kind gap. It ends with an error where the first connection fails, or the
// server refuses for good (a status of 400 to 499, but for 429).
func (c *Client) Events(ctx context.Context, o EventOptions) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		s := &stream{c: c, o: o, retry: defaultRetry, yield: yield}
		if o.After != nil {
			s.last = strconv.FormatUint(*o.After, 10)
		}
		for first := true; ; first = false {
			err := s.follow(ctx)
			if err == nil {
				return // the caller has had enough
			}
			var e *Error
			ours := errors.As(err, &e) && (e.Kind == ErrBadAnswer || e.Status >= 400 && e.Status < 500 && e.Status != 429)
			if ctx.Err() != nil || ours || o.NoReconnect || first && !s.stood {
				yield(Event{}, err)
				return
			}
			wait := s.retry
			if e != nil {
				wait = max(wait, min(e.RetryAfter, maxRetry))
			}
			select {
			case <-ctx.Done():
				yield(Event{}, broken(ctx, ctx.Err()))
				return
			case <-time.After(wait):
			}
		}
	}
}

// stream is a subscription over all its connections.
type stream struct {
	c     *Client
	o     EventOptions
	yield func(Event, error) bool
	last  string // id; empty where none was seen
	retry time.Duration
	stood bool // there was a connection
}

// follow reads one connection's events. nil: the caller has had enough.
func (s *stream) follow(ctx context.Context) (err error) {
	query := url.Values{}
	if len(s.o.Kinds) > 0 {
		query.Set("kinds", strings.Join(s.o.Kinds, ","))
	}
	r := &request{method: "GET", path: "/v1/events", accept: typeEvents, lastEvent: s.last, endless: true, silence: eventSilence}
	if len(query) > 0 {
		r.path += "?" + query.Encode()
	}
	k, err := s.c.do(ctx, r)
	if err != nil {
		return err
	}
	defer func() { k.end(errStopped) }()
	if k.head.media != typeEvents {
		return badAnswer("events as %.80q", k.head.media)
	}
	in := bufio.NewReader(k.rest)
	standing := s.o.Subscribed
	for {
		e, id, err := s.next(k, in)
		if err != nil {
			return err
		}
		s.stood = true
		if standing != nil {
			standing() // the server sends where the stream stands before all else
			standing = nil
		}
		if e != nil && !s.yield(*e, nil) {
			return nil
		}
		if id != "" {
			s.last = id // only now: an event counts once the caller has had it
		}
	}
}

// next reads up to an empty line: an event, or nil for a sign of life; and its id.
func (s *stream) next(k *conn, in *bufio.Reader) (*Event, string, error) {
	var data []byte
	var id string
	for {
		if k.stop == nil || k.ctx.Err() == nil {
			_ = k.SetReadDeadline(time.Now().Add(eventSilence))
			if k.ctx.Err() != nil { // it ended just before, and its deadline is the one that counts
				_ = k.SetReadDeadline(past)
			}
		}
		line, err := wholeLine(in)
		if err != nil {
			if ctxErr := k.ctx.Err(); ctxErr == nil && isTimeout(err) {
				return nil, "", clientError(ErrConnection, err, "no sign of life for %v", eventSilence)
			}
			return nil, "", broken(k.ctx, err)
		}
		name, value, _ := bytes.Cut(line, []byte(":"))
		value = bytes.TrimPrefix(value, []byte(" "))
		switch string(name) {
		case "id":
			if _, ok := parseNumber(value, 1<<63); !ok {
				return nil, "", badAnswer("event id %.40q", value)
			}
			id = string(value)
		case "data":
			if len(data)+len(value) > maxProblem {
				return nil, "", badAnswer("an event of more than %d bytes", maxProblem)
			}
			data = append(data, value...)
		case "retry":
			if n, ok := parseNumber(value, 1<<40); ok {
				s.retry = max(minRetry, min(time.Duration(n)*time.Millisecond, maxRetry))
			}
		}
		if len(line) > 0 {
			continue
		}
		if data == nil {
			return nil, id, nil
		}
		e := new(Event)
		if err := json.Unmarshal(data, e); err != nil || e.Kind == "" {
			return nil, "", badAnswer("event %.80q: %v", data, err)
		}
		return e, id, nil
	}
}

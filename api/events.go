package api

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"time"

	"accessor/api/access"
	"accessor/forks"
	"accessor/state"
)

const typeEvents = "text/event-stream"

// Defaults of Options, and what a client is told about coming back.
const (
	heartbeat  = 15 * time.Second
	eventStall = 30 * time.Second
	eventRetry = 2 * time.Second
)

// Event is something that has happened to the store, as GET /v1/events tells it.
// docs/EVENTS.md says when each kind comes.
type Event struct {
	Kind     string `json:"kind" enum:"block,head,reorg,finalized,pruned,walkback,lock,complete,gap" doc:"the event's name as well"`
	Position uint64 `json:"position" doc:"the event's id as well: ascending, below 2^53"`
	TimeMS   int64  `json:"time_ms,omitempty" doc:"when it happened, in milliseconds since 1970; a gap has none"`

	Block  *forks.Hash `json:"block,omitempty" doc:"that is held, head, finalized or anchor now, that walked back, or that wants a slot; a gap has none"`
	Slot   *forks.Slot `json:"slot,omitempty" doc:"of the block"`
	Root   *forks.Hash `json:"root,omitempty" doc:"of the block; of a walkback and a lock not known"`
	Parent *forks.Hash `json:"parent,omitempty" doc:"of the block; the anchor may have none"`

	Old    *About `json:"old,omitempty" doc:"head, finalized block or anchor of before, if there was one"`
	Common *About `json:"common,omitempty" doc:"of a reorg: the newest block on both branches"`
	Depth  *int   `json:"depth,omitempty" doc:"of a reorg: how many blocks of the old branch are left"`
	Lost   *int   `json:"lost,omitempty" doc:"of finalized: how many blocks lost by it"`
	Pruned *int   `json:"pruned,omitempty" doc:"of pruned: how many blocks went"`

	WalkBack *WalkBack `json:"walkback,omitempty" doc:"of a walkback"`
	Lock     *LockTold `json:"lock,omitempty" doc:"of a lock"`

	First *uint64 `json:"first,omitempty" doc:"of a gap: the first position that can't be given any more"`
	Last  *uint64 `json:"last,omitempty" doc:"of a gap: the last one"`
}

// LockTold is what became of an import that found its slot locked.
type LockTold struct {
	Block    forks.Hash `json:"block" doc:"for which the slot was locked"`
	Slot     forks.Slot `json:"slot"`
	Owner    string     `json:"owner" doc:"who had it locked"`
	Outcome  string     `json:"outcome" enum:"waiting,granted,gave-up"`
	WaitedMS int64      `json:"waited_ms"`
}

// eventOf gives an event as it is told.
func eventOf(e state.Event) Event {
	out := Event{Kind: e.Kind.String(), Position: e.Position}
	if e.Kind == state.EventGap {
		out.First, out.Last = &e.First, &e.Last
		return out
	}
	out.TimeMS, out.Block, out.Slot = e.Time.UnixMilli(), &e.Block.Hash, &e.Block.Slot
	out.Root, out.Parent = known(e.Block.Root), known(e.Block.Parent)
	switch e.Kind {
	case state.EventHead:
		out.Old = aboutOld(e.Old)
	case state.EventReorg:
		out.Old, out.Common, out.Depth = aboutOld(e.Old), aboutOld(e.Common), &e.Count
	case state.EventFinalized:
		out.Old, out.Lost = aboutOld(e.Old), &e.Count
	case state.EventPruned:
		out.Old, out.Pruned = aboutOld(e.Old), &e.Count
	case state.EventWalkBack:
		out.WalkBack = &WalkBack{From: e.Old.Hash, Blocks: e.Count, Reasons: e.Reasons}
		if e.Reasons == nil {
			out.WalkBack.Reasons = []string{}
		}
	case state.EventLock:
		out.Lock = &LockTold{Block: e.Old.Hash, Slot: e.Old.Slot, Owner: e.Owner, WaitedMS: e.Waited.Milliseconds()}
		if len(e.Reasons) > 0 {
			out.Lock.Outcome = e.Reasons[0]
		}
	}
	return out
}

// known gives nil for a hash that isn't known.
func known(h forks.Hash) *forks.Hash {
	if h == (forks.Hash{}) {
		return nil
	}
	return &h
}

func aboutOld(b forks.Block) *About {
	if b == (forks.Block{}) {
		return nil
	}
	about := aboutBlock(b)
	return &about
}

// eventRoutes are those of what happens.
func eventRoutes() []route {
	return []route{{
		method: http.MethodGet, path: "/v1/events", action: access.ReadEvents, endless: true, serve: (*call).getEvents,
		doc: doc{
			id: "getEvents", tag: "events", summary: "What happens to the store, as server-sent events",
			text: "An event's name is its kind, its id its position, its data the JSON described here. A client that comes back " +
				"with Last-Event-ID, or after, misses nothing, or is told by a gap.",
			params: []param{
				queryParam("kinds", "only these kinds, with commas between; gaps come in any case", textSchema("", 200)),
				queryParam("after", "position to go on after; 1 is the oldest that is kept, default what happens from now on", intSchema(0, 1<<53)),
				{
					in: "header", name: "Last-Event-ID", schema: textSchema("^[0-9]*$", 20),
					text: "as after, which it overrides: browsers send it when they come back",
				},
			},
			answers: []answer{{status: 200, forms: []media{{name: typeEvents, of: Event{}}}}},
		},
	}}
}

// eventKinds reads which kinds of events are wanted; none means all.
func (c *call) eventKinds() ([]state.EventKind, error) {
	text := c.query.Get("kinds")
	if text == "" {
		return nil, nil
	}
	var list []state.EventKind
	for name := range strings.SplitSeq(text, ",") {
		k, err := state.ParseEventKind(name)
		if err != nil {
			return nil, badRequest("kinds: %v", err)
		}
		list = append(list, k)
	}
	return list, nil
}

// eventPosition reads after which event a subscription begins.
func (c *call) eventPosition() (uint64, error) {
	from, text := "after", c.query.Get("after")
	if fields := c.r.Header["Last-Event-Id"]; len(fields) > 1 {
		return 0, badRequest("Last-Event-ID is given %d times", len(fields))
	} else if len(fields) == 1 && fields[0] != "" {
		from, text = "Last-Event-ID", fields[0]
	}
	if text == "" {
		return state.Newest, nil
	}
	after, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0, badRequest("%s: %.40q is no event's id: want a whole number", from, text)
	}
	return after, nil
}

// getEvents is GET /v1/events.
func (c *call) getEvents() error {
	if _, err := c.accepts(typeEvents); err != nil {
		return err
	}
	kinds, err := c.eventKinds()
	if err != nil {
		return err
	}
	after, err := c.eventPosition()
	if err != nil {
		return err
	}
	if c.r.Method == http.MethodHead {
		c.begin(http.StatusOK, typeEvents, -1)
		return nil
	}
	leave, err := c.s.subscribers.enter(c.counted(), c.s.limits)
	if err != nil {
		return err
	}
	defer leave()
	sub := c.core.Subscribe(after, kinds...)
	c.begin(http.StatusOK, typeEvents, -1)
	w := &eventWriter{call: c, control: http.NewResponseController(c.w)}
	w.retry()
	c.follow(sub, w)
	return nil
}

// follow sends events until the client goes or leaves them unread, or the server
// ends: who is cut off comes back and goes on where it was.
func (c *call) follow(sub *state.Subscription, w *eventWriter) {
	ctx, cancel := context.WithCancel(c.r.Context())
	defer cancel()
	defer context.AfterFunc(c.s.closing, cancel)()
	// Where the subscription stands is an id too: who has seen no event of its kinds for
	// long, or none at all, comes back to what happened since.
	for w.alive(sub.Position()) == nil {
		err := c.followUntilBeat(ctx, sub, w)
		switch {
		case err == nil:
			continue
		case w.err != nil: // the client has gone, or doesn't read
		case ctx.Err() == nil: // the store is closed, or can't be read
			_ = c.logged(err)
			w.deadline() // for the end of the answer
		default:
			w.deadline()
		}
		return
	}
}

// followUntilBeat sends events until the next sign of life is due.
func (c *call) followUntilBeat(ctx context.Context, sub *state.Subscription, w *eventWriter) error {
	beat, stop := context.WithTimeout(ctx, c.s.opts.Heartbeat)
	defer stop()
	for {
		e, err := sub.Next(beat)
		switch {
		case err != nil && beat.Err() != nil && ctx.Err() == nil:
			return nil
		case err != nil:
			return err
		}
		if err := w.event(e); err != nil {
			return err
		}
	}
}

// eventWriter writes server-sent events. Its first error stays.
type eventWriter struct {
	call    *call
	control *http.ResponseController
	out     bytes.Buffer
	last    uint64 // id that the client has
	err     error
}

// retry says when to come back: the first line.
func (w *eventWriter) retry() {
	w.out.WriteString("retry: ")
	w.out.WriteString(strconv.FormatInt(eventRetry.Milliseconds(), 10))
	w.out.WriteByte('\n')
}

// alive sends a comment, with an id where the client doesn't have that position: an
// id without data is no event, but remembered by who reads by the rules of SSE.
func (w *eventWriter) alive(position uint64) error {
	w.out.WriteString(":\n")
	if position != w.last {
		w.id(position)
	}
	return w.flush()
}

func (w *eventWriter) id(position uint64) {
	w.last = position
	w.out.WriteString("id: ")
	w.out.WriteString(strconv.FormatUint(position, 10))
	w.out.WriteByte('\n')
}

// event sends an event.
func (w *eventWriter) event(e state.Event) error {
	w.out.WriteString("event: ")
	w.out.WriteString(e.Kind.String())
	w.out.WriteByte('\n')
	w.id(e.Position)
	w.out.WriteString("data: ")
	text := json.NewEncoder(&w.out) // one line, which it ends
	text.SetEscapeHTML(false)
	if err := text.Encode(eventOf(e)); err != nil {
		w.err = err
		return err
	}
	return w.flush()
}

// flush ends what was written and sends it, before the client has left the last of
// it unread for too long.
func (w *eventWriter) flush() error {
	w.out.WriteByte('\n')
	w.deadline()
	_, err := w.call.w.Write(w.out.Bytes()) //nolint:gosec // as in call.bytes
	if err == nil {
		err = w.control.Flush()
	}
	w.out.Reset()
	w.err = err
	return err
}

// deadline bounds what is written next; without effect where the connection has no
// deadlines, as in tests.
func (w *eventWriter) deadline() { _ = w.control.SetWriteDeadline(time.Now().Add(w.call.s.opts.Stall)) }

// subscribers are the streams of events that are open. The zero value has none.
type subscribers struct {
	each clients
	all  requests
}

// enter lets a stream in, and gives what to call at its end. Errors: faults of kind
// too-many-requests and busy.
func (l *subscribers) enter(who clientID, limits Limits) (leave func(), err error) {
	one := l.each.enter(who, limits.Subscribers)
	if one == nil {
		return nil, newFault("too-many-requests", "this client reads %d streams of events", limits.Subscribers)
	}
	if l.all.enter(limits.AllSubscribers) == nil {
		one.leave()
		return nil, newFault("busy", "there are %d streams of events, the most that the server takes; try again later", limits.AllSubscribers)
	}
	return func() {
		l.all.leave()
		one.leave()
	}, nil
}

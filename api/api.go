// Package api serves a state.Accessor over HTTP: blocks, states, drafts, locks and
// pins. Its handlers are thin: they read a request, ask the Core, and write the
// answer.
//
// It owns routes, wire forms, status codes and the limits of what a client may ask
// for. It opens no socket and knows no client but by its access.Client, which the
// listener puts into the request's context: who has none has no role. It never names
// the packages below state.
//
// Invariants: every route is in one table with the action that a role needs for it
// (routes.go); nothing of a body is read before its size is bounded and taken from a
// budget; an answer about a state names the block, slot and root; what a role may not
// read is refused, never left out.
package api

import (
	"context"
	"errors"
	"net/http"
	"runtime/debug"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"accessor/api/access"
	"accessor/forks"
	"accessor/state"
)

// Core is what the handlers need of an accessor. Values and kinds of errors are those
// of package state, whose documentation says what each method does.
type Core interface {
	Stats() state.Stats
	Ready() error
	Partial() bool
	PartialStats() state.PartialStats
	Limits() state.Limits
	Commitment() state.Commitment

	Resolve(name string) (forks.Block, error)
	WaitBlock(ctx context.Context, h forks.Hash) (forks.Block, error)
	Head() forks.Block
	Anchor() forks.Block
	ReadTree(f func(*forks.Tree))
	HasCheckpoint(h forks.Hash) bool

	View(ctx context.Context, h forks.Hash) (*state.View, error)
	DiffWithin(ctx context.Context, from, to forks.Hash, bound state.Bound) ([]state.Difference, forks.Block, error)
	ChangesWithin(ctx context.Context, h forks.Hash, bound state.Bound) (forks.Block, []state.Pair, error)
	HistoryWithin(ctx context.Context, h forks.Hash, key []byte, limit int, bound state.Bound) ([]state.Version, error)

	Import(ctx context.Context, b *state.Block) (state.Result, error)
	ImportWithin(ctx context.Context, b *state.Block, wait time.Duration) (state.Result, error)
	SetHead(h forks.Hash) error
	Finalize(ctx context.Context, h forks.Hash) ([]forks.Block, error)
	Subscribe(after uint64, kinds ...state.EventKind) *state.Subscription

	BeginDraft(ctx context.Context, parent forks.Hash, slot forks.Slot, opts state.DraftOptions) (*state.Draft, error)
	DraftByID(id string) (*state.Draft, error)
	Drafts() []state.DraftInfo

	LockList() []state.Lock
	Reservations() []state.Reservation
	MaxPins() int
	Pin(h forks.Hash, owner string, ttl time.Duration) (state.PinInfo, error)
	RenewPin(id string, ttl time.Duration) (state.PinInfo, error)
	Unpin(id string) error
	PinDirectory(ctx context.Context, id string, access state.PinAccess) (dir string, err error)
	PinDir(id string) (dir string, ok bool)
	Pins() []state.PinInfo

	GuardReplays(guard state.ReplayGuard)
}

var _ Core = (*state.Accessor)(nil)

// Options are what a Server is made with. The zero value works.
type Options struct {
	// Access says which activity may read which state item. Default:
	// access.DefaultTable where the store's states are JAM's, else access.OpenTable.
	Access *access.Table
	// Log gets what operators should know. Default: nothing.
	Log *zap.Logger
	// Limits bound what clients may ask for.
	Limits Limits
	// Observer is told of requests, for metrics.
	Observer Observer
	// Version of the program, for /v1/status and the OpenAPI document.
	Version string
	// Config gives the effective configuration, which GET /v1/config shows to
	// operators. Default: there is no such route.
	Config func() any
	// PinAccess says who may read a pin's directory beside this process.
	PinAccess state.PinAccess
	// Ready gives a reason why the service isn't ready beside those that the core
	// knows, such as that it is stopping; nil for none.
	Ready func() error
	// Peers says who this sidecar is among its peers, for GET /v1/status. Default: nobody.
	Peers func() Peers
	// Items are where items are got by their hash, and put. Default: there are none.
	Items Items
	// Erasure is where work packages are encoded, and put together from shards. Default:
	// there are no such routes.
	Erasure Erasure
	// BodyTime is how long a body may take beside the second that each MiB of it may.
	// Default 10 s.
	BodyTime time.Duration
	// Heartbeat is how often a stream of events shows that it lives. Default 15 s.
	Heartbeat time.Duration
	// Stall is how long a reader may leave events unread, once the buffers on the way
	// are full, before it is cut off. Default 30 s.
	Stall time.Duration
	// Start makes a store from an anchor, for a Server that was made without a core:
	// PUT /v1/anchor calls it once at a time, until it gives a core. The name is that
	// of the commitment in the state file, empty where the file names none. Default:
	// PUT /v1/anchor is refused.
	Start func(ctx context.Context, commitment string, anchor state.Anchor) (Core, error)
}

// Server is the API: an http.Handler. It is safe for concurrent use.
type Server struct {
	opts   Options
	log    *zap.Logger
	limits Limits
	mux    *http.ServeMux
	hot    hotRoutes
	core   atomic.Pointer[running] // nil until there is a store

	bodies      budget
	answers     budget
	items       budget // of items that are fetched or sent
	clients     clients
	replays     replays
	streams     atomic.Int64 // requests of endless routes
	subscribers subscribers
	headings    headings
	views       views
	drafts      owners // who began each draft
	pins        owners // who made each pin
	starting    chan struct{}

	unmatched func(status int, took time.Duration) // told of requests that no route fits; nil for nobody

	openapi []byte // the document

	closing context.Context // ends with Close
	close   context.CancelFunc
}

// running is a core, and what follows from what it is.
type running struct {
	Core
	access *access.Table
	jam    bool // its states are JAM's
}

// New makes a server. A nil core is that of a store that is still to be made: all
// but PUT /v1/anchor and what doesn't need a store is then answered by 503. Error:
// limits that contradict each other.
func New(core Core, opts Options) (*Server, error) {
	limits, err := opts.Limits.withDefaults()
	if err != nil {
		return nil, err
	}
	s := &Server{opts: opts, log: opts.Log, limits: limits, starting: make(chan struct{}, 1)}
	if s.log == nil {
		s.log = zap.NewNop()
	}
	if s.opts.BodyTime <= 0 {
		s.opts.BodyTime = bodyStart
	}
	if s.opts.Heartbeat <= 0 {
		s.opts.Heartbeat = heartbeat
	}
	if s.opts.Stall <= 0 {
		s.opts.Stall = eventStall
	}
	s.bodies.init(limits.Bodies, min(limits.Body, limits.Bodies/4*3))
	s.replays.init(&s.limits)
	s.answers.init(answersAtOnce*limits.Answer, 0)
	s.items.init(itemsAtOnce*MaxItem, itemsAtOnce/4*MaxItem)
	s.closing, s.close = context.WithCancel(context.Background())
	if core != nil {
		s.setCore(core)
	}
	if err := s.register(); err != nil {
		return nil, err
	}
	return s, nil
}

func (s *Server) setCore(core Core) {
	c := core.Commitment()
	r := &running{Core: core, access: s.opts.Access, jam: c.KeySize() == jamKeySize && c.Rooted()}
	switch {
	case r.access != nil:
	case r.jam:
		r.access = access.DefaultTable()
	default:
		r.access = access.OpenTable()
	}
	core.GuardReplays(s.replays.guard)
	s.core.Store(r)
}

// Close ends the streams that are open; those that wait for a block or an event
// among them. What else is on its way goes on. The core is the caller's to close.
func (s *Server) Close() {
	s.close()
	s.views.close()
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	// What a handler leaves of a body net/http reads, for as long as the client likes:
	// before it sends the answer's head, and after the handler.
	bound := func() { _ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(s.opts.BodyTime)) }
	bodiless := r.Body == nil || r.Body == http.NoBody
	if rt, id, key := s.hot.find(r); rt != nil && (bodiless || rt == s.hot.batch) {
		c := s.newCall(rt, w, r)
		c.id, c.key = id, key
		if !s.serve(c) && !bodiless {
			bound()
		}
		return
	}
	if !bodiless {
		bound()
		defer bound()
	}
	if f := checkTarget(r); f != nil {
		c := s.newCall(nil, w, r)
		defer c.ended()
		c.fail(f)
		return
	}
	s.mux.ServeHTTP(w, r)
}

func (s *Server) newCall(rt *route, w http.ResponseWriter, r *http.Request) *call {
	return &call{s: s, core: s.core.Load(), w: w, r: r, route: rt, client: access.ClientOf(r.Context()), began: time.Now()}
}

// serve calls a route's handler, and answers with its error; ok is false where there
// was one.
func (s *Server) serve(c *call) (ok bool) {
	if c.route.endless {
		s.streams.Add(1)
	}
	defer c.ended()
	defer func() {
		switch v := recover(); v {
		case nil:
		case http.ErrAbortHandler:
			panic(v)
		default:
			s.log.Error("panic in a handler", zap.String("method", c.r.Method), zap.String("route", c.routeName()),
				zap.Any("panic", v), zap.ByteString("stack", debug.Stack()))
			c.fail(errPanic)
		}
	}()
	if err := c.run(); err != nil {
		c.fail(err)
		return false
	}
	return true
}

// errPanic: a handler panicked. The log has the reason.
var errPanic = errors.New("panic in a handler")

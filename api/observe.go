package api

import "time"

// Observer is told of what clients ask for, for metrics. Each func may be nil. They are
// called on the way of every request: they must be quick, and never wait.
type Observer struct {
	// Route is asked for each route when the server is made, with its pattern, such as
	// /v1/blocks/{id}; empty for requests that no route fits. What it gives is told of
	// each request of the route that has been answered: its status, and how long it
	// took. Requests that may go on for ever aren't told, but counted: see Load.
	Route func(method, pattern string) func(status int, took time.Duration)
	// Refused: a limit was reached, and a request, or a line of one, was refused for it
	// with an error of a kind. Limits lists both.
	Refused func(limit, kind string)
}

// Refusal is a limit, and the kind of the error that says that it was reached.
type Refusal struct{ Limit, Kind string }

// limitRebuilds is the limit of replays at once; their kind is that of a client's too.
const limitRebuilds = "rebuilds"

// limitOf are the limits by the kinds of their errors.
var limitOf = map[string]string{
	"too-many-requests": "client",
	"replay-limit":      "replay",
	"busy":              "bodies",
	"too-large":         "size",
	"target-too-long":   "size",
	"timeout":           "time",
	"too-many-drafts":   "drafts",
	"too-many-pins":     "pins",
}

// Refusals gives all limits that Observer.Refused is told of.
func Refusals() []Refusal {
	list := []Refusal{{limitRebuilds, "replay-limit"}}
	for kind, limit := range limitOf {
		list = append(list, Refusal{limit, kind})
	}
	return list
}

// Load is what is on its way in a Server.
type Load struct {
	Bodies  int64 // bytes of the budget that bodies have taken
	Budget  int64 // bytes
	Streams int   // requests that may go on for ever, such as those for events
}

// Load says what is on its way now.
func (s *Server) Load() Load {
	return Load{Bodies: s.bodies.taken.Load(), Budget: s.limits.Bodies, Streams: int(s.streams.Load())}
}

// observed gives what is told of a route's requests; nil for nothing.
func (s *Server) observed(method, pattern string) func(status int, took time.Duration) {
	if s.opts.Observer.Route == nil {
		return nil
	}
	return s.opts.Observer.Route(method, pattern)
}

// ended tells of a call that has been answered.
func (c *call) ended() {
	tell := c.s.unmatched
	if c.route != nil {
		if c.route.endless {
			c.s.streams.Add(-1)
			return
		}
		tell = c.route.tell
	}
	if tell != nil {
		tell(c.status, time.Since(c.began))
	}
}

// refused tells of a limit that was reached, if the fault is about one.
func (c *call) refused(f *fault) {
	if f.limit == "" {
		f.limit = limitOf[f.Kind]
	}
	if f.limit != "" && c.s.opts.Observer.Refused != nil {
		c.s.opts.Observer.Refused(f.limit, f.Kind)
	}
}

package api

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"accessor/api/access"
)

// route is one method of one path: all that the server knows of it.
type route struct {
	method, path string
	action       access.Action // that a role must be allowed; 0 where everybody may
	also         access.Action // another one that is enough; 0 for none
	noCore       bool          // it works without a store
	endless      bool          // it isn't counted among its client's requests: it may go on for ever
	serve        func(*call) error
	doc          doc

	s    *Server
	tell func(status int, took time.Duration) // told of each request; nil for nobody
}

// roles gives those that may call it.
func (rt *route) roles() access.Roles { return rt.action.Roles() | rt.also.Roles() }

// public says that everybody may call the route, and that it is cheap.
func (rt *route) public() bool { return rt.action == 0 || rt.endless }

// ServeHTTP implements http.Handler.
func (rt *route) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	rt.s.serve(rt.s.newCall(rt, w, r))
}

// routes is the table of all routes. Another group of routes joins it here.
func (s *Server) routes() []route {
	return slices.Concat(
		blockRoutes(), importRoutes(), anchorRoutes(), stateRoutes(), draftRoutes(), lockRoutes(), eventRoutes(), s.itemRoutes(), s.erasureRoutes(), s.serviceRoutes(),
	)
}

// register enters the routes, and describes them in the OpenAPI document.
func (s *Server) register() error {
	s.mux = http.NewServeMux()
	document := newDocument(s.opts.Version)
	for _, rt := range s.routes() {
		rt.s, rt.tell = s, s.observed(rt.method, rt.path)
		s.mux.Handle(rt.method+" "+rt.path, &rt)
		switch rt.doc.id {
		case "getValue":
			s.hot.value = &rt
		case "getValues":
			s.hot.batch = &rt
		}
		document.add(&rt)
	}
	s.mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		c := s.newCall(nil, w, r)
		defer c.ended()
		c.fail(c.noRoute())
	})
	s.unmatched = s.observed("", "")
	var err error
	s.openapi, err = document.marshal()
	return err
}

// noRoute is the error of a request that no route fits.
func (c *call) noRoute() error {
	var allowed []string
	for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete} {
		other := *c.r
		other.Method = method
		if _, pattern := c.s.mux.Handler(&other); pattern != "/" && pattern != "" {
			allowed = append(allowed, method)
		}
	}
	if len(allowed) == 0 {
		return newFault("not-found", "no such path; GET /v1/openapi.json lists them")
	}
	c.w.Header()["Allow"] = []string{strings.Join(allowed, ", ")}
	return newFault("method-not-allowed", "this path has %s", strings.Join(allowed, ", "))
}

// parseQuery reads the query, which may have the route's parameters alone, each once
// unless it says otherwise.
func (c *call) parseQuery() error {
	if c.r.URL.RawQuery == "" {
		return nil
	}
	query, err := url.ParseQuery(c.r.URL.RawQuery)
	if err != nil {
		return badRequest("the query can't be read: %v", err)
	}
	for name, values := range query {
		p := c.route.doc.param("query", name)
		switch {
		case p == nil:
			return badRequest("no query parameter %.40q; there are: %s", name, c.route.doc.queryNames())
		case len(values) > 1 && !p.many:
			return badRequest("query parameter %s is given %d times", name, len(values))
		}
		for _, v := range values {
			if !utf8.ValidString(v) {
				return badRequest("query parameter %s is not UTF-8", name)
			}
		}
	}
	c.query = query
	return nil
}

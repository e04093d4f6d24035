package main

import (
	"context"
	"net/http"
	"net/http/pprof"
	"strings"
	"time"

	"accessor/api"
	"accessor/api/access"
	"accessor/api/listen"
)

// serveHTTP answers on the API's sockets: what is the program's own, and the rest by
// the API.
func (s *service) serveHTTP(w http.ResponseWriter, r *http.Request) {
	switch path := r.URL.Path; {
	case path == "/metrics":
		s.guarded(w, r, access.ReadMetrics, s.metrics.Handler())
	case path == "/v1/log-level":
		s.guarded(w, r, access.SetLogLevel, levelRoute{s.level, s.log})
	case s.config.Profile && strings.HasPrefix(path, "/debug/pprof/"):
		s.guarded(w, r, access.Profile, profiles())
	case strings.HasPrefix(path, "/debug/pprof/"):
		listen.Refuse(w, http.StatusNotFound, "not-found", "no profiles are served unless the configuration says so (profile)")
	case s.handler.Load() == nil && aboutHealth(path):
		s.healthWhileOpening(w, r)
	default:
		if handler := s.awaitHandler(r.Context()); handler != nil {
			handler.ServeHTTP(w, r)
		} else {
			s.refuseYet(w)
		}
	}
}

// aboutHealth says whether a path is one that is answered at once, also while the
// store is being opened.
func aboutHealth(path string) bool {
	return path == "/livez" || path == "/readyz" || path == "/v1/status"
}

// healthWhileOpening answers what aboutHealth has.
func (s *service) healthWhileOpening(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/livez" {
		s.refuseYet(w)
		return
	}
	w.Header().Set("Content-Type", "text/plain")
	_, _ = w.Write([]byte("ok\n"))
}

// openPatience is how long requests wait for the store to be open, which takes less as
// a rule: so a service that is restarted refuses none.
const openPatience = 2 * time.Second

// awaitHandler gives the API once there is one; nil where that takes too long.
func (s *service) awaitHandler(ctx context.Context) *api.Server {
	if h := s.handler.Load(); h != nil {
		return h
	}
	enough := time.NewTimer(openPatience)
	defer enough.Stop()
	select {
	case <-s.opened:
	case <-s.ending.Done():
	case <-ctx.Done():
	case <-enough.C:
	}
	return s.handler.Load()
}

// refuseYet refuses a request that needs the store.
func (s *service) refuseYet(w http.ResponseWriter) {
	w.Header().Set("Retry-After", "1")
	listen.Refuse(w, http.StatusServiceUnavailable, "not-ready", s.whyNotYet())
}

// guarded lets clients in who may do an action.
func (s *service) guarded(w http.ResponseWriter, r *http.Request, a access.Action, h http.Handler) {
	if c := access.ClientOf(r.Context()); !c.May(a) {
		listen.Refuse(w, http.StatusForbidden, "forbidden",
			"the roles "+c.Roles.String()+" may not "+a.String()+": that is for "+a.Roles().String())
		return
	}
	h.ServeHTTP(w, r)
}

// profiles are the program's own, as go tool pprof asks for them.
func profiles() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	return mux
}

// serveHealth answers on metrics_listen, where anybody may ask: no more than this.
func (s *service) serveHealth(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		listen.Refuse(w, http.StatusMethodNotAllowed, "method-not-allowed", "this address has GET and HEAD alone")
		return
	}
	handler := s.handler.Load()
	switch path := r.URL.Path; {
	case path == "/metrics":
		s.metrics.Handler().ServeHTTP(w, r)
	case aboutHealth(path) && handler != nil:
		handler.ServeHTTP(w, r)
	case aboutHealth(path):
		s.healthWhileOpening(w, r)
	default:
		listen.Refuse(w, http.StatusNotFound, "not-found", "this address has /livez, /readyz, /v1/status and /metrics alone")
	}
}

// whyNotYet says why there is no API yet, or none any more.
func (s *service) whyNotYet() string {
	if s.ending.Err() != nil {
		return "stopping"
	}
	return "recovering: the store is being opened"
}

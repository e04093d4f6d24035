package main

import (
	"net/http"
	"net/http/pprof"
	"strings"

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
	default:
		s.handler.Load().ServeHTTP(w, r)
	}
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
	switch r.URL.Path {
	case "/metrics":
		s.metrics.Handler().ServeHTTP(w, r)
	case "/livez", "/readyz", "/v1/status":
		switch {
		case handler != nil:
			handler.ServeHTTP(w, r)
		case r.URL.Path == "/livez":
			w.Header().Set("Content-Type", "text/plain")
			_, _ = w.Write([]byte("ok\n"))
		default:
			listen.Refuse(w, http.StatusServiceUnavailable, "not-ready", s.whyNotYet())
		}
	default:
		listen.Refuse(w, http.StatusNotFound, "not-found", "this address has /livez, /readyz, /v1/status and /metrics alone")
	}
}

// whyNotYet says why there is no API yet, or none any more.
func (s *service) whyNotYet() string {
	if s.stopping.Load() {
		return "stopping"
	}
	return "recovering: the store is being opened"
}

package listen

import (
	"net/http"
	"slices"
)

// What scripts of the configured pages are told of, by the rules of browsers (CORS).
// Their requests need a token as all others do: a browser adds none by itself.
const (
	corsMethods = "GET, HEAD, POST, PUT, PATCH, DELETE"
	corsHeaders = "Authorization, Content-Type, Accept, If-None-Match, Last-Event-ID, Cache-Control"
	corsExposed = "Accessor-Block, Accessor-Slot, Accessor-Root, ETag, Location, Content-Location, Retry-After, Server-Timing"
	// corsMaxAge is how many seconds a browser may go by such an answer: its limit
	// is two hours or less.
	corsMaxAge = "7200"
)

// allowOrigin tells the browser that the page whose script sent a request may see the
// answer, where it is a configured one. The request's origin was checked before.
func (t *TCP) allowOrigin(h http.Header, r *http.Request) (listed bool) {
	if len(t.Origins) == 0 {
		return false
	}
	h.Add("Vary", "Origin")
	origins := r.Header["Origin"]
	if len(origins) != 1 || !slices.Contains(t.Origins, origins[0]) {
		return false
	}
	h.Set("Access-Control-Allow-Origin", origins[0])
	h.Set("Access-Control-Expose-Headers", corsExposed)
	return true
}

// preflight answers the question that a browser asks, without a token, before a
// script's request; it is false where a request is no such question of a configured
// page.
func (t *TCP) preflight(w http.ResponseWriter, r *http.Request, listed bool) bool {
	if !listed || r.Method != http.MethodOptions || len(r.Header["Access-Control-Request-Method"]) != 1 {
		return false
	}
	h := w.Header()
	h.Set("Access-Control-Allow-Methods", corsMethods)
	h.Set("Access-Control-Allow-Headers", corsHeaders)
	h.Set("Access-Control-Max-Age", corsMaxAge)
	h.Add("Vary", "Access-Control-Request-Method, Access-Control-Request-Headers")
	w.WriteHeader(http.StatusNoContent)
	return true
}

package api

import (
	"net/http"
	"strings"
)

// hotRoutes are the two that are asked most: for them alone there is a shorter way
// than the mux.
type hotRoutes struct{ value, batch *route }

// find gives the hot route of a request, and what its path names. Paths that aren't
// plain go the long way, where they are looked at closely.
func (h *hotRoutes) find(r *http.Request) (rt *route, id, key string) {
	const prefix, state = "/v1/blocks/", "/state"
	path := r.URL.Path
	if r.URL.RawPath != "" || r.URL.RawQuery != "" || len(path) > maxTarget || !strings.HasPrefix(path, prefix) {
		return nil, "", ""
	}
	id, tail, _ := strings.Cut(path[len(prefix):], "/")
	if id == "" || !plain(id) || len(tail) < len(state)-1 || tail[:len(state)-1] != state[1:] {
		return nil, "", ""
	}
	switch key = tail[len(state)-1:]; {
	case r.Method == http.MethodPost && key == "":
		return h.batch, id, ""
	case r.Method == http.MethodGet && len(key) > 1 && key[0] == '/' && plain(key[1:]):
		return h.value, id, key[1:]
	}
	return nil, "", ""
}

// plain says that an element of a path has nothing that would stand for something
// else.
func plain(text string) bool {
	for i := range len(text) {
		if !plainBytes[text[i]] {
			return false
		}
	}
	return true
}

// plainBytes are those of hashes, slots, hex keys, and names of blocks and items.
var plainBytes = func() (table [256]bool) {
	for c := range table {
		letter := 'a' <= c|0x20 && c|0x20 <= 'z'
		table[c] = letter || '0' <= c && c <= '9' || c == ':' || c == '-'
	}
	return table
}()

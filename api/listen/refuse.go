package listen

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
)

// refusal is the answer to a request that doesn't reach the handler.
type refusal struct {
	status int // 0: none
	kind   string
	detail string
}

// problem is RFC 9457's form of an error, with the API's kind.
type problem struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail"`
	Kind   string `json:"kind"`
}

func (r refusal) body() []byte {
	body, err := json.Marshal(problem{Type: "urn:accessor:problem:" + r.kind, Title: http.StatusText(r.status), Status: r.status, Detail: r.detail, Kind: r.kind})
	if err != nil {
		panic(err) // plain fields
	}
	return body
}

// Refuse answers a request with an error in the API's form.
func Refuse(w http.ResponseWriter, status int, kind, detail string) {
	refuse(w, refusal{status, kind, detail})
}

// refuse answers a request.
func refuse(w http.ResponseWriter, r refusal) {
	h := w.Header()
	h.Set("Content-Type", "application/problem+json")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	if r.status == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", `Bearer realm="accessor"`)
	}
	body := r.body()
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(r.status)
	_, _ = w.Write(body) // who has gone needs no answer
}

// Answers to connections that are turned away before any request is read.
var (
	answerForbidden = refusal{http.StatusForbidden, "forbidden-peer",
		"this socket doesn't take connections of your user and groups: operators list those that it takes (uids, gids)"}.whole("")
	answerFull = refusal{http.StatusServiceUnavailable, "too-many-connections",
		"all connections have requests on their way: try again, or keep connections open"}.whole("Retry-After: 1\r\n")
)

// whole gives the answer as it goes over the wire, the connection's last.
func (r refusal) whole(headers string) string {
	body := r.body()
	return fmt.Sprintf("HTTP/1.1 %d %s\r\nContent-Type: application/problem+json\r\nContent-Length: %d\r\n%sConnection: close\r\n\r\n%s",
		r.status, http.StatusText(r.status), len(body), headers, body)
}

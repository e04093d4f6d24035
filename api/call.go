package api

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"golang.org/x/crypto/blake2b"

	"accessor/api/access"
	"accessor/forks"
	"accessor/state"
)

// Media types of bodies and answers.
const (
	typeJSON    = "application/json"
	typeBinary  = "application/octet-stream"
	typeLines   = "application/x-ndjson"
	typeProblem = "application/problem+json"
)

// call is one request on its way, with its answer. It is used by one goroutine.
type call struct {
	s      *Server
	core   *running // nil where there is no store yet
	w      http.ResponseWriter
	r      *http.Request
	route  *route
	client access.Client
	began  time.Time
	id     string // of the path, where the mux didn't find the route
	key    string // likewise
	query  url.Values
	tier   string      // that served the answer
	asked  atomic.Bool // peers, by a read
	sent   bool        // the answer's head is on its way
	status int         // of that

	etag, spent [1]string // values of headers: no memory of their own
}

func (c *call) routeName() string {
	if c.route == nil {
		return ""
	}
	return c.route.path
}

// who names the client for ownership and the limit of replays.
func (c *call) who() string { return whoIs(&c.client) }

// counted is who, for limits.
func (c *call) counted() clientID { return clientID{c.client.TCP, c.client.UID, c.client.Name} }

// pathID is what the path names, a block as a rule.
func (c *call) pathID() string {
	if c.id != "" {
		return c.id
	}
	return c.r.PathValue("id")
}

// checkTarget refuses targets that no route has: before the mux, which would answer
// some of them by a redirect.
func checkTarget(r *http.Request) *fault {
	u := r.URL
	switch {
	case len(u.Path)+len(u.RawQuery) > maxTarget:
		return newFault("target-too-long", "path and query have %d bytes, at most %d", len(u.Path)+len(u.RawQuery), maxTarget)
	case !strings.HasPrefix(u.Path, "/"):
		return newFault("not-found", "no such path")
	case !utf8.ValidString(u.Path):
		return badRequest("the path is not UTF-8")
	case path.Clean(u.EscapedPath()) != u.EscapedPath():
		return newFault("not-found", "the path has empty, . or .. elements, or ends in a slash")
	case r.Method == http.MethodConnect:
		return newFault("method-not-allowed", "CONNECT is nothing that this server does")
	}
	return nil
}

// run calls the route's handler, once the client may call it.
func (c *call) run() error {
	rt := c.route
	if rt.action != 0 && c.client.Roles&rt.roles() == 0 {
		f := newFault("forbidden", "that is for %s; this client's roles: %s", rt.roles(), c.client.Roles)
		f.Action = rt.action.String()
		return f
	}
	if c.client.NoImport && c.client.Roles.May(rt.action) && !c.client.May(rt.action) {
		f := newFault("forbidden", "nothing is imported over TCP unless the configuration allows it (tcp.import)")
		f.Action = rt.action.String()
		return f
	}
	if c.core == nil && !rt.noCore {
		return newFault("no-store", "the store is empty: give it an anchor first (PUT /v1/anchor)")
	}
	if !rt.public() {
		busy := c.s.clients.enter(c.counted(), c.s.limits.Client)
		if busy == nil {
			return newFault("too-many-requests", "this client has %d requests on their way", c.s.limits.Client)
		}
		defer busy.leave()
	}
	if err := c.parseQuery(); err != nil {
		return err
	}
	if c.core != nil && c.core.Partial() {
		c.r = c.r.WithContext(state.NoteAsking(c.r.Context(), &c.asked))
	}
	return rt.serve(c)
}

// About says which block an answer is about.
type About struct {
	Block forks.Hash `json:"block" doc:"header hash" pattern:"^[0-9a-f]{64}$"`
	Slot  forks.Slot `json:"slot" doc:"timeslot"`
	Root  forks.Hash `json:"root" doc:"state root after the block" pattern:"^[0-9a-f]{64}$"`
}

func aboutBlock(b forks.Block) About { return About{b.Hash, b.Slot, b.Root} }

// names puts the block into the answer's headers.
func (c *call) names(b forks.Block) {
	at := c.s.headings.at(b)
	h := c.w.Header()
	h["Accessor-Block"] = at.block
	h["Accessor-Slot"] = at.slot
	h["Accessor-Root"] = at.root
}

// block finds the block that the path names, once for the whole request. byHash says
// that it is named by its whole hash: then answers about its state never change.
func (c *call) block() (b forks.Block, byHash bool, err error) {
	id := c.pathID()
	if b, err = c.core.Resolve(id); err != nil {
		return b, false, err
	}
	c.names(b)
	return b, wholeHash(id), nil
}

// wholeHash says whether a block's name is its whole hash, which always names the
// same one; digits alone are a slot, however many.
func wholeHash(id string) bool {
	text, hex := strings.CutPrefix(id, "0x")
	return len(text) == 2*forks.HashSize && (hex || strings.Trim(text, "0123456789") != "")
}

// blockID names a block by its whole hash: with 0x where it has no letter, else it
// would be a slot.
func blockID(h forks.Hash) string {
	text := h.String()
	if strings.Trim(text, "0123456789") == "" {
		return "0x" + text
	}
	return text
}

// located gives the path of this request with its block named by its hash.
func (c *call) located(b forks.Block) string {
	const prefix = "/v1/blocks/"
	target := c.r.URL.EscapedPath()
	if rest, ok := strings.CutPrefix(target, prefix); ok {
		target = prefix + blockID(b.Hash)
		if _, tail, ok := strings.Cut(rest, "/"); ok {
			target += "/" + tail
		}
	}
	if c.r.URL.RawQuery != "" {
		target += "?" + c.r.URL.RawQuery
	}
	return target
}

// immutable sets the headers of an answer that is a function of states and the
// request, and says whether the client has that answer already: it is then sent. where
// is the target that names all blocks by their hashes; fixed says that the request
// itself does.
func (c *call) immutable(where, form string, fixed bool, blocks ...forks.Block) (sent bool) {
	hash, _ := blake2b.New256(nil) // fails for a key that is too long alone
	for _, b := range blocks {
		hash.Write(b.Hash[:])
		hash.Write(b.Root[:])
	}
	hash.Write([]byte(form))
	hash.Write([]byte{0})
	hash.Write([]byte(where))
	const digits = "0123456789abcdef"
	sum := hash.Sum(nil)
	tag := make([]byte, 0, 34)
	tag = append(tag, '"')
	for _, b := range sum[:16] {
		tag = append(tag, digits[b>>4], digits[b&15])
	}
	return c.tagged(string(append(tag, '"')), where, fixed)
}

// tagged is immutable with an ETag that is known.
func (c *call) tagged(etag, where string, fixed bool) (sent bool) {
	h := c.w.Header()
	c.etag[0] = etag
	h["Etag"] = c.etag[:]
	if before := h["Vary"]; len(before) > 0 {
		h["Vary"] = append(before, "Accept") // to the listener's
	} else {
		h["Vary"] = headerAccept
	}
	if fixed {
		h["Cache-Control"] = headerImmutable
	} else {
		h["Cache-Control"] = headerNoCache
		h["Content-Location"] = []string{where}
	}
	if !matches(c.r.Header["If-None-Match"], etag) {
		return false
	}
	c.begin(http.StatusNotModified, "", -1)
	return true
}

// matches says whether an If-None-Match has an entity tag, strong or weak.
func matches(fields []string, etag string) bool {
	for _, f := range fields {
		for one := range strings.SplitSeq(f, ",") {
			one = strings.TrimPrefix(strings.TrimSpace(one), "W/")
			if one == etag { // * is passed over: whether there is anything isn't known yet
				return true
			}
		}
	}
	return false
}

// accepts gives the one of the media types offered that the client likes best; the first
// where it names none. Error: a fault of kind not-acceptable.
func (c *call) accepts(offered ...string) (string, error) {
	fields := c.r.Header["Accept"]
	if len(fields) == 0 {
		return offered[0], nil
	}
	if i := slices.Index(offered, fields[0]); i >= 0 {
		return offered[i], nil // as programs ask
	}
	best, weight := "", 0.0
	for _, f := range fields {
		for one := range strings.SplitSeq(f, ",") {
			name, params, _ := strings.Cut(one, ";")
			name = strings.ToLower(strings.TrimSpace(name))
			if name == "*/*" || name == "application/*" || name == "" {
				name = offered[0]
			}
			if q := quality(params); q > weight && slices.Contains(offered, name) {
				best, weight = name, q
			}
		}
	}
	if best != "" {
		return best, nil
	}
	return "", newFault("not-acceptable", "this comes as %s", strings.Join(offered, " or "))
}

// quality is the weight that a media type's parameters give it; 1 where they give none.
func quality(params string) float64 {
	for one := range strings.SplitSeq(params, ";") {
		name, value, _ := strings.Cut(one, "=")
		if strings.TrimSpace(strings.ToLower(name)) != "q" {
			continue
		}
		if q, err := strconv.ParseFloat(strings.TrimSpace(value), 64); err == nil {
			return q
		}
	}
	return 1
}

// begin sends the answer's head. A size below 0 is unknown.
func (c *call) begin(status int, media string, size int) {
	h := c.w.Header()
	if media != "" {
		h["Content-Type"] = headerOf(media)
	}
	if size >= 0 {
		h["Content-Length"] = []string{strconv.Itoa(size)}
	}
	if len(h["Cache-Control"]) == 0 {
		h["Cache-Control"] = headerNoStore
	}
	if media != typeBinary {
		// Nobody guesses what octets are; and more than eight headers cost net/http twice
		// as much as eight.
		h["X-Content-Type-Options"] = headerNoSniff
	}
	c.spent[0] = c.timing()
	h["Server-Timing"] = c.spent[:]
	c.sent, c.status = true, status
	c.w.WriteHeader(status)
}

// timing says which tier served the answer and how long it took, in milliseconds.
func (c *call) timing() string {
	tier := c.tier
	switch {
	case c.asked.Load() && tier != tierImport:
		tier = tierPeers
	case tier == "":
		tier = "tree"
	}
	var room [48]byte // more than any tier's name and a time
	b := append(room[:0], tier...)
	b = append(b, ";dur="...)
	micros := time.Since(c.began).Microseconds()
	b = append(strconv.AppendInt(b, micros/1000, 10), '.', byte('0'+micros/100%10), byte('0'+micros/10%10), byte('0'+micros%10))
	return string(b)
}

// countedByServer is the size below which net/http counts an answer by itself, for
// less than a header costs.
const countedByServer = 2048

// bytes sends a whole answer. Its error is the client's, who has gone: nobody is left
// to be told.
func (c *call) bytes(status int, media string, b []byte) error {
	size := len(b)
	if size < countedByServer {
		size = -1
	}
	c.begin(status, media, size)
	_, _ = c.w.Write(b) //nolint:gosec // no browser takes it for a page: its type is said, and not to be guessed
	return nil
}

// json sends a value as JSON.
func (c *call) json(status int, v any) error {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return err
	}
	return c.bytes(status, typeJSON, b.Bytes())
}

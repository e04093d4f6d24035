package api

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"

	"accessor/forks"
	"accessor/state"
	"accessor/state/merkle"
)

// Problem is an error as it is answered: RFC 9457, application/problem+json. Programs
// go by Kind, which never changes; Detail is for people.
type Problem struct {
	Type   string `json:"type" doc:"urn:accessor:problem: and the kind"`
	Title  string `json:"title" doc:"what the kind means"`
	Status int    `json:"status"`
	Kind   string `json:"kind" doc:"stable name of the error"`
	Detail string `json:"detail,omitempty" doc:"for people"`

	Nearest    *About      `json:"nearest,omitempty" doc:"the nearest block that is held: below the slot, or the head where a hash is unknown"`
	Candidates []About     `json:"candidates,omitempty" doc:"blocks that the name fits"`
	Declared   *forks.Hash `json:"declared,omitempty" doc:"the root that was stated"`
	Actual     *forks.Hash `json:"actual,omitempty" doc:"the root that came out"`
	Holder     *Holder     `json:"holder,omitempty" doc:"who has the slot"`
	Obstacles  []Obstacle  `json:"obstacles,omitempty" doc:"why no ancestor's checkpoint can be used"`
	Block      *forks.Hash `json:"block,omitempty" doc:"the block that the answer is about"`
	Slot       *forks.Slot `json:"slot,omitempty"`
	Root       *forks.Hash `json:"root,omitempty"`
	Key        string      `json:"key,omitempty" doc:"the key that the error is about, in hex"`
	Item       string      `json:"item,omitempty" doc:"the state item that the role may not read"`
	Action     string      `json:"action,omitempty" doc:"what the role may not do"`
}

// Holder is who has a slot.
type Holder struct {
	Slot  forks.Slot  `json:"slot"`
	Block *forks.Hash `json:"block,omitempty" doc:"that is being written"`
	Owner string      `json:"owner"`
	AgeMS int64       `json:"age_ms" doc:"how long, in milliseconds"`
}

// Obstacle is a block whose checkpoint can't be used, and why.
type Obstacle struct {
	About
	Reason string `json:"reason"`
}

// kind is what all errors of a kind have in common.
type kind struct {
	status int
	title  string
}

// kinds are the kinds of errors that there are: docs/API.md lists them.
var kinds = map[string]kind{
	"bad-request":            {400, "The request doesn't make sense"},
	"bad-block-id":           {400, "Not a block's name"},
	"bad-key":                {400, "Not a key of this store"},
	"bad-body":               {400, "The body isn't what it should be"},
	"ambiguous-block":        {400, "Several blocks answer to that name"},
	"forbidden":              {403, "The client's roles may not do that"},
	"forbidden-item":         {403, "The client's roles may not read that state item"},
	"not-found":              {404, "No such path"},
	"unknown-block":          {404, "The block is not held"},
	"absent-key":             {404, "The state has no such key"},
	"unknown-draft":          {404, "No such draft"},
	"unknown-pin":            {404, "No such pin"},
	"unknown-item":           {404, "Nobody who could be asked has the item"},
	"no-changes":             {404, "The anchor has a whole state, no changes"},
	"method-not-allowed":     {405, "The path has no such method"},
	"not-acceptable":         {406, "The answer has no such form"},
	"timeout":                {408, "The body didn't come in time"},
	"conflict":               {409, "The block is held with other content"},
	"not-descendant":         {409, "Not a descendant of the finalized block"},
	"not-empty":              {409, "The store has an anchor"},
	"no-roots":               {409, "The store's states have no roots"},
	"no-directory":           {409, "The pin can't have a directory"},
	"draft-committing":       {409, "The draft is being committed"},
	"pruned":                 {410, "The block was pruned"},
	"draft-over":             {410, "The draft is over"},
	"too-large":              {413, "Too large"},
	"target-too-long":        {414, "Path and query are too long"},
	"unsupported-media-type": {415, "The body has no such form"},
	"invalid-block":          {422, "The block breaks the chain's form or the store's limits"},
	"wrong-root":             {422, "The write set leads to another root"},
	"prior-root":             {422, "The prior root is not the parent's root"},
	"slot-order":             {422, "The slot is not above the parent's"},
	"invalid-anchor":         {422, "The anchor can't be used"},
	"bad-encoding":           {422, "Whoever encoded the item did it wrongly"},
	"locked":                 {423, "The slot is locked"},
	"reserved":               {423, "The slot is reserved for another's draft"},
	"too-many-requests":      {429, "Too many requests of this client"},
	"too-many-drafts":        {429, "Too many drafts are open"},
	"too-many-pins":          {429, "Too many pins"},
	"replay-limit":           {429, "Too much work on old blocks"},
	"client-gone":            {499, "The client has gone"},
	"internal":               {500, "Something is wrong with the server or its disk"},
	"undecided":              {500, "Whether the block is held is known after a restart"},
	"unavailable":            {503, "The state can't be reached now"},
	"partial":                {503, "That needs the whole state, which isn't here yet"},
	"not-fetched":            {503, "What is missing here could not be had from peers"},
	"busy":                   {503, "The server has too much to do"},
	"read-only":              {503, "The store can't be written to"},
	"no-store":               {503, "The store is empty"},
	"not-ready":              {503, "Not ready"},
	"closing":                {503, "The server is stopping"},
	"out-of-space":           {507, "No space left"},
}

// fault is an error of this package: its problem.
type fault struct {
	Problem
	retry time.Duration // for Retry-After
	limit string        // that was reached, where the kind has several
}

// Error implements error.
func (f *fault) Error() string { return f.Kind + ": " + f.Detail }

// newFault makes an error of a kind.
func newFault(name, format string, args ...any) *fault {
	k, ok := kinds[name]
	if !ok {
		panic("api: unknown kind of error " + name)
	}
	return &fault{Problem: Problem{
		Type: "urn:accessor:problem:" + name, Title: k.title, Status: k.status, Kind: name,
		Detail: fmt.Sprintf(format, args...),
	}}
}

func badRequest(format string, args ...any) *fault { return newFault("bad-request", format, args...) }
func badBody(format string, args ...any) *fault    { return newFault("bad-body", format, args...) }

// absentKey: the state doesn't have a key.
func absentKey(key []byte) *fault {
	f := newFault("absent-key", "the state has no key %x", key)
	f.Key = hex.EncodeToString(key)
	return f
}

// forbiddenItem: the role may not read a state item.
func forbiddenItem(item string) *fault {
	f := newFault("forbidden-item", "the client's roles may not read %s; nothing of the answer is sent", item)
	f.Item = item
	return f
}

// kindOf are the kinds of the errors of a Core, the more special ones first.
var kindOf = []struct {
	err  error
	kind string
}{
	{state.ErrNotFetched, "not-fetched"}, // whatever peers said beside
	{ErrNoStore, "no-store"},
	{ErrUnknownItem, "unknown-item"},
	{ErrEncoding, "bad-encoding"},
	{ErrWrongShard, "bad-body"},
	{state.ErrPartial, "partial"},
	{state.ErrBadName, "bad-block-id"},
	{state.ErrAmbiguous, "ambiguous-block"},
	{state.ErrUnknownParent, "unknown-block"},
	{state.ErrPruned, "pruned"},
	{state.ErrUnknownBlock, "unknown-block"},
	{state.ErrSlotOrder, "slot-order"},
	{state.ErrPriorRoot, "prior-root"},
	{state.ErrWrongRoot, "wrong-root"},
	{state.ErrConflict, "conflict"},
	{state.ErrNotDescendant, "not-descendant"},
	{state.ErrReserved, "reserved"},
	{state.ErrLocked, "locked"},
	{state.ErrTooManyDrafts, "too-many-drafts"},
	{state.ErrUnknownDraft, "unknown-draft"},
	{state.ErrDraftExpired, "draft-over"},
	{state.ErrDraftOver, "draft-over"},
	{state.ErrDraftCommitting, "draft-committing"},
	{state.ErrDraftTooLarge, "too-large"},
	{state.ErrTooLarge, "too-large"},
	{state.ErrTooManyPins, "too-many-pins"},
	{state.ErrUnknownPin, "unknown-pin"},
	{state.ErrPinTime, "bad-request"},
	{state.ErrNoTrie, "no-roots"},
	{merkle.ErrOrder, "bad-request"},
	{state.ErrInvalid, "invalid-block"},
	{state.ErrNoSpace, "out-of-space"},
	{state.ErrUnavailable, "unavailable"},
	{state.ErrLinks, "unavailable"},
	{state.ErrAccess, "no-directory"},
	{state.ErrReadOnly, "read-only"},
	{state.ErrUndecided, "undecided"},
	{state.ErrClosed, "closing"},
	{context.Canceled, "client-gone"},
	{context.DeadlineExceeded, "busy"},
}

// faultOf gives the problem that an error is answered by. One that isn't the client's
// doing is not told in detail: the log has it.
func faultOf(err error) *fault {
	var f *fault
	if errors.As(err, &f) {
		return f
	}
	for _, k := range kindOf {
		if errors.Is(err, k.err) {
			f = newFault(k.kind, "%v", err)
			switch k.kind {
			case "not-fetched": // what it wraps is about the peers
				f.Detail = clipped(f.Detail)
			case "partial":
				f.retry = partialRetry
			default:
				f.members(err)
			}
			return f
		}
	}
	return newFault("internal", "the log says what it is")
}

// partialRetry is when to come back for what needs the whole state.
const partialRetry = 10 * time.Second

// mostTold is the most bytes of an error's text that peers may have had a part in.
const mostTold = 512

// clipped shortens such a text.
func clipped(text string) string {
	if len(text) > mostTold {
		text = text[:mostTold] + "…"
	}
	return strings.ToValidUTF8(text, "�")
}

// members fills in what the error's type carries.
func (f *fault) members(err error) {
	var (
		none      *state.NoBlockError
		many      *state.AmbiguousError
		root      *state.RootError
		locked    *state.LockedError
		reserved  *state.ReservedError
		obstacles *state.UnavailableError
	)
	if errors.As(err, &none) && none.Nearest != nil {
		nearest := aboutBlock(*none.Nearest)
		f.Nearest = &nearest
	}
	if errors.As(err, &many) {
		for _, b := range many.Candidates[:min(len(many.Candidates), 100)] {
			f.Candidates = append(f.Candidates, aboutBlock(b))
		}
	}
	if errors.As(err, &root) {
		f.Declared, f.Actual = &root.Declared, &root.Actual
	}
	if errors.As(err, &locked) {
		f.Holder = &Holder{Slot: locked.Slot, Block: &locked.Block, Owner: locked.Owner, AgeMS: locked.Age.Milliseconds()}
	}
	if errors.As(err, &reserved) {
		f.Holder = &Holder{Slot: reserved.Slot, Owner: reserved.Owner, AgeMS: reserved.Age.Milliseconds()}
	}
	if errors.As(err, &obstacles) {
		for _, o := range obstacles.Obstacles[:min(len(obstacles.Obstacles), 100)] {
			f.Obstacles = append(f.Obstacles, Obstacle{aboutBlock(o.Block), o.Err.Error()})
		}
	}
}

// logged gives the problem of an error; what is the server's doing goes into the log.
func (c *call) logged(err error) *fault {
	f := faultOf(err)
	c.refused(f)
	if f.Status >= http.StatusInternalServerError && f.Status != http.StatusServiceUnavailable {
		c.s.log.Error("request failed", zap.String("method", c.r.Method), zap.String("route", c.routeName()),
			zap.String("kind", f.Kind), zap.Error(err))
	}
	return f
}

// placed names the block that a problem is about, as the answer's headers do; and of a
// block that isn't held, which is nowhere near any other as far as its hash says, the
// head as the nearest.
func (c *call) placed(f *fault) {
	if f.Kind == "unknown-block" && f.Nearest == nil && c.core != nil {
		head := aboutBlock(c.core.Head())
		f.Nearest = &head
	}
	h := c.w.Header()
	if len(h["Accessor-Block"]) == 0 || f.Block != nil {
		return
	}
	block, err := forks.ParseHash(h.Get("Accessor-Block"))
	if err != nil {
		return
	}
	f.Block = &block
	if slot, err := strconv.ParseUint(h.Get("Accessor-Slot"), 10, 32); err == nil {
		at := forks.Slot(slot)
		f.Slot = &at
	}
	if root, err := forks.ParseHash(h.Get("Accessor-Root")); err == nil {
		f.Root = &root
	}
}

// fail answers with an error; where an answer is on its way already, it can only be
// broken off.
func (c *call) fail(err error) {
	f := c.logged(err)
	if c.sent {
		panic(http.ErrAbortHandler) // the client sees that the answer isn't whole
	}
	h := c.w.Header()
	for _, name := range []string{"Etag", "Content-Location", "Vary"} {
		delete(h, name)
	}
	h["Cache-Control"] = []string{"no-store"}
	c.placed(f)
	switch f.Status {
	case http.StatusTooManyRequests, http.StatusServiceUnavailable, http.StatusLocked:
		h["Retry-After"] = []string{strconv.Itoa(max(1, int(f.retry/time.Second)))}
	}
	text, merr := json.Marshal(f.Problem)
	if merr != nil {
		text = []byte(`{"kind":"internal"}`)
	}
	_ = c.bytes(f.Status, typeProblem, append(text, '\n'))
}

// Kinds gives the kinds of errors with their statuses, as docs/API.md lists them.
func Kinds() map[string]int {
	out := make(map[string]int, len(kinds))
	for name, k := range kinds {
		out[name] = k.status
	}
	return out
}

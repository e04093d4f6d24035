package api

import (
	"context"
	"encoding/hex"
	"errors"
	"net/http"
	"time"

	"accessor/api/access"
	"accessor/forks"
	"accessor/state"
	"accessor/trace"
)

// draftBody is the request of POST /v1/drafts.
type draftBody struct {
	Parent string     `json:"parent" doc:"block, named as in paths"`
	Slot   forks.Slot `json:"slot"`
	Owner  string     `json:"owner,omitempty" doc:"whose drafts may share the slot; default nobody's"`
	TTL    int64      `json:"ttl_ms,omitempty" doc:"how long the lease lasts, in milliseconds; default 30,000, at most 60,000"`
}

// Draft describes a draft.
type Draft struct {
	ID        string     `json:"id"`
	Parent    About      `json:"parent" doc:"whose state the draft changes"`
	Slot      forks.Slot `json:"slot"`
	Owner     string     `json:"owner"`
	AgeMS     int64      `json:"age_ms"`
	ExpiresMS *int64     `json:"expires_ms" doc:"in how many milliseconds; null while it is being committed"`
	Bytes     int        `json:"bytes"`
	Writes    int        `json:"writes" doc:"keys that are put or deleted"`
}

type draftList struct {
	Drafts []Draft `json:"drafts" nullable:"false" doc:"oldest first"`
}

// ttlBody says how long a lease or a pin lasts from now.
type ttlBody struct {
	TTL int64 `json:"ttl_ms,omitempty" doc:"in milliseconds"`
}

// commitBody is the request of POST /v1/drafts/{id}/commit.
type commitBody struct {
	Hash     forks.Hash  `json:"hash"`
	PostRoot *forks.Hash `json:"post_root,omitempty" doc:"compared with the root that comes out where it is given"`
	Header   *string     `json:"header,omitempty" doc:"the encoded header in hex, which is checked and kept"`
}

// valueBody is a value as JSON.
type valueBody struct {
	Value string `json:"value" doc:"in hex"`
}

// writesBody is the JSON of a write set, for the document: trace.ParseWrites reads it.
type writesBody struct {
	Puts [][]string `json:"puts,omitempty" nullable:"false" doc:"[key, value] in hex"`
	Dels []string   `json:"dels,omitempty" nullable:"false" doc:"keys in hex"`
}

func describeDraft(d state.DraftInfo) Draft {
	out := Draft{
		ID: d.ID, Parent: aboutBlock(d.Parent), Slot: d.Slot, Owner: d.Owner,
		AgeMS: d.Age.Milliseconds(), Bytes: d.Bytes, Writes: d.Writes,
	}
	out.ExpiresMS = untilMS(d.Expires)
	return out
}

// untilMS gives the milliseconds until then; nil for no time.
func untilMS(then time.Time) *int64 {
	if then.IsZero() {
		return nil
	}
	ms := max(0, time.Until(then).Milliseconds())
	return &ms
}

// ttl reads a time in milliseconds; 0 is for the caller to understand. Error: a fault of kind
// bad-request.
func ttl(ms int64, most time.Duration) (time.Duration, error) {
	if ms < 0 || ms > most.Milliseconds() {
		return 0, badTTL(ms, most)
	}
	return time.Duration(ms) * time.Millisecond, nil
}

func badTTL(ms int64, most time.Duration) error {
	return badRequest("ttl_ms is %d, want milliseconds above 0 and at most %d", ms, most.Milliseconds())
}

// postDraft is POST /v1/drafts.
func (c *call) postDraft() error {
	c.tier = "draft"
	var req draftBody
	err := c.small(map[string]any{
		"parent": &req.Parent, "slot": &req.Slot, "owner": &req.Owner, "ttl_ms": &req.TTL,
	}, "parent", "slot")
	if err != nil {
		return err
	}
	lease, err := ttl(req.TTL, state.MaxDraftTTL)
	if err != nil {
		return err
	}
	if len(req.Owner) > state.MaxDraftOwner {
		return badRequest("owner has %d bytes, at most %d", len(req.Owner), state.MaxDraftOwner)
	}
	parent, err := c.core.Resolve(req.Parent)
	if err != nil {
		return err
	}
	d, err := c.beginDraft(parent.Hash, req.Slot, state.DraftOptions{Owner: req.Owner, TTL: lease})
	if err != nil {
		return err
	}
	c.w.Header()["Location"] = []string{"/v1/drafts/" + d.ID()}
	return c.sendDraft(http.StatusCreated, d)
}

// beginDraft begins a draft that is the client's.
func (c *call) beginDraft(parent forks.Hash, slot forks.Slot, opts state.DraftOptions) (*state.Draft, error) {
	const most = state.MaxDrafts / clientShare
	core := c.core
	live := func() (ids []string) {
		for _, d := range core.Drafts() {
			ids = append(ids, d.ID)
		}
		return ids
	}
	begun, ok := c.s.drafts.begin(c.who(), most, live)
	if !ok {
		return nil, newFault("too-many-drafts", "this client has %d drafts, the most of one client: commit or drop one of them", most)
	}
	d, err := core.BeginDraft(c.r.Context(), parent, slot, opts)
	if err != nil {
		begun("")
		return nil, err
	}
	begun(d.ID())
	return d, nil
}

func (c *call) sendDraft(status int, d *state.Draft) error {
	info, err := d.Info()
	if err != nil {
		return err
	}
	c.names(info.Parent)
	return c.json(status, describeDraft(info))
}

// getDrafts is GET /v1/drafts.
func (c *call) getDrafts() error {
	out := draftList{Drafts: []Draft{}}
	for _, d := range c.core.Drafts() {
		out.Drafts = append(out.Drafts, describeDraft(d))
	}
	return c.json(http.StatusOK, out)
}

// findDraft gives the draft that the path names. Of one that is over its client, or
// who may drop any, is told so as long as that is remembered.
func (c *call) findDraft() (*state.Draft, error) {
	id := c.r.PathValue("id")
	d, err := c.core.DraftByID(id)
	if err == nil {
		return d, nil
	}
	if p, ok := c.s.drafts.fate(id); ok && (p.who == c.who() || c.client.Roles.May(access.DropAnyDraft)) {
		return nil, newFault("draft-over", "%s", p.fate)
	}
	return nil, err
}

// draft gives the draft that the path names, which must be the client's own, and names
// its parent in the answer's headers.
func (c *call) draft() (*state.Draft, state.DraftInfo, error) {
	c.tier = "draft"
	d, err := c.findDraft()
	if err != nil {
		return nil, state.DraftInfo{}, err
	}
	if !c.s.drafts.has(d.ID(), c.who()) {
		return nil, state.DraftInfo{}, newFault("forbidden", "that draft is another client's")
	}
	info, err := d.Info()
	if err != nil {
		return nil, info, err
	}
	c.names(info.Parent)
	return d, info, nil
}

// draftKey gives the draft and the key that the path names.
func (c *call) draftKey() (d *state.Draft, info state.DraftInfo, key []byte, err error) {
	if d, info, err = c.draft(); err == nil {
		key, err = c.pathKey()
	}
	return d, info, key, err
}

// getDraft is GET /v1/drafts/{id}.
func (c *call) getDraft() error {
	d, _, err := c.draft()
	if err != nil {
		return err
	}
	return c.sendDraft(http.StatusOK, d)
}

// deleteDraft is DELETE /v1/drafts/{id}: by who has it, or by who may drop any.
func (c *call) deleteDraft() error {
	c.tier = "draft"
	d, err := c.findDraft()
	if err != nil {
		return err
	}
	if !c.client.Roles.May(access.DropAnyDraft) && !c.s.drafts.has(d.ID(), c.who()) {
		return newFault("forbidden", "that draft is another client's")
	}
	if info, err := d.Info(); err == nil {
		c.names(info.Parent)
	}
	if err := d.Drop(); err != nil {
		return err
	}
	c.s.drafts.over(d.ID(), "the draft was dropped")
	return c.done()
}

// done answers with nothing but headers.
func (c *call) done() error {
	c.begin(http.StatusNoContent, "", -1)
	return nil
}

// renewDraft is POST /v1/drafts/{id}/renew.
func (c *call) renewDraft() error {
	d, _, err := c.draft()
	if err != nil {
		return err
	}
	var req ttlBody
	if err := c.small(map[string]any{"ttl_ms": &req.TTL}); err != nil {
		return err
	}
	lease, err := ttl(req.TTL, state.MaxDraftTTL)
	if err != nil {
		return err
	}
	if err := d.Renew(lease); err != nil {
		return err
	}
	return c.sendDraft(http.StatusOK, d)
}

// maxHeaderHex is the most bytes of a commit's body, most of which is the header.
const maxHeaderHex = 4 << 20

// commitDraft is POST /v1/drafts/{id}/commit.
func (c *call) commitDraft() error {
	d, _, err := c.draft()
	if over := (*fault)(nil); errors.As(err, &over) && over.Kind == "draft-over" {
		return c.commitAgain(err)
	}
	if err != nil {
		return err
	}
	req, err := c.commitBody()
	if err != nil {
		return err
	}
	var header []byte
	if req.Header != nil {
		if header, err = hex.DecodeString(*req.Header); err != nil {
			return badBody("header: %v", err)
		}
	}
	res, err := d.Commit(c.r.Context(), req.Hash, req.PostRoot, header)
	if err != nil {
		return err
	}
	c.s.drafts.committed(d.ID(), req.Hash)
	return c.sendImported(res)
}

func (c *call) commitBody() (req commitBody, err error) {
	if _, err := c.bodyForm(typeJSON); err != nil {
		return req, err
	}
	return req, c.body(maxHeaderHex, func(b []byte) error {
		return object(b, map[string]any{"hash": &req.Hash, "post_root": &req.PostRoot, "header": &req.Header}, "hash")
	})
}

// commitAgain answers a client that didn't get the answer to its commit, and asks once
// more: as an import of a held block is answered. Error: over, where it was another.
func (c *call) commitAgain(over error) error {
	p, ok := c.s.drafts.fate(c.r.PathValue("id"))
	if !ok || p.block == (forks.Hash{}) || p.who != c.who() {
		return over
	}
	req, err := c.commitBody()
	if err != nil {
		return err
	}
	b, err := c.core.Resolve(blockID(p.block))
	if err != nil || req.Hash != p.block || req.PostRoot != nil && *req.PostRoot != b.Root {
		return over
	}
	return c.sendImported(state.Result{Block: b, Held: true})
}

// getDraftValue is GET /v1/drafts/{id}/state/{key}.
func (c *call) getDraftValue() error {
	d, info, key, err := c.draftKey()
	if err != nil {
		return err
	}
	form, err := c.accepts(typeJSON, typeBinary)
	if err != nil {
		return err
	}
	if err := c.mayRead(key); err != nil {
		return err
	}
	value, present, err := d.Get(c.r.Context(), key)
	switch {
	case err != nil:
		return err
	case !present:
		return absentKey(key)
	case form == typeBinary:
		return c.bytes(http.StatusOK, typeBinary, value)
	}
	return c.bytes(http.StatusOK, typeJSON, appendValue(nil, key, value, info.Parent))
}

// putDraftValue is PUT /v1/drafts/{id}/state/{key}.
func (c *call) putDraftValue() error {
	d, _, key, err := c.draftKey()
	if err != nil {
		return err
	}
	form, err := c.bodyForm(typeBinary, typeJSON)
	if err != nil {
		return err
	}
	limit := int64(c.core.Limits().ValueSize)
	if form == typeJSON {
		limit = 2*limit + smallBody
	}
	err = c.body(limit, func(b []byte) error {
		if form == typeBinary {
			return d.Put(key, b)
		}
		var req valueBody
		if err := object(b, map[string]any{"value": &req.Value}, "value"); err != nil {
			return err
		}
		value, err := hex.DecodeString(req.Value)
		if err != nil {
			return badBody("value: %v", err)
		}
		return d.Put(key, value)
	})
	if err != nil {
		return err
	}
	return c.done()
}

// deleteDraftValue is DELETE /v1/drafts/{id}/state/{key}.
func (c *call) deleteDraftValue() error {
	d, _, key, err := c.draftKey()
	if err != nil {
		return err
	}
	if err := d.Delete(key); err != nil {
		return err
	}
	return c.done()
}

// getDraftBatch is POST /v1/drafts/{id}/state.
func (c *call) getDraftBatch() error {
	d, info, err := c.draft()
	if err != nil {
		return err
	}
	return c.answerBatch(info.Parent, func(ctx context.Context, keys [][]byte, visit func(int, []byte, bool) error) error {
		for i, key := range keys {
			value, present, err := d.Get(ctx, key)
			if err == nil {
				err = visit(i, value, present)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// patchDraft is PATCH /v1/drafts/{id}/state.
func (c *call) patchDraft() error {
	d, _, err := c.draft()
	if err != nil {
		return err
	}
	form, err := c.bodyForm(typeJSON, typeBinary)
	if err != nil {
		return err
	}
	err = c.body(c.s.limits.Body, func(b []byte) error {
		var puts []state.Pair
		var dels [][]byte
		var err error
		if form == typeBinary {
			puts, dels, err = decodeWrites(b, c.core.Commitment().KeySize())
		} else if puts, dels, err = trace.ParseWrites(b); err != nil {
			err = formError(err)
		}
		if err != nil {
			return err
		}
		return d.Write(puts, dels)
	})
	if err != nil {
		return err
	}
	return c.done()
}

package client

import (
	"context"
	"encoding/hex"
	"net/url"
	"sync/atomic"
	"time"

	"accessor/forks"
)

// DraftOptions says what draft to begin.
type DraftOptions struct {
	Parent string // whose state it changes, named as of At
	Slot   forks.Slot
	Owner  string        // whose drafts may share the slot; empty for nobody's
	TTL    time.Duration // of the lease; 0 for 30 s, at most 60 s
}

// DraftInfo describes a draft.
type DraftInfo struct {
	ID        string     `json:"id"`
	Parent    About      `json:"parent"`
	Slot      forks.Slot `json:"slot"`
	Owner     string     `json:"owner"`
	AgeMS     int64      `json:"age_ms"`
	ExpiresMS *int64     `json:"expires_ms"` // nil while it is being committed
	Bytes     int        `json:"bytes"`
	Writes    int        `json:"writes"` // keys that are put or deleted
}

// Draft is an import in progress: writes on top of a block's state, which is a block
// once it is committed. It must be closed; one that isn't goes when its lease ends. It is
// safe for concurrent use.
type Draft struct {
	c      *Client
	id     string
	parent *Hash // nil where that isn't known
	over   atomic.Bool
}

// WriteSet are changes to be made at once.
type WriteSet struct {
	Puts []Pair // of a key twice, the last wins
	Dels [][]byte
}

// CommitOptions says as which block a draft is committed.
type CommitOptions struct {
	Hash     Hash
	PostRoot *Hash  // compared with the root that comes out, unless nil
	Header   []byte // encoded; it is checked and kept unless nil
}

// BeginDraft begins a draft. Where no answer comes there may be one, until its lease
// ends.
func (c *Client) BeginDraft(ctx context.Context, o DraftOptions) (*Draft, error) {
	in := map[string]any{"parent": serverName(o.Parent), "slot": o.Slot, "owner": o.Owner, "ttl_ms": milliseconds(o.TTL)}
	var out DraftInfo
	if _, err := c.json(ctx, &request{method: "POST", path: "/v1/drafts", once: true}, in, &out); err != nil {
		return nil, err
	}
	d := c.Draft(out.ID)
	if h, ok := wholeHash(o.Parent); ok && h != out.Parent.Block || out.Slot != o.Slot || out.ID == "" {
		_ = d.Close()
		return nil, badAnswer("draft %q of slot %d on block %s, asked for one of slot %d on %s", out.ID, out.Slot, out.Parent.Block, o.Slot, o.Parent)
	}
	d.parent = &out.Parent.Block
	return d, nil
}

// Draft gives the draft with an id, one that was begun elsewhere; it asks nobody.
func (c *Client) Draft(id string) *Draft { return &Draft{c: c, id: id} }

// Drafts gives the drafts that are open, the oldest first.
func (c *Client) Drafts(ctx context.Context) ([]DraftInfo, error) {
	var out struct{ Drafts []DraftInfo }
	_, err := c.json(ctx, &request{method: "GET", path: "/v1/drafts"}, nil, &out)
	return out.Drafts, err
}

// ID names the draft.
func (d *Draft) ID() string { return d.id }

func (d *Draft) path(rest string) string { return "/v1/drafts/" + url.PathEscape(d.id) + rest }

func (d *Draft) keyPath(key []byte) string { return d.path("/state/" + hex.EncodeToString(key)) }

// Info describes the draft.
func (d *Draft) Info(ctx context.Context) (DraftInfo, error) {
	return d.describe(ctx, &request{method: "GET", path: d.path("")}, nil)
}

// Renew lets the lease end so long from now; 0 stands for 30 s.
func (d *Draft) Renew(ctx context.Context, ttl time.Duration) (DraftInfo, error) {
	return d.describe(ctx, &request{method: "POST", path: d.path("/renew")}, map[string]int64{"ttl_ms": milliseconds(ttl)})
}

func (d *Draft) describe(ctx context.Context, r *request, in any) (DraftInfo, error) {
	var out DraftInfo
	_, err := d.c.json(ctx, r, in, &out)
	if err == nil && out.ID != d.id {
		err = badAnswer("a description of draft %q, not %q", out.ID, d.id)
	}
	return out, err
}

// open sends a request about the draft's state, and looks at which block it is on.
func (d *Draft) open(ctx context.Context, r *request) (*conn, error) {
	k, err := d.c.open(ctx, r)
	if err != nil {
		return nil, err
	}
	if k.head.status >= 300 && !k.head.about {
		return nil, notAbsent(k.problem())
	}
	if !k.head.about || d.parent != nil && k.head.at().Block != *d.parent {
		err := badAnswer("an answer about another block than the draft's parent, or none")
		k.end(err)
		return nil, err
	}
	if k.head.status >= 300 {
		return nil, k.problem()
	}
	return k, nil
}

// done sends a request whose answer has nothing in it.
func (d *Draft) done(ctx context.Context, r *request) error {
	k, err := d.open(ctx, r)
	if err == nil {
		_, err = k.body(nil, maxProblem)
	}
	return err
}

// Get gives a key's value as the draft has it; present is false where it has no such
// key.
func (d *Draft) Get(ctx context.Context, key []byte) (value []byte, present bool, err error) {
	k, err := d.open(ctx, &request{method: "GET", path: d.keyPath(key), accept: typeBinary})
	if isKind(err, ErrAbsentKey) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	h := k.head
	value, err = k.body([]byte{}, d.c.most)
	if err == nil && (h.status != 200 || !h.binary()) {
		err = badAnswer("a value as %.80q, status %d", h.media, h.status)
	}
	return value, err == nil, err
}

// GetMany gives the values of many keys, as View.GetMany does.
func (d *Draft) GetMany(ctx context.Context, keys [][]byte) ([][]byte, error) {
	return getMany(keys, func(body []byte) (*conn, error) {
		return d.open(ctx, &request{method: "POST", path: d.path("/state"), accept: typeBinary, media: typeBinary, body: body})
	})
}

// Put writes a value.
func (d *Draft) Put(ctx context.Context, key, value []byte) error {
	return d.done(ctx, &request{method: "PUT", path: d.keyPath(key), media: typeBinary, body: value})
}

// Delete deletes a key, which need not be there.
func (d *Draft) Delete(ctx context.Context, key []byte) error {
	return d.done(ctx, &request{method: "DELETE", path: d.keyPath(key)})
}

// Write makes many changes, all or none.
func (d *Draft) Write(ctx context.Context, w WriteSet) error {
	body := appendWrites(make([]byte, 0, writesSize(w.Puts, w.Dels)), w.Puts, w.Dels)
	return d.done(ctx, &request{method: "PATCH", path: d.path("/state"), media: typeBinary, body: body})
}

// Commit makes the draft a block: then it is over, and Close does nothing. After an
// error it is as it was, but for one that leaves open what became of it.
func (d *Draft) Commit(ctx context.Context, o CommitOptions) (Imported, error) {
	in := map[string]any{"hash": o.Hash}
	if o.PostRoot != nil {
		in["post_root"] = *o.PostRoot
	}
	if o.Header != nil {
		in["header"] = hex.EncodeToString(o.Header)
	}
	// Not sent twice: a server that has started anew since would answer that it has no such
	// draft, though it may be a block.
	out, err := d.c.importedBy(ctx, &request{method: "POST", path: d.path("/commit"), once: true}, in, o.Hash)
	if err == nil {
		d.over.Store(true)
	}
	return out, err
}

// closeTime bounds Close, which must not hang where a caller gives up.
const closeTime = 5 * time.Second

// Close drops the draft, unless it is over already: committed, dropped or expired. It
// has no context, so that it works where the caller's is over; it takes 5 seconds at most.
func (d *Draft) Close() error {
	if d.over.Load() {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), closeTime)
	defer cancel()
	if err := d.Drop(ctx); !isKind(err, ErrDraftOver) && !isKind(err, ErrUnknownDraft) {
		return err
	}
	d.over.Store(true)
	return nil
}

// Drop drops the draft. Error: ErrDraftOver where it is over, among others.
func (d *Draft) Drop(ctx context.Context) error {
	err := d.c.done(ctx, &request{method: "DELETE", path: d.path("")})
	if err == nil {
		d.over.Store(true)
	}
	return err
}

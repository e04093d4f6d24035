package api

import (
	"net/http"
	"net/url"

	"accessor/forks"
	"accessor/state"
)

// difference is a key that differs between two states.
type difference struct {
	Key  string  `json:"key" doc:"in hex"`
	From *string `json:"from" doc:"value in hex; null where the state has no such key"`
	To   *string `json:"to"`
}

// diffBody is the answer of GET /v1/diff.
type diffBody struct {
	From   About        `json:"from"`
	To     About        `json:"to"`
	Common About        `json:"common" doc:"their newest common ancestor"`
	Keys   []difference `json:"keys" nullable:"false" doc:"in order"`
}

// getDiff is GET /v1/diff.
func (c *call) getDiff() error {
	names := [2]string{c.query.Get("from"), c.query.Get("to")}
	var blocks [2]forks.Block
	fixed := true
	for i, name := range names {
		if name == "" {
			return badRequest("give two blocks, from and to")
		}
		var err error
		if blocks[i], err = c.core.Resolve(name); err != nil {
			return err
		}
		fixed = fixed && wholeHash(name)
	}
	from, to := blocks[0], blocks[1]
	c.names(to)
	c.tier = "disk"
	if err := c.near(from, to); err != nil {
		return err
	}
	room := c.room("ask for blocks that are nearer")
	defer room.end()
	diff, common, err := c.core.DiffWithin(c.r.Context(), from.Hash, to.Hash, room.bound())
	if err != nil {
		return err
	}
	if err := mayReadAll(c, diff, func(d state.Difference) []byte { return d.Key }); err != nil {
		return err
	}
	where := "/v1/diff?" + url.Values{"from": {blockID(from.Hash)}, "to": {blockID(to.Hash)}}.Encode()
	if c.immutable(where, typeJSON, fixed, from, to) {
		return nil
	}
	out := make([]byte, 0, 2*room.size+int64(64*len(diff))+1024)
	out = append(appendAbout(append(out, `{"from":{`...), from), `},"to":{`...)
	out = append(appendAbout(append(appendAbout(out, to), `},"common":{`...), common), `},"keys":[`...)
	for i, d := range diff {
		if i > 0 {
			out = append(out, ',')
		}
		out = append(appendHexOrNull(append(out, `{"key":`...), d.Key, true), `,"from":`...)
		out = append(appendHexOrNull(out, d.A, d.A != nil), `,"to":`...)
		out = append(appendHexOrNull(out, d.B, d.B != nil), '}')
	}
	return c.bytes(http.StatusOK, typeJSON, append(out, "]}\n"...))
}

// near refuses two blocks with more blocks between them than are read for an answer.
func (c *call) near(from, to forks.Block) error {
	n := 0
	c.core.ReadTree(func(t *forks.Tree) {
		if common, err := t.CommonAncestor(from.Hash, to.Hash); err == nil {
			n = t.Height(from.Hash) + t.Height(to.Hash) - 2*t.Height(common.Hash)
		}
	})
	if n > c.s.limits.Blocks {
		return newFault("too-large", "%d blocks are between the two, at most %d are read for an answer", n, c.s.limits.Blocks)
	}
	return nil
}

// changesBody is the answer of GET /v1/blocks/{id}/changes: a write set, as an import
// has it.
type changesBody struct {
	Puts [][]string `json:"puts" nullable:"false" doc:"[key, value] in hex, in order"`
	Dels []string   `json:"dels" nullable:"false" doc:"keys in hex, in order"`
	About
}

// getChanges is GET /v1/blocks/{id}/changes.
func (c *call) getChanges() error {
	b, byHash, err := c.block()
	if err != nil {
		return err
	}
	if b.Hash == c.core.Anchor().Hash {
		return newFault("no-changes", "the anchor %s has a whole state: read that", b.Hash)
	}
	c.tier = "disk"
	room := c.room("read the keys at the block, and at its parent")
	defer room.end()
	_, pairs, err := c.core.ChangesWithin(c.r.Context(), b.Hash, room.bound())
	if err != nil {
		return err
	}
	if err := mayReadAll(c, pairs, keyOfPair); err != nil {
		return err
	}
	if c.immutable(c.located(b), typeJSON, byHash, b) {
		return nil
	}
	return c.bytes(http.StatusOK, typeJSON, appendChanges(make([]byte, 0, 2*room.size+int64(16*len(pairs))+512), pairs, b))
}

// appendChanges appends the JSON of a changesBody.
func appendChanges(dst []byte, pairs []state.Pair, b forks.Block) []byte {
	dst = append(dst, `{"puts":[`...)
	comma := func(n int) {
		if n > 0 {
			dst = append(dst, ',')
		}
	}
	puts, dels := 0, 0
	for _, p := range pairs {
		if p.Value != nil {
			comma(puts)
			dst = append(appendHexOrNull(append(dst, '['), p.Key, true), ',')
			dst = append(appendHexOrNull(dst, p.Value, p.Value != nil), ']')
			puts++
		}
	}
	dst = append(dst, `],"dels":[`...)
	for _, p := range pairs {
		if p.Value == nil {
			comma(dels)
			dst = appendHexOrNull(dst, p.Key, true)
			dels++
		}
	}
	return append(appendAbout(append(dst, "],"...), b), "}\n"...)
}

// version is what a block made of a key.
type version struct {
	Value *string `json:"value" doc:"in hex; null for a delete"`
	About
}

// historyBody is the answer of GET /v1/history/{key}.
type historyBody struct {
	Key      string    `json:"key" doc:"in hex"`
	Versions []version `json:"versions" nullable:"false" doc:"newest first; the anchor's, if it has the key, is the last"`
	About
}

// defaultVersions is how many versions a history gives where no limit is given.
const defaultVersions = 100

// getHistory is GET /v1/history/{key}.
func (c *call) getHistory() error {
	key, err := c.pathKey()
	if err != nil {
		return err
	}
	limit, err := c.intParam("limit", defaultVersions, 1, c.s.limits.Page)
	if err != nil {
		return err
	}
	at := c.query.Get("at")
	if at == "" {
		at = "head"
	}
	b, err := c.core.Resolve(at)
	if err != nil {
		return err
	}
	c.names(b)
	if err := c.mayRead(key); err != nil {
		return err
	}
	query := c.query
	if query == nil {
		query = url.Values{}
	}
	query.Set("at", blockID(b.Hash))
	// The anchor, where a history ends, moves on: it stays the same only for a while.
	if c.immutable(c.r.URL.EscapedPath()+"?"+query.Encode(), typeJSON, false, b, c.core.Anchor()) {
		return nil
	}
	c.tier = "disk"
	room := c.room("set a lower limit")
	defer room.end()
	versions, err := c.core.HistoryWithin(c.r.Context(), b.Hash, key, limit, room.bound())
	if err != nil {
		return err
	}
	out := make([]byte, 0, 2*room.size+int64(256*len(versions))+1024)
	out = append(appendHexOrNull(append(out, `{"key":`...), key, true), `,"versions":[`...)
	for i, v := range versions {
		if i > 0 {
			out = append(out, ',')
		}
		out = append(appendHexOrNull(append(out, `{"value":`...), v.Value, v.Value != nil), ',')
		out = append(appendAbout(out, v.Block), '}')
	}
	out = append(appendAbout(append(out, "],"...), b), "}\n"...)
	return c.bytes(http.StatusOK, typeJSON, out)
}

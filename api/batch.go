package api

import (
	"context"
	"encoding/hex"
	"net/http"
	"sync"

	"accessor/forks"
	"accessor/state"
)

// batchBody is the most bytes of a batch's request.
const batchBody = 8 << 20

// batchStep is how many keys are read at a time: between, the answer's size is
// looked at.
const batchStep = 256

// keysBody is a batch's request as JSON.
type keysBody struct {
	Keys []string `json:"keys" nullable:"false" doc:"keys in hex, or names of state items, in any order"`
}

// valuesBody is its answer.
type valuesBody struct {
	Values []*string `json:"values" nullable:"false" doc:"in the order of the keys: in hex, null for an absent key"`
	About
}

// batch is a request for many values on its way. Its memory is used again.
type batch struct {
	body, out []byte
	keys      [][]byte // they alias the body
}

// Up to these sizes a batch's memory is kept.
const (
	keptBatch = 1 << 20
	keptKeys  = 4 * batchStep
)

var batches = sync.Pool{New: func() any { return new(batch) }}

func (m *batch) done() {
	clear(m.keys)
	if cap(m.body)+cap(m.out) <= keptBatch && cap(m.keys) <= keptKeys {
		batches.Put(m)
	}
}

// eachValue calls visit with the value of each key, in their order.
type eachValue func(ctx context.Context, keys [][]byte, visit func(i int, value []byte, present bool) error) error

// answerBatch reads a batch's request in either form, and answers it with the values
// that read gives, which are of a block, or of a draft on it.
func (c *call) answerBatch(b forks.Block, read eachValue) error {
	request, err := c.bodyForm(typeJSON, typeBinary)
	if err != nil {
		return err
	}
	m := batches.Get().(*batch)
	defer m.done()
	memory := c.room("ask for fewer keys")
	defer memory.end()
	var form string
	err = c.bodyInto(m.body, batchBody, func(body []byte) (err error) {
		if cap(body) > cap(m.body) {
			m.body = body[:0]
		}
		if request == typeBinary {
			m.keys, err = decodeKeys(m.keys[:0], body, c.s.limits.Keys)
		} else {
			m.keys, err = c.keysOfJSON(body)
		}
		if err == nil {
			err = c.checkKeys(m.keys)
		}
		if err == nil {
			form, err = c.answerForm(request)
		}
		if err == nil {
			m.out, err = c.appendBatch(m.out[:0], form, m.keys, b, memory, read)
		}
		return err
	})
	if err != nil {
		return err
	}
	return c.bytes(http.StatusOK, form, m.out)
}

// checkKeys refuses keys that no state has, or that the client may not read.
func (c *call) checkKeys(keys [][]byte) error {
	size, most := c.core.Commitment().KeySize(), c.core.Limits().KeySize
	for _, key := range keys {
		if len(key) == 0 || len(key) > most || size > 0 && len(key) != size {
			return c.checkKey(key) // which says what is wrong
		}
	}
	return mayReadAll(c, keys, func(key []byte) []byte { return key })
}

func (c *call) keysOfJSON(b []byte) ([][]byte, error) {
	var req keysBody
	if err := object(b, map[string]any{"keys": &req.Keys}, "keys"); err != nil {
		return nil, err
	}
	if len(req.Keys) > c.s.limits.Keys {
		return nil, tooManyKeys(c.s.limits.Keys)
	}
	keys := make([][]byte, len(req.Keys))
	for i, text := range req.Keys {
		var err error
		if keys[i], err = c.parseKey(text); err != nil {
			return nil, err
		}
	}
	return keys, nil
}

func tooManyKeys(most int) error { return newFault("too-large", "more than %d keys", most) }

// decodeKeys appends the keys of a batch in binary form: frames to the end.
func decodeKeys(keys [][]byte, b []byte, most int) ([][]byte, error) {
	f := frames{rest: b}
	for f.err == nil && len(f.rest) > 0 {
		if len(keys) == most {
			return keys, tooManyKeys(most)
		}
		keys = append(keys, f.frame("a key"))
	}
	return keys, f.err
}

// answerForm is that which the client accepts or, where it doesn't say, the request's.
func (c *call) answerForm(request string) (string, error) {
	other := typeBinary
	if request == typeBinary {
		other = typeJSON
	}
	return c.accepts(request, other)
}

// getBatch is POST /v1/blocks/{id}/state.
func (c *call) getBatch() error {
	b, byHash, err := c.block()
	if err != nil {
		return err
	}
	if !byHash {
		c.w.Header()["Content-Location"] = []string{c.located(b)}
	}
	return c.answerBatch(b, func(ctx context.Context, keys [][]byte, visit func(int, []byte, bool) error) error {
		v, err := c.s.views.take(ctx, c.core, b.Hash, c.began)
		if err != nil {
			return err
		}
		defer c.s.views.release(v)
		var slowest state.Tier
		for done := 0; done < len(keys) && err == nil; done += batchStep {
			var tier state.Tier
			tier, err = v.Each(ctx, keys[done:min(done+batchStep, len(keys))], visit)
			slowest = max(slowest, tier)
			c.tier = tierName(slowest)
		}
		return err
	})
}

// appendBatch appends the answer to a batch, as far as there is room for it.
func (c *call) appendBatch(out []byte, form string, keys [][]byte, b forks.Block, memory *room, read eachValue) ([]byte, error) {
	begin := len(out)
	err := read(c.r.Context(), keys, func(_ int, value []byte, present bool) error {
		if err := memory.take(len(value)); err != nil {
			return err
		}
		if form == typeBinary {
			out = appendOptional(out, value, present)
			return nil
		}
		if len(out) == begin {
			out = append(out, `{"values":[`...)
		} else {
			out = append(out, ',')
		}
		out = appendHexOrNull(out, value, present)
		return nil
	})
	if form != typeBinary {
		if len(out) == begin { // no keys
			out = append(out, `{"values":[`...)
		}
		out = append(appendAbout(append(out, "],"...), b), "}\n"...)
	}
	return out, err
}

// appendHexOrNull appends bytes as they stand in JSON; null for those that aren't
// there.
func appendHexOrNull(dst, b []byte, present bool) []byte {
	if !present {
		return append(dst, "null"...)
	}
	dst = append(dst, '"')
	dst = hex.AppendEncode(dst, b)
	return append(dst, '"')
}

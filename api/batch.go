package api

import (
	"context"
	"encoding/hex"
	"net/http"

	"accessor/forks"
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

// keys reads a batch's request in either form.
func (c *call) keys() (keys [][]byte, form string, err error) {
	form, err = c.bodyForm(typeJSON, typeBinary)
	if err != nil {
		return nil, "", err
	}
	err = c.body(batchBody, func(b []byte) (err error) {
		if form == typeBinary {
			keys, err = decodeKeys(b, c.s.limits.Keys)
		} else {
			keys, err = c.keysOfJSON(b)
		}
		return err
	})
	if err != nil {
		return nil, "", err
	}
	for _, key := range keys {
		if err := c.checkKey(key); err != nil {
			return nil, "", err
		}
	}
	return keys, form, mayReadAll(c, keys, func(key []byte) []byte { return key })
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

// decodeKeys reads the keys of a batch in binary form: frames to the end.
func decodeKeys(b []byte, most int) ([][]byte, error) {
	f := frames{rest: b}
	var keys [][]byte
	for f.err == nil && len(f.rest) > 0 {
		if len(keys) == most {
			return nil, tooManyKeys(most)
		}
		keys = append(keys, f.frame("a key"))
	}
	if f.err != nil {
		return nil, f.err
	}
	return keys, nil
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
	keys, request, err := c.keys()
	if err != nil {
		return err
	}
	form, err := c.answerForm(request)
	if err != nil {
		return err
	}
	v, err := c.s.views.take(c.r.Context(), c.core, b.Hash, c.began)
	if err != nil {
		return err
	}
	defer c.s.views.release(v)
	return c.sendBatch(form, keys, b, func(ctx context.Context, keys [][]byte) ([][]byte, error) {
		values, tier, err := v.MultiGetTier(ctx, keys)
		if name := tier.String(); c.tier == "" || c.tier == "cache" {
			c.tier = name
		}
		return values, err
	})
}

// sendBatch reads keys and sends their values, within the limit of an answer.
func (c *call) sendBatch(form string, keys [][]byte, b forks.Block, get func(context.Context, [][]byte) ([][]byte, error)) error {
	out := make([]byte, 0, 64+len(keys)*64)
	if form == typeJSON {
		out = append(out, `{"values":[`...)
	}
	size := int64(0)
	for done := 0; done < len(keys); {
		step := keys[done:min(done+batchStep, len(keys))]
		values, err := get(c.r.Context(), step)
		if err != nil {
			return err
		}
		for i, value := range values {
			if size += int64(len(value)); size > c.s.limits.Answer {
				return newFault("too-large", "the values take more than %d bytes: ask for fewer keys", c.s.limits.Answer)
			}
			switch {
			case form == typeBinary:
				out = appendOptional(out, value)
				continue
			case done+i > 0:
				out = append(out, ',')
			}
			out = appendHexOrNull(out, value)
		}
		done += len(step)
	}
	if form == typeJSON {
		out = append(appendAbout(append(out, "],"...), b), "}\n"...)
	}
	return c.bytes(http.StatusOK, form, out)
}

func appendHexOrNull(dst, b []byte) []byte {
	if b == nil {
		return append(dst, "null"...)
	}
	dst = append(dst, '"')
	dst = hex.AppendEncode(dst, b)
	return append(dst, '"')
}

package api

import (
	"encoding/json"
	"math"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"accessor/forks"
	"accessor/state/merkle"
)

// defaultProof is the most bytes of a range's proof where no limit is given.
const defaultProof = 1 << 20

// proofBody is a proof as JSON.
type proofBody struct {
	Statement json.RawMessage `json:"statement"`
	About
}

// TransformSchema describes a merkle.Statement, which writes its own JSON.
func (proofBody) TransformSchema(_ huma.Registry, s *huma.Schema) *huma.Schema {
	s.Properties["statement"] = &huma.Schema{
		Type: huma.TypeObject, Required: []string{"block", "nodes", "pairs"}, AdditionalProperties: false,
		Description: "the request, keys or from, to and max_size, and its proof (docs/PROOFS.md)",
		Properties: map[string]*huma.Schema{
			"block": textSchema("^[0-9a-f]{64}$", 64), "keys": listOf(hexSchema(merkle.KeySize)),
			"from": hexSchema(merkle.KeySize), "to": hexSchema(merkle.KeySize), "max_size": intSchema(0, math.MaxUint32),
			"nodes": listOf(hexSchema(merkle.NodeSize)), "pairs": listOf(pairSchema()),
		},
	}
	return s
}

// getProof is GET /v1/blocks/{id}/proof.
func (c *call) getProof() error {
	form, err := c.accepts(typeJSON, typeBinary)
	if err != nil {
		return err
	}
	keys, req, err := c.proofRequest()
	if err != nil {
		return err
	}
	b, byHash, err := c.block()
	if err != nil {
		return err
	}
	memory := c.room("ask for fewer keys, or a smaller max")
	defer memory.end()
	s, err := c.prove(b, keys, req, memory)
	if err != nil {
		return err
	}
	// Only now: which leaves a proof reveals is known when it is made.
	if c.immutable(c.located(b), form, byHash, b) {
		return nil
	}
	return c.sendProof(form, b, s)
}

// postProof is POST /v1/blocks/{id}/proof: of more keys than an address has room for.
func (c *call) postProof() error {
	request, err := c.bodyForm(typeJSON, typeBinary)
	if err != nil {
		return err
	}
	if err := c.mayProve(); err != nil {
		return err
	}
	b, byHash, err := c.block()
	if err != nil {
		return err
	}
	if !byHash {
		c.w.Header()["Content-Location"] = []string{c.located(b)}
	}
	memory := c.room("ask for fewer keys")
	defer memory.end()
	var form string
	var s *merkle.Statement
	err = c.bodyInto(nil, batchBody, func(body []byte) (err error) {
		var keys [][]byte
		if request == typeBinary {
			keys, err = decodeKeys(nil, body, c.s.limits.Keys)
		} else {
			keys, err = c.keysOfJSON(body)
		}
		if err == nil {
			err = c.checkKeys(keys)
		}
		if err == nil {
			form, err = c.answerForm(request)
		}
		if err == nil {
			s, err = c.prove(b, keys, nil, memory)
		}
		return err
	})
	if err != nil {
		return err
	}
	return c.sendProof(form, b, s)
}

// prove proves keys or, where there is a request for one, a range.
func (c *call) prove(b forks.Block, keys [][]byte, req *merkle.RangeRequest, memory *room) (s *merkle.Statement, err error) {
	if req != nil {
		err = c.mayReadRange(req.Start[:], append(req.End[:len(req.End):len(req.End)], 0))
	} else {
		err = mayReadAll(c, keys, func(key []byte) []byte { return key })
	}
	if err != nil {
		return nil, err
	}
	v, err := c.core.View(c.r.Context(), b.Hash)
	if err != nil {
		return nil, err
	}
	defer v.Close()
	c.tier = c.wholeTier()
	if req != nil {
		s, err = v.ProveRangeWithin(c.r.Context(), *req, memory.bound())
	} else {
		s, err = v.ProveWithin(c.r.Context(), keys, memory.bound())
	}
	if err != nil {
		return nil, err
	}
	return s, c.mayReveal(&s.Proof)
}

func (c *call) sendProof(form string, b forks.Block, s *merkle.Statement) error {
	if form == typeBinary {
		return c.bytes(http.StatusOK, typeBinary, s.Append(nil))
	}
	text, err := json.Marshal(s)
	if err != nil {
		return err
	}
	return c.json(http.StatusOK, proofBody{text, aboutBlock(b)})
}

// mayProve refuses proofs of states that have no roots.
func (c *call) mayProve() error {
	if c.core.Commitment().KeySize() != merkle.KeySize {
		return newFault("no-roots", "this store's states have no roots to prove against")
	}
	return nil
}

// proofRequest reads what is to be proved: keys, or a range.
func (c *call) proofRequest() (keys [][]byte, req *merkle.RangeRequest, err error) {
	if err := c.mayProve(); err != nil {
		return nil, nil, err
	}
	ranged := c.query.Has("from") || c.query.Has("to")
	texts := c.query["key"]
	switch {
	case ranged == (len(texts) > 0):
		return nil, nil, badRequest("give key, once or more, or from and to")
	case !ranged && c.query.Has("max"):
		return nil, nil, badRequest("max is of a range")
	case len(texts) > c.s.limits.Keys:
		return nil, nil, tooManyKeys(c.s.limits.Keys)
	}
	for _, text := range texts {
		key, err := c.parseKey(text)
		if err != nil {
			return nil, nil, err
		}
		keys = append(keys, key)
	}
	if !ranged {
		return keys, nil, nil
	}
	req, err = c.rangeRequest()
	return nil, req, err
}

// rangeRequest reads the edges of a range; what is shorter than a key stands for the
// first, or the last, key that begins with it.
func (c *call) rangeRequest() (*merkle.RangeRequest, error) {
	from, err := c.boundParam("from")
	if err != nil {
		return nil, err
	}
	to, err := c.boundParam("to")
	if err != nil {
		return nil, err
	}
	if len(from) > merkle.KeySize || len(to) > merkle.KeySize {
		return nil, newFault("bad-key", "from and to have %d and %d bytes, at most %d", len(from), len(to), merkle.KeySize)
	}
	most, err := c.intParam("max", defaultProof, 1, int(min(c.s.limits.Answer, math.MaxUint32)))
	if err != nil {
		return nil, err
	}
	req := &merkle.RangeRequest{MaxSize: uint32(most)} //nolint:gosec // at most that
	copy(req.Start[:], from)
	for i := range req.End {
		req.End[i] = 0xff
	}
	copy(req.End[:], to)
	return req, nil
}

// mayReveal refuses a proof with a leaf that the client may not read: a leaf has its
// key, and a short value, in it.
func (c *call) mayReveal(p *merkle.Proof) error {
	if c.core.access.ReadsAll(c.client.Roles) {
		return nil
	}
	for i := range p.Pairs {
		if err := c.mayRead(p.Pairs[i].Key[:]); err != nil {
			return err
		}
	}
	for _, n := range p.Nodes {
		if key, ok := n.LeafKey(); ok {
			if err := c.mayRead(key[:]); err != nil {
				return err
			}
		}
	}
	return nil
}

package api

import (
	"encoding/json"
	"net/http"
	"reflect"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"accessor/api/access"
	"accessor/forks"
	"accessor/state"
	"accessor/trace"
)

func importRoutes() []route {
	wait := queryParam("wait", "how long to wait for others who import into that slot, or the parent: 0 not at all; default as long as it takes", textSchema("", 20))
	return []route{
		{
			method: http.MethodPost, path: "/v1/blocks", action: access.Import, serve: (*call).postBlock,
			doc: doc{
				id: "importBlock", tag: "blocks", summary: "Import a block",
				text: "A block line of a recording (jamtrace/1) is a valid body as it stands. With application/x-ndjson " +
					"the body is such lines, and the answer a line for each.",
				params: []param{wait},
				body:   []media{{name: typeJSON, of: blockBody{}}, {name: typeBinary}, {name: typeLines, schema: textSchema("", 1<<40)}},
				answers: []answer{
					{status: 201, text: "Imported; of a stream, 200", about: true, forms: []media{{name: typeJSON, of: Imported{}}}},
					{status: 200, text: "It was held already; or the answer to a stream", forms: []media{
						{name: typeJSON, of: Imported{}}, {name: typeLines, of: importLine{}},
					}},
				},
			},
		},
		{
			method: http.MethodPost, path: "/v1/head", action: access.SetHead, serve: (*call).postHead,
			doc: doc{
				id: "setHead", tag: "blocks", summary: "Say which block is best", body: []media{{name: typeJSON, of: hashBody{}}},
				answers: []answer{{status: 200, about: true, forms: []media{{name: typeJSON, of: About{}}}}},
			},
		},
		{
			method: http.MethodPost, path: "/v1/finalize", action: access.Finalize, serve: (*call).postFinalize,
			doc: doc{
				id: "finalize", tag: "blocks", summary: "Make a branch canonical, up to a block", body: []media{{name: typeJSON, of: hashBody{}}},
				answers: []answer{{status: 200, about: true, forms: []media{{name: typeJSON, of: finalizedBody{}}}}},
			},
		},
	}
}

// blockBody is the JSON of a block, for the document: trace.ParseBlock reads it.
type blockBody struct {
	_         struct{}    `additionalProperties:"true"`
	Hash      forks.Hash  `json:"hash"`
	Parent    forks.Hash  `json:"parent"`
	Slot      forks.Slot  `json:"slot"`
	PriorRoot *forks.Hash `json:"prior_root,omitempty" doc:"compared with the parent's root where it is given"`
	PostRoot  *forks.Hash `json:"post_root,omitempty" doc:"compared with the root that comes out where it is given"`
	Puts      [][]string  `json:"puts" nullable:"false" doc:"[key, value] in hex; of a key twice, the last wins"`
	Dels      []string    `json:"dels" nullable:"false" doc:"keys in hex"`
	Header    *string     `json:"header,omitempty" doc:"the encoded header in hex, which is checked and kept"`
}

// Imported is what became of a block.
type Imported struct {
	Hash     forks.Hash `json:"hash"`
	Slot     forks.Slot `json:"slot"`
	Root     forks.Hash `json:"root" doc:"of the state after the block"`
	WalkBack *WalkBack  `json:"walkback"`
	MS       float64    `json:"ms" doc:"how long it took, in milliseconds"`
	Unsealed string     `json:"unsealed,omitempty" doc:"why the block, though held, has no checkpoint"`
}

// TransformSchema says what Go's types can't: the walk-back is null where there was
// none.
func (Imported) TransformSchema(_ huma.Registry, s *huma.Schema) *huma.Schema {
	if p := s.Properties["walkback"]; p != nil && len(p.OneOf) == 0 {
		null := nullable(p)
		null.Description = "null where the parent's checkpoint could be used"
		s.Properties["walkback"] = null
	}
	return s
}

// WalkBack says from where a parent's state was reached.
type WalkBack struct {
	From    forks.Hash `json:"from" doc:"the ancestor whose checkpoint was used"`
	Blocks  int        `json:"blocks" doc:"replayed from there"`
	Reasons []string   `json:"reasons" nullable:"false" doc:"why no nearer checkpoint was"`
}

// importLine is the answer to a line of a stream: the result, or the problem.
type importLine struct {
	Line   int // of the request, from 1, empty ones counted
	Status int
	Result Imported
	Error  *Problem
}

// MarshalJSON puts the result's members beside the others.
func (l importLine) MarshalJSON() ([]byte, error) {
	if l.Error != nil {
		return json.Marshal(struct {
			Line   int      `json:"line"`
			Status int      `json:"status"`
			Error  *Problem `json:"error"`
		}{l.Line, l.Status, l.Error})
	}
	return json.Marshal(struct {
		Line   int `json:"line"`
		Status int `json:"status"`
		Imported
	}{l.Line, l.Status, l.Result})
}

// Schema says in the document what MarshalJSON does.
func (importLine) Schema(r huma.Registry) *huma.Schema {
	status := intSchema(100, 599)
	status.Description = "as it were of a request with this block alone"
	line := intSchema(1, 1<<31)
	line.Description = "which line of the request, empty ones counted"
	return &huma.Schema{
		Type: huma.TypeObject, Required: []string{"line", "status"},
		Properties:           map[string]*huma.Schema{"line": line, "status": status, "error": r.Schema(reflect.TypeFor[Problem](), true, "")},
		Description:          "beside status the members of Imported, or error",
		AdditionalProperties: true,
	}
}

func imported(res state.Result) Imported {
	out := Imported{
		Hash: res.Block.Hash, Slot: res.Block.Slot, Root: res.Block.Root,
		MS: float64(res.Took.Microseconds()) / 1000,
	}
	if w := res.WalkBack; w != nil {
		out.WalkBack = &WalkBack{From: w.From.Hash, Blocks: w.Blocks, Reasons: w.Reasons()}
		if out.WalkBack.Reasons == nil {
			out.WalkBack.Reasons = []string{}
		}
	}
	if res.Unsealed != nil {
		out.Unsealed = res.Unsealed.Error()
	}
	return out
}

func importStatus(res state.Result) int {
	if res.Held {
		return http.StatusOK
	}
	return http.StatusCreated
}

// postBlock is POST /v1/blocks.
func (c *call) postBlock() error {
	c.tier = tierImport
	form, err := c.bodyForm(typeJSON, typeBinary, typeLines)
	if err != nil {
		return err
	}
	wait, bounded, err := c.waitParam()
	if err != nil {
		return err
	}
	take := func(b *state.Block) (state.Result, error) {
		b.Owner = c.who()
		if bounded {
			return c.core.ImportWithin(c.r.Context(), b, wait)
		}
		return c.core.Import(c.r.Context(), b)
	}
	if form == typeLines {
		return c.importStream(take)
	}
	decode := parseBlock
	if form == typeBinary {
		decode = func(body []byte) (*state.Block, error) { return decodeBlock(body, c.core.Commitment().KeySize()) }
	}
	var res state.Result
	err = c.body(c.s.limits.Body, func(body []byte) error {
		b, err := decode(body)
		if err == nil {
			res, err = take(b)
		}
		return err
	})
	if err != nil {
		return err
	}
	return c.sendImported(res)
}

// sendImported answers with the result of one import.
func (c *call) sendImported(res state.Result) error {
	c.names(res.Block)
	status := importStatus(res)
	if status == http.StatusCreated {
		c.w.Header()["Location"] = []string{"/v1/blocks/" + blockID(res.Block.Hash)}
	}
	return c.json(status, imported(res))
}

// parseBlock reads a block's JSON.
func parseBlock(text []byte) (*state.Block, error) {
	b, err := trace.ParseBlock(text)
	if err != nil {
		return nil, formError(err)
	}
	return b, nil
}

// importStream imports the blocks of a stream one after the other, and answers each
// line by one. A block that is refused doesn't end it.
func (c *call) importStream(take func(*state.Block) (state.Result, error)) error {
	control := http.NewResponseController(c.w)
	_ = control.EnableFullDuplex() // HTTP/2 has it anyway, tests don't need it
	lines, err := newLineReader(c, control)
	if err != nil {
		return err
	}
	defer lines.close()
	c.begin(http.StatusOK, typeLines, -1)
	for {
		text, err := lines.next()
		switch {
		case err == nil && text == nil:
			return nil
		case err != nil:
			c.importLine(control, lines.lines, state.Result{}, err)
			lines.drain()
			return nil
		}
		var res state.Result
		b, err := parseBlock(text)
		if err == nil {
			res, err = take(b)
		}
		if err != nil && b != nil {
			res.Block.Hash = b.Hash
		}
		if !c.importLine(control, lines.lines, res, err) {
			return nil
		}
	}
}

// importLine answers one line; false where the client has gone.
func (c *call) importLine(control *http.ResponseController, number int, res state.Result, err error) bool {
	line := importLine{Line: number, Status: importStatus(res)}
	if err != nil {
		f := c.logged(err)
		if h := res.Block.Hash; h != (forks.Hash{}) {
			f.Block = &h
		}
		line.Status, line.Error = f.Status, &f.Problem
	} else {
		line.Result = imported(res)
	}
	text, err := json.Marshal(line)
	if err != nil {
		return false
	}
	_ = control.SetWriteDeadline(time.Now().Add(streamPace))
	if _, err := c.w.Write(append(text, '\n')); err != nil {
		return false
	}
	_ = control.Flush()
	_ = control.SetWriteDeadline(time.Time{})
	return true
}

// hashBody names a block.
type hashBody struct {
	Hash forks.Hash `json:"hash"`
}

func (c *call) hashBody() (h forks.Hash, err error) {
	return h, c.small(map[string]any{"hash": &h}, "hash")
}

// postHead is POST /v1/head.
func (c *call) postHead() error {
	h, err := c.hashBody()
	if err != nil {
		return err
	}
	b, err := c.core.Resolve(blockID(h)) // before: the head may move on at once
	if err != nil {
		return err
	}
	if err := c.core.SetHead(h); err != nil {
		return err
	}
	c.names(b)
	return c.json(http.StatusOK, aboutBlock(b))
}

// finalizedBody is the answer of POST /v1/finalize.
type finalizedBody struct {
	About
	Lost []forks.Hash `json:"lost" nullable:"false" doc:"the blocks that lose by it"`
}

// postFinalize is POST /v1/finalize.
func (c *call) postFinalize() error {
	h, err := c.hashBody()
	if err != nil {
		return err
	}
	lost, err := c.core.Finalize(c.r.Context(), h)
	if err != nil {
		return err
	}
	b, err := c.core.Resolve(blockID(h))
	if err != nil {
		return err
	}
	c.names(b)
	out := finalizedBody{aboutBlock(b), make([]forks.Hash, len(lost))}
	for i, l := range lost {
		out.Lost[i] = l.Hash
	}
	return c.json(http.StatusOK, out)
}

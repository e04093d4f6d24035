package api

import (
	"errors"
	"io"
	"net/http"
	"time"

	"accessor/api/access"
	"accessor/state"
	"accessor/statefile"
)

func anchorRoutes() []route {
	return []route{{
		method: http.MethodPut, path: "/v1/anchor", action: access.SetAnchor, noCore: true, serve: (*call).putAnchor,
		doc: doc{
			id: "putAnchor", tag: "blocks", summary: "Give an empty store the state that its tree starts from",
			text: "The body is a state file (accessor-state/1, docs/FORMAT.md) with a header, as lines or binary, plain or " +
				"compressed with zstd or gzip. It is read as a stream, and its root compared.",
			body:    []media{{name: typeLines, schema: textSchema("", 1<<40)}, {name: typeBinary}},
			answers: []answer{{status: 201, about: true, forms: []media{{name: typeJSON, of: About{}}}}},
		},
	}}
}

// putAnchor is PUT /v1/anchor.
func (c *call) putAnchor() error {
	c.tier = tierImport
	start := c.s.opts.Start
	if c.core == nil && start == nil {
		return newFault("no-store", "this server makes no store; start it with an anchor")
	}
	if _, err := c.bodyForm(typeLines, typeBinary); err != nil {
		return err
	}
	select {
	case c.s.starting <- struct{}{}:
		defer func() { <-c.s.starting }()
	default:
		return newFault("busy", "another request is just making the store")
	}
	if c.s.core.Load() != nil { // again: it may have been made just before
		return newFault("not-empty", "the store has an anchor; GET /v1/blocks/anchor names it")
	}
	control := http.NewResponseController(c.w)
	in, err := statefile.NewReader("body", &pacedReader{c.r.Body, control}, 0, statefile.Options{})
	if err != nil {
		return badBody("%v", err)
	}
	defer in.Close()
	header := in.Header()
	if header == nil {
		return badBody("the state file has no header, so nothing says which block it is of")
	}
	core, err := start(c.r.Context(), header.Commitment, state.Anchor{
		Hash: header.Hash, Slot: header.Slot, Root: header.Root, Pairs: in.All(),
	})
	if err != nil {
		return anchorError(err)
	}
	_ = control.SetReadDeadline(time.Time{})
	c.s.setCore(core)
	b := core.Anchor()
	c.names(b)
	return c.json(http.StatusCreated, aboutBlock(b))
}

// anchorError is the error of a store that can't be made.
func anchorError(err error) error {
	var file *statefile.Error
	switch {
	case errors.As(err, &file):
		return badBody("%v", err)
	case errors.Is(err, state.ErrExists):
		return newFault("not-empty", "%v", err)
	case errors.Is(err, state.ErrInvalid), errors.Is(err, state.ErrCommitment), errors.Is(err, state.ErrLimit):
		return newFault("invalid-anchor", "%v", err)
	}
	return err
}

// pacedReader gives up where a stream is silent for long.
type pacedReader struct {
	io.Reader
	control *http.ResponseController
}

// Read implements io.Reader.
func (r *pacedReader) Read(b []byte) (int, error) {
	_ = r.control.SetReadDeadline(time.Now().Add(maxWait))
	return r.Reader.Read(b)
}

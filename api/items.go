package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"golang.org/x/crypto/blake2b"

	"accessor/api/access"
	"accessor/forks"
)

// Items are where items (preimages, bundles, segments) are got and kept by their
// BLAKE2b-256 hash. Its methods are safe for concurrent use, and end with their context.
// Beside the errors that they name is ErrNoStore.
type Items interface {
	// Fetch gives an item: of at most MaxItem bytes, to be read alone, and not to be waited
	// for for ever. Errors: ErrUnknownItem where nobody has it; state.ErrNotFetched where
	// it isn't here, and peers can't be asked or don't answer.
	Fetch(ctx context.Context, hash forks.Hash) ([]byte, error)
	// Put keeps an item, whose hash was checked. The item is the caller's again when it
	// returns. Errors: state.ErrTooLarge where it could not be kept however empty the
	// place were; state.ErrNoSpace.
	Put(ctx context.Context, hash forks.Hash, item []byte) error
}

// MaxItem is the most bytes of an item.
const MaxItem = 16 << 20

// itemsAtOnce is how many items are fetched at a time. They have a budget of their own:
// peers may be slow, and nobody's reads of states wait for them.
const itemsAtOnce = 16

var (
	// ErrUnknownItem: nobody who could be asked has the item.
	ErrUnknownItem = errors.New("nobody who could be asked has the item")
	// ErrNoStore: items are kept beside a store, and there is none yet.
	ErrNoStore = errors.New("the store is empty")
)

// errItem: Items gave what it should not.
var errItem = errors.New("not the item that was asked for")

// itemRoutes are those of items.
func (s *Server) itemRoutes() []route {
	hash := hashParam("path", "hash", "BLAKE2b-256 of the item, 64 hex digits", true)
	list := []route{{
		method: http.MethodGet, path: "/v1/da/{hash}", action: access.ReadItems, noCore: true, serve: (*call).getItem,
		doc: doc{
			id: "getItem", tag: "items", summary: "An item by its hash: a preimage, bundle or segment", params: []param{hash},
			text:    "It comes from here, else from peers, and is checked by its hash. It has 16 MiB at most.",
			answers: []answer{{status: 200, forms: []media{{name: typeBinary}}}, notModified},
		},
	}}
	if s.opts.Items != nil {
		list = append(list, route{
			method: http.MethodPut, path: "/v1/da/{hash}", action: access.PutItem, noCore: true, serve: (*call).putItem,
			doc: doc{
				id: "putItem", tag: "items", summary: "Keep an item, for a time, for readers here and for peers", params: []param{hash},
				body:    []media{{name: typeBinary}},
				answers: []answer{{status: http.StatusNoContent}},
			},
		})
	}
	return list
}

func hashParam(in, name, text string, required bool) param {
	return param{in: in, name: name, text: text, required: required, schema: textSchema("^(0x)?[0-9a-fA-F]{64}$", 66)}
}

// pathHash is a hash that the path names; what says of what.
func (c *call) pathHash(name, what string) (forks.Hash, error) {
	h, err := forks.ParseHash(c.r.PathValue(name))
	if err != nil {
		return h, badRequest("not %s: %v", what, err)
	}
	return h, nil
}

// fetched answers with the bytes that fetch gives, which takes so much memory at most. With
// a tag they never change.
func (c *call) fetched(tag string, most int64, fetch func(ctx context.Context) ([]byte, error)) error {
	if _, err := c.accepts(typeBinary); err != nil {
		return err
	}
	c.tier = "items"
	if tag != "" && c.tagged(`"`+tag+`"`, "", true) {
		return nil
	}
	memory := c.s.items.stake(c.who(), c.client.May(access.Import))
	defer memory.end()
	if err := memory.take(c.r.Context(), most); err != nil {
		return err
	}
	b, err := fetch(c.r.Context())
	if err != nil {
		return err
	}
	if spare := memory.n - int64(len(b)); spare > 0 {
		memory.giveBack(spare)
	}
	return c.bytes(http.StatusOK, typeBinary, b)
}

// getItem is GET /v1/da/{hash}.
func (c *call) getItem() error {
	h, err := c.pathHash("hash", "an item's hash")
	if err != nil {
		return err
	}
	items := c.s.opts.Items
	if items == nil {
		return newFault("not-fetched", "this sidecar keeps no items, and has no peers to ask for them")
	}
	return c.fetched(h.String(), MaxItem, func(ctx context.Context) ([]byte, error) { // its size is known when it is here
		item, err := items.Fetch(ctx, h)
		if err == nil && (len(item) > MaxItem || forks.Hash(blake2b.Sum256(item)) != h) {
			err = fmt.Errorf("%w: %d bytes for %s", errItem, len(item), h)
		}
		return item, err
	})
}

// putItem is PUT /v1/da/{hash}.
func (c *call) putItem() error {
	h, err := c.pathHash("hash", "an item's hash")
	if err != nil {
		return err
	}
	if _, err := c.bodyForm(typeBinary); err != nil {
		return err
	}
	c.tier = "items"
	err = c.body(MaxItem, func(item []byte) error {
		if got := forks.Hash(blake2b.Sum256(item)); got != h {
			return badBody("the item's hash is %s", got)
		}
		return c.s.opts.Items.Put(c.r.Context(), h, item)
	})
	if err != nil {
		return err
	}
	return c.done()
}

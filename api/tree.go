package api

import (
	"cmp"
	"net/http"
	"slices"

	"accessor/api/access"
	"accessor/forks"
)

// blockRoutes are those of the tree.
func blockRoutes() []route {
	return []route{
		{
			method: http.MethodGet, path: "/v1/blocks", action: access.ReadBlocks, serve: (*call).getTree,
			doc: doc{
				id: "listBlocks", tag: "blocks", summary: "The tree: all blocks, by slot and then by hash",
				params: []param{
					queryParam("leaves", "only blocks without children", boolSchema()),
					queryParam("from", "where to go on: the hash in the last page's next", textSchema("", 66)),
					queryParam("limit", "most blocks; above the server's limit it is that. Default 1,000", intSchema(1, 1<<31)),
				},
				answers: []answer{{status: 200, about: true, forms: []media{{name: typeJSON, of: treePage{}}}}},
			},
		},
		{
			method: http.MethodGet, path: "/v1/blocks/{id}", action: access.ReadBlocks, serve: (*call).getBlock,
			doc: doc{
				id: "getBlock", tag: "blocks", summary: "A block", params: []param{
					blockParam(), queryParam("wait", "how long to wait for a block, named by its whole hash, such as 5s; at most a minute", textSchema("", 20)),
				},
				answers: []answer{{status: 200, about: true, forms: []media{{name: typeJSON, of: Block{}}}}},
			},
		},
		{
			method: http.MethodPost, path: "/v1/blocks/held", action: access.ReadBlocks, serve: (*call).getHeld,
			doc: doc{
				id: "findHeld", tag: "blocks", summary: "Which of these blocks are held",
				body:    []media{{name: typeJSON, of: hashesBody{}}},
				answers: []answer{{status: 200, forms: []media{{name: typeJSON, of: heldBody{}}}}},
			},
		},
	}
}

// treePage is a page of the tree.
type treePage struct {
	Blocks    []Block     `json:"blocks" nullable:"false"`
	Next      *forks.Hash `json:"next" nullable:"true" doc:"the next page's from; null at the end"`
	Head      About       `json:"head"`
	Finalized About       `json:"finalized"`
	Anchor    About       `json:"anchor"`
}

// getTree is GET /v1/blocks.
func (c *call) getTree() error {
	leaves, err := c.boolParam("leaves", false)
	if err != nil {
		return err
	}
	limit, err := c.intParam("limit", defaultPage, 1, c.s.limits.Page)
	if err != nil {
		return err
	}
	var from forks.Block
	if name := c.query.Get("from"); name != "" {
		if from, err = c.core.Resolve(name); err != nil {
			return err
		}
	}
	head := c.core.Head()
	c.names(head)
	out := treePage{Blocks: []Block{}, Head: aboutBlock(head)}
	c.core.ReadTree(func(t *forks.Tree) {
		out.Anchor, out.Finalized = aboutBlock(t.Anchor()), aboutBlock(t.Finalized())
		var list []forks.Block
		if leaves {
			list = t.Leaves()
		} else {
			list = slices.Collect(t.All())
		}
		// By slot and hash: a page goes on at the same place whatever came meanwhile, and
		// parents are before their children.
		order := func(a, b forks.Block) int { return cmp.Or(cmp.Compare(a.Slot, b.Slot), a.Hash.Compare(b.Hash)) }
		slices.SortFunc(list, order)
		i, _ := slices.BinarySearchFunc(list, from, order)
		for _, b := range list[i:] {
			if len(out.Blocks) == limit {
				out.Next = &b.Hash
				break
			}
			out.Blocks = append(out.Blocks, c.describe(t, b, head))
		}
	})
	c.w.Header()["Cache-Control"] = []string{"no-cache"}
	return c.json(http.StatusOK, out)
}

// hashesBody is the request of POST /v1/blocks/held.
type hashesBody struct {
	Hashes []forks.Hash `json:"hashes" nullable:"false"`
}

// heldBody is its answer.
type heldBody struct {
	Held []forks.Hash `json:"held" nullable:"false" doc:"those of the request that are held, in its order"`
}

// heldSize is the most bytes of that request: maxHeld hashes, and room for blanks.
const heldSize = 1 << 20

// getHeld is POST /v1/blocks/held.
func (c *call) getHeld() error {
	if _, err := c.bodyForm(typeJSON); err != nil {
		return err
	}
	var req hashesBody
	err := c.body(heldSize, func(b []byte) error { return object(b, map[string]any{"hashes": &req.Hashes}, "hashes") })
	if err != nil {
		return err
	}
	if len(req.Hashes) > maxHeld {
		return newFault("too-large", "%d hashes, at most %d", len(req.Hashes), maxHeld)
	}
	out := heldBody{Held: []forks.Hash{}}
	c.core.ReadTree(func(t *forks.Tree) {
		for _, h := range req.Hashes {
			if _, ok := t.Get(h); ok {
				out.Held = append(out.Held, h)
			}
		}
	})
	return c.json(http.StatusOK, out)
}

package client

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"io"
	"net/url"
	"strconv"
	"time"

	"accessor/jam"
)

// Block describes a block, named as of At.
func (c *Client) Block(ctx context.Context, name string) (BlockInfo, error) {
	return c.block(ctx, name, "", 0)
}

// WaitBlock is Block for one named by its hash, which may not be held yet: it is waited
// for, a minute at most. Error: ErrUnknownBlock where it didn't come.
func (c *Client) WaitBlock(ctx context.Context, hash Hash, wait time.Duration) (BlockInfo, error) {
	return c.block(ctx, blockName(hash), "?wait="+wait.String(), wait)
}

func (c *Client) block(ctx context.Context, name, query string, wait time.Duration) (BlockInfo, error) {
	var out BlockInfo
	v := c.At(name)
	k, err := v.open(ctx, request{method: "GET", accept: typeJSON, wait: wait}, query)
	if err != nil {
		return out, err
	}
	at := k.head.at()
	if err := k.decode(&out); err != nil {
		return out, err
	}
	if out.About != at {
		return out, badAnswer("a description of block %s, not %s", out.Block, at.Block)
	}
	return out, nil
}

// BlocksOptions says which blocks Blocks gives.
type BlocksOptions struct {
	Leaves bool // only blocks without children
	Page   int  // blocks asked for at a time; 0 for 1,000. The server gives 10,000 at most
}

// Blocks gives the tree, page by page: blocks that come meanwhile may be missing. Head,
// Finalized and Anchor are those of the last page.
func (c *Client) Blocks(ctx context.Context, o BlocksOptions) (Tree, error) {
	var out Tree
	query := url.Values{}
	if o.Leaves {
		query.Set("leaves", "true")
	}
	if o.Page > 0 {
		query.Set("limit", strconv.Itoa(o.Page))
	}
	for {
		var page struct {
			Tree
			Next *Hash `json:"next"`
		}
		if _, err := c.json(ctx, &request{method: "GET", path: "/v1/blocks?" + query.Encode()}, nil, &page); err != nil {
			return out, err
		}
		for _, b := range page.Blocks {
			if n := len(out.Blocks); n > 0 && order(out.Blocks[n-1].About, b.About) >= 0 {
				return out, badAnswer("block %s after %s", b.Block, out.Blocks[n-1].Block)
			}
			out.Blocks = append(out.Blocks, b)
		}
		out.Head, out.Finalized, out.Anchor = page.Head, page.Finalized, page.Anchor
		if page.Next == nil {
			return out, nil
		}
		if len(page.Blocks) == 0 {
			return out, badAnswer("a page without blocks, and another to come")
		}
		query.Set("from", blockName(*page.Next))
	}
}

// order is that of blocks in a tree.
func order(a, b About) int { return cmp.Or(cmp.Compare(a.Slot, b.Slot), a.Block.Compare(b.Block)) }

// Held gives those of the hashes that are held, in their order. Error: ErrTooLarge for
// more than 10,000, among others.
func (c *Client) Held(ctx context.Context, hashes []Hash) ([]Hash, error) {
	var out struct{ Held []Hash }
	in := map[string][]Hash{"hashes": append([]Hash{}, hashes...)} // no null
	if _, err := c.json(ctx, &request{method: "POST", path: "/v1/blocks/held"}, in, &out); err != nil {
		return nil, err
	}
	for _, h := range out.Held {
		for len(hashes) > 0 && hashes[0] != h {
			hashes = hashes[1:]
		}
		if len(hashes) == 0 {
			return nil, badAnswer("block %s is held, which wasn't asked", h)
		}
		hashes = hashes[1:]
	}
	return out.Held, nil
}

// named looks whether an answer is about the block that was meant.
func named(got, want Hash, err error) error {
	if err == nil && got != want {
		return badAnswer("an answer about block %s, not %s", got, want)
	}
	return err
}

// SetHead says which block is best.
func (c *Client) SetHead(ctx context.Context, hash Hash) (About, error) {
	var out About
	_, err := c.json(ctx, &request{method: "POST", path: "/v1/head"}, map[string]Hash{"hash": hash}, &out)
	return out, named(out.Block, hash, err)
}

// Finalize makes a branch canonical, up to a block.
func (c *Client) Finalize(ctx context.Context, hash Hash) (Finalized, error) {
	var out Finalized
	_, err := c.json(ctx, &request{method: "POST", path: "/v1/finalize"}, map[string]Hash{"hash": hash}, &out)
	return out, named(out.Block, hash, err)
}

// PutAnchor makes the store, which must be empty, of a state file with a header
// (docs/FORMAT.md): contentType is application/x-ndjson, or application/octet-stream
// where it is compressed. The file is sent as it is read.
func (c *Client) PutAnchor(ctx context.Context, r io.Reader, contentType string) (About, error) {
	var out About
	_, err := c.json(ctx, &request{method: "PUT", path: "/v1/anchor", media: contentType, stream: r, endless: true}, nil, &out)
	return out, err
}

// Diff gives what differs between the states at two blocks, named as of At.
func (c *Client) Diff(ctx context.Context, from, to string) (Diff, error) {
	var in struct {
		From, To, Common About
		Keys             []struct{ Key, From, To hexBytes }
	}
	query := url.Values{"from": {serverName(from)}, "to": {serverName(to)}}
	if _, err := c.json(ctx, &request{method: "GET", path: "/v1/diff?" + query.Encode()}, nil, &in); err != nil {
		return Diff{}, err
	}
	for _, side := range []struct {
		name string
		got  Hash
	}{{from, in.From.Block}, {to, in.To.Block}} {
		if h, ok := wholeHash(side.name); ok && h != side.got {
			return Diff{}, named(side.got, h, nil)
		}
	}
	out := Diff{From: in.From, To: in.To, Common: in.Common, Keys: make([]Difference, len(in.Keys))}
	for i, d := range in.Keys {
		out.Keys[i] = Difference{d.Key, d.From, d.To}
	}
	return out, nil
}

// HistoryOptions says which part of a key's history is wanted.
type HistoryOptions struct {
	At    string // the newest block of it, named as of At; empty for the head
	Limit int    // most versions; 0 for 100. The server gives 10,000 at most
}

// History gives who wrote a key: in hex, or by the name of a JAM state item.
func (c *Client) History(ctx context.Context, key string, o HistoryOptions) (History, error) {
	query := url.Values{}
	if o.At != "" {
		query.Set("at", serverName(o.At))
	}
	if o.Limit > 0 {
		query.Set("limit", strconv.Itoa(o.Limit))
	}
	path := "/v1/history/" + url.PathEscape(key)
	if len(query) > 0 {
		path += "?" + query.Encode()
	}
	var in struct {
		About
		Key      hexBytes
		Versions []struct {
			About
			Value hexBytes
		}
	}
	if _, err := c.json(ctx, &request{method: "GET", path: path}, nil, &in); err != nil {
		return History{}, err
	}
	if h, ok := wholeHash(o.At); ok && h != in.Block {
		return History{}, named(in.Block, h, nil)
	}
	if want, err := jam.ParseKey(key); err == nil && !bytes.Equal(want, in.Key) {
		return History{}, badAnswer("the history of key %.80x, not %.80x", in.Key, want)
	}
	out := History{About: in.About, Key: in.Key, Versions: make([]Version, len(in.Versions))}
	for i, v := range in.Versions {
		out.Versions[i] = Version{v.About, v.Value}
	}
	return out, nil
}

// Locks gives the timeslots that are locked or reserved.
func (c *Client) Locks(ctx context.Context) (Locks, error) {
	var out Locks
	_, err := c.json(ctx, &request{method: "GET", path: "/v1/locks"}, nil, &out)
	return out, err
}

// Status says what store, tree and drafts are like.
func (c *Client) Status(ctx context.Context) (Status, error) {
	var out Status
	_, err := c.json(ctx, &request{method: "GET", path: "/v1/status"}, nil, &out)
	return out, err
}

// Ready is nil while blocks can be imported and read. Error: ErrNotReady, saying why,
// among others.
func (c *Client) Ready(ctx context.Context) error {
	return c.done(ctx, &request{method: "GET", path: "/readyz"})
}

// Config gives the effective configuration as JSON, to operators.
func (c *Client) Config(ctx context.Context) (json.RawMessage, error) {
	var out json.RawMessage
	_, err := c.json(ctx, &request{method: "GET", path: "/v1/config"}, nil, &out)
	return out, err
}

// milliseconds gives a time as the API has it; 0 stays the default.
func milliseconds(d time.Duration) int64 {
	if d > 0 && d < time.Millisecond {
		return 1
	}
	return d.Milliseconds()
}

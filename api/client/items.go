package client

import (
	"context"

	"golang.org/x/crypto/blake2b"
)

// MaxItem is the most bytes of an item.
const MaxItem = 16 << 20

// Item gives an item (a preimage, bundle or segment) by its BLAKE2b-256 hash, which is
// checked: from the sidecar's store, else from its peers. Errors: ErrUnknownItem where
// nobody has it, ErrNotFetched where peers could not be asked, among others.
func (c *Client) Item(ctx context.Context, hash Hash) ([]byte, error) {
	item, err := c.octets(ctx, itemPath(hash), MaxItem)
	if err != nil {
		return nil, err
	}
	if got := Hash(blake2b.Sum256(item)); got != hash {
		return nil, badAnswer("an item with hash %s, not %s", got, hash)
	}
	return item, nil
}

// PutItem has the sidecar keep an item for a time, for readers and peers, and gives its
// hash.
func (c *Client) PutItem(ctx context.Context, item []byte) (Hash, error) {
	hash := Hash(blake2b.Sum256(item))
	return hash, c.done(ctx, &request{method: "PUT", path: itemPath(hash), media: typeBinary, body: item})
}

func itemPath(hash Hash) string { return "/v1/da/" + hash.String() }

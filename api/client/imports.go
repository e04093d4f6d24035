package client

import (
	"context"
	"encoding/binary"
	"time"
)

// Import imports a block; where its slot is locked it waits for as long as that takes.
// To import a held block again is no error.
func (c *Client) Import(ctx context.Context, b *Block) (Imported, error) {
	return c.imports(ctx, b, -1)
}

// ImportWithin is Import that waits for others who have the slot, or import the parent,
// for so long at most. Error: ErrLocked or ErrUnknownBlock then, among others.
func (c *Client) ImportWithin(ctx context.Context, b *Block, wait time.Duration) (Imported, error) {
	return c.imports(ctx, b, max(wait, 0))
}

func (c *Client) imports(ctx context.Context, b *Block, wait time.Duration) (Imported, error) {
	r := &request{method: "POST", path: importPath(wait), media: typeBinary, body: appendBlock(nil, b), wait: max(wait, 0)}
	return c.importedBy(ctx, r, nil, b.Hash)
}

// importedBy sends a request that imports a block.
func (c *Client) importedBy(ctx context.Context, r *request, in any, hash Hash) (Imported, error) {
	var out Imported
	h, err := c.json(ctx, r, in, &out)
	out.New = h.status == 201
	return out, named(out.Hash, hash, err)
}

// importPath is that of imports; a wait below 0 is not said.
func importPath(wait time.Duration) string {
	if wait < 0 {
		return "/v1/blocks"
	}
	return "/v1/blocks?wait=" + wait.String()
}

// appendBlock appends a block in binary form (docs/PROTOCOL.md).
func appendBlock(dst []byte, b *Block) []byte {
	var flags uint32
	var roots []byte
	if b.PriorRoot != nil {
		flags |= 1
		roots = append(roots, b.PriorRoot[:]...)
	}
	if b.PostRoot != nil {
		flags |= 2
		roots = append(roots, b.PostRoot[:]...)
	}
	if b.Header != nil {
		flags |= 4
	}
	size := len("blk1") + 5*4 + 2*len(b.Hash) + len(roots) + len(b.Header)
	dst = append(append(dst, make([]byte, 0, size+writesSize(b.Puts, b.Dels))...), "blk1"...)
	dst = binary.LittleEndian.AppendUint32(dst, flags)
	dst = append(append(dst, b.Hash[:]...), b.Parent[:]...)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(b.Slot))
	dst = append(dst, roots...)
	if b.Header != nil {
		dst = appendFrame(dst, b.Header)
	}
	return appendWrites(dst, b.Puts, b.Dels)
}

func writesSize(puts []Pair, dels [][]byte) int {
	size := 8 + 8*len(puts) + 4*len(dels)
	for i := range puts {
		size += len(puts[i].Key) + len(puts[i].Value)
	}
	for _, key := range dels {
		size += len(key)
	}
	return size
}

// appendWrites appends a write set in binary form.
func appendWrites(dst []byte, puts []Pair, dels [][]byte) []byte {
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(puts)))
	for i := range puts {
		dst = appendFrame(appendFrame(dst, puts[i].Key), puts[i].Value)
	}
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(dels)))
	for _, key := range dels {
		dst = appendFrame(dst, key)
	}
	return dst
}

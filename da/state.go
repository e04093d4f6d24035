package da

import (
	"context"
	"errors"
	"fmt"

	"github.com/libp2p/go-libp2p/core/peer"
	"golang.org/x/crypto/blake2b"

	"accessor/forks"
	"accessor/jam"
	"accessor/state/merkle"
)

// maxNodes bounds the nodes of a proof of so many keys, in bytes.
func maxNodes(keys int) int { return min(keys*(merkle.MaxDepth+1)*merkle.NodeSize, MaxItem) }

// FetchKeys fetches the proof of keys, 1 to MaxKeys in ascending order, in the state
// after a block, and checks it against at.Root. Only at.Hash and at.Root are looked at.
// merkle.VerifyKeys gives the values. Errors: ErrNotFound, ErrNoPeers, ErrUnavailable,
// ErrTooLarge, ErrRequest, ErrClosed.
func (n *Node) FetchKeys(ctx context.Context, at forks.Block, keys [][merkle.KeySize]byte) (*merkle.Proof, error) {
	if err := checkKeys(keys); err != nil {
		return nil, err
	}
	most := MaxAnswer
	if len(keys) == 1 {
		most = MaxItem // one value may be that large
	}
	request := encodeKeys(at.Hash, keys, most)
	value, err := n.fetch.share(ctx, "keys"+string(at.Root[:])+string(request), func(ctx context.Context) (any, error) {
		return n.fetch.fly(ctx, operation{kind: kindKeys, place: placeOfState, ask: func(ctx context.Context, id peer.ID) (any, error) {
			p, err := n.fetch.askProof(ctx, kindKeys, id, request, len(keys), most)
			if err == nil {
				_, err = merkle.VerifyKeys(at.Root, keys, p)
			}
			return p, badProof(err)
		}})
	})
	if err != nil {
		return nil, fmt.Errorf("fetch %d keys at %s: %w", len(keys), at.Hash.Short(), err)
	}
	return value.(*merkle.Proof), nil
}

// FetchRange fetches the answer to a range request in the state after a block, and
// checks it against at.Root. more says that the state may have pairs above the last
// one, up to the end; then there is at least one pair, and the next request starts one
// above the last key. req.MaxSize is at most MaxAnswer; 0 stands for that. Errors: as
// of FetchKeys.
func (n *Node) FetchRange(ctx context.Context, at forks.Block, req merkle.RangeRequest) (p *merkle.Proof, more bool, err error) {
	if req.MaxSize == 0 || req.MaxSize > MaxAnswer {
		req.MaxSize = MaxAnswer
	}
	request := encodeRange(at.Hash, req)
	if _, _, err := decodeRange(request); err != nil {
		return nil, false, err
	}
	type answer struct {
		p    *merkle.Proof
		more bool
	}
	value, err := n.fetch.share(ctx, "range"+string(at.Root[:])+string(request), func(ctx context.Context) (any, error) {
		return n.fetch.fly(ctx, operation{kind: kindRange, place: placeOfState, ask: func(ctx context.Context, id peer.ID) (any, error) {
			p, more, err := n.fetch.askRange(ctx, id, at, req)
			return answer{p, more}, err
		}})
	})
	if err != nil {
		return nil, false, fmt.Errorf("fetch range at %s: %w", at.Hash.Short(), err)
	}
	a := value.(answer)
	return a.p, a.more, nil
}

// askRange asks one peer for a range.
//
// An answer without pairs that doesn't reach the range's end says nothing of what
// follows its start, and whoever goes on from there goes on forever. So the peer then
// has to show the next pair after the start, wherever it is: it must be above the end,
// or the first answer was a lie.
func (f *fetcher) askRange(ctx context.Context, id peer.ID, at forks.Block, req merkle.RangeRequest) (p *merkle.Proof, more bool, err error) {
	p, more, err = f.askRangeOnce(ctx, id, at, req)
	if err != nil || !more {
		return p, more, err
	}
	if len(p.Pairs) > 0 {
		// Perhaps the next pair is as large as that.
		if p.Size() < int(req.MaxSize)/4 {
			f.book.short(id)
		}
		return p, more, nil
	}
	wide := merkle.RangeRequest{Start: req.Start, MaxSize: 1}
	for i := range wide.End {
		wide.End[i] = 0xff
	}
	next, more, err := f.askRangeOnce(ctx, id, at, wide)
	if err != nil {
		return nil, false, err
	}
	if len(next.Pairs) == 0 && more || len(next.Pairs) > 0 && string(next.Pairs[0].Key[:]) <= string(req.End[:]) {
		return nil, false, invalid("a range without the pairs it has")
	}
	return p, false, nil
}

func (f *fetcher) askRangeOnce(ctx context.Context, id peer.ID, at forks.Block, req merkle.RangeRequest) (*merkle.Proof, bool, error) {
	most := max(int(req.MaxSize), MaxItem) // a single pair may be larger
	p, err := f.askProof(ctx, kindRange, id, encodeRange(at.Hash, req), 2, most)
	if err != nil {
		return nil, false, badProof(err)
	}
	more, err := merkle.VerifyRange(at.Root, req, p)
	return p, more, badProof(err)
}

func (f *fetcher) askProof(ctx context.Context, k kind, id peer.ID, request []byte, keys, most int) (*merkle.Proof, error) {
	var nodes, pairs []byte
	err := f.exchange(ctx, k, id, request, func(m messages) (err error) {
		if nodes, err = m.next(min(maxNodes(keys), most)); err != nil {
			return err
		}
		if pairs, err = m.next(most); err != nil {
			return err
		}
		return m.end()
	})
	if err != nil {
		return nil, err
	}
	return merkle.DecodeProof(nodes, pairs, keys)
}

// badProof makes a failed check what it means for the peer.
func badProof(err error) error {
	if errors.Is(err, merkle.ErrProof) {
		return invalid("%w", err)
	}
	return err
}

// FetchBlocks fetches blocks above one that the caller has: each is a child of it or
// of one before, in about most bytes (0 or more than MaxAnswer: MaxAnswer), and one at
// least. Fields agree with the header, where there is one, and with the parent's, where
// it is among them.
//
// Nobody can tell here who made a block: a header's seal is for the chain's validators
// to judge. Nor is the posterior root checked: whoever imports the block does that, and
// calls Blame where it's wrong. So only peers of the configuration are asked.
// ErrNotFound: none of those that can be asked knows the block, or anything above it.
// Other errors: as of FetchKeys.
func (n *Node) FetchBlocks(ctx context.Context, above forks.Hash, most int) ([]Block, error) {
	if most <= 0 || most > MaxAnswer {
		most = MaxAnswer
	}
	request := encodeBlocks(above, most)
	value, err := n.fetch.share(ctx, "blocks"+string(request), func(ctx context.Context) (any, error) {
		return n.fetch.fly(ctx, operation{kind: kindBlocks, trusted: true, ask: func(ctx context.Context, id peer.ID) (any, error) {
			return n.fetch.askBlocks(ctx, id, above, most)
		}})
	})
	if err != nil {
		return nil, fmt.Errorf("fetch blocks above %s: %w", above.Short(), err)
	}
	return value.([]Block), nil
}

func (f *fetcher) askBlocks(ctx context.Context, id peer.ID, above forks.Hash, most int) ([]Block, error) {
	var blocks []Block
	seen := map[forks.Hash]*Block{}
	err := f.exchange(ctx, kindBlocks, id, encodeBlocks(above, most), func(m messages) error {
		for size := 0; ; {
			b, err := m.nextOrEnd(MaxItem)
			if orderlyEnd(err) && len(blocks) > 0 {
				return nil
			}
			if err != nil {
				return cut(err)
			}
			if size += 4 + len(b); size > most && len(blocks) > 0 {
				return invalid("blocks of %d bytes, asked for at most %d", size, most)
			}
			block, err := decodeBlock(b)
			if err == nil {
				err = checkBlock(&block, above, seen)
			}
			if err != nil {
				return err
			}
			block.From = id.String()
			blocks = append(blocks, block)
			seen[block.Hash] = &block
		}
	})
	return blocks, err
}

// checkBlock checks a block's place among those before it, and its header.
func checkBlock(b *Block, above forks.Hash, seen map[forks.Hash]*Block) error {
	parent := seen[b.Parent]
	switch {
	case seen[b.Hash] != nil || b.Hash == above:
		return invalid("block %s twice", b.Hash)
	case parent == nil && b.Parent != above:
		return invalid("block %s without its parent", b.Hash)
	case parent != nil && (b.Slot <= parent.Slot || b.PriorRoot != parent.PostRoot):
		return invalid("block %s doesn't follow its parent", b.Hash)
	case len(b.Header) == 0:
		return nil
	}
	h, err := jam.ParseHeader(b.Header)
	if err != nil {
		return invalid("block %s: %w", b.Hash, err)
	}
	if jam.HeaderHash(b.Header) != b.Hash || h.Parent != b.Parent || h.Slot != b.Slot || h.PriorRoot != b.PriorRoot {
		return invalid("block %s isn't what its header says", b.Hash)
	}
	return nil
}

// FetchItem gives what has that BLAKE2b-256 hash: from Config.Items, or from a peer,
// and then it is put there in the background. Errors: as of FetchKeys.
func (n *Node) FetchItem(ctx context.Context, hash forks.Hash) ([]byte, error) {
	if n.config.Items != nil {
		if b, err := n.config.Items.Get(hash); err == nil {
			return b, nil
		}
		// Damaged or unreadable: a peer may have it whole.
	}
	value, err := n.fetch.share(ctx, "item"+string(hash[:]), func(ctx context.Context) (any, error) {
		v, err := n.fetch.fly(ctx, operation{kind: kindItem, place: placeOfItem(hash), ask: func(ctx context.Context, id peer.ID) (any, error) {
			return n.fetch.askItem(ctx, id, hash)
		}})
		if err == nil {
			n.keep(hash, v.([]byte))
		}
		return v, err
	})
	if err != nil {
		return nil, fmt.Errorf("fetch item %s: %w", hash.Short(), err)
	}
	return value.([]byte), nil
}

func (f *fetcher) askItem(ctx context.Context, id peer.ID, hash forks.Hash) (item []byte, err error) {
	err = f.exchange(ctx, kindItem, id, hash[:], func(m messages) error {
		if item, err = m.next(MaxItem); err != nil {
			return err
		}
		return m.end()
	})
	if err == nil && blake2b.Sum256(item) != hash {
		err = invalid("an item with another hash")
	}
	return item, err
}

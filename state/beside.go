package state

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"

	"accessor/checkpoint"
	"accessor/forks"
)

// Beside reads the states of a store that another process owns: those of which
// there is a checkpoint. It changes nothing, imports nothing and rebuilds
// nothing. It is safe for concurrent use, and has nothing to close.
type Beside struct {
	store      *checkpoint.Beside
	commitment Commitment

	mu      sync.Mutex // guards parents
	parents map[forks.Hash]forks.Hash
}

// OpenBeside prepares to read the store in a directory, whoever owns it. Errors:
// checkpoint.ErrEmpty, checkpoint.ErrFormat, ErrCommitment.
func OpenBeside(dir string, engine checkpoint.Engine) (*Beside, error) {
	store, err := checkpoint.OpenBeside(dir, engine)
	if err != nil {
		return nil, err
	}
	c, ok := CommitmentByName(store.Commitment())
	if !ok {
		return nil, fmt.Errorf("read store in %s: %w: %q, which this program doesn't know", dir, ErrCommitment, store.Commitment())
	}
	return &Beside{store: store, commitment: c, parents: make(map[forks.Hash]forks.Hash)}, nil
}

// Commitment is the store's state commitment.
func (b *Beside) Commitment() Commitment { return b.commitment }

// Owner is the id of the process that took the store last; 0 where that can't be
// told.
func (b *Beside) Owner() int { return b.store.Owner() }

// Heads gives what the store's owner says of head and finalized: some hundred
// milliseconds old at most, while blocks come fast. Error: checkpoint.ErrHeads.
func (b *Beside) Heads() (checkpoint.Heads, error) { return b.store.Heads() }

// Resolve finds the block that people and programs name, as Accessor.Resolve
// does, and gives its hash: slot and root are to be had from the block's View.
//
// What the owner says (Heads) decides head, finalized, anchor and genesis; where
// it can't be read, the error is checkpoint.ErrHeads. Hashes and slots are looked
// up among the names of the store's files. At or below finalized, a slot is the
// canonical block's, which the block records from finalized down to it tell: they
// are read once, some 50 us each. Where they have a gap, and above finalized, it is the only block of that slot, and
// several are ambiguous; so it is everywhere while the owner's word can't be read.
//
// Errors: ErrBadName, ErrUnknownBlock (a *NoBlockError, with the nearest block
// below where it is known), ErrAmbiguous (an *AmbiguousError; its candidates have
// hash and slot alone), checkpoint.ErrHeads, and those of reading the directory.
func (b *Beside) Resolve(name string) (forks.Hash, error) {
	n, err := parseName(name)
	if err != nil {
		return forks.Hash{}, err
	}
	switch n.kind {
	case nameHead, nameFinalized, nameAnchor, nameGenesis:
		return b.labelled(n)
	case nameSlot:
		return b.atSlot(n.slot)
	}
	list, err := b.store.List()
	if err != nil {
		return forks.Hash{}, err
	}
	found, err := onlyOne(n.text, pick(list, func(l checkpoint.Listed) bool { return n.matches(l.Hash) }))
	return found.Hash, err
}

// labelled gives a block that the owner has a name for. Errors: ErrUnknownBlock,
// checkpoint.ErrHeads.
func (b *Beside) labelled(n blockName) (forks.Hash, error) {
	h, err := b.store.Heads()
	switch {
	case err != nil:
		return forks.Hash{}, fmt.Errorf("find block %s: %w", n.text, err)
	case n.kind == nameHead:
		return h.Head.Hash, nil
	case n.kind == nameFinalized:
		return h.Finalized.Hash, nil
	case n.kind == nameGenesis && h.Anchor.Slot != 0:
		return forks.Hash{}, errNoGenesis()
	}
	return h.Anchor.Hash, nil
}

// pick gives the listed blocks that match, by slot, then by hash.
func pick(list []checkpoint.Listed, match func(checkpoint.Listed) bool) (found []forks.Block) {
	for _, l := range list {
		if match(l) {
			found = append(found, forks.Block{Hash: l.Hash, Slot: l.Slot})
		}
	}
	return found
}

func (b *Beside) atSlot(slot forks.Slot) (forks.Hash, error) {
	// A former owner's word will do: what was finalized stays so, and nothing comes
	// back below the anchor. It is read before the list, which then has all ancestors of its blocks.
	h, headsErr := b.store.LastHeads()
	list, err := b.store.List()
	if err != nil {
		return forks.Hash{}, err
	}
	found := pick(list, func(l checkpoint.Listed) bool { return l.Slot == slot })
	if headsErr == nil && slot <= h.Finalized.Slot {
		return b.canonicalAt(list, found, slot, h)
	}
	one, err := onlyOne(fmt.Sprintf("slot %d", slot), found)
	var none *NoBlockError
	if errors.As(err, &none) && headsErr == nil {
		if near, walkErr := b.ancestorAt(list, h.Head, slot); walkErr == nil {
			none.Nearest = near
		}
	}
	return one.Hash, err
}

// canonicalAt gives the block of a slot at or below finalized; found are all
// blocks of that slot.
func (b *Beside) canonicalAt(list []checkpoint.Listed, found []forks.Block, slot forks.Slot, h checkpoint.Heads) (forks.Hash, error) {
	name := fmt.Sprintf("slot %d", slot)
	if slot < h.Anchor.Slot {
		return forks.Hash{}, &NoBlockError{Name: name}
	}
	at, err := b.ancestorAt(list, h.Finalized, slot)
	switch {
	case errors.Is(err, errGap) && len(found) == 0:
		return forks.Hash{}, &NoBlockError{Name: name}
	case errors.Is(err, errGap):
		return forks.Hash{}, &AmbiguousError{Name: name + ", of which nothing tells any more whether it is canonical,", Candidates: found}
	case err != nil:
		return forks.Hash{}, err
	case at == nil:
		return forks.Hash{}, &NoBlockError{Name: name}
	case at.Slot != slot:
		return forks.Hash{}, &NoBlockError{Name: name + " on the canonical branch", Nearest: at}
	}
	return at.Hash, nil
}

// errGap: a block's record is gone, so that its parent is not known.
var errGap = errors.New("block record is gone")

// ancestorAt gives the newest block at or before a slot among a block and its
// ancestors, nil where the anchor itself is above it. It reads the records on the
// way, once. Errors: errGap, and those of reading.
func (b *Beside) ancestorAt(list []checkpoint.Listed, from checkpoint.Label, slot forks.Slot) (*forks.Block, error) {
	names := make(map[forks.Hash]checkpoint.Listed, len(list))
	for _, l := range list {
		names[l.Hash] = l
	}
	at := checkpoint.Listed{Hash: from.Hash, Slot: from.Slot}
	for at.Slot > slot {
		parent, anchor, err := b.parent(at)
		if err != nil || anchor {
			return nil, err
		}
		above, ok := names[parent]
		if !ok || above.Slot >= at.Slot {
			return nil, errGap
		}
		at = above
	}
	return &forks.Block{Hash: at.Hash, Slot: at.Slot}, nil
}

// parent gives a block's parent, or says that it is the anchor.
func (b *Beside) parent(l checkpoint.Listed) (parent forks.Hash, anchor bool, err error) {
	b.mu.Lock()
	parent, known := b.parents[l.Hash]
	b.mu.Unlock()
	if known {
		return parent, false, nil
	}
	rec, err := b.store.Record(l)
	switch {
	case errors.Is(err, checkpoint.ErrMissing):
		return parent, false, errGap
	case err != nil || rec.Anchor:
		return parent, rec.Anchor, err
	}
	b.mu.Lock()
	b.parents[l.Hash] = rec.Parent
	b.mu.Unlock()
	return rec.Parent, false, nil
}

// View opens the state at a block. Nothing is rebuilt: where there is no checkpoint,
// the write sets down to the nearest one are looked through at each read. Errors:
// ErrUnknownBlock, checkpoint.ErrMissing where one of them is not there, after a
// quarter of a second in which it may have come, checkpoint.ErrDamaged, and that of
// ctx.
func (b *Beside) View(ctx context.Context, h forks.Hash) (*BesideView, error) {
	v, err := b.store.OpenView(ctx, h)
	switch {
	case errors.Is(err, checkpoint.ErrUnknown):
		return nil, &NoBlockError{Name: h.String()}
	case err != nil:
		return nil, fmt.Errorf("open state beside the store's owner: %w", err)
	}
	return &BesideView{v: v}, nil
}

// BesideView is the state at one block of a store that another process owns. It
// is safe for concurrent use until it is closed.
type BesideView struct {
	v *checkpoint.BesideView
}

// Block is the block that the view is about, as the record in its checkpoint has
// it.
func (v *BesideView) Block() forks.Block { return v.v.At() }

// Get gives the value of a key; present is false where the state has no such
// key.
func (v *BesideView) Get(key []byte) (value []byte, present bool, err error) {
	return v.v.Get(nil, key)
}

// All yields the state's pairs with keys in [from, to), as View.All does.
func (v *BesideView) All(from, to []byte) iter.Seq2[Pair, error] {
	return func(yield func(Pair, error) bool) {
		it := v.v.Scan(from, to)
		for it.Next() {
			if !yield(Pair{Key: it.Key(), Value: it.Value()}, nil) {
				_ = it.Close()
				return
			}
		}
		if err := it.Close(); err != nil {
			yield(Pair{}, err)
		}
	}
}

// Close gives the view back. Closing twice is safe.
func (v *BesideView) Close() { v.v.Close() }

package state

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"go.uber.org/zap"

	"accessor/checkpoint"
	"accessor/forks"
)

// SyncOptions of a Sync. The zero value works.
type SyncOptions struct {
	Fill FillOptions
	// CatchUp says to fetch the blocks since as well.
	CatchUp bool
	// Imported is told of each block that was taken in.
	Imported func(Result)
}

// metaSync is in the store from when a Sync with CatchUp begins until it has succeeded.
const metaSync = "sync"

// Syncing says whether a Sync has something to go on with: the state is only partly
// here, or a Sync that was to catch up as well has not ended yet, also by a kill.
func (a *Accessor) Syncing() bool { return a.Partial() || len(a.store.Meta(metaSync)) > 0 }

// Sync brings a partial store to where its peers are: the anchor's whole state, and,
// where that is asked for, the blocks since. Until then Syncing is true, whatever
// happens to the process. Errors: those of Fill and CatchUp, and the store's.
func (a *Accessor) Sync(ctx context.Context, opts SyncOptions) error {
	if opts.CatchUp && len(a.store.Meta(metaSync)) == 0 {
		if err := a.store.SetMeta(metaSync, []byte{1}); err != nil {
			return err
		}
	}
	if err := a.Fill(ctx, opts.Fill); err != nil {
		return err
	}
	if !opts.CatchUp {
		return nil
	}
	if _, err := a.CatchUp(ctx, opts.Imported); err != nil {
		return err
	}
	return a.store.SetMeta(metaSync, nil)
}

// CatchUpLimits bound the blocks above finalized that CatchUp takes in: only peers say
// that those belong to the chain, and one that lies must not fill the disk. What is held
// there already counts, whoever brought it. The zero value has defaults.
type CatchUpLimits struct {
	// Blocks is how many. Default 32,768: two days of JAM, and forks.
	Blocks int
	// Bytes is how large their deltas are together. Default 16 GiB.
	Bytes int64
}

func (l CatchUpLimits) withDefaults() CatchUpLimits {
	if l.Blocks <= 0 {
		l.Blocks = 32_768
	}
	if l.Bytes <= 0 {
		l.Bytes = 16 << 30
	}
	return l
}

// ErrAhead: as much as CatchUp may take in is above the finalized block already.
var ErrAhead = errors.New("no more blocks are taken from peers until one is finalized")

// take counts a block that is held, unless it has been pruned since.
func (l *CatchUpLimits) take(s *checkpoint.Store, h forks.Hash) {
	if rec, err := s.Get(h); err == nil {
		l.Blocks--
		l.Bytes -= rec.DeltaSize
	}
}

// unfinished is what is held above the finalized block.
type unfinished struct {
	blocks []forks.Hash
	leaves []forks.Hash // of these; also finalized where it is one
	from   forks.Hash   // above which a CatchUp looks for forks
}

// lookAhead walks once over what is above finalized: that may be much, and who imports
// waits meanwhile.
func (a *Accessor) lookAhead() (l unfinished) {
	a.ReadTree(func(t *forks.Tree) {
		finalized := t.Finalized().Hash
		l.from = finalized
		for queue := []forks.Hash{finalized}; len(queue) > 0; queue = queue[1:] {
			h := queue[0]
			if h == a.swept {
				l.from = h
			}
			children := t.Children(h)
			for _, c := range children {
				queue = append(queue, c.Hash)
			}
			if len(children) == 0 {
				l.leaves = append(l.leaves, h)
			}
			if h != finalized {
				l.blocks = append(l.blocks, h)
			}
		}
	})
	return l
}

// catchUpBytes is how many bytes of blocks are asked for at a time.
const catchUpBytes = 4 << 20

// CatchUp imports the blocks above finalized that peers hold, and gives how many were
// new. Each is checked as any import: by its header, where it has one, its parent, and
// its roots. But that it is a block of the chain peers alone say, and what the newest
// one of a branch wrote: the Fetcher asks only peers that are trusted so far. Where a
// block is refused, others are asked for it (see BlockRefuser). Errors: ErrNotFetched,
// ErrAhead, and the store's.
func (a *Accessor) CatchUp(ctx context.Context, imported func(Result)) (blocks int, err error) {
	ctx, end, err := a.begin(ctx)
	if err != nil {
		return 0, err
	}
	defer end()
	if a.fetcher == nil {
		return 0, fmt.Errorf("catch up: %w: %w", ErrNotFetched, errNoFetcher)
	}
	held := a.lookAhead()
	c := catchUp{a: a, imported: imported, left: a.ahead}
	for _, h := range held.blocks {
		c.left.take(a.store, h)
	}
	// Each leaf to go on there; and for forks that are not held yet a stretch of what is
	// held, another one each time.
	given, err := c.above(ctx, held.from)
	if err == nil {
		a.sweepTo(given)
		leaves := slices.DeleteFunc(held.leaves, func(h forks.Hash) bool { return h == held.from }) // done just now
		err = c.all(ctx, append(a.leavesOf(leaves), a.leavesOf(c.fresh)...))
	}
	if err != nil {
		return len(c.fresh), fmt.Errorf("catch up: %w", err)
	}
	return len(c.fresh), nil
}

// sweepTo notes where the next CatchUp looks for forks: above the last block but one on
// the way to the head that was given now, since of the last one's siblings some may not
// have been; or from finalized on again.
func (a *Accessor) sweepTo(given []forks.Hash) {
	among := make(map[forks.Hash]bool, len(given))
	for _, h := range given {
		among[h] = true
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.swept = forks.Hash{}
	head, finalized := a.headLocked(), a.tree.Finalized()
	found := 0
	for b := range a.tree.Ancestors(head.Hash) { // one walk, since readers wait meanwhile
		if found == 2 || b.Slot <= finalized.Slot || among[head.Hash] {
			return
		}
		if among[b.Hash] {
			a.swept = b.Hash
			found++
		}
	}
}

// catchUp is one CatchUp.
type catchUp struct {
	a        *Accessor
	imported func(Result)
	left     CatchUpLimits
	fresh    []forks.Hash // new blocks
}

// all goes on above blocks until peers have no more.
func (c *catchUp) all(ctx context.Context, tips []forks.Hash) error {
	for len(tips) > 0 {
		above, before := tips[len(tips)-1], len(c.fresh)
		tips = tips[:len(tips)-1]
		if _, err := c.above(ctx, above); err != nil {
			return err
		}
		tips = append(tips, c.a.leavesOf(c.fresh[before:])...)
	}
	return nil
}

// leavesOf gives those of blocks that have no children.
func (a *Accessor) leavesOf(blocks []forks.Hash) (leaves []forks.Hash) {
	a.ReadTree(func(t *forks.Tree) {
		for _, h := range blocks {
			if len(t.Children(h)) == 0 {
				leaves = append(leaves, h)
			}
		}
	})
	return leaves
}

// mostRefusals is how often blocks are asked for again where one was refused: another
// peer may give the right one.
const mostRefusals = 4

// above fetches and imports descendants of a block, and gives those that are held then.
func (c *catchUp) above(ctx context.Context, above forks.Hash) (given []forks.Hash, err error) {
	a := c.a
	for range mostRefusals {
		fetching, cancel := context.WithTimeout(ctx, a.fetchTimeout)
		list, fetchErr := a.fetcher.FetchBlocks(fetching, above, catchUpBytes)
		cancel()
		if fetchErr != nil {
			return nil, fmt.Errorf("%w: blocks above %s: %w", ErrNotFetched, above, fetchErr)
		}
		given = given[:0]
		var refused error
		for _, b := range list {
			h, err := c.take(ctx, b)
			switch {
			case refusedBlock(err):
				refused = cmp.Or(refused, err)
			case err != nil:
				return nil, err
			default:
				given = append(given, h)
			}
		}
		if refused == nil {
			return given, nil
		}
		err = fmt.Errorf("%w: a block above %s: %w", ErrNotFetched, above, refused)
	}
	return nil, err
}

// take imports a block of a peer, unless there is no room for it.
func (c *catchUp) take(ctx context.Context, b *Block) (h forks.Hash, err error) {
	if c.left.Blocks <= 0 || c.left.Bytes <= 0 {
		return h, fmt.Errorf("%w: of %d blocks, and %d bytes of them, there may be no more", ErrAhead, c.a.ahead.Blocks, c.a.ahead.Bytes)
	}
	res, err := c.a.importOf(ctx, b)
	if err != nil || res.Held {
		return res.Block.Hash, err
	}
	c.fresh = append(c.fresh, res.Block.Hash)
	if c.imported != nil {
		c.imported(res)
	}
	c.left.take(c.a.store, res.Block.Hash)
	return res.Block.Hash, nil
}

// importOf imports a block of a peer.
func (a *Accessor) importOf(ctx context.Context, b *Block) (Result, error) {
	if b == nil || b.PostRoot == nil {
		return Result{}, fmt.Errorf("%w: a peer's, without its root", ErrInvalid)
	}
	given := *b
	given.Owner = "sync"
	res, err := a.Import(ctx, &given)
	if refusedBlock(err) {
		a.log.Warn("refuse a block of a peer", zap.Stringer("block", b.Hash), zap.Error(err))
		if f, ok := a.fetcher.(BlockRefuser); ok && !errors.Is(err, ErrUnknownParent) {
			f.RefuseBlock(b, err)
		}
	}
	return res, err
}

// refusedBlock says whether an error is about the block, not about the store.
func refusedBlock(err error) bool {
	for _, kind := range []error{ErrInvalid, ErrUnknownParent, ErrSlotOrder, ErrPriorRoot, ErrWrongRoot, ErrConflict, ErrLimit} {
		if errors.Is(err, kind) {
			return true
		}
	}
	return false
}

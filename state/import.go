package state

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.uber.org/zap"

	"accessor/checkpoint"
	"accessor/forks"
	"accessor/locking"
)

// Result of an import.
type Result struct {
	// Block is the block as it is held, with the root of its state.
	Block forks.Block
	// Held says that the block was there already, with the same content.
	Held bool
	// WalkBack says how far the import had to walk back, and why; nil where the
	// parent's checkpoint or working database could be used.
	WalkBack *WalkBack
	// Unsealed is why the block, though held, has no checkpoint; nil where it
	// has one. Its state is rebuilt from its ancestors' on demand; after ErrPartial,
	// once the store is complete.
	Unsealed error
	// Took is the time from the call to its answer.
	Took time.Duration
}

// Import takes a block in. When it returns without an error the block's write
// set and record are on disk. The same block again is answered as held.
//
// Errors: ErrUnknownParent, ErrSlotOrder, ErrPriorRoot, ErrWrongRoot,
// ErrConflict, ErrInvalid, ErrUnavailable, ErrNotFetched, a *locking.LockedError where ctx
// ended while another import had the slot, and the store's. After any of them
// nothing of the block is held; but after checkpoint.ErrUndecided, or where the
// disk fails while the block is recorded, the next start may hold it.
func (a *Accessor) Import(ctx context.Context, b *Block) (Result, error) {
	return a.importWithin(ctx, b, -1)
}

// ImportWithin is Import for a caller who doesn't wait long for others: for the
// slot's lock, and for imports of the same block and of its parent. Where that wait
// is over, or another is at it and wait is 0, the error is a *LockedError, which
// names who.
func (a *Accessor) ImportWithin(ctx context.Context, b *Block, wait time.Duration) (Result, error) {
	return a.importWithin(ctx, b, max(wait, 0))
}

// errWaitOver: the caller's wait for a lock is over.
var errWaitOver = errors.New("the wait is over")

// importWithin imports with a bound of the wait for others; below 0 for none.
func (a *Accessor) importWithin(ctx context.Context, b *Block, wait time.Duration) (Result, error) {
	start := time.Now()
	ctx, end, err := a.begin(ctx)
	if err != nil {
		return Result{}, fmt.Errorf("import block %s: %w", b.Hash, err)
	}
	defer end()
	waiting := ctx
	if wait >= 0 {
		var cancel context.CancelFunc
		waiting, cancel = context.WithTimeoutCause(ctx, wait, errWaitOver)
		defer cancel()
	}
	var seen Imported
	res, err := a.importBlock(ctx, waiting, b, &seen)
	res.Took = time.Since(start)
	a.noteImport(b, res, err, seen)
	if err != nil {
		return res, err
	}
	if w := res.WalkBack; w != nil {
		a.log.Info("walked back", zap.Stringer("block", b.Hash), zap.Stringer("from", w.From.Hash),
			zap.Int("blocks", w.Blocks), zap.Strings("reasons", w.Reasons()))
	}
	if res.Unsealed != nil && !errors.Is(res.Unsealed, ErrPartial) {
		a.log.Warn("block is held without a checkpoint", zap.Stringer("block", b.Hash), zap.Error(res.Unsealed))
	}
	return res, nil
}

// importBlock imports a block; waiting is the context in which it waits for others.
func (a *Accessor) importBlock(ctx, waiting context.Context, b *Block, seen *Imported) (Result, error) {
	b, ws, err := a.writeSet(b)
	if err != nil {
		return Result{}, err
	}
	flight, done, err := a.takeOff(waiting, b, ws)
	if err != nil || done != nil {
		return deref(done), err
	}
	defer a.land(b.Hash, flight)

	lease, waited, err := a.lockSlot(waiting, b)
	seen.LockWait = waited
	if err != nil {
		return Result{}, fmt.Errorf("import block %s: %w", b.Hash, err)
	}
	defer lease.Release()
	parent, err := a.check(b)
	if err != nil {
		return Result{}, err
	}
	if p := a.enter(); p != nil {
		res, again, err := a.importPartial(ctx, p, b, ws, parent, flight, seen)
		p.leave()
		if !again {
			return res, err
		}
	}
	w, walk, err := a.workingAt(ctx, parent)
	if err != nil {
		return Result{}, fmt.Errorf("import block %s: %w", b.Hash, err)
	}
	rec, publish, err := a.hold(b, ws, parent, w, walkBackEvents(b, walk))
	if err != nil {
		if errors.Is(err, errUnreadable) {
			w.Drop() // the next import would fail on it too
		} else {
			a.store.Park(w) // it still stands at the parent
		}
		return Result{}, err
	}
	a.cacheWrites(rec, ws)
	seen.Bytes = rec.DeltaSize
	a.settle(rec.Block, flight)
	publish()

	// The block is held from here on, whatever happens to its checkpoint.
	res := Result{Block: rec.Block, WalkBack: walk}
	res.Unsealed = a.seal(w, rec.Hash)
	a.heads.poke() // now, so that a head that others are told of can be read
	return res, nil
}

// ownerOf names who imports a block.
func (a *Accessor) ownerOf(b *Block) string { return cmp.Or(b.Owner, a.owner) }

// lockedFor is the error of a wait for the import of another block that is over.
func (a *Accessor) lockedFor(other forks.Hash, slot forks.Slot, owner string, cause error) error {
	e := &LockedError{Info: locking.Info{Slot: slot, Block: other, Owner: owner}, Cause: cause}
	for _, info := range a.locks.Locks() {
		if info.Block == other {
			e.Info, e.Age = info, time.Since(info.Since)
		}
	}
	return e
}

func deref(r *Result) Result {
	if r == nil {
		return Result{}
	}
	return *r
}

// writeSet checks what can be checked without the tree, and normalises.
func (a *Accessor) writeSet(b *Block) (*Block, checkpoint.WriteSet, error) {
	b, err := a.checkForm(b)
	if err != nil {
		return nil, nil, fmt.Errorf("import block %s: %w", b.Hash, err)
	}
	ws, err := checkpoint.NewWriteSet(b.Puts, b.Dels, a.store.Limits())
	if err != nil {
		return nil, nil, fmt.Errorf("import block %s: %w: %w", b.Hash, ErrInvalid, err)
	}
	return b, ws, nil
}

// checkForm checks a block by itself. Error: ErrInvalid.
func (a *Accessor) checkForm(b *Block) (*Block, error) {
	if len(b.Header) > checkpoint.MaxHeader {
		return b, fmt.Errorf("%w: header of %d bytes, at most %d", ErrInvalid, len(b.Header), checkpoint.MaxHeader)
	}
	stated, err := a.commitment.Check(b)
	if err != nil {
		return b, err
	}
	return stated, nil
}

// takeOff checks the block against the tree and announces its import. A block
// that is held already is answered by a Result. It waits for an import of the
// same block, and for one of the parent, until they hold it or fail.
func (a *Accessor) takeOff(ctx context.Context, b *Block, ws checkpoint.WriteSet) (*inflight, *Result, error) {
	for {
		a.mu.Lock()
		if held, ok := a.tree.Get(b.Hash); ok {
			a.mu.Unlock()
			if err := a.sameContent(b, ws); err != nil {
				return nil, nil, fmt.Errorf("import block %s: %w", b.Hash, err)
			}
			return nil, &Result{Block: held, Held: true}, nil
		}
		other := b.Hash
		wait := a.inflight[other]
		if _, ok := a.tree.Get(b.Parent); !ok && wait == nil {
			other = b.Parent
			wait = a.inflight[other]
		}
		if wait == nil {
			_, err := a.checkLocked(b)
			if err == nil && a.full.Load() {
				err = fmt.Errorf("import block %s: %w", b.Hash, ErrOverBudget)
			}
			var flight *inflight
			if err == nil {
				flight = &inflight{parent: b.Parent, owner: a.ownerOf(b), settled: make(chan struct{})}
				a.inflight[b.Hash] = flight
			}
			a.mu.Unlock()
			return flight, nil, err
		}
		a.mu.Unlock()
		select {
		case <-wait.settled:
		case <-ctx.Done():
			err := context.Cause(ctx)
			if errors.Is(err, errWaitOver) {
				err = a.lockedFor(other, b.Slot, wait.owner, err)
			}
			return nil, nil, fmt.Errorf("import block %s: wait for another import of block %s: %w", b.Hash, other, err)
		}
	}
}

// settle publishes a held block: it may be a parent now.
func (a *Accessor) settle(b forks.Block, flight *inflight) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.tree.Add(b); err != nil {
		panic(err) // checked under the slot's lease; pruning spares what imports go on
	}
	delete(a.inflight, b.Hash)
	close(flight.settled)
	a.wakeAwaitedLocked(b.Hash)
	a.tellGrownLocked(b)
}

// land ends an import that did not settle.
func (a *Accessor) land(h forks.Hash, flight *inflight) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.inflight[h] == flight {
		delete(a.inflight, h)
		close(flight.settled)
	}
}

// Check says whether a store can refuse the block by its parent, slot and prior
// root, without its write set. Errors: ErrInvalid, ErrUnknownParent,
// ErrSlotOrder, ErrPriorRoot.
func (a *Accessor) Check(b *Block) error {
	b, err := a.checkForm(b)
	if err != nil {
		return fmt.Errorf("check block %s: %w", b.Hash, err)
	}
	_, err = a.check(b)
	return err
}

func (a *Accessor) check(b *Block) (parent forks.Block, err error) {
	a.mu.RLock()
	defer a.mu.RUnlock()
	return a.checkLocked(b)
}

func (a *Accessor) checkLocked(b *Block) (parent forks.Block, err error) {
	parent, ok := a.tree.Get(b.Parent)
	switch {
	case !ok:
		return parent, fmt.Errorf("%w: %s of block %s at slot %d", ErrUnknownParent, b.Parent, b.Hash, b.Slot)
	case b.Slot <= parent.Slot:
		return parent, fmt.Errorf("%w: block %s has slot %d, parent %s has %d", ErrSlotOrder, b.Hash, b.Slot, parent.Hash, parent.Slot)
	case b.PriorRoot != nil && *b.PriorRoot != parent.Root:
		return parent, &RootError{Kind: ErrPriorRoot, Block: b.Hash, Slot: b.Slot, Declared: *b.PriorRoot, Actual: parent.Root}
	}
	return parent, nil
}

// errUnreadable: the working database can't be read.
var errUnreadable = errors.New("read parent's state")

// hold computes the root, then writes and records the delta.
// What it gives publishes the events of that.
func (a *Accessor) hold(b *Block, ws checkpoint.WriteSet, parent forks.Block, w *checkpoint.Working, events []Event) (*checkpoint.Record, func(), error) {
	root, trie, err := a.root(b, ws, parent, w)
	if err != nil {
		return nil, nil, err
	}
	rec := &checkpoint.Record{
		Block:     forks.Block{Hash: b.Hash, Parent: b.Parent, Slot: b.Slot, Root: root},
		PriorRoot: parent.Root,
		Header:    slices.Clone(b.Header), // kept as long as the store is open
	}
	if err := a.store.WriteDelta(rec, ws, trie.changes); err != nil {
		return nil, nil, fmt.Errorf("import block %s: %w", b.Hash, err)
	}
	publish, err := a.store.RecordWith(rec, events...)
	if err != nil {
		publish()
		return nil, nil, fmt.Errorf("import block %s: %w", b.Hash, err)
	}
	if trie.after != nil {
		a.tries.add(b.Hash, trie.after.Commit())
	}
	return rec, publish, nil
}

// root computes the root after the block and compares it with the stated one.
func (a *Accessor) root(b *Block, ws checkpoint.WriteSet, parent forks.Block, w *checkpoint.Working) (root forks.Hash, trie trieUpdate, err error) {
	if !a.commitment.Rooted() {
		if b.PostRoot != nil {
			root = *b.PostRoot
		}
		return root, trie, nil
	}
	trie, err = a.updateTrie(parent, ws, w)
	if err != nil {
		return root, trie, fmt.Errorf("import block %s: %w: %w", b.Hash, errUnreadable, err)
	}
	if b.PostRoot != nil && *b.PostRoot != trie.root {
		return root, trie, &RootError{Kind: ErrWrongRoot, Block: b.Hash, Slot: b.Slot, Declared: *b.PostRoot, Actual: trie.root}
	}
	return trie.root, trie, nil
}

// seal moves the working database on to a held block and seals its checkpoint.
func (a *Accessor) seal(w *checkpoint.Working, h forks.Hash) error {
	err := w.Advance(h)
	if err == nil {
		err = a.store.Seal(w)
	}
	if err != nil {
		w.Drop() // after a failed ingestion nobody knows where it stands
		return err
	}
	a.store.Park(w)
	return nil
}

// sameContent compares a block with the held one of its hash. Error:
// ErrConflict.
func (a *Accessor) sameContent(b *Block, ws checkpoint.WriteSet) error {
	rec, err := a.store.Get(b.Hash)
	if err != nil {
		return err
	}
	differs := func(what string, held, given any) error {
		return fmt.Errorf("%w: %s at slot %d: %s is %v, given %v", ErrConflict, b.Hash, rec.Slot, what, held, given)
	}
	switch {
	case rec.Slot != b.Slot:
		return differs("slot", rec.Slot, b.Slot)
	case rec.Anchor:
		return differs("block", "the anchor", "a child of "+b.Parent.Short())
	case rec.Parent != b.Parent:
		return differs("parent", rec.Parent, b.Parent)
	case b.PriorRoot != nil && rec.PriorRoot != *b.PriorRoot:
		return differs("prior root", rec.PriorRoot, *b.PriorRoot)
	case b.PostRoot != nil && rec.Root != *b.PostRoot:
		return differs("root", rec.Root, *b.PostRoot)
	case b.PostRoot != nil && a.commitment.Rooted():
		return nil // the root says all about the state
	}
	same, err := a.sameWrites(b.Hash, ws)
	if err != nil {
		return err
	}
	if !same {
		return differs("write set", "another one", "this one")
	}
	return nil
}

func (a *Accessor) sameWrites(h forks.Hash, ws checkpoint.WriteSet) (bool, error) {
	held, err := a.store.ReadDelta(h)
	if err != nil {
		return false, err
	}
	same := true
	for w, err := range held {
		if err != nil {
			return false, err
		}
		if len(ws) == 0 || !w.Equal(ws[0]) {
			same = false
			break
		}
		ws = ws[1:]
	}
	return same && len(ws) == 0, nil
}

// beingWritten says whether an import or a rebuild is at work on that very
// block's checkpoint.
func (a *Accessor) beingWritten(b forks.Block) error {
	info, ok := a.locks.Writing(b.Hash, b.Slot)
	if !ok {
		return nil
	}
	return &locking.LockedError{Info: info, Age: time.Since(info.Since)}
}

package state

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sort"
	"time"

	"go.uber.org/zap"

	"accessor/checkpoint"
	"accessor/forks"
)

// Retention says how long blocks are kept: until the first of its bounds passes them.
// Finalized, its descendants and pinned blocks are kept in any case; a fork that lost
// is as old as the canonical block where it left. The zero value keeps 14,400 slots
// back from finalized, a day of JAM.
type Retention struct {
	// All keeps everything.
	All bool
	// Slots is how many slots back from finalized are kept. Default 14,400.
	Slots forks.Slot
	// Age is how long after their arrival blocks are kept; 0 for any time.
	Age time.Duration
	// DiskBytes is how much space the store may take; 0 for any. Where pruning is not
	// enough, checkpoints are thinned out, those of forks that lost first; where that
	// is not enough either, imports are refused until something is finalized.
	DiskBytes int64
	// Sealed is how many blocks below finalized keep their checkpoints, for those who
	// read a little behind; older ones are archived when an image has been made above
	// them (checkpoint.Store.Archive). Default 64.
	Sealed int
	// Step is by how many blocks at least the anchor moves at a time, since each time
	// its whole state is written. Default 256.
	Step int
	// MaxPins is the most pins at a time. Default 64.
	MaxPins int
}

func (r Retention) withDefaults() Retention {
	if r.Slots == 0 {
		r.Slots = 14_400
	}
	if r.Sealed <= 0 {
		r.Sealed = 64
	}
	if r.Step <= 0 {
		r.Step = 256
	}
	if r.MaxPins <= 0 {
		r.MaxPins = 64
	}
	return r
}

// Retained says what a Retain has done.
type Retained struct {
	// Anchor is the oldest canonical block that is kept.
	Anchor forks.Block
	Pruned int   // blocks
	Thin   int   // blocks whose checkpoints went, archived ones among them
	Freed  int64 // bytes
	// Used is the space that the store takes, where there is a budget of it.
	Used int64
}

// lookEvery is how often retention looks at the clock and the disk.
const lookEvery = time.Minute

// retain prunes in the background: when something was finalized, and now and then.
func (a *Accessor) retain() {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-a.closing.Done():
			return
		case <-a.finalized:
		case <-tick.C:
		}
		done, err := a.Retain(a.closing)
		switch {
		case a.closing.Err() != nil:
			return
		case err != nil:
			a.log.Error("prune", zap.Error(err))
		case done.Pruned+done.Thin > 0:
			a.log.Info("pruned", zap.Int("blocks", done.Pruned), zap.Int("thin", done.Thin), zap.Int64("bytes", done.Freed),
				zap.Stringer("anchor", done.Anchor.Hash), zap.Stringer("slot", done.Anchor.Slot))
		}
	}
}

// Retain does now what retention does in the background: it prunes what is older
// than it keeps, and frees space where the store takes too much. Errors: the
// store's, and ctx's.
func (a *Accessor) Retain(ctx context.Context) (done Retained, err error) {
	ctx, end, err := a.begin(ctx)
	if err != nil {
		return done, err
	}
	defer end()
	a.retaining.Lock()
	defer a.retaining.Unlock()
	defer a.noteRetained(time.Now(), &done, &err)
	defer func() { done.Anchor = a.Anchor() }()
	if a.retention.All {
		return done, a.archive(ctx, &done)
	}
	var floor forks.Hash
	a.ReadTree(func(t *forks.Tree) { floor = a.floorLocked(t) })
	// A full disk keeps the new anchor's state from being written; checkpoints can be
	// thinned out all the same.
	err = a.pruneTo(ctx, floor, a.retention.Step, &done)
	return done, errors.Join(err, a.archive(ctx, &done), a.withinBudget(ctx, &done))
}

// archive does without the checkpoints of blocks that nobody builds on any more.
func (a *Accessor) archive(ctx context.Context, done *Retained) error {
	var to forks.Hash
	a.ReadTree(func(t *forks.Tree) {
		below := a.retention.Sealed
		for b := range t.Ancestors(t.Finalized().Hash) {
			if to = b.Hash; below == 0 {
				break
			}
			below--
		}
	})
	blocks, freed, err := a.store.Archive(ctx, to)
	done.Thin += blocks
	done.Freed += freed
	return err
}

// floorLocked gives the newest canonical block that is older than retention keeps;
// the anchor where there is none.
func (a *Accessor) floorLocked(t *forks.Tree) forks.Hash {
	floor := t.Anchor()
	finalized := t.Finalized()
	if finalized.Slot > a.retention.Slots {
		if b, ok := t.AncestorAt(finalized.Hash, finalized.Slot-a.retention.Slots); ok {
			floor = b
		}
	}
	if a.retention.Age > 0 {
		if b, ok := a.arrivedBefore(t, finalized, time.Now().Add(-a.retention.Age)); ok && b.Slot > floor.Slot {
			floor = b
		}
	}
	return floor.Hash
}

// arrivedBefore gives the newest canonical block that had arrived at a time.
func (a *Accessor) arrivedBefore(t *forks.Tree, finalized forks.Block, when time.Time) (forks.Block, bool) {
	line := slices.Collect(t.Ancestors(finalized.Hash)) // newest first, parents arrive before children
	i := sort.Search(len(line), func(i int) bool {
		rec, err := a.store.Get(line[i].Hash)
		return err == nil && !rec.Arrived.After(when)
	})
	if i == len(line) {
		return forks.Block{}, false
	}
	return line[i], true
}

// heldBackLocked lowers a floor so that pinned blocks, and those on which drafts or
// imports are on their way, descend from it.
func (a *Accessor) heldBackLocked(floor forks.Hash) forks.Hash {
	keep := func(h forks.Hash) {
		if common, err := a.tree.CommonAncestor(floor, h); err == nil {
			floor = common.Hash
		}
	}
	for _, pin := range a.pins.List() {
		keep(pin.Block)
	}
	for _, d := range a.drafts.all() {
		keep(d.parent.Hash)
	}
	for _, flight := range a.inflight {
		keep(flight.parent)
	}
	return floor
}

// errHeldBack: something has come on the way that keeps the floor lower.
var errHeldBack = errors.New("a block below was pinned or gets a child")

// pruneTo moves the anchor to a canonical block, or as near as pins and the store
// let it, if that is so many blocks at least.
func (a *Accessor) pruneTo(ctx context.Context, floor forks.Hash, step int, done *Retained) error {
	if a.Partial() || a.leaving.Load() != nil {
		return nil // what is above can't be reached without the anchor
	}
	a.mu.RLock()
	floor = a.heldBackLocked(floor)
	a.mu.RUnlock()
	floor, err := a.store.Aligned(floor)
	if err != nil {
		return err
	}
	a.mu.RLock()
	height := a.tree.Height(floor)
	a.mu.RUnlock()
	if height < step || height == 0 {
		return nil
	}
	pruned, err := a.store.Prune(ctx, floor, func() error { return a.switchAnchor(floor) })
	if err == nil {
		a.mu.Lock()
		a.going = nil // the store remembers them now
		a.mu.Unlock()
		a.heads.poke()
	}
	done.Pruned += pruned.Blocks
	done.Freed += pruned.Bytes
	if errors.Is(err, errHeldBack) {
		return nil // the next time
	}
	if err == nil && a.reads.cache != nil {
		a.reads.cache.Advance(floor)
	}
	return err
}

// switchAnchor takes the blocks below an anchor to be out of the tree. Views on them
// that have not opened their states do that now.
func (a *Accessor) switchAnchor(floor forks.Hash) error {
	gone := make(map[forks.Hash]forks.Slot)
	err := func() error {
		a.mu.Lock()
		defer a.mu.Unlock()
		if a.heldBackLocked(floor) != floor {
			return errHeldBack
		}
		blocks, err := a.tree.Prune(floor)
		for _, b := range blocks {
			gone[b.Hash] = b.Slot
		}
		a.going = gone
		return err
	}()
	if err != nil {
		return err
	}
	a.openViews(func(b forks.Block) bool { _, ok := gone[b.Hash]; return ok })
	return nil
}

// prunedAtLocked says whether a block was pruned, and which slot it had.
func (a *Accessor) prunedAtLocked(h forks.Hash) (forks.Slot, bool) {
	if slot, ok := a.going[h]; ok {
		return slot, true
	}
	return a.store.PrunedAt(h)
}

// withinBudget frees space where the store takes more than it may: first by pruning
// up to finalized, then by thinning out checkpoints.
func (a *Accessor) withinBudget(ctx context.Context, done *Retained) error {
	budget := a.retention.DiskBytes
	if budget <= 0 {
		return nil
	}
	used, err := a.measure(done)
	if err != nil {
		return err
	}
	var failed error
	for used > budget && ctx.Err() == nil {
		before := done.Pruned + done.Thin
		failed = a.freeSome(ctx, done)
		if done.Pruned+done.Thin == before {
			break
		}
		if used, err = a.measure(done); err != nil {
			return err
		}
	}
	if full := used > budget; a.full.Swap(full) != full {
		if full {
			a.log.Error("imports are refused: what can't be pruned takes more than the disk budget",
				zap.Int64("bytes", used), zap.Int64("budget", budget))
		} else {
			a.log.Info("imports are taken again", zap.Int64("bytes", used), zap.Int64("budget", budget))
		}
	}
	return failed
}

// measure looks how much space the store takes, and warns long before it is full.
func (a *Accessor) measure(done *Retained) (int64, error) {
	used, err := a.DiskUsage()
	if err != nil {
		return 0, err
	}
	done.Used = used
	level := 0
	for _, percent := range []int{70, 85, 95} {
		if used >= a.retention.DiskBytes/100*int64(percent) {
			level = percent
		}
	}
	if before := a.warned.Swap(int64(level)); int64(level) > before {
		a.log.Warn("the store comes near its disk budget", zap.Int("percent", level), zap.Int64("bytes", used),
			zap.Int64("budget", a.retention.DiskBytes))
	}
	return used, nil
}

// thinStep is how many checkpoints are thinned out at a time.
const thinStep = 256

// freeSome moves the anchor a step up, or, where it is at finalized or held back,
// thins out a step's checkpoints.
func (a *Accessor) freeSome(ctx context.Context, done *Retained) error {
	before := done.Pruned
	var floor forks.Hash
	a.ReadTree(func(t *forks.Tree) {
		for b := range t.Ancestors(t.Finalized().Hash) {
			if floor = b.Hash; t.Height(floor) <= 2*a.retention.Step {
				break
			}
		}
	})
	pruneErr := a.pruneTo(ctx, floor, 1, done)
	if done.Pruned > before {
		return pruneErr
	}
	blocks := a.toThin()
	freed, err := a.store.Thin(blocks)
	if err == nil {
		done.Thin += len(blocks)
	}
	done.Freed += freed
	return errors.Join(pruneErr, err)
}

// toThin gives the next blocks to do without a checkpoint: of forks that lost, then
// of all, parents before children; but not the newest ones, of the last image and after.
func (a *Accessor) toThin() (blocks []forks.Hash) {
	thick := func(h forks.Hash) bool { return a.store.HasCheckpoint(h) || a.store.HasImage(h) }
	a.ReadTree(func(t *forks.Tree) {
		spare := make(map[forks.Hash]bool)
		spare[t.Anchor().Hash] = true
		for b := range t.Ancestors(a.headLocked().Hash) {
			spare[b.Hash] = true
			if a.store.HasImage(b.Hash) {
				break
			}
		}
		var lost, rest []forks.Hash
		for b := range t.All() {
			switch {
			case spare[b.Hash] || !thick(b.Hash):
			case t.Lost(b.Hash):
				lost = append(lost, b.Hash)
			default:
				rest = append(rest, b.Hash)
			}
		}
		blocks = append(lost, rest...)
	})
	return blocks[:min(thinStep, len(blocks))]
}

// ErrOverBudget: what can't be pruned takes more space than the store may.
var ErrOverBudget = fmt.Errorf("over the disk budget: %w", checkpoint.ErrNoSpace)

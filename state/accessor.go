// Package state is the accessor itself: it imports blocks onto a fork tree and
// answers what the state is at any of them.
//
// An import is checked, its root computed over the parent's state, written,
// recorded, and only then anything derived is made:
//
//	check → lock slot → check → root → delta, record │ working database → seal
//	                                                 └ from here the block is held
//
// When the parent's checkpoint can't be used, because another import is just
// sealing it, another process has it open, or it is pruned, missing or damaged,
// the import walks back to the nearest ancestor whose can, and replays the
// deltas between.
//
// The package knows nothing of HTTP, flags or peers.
package state

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"accessor/checkpoint"
	"accessor/forks"
	"accessor/locking"
	"accessor/state/merkle"
)

// Config of an Accessor.
type Config struct {
	// Dir is the store's directory. Required.
	Dir string
	// Engine is the storage engine. Required.
	Engine checkpoint.Engine
	// Commitment is that of a new store, and must be that of an existing one;
	// nil takes an existing store as it is.
	Commitment Commitment
	// Store has the options of the checkpoint store; its CheckRoot and Log are
	// set from here.
	Store checkpoint.Options
	// Owner names this program in locks. Default "import".
	Owner string
	// CacheBytes is how much memory the read cache takes at most, about, beside an
	// index of which block wrote what. 0: there is none, and every read goes to a
	// checkpoint. See DefaultCacheBytes.
	CacheBytes int64
	// Fetcher asks peers for what a partial store lacks. A complete store never asks.
	// Default: there is nobody to ask.
	Fetcher Fetcher
	// FetchTimeout is how long one fetch takes at most. Default DefaultFetchTimeout.
	FetchTimeout time.Duration
	// CatchUp bounds what CatchUp takes in.
	CatchUp CatchUpLimits
	// Retention says how long blocks are kept.
	Retention Retention
	// Observer is told of what the Accessor does, for metrics. Default: nobody is.
	Observer Observer
	// Log gets what operators should know. Default: nothing.
	Log *zap.Logger
}

// Anchor is the block that a new store starts from, with its whole state.
type Anchor struct {
	Hash   forks.Hash
	Slot   forks.Slot
	Root   forks.Hash
	Header []byte // encoded, where there is one
	// Pairs yields the whole state in strictly ascending key order; an error as
	// the last element gives up.
	Pairs iter.Seq2[Pair, error]
}

// Accessor owns a store and the fork tree over it. It is safe for concurrent
// use.
//
// Lock order: a slot's lease, a partial store's switching, labels, retaining, the store's
// building, a view's mu, the store's maintain.mu, then mu, and under it those of pins,
// drafts and reads and the store's own mu. No I/O under mu, and no callback but
// ReadTree's. Drafts have locks of their own: see Draft.
type Accessor struct {
	store      *checkpoint.Store
	commitment Commitment
	tries      tries
	reads      reads
	locks      *locking.Table
	drafts     drafts
	owner      string
	observer   Observer
	guard      replayGuard
	part       atomic.Pointer[partial] // nil where the store is complete
	leaving    atomic.Pointer[partial] // what was that, as long as somebody reads by it
	fetcher    Fetcher                 // nil: there is nobody to ask
	counts     fetchCounts

	fetchTimeout time.Duration
	ahead        CatchUpLimits
	log          *zap.Logger

	// labels makes one change of head and finalized follow the other, on disk
	// as in the tree.
	labels sync.Mutex

	pins    *locking.Pins
	pinning sync.Mutex // keeps pins in order on disk
	pinDirs pinDirs

	retention Retention
	retaining sync.Mutex    // one at a time; taken before mu
	finalized chan struct{} // wakes retention
	full      atomic.Bool   // imports are refused: the disk budget is used up
	warned    atomic.Int64  // percent of the disk budget
	measured  atomic.Int64  // bytes that the store took when that was measured last
	noSpace   atomic.Bool   // the last import that wrote found the disk full

	// Close ends closing's context, which ends the waiting of the calls that
	// work on the store, and waits for them: the store's files are never closed
	// under them.
	closing context.Context
	close   context.CancelFunc
	calls   sync.WaitGroup

	heads headsKeeper

	mu       sync.RWMutex // guards the fields below
	closed   bool
	tree     *forks.Tree
	head     *forks.Hash               // as the node said; nil until then
	swept    forks.Hash                // up to which CatchUp has looked for forks; zero: from finalized on
	going    map[forks.Hash]forks.Slot // blocks that are being pruned
	inflight map[forks.Hash]*inflight  // imports before they end
	awaited  map[forks.Hash]*awaited   // by WaitBlock
	// told is the head of the newest event of it, where there was one: toldAny.
	told      forks.Block
	toldAny   bool
	labelling bool // head or finalized is being written; see label
}

// inflight is an import on its way.
type inflight struct {
	parent  forks.Hash
	owner   string
	settled chan struct{} // closed once the block is held or the import has failed
}

// Open opens an existing store. Errors: those of checkpoint.Open, ErrCommitment.
func Open(cfg Config) (*Accessor, error) {
	opts := cfg.Store
	opts.Log = cfg.Log
	// Until the store is open nobody knows its commitment; images are made
	// after that.
	a := &Accessor{}
	opts.CheckRoot = a.checkRoot
	if cfg.Commitment != nil && !cfg.Commitment.Rooted() {
		opts.CheckRoot = nil
	}
	store, err := checkpoint.Open(cfg.Dir, cfg.Engine, opts)
	if err != nil {
		return nil, err
	}
	c, ok := CommitmentByName(store.Commitment())
	if ok && !c.Rooted() && opts.CheckRoot != nil {
		// Roots that nobody computed can't be checked: every image would fail.
		opts.CheckRoot = nil
		if err := store.Close(); err != nil {
			return nil, err
		}
		if store, err = checkpoint.Open(cfg.Dir, cfg.Engine, opts); err != nil {
			return nil, err
		}
	}
	switch {
	case !ok:
		err = fmt.Errorf("%w: %q, which this program doesn't know", ErrCommitment, store.Commitment())
	case cfg.Commitment != nil && cfg.Commitment.Name() != c.Name():
		err = fmt.Errorf("%w: %s, asked for %s", ErrCommitment, c.Name(), cfg.Commitment.Name())
	}
	if err == nil {
		err = a.init(cfg, store, c)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open store in %s: %w", cfg.Dir, err), store.Close())
	}
	a.sealUnfinished()
	a.heads.start(a)
	return a, nil
}

// maxUnfinished bounds the checkpoints that are made while a store opens. More of
// them are not left by imports that a crash cut short; see Reseal.
const maxUnfinished = 64

// sealUnfinished makes the checkpoints of blocks that were recorded when a crash
// came, and not sealed yet. What fails is made when it is read.
func (a *Accessor) sealUnfinished() {
	unsealed := a.store.Unsealed()
	if len(unsealed) > maxUnfinished {
		a.log.Warn("many blocks have no checkpoint; they are made when read", zap.Int("blocks", len(unsealed)))
		return
	}
	for _, b := range unsealed {
		v, err := a.View(context.Background(), b.Hash)
		if err == nil {
			_, err = v.checkpoint(context.Background())
			v.Close()
		}
		if err != nil {
			a.log.Warn("seal after a crash", zap.Stringer("block", b.Hash), zap.Error(err))
		}
	}
}

// Create makes a store from an anchor. The anchor's root is checked before
// anything counts. Errors: those of checkpoint.Create, ErrWrongRoot, ErrInvalid.
func Create(cfg Config, anchor Anchor) (*Accessor, error) {
	c := cfg.Commitment
	if c == nil {
		return nil, fmt.Errorf("%w: a new store needs one", ErrCommitment)
	}
	opts := cfg.Store
	opts.Log = cfg.Log
	a := &Accessor{commitment: c}
	opts.CheckRoot = a.checkRoot
	if !c.Rooted() {
		opts.CheckRoot = nil
	}
	rec := checkpoint.Record{
		Block:  forks.Block{Hash: anchor.Hash, Slot: anchor.Slot, Root: anchor.Root},
		Header: anchor.Header,
	}
	var trie trieSpool
	store, err := checkpoint.Create(cfg.Dir, cfg.Engine, c.Name(), rec, checked(c, anchor, trie.add), trie.all(), opts)
	if err != nil {
		return nil, err
	}
	if err := a.init(cfg, store, c); err != nil {
		return nil, errors.Join(err, store.Close())
	}
	a.heads.start(a)
	return a, nil
}

// checkRoot is the store's way to check the state of an image.
func (a *Accessor) checkRoot(pairs iter.Seq2[[]byte, []byte]) (forks.Hash, error) {
	return a.commitment.Root(pairs)
}

// checked passes an anchor's pairs on and ends with an error where they are not
// in order, or where their root is another than the anchor's. Their trie's records
// go to emit.
func checked(c Commitment, anchor Anchor, emit func(key, value []byte) error) iter.Seq2[Pair, error] {
	ordered := ascending(anchor.Pairs)
	if !c.Rooted() {
		return ordered
	}
	return func(yield func(Pair, error) bool) {
		stopped := false
		root, err := c.Build(func(next func([]byte, []byte) bool) {
			for p, err := range ordered {
				if !yield(p, err) || err != nil {
					stopped = true
					return
				}
				if !next(p.Key, p.Value) {
					return
				}
			}
		}, emit)
		switch {
		case stopped:
		case err != nil:
			yield(Pair{}, fmt.Errorf("%w: anchor %s: %w", ErrInvalid, anchor.Hash, err))
		case root != anchor.Root:
			yield(Pair{}, &RootError{Kind: ErrWrongRoot, Block: anchor.Hash, Slot: anchor.Slot, Declared: anchor.Root, Actual: root})
		}
	}
}

// ascending passes pairs on and ends with an error at a key that is not above
// the one before it.
func ascending(pairs iter.Seq2[Pair, error]) iter.Seq2[Pair, error] {
	return func(yield func(Pair, error) bool) {
		var last []byte
		first := true
		for p, err := range pairs {
			if err == nil && !first && bytes.Compare(p.Key, last) <= 0 {
				err = fmt.Errorf("%w: anchor's key %s after %s, want strictly ascending ones", ErrInvalid, keyText(p.Key), keyText(last))
			}
			if !yield(p, err) || err != nil {
				return
			}
			last, first = append(last[:0], p.Key...), false
		}
	}
}

// Names under which head and finalized are kept in the store.
const (
	metaHead      = "head"
	metaFinalized = "finalized"
)

func (a *Accessor) init(cfg Config, store *checkpoint.Store, c Commitment) error {
	a.store, a.commitment = store, c
	a.closing, a.close = context.WithCancel(context.Background())
	a.locks = locking.New()
	a.inflight = make(map[forks.Hash]*inflight)
	a.awaited = make(map[forks.Hash]*awaited)
	a.tries.cache = merkle.NewCache(trieCacheSize)
	a.owner, a.log, a.observer = cfg.Owner, cfg.Log, cfg.Observer
	if a.owner == "" {
		a.owner = "import"
	}
	if a.log == nil {
		a.log = zap.NewNop()
	}
	// In order of arrival, which has parents first: so children are in the same
	// order as before the store was closed.
	records := store.Records()
	slices.SortStableFunc(records, func(x, y checkpoint.Record) int { return cmp.Compare(x.Number, y.Number) })
	for _, rec := range records {
		if rec.Anchor {
			a.tree = forks.New(rec.Block)
			continue
		}
		if err := a.tree.Add(rec.Block); err != nil {
			return fmt.Errorf("%w: %w", checkpoint.ErrDamaged, err)
		}
	}
	if h := store.Meta(metaFinalized); len(h) == forks.HashSize {
		if _, err := a.tree.Finalize(forks.Hash(h)); err != nil {
			return fmt.Errorf("%w: recorded as finalized: %w", checkpoint.ErrDamaged, err)
		}
	}
	if h := store.Meta(metaHead); len(h) == forks.HashSize {
		// A head that finality has left behind is none any more.
		if head := forks.Hash(h); a.tree.IsAncestor(a.tree.Finalized().Hash, head) {
			a.head = &head
		}
	}
	a.startTelling()
	a.fetcher, a.fetchTimeout = cfg.Fetcher, cfg.FetchTimeout
	if a.fetchTimeout <= 0 {
		a.fetchTimeout = DefaultFetchTimeout
	}
	a.ahead = cfg.CatchUp.withDefaults()
	if store.Partial() {
		if !c.Rooted() {
			return fmt.Errorf("%w: a partial store of commitment %s", checkpoint.ErrDamaged, c.Name())
		}
		a.part.Store(newPartial(a))
	}
	a.retention = cfg.Retention.withDefaults()
	a.loadPins(a.retention.MaxPins)
	if err := a.findPinDirs(); err != nil {
		return err
	}
	if err := a.startCache(cfg.CacheBytes); err != nil {
		return err
	}
	a.finalized = make(chan struct{}, 1)
	a.calls.Go(a.retain)
	a.calls.Go(a.keepPinDirs)
	if p := a.part.Load(); p != nil {
		a.calls.Go(p.keepPending)
	}
	return nil
}

// Close ends background work and closes the store. Imports that wait fail with
// checkpoint.ErrClosed, as all later calls do; those that work are waited for.
// Drafts end. Views that are open keep working until they are closed, but for those of
// a partial store. Closing again does nothing.
func (a *Accessor) Close() error {
	// Views that are open stay so: most of them before calls are refused.
	a.openViews(func(forks.Block) bool { return true })
	a.mu.Lock()
	again := a.closed
	a.closed = true
	a.mu.Unlock()
	if again {
		return nil
	}
	a.close()
	a.calls.Wait()
	a.drafts.close()
	a.openViews(func(forks.Block) bool { return true })
	a.closeCache()
	a.heads.stop()
	return a.store.Close()
}

// begin counts a call that works on the store, and gives it a context that ends
// with Close too. The caller calls end. Error: checkpoint.ErrClosed.
func (a *Accessor) begin(ctx context.Context) (_ context.Context, end func(), err error) {
	a.mu.RLock()
	defer a.mu.RUnlock()
	if a.closed {
		return nil, nil, checkpoint.ErrClosed
	}
	a.calls.Add(1)
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(a.closing, func() { cancel(checkpoint.ErrClosed) })
	return ctx, func() {
		stop()
		cancel(nil)
		a.calls.Done()
	}, nil
}

// Store gives the checkpoint store, for statistics and maintenance.
func (a *Accessor) Store() *checkpoint.Store { return a.store }

// Commitment is the store's state commitment.
func (a *Accessor) Commitment() Commitment { return a.commitment }

// Locks gives the timeslot locks.
func (a *Accessor) Locks() *locking.Table { return a.locks }

// HasCheckpoint says whether a block has a checkpoint of its own, as far as is
// recorded: without one its state is rebuilt from an ancestor's where a reader needs it.
func (a *Accessor) HasCheckpoint(h forks.Hash) bool { return a.store.HasCheckpoint(h) }

// ReadTree calls f with the fork tree, which f must only read and not keep. f
// calls no method of the Accessor but HasCheckpoint.
func (a *Accessor) ReadTree(f func(*forks.Tree)) {
	a.mu.RLock()
	defer a.mu.RUnlock()
	f(a.tree)
}

// Anchor is the block that the store grows from.
func (a *Accessor) Anchor() (b forks.Block) {
	a.ReadTree(func(t *forks.Tree) { b = t.Anchor() })
	return b
}

// Block gives a held block. Errors: ErrUnknownBlock, ErrPruned (a *NoBlockError,
// which names the nearest block that is held).
func (a *Accessor) Block(h forks.Hash) (forks.Block, error) {
	a.mu.RLock()
	defer a.mu.RUnlock()
	return a.blockLocked(h)
}

func (a *Accessor) blockLocked(h forks.Hash) (forks.Block, error) {
	b, ok := a.tree.Get(h)
	if ok {
		return b, nil
	}
	err := &NoBlockError{Name: h.String()}
	if slot, pruned := a.prunedAtLocked(h); pruned {
		err.prunedBelow(a.tree.Anchor())
		err.Name = fmt.Sprintf("%s at slot %d", h, slot)
	}
	return b, err
}

package state

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
	"unicode/utf8"

	"accessor/checkpoint"
	"accessor/forks"
	"accessor/locking"
)

// Limits of drafts. Together they bound what drafts take of memory: 1 GiB.
const (
	MaxDrafts       = 16               // that are open at a time
	MaxDraftSize    = 64 << 20         // of one draft, in bytes; see DraftInfo.Bytes
	MaxDraftOwner   = 64               // of an owner's name, in bytes
	MaxDraftTTL     = 60 * time.Second // of a lease
	DefaultDraftTTL = 30 * time.Second
)

// DraftOptions are what a draft is begun with.
type DraftOptions struct {
	// Owner names who writes the draft; drafts of one owner share slots. At most
	// MaxDraftOwner bytes of UTF-8. Default: a name made for this draft, which
	// shares with nobody.
	Owner string
	// TTL is how long the lease lasts unless it is renewed. Default
	// DefaultDraftTTL, at most MaxDraftTTL.
	TTL time.Duration
}

// DraftInfo describes a draft at one moment.
type DraftInfo struct {
	ID      string
	Parent  forks.Block // whose state the draft changes
	Slot    forks.Slot  // that is reserved for it
	Owner   string
	Age     time.Duration
	Expires time.Time // zero while it is being committed: then it can't expire
	// Bytes is what counts towards MaxDraftSize: keys, values, a fixed part for
	// each entry, and all of that again for what savepoints keep.
	Bytes  int
	Writes int // keys that are put or deleted
}

// drafts are the open drafts of an Accessor. The zero value has none.
type drafts struct {
	slots locking.Reservations

	mu     sync.Mutex // guards the fields below
	places int        // taken: by open drafts, and by those that are being begun
	open   map[string]*Draft
}

// BeginDraft begins a draft of a block on a parent: an import in progress, which
// reads and writes the state as the block will leave it. The slot is reserved
// against the drafts of other owners, and the parent's state kept open, until the
// draft is committed, dropped or expired. An import of that parent that is on its
// way is waited for; imports of finished blocks never wait for a draft.
//
// Errors: ErrUnknownParent, ErrSlotOrder, ErrInvalid for the options,
// ErrTooManyDrafts, a *locking.ReservedError (matching ErrReserved),
// ErrUnavailable, and the store's.
func (a *Accessor) BeginDraft(ctx context.Context, parent forks.Hash, slot forks.Slot, opts DraftOptions) (*Draft, error) {
	ctx, end, err := a.begin(ctx)
	if err != nil {
		return nil, fmt.Errorf("begin draft: %w", err)
	}
	defer end()
	d := &Draft{a: a, id: newDraftID(), slot: slot, began: time.Now()}
	if err := d.begin(ctx, parent, opts); err != nil {
		return nil, fmt.Errorf("begin draft on block %s for slot %d: %w", parent, slot, err)
	}
	return d, nil
}

// newDraftID gives 128 random bits in hex: who knows one was told it.
func newDraftID() string {
	var id [16]byte
	_, _ = rand.Read(id[:]) // never fails: it ends the process instead
	return hex.EncodeToString(id[:])
}

func (d *Draft) begin(ctx context.Context, parent forks.Hash, opts DraftOptions) error {
	opts, err := opts.checked(d.id)
	if err != nil {
		return err
	}
	d.owner = opts.Owner
	if d.parent, err = d.a.draftParent(ctx, parent, d.slot); err != nil {
		return err
	}
	all := &d.a.drafts
	if err := all.takePlace(); err != nil {
		return err
	}
	// It doesn't expire while the parent's state is brought about, which may take
	// as long as a walk-back does.
	if d.reservation, err = all.slots.Reserve(d.slot, d.owner, d.expire); err != nil {
		all.givePlace()
		return err
	}
	if err := d.pin(ctx); err != nil {
		d.reservation.Release()
		all.givePlace()
		return err
	}
	d.writes = &draftWrites{limit: min(MaxDraftSize, d.a.store.Limits().WriteSetSize)}
	all.add(d)
	if _, err := d.a.Block(parent); err != nil {
		_ = d.stop(DraftDropped, fmt.Errorf("%w: %w", ErrDraftOver, err), true)
		return fmt.Errorf("%w: %w", ErrUnknownParent, err) // pruned just before
	}
	return d.reservation.ExpireAfter(opts.TTL)
}

// checked checks the options and fills in the defaults. Error: ErrInvalid.
func (o DraftOptions) checked(id string) (DraftOptions, error) {
	if len(o.Owner) > MaxDraftOwner {
		return o, invalidDraft("owner's name of %d bytes, at most %d", len(o.Owner), MaxDraftOwner)
	}
	if !utf8.ValidString(o.Owner) {
		return o, invalidDraft("owner's name %q is not UTF-8", o.Owner)
	}
	o.Owner = cmp.Or(o.Owner, "draft "+id[:8]) // not all of it: others see the name
	o.TTL = cmp.Or(o.TTL, DefaultDraftTTL)
	return o, checkTTL(o.TTL)
}

func checkTTL(ttl time.Duration) error {
	if ttl <= 0 || ttl > MaxDraftTTL {
		return invalidDraft("lease of %v, want more than 0 and at most %v; renew it in time", ttl, MaxDraftTTL)
	}
	return nil
}

// draftParent gives the block on which a draft begins; where it is just being
// imported, once it is held. Errors: ErrUnknownParent, ErrSlotOrder.
func (a *Accessor) draftParent(ctx context.Context, h forks.Hash, slot forks.Slot) (forks.Block, error) {
	for {
		a.mu.RLock()
		parent, held := a.tree.Get(h)
		wait := a.inflight[h]
		a.mu.RUnlock()
		switch {
		case held && slot <= parent.Slot:
			return parent, fmt.Errorf("%w, which is %d", ErrSlotOrder, parent.Slot)
		case held:
			return parent, nil
		case wait == nil:
			return parent, ErrUnknownParent
		}
		select {
		case <-wait.settled:
		case <-ctx.Done():
			return parent, fmt.Errorf("wait for its import: %w", context.Cause(ctx))
		}
	}
}

// Drafts describes the open drafts, oldest first.
func (a *Accessor) Drafts() []DraftInfo {
	out := []DraftInfo{}
	for _, d := range a.drafts.all() {
		if info, err := d.Info(); err == nil {
			out = append(out, info)
		}
	}
	slices.SortFunc(out, func(x, y DraftInfo) int {
		return cmp.Or(cmp.Compare(y.Age, x.Age), cmp.Compare(x.ID, y.ID))
	})
	return out
}

// DraftByID gives an open draft. Error: ErrUnknownDraft.
func (a *Accessor) DraftByID(id string) (*Draft, error) {
	a.drafts.mu.Lock()
	defer a.drafts.mu.Unlock()
	d, ok := a.drafts.open[id]
	if !ok {
		return nil, fmt.Errorf("%w: it ended long ago or by a restart, or never was", ErrUnknownDraft)
	}
	return d, nil
}

// takePlace counts a draft that is being begun. Error: ErrTooManyDrafts.
func (s *drafts) takePlace() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.places == MaxDrafts {
		return fmt.Errorf("%w: %d; commit or drop one, or wait until one expires", ErrTooManyDrafts, s.places)
	}
	s.places++
	return nil
}

func (s *drafts) givePlace() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.places--
}

// add puts a draft that has a place among the open ones.
func (s *drafts) add(d *Draft) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open == nil {
		s.open = make(map[string]*Draft)
	}
	s.open[d.id] = d
}

// remove takes an open draft out and gives its place back.
func (s *drafts) remove(d *Draft) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, d.id)
	s.places--
}

func (s *drafts) all() []*Draft {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]*Draft, 0, len(s.open))
	for _, d := range s.open {
		out = append(out, d)
	}
	return out
}

// close ends all drafts, for good: no call is at work that could begin another.
func (s *drafts) close() {
	for _, d := range s.all() {
		_ = d.stop(DraftClosed, fmt.Errorf("%w: %w", ErrDraftOver, checkpoint.ErrClosed), true)
	}
}

// Kinds of errors of drafts.
var (
	// ErrReserved: another owner's draft has reserved the slot.
	ErrReserved = locking.ErrReserved
	// ErrTooManyDrafts: MaxDrafts are open.
	ErrTooManyDrafts = errors.New("too many drafts")
	// ErrUnknownDraft: no open draft has that ID.
	ErrUnknownDraft = errors.New("unknown draft")
	// ErrDraftExpired: nobody renewed the draft's lease in time.
	ErrDraftExpired = errors.New("draft has expired")
	// ErrDraftOver: the draft was committed or dropped, or the store closed.
	ErrDraftOver = errors.New("draft is over")
	// ErrDraftCommitting: the draft is being committed, and can't change.
	ErrDraftCommitting = errors.New("draft is being committed")
	// ErrDraftTooLarge: the draft would exceed MaxDraftSize, or what the store takes
	// as one write set.
	ErrDraftTooLarge = errors.New("draft is too large")
	// ErrNoSavepoint: the draft has no such savepoint, or none any more.
	ErrNoSavepoint = errors.New("unknown savepoint")
)

// invalidDraftError is ErrInvalid, said of what is no block yet.
type invalidDraftError struct{ err error }

func invalidDraft(format string, args ...any) error {
	return &invalidDraftError{fmt.Errorf(format, args...)}
}

// Error implements error.
func (e *invalidDraftError) Error() string { return e.err.Error() }

// Unwrap gives the kind, and what the text was made of.
func (e *invalidDraftError) Unwrap() []error { return []error{ErrInvalid, e.err} }

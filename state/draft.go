package state

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sync"
	"time"

	"github.com/tidwall/btree"

	"accessor/checkpoint"
	"accessor/forks"
	"accessor/locking"
)

// Draft is an import in progress: the writes of a block that isn't finished, over
// the state of its parent. See BeginDraft. It is safe for concurrent use, and
// lives in memory alone.
//
// Once a draft is over, every method answers with an error that says why:
// ErrDraftExpired, or ErrDraftOver where it was committed or dropped, or the store
// closed. While it is being committed, it can be read but not changed:
// ErrDraftCommitting.
//
// Lock order: writing, then mu, then the reservations' own. No I/O under mu.
type Draft struct {
	a           *Accessor
	id          string
	parent      forks.Block
	slot        forks.Slot
	owner       string
	began       time.Time
	reservation *locking.Reservation
	view        *View // the parent's state; see pin

	// writing makes one change follow the other. DeletePrefix has it while it reads
	// what there is to delete.
	writing sync.Mutex

	mu         sync.Mutex // guards the fields below
	over       error      // why the draft is over; nil until then
	committing bool
	rest       time.Duration // while committing: the lease if the commit fails
	users      int           // readers of view; the last one closes it once over
	writes     *draftWrites  // nil once over
}

// Savepoint names a moment of a draft to which its writes can go back.
type Savepoint uint64

// minDraftRest is what a lease has left at least after a commit has failed, for
// the owner to look at the reason.
const minDraftRest = 5 * time.Second

// pin keeps the parent's state readable for the draft's life. The parent itself stays
// held as long as the draft is among the open ones: see heldBackLocked. Errors:
// ErrUnknownParent, and those of View.
func (d *Draft) pin(ctx context.Context) (err error) {
	d.view, err = d.a.View(ctx, d.parent.Hash)
	if errors.Is(err, ErrUnknownBlock) || errors.Is(err, ErrPruned) {
		return fmt.Errorf("%w: %w", ErrUnknownParent, err)
	}
	return err
}

// unpin ends that.
func (d *Draft) unpin() { d.view.Close() }

// ID names the draft: 32 hex digits.
func (d *Draft) ID() string { return d.id }

// Info describes the draft.
func (d *Draft) Info() (DraftInfo, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.over != nil {
		return DraftInfo{}, d.failed("describe", d.over)
	}
	return d.infoLocked(), nil
}

func (d *Draft) infoLocked() DraftInfo {
	return DraftInfo{
		ID: d.id, Parent: d.parent, Slot: d.slot, Owner: d.owner,
		Age: time.Since(d.began), Expires: d.reservation.Info().Expires,
		Bytes: d.writes.size, Writes: d.writes.entries.Len(),
	}
}

// failed says what an error was met at.
func (d *Draft) failed(act string, err error) error {
	return fmt.Errorf("%s draft %s for slot %d: %w", act, d.id, d.slot, err)
}

// Get gives the value of a key as the draft has it; present is false where there
// is no such key.
func (d *Draft) Get(ctx context.Context, key []byte) (value []byte, present bool, err error) {
	w, written, err := d.lookUp(key)
	switch {
	case err != nil:
		return nil, false, err
	case written && w.delete:
		return nil, false, nil
	case written:
		return slices.Clone(w.value), true, nil
	}
	defer d.leave()
	value, present, _, err = d.view.AppendGetTier(ctx, nil, key)
	return value, present, err
}

// Has says whether the draft has a key.
func (d *Draft) Has(ctx context.Context, key []byte) (bool, error) {
	w, written, err := d.lookUp(key)
	if err != nil || written {
		return written && !w.delete, err
	}
	defer d.leave()
	_, present, _, err := d.view.AppendGetTier(ctx, nil, key)
	return present, err
}

// lookUp gives what the draft has written to a key. Where it has written nothing,
// the caller may use the view, and calls leave.
func (d *Draft) lookUp(key []byte) (w draftWrite, written bool, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.over != nil {
		return w, false, d.failed("read", d.over)
	}
	if w, written = d.writes.entries.Get(string(key)); !written {
		d.users++
	}
	return w, written, nil
}

// leave ends the use of the view.
func (d *Draft) leave() {
	d.mu.Lock()
	d.users--
	last := d.over != nil && d.users == 0
	d.mu.Unlock()
	if last {
		d.unpin()
	}
}

// All yields the pairs with keys in [from, to), in key order, as the draft has
// them when the walk begins: it may be changed meanwhile. An empty to means no
// upper end. The slices are valid until the next pair. An error comes as the last
// element; the draft's end is one.
func (d *Draft) All(ctx context.Context, from, to []byte) iter.Seq2[Pair, error] {
	return func(yield func(Pair, error) bool) {
		d.mu.Lock()
		if d.over != nil {
			err := d.failed("read", d.over)
			d.mu.Unlock()
			yield(Pair{}, err)
			return
		}
		d.users++
		entries := d.writes.entries.Copy() // shares what nobody changes
		d.mu.Unlock()
		defer d.leave()
		if len(to) > 0 && string(from) >= string(to) {
			return
		}
		d.merge(ctx, entries, from, to, yield)
	}
}

// merge yields the parent's pairs with a draft's writes over them. The caller uses
// the view.
func (d *Draft) merge(ctx context.Context, entries *btree.Map[string, draftWrite], from, to []byte, yield func(Pair, error) bool) {
	own := newDraftCursor(entries, from, to)
	var key, value []byte
	yieldOwn := func() bool {
		k, w := own.take()
		if w.delete {
			return true
		}
		if err := d.alive(); err != nil {
			yield(Pair{}, err)
			return false
		}
		// Copies: whoever changed the pair would change the draft.
		key, value = append(key[:0], k...), append(value[:0], w.value...)
		return yield(Pair{Key: key, Value: value}, nil)
	}
	opts := ScanOptions{From: from}
	if len(to) > 0 {
		opts.To = to
	}
	for p, err := range d.view.Scan(ctx, opts) {
		if err == nil {
			err = d.alive()
		}
		if err != nil {
			yield(Pair{}, err)
			return
		}
		for own.below(p.Key) {
			if !yieldOwn() {
				return
			}
		}
		if own.at(p.Key) {
			if !yieldOwn() {
				return
			}
		} else if !yield(p, nil) {
			return
		}
	}
	for own.valid() {
		if !yieldOwn() {
			return
		}
	}
}

func (d *Draft) alive() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.over != nil {
		return d.failed("read", d.over)
	}
	return nil
}

// checkKey refuses what no block may write. Error: ErrInvalid.
func (d *Draft) checkKey(key, value []byte) error {
	if err := d.a.store.Limits().CheckPair(key, value); err != nil {
		return d.failed("write to", invalidDraft("%w", err))
	}
	if want := d.a.commitment.KeySize(); want != 0 && len(key) != want {
		return d.failed("write to", invalidDraft("key %s has %d bytes, want %d", keyText(key), len(key), want))
	}
	return nil
}

// change calls f on the writes, which it may change, and nobody else does.
func (d *Draft) change(act string, f func(*draftWrites) error) error {
	d.writing.Lock()
	defer d.writing.Unlock()
	return d.changeNow(act, f)
}

// changeNow is change for who has writing.
func (d *Draft) changeNow(act string, f func(*draftWrites) error) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	err := d.openLocked()
	if err == nil {
		err = f(d.writes)
	}
	if err != nil {
		return d.failed(act, err)
	}
	return nil
}

// openLocked says whether the draft can be changed.
func (d *Draft) openLocked() error {
	if d.over == nil && d.committing {
		return ErrDraftCommitting
	}
	return d.over
}

// Put sets the value of a key; both are copied. Errors: ErrInvalid,
// ErrDraftTooLarge.
func (d *Draft) Put(key, value []byte) error {
	if err := d.checkKey(key, value); err != nil {
		return err
	}
	return d.change("write to", func(w *draftWrites) error { return w.put(string(key), value) })
}

// Delete removes a key, which may be absent. Errors: ErrInvalid, ErrDraftTooLarge.
func (d *Draft) Delete(key []byte) error {
	if err := d.checkKey(key, nil); err != nil {
		return err
	}
	return d.change("write to", func(w *draftWrites) error { return w.deleteAll(string(key)) })
}

// DeletePrefix removes all keys that begin with a prefix and are there now, the
// parent's among them, and says how many; an empty prefix means all keys. It
// removes all or, where it fails, none. Other changes wait for it. Errors:
// ErrInvalid for a prefix longer than keys are, ErrDraftTooLarge, and the store's.
func (d *Draft) DeletePrefix(ctx context.Context, prefix []byte) (deleted int, err error) {
	most := d.a.store.Limits().KeySize
	if size := d.a.commitment.KeySize(); size != 0 {
		most = size
	}
	if len(prefix) > most {
		return 0, d.failed("write to", invalidDraft("prefix %s has %d bytes, at most %d", keyText(prefix), len(prefix), most))
	}
	d.writing.Lock()
	defer d.writing.Unlock()
	limit := 0
	if err := d.changeNow("write to", func(w *draftWrites) error { limit = w.limit; return nil }); err != nil {
		return 0, err
	}
	var keys []string
	size := 0
	for p, err := range d.All(ctx, prefix, checkpoint.PrefixEnd(prefix)) {
		if err != nil {
			return 0, err
		}
		keys = append(keys, string(p.Key))
		// Deleted, each of them is an entry: it ends here where those alone are too
		// much, before they take memory.
		if size += entrySize(keys[len(keys)-1], 0); size > limit {
			return 0, d.failed("write to", fmt.Errorf("%w: the deletes alone take more than %d bytes", ErrDraftTooLarge, limit))
		}
	}
	err = d.changeNow("write to", func(w *draftWrites) error { return w.deleteAll(keys...) })
	if err != nil {
		return 0, err
	}
	return len(keys), nil
}

// Savepoint sets a savepoint. Savepoints nest: to roll back to one ends those set
// after it. Error: ErrDraftTooLarge.
func (d *Draft) Savepoint() (s Savepoint, err error) {
	err = d.change("set savepoint in", func(w *draftWrites) (err error) { s, err = w.save(); return err })
	return s, err
}

// Rollback undoes all changes since a savepoint. The savepoint stays, to be rolled
// back to again. Error: ErrNoSavepoint.
func (d *Draft) Rollback(s Savepoint) error {
	return d.change("roll back", func(w *draftWrites) error { return w.rollback(s) })
}

// Renew lets the lease last that long from now, 0 for DefaultDraftTTL; while the
// draft is being committed: from the moment at which the commit fails, if it does.
// Error: ErrInvalid for more than MaxDraftTTL.
func (d *Draft) Renew(ttl time.Duration) error {
	if ttl == 0 {
		ttl = DefaultDraftTTL
	}
	if err := checkTTL(ttl); err != nil {
		return d.failed("renew", err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.over != nil:
		return d.failed("renew", d.over)
	case d.committing:
		d.rest = ttl
	case d.reservation.ExpireAfter(ttl) != nil:
		return d.failed("renew", ErrDraftExpired) // just now
	}
	return nil
}

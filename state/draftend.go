package state

import (
	"context"
	"fmt"

	"accessor/forks"
)

// Commit imports the draft as a block, as Import does: with its hash, the root of
// the state after it where that is stated, and its header where there is one. From
// the call on the lease can't expire. A draft that was imported is over; one that
// was refused can be changed and committed again, with what its lease had left, 5
// seconds at least. Errors: those of Import, ErrDraftExpired, ErrDraftOver,
// ErrDraftCommitting.
func (d *Draft) Commit(ctx context.Context, hash forks.Hash, postRoot *forks.Hash, header []byte) (Result, error) {
	b, err := d.beginCommit(hash)
	if err != nil {
		return Result{}, d.failed("commit", err)
	}
	imported := false
	defer func() { d.endCommit(hash, imported) }()
	b.PostRoot, b.Header = postRoot, header
	res, err := d.a.Import(ctx, b)
	if err != nil {
		return res, d.failed("commit", err)
	}
	imported = true
	return res, nil
}

// beginCommit makes the draft one that neither changes nor expires.
func (d *Draft) beginCommit(hash forks.Hash) (*Block, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.openLocked(); err != nil {
		return nil, err
	}
	rest, err := d.reservation.Hold()
	if err != nil {
		return nil, ErrDraftExpired // just now
	}
	d.committing, d.rest = true, rest
	b := &Block{Hash: hash, Parent: d.parent.Hash, Slot: d.slot, Owner: d.owner}
	b.Puts, b.Dels = d.writes.list()
	return b, nil
}

// endCommit ends the draft, or opens it again.
func (d *Draft) endCommit(hash forks.Hash, imported bool) {
	if imported {
		_ = d.stop(DraftCommitted, fmt.Errorf("%w: committed as block %s", ErrDraftOver, hash), true)
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.committing = false
	// It was held, so it is over only where the draft is: the store has closed.
	_ = d.reservation.ExpireAfter(max(d.rest, minDraftRest))
}

// Drop ends the draft and leaves no trace of it. Errors: ErrDraftExpired,
// ErrDraftOver, ErrDraftCommitting.
func (d *Draft) Drop() error {
	if err := d.stop(DraftDropped, fmt.Errorf("%w: dropped", ErrDraftOver), false); err != nil {
		return d.failed("drop", err)
	}
	return nil
}

// expire ends a draft whose lease is over.
func (d *Draft) expire() { _ = d.stop(DraftExpired, ErrDraftExpired, true) }

// stop ends the draft, and gives back all it has. It is refused where the draft is
// over, and where it is being committed unless that is meant too.
func (d *Draft) stop(fate DraftFate, why error, committing bool) error {
	d.mu.Lock()
	if err := d.openLocked(); err != nil && (d.over != nil || !committing) {
		d.mu.Unlock()
		return err
	}
	info := d.infoLocked()
	d.over, d.writes = why, nil
	unused := d.users == 0
	d.mu.Unlock()

	d.a.drafts.remove(d)
	d.reservation.Release()
	if unused {
		d.unpin()
	}
	if f := d.a.observer.DraftEnded; f != nil {
		f(DraftEnd{Draft: info, Fate: fate})
	}
	return nil
}

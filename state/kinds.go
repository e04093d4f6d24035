package state

import (
	"accessor/checkpoint"
	"accessor/locking"
)

// Kinds of errors of the packages below that an Accessor's callers meet, by one
// name each, so that whoever serves it needs to know no other package.
var (
	// ErrLocked: another import has the slot.
	ErrLocked = locking.ErrLocked
	// ErrNoSpace: the disk, or the store's budget of it, is used up.
	ErrNoSpace = checkpoint.ErrNoSpace
	// ErrExists: the directory holds a store already, or something else.
	ErrExists = checkpoint.ErrExists
	// ErrLinks: a pin's directory would need more hard links than a file can have, or
	// lie on another file system.
	ErrLinks = checkpoint.ErrLinks
	// ErrAccess: who may read a pin's directory can't be set as the configuration asks.
	ErrAccess = checkpoint.ErrAccess
	// ErrClosed: the store is closed.
	ErrClosed = checkpoint.ErrClosed
	// ErrUndecided: whether the block is held is known after the next start.
	ErrUndecided = checkpoint.ErrUndecided
	// ErrLimit: a key, a value or a write set exceeds the store's limits.
	ErrLimit = checkpoint.ErrLimit
)

// Values of the packages below that an Accessor hands out.
type (
	// LockedError says who has a slot that was asked for.
	LockedError = locking.LockedError
	// ReservedError says who has reserved a slot that was asked for.
	ReservedError = locking.ReservedError
	// Limits bound what a store takes in.
	Limits = checkpoint.Limits
)

// Limits are those of keys, values and write sets.
func (a *Accessor) Limits() Limits { return a.store.Limits() }

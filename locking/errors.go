package locking

import (
	"errors"
	"fmt"
	"time"
)

// ErrLocked is the error of a slot that somebody else has locked.
var ErrLocked = errors.New("slot is locked")

// LockedError says who has a slot that was asked for. It matches ErrLocked and,
// where a wait was broken off, the cause.
type LockedError struct {
	Info                 // the lock that stood in the way, without this call among the waiters
	Age    time.Duration // how long its owner has had it
	Waited time.Duration // how long this call waited; zero for TryLock
	Cause  error         // why the wait ended: the context's cause; nil for TryLock
}

// Error names slot, owner, block and age.
func (e *LockedError) Error() string {
	text := fmt.Sprintf("lock slot %d: locked by %q for %v, writing block %s",
		e.Slot, e.Owner, e.Age.Round(time.Millisecond), e.Block)
	if e.Cause != nil {
		text += fmt.Sprintf("; gave up after %v: %v", e.Waited.Round(time.Millisecond), e.Cause)
	}
	return text
}

// Unwrap gives ErrLocked and the cause.
func (e *LockedError) Unwrap() []error {
	if e.Cause == nil {
		return []error{ErrLocked}
	}
	return []error{ErrLocked, e.Cause}
}

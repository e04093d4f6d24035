package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"accessor/forks"
)

// Kind is the stable name of what is wrong (docs/API.md), and an error itself: for
// errors.Is.
type Kind string

// Error implements error.
func (k Kind) Error() string { return string(k) }

// Kinds of the server's errors: docs/API.md says when each comes.
const (
	ErrBadRequest           Kind = "bad-request"
	ErrBadBlockID           Kind = "bad-block-id"
	ErrBadKey               Kind = "bad-key"
	ErrBadBody              Kind = "bad-body"
	ErrAmbiguousBlock       Kind = "ambiguous-block"
	ErrForbidden            Kind = "forbidden"
	ErrForbiddenItem        Kind = "forbidden-item"
	ErrNotFound             Kind = "not-found"
	ErrUnknownBlock         Kind = "unknown-block"
	ErrAbsentKey            Kind = "absent-key"
	ErrUnknownDraft         Kind = "unknown-draft"
	ErrUnknownPin           Kind = "unknown-pin"
	ErrUnknownItem          Kind = "unknown-item"
	ErrNoChanges            Kind = "no-changes"
	ErrMethodNotAllowed     Kind = "method-not-allowed"
	ErrNotAcceptable        Kind = "not-acceptable"
	ErrTimeout              Kind = "timeout"
	ErrConflict             Kind = "conflict"
	ErrNotDescendant        Kind = "not-descendant"
	ErrNotEmpty             Kind = "not-empty"
	ErrNoRoots              Kind = "no-roots"
	ErrNoDirectory          Kind = "no-directory"
	ErrDraftCommitting      Kind = "draft-committing"
	ErrPruned               Kind = "pruned"
	ErrDraftOver            Kind = "draft-over"
	ErrTooLarge             Kind = "too-large"
	ErrTargetTooLong        Kind = "target-too-long"
	ErrUnsupportedMediaType Kind = "unsupported-media-type"
	ErrInvalidBlock         Kind = "invalid-block"
	ErrWrongRoot            Kind = "wrong-root"
	ErrPriorRoot            Kind = "prior-root"
	ErrSlotOrder            Kind = "slot-order"
	ErrInvalidAnchor        Kind = "invalid-anchor"
	ErrBadEncoding          Kind = "bad-encoding"
	ErrLocked               Kind = "locked"
	ErrReserved             Kind = "reserved"
	ErrTooManyRequests      Kind = "too-many-requests"
	ErrTooManyDrafts        Kind = "too-many-drafts"
	ErrTooManyPins          Kind = "too-many-pins"
	ErrReplayLimit          Kind = "replay-limit"
	ErrClientGone           Kind = "client-gone"
	ErrInternal             Kind = "internal"
	ErrUndecided            Kind = "undecided"
	ErrUnavailable          Kind = "unavailable"
	ErrPartial              Kind = "partial"
	ErrNotFetched           Kind = "not-fetched"
	ErrBusy                 Kind = "busy"
	ErrReadOnly             Kind = "read-only"
	ErrNoStore              Kind = "no-store"
	ErrNotReady             Kind = "not-ready"
	ErrClosing              Kind = "closing"
	ErrOutOfSpace           Kind = "out-of-space"
	ErrUnauthenticated      Kind = "unauthenticated"
	ErrForbiddenHost        Kind = "forbidden-host"
	ErrForbiddenOrigin      Kind = "forbidden-origin"
	ErrForbiddenPeer        Kind = "forbidden-peer"
	ErrTooManyConnections   Kind = "too-many-connections"
	ErrHTTPVersion          Kind = "http-version"
)

// Kinds of errors that the client itself finds.
const (
	ErrConnection Kind = "connection" // nobody is there, or it broke off
	ErrDeadline   Kind = "deadline"   // the caller's time is over, or its context was cancelled
	ErrBadAnswer  Kind = "bad-answer" // not what the protocol says, too large, or about another block
	ErrBadProof   Kind = "bad-proof"  // proves nothing
)

// Error is why a request failed: a problem of the server's (RFC 9457) or, with Status
// 0, one that the client found. Members that don't belong to the
// kind are empty.
type Error struct {
	Kind   Kind   `json:"kind"`
	Status int    `json:"status,omitempty"` // of HTTP
	Title  string `json:"title,omitempty"`  // what the kind means
	Detail string `json:"detail,omitempty"` // for people

	Nearest    *About      `json:"nearest,omitempty"`    // the nearest block that is held
	Candidates []About     `json:"candidates,omitempty"` // blocks that the name fits
	Declared   *Hash       `json:"declared,omitempty"`   // the root that was stated
	Actual     *Hash       `json:"actual,omitempty"`     // the root that came out
	Holder     *Holder     `json:"holder,omitempty"`     // who has the slot
	Obstacles  []Obstacle  `json:"obstacles,omitempty"`  // why no ancestor's checkpoint can be used
	Block      *Hash       `json:"block,omitempty"`      // that the answer is about
	Slot       *forks.Slot `json:"slot,omitempty"`
	Root       *Hash       `json:"root,omitempty"`
	Key        string      `json:"key,omitempty"`    // in hex
	Item       string      `json:"item,omitempty"`   // that the role may not read
	Action     string      `json:"action,omitempty"` // that the role may not do

	RetryAfter time.Duration `json:"-"` // as the server said; 0 where it didn't

	cause error
}

// Holder is who has a slot.
type Holder struct {
	Slot  forks.Slot `json:"slot"`
	Block *Hash      `json:"block,omitempty"` // that is being written
	Owner string     `json:"owner"`
	AgeMS int64      `json:"age_ms"`
}

// Obstacle is a block whose checkpoint can't be used, and why.
type Obstacle struct {
	About
	Reason string `json:"reason"`
}

// Error implements error.
func (e *Error) Error() string {
	if e.Detail == "" {
		return string(e.Kind)
	}
	return string(e.Kind) + ": " + e.Detail
}

// Is says whether the error is of a kind.
func (e *Error) Is(target error) bool {
	k, ok := target.(Kind)
	return ok && k == e.Kind
}

// Unwrap gives what is behind a client's own error, such as a context's.
func (e *Error) Unwrap() error { return e.cause }

// clientError makes an error that the client found.
func clientError(kind Kind, cause error, format string, args ...any) *Error {
	return &Error{Kind: kind, Detail: fmt.Sprintf(format, args...), cause: cause}
}

func badAnswer(format string, args ...any) *Error {
	return clientError(ErrBadAnswer, nil, format, args...)
}

// broken is the error of a connection: of kind deadline where the caller's time is
// over, which is what made it fail.
func broken(ctx context.Context, err error) error {
	var e *Error
	switch {
	case errors.As(err, &e):
		return e
	case ctx.Err() != nil:
		return clientError(ErrDeadline, ctx.Err(), "%v", context.Cause(ctx))
	case isTimeout(err):
		return clientError(ErrDeadline, err, "the server didn't answer in time")
	}
	return clientError(ErrConnection, err, "%v", err)
}

// isTimeout says whether a connection's deadline came.
func isTimeout(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }

// maxProblem is the most bytes of an error's body.
const maxProblem = 1 << 20

// problem reads the answer to a request that was refused, and ends it.
func (k *conn) problem() error {
	status, media, after := k.head.status, k.head.media, k.head.retryAfter
	body, err := k.body(nil, maxProblem)
	if err != nil {
		return err
	}
	e := &Error{}
	if media != typeProblem || json.Unmarshal(body, e) != nil || e.Kind == "" {
		return badAnswer("status %d, without a problem: %.200q", status, body)
	}
	e.Status, e.RetryAfter = status, after
	return e
}

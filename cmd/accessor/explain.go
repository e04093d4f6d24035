package main

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"
	"time"

	"accessor/api/client"
	"accessor/state"
)

// What becomes of a client's errors: kinds that aren't here are exitStore.
var statusOfKind = map[client.Kind]int{
	"unknown-block": exitDiffers, "pruned": exitDiffers, "absent-key": exitDiffers, "no-changes": exitDiffers,
	"unknown-draft": exitDiffers, "draft-over": exitDiffers, "draft-committing": exitDiffers, "unknown-pin": exitDiffers,
	"conflict": exitDiffers, "not-descendant": exitDiffers, "invalid-block": exitDiffers, "wrong-root": exitDiffers,
	"unknown-item": exitDiffers, "bad-encoding": exitDiffers, "prior-root": exitDiffers, "slot-order": exitDiffers, "locked": exitDiffers, "reserved": exitDiffers,
	client.ErrBadProof: exitDiffers,

	"bad-request": exitUsage, "bad-block-id": exitUsage, "bad-key": exitUsage, "bad-body": exitUsage,
	"ambiguous-block": exitUsage, "no-roots": exitUsage, "no-directory": exitUsage, "target-too-long": exitUsage,
	"forbidden": exitUsage, "forbidden-item": exitUsage, "unauthenticated": exitUsage, "forbidden-peer": exitUsage,
	"forbidden-host": exitUsage,
}

// nextOf says what to do about an error, where its text doesn't.
var nextOf = map[client.Kind]string{
	"unknown-block":     "accessor tree shows those that are held",
	"ambiguous-block":   "name it by its hash",
	"not-descendant":    "choose a block above that one (accessor tree)",
	"locked":            "try again; accessor locks shows who has it",
	"reserved":          "choose another slot, or wait; accessor locks shows who has it",
	"unknown-draft":     "accessor draft list shows those that are open",
	"draft-over":        "begin another: accessor draft begin",
	"too-many-drafts":   "commit or drop some: accessor draft list",
	"unknown-pin":       "accessor pins shows those that there are",
	"too-many-pins":     "end some: accessor pins",
	"forbidden":         "ask by a socket or token that has such a role (docs/SERVE.md)",
	"forbidden-item":    "ask by a socket or token that has such a role (docs/SERVE.md)",
	"forbidden-peer":    "ask by a socket that takes this user (docs/SERVE.md)",
	"unauthenticated":   "give --token-kid and --token-secret-file (docs/SERVE.md)",
	"no-store":          "start it with accessor serve --anchor FILE, or send it PUT /v1/anchor",
	"out-of-space":      "make room on its disk, or raise its budget",
	"read-only":         "look at its log, and at its disk",
	"undecided":         "restart the sidecar, then ask again",
	"target-too-long":   "ask for fewer keys at a time",
	"too-large":         "ask for less at a time",
	client.ErrBadAnswer: "is that an accessor, of this version?",
	client.ErrBadProof:  "what the sidecar says is not what the root says: don't use it",
}

// explain gives a client's error its exit status, and says what to do next.
func (t *target) explain(err error) error {
	var e *client.Error
	if !errors.As(err, &e) {
		return err
	}
	kind := e.Kind
	status, known := statusOfKind[kind]
	if !known {
		status = exitStore
	}
	if kind == client.ErrConnection && t.address != "" {
		return &exitError{status, t.unreachable(err)}
	}
	text := err.Error()
	if before, ok := strings.CutSuffix(text, e.Error()); ok {
		text = before + strings.Map(printable, cmp.Or(e.Detail, string(e.Kind))) // the kind is for programs
	}
	switch next := nextOf[kind]; {
	case kind == client.ErrUnknownBlock && e.Nearest != nil && strings.Contains(text, e.Nearest.Block.String()):
		// It names one.
	case kind == client.ErrInternal && t.data != "":
		text = fmt.Sprintf("the store in %s failed: what was logged above says how, and accessor verify --data %[1]s what is damaged", t.data)
	case kind == client.ErrInternal:
		text = "something is wrong with the sidecar or its disk: its log says what"
	case next != "":
		text += ": " + next
	case e.RetryAfter > 0:
		text += fmt.Sprintf("; try again in %v", e.RetryAfter.Round(time.Second))
	}
	return &exitError{status, &toldError{text, err}}
}

// explainBeside says what to do next about an error of a store that is read beside its
// owner: the same as of one that is asked.
func explainBeside(err error) error {
	var none *state.NoBlockError
	switch {
	case errors.As(err, &none) && none.Nearest == nil:
		return fmt.Errorf("%w: %s", err, nextOf[client.ErrUnknownBlock])
	case errors.Is(err, state.ErrAmbiguous):
		return fmt.Errorf("%w: %s", err, nextOf[client.ErrAmbiguousBlock])
	}
	return err
}

// unreachable says what to do where the sidecar can't be asked.
func (t *target) unreachable(err error) error {
	switch {
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, fs.ErrNotExist):
		return &toldError{fmt.Sprintf("no sidecar listens at %s: start it by accessor serve --data DIR --socket PATH, or read a store by --data DIR", t.address), err}
	case errors.Is(err, fs.ErrPermission):
		return &toldError{fmt.Sprintf("this user may not use the socket %s: its mode, owner and group are the sidecar's configuration (docs/SERVE.md)", t.address), err}
	}
	return &toldError{fmt.Sprintf("the connection to %s broke: %v: look whether the sidecar still runs, and ask again", t.address, err), err}
}

// toldError is an error as people are told it.
type toldError struct {
	text string
	err  error
}

func (e *toldError) Error() string { return e.text }
func (e *toldError) Unwrap() error { return e.err }

package access

import "errors"

// Errors of reading a configuration. Match them with errors.Is.
var (
	// ErrRole: a name is no role's, or none was given.
	ErrRole = errors.New("unknown role")
	// ErrItem: a name is no state item's.
	ErrItem = errors.New("unknown state item")
)

package state

import "errors"

// ErrTooLarge: the answer would take more than the caller has room for.
var ErrTooLarge = errors.New("answer is too large")

// Bound is how much a caller has room for. The zero value has no bounds.
type Bound struct {
	// Take is called before so many bytes more of keys and values are kept for the
	// answer; its error ends the call. What is being read, a value at a time, or a few
	// of a batch, is beside that.
	Take func(bytes int) error
	// Blocks is the most blocks whose write sets are read; 0 for any number. Where
	// more would have to be, the error is ErrTooLarge.
	Blocks int
}

// AtMost bounds an answer by its bytes of keys and values. Where it is exceeded the
// error is ErrTooLarge.
func AtMost(bytes int) Bound {
	return Bound{Take: func(n int) error {
		if bytes -= n; bytes < 0 {
			return ErrTooLarge
		}
		return nil
	}}
}

func (b *Bound) take(n int) error {
	if b.Take == nil {
		return nil
	}
	return b.Take(n)
}

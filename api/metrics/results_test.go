package metrics

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"accessor/state"
)

// TestResults: only what goes wrong in the store counts as its failure.
func TestResults(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want string
	}{
		{nil, imported},
		{&state.LockedError{}, gaveUp},
		{&state.ReservedError{}, gaveUp},
		{fmt.Errorf("import: %w", context.Canceled), gaveUp},
		{fmt.Errorf("import: %w", context.DeadlineExceeded), gaveUp},
		{fmt.Errorf("import: %w", state.ErrClosed), gaveUp},
		{fmt.Errorf("import: %w", state.ErrConflict), refused},
		{fmt.Errorf("import: %w", state.ErrNoSpace), failed},
		{errors.New("disk"), failed},
		{&state.FetchError{Err: context.DeadlineExceeded}, lacking},
		{&state.FetchError{Err: context.Canceled}, gaveUp},
	} {
		if got := resultOf(&state.Imported{Err: tt.err}); got != tt.want {
			t.Errorf("%v: %s, want %s", tt.err, got, tt.want)
		}
	}
}

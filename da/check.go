package da

import (
	"errors"
	"fmt"
	"time"

	ma "github.com/multiformats/go-multiaddr"
)

// Check says what is wrong with addresses and ids, as far as that can be told without
// listening; New does so too.
func (c *Config) Check() error {
	_, _, err := c.lists(newBook(time.Hour, nil))
	errs := []error{err}
	for _, text := range c.Listen {
		if _, err := ma.NewMultiaddr(text); err != nil {
			errs = append(errs, fmt.Errorf("listen %q: %w", text, err))
		}
	}
	return errors.Join(errs...)
}

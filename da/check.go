package da

import (
	"errors"
	"fmt"

	ma "github.com/multiformats/go-multiaddr"
)

// Check says what is wrong with addresses and ids, as far as that can be told without
// listening; New does so too.
func (c *Config) Check() error {
	_, err := readLists(c.Peers, c.Allow, c.Deny)
	errs := []error{err}
	for _, text := range c.Listen {
		if _, err := ma.NewMultiaddr(text); err != nil {
			errs = append(errs, fmt.Errorf("listen %q: %w", text, err))
		}
	}
	return errors.Join(errs...)
}

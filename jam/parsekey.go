package jam

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// ErrKey: a text names no key.
var ErrKey = errors.New("neither hex nor the name of a state item")

// maxKeyText is the most of a text that an error shows.
const maxKeyText = 80

// ParseKey reads a key as people write it: in hex, with or without 0x, or by the name
// of a state item (see ItemKey). Error: ErrKey.
func ParseKey(text string) ([]byte, error) {
	if key, ok := ItemKey(text); ok {
		return key, nil
	}
	digits := strings.TrimPrefix(text, "0x")
	key, err := hex.DecodeString(digits)
	shown := text
	if len(shown) > maxKeyText {
		shown = shown[:maxKeyText] + "…"
	}
	switch {
	case errors.Is(err, hex.ErrLength):
		return nil, fmt.Errorf("key %q has %d hex digits, an odd number: %w", shown, len(digits), ErrKey)
	case err != nil || len(key) == 0:
		return nil, fmt.Errorf("key %q is %w", shown, ErrKey)
	}
	return key, nil
}

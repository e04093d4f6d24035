package trace

import (
	"fmt"
	"unicode/utf8"

	"accessor/state"
)

// ParseBlock reads a block as it is handed over one by one: a JSON object of which a
// block line of a recording is one, as it stands. It needs hash, parent, slot, puts
// and dels; the roots and the header may be missing or null. Members that it doesn't
// know are passed over, but none may come twice. The block keeps nothing of the text.
// Errors: ErrFormat, ErrTooLong.
func ParseBlock(text []byte) (*state.Block, error) {
	p, err := strictParser(text)
	if err != nil {
		return nil, err
	}
	var b state.Block
	kind := "block"
	err = p.fields(map[string]func() error{
		"type":       p.textInto(&kind),
		"hash":       p.hashInto(&b.Hash),
		"parent":     p.hashInto(&b.Parent),
		"slot":       p.slotInto(&b.Slot),
		"prior_root": p.optionalHash(&b.PriorRoot),
		"post_root":  p.optionalHash(&b.PostRoot),
		"header":     p.bytesInto(&b.Header),
		"puts":       p.putsInto(&b.Puts),
		"dels":       p.delsInto(&b.Dels),
	}, "hash", "parent", "slot", "puts", "dels")
	if err == nil && kind != "block" {
		err = fmt.Errorf("%w: line of type %q, want a block", ErrFormat, abbreviate(kind))
	}
	if err != nil {
		return nil, err
	}
	return &b, nil
}

// ParseWrites reads a write set, {"puts":[[key,value]…],"dels":[key…]} in hex, of
// which one list may be missing. Members that it doesn't know are refused. Errors:
// ErrFormat, ErrTooLong.
func ParseWrites(text []byte) (puts []state.Pair, dels [][]byte, err error) {
	p, err := strictParser(text)
	if err != nil {
		return nil, nil, err
	}
	read := map[string]func() error{"puts": p.putsInto(&puts), "dels": p.delsInto(&dels)}
	err = p.whole(func(name string) error {
		if field := read[name]; field != nil {
			return field()
		}
		return p.fail("no member %q is known here", abbreviate(name))
	})
	if err != nil {
		return nil, nil, err
	}
	return puts, dels, nil
}

func strictParser(text []byte) (*parser, error) {
	if !utf8.Valid(text) {
		return nil, fmt.Errorf("%w: not UTF-8", ErrFormat)
	}
	return &parser{scanner: scanner{b: text, once: true}, seen: make(map[string]bool, 16)}, nil
}

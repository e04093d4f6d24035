package trace

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"

	"accessor/forks"
)

// Bounds of what a line may have in it beside its byte strings.
const (
	maxText  = 64 << 10 // bytes of a name, note, reason or source
	maxDepth = 64       // nesting of values that are passed over
)

// scanner reads the JSON of one line from the front. It is made for lines of
// megabytes that consist of hex: those are found by a search for the closing
// quote and decoded in place, into one arena of half the line's size. It takes no
// line that encoding/json wouldn't.
type scanner struct {
	b     []byte
	i     int
	arena []byte // decoded byte strings, handed out as parts
	// once refuses members that come twice.
	once bool
}

func (s *scanner) fail(format string, args ...any) error {
	return fmt.Errorf("%w: column %d: %s", ErrFormat, s.i+1, fmt.Sprintf(format, args...))
}

// space passes over white space and gives the byte after it, 0 at the end.
func (s *scanner) space() byte {
	for ; s.i < len(s.b); s.i++ {
		switch c := s.b[s.i]; c {
		case ' ', '\t', '\r', '\n':
		default:
			return c
		}
	}
	return 0
}

func (s *scanner) expect(c byte) error {
	if got := s.space(); got != c {
		if s.i == len(s.b) {
			return s.fail("line ends, %q wanted", c)
		}
		return s.fail("%q where %q is wanted", got, c)
	}
	s.i++
	return nil
}

// list reads the elements between two brackets.
func (s *scanner) list(open, closing byte, element func() error) error {
	if err := s.expect(open); err != nil {
		return err
	}
	if s.space() == closing {
		s.i++
		return nil
	}
	for {
		if err := element(); err != nil {
			return err
		}
		if s.space() == closing {
			s.i++
			return nil
		}
		if err := s.expect(','); err != nil {
			return err
		}
	}
}

func (s *scanner) array(element func() error) error { return s.list('[', ']', element) }

// object reads the members of an object: member is called in front of each value
// and must read it.
func (s *scanner) object(member func(name string) error) error {
	var seen map[string]bool
	if s.once {
		seen = make(map[string]bool)
	}
	return s.list('{', '}', func() error {
		name, err := s.text()
		if err != nil {
			return err
		}
		if s.once {
			if seen[name] {
				return s.fail("member %q comes twice", abbreviate(name))
			}
			seen[name] = true
		}
		if err := s.expect(':'); err != nil {
			return err
		}
		return member(name)
	})
}

// whole reads the line's one object.
func (s *scanner) whole(member func(name string) error) error {
	if err := s.object(member); err != nil {
		return err
	}
	if s.space(); s.i < len(s.b) {
		return s.fail("data after the object")
	}
	return nil
}

// token gives a string's bytes with its quotes, escapes and all.
func (s *scanner) token() ([]byte, error) {
	if err := s.expect('"'); err != nil {
		return nil, err
	}
	start := s.i - 1
	for {
		n := bytes.IndexByte(s.b[s.i:], '"')
		if n < 0 {
			s.i = len(s.b)
			return nil, s.fail("line ends within a string")
		}
		s.i += n + 1
		// The quote is part of the string after an odd number of backslashes.
		slashes := 0
		for j := s.i - 2; j > start && s.b[j] == '\\'; j-- {
			slashes++
		}
		if slashes%2 == 0 {
			return s.b[start:s.i], nil
		}
	}
}

// text reads a string for people.
func (s *scanner) text() (string, error) {
	at := s.i
	tok, err := s.token()
	if err != nil {
		return "", err
	}
	if len(tok) > maxText {
		return "", fmt.Errorf("%w: string of %d bytes, at most %d", ErrTooLong, len(tok), maxText)
	}
	plain := true
	for _, c := range tok[1 : len(tok)-1] {
		if c < ' ' || c >= 0x7f || c == '\\' {
			plain = false
			break
		}
	}
	if plain {
		return string(tok[1 : len(tok)-1]), nil
	}
	var out string
	if err := json.Unmarshal(tok, &out); err != nil {
		s.i = at
		return "", s.fail("%v", err)
	}
	return out, nil
}

// bytes reads a byte string in hex. Two hex digits make a byte, so all those of
// a line fit into the arena.
func (s *scanner) bytes() ([]byte, error) {
	if err := s.expect('"'); err != nil {
		return nil, err
	}
	n := bytes.IndexByte(s.b[s.i:], '"')
	if n < 0 {
		s.i = len(s.b)
		return nil, s.fail("line ends within a string")
	}
	if s.arena == nil {
		s.arena = make([]byte, 0, len(s.b)/2)
	}
	start := len(s.arena)
	end := start + n/2
	out := s.arena[start:end:end]
	if _, err := hex.Decode(out, s.b[s.i:s.i+n]); err != nil {
		return nil, s.fail("%q is not hex, two digits for each byte", abbreviate(string(s.b[s.i:s.i+min(n, 200)])))
	}
	s.arena = s.arena[:end]
	s.i += n + 1
	return out, nil
}

func (s *scanner) hash() (forks.Hash, error) {
	var h forks.Hash
	if err := s.expect('"'); err != nil {
		return h, err
	}
	const digits = 2 * forks.HashSize
	if n := bytes.IndexByte(s.b[s.i:], '"'); n != digits {
		return h, s.fail("hash of %d characters, want %d hex digits", max(n, 0), digits)
	}
	if _, err := hex.Decode(h[:], s.b[s.i:s.i+digits]); err != nil {
		return h, s.fail("%v", err)
	}
	s.i += digits + 1
	return h, nil
}

// number reads a plain integer of at most limit.
func (s *scanner) number(limit uint64) (uint64, error) {
	s.space()
	start := s.i
	x := uint64(0)
	for ; s.i < len(s.b) && '0' <= s.b[s.i] && s.b[s.i] <= '9'; s.i++ {
		digit := uint64(s.b[s.i] - '0')
		if x > (limit-digit)/10 {
			return 0, s.fail("number above %d", limit)
		}
		x = 10*x + digit
	}
	switch {
	case s.i == start:
		return 0, s.fail("no plain integer")
	case s.b[start] == '0' && s.i > start+1:
		return 0, s.fail("number with a leading zero")
	case s.i < len(s.b) && (s.b[s.i] == '.' || s.b[s.i]|0x20 == 'e'):
		return 0, s.fail("number is not a plain integer")
	}
	return x, nil
}

func (s *scanner) int() (int, error) {
	x, err := s.number(math.MaxInt)
	return int(x), err
}

// null passes over a null, if that is what follows.
func (s *scanner) null() bool {
	s.space()
	if !bytes.HasPrefix(s.b[s.i:], []byte("null")) {
		return false
	}
	s.i += len("null")
	return true
}

// skip passes over a value of any kind and gives its bytes.
func (s *scanner) skip() ([]byte, error) {
	s.space()
	start := s.i
	err := s.skipValue(maxDepth)
	return s.b[start:s.i], err
}

func (s *scanner) skipValue(depth int) error {
	if depth == 0 {
		return s.fail("nested deeper than %d", maxDepth)
	}
	switch c := s.space(); c {
	case '"':
		tok, err := s.token()
		if err == nil && !json.Valid(tok) {
			err = s.fail("no valid string")
		}
		return err
	case '[':
		return s.array(func() error { return s.skipValue(depth - 1) })
	case '{':
		return s.object(func(string) error { return s.skipValue(depth - 1) })
	default:
		// A number or a word, which is short.
		start := s.i
		for s.i < len(s.b) && bytes.IndexByte([]byte(" \t\r\n,]}"), s.b[s.i]) < 0 && s.i-start <= 64 {
			s.i++
		}
		if !json.Valid(s.b[start:s.i]) {
			s.i = start
			return s.fail("no value")
		}
		return nil
	}
}

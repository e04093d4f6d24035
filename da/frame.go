package da

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// errInvalid is the error of an answer that breaks the protocol or fails its check:
// who gave it is banned.
var errInvalid = errors.New("invalid answer")

func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: %w", errInvalid, fmt.Errorf(format, args...))
}

// firstRead is how much memory a message gets before any of its bytes have come.
const firstRead = 8 << 10

// messages reads an answer or a request: messages with their lengths in front.
type messages struct{ r io.Reader }

// next reads one message of at most so many bytes. The memory it takes grows with
// what arrives, at most four times as much.
func (m messages) next(most int) ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(m.r, head[:]); err != nil {
		return nil, cut(err)
	}
	return m.body(head, most)
}

// nextOrEnd is next, but gives io.EOF where the answer ends here.
func (m messages) nextOrEnd(most int) ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(m.r, head[:]); err != nil {
		if orderlyEnd(err) {
			return nil, io.EOF
		}
		return nil, cut(err)
	}
	return m.body(head, most)
}

func (m messages) body(head [4]byte, most int) ([]byte, error) {
	size := binary.LittleEndian.Uint32(head[:])
	if uint64(size) > uint64(most) {
		return nil, invalid("a message of %d bytes where %d are allowed", size, most)
	}
	b := make([]byte, min(int(size), firstRead))
	for have := 0; ; {
		if _, err := io.ReadFull(m.r, b[have:]); err != nil {
			return nil, cut(err)
		}
		if have = len(b); have == int(size) {
			return b, nil
		}
		grown := make([]byte, min(int(size), 4*have))
		copy(grown, b)
		b = grown
	}
}

// end checks that nothing follows.
func (m messages) end() error {
	var b [1]byte
	switch n, err := io.ReadFull(m.r, b[:]); {
	case n > 0:
		return invalid("more behind its end")
	case orderlyEnd(err):
		return nil
	default:
		return err
	}
}

// orderlyEnd says that the peer closed its half. The error of a broken connection may
// wrap io.EOF too, and that is not the peer's doing: so it must be io.EOF itself.
func orderlyEnd(err error) bool { return err == io.EOF } //nolint:errorlint

// cut names an orderly end in the wrong place.
func cut(err error) error {
	if orderlyEnd(err) || err == io.ErrUnexpectedEOF { //nolint:errorlint // see orderlyEnd
		return invalid("it ends too early")
	}
	return err
}

// appendMessage appends a message with its length in front.
func appendMessage(b, message []byte) []byte {
	b = binary.LittleEndian.AppendUint32(b, uint32(len(message)))
	return append(b, message...)
}

package checkpoint

import (
	"bufio"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/cespare/xxhash/v2"
)

// A frame: u32 length of what follows the checksum, its XXH64 (u64), then the length
// of the next key (u8) and that key, 0 for none; then for each pair the length of its
// key (u8), the key, the length of its value (u32), and the value. Little-endian.
const (
	frameHead = 4 + 8
	// mostFrame bounds what is read into memory at once. A peer's answer is far
	// smaller, unless it is one value of the greatest size.
	mostFrame = 64 << 20
)

// frames reads the part's frames up to a size, below 0 to the end. Error: ErrDamaged
// for one that is not whole.
func (p *SpoolPart) frames(size int64, visit func(next []byte, pairs []Pair, end int64) bool) error {
	if size < 0 {
		info, err := p.file.Stat()
		if err != nil {
			return err
		}
		size = info.Size()
	}
	in := bufio.NewReaderSize(io.NewSectionReader(p.file, 0, size), 1<<20)
	damaged := fmt.Errorf("%w: a frame in %s", ErrDamaged, p.file.Name())
	for at := int64(0); at < size; {
		var head [frameHead]byte
		if _, err := io.ReadFull(in, head[:]); err != nil {
			return cmp.Or(unlessShort(err), damaged)
		}
		n := int64(binary.LittleEndian.Uint32(head[:]))
		if n > size-at-frameHead || n > mostFrame {
			return damaged
		}
		body := make([]byte, n)
		if _, err := io.ReadFull(in, body); err != nil {
			return cmp.Or(unlessShort(err), damaged)
		}
		if xxhash.Sum64(body) != binary.LittleEndian.Uint64(head[4:]) {
			return damaged
		}
		next, pairs, ok := decodeFrame(body)
		if !ok {
			return damaged
		}
		at += frameHead + n
		if !visit(next, pairs, at) {
			return nil
		}
	}
	return nil
}

// unlessShort is nil where a file ended early.
func unlessShort(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return nil
	}
	return err
}

func appendFrame(next []byte, pairs []Pair) []byte {
	b := append(make([]byte, frameHead, frameHead+1+len(next)), byte(len(next)))
	b = append(b, next...)
	for _, p := range pairs {
		b = append(append(b, byte(len(p.Key))), p.Key...)
		b = binary.LittleEndian.AppendUint32(b, uint32(len(p.Value)))
		b = append(b, p.Value...)
	}
	binary.LittleEndian.PutUint32(b, uint32(len(b)-frameHead))
	binary.LittleEndian.PutUint64(b[4:], xxhash.Sum64(b[frameHead:]))
	return b
}

func decodeFrame(b []byte) (next []byte, pairs []Pair, ok bool) {
	cut := func(n int) []byte {
		if n > len(b) {
			n, ok = len(b), false
		}
		out := b[:n:n]
		b = b[n:]
		return out
	}
	number := func(width int) (n int) {
		for i, x := range cut(width) {
			n |= int(x) << (8 * i)
		}
		return n
	}
	ok = true
	if n := number(1); n > 0 {
		next = cut(n)
	}
	for ok && len(b) > 0 {
		key := cut(number(1))
		pairs = append(pairs, Pair{Key: key, Value: cut(number(4))})
	}
	return next, pairs, ok
}

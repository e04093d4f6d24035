package statefile

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"

	"accessor/checkpoint"
	"accessor/forks"
)

// beginBinary reads the header.
func (r *Reader) beginBinary() error {
	var b [binaryHeader]byte
	if err := r.fill(b[:]); err != nil {
		return fmt.Errorf("header: %w", err)
	}
	rest := b[len(Format):]
	var h Header
	rest = rest[copy(h.Hash[:], rest):]
	h.Slot = forks.Slot(binary.LittleEndian.Uint32(rest))
	rest = rest[4:]
	rest = rest[copy(h.Root[:], rest):]
	h.Commitment = string(bytes.TrimRight(rest, "\x00"))
	if err := h.check(); err != nil {
		return fmt.Errorf("header: %w", err)
	}
	r.header = &h
	return nil
}

func appendHeader(dst []byte, h Header) []byte {
	dst = append(dst, Format...)
	dst = append(dst, h.Hash[:]...)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(h.Slot))
	dst = append(dst, h.Root[:]...)
	var name [maxCommitment]byte
	copy(name[:], h.Commitment)
	return append(dst, name[:]...)
}

// fill reads so many bytes. Errors: ErrCut, ErrUnreadable.
func (r *Reader) fill(b []byte) error {
	if _, err := io.ReadFull(r.in, b); err != nil {
		return readError(err)
	}
	return nil
}

func (r *Reader) uint32() (uint32, error) {
	var b [4]byte
	err := r.fill(b[:])
	return binary.LittleEndian.Uint32(b[:]), err
}

// nextBinary reads the next pair, or the end.
func (r *Reader) nextBinary() (checkpoint.Pair, error) {
	n, err := r.uint32()
	if err == nil && n == endMark {
		err = r.endBinary()
		if errors.Is(err, io.EOF) {
			return checkpoint.Pair{}, io.EOF
		}
	} else if err == nil {
		err = r.pairBinary(n)
	}
	if err != nil {
		return checkpoint.Pair{}, fmt.Errorf("after %d pairs: %w", r.pairs, err)
	}
	return checkpoint.Pair{Key: r.key, Value: r.value}, nil
}

func (r *Reader) pairBinary(keySize uint32) error {
	limits := r.opts.Limits
	if keySize == 0 {
		return fmt.Errorf("%w: empty key", ErrFormat)
	}
	if int64(keySize) > int64(limits.KeySize) {
		return fmt.Errorf("%w: key of %d bytes, at most %d", ErrLimit, keySize, limits.KeySize)
	}
	r.key, r.last = r.last[:0], r.key
	r.key = slices.Grow(r.key, int(keySize))[:keySize]
	if err := r.fill(r.key); err != nil {
		return err
	}
	if err := r.checkKey(); err != nil {
		return err
	}
	size, err := r.uint32()
	if err != nil {
		return err
	}
	if int64(size) > int64(limits.ValueSize) {
		return fmt.Errorf("%w: value of %d bytes at key %x, at most %d", ErrLimit, size, r.key, limits.ValueSize)
	}
	r.value = slices.Grow(r.value[:0], int(size))[:size]
	return r.fill(r.value)
}

// endBinary reads what follows the end mark, and gives io.EOF where all is well.
func (r *Reader) endBinary() error {
	var b [8]byte
	if err := r.fill(b[:]); err != nil {
		return err
	}
	if err := r.checkCount(binary.LittleEndian.Uint64(b[:])); err != nil {
		return err
	}
	switch _, err := r.in.ReadByte(); {
	case errors.Is(err, io.EOF):
		return io.EOF
	case err != nil:
		return readError(err)
	}
	return fmt.Errorf("%w: data after the end", ErrFormat)
}

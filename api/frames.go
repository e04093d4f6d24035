package api

import (
	"encoding/binary"
	"math"
)

// absent stands for the length of a value that isn't there.
const absent = math.MaxUint32

// frames reads binary frames from the front: byte strings with their lengths before
// them, as u32, little-endian. The first error stays. What it hands out aliases the
// input.
type frames struct {
	rest []byte
	err  error
}

func (f *frames) fail(format string, args ...any) {
	if f.err == nil {
		f.err = badBody(format, args...)
	}
	f.rest = nil
}

// fixed reads so many bytes.
func (f *frames) fixed(n int, what string) []byte {
	if f.err != nil || len(f.rest) < n {
		f.fail("the body ends within %s", what)
		return nil
	}
	b := f.rest[:n:n]
	f.rest = f.rest[n:]
	return b
}

func (f *frames) uint32(what string) uint32 {
	if b := f.fixed(4, what); b != nil {
		return binary.LittleEndian.Uint32(b)
	}
	return 0
}

// frame reads a byte string; it is not nil, unless there is an error.
func (f *frames) frame(what string) []byte {
	n := f.uint32(what)
	if f.err == nil && uint64(n) > uint64(len(f.rest)) {
		f.fail("%s of %d bytes, %d are left", what, n, len(f.rest))
		return nil
	}
	return f.fixed(int(n), what)
}

// count reads a number of elements, of which each takes so many bytes at least: so
// that no more memory is made than the body justifies.
func (f *frames) count(least int, what string) int {
	n := f.uint32(what)
	if f.err == nil && uint64(n)*uint64(least) > uint64(len(f.rest)) {
		f.fail("%d %s, more than the body has room for", n, what)
		return 0
	}
	return int(n)
}

// end wants nothing to be left.
func (f *frames) end() error {
	if f.err == nil && len(f.rest) > 0 {
		f.fail("%d bytes after the end", len(f.rest))
	}
	return f.err
}

func appendFrame(dst, b []byte) []byte {
	return append(binary.LittleEndian.AppendUint32(dst, uint32(len(b))), b...)
}

// appendOptional appends a frame, or what stands for one that isn't there.
func appendOptional(dst, b []byte, present bool) []byte {
	if !present {
		return binary.LittleEndian.AppendUint32(dst, absent)
	}
	return appendFrame(dst, b)
}

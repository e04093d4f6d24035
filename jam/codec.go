package jam

import (
	"encoding/binary"
	"fmt"
	"math/bits"
)

// AppendNat appends a natural number in the general encoding (Gray Paper 0.7.2,
// C.1.3): a first byte that tells how many low bytes follow, little-endian, with
// the remaining high bits in it; 1 byte below 128, at most 9.
func AppendNat(b []byte, x uint64) []byte {
	l := max(0, bits.Len64(x)-1) / 7 // bytes that follow
	if l >= 8 {
		return binary.LittleEndian.AppendUint64(append(b, 0xff), x)
	}
	b = append(b, byte(256-1<<(8-l)+x>>(8*l)))
	for i := range l {
		b = append(b, byte(x>>(8*i)))
	}
	return b
}

// CutNat reads a natural number, in its one shortest form, from the front of b and
// gives the rest. Error: ErrFormat.
func CutNat(b []byte) (x uint64, rest []byte, err error) {
	d := decoder{b: b}
	x = d.nat()
	return x, b[d.off:], d.err
}

// decoder reads an encoding from the front. Its first error stays, and every
// read after it gives zeros: look at err where a loop or a decision hangs on what
// was read, and at the end.
type decoder struct {
	b   []byte
	off int
	err error
}

func (d *decoder) left() int { return len(d.b) - d.off }

func (d *decoder) fail(format string, args ...any) {
	if d.err == nil {
		d.err = fmt.Errorf("%w at byte %d: %s", ErrFormat, d.off, fmt.Sprintf(format, args...))
	}
}

// take gives the next n bytes; nil where there are fewer.
func (d *decoder) take(n int) []byte {
	if d.err == nil && d.left() < n {
		d.fail("%d bytes wanted, %d left", n, d.left())
	}
	if d.err != nil {
		return nil
	}
	out := d.b[d.off : d.off+n : d.off+n]
	d.off += n
	return out
}

func (d *decoder) u8() byte {
	if b := d.take(1); b != nil {
		return b[0]
	}
	return 0
}

// nat reads a natural number in its one shortest form.
func (d *decoder) nat() uint64 {
	first := d.u8()
	l := bits.LeadingZeros8(^first) // leading ones
	low := d.take(l)
	if d.err != nil {
		return 0
	}
	x := uint64(0)
	for i, c := range low {
		x |= uint64(c) << (8 * i)
	}
	if l < 8 {
		x |= uint64(first&(0xff>>(l+1))) << (8 * l)
	}
	if l > 0 && x>>(7*l) == 0 {
		d.fail("number %d is not in its shortest form", x)
	}
	return x
}

// count reads the number of elements of a sequence, each of which takes at least
// size bytes, and refuses one for which there are too few bytes.
func (d *decoder) count(size int) int {
	n := d.nat()
	if d.err == nil && n > uint64(d.left()/size) {
		d.fail("%d elements of %d bytes or more, %d bytes left", n, size, d.left())
	}
	if d.err != nil {
		return 0
	}
	return int(n)
}

// blob reads bytes with their length in front.
func (d *decoder) blob() []byte { return d.take(d.count(1)) }

// takeAll gives the elements of a sequence, each of that very size.
func (d *decoder) takeAll(size int) []byte { return d.take(d.count(size) * size) }

// each decodes a sequence of elements of at least size bytes.
func (d *decoder) each(size int, element func()) {
	for n := d.count(size); n > 0 && d.err == nil; n-- {
		element()
	}
}

// option reads whether an optional value follows.
func (d *decoder) option() bool {
	tag := d.u8()
	if tag > 1 {
		d.fail("option tag %d", tag)
	}
	return d.err == nil && tag == 1
}

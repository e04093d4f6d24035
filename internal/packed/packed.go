// Package packed reads streams that may be compressed with zstd or gzip, and
// writes those that shall be.
//
// Invariants: how a stream is stored its first bytes say, whatever its name says;
// reading takes no goroutine, and no more memory than one window, which is bounded.
package packed

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// maxWindow is the largest zstd window, in bytes, that is decoded, which is how
// much memory decompression takes. Published recordings use up to 16 MiB.
const maxWindow = 32 << 20

const bufferSize = 64 << 10

// Reader gives a stream decompressed. It is not safe for concurrent use.
type Reader struct {
	*bufio.Reader
	raw  countingReader
	zstd *zstd.Decoder // nil where the input isn't zstd
}

// countingReader counts what is read of the input as it is stored.
type countingReader struct {
	r io.Reader
	n int64
}

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

// NewReader finds out by the first bytes how the input is stored. Errors are the
// input's and the decompressor's.
func NewReader(in io.Reader) (*Reader, error) {
	r := &Reader{raw: countingReader{r: in}}
	stored := bufio.NewReaderSize(&r.raw, bufferSize)
	magic, err := stored.Peek(4)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	switch {
	case isZstd(magic):
		// One at a time: no goroutines, and no more than one window of memory.
		r.zstd, err = zstd.NewReader(stored, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
			zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, err
		}
		r.Reader = bufio.NewReaderSize(r.zstd, bufferSize)
	case bytes.HasPrefix(magic, []byte{0x1f, 0x8b}):
		z, err := gzip.NewReader(stored)
		if err != nil {
			return nil, err
		}
		r.Reader = bufio.NewReaderSize(z, bufferSize)
	default:
		r.Reader = stored
	}
	return r, nil
}

// isZstd knows a zstd frame and a skippable one (RFC 8878, 3.1), which some
// compressors put in front.
func isZstd(magic []byte) bool {
	return bytes.Equal(magic, []byte{0x28, 0xb5, 0x2f, 0xfd}) ||
		len(magic) == 4 && magic[0]&0xf0 == 0x50 && bytes.Equal(magic[1:], []byte{0x2a, 0x4d, 0x18})
}

// Stored is how many bytes of the input, as it is stored, have been read.
func (r *Reader) Stored() int64 { return r.raw.n }

// Close frees what decompression took; the input stays open. Nothing is read
// after it.
func (r *Reader) Close() {
	if r.zstd != nil {
		r.zstd.Close()
		r.zstd = nil
	}
}

// TooLarge says whether an error of reading is that of a zstd window above the
// limit.
func TooLarge(err error) bool {
	return errors.Is(err, zstd.ErrWindowSizeExceeded) || errors.Is(err, zstd.ErrDecoderSizeExceeded)
}

// NewWriter gives a stream that is compressed into w as a file of that name would
// be: zstd for .zst, gzip for .gz, plain otherwise. Close ends it and leaves w
// open. Equal contents are equal streams.
func NewWriter(name string, w io.Writer) io.WriteCloser {
	switch {
	case strings.HasSuffix(name, ".zst"):
		// One encoder at a time, so that equal contents are equal files.
		z, err := zstd.NewWriter(w, zstd.WithEncoderConcurrency(1))
		if err != nil {
			panic(err) // fixed options
		}
		return z
	case strings.HasSuffix(name, ".gz"):
		return gzip.NewWriter(w)
	}
	return plain{w}
}

type plain struct{ io.Writer }

func (plain) Close() error { return nil }

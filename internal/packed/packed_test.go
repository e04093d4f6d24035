package packed

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func packedAs(t *testing.T, name string, contents []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w := NewWriter(name, &out)
	_, err := w.Write(contents)
	if err = errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func unpacked(stored []byte) ([]byte, *Reader, error) {
	r, err := NewReader(bytes.NewReader(stored))
	if err != nil {
		return nil, nil, err
	}
	defer r.Close()
	contents, err := io.ReadAll(r)
	return contents, r, err
}

func TestRoundTrip(t *testing.T) {
	for _, contents := range [][]byte{nil, []byte("a"), []byte("{}\n"), []byte(strings.Repeat("state ", 100_000))} {
		sizes := make(map[string]int)
		for _, name := range []string{"x", "x.zst", "x.jsonl.gz"} {
			stored := packedAs(t, name, contents)
			sizes[name] = len(stored)
			got, r, err := unpacked(stored)
			if err != nil || !bytes.Equal(got, contents) {
				t.Errorf("%s of %d bytes: %d bytes, %v", name, len(contents), len(got), err)
			}
			if r.Stored() != int64(len(stored)) {
				t.Errorf("%s: read %d bytes of %d", name, r.Stored(), len(stored))
			}
			if !bytes.Equal(stored, packedAs(t, name, contents)) {
				t.Errorf("%s: other bytes the second time", name)
			}
		}
		if n := len(contents); sizes["x"] != n || n > 1000 && (sizes["x.zst"] > n/10 || sizes["x.jsonl.gz"] > n/10) {
			t.Errorf("%d bytes became %v", n, sizes)
		}
	}
}

// What is cut off or has a window above the limit is an error, not a short stream.
func TestRefused(t *testing.T) {
	contents := []byte(strings.Repeat("state ", 10_000))
	for _, name := range []string{"x.zst", "x.gz"} {
		stored := packedAs(t, name, contents)
		for _, n := range []int{5, len(stored) / 2, len(stored) - 1} {
			if _, _, err := unpacked(stored[:n]); err == nil || TooLarge(err) {
				t.Errorf("%s cut to %d of %d bytes: %v", name, n, len(stored), err)
			}
		}
	}
	var wide bytes.Buffer
	z, err := zstd.NewWriter(&wide, zstd.WithWindowSize(2*maxWindow))
	if err != nil {
		t.Fatal(err)
	}
	for range 100 {
		if _, err := z.Write(contents); err != nil {
			t.Fatal(err)
		}
		if err := z.Flush(); err != nil { // so that no size is known ahead
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	if _, _, err := unpacked(wide.Bytes()); !TooLarge(err) {
		t.Errorf("window of %d bytes: %v", 2*maxWindow, err)
	}
}

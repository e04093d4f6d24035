package jam

import (
	"bytes"
	"errors"
	"math"
	"os/exec"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestNat(t *testing.T) {
	for _, c := range []struct {
		x    uint64
		want []byte
	}{
		{0, []byte{0}},
		{1, []byte{1}},
		{127, []byte{0x7f}},
		{128, []byte{0x80, 0x80}},
		{297, []byte{0x81, 0x29}},
		{1<<14 - 1, []byte{0xbf, 0xff}},
		{1 << 14, []byte{0xc0, 0x00, 0x40}},
		{1<<21 - 1, []byte{0xdf, 0xff, 0xff}},
		{1<<56 - 1, []byte{0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}},
		{1 << 56, []byte{0xff, 0, 0, 0, 0, 0, 0, 0, 1}},
		{math.MaxUint64, bytes.Repeat([]byte{0xff}, 9)},
	} {
		got := AppendNat(nil, c.x)
		if !bytes.Equal(got, c.want) {
			t.Errorf("AppendNat(%d) = %x, want %x", c.x, got, c.want)
		}
		d := decoder{b: c.want}
		if x := d.nat(); x != c.x || d.err != nil || d.left() != 0 {
			t.Errorf("nat of %x = %d, %v, %d bytes left", c.want, x, d.err, d.left())
		}
	}
}

func TestNatRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		x := rapid.Uint64().Draw(t, "x") >> rapid.IntRange(0, 63).Draw(t, "shift")
		d := decoder{b: AppendNat(nil, x)}
		if got := d.nat(); got != x || d.err != nil || d.left() != 0 {
			t.Fatalf("%d came back as %d, %v", x, got, d.err)
		}
	})
}

func TestNatRefusesLongerForms(t *testing.T) {
	for _, b := range [][]byte{
		{0x80, 0x7f}, {0xc0, 0, 0x3f}, {0xff, 1, 0, 0, 0, 0, 0, 0, 0}, {0x80}, {0xff, 1}, {},
	} {
		d := decoder{b: b}
		if x := d.nat(); !errors.Is(d.err, ErrFormat) || x == 0 && d.err == nil {
			t.Errorf("nat of %x = %d, %v, want ErrFormat", b, x, d.err)
		}
	}
}

func TestCountIsCheckedAgainstTheBytesLeft(t *testing.T) {
	b := append(AppendNat(nil, 3), make([]byte, 95)...)
	d := decoder{b: b}
	if d.count(32); !errors.Is(d.err, ErrFormat) {
		t.Errorf("3 elements of 32 bytes in 95 bytes: %v", d.err)
	}
	d = decoder{b: append(b, 0)}
	if n := d.count(32); n != 3 || d.err != nil {
		t.Errorf("3 elements of 32 bytes in 96 bytes: %d, %v", n, d.err)
	}
}

func TestItems(t *testing.T) {
	names := ItemNames()
	if len(names) != 16 {
		t.Fatalf("%d names", len(names))
	}
	for i, name := range names {
		key, ok := ItemKey(name)
		want := append([]byte{byte(i + 1)}, make([]byte, 30)...)
		if !ok || !bytes.Equal(key, want) {
			t.Errorf("ItemKey(%q) = %x, %v", name, key, ok)
		}
		if back, ok := ItemName(key); !ok || back != name {
			t.Errorf("ItemName(%x) = %q, %v, want %q", key, back, ok, name)
		}
	}
	if key, _ := ItemKey("slot"); key[0] != 11 {
		t.Errorf("slot is C(%d), want C(11)", key[0])
	}
}

func TestAccountKeys(t *testing.T) {
	key, ok := ItemKey("account:305419896") // 0x12345678
	if want := append([]byte{255, 0x78, 0, 0x56, 0, 0x34, 0, 0x12}, make([]byte, 23)...); !ok || !bytes.Equal(key, want) {
		t.Errorf("key %x, %v, want %x", key, ok, want)
	}
	rapid.Check(t, func(t *rapid.T) {
		id := rapid.Uint32().Draw(t, "id")
		name, ok := ItemName(AccountKey(id))
		if !ok {
			t.Fatalf("account %d has no name", id)
		}
		if key, ok := ItemKey(name); !ok || !bytes.Equal(key, AccountKey(id)) {
			t.Fatalf("%s came back as %x", name, key)
		}
	})
	for _, name := range []string{"", "accounts", "account:", "account:-1", "account:+1", "account:01", "account:4294967296", "account:1 ", "Slot"} {
		if key, ok := ItemKey(name); ok {
			t.Errorf("ItemKey(%q) = %x", name, key)
		}
	}
	for _, key := range [][]byte{nil, {11}, make([]byte, 31), make([]byte, 32),
		append([]byte{17}, make([]byte, 30)...),
		append(make([]byte, 30), 1),
		append([]byte{255, 1, 1}, make([]byte, 28)...),
		append([]byte{255, 1, 0, 0, 0, 0, 0, 0, 1}, make([]byte, 22)...),
	} {
		if name, ok := ItemName(key); ok {
			t.Errorf("ItemName(%x) = %q", key, name)
		}
	}
}

// Formats are read in every layer: they depend on nothing but the words for
// blocks and the hash function.
func TestImports(t *testing.T) {
	allowed := []string{"accessor/jam", "accessor/forks", "golang.org/x/crypto/blake2b", "golang.org/x/sys/cpu"}
	out, err := exec.Command("go", "list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range strings.Fields(string(out)) {
		found := false
		for _, a := range allowed {
			found = found || a == path
		}
		if !found {
			t.Errorf("imports %s", path)
		}
	}
}

package forks_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"accessor/forks"

	"pgregory.net/rapid"
)

func TestParseHash(t *testing.T) {
	digits := strings.Repeat("0aF9", 16)
	want := forks.Hash{}
	for i := range want {
		want[i] = []byte{0x0a, 0xf9}[i%2]
	}
	for _, text := range []string{digits, "0x" + digits, "0X" + digits, strings.ToLower(digits)} {
		if got, err := forks.ParseHash(text); err != nil || got != want {
			t.Errorf("%s: %s, %v", text, got, err)
		}
	}
	for _, text := range []string{
		"", "0x", "0", digits[1:], digits + "0", "0x" + digits[2:], "0x0x" + digits,
		digits[:63] + "g", " " + digits[1:], digits[:62] + "é", strings.Repeat("f", 1<<20),
	} {
		got, err := forks.ParseHash(text)
		if !errors.Is(err, forks.ErrBadHash) || got != (forks.Hash{}) {
			t.Errorf("%.70q: %s, error %v", text, got, err)
		}
		if err != nil && len(err.Error()) > 200 {
			t.Errorf("error of %d bytes", len(err.Error()))
		}
	}
}

func TestHashAsText(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := forks.Hash(rapid.SliceOfN(rapid.Byte(), forks.HashSize, forks.HashSize).Draw(t, "hash"))
		if got, err := forks.ParseHash(h.String()); err != nil || got != h {
			t.Fatalf("%s read back as %s, %v", h, got, err)
		}
		if h.Short() != h.String()[:8] {
			t.Fatalf("short %s of %s", h.Short(), h)
		}
		text, err := json.Marshal(map[forks.Hash]forks.Hash{h: h})
		if want := fmt.Sprintf(`{"%x":"%x"}`, h[:], h[:]); err != nil || string(text) != want {
			t.Fatalf("JSON %s, %v, want %s", text, err, want)
		}
		var back map[forks.Hash]forks.Hash
		if err := json.Unmarshal(text, &back); err != nil || back[h] != h {
			t.Fatalf("JSON read back as %v, %v", back, err)
		}
	})
}

func TestHashKeepsItsValueWhereTheTextIsBad(t *testing.T) {
	h := hash("7")
	if err := h.UnmarshalText([]byte("zz")); !errors.Is(err, forks.ErrBadHash) || h != hash("7") {
		t.Errorf("%s, error %v", h, err)
	}
}

func TestSlotAsText(t *testing.T) {
	for slot, want := range map[forks.Slot]string{0: "0", 12: "12", forks.MaxSlot: "4294967295"} {
		if slot.String() != want {
			t.Errorf("slot %s, want %s", slot, want)
		}
	}
}

package merkle_test

import (
	"bytes"
	"testing"

	"accessor/forks"
	"accessor/state/merkle"

	"golang.org/x/crypto/blake2b"
)

func TestLeaf(t *testing.T) {
	k := key(bytes.Repeat([]byte{0xab}, merkle.KeySize))
	for _, test := range []struct {
		length int
		first  byte
		hashed bool
	}{
		{0, 0x80, false},
		{1, 0x81, false},
		{32, 0xa0, false},
		{33, 0xc0, true},
		{155_731, 0xc0, true},
	} {
		value := bytes.Repeat([]byte{0xcd}, test.length)
		tail := value
		if test.hashed {
			digest := blake2b.Sum256(value)
			tail = digest[:]
		}
		want := append([]byte{test.first}, k[:]...)
		want = append(want, tail...)
		want = append(want, make([]byte, merkle.NodeSize-len(want))...)

		got := merkle.Leaf(k, value)
		if !bytes.Equal(got[:], want) {
			t.Errorf("value of %d bytes: leaf\n%x, want\n%x", test.length, got, want)
		}
		if !got.IsLeaf() {
			t.Errorf("value of %d bytes: taken for a branch", test.length)
		}
	}
}

func TestBranchLosesTheLeftChildsFirstBit(t *testing.T) {
	var left, right forks.Hash
	for i := range left {
		left[i], right[i] = 0xff, 0xfe
	}
	got := merkle.Branch(left, right)
	want := append([]byte{0x7f}, left[1:]...)
	want = append(want, right[:]...)
	if !bytes.Equal(got[:], want) {
		t.Errorf("branch\n%x, want\n%x", got, want)
	}
	if got.IsLeaf() {
		t.Error("taken for a leaf")
	}
	if hash := got.Hash(); hash != blake2b.Sum256(want) {
		t.Errorf("hash %s", hash)
	}
}

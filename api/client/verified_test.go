package client_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"reflect"
	"testing"

	"accessor/api/client"
)

// running starts the program on the recorded chain's anchor, and gives a client of it.
func running(t *testing.T) *client.Client {
	t.Helper()
	r := newRunner(t, &scenario{}, readRecording(t, "../../clients/conformance/chain.jsonl"))
	t.Cleanup(func() {
		if r.server != nil {
			_ = r.endServer(os.Kill)
		}
	})
	if err := r.startServer(); err != nil {
		t.Fatalf("never ready: %v\n%s", err, r.said)
	}
	return r.clients["main"]
}

// TestVerified compares a view that proves everything with one that doesn't, over made-up
// ranges and keys; a tampered root refuses both what is there and what isn't.
func TestVerified(t *testing.T) {
	c := running(t)
	ctx := t.Context()
	anchor, err := c.At("anchor").About(ctx)
	if err != nil {
		t.Fatal(err)
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	keyOf := func(n int) []byte { // few different bytes, so that prefixes are shared
		key := make([]byte, n)
		for i := range key {
			key[i] = []byte{0, 1, 0x7f, 0xfe, 0xff}[rnd.IntN(5)]
		}
		return key
	}
	b := &client.Block{Hash: client.Hash{0xc1}, Parent: anchor.Block, Slot: 1}
	var keys [][]byte
	for i := range 300 {
		key := append(keyOf(3), make([]byte, 28)...)
		keys = append(keys, key, keyOf(31))
		b.Puts = append(b.Puts, client.Pair{Key: key, Value: make([]byte, i)})
	}
	if _, err := c.Import(ctx, b); err != nil {
		t.Fatal(err)
	}
	plain := c.At("head")
	about, err := plain.About(ctx)
	if err != nil {
		t.Fatal(err)
	}
	proved := c.At("head").WithVerification(about.Root)

	want, err := plain.GetMany(ctx, keys)
	got, err2 := proved.GetMany(ctx, keys)
	if err != nil || err2 != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("the values differ: %v, %v", err, err2)
	}
	pairs := 0
	for range 150 {
		var o client.ScanOptions
		for _, to := range []*[]byte{&o.Prefix, &o.From, &o.To} {
			if rnd.IntN(2) == 0 {
				*to = keyOf(rnd.IntN(4))
			}
		}
		if rnd.IntN(8) == 0 {
			o.To = keyOf(33)
		}
		if rnd.IntN(8) == 0 {
			o.From = append(keys[2*rnd.IntN(300)], 0) // after a key that may be there
		}
		o.KeysOnly, o.Limit, o.Page = rnd.IntN(4) == 0, rnd.IntN(3)*50, 0
		want := collect(t, plain, o)
		o.Page = []int{0, 1, 2_000, 10_000}[rnd.IntN(4)]
		pairs += len(want)
		if got := collect(t, proved, o); !reflect.DeepEqual(got, want) {
			t.Errorf("%+v: %d pairs, want %d", o, len(got), len(want))
		}
	}
	if pairs < 1000 {
		t.Errorf("only %d pairs in all: the ranges are too narrow to tell anything", pairs)
	}

	bad := c.At("head").WithVerification(client.Hash{1})
	for _, key := range [][]byte{keys[0], keyOf(31)} {
		if _, err := bad.Has(ctx, key); !errors.Is(err, client.ErrBadProof) {
			t.Errorf("another root: %v", err)
		}
	}
	for _, err := range bad.Scan(ctx, client.ScanOptions{}) {
		if !errors.Is(err, client.ErrBadProof) {
			t.Errorf("another root: %v", err)
		}
	}
}

// collect gives all pairs of a scan.
func collect(t *testing.T, v *client.View, o client.ScanOptions) []client.Pair {
	t.Helper()
	var out []client.Pair
	for p, err := range v.Scan(context.Background(), o) {
		if err != nil {
			t.Fatalf("%+v: %v", o, err)
		}
		if len(p.Value) == 0 && !o.KeysOnly {
			p.Value = nil // an empty value needn't be another slice
		}
		out = append(out, p)
	}
	return out
}

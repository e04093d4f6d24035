package client_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"accessor/api/client"
)

// address is where the examples find the accessor; TestExamples has one of its own.
var address = "unix:///run/accessor/accessor.sock"

func must(err error) {
	if err != nil {
		panic(err)
	}
}

// A block is imported, and read by key and by scan. The view stays at that block,
// whatever becomes the head.
func Example() {
	ctx := context.Background()
	c, err := client.New(address)
	must(err)
	defer c.Close()

	parent, err := c.At("head").About(ctx)
	must(err)
	key := append([]byte{0xff}, make([]byte, 30)...)
	_, err = c.Import(ctx, &client.Block{
		Hash: client.Hash{0xe1}, Parent: parent.Block, Slot: parent.Slot + 1,
		Puts: []client.Pair{{Key: key, Value: []byte("hello")}},
	})
	must(err)

	head := c.At("head")
	value, present, err := head.Get(ctx, key)
	must(err)
	fmt.Printf("%s %v\n", value, present)
	for pair, err := range head.Scan(ctx, client.ScanOptions{Prefix: []byte{0xff, 0, 0}}) {
		must(err)
		fmt.Printf("%x… = %q\n", pair.Key[:2], pair.Value)
	}
}

// Every error of the server has a kind.
func ExampleError() {
	c, err := client.New(address)
	must(err)
	defer c.Close()
	_, _, err = c.At("4000000000").GetItem(context.Background(), "slot")
	var e *client.Error
	if errors.Is(err, client.ErrUnknownBlock) && errors.As(err, &e) {
		fmt.Println(e.Status, e.Kind, e.Nearest != nil)
	}
}

// A view that believes a root and nothing else: what it gives is proved.
func ExampleView_WithVerification() {
	ctx := context.Background()
	c, err := client.New(address)
	must(err)
	defer c.Close()
	about, err := c.At("finalized").About(ctx)
	must(err)
	trusted := about.Root // from a header that the caller has checked, say

	v := c.At(about.Block.String()).WithVerification(trusted)
	_, present, err := v.GetItem(ctx, "slot")
	must(err)
	absent, err := v.Has(ctx, []byte(strings.Repeat("\xfd", 31)))
	must(err)
	fmt.Println(present, absent)

	_, _, err = c.At("finalized").WithVerification(client.Hash{1}).GetItem(ctx, "slot")
	fmt.Println(errors.Is(err, client.ErrBadProof))
}

// A draft is closed by who began it: what wasn't committed by then is dropped.
func ExampleClient_BeginDraft() {
	ctx := context.Background()
	c, err := client.New(address)
	must(err)
	defer c.Close()

	d, err := c.BeginDraft(ctx, client.DraftOptions{Parent: "finalized", Slot: 9})
	must(err)
	defer d.Close()
	key := make([]byte, 31)
	must(d.Put(ctx, key, []byte{1, 2}))
	value, _, err := d.Get(ctx, key)
	must(err)
	done, err := d.Commit(ctx, client.CommitOptions{Hash: client.Hash{0xd9}})
	must(err)
	fmt.Printf("%v %d %v\n", value, done.Slot, done.New)
}

// Events from the oldest that is kept. Without the break the loop goes on until its
// context ends, also over the server's restarts.
func ExampleClient_Events() {
	c, err := client.New(address)
	must(err)
	defer c.Close()
	oldest := uint64(1)
	for e, err := range c.Events(context.Background(), client.EventOptions{After: &oldest, Kinds: []string{"block"}}) {
		must(err)
		fmt.Println(e.Kind, *e.Slot)
		if *e.Slot > 0 {
			break
		}
	}
}

// A pinned block's directory can be read by RocksDB itself, on the same machine.
func ExampleClient_Pin() {
	ctx := context.Background()
	c, err := client.New(address)
	must(err)
	defer c.Close()
	pin, err := c.Pin(ctx, client.PinOptions{Block: "finalized", TTL: 60e9})
	must(err)
	defer pin.Close()
	_, err = os.Stat(filepath.Join(pin.Directory(), "CURRENT"))
	fmt.Println(err)
}

// TestExamples runs the examples at an accessor of its own.
func TestExamples(t *testing.T) {
	rec := readRecording(t, "../../clients/conformance/chain.jsonl")
	r := newRunner(t, &scenario{}, rec)
	if err := r.startServer(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.endServer(os.Interrupt); err != nil {
			t.Errorf("the server ended with %v:\n%s", err, r.said)
		}
	})
	was := address
	address = filepath.Join(r.dir, "main.sock")
	defer func() { address = was }()
	for _, tt := range []struct {
		name string
		run  func()
		want string
	}{
		{"Example", Example, "hello true\nff00… = \"hello\"\n"},
		{"Error", ExampleError, "404 unknown-block true\n"},
		{"WithVerification", ExampleView_WithVerification, "true false\ntrue\n"},
		{"BeginDraft", ExampleClient_BeginDraft, "[1 2] 9 true\n"},
		{"Events", ExampleClient_Events, "block 0\nblock 1\n"},
		{"Pin", ExampleClient_Pin, "<nil>\n"},
	} {
		if got := printed(t, tt.run); got != tt.want {
			t.Errorf("%s prints\n%s, want\n%s", tt.name, got, tt.want)
		}
	}
}

// printed gives what a function prints.
func printed(t *testing.T, f func()) string {
	t.Helper()
	in, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout := os.Stdout
	os.Stdout = out
	defer func() { os.Stdout = stdout }()
	f()
	os.Stdout = stdout
	out.Close()
	text, err := io.ReadAll(in)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

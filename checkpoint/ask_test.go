package checkpoint_test

import (
	"errors"
	"fmt"
	"testing"

	"accessor/checkpoint"
)

var errNo = errors.New("not now")

// asked remembers what it was asked.
type asked struct {
	answer error
	blocks []int
	did    []bool
}

func (a *asked) ask(blocks int) (func(bool), error) {
	a.blocks = append(a.blocks, blocks)
	if a.answer != nil {
		return nil, a.answer
	}
	return func(did bool) { a.did = append(a.did, did) }, nil
}

// manyKeys are more than are read one by one.
func manyKeys() (keys [][]byte) {
	for i := range 300 {
		keys = append(keys, fmt.Appendf(nil, "key %03d", i))
	}
	return keys
}

// TestAsking: what needs more than single keys of an archived block asks before, by
// the view that was told to, and does without where the answer is no.
func TestAsking(t *testing.T) {
	h := newArchive(t)
	walks := map[string]func(v *checkpoint.View) error{
		"scan": func(v *checkpoint.View) error {
			it := v.Scan(nil, nil)
			it.Next()
			return it.Close()
		},
		"scan back": func(v *checkpoint.View) error {
			it := v.ScanBack(nil, nil)
			it.Next()
			return it.Close()
		},
		"many keys": func(v *checkpoint.View) error {
			_, err := v.GetMany(manyKeys())
			return err
		},
		"records": func(v *checkpoint.View) error {
			return v.Trie().Scan(nil, nil, func(_, _ []byte) bool { return true })
		},
	}
	for name, walk := range walks {
		t.Run(name, func(t *testing.T) {
			h.reopen()
			opened, err := h.store.OpenView(h.blocks["n10"].Hash)
			if err != nil {
				t.Fatal(err)
			}
			defer opened.Close()
			a := &asked{answer: errNo}
			v := opened.Asking(a.ask)
			if _, _, err := v.Get(nil, []byte("kn10")); err != nil || len(a.blocks) > 0 {
				t.Fatalf("a single key: %v, asked %v", err, a.blocks)
			}
			if _, err := v.GetMany(manyKeys()[:3]); err != nil || len(a.blocks) > 0 {
				t.Fatalf("three keys: %v, asked %v", err, a.blocks)
			}
			before := h.store.Stats().Clones.Load()
			if err := walk(v); !errors.Is(err, errNo) {
				t.Fatalf("%v, want what was answered", err)
			}
			if n := h.store.Stats().Clones.Load(); n != before {
				t.Errorf("%d databases were made nevertheless", n-before)
			}
			const want = 3 // the nearest image is at n07
			if len(a.blocks) != 1 || a.blocks[0] != want {
				t.Errorf("asked for %v blocks, want %d", a.blocks, want)
			}
			a.answer = nil
			for range 2 {
				if err := walk(v); err != nil {
					t.Errorf("once it is allowed: %v", err)
				}
			}
			if len(a.blocks) != 2 || len(a.did) != 1 || !a.did[0] {
				t.Errorf("asked %v, done %v: want twice and once", a.blocks, a.did)
			}
		})
	}
}

// TestAskingIsTheReadersOwn: other readers of the block don't ask, nor does anybody where
// there is a checkpoint.
func TestAskingIsTheReadersOwn(t *testing.T) {
	h := newArchive(t)
	for _, name := range []string{"n10", "n20"} {
		first, err := h.store.OpenView(h.blocks[name].Hash)
		if err != nil {
			t.Fatal(err)
		}
		a := &asked{answer: errNo}
		asking := first.Asking(a.ask)
		if first.MayAsk() != (name == "n10") {
			t.Errorf("%s may ask: %v", name, first.MayAsk())
		}
		other, err := h.store.OpenView(h.blocks[name].Hash)
		if err != nil {
			t.Fatal(err)
		}
		it := other.Scan(nil, nil)
		if err := it.Close(); err != nil || len(a.blocks) > 0 {
			t.Errorf("%s: the other view: %v, asked %v", name, err, a.blocks)
		}
		it = asking.Scan(nil, nil)
		if err := it.Close(); err != nil || len(a.blocks) > 0 {
			t.Errorf("%s: with a database there: %v, asked %v", name, err, a.blocks)
		}
		first.Close()
		other.Close()
	}
}

// TestAskingAnotherDidIt: where a database is made while one is asked, the one who
// asked hears that it wasn't for him.
func TestAskingAnotherDidIt(t *testing.T) {
	h := newArchive(t)
	v, err := h.store.OpenView(h.blocks["n10"].Hash)
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	var did []bool
	asking := v.Asking(func(int) (func(bool), error) {
		if err := v.Detach(); err != nil {
			t.Error(err)
		}
		return func(d bool) { did = append(did, d) }, nil
	})
	it := asking.Scan(nil, nil)
	if err := it.Close(); err != nil || len(did) != 1 || did[0] {
		t.Errorf("%v, done %v: want false once", err, did)
	}
}

package state_test

import (
	"context"
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"accessor/forks"
	"accessor/state"
)

// forest is a tree with a canonical and a lost branch and two siblings at the
// top; b5 is finalized, and slots are in the names:
//
//	root10 ─ b20 ─ b30 ─────── b50* ─ b60 ─ b70a
//	          │                        │ └── b70b
//	          │                        └──── z4294967295
//	          └── l30 ─ l40 ─ l55, l50
func forest(t *testing.T, e engineCase) *chain {
	c := newChainFrom(t, e, noImages, "root10", 10)
	for _, b := range []struct {
		name, parent string
		slot         forks.Slot
	}{
		{"b20", "root10", 20}, {"b30", "b20", 30}, {"b50", "b30", 50}, {"b60", "b50", 60}, {"b70a", "b60", 70}, {"b70b", "b60", 70},
		{"l30", "b20", 30}, {"l40", "l30", 40}, {"l55", "l40", 55}, {"l50", "l40", 50}, {"z4294967295", "b50", forks.MaxSlot},
		{"\x12\x34\x56\x78", "b20", 21},             // a prefix without a letter
		{"\xab\xcd\xef\x01\x02same", "b20", 22},     // two with 8 equal digits
		{"\xab\xcd\xef\x01\x03other", "b20", 23},    //
		{strings.Repeat("\x55", 32), "b20", 24},     // a whole hash without a letter
		{"\x00\x00\x00\x30\xffcrowd", "root10", 12}, // looks like slot 30 when 0x is missing
	} {
		block := c.block(b.name, b.parent)
		block.Slot = b.slot
		c.accept(block)
	}
	if _, err := c.Finalize(context.Background(), hash("b50")); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestResolve(t *testing.T) {
	c := forest(t, engines[0])
	hexOf := func(name string) string { return hash(name).String() }
	prefix := func(name string, digits int) string { return hexOf(name)[:digits] }
	for _, test := range []struct {
		text string
		want string // a block's name
		err  error
		near string // of a NoBlockError, the nearest; of an AmbiguousError, the candidates
	}{
		{text: "anchor", want: "root10"},
		{text: "finalized", want: "b50"},
		{text: "head", want: "b70a"}, // of two with as many ancestors the smaller hash
		{text: "genesis", err: state.ErrUnknownBlock},

		{text: "10", want: "root10"},
		{text: "0000000010", want: "root10"},
		{text: "20", want: "b20"},
		{text: "30", want: "b30"},                             // canonical; l30 has lost
		{text: "50", want: "b50"},                             // not its lost sibling
		{text: "40", err: state.ErrUnknownBlock, near: "b30"}, // l40 has lost
		{text: "49", err: state.ErrUnknownBlock, near: "b30"},
		{text: "9", err: state.ErrUnknownBlock},
		{text: "0", err: state.ErrUnknownBlock},
		{text: "55", want: "l55"}, // above finalized: whatever is held there
		{text: "60", want: "b60"},
		{text: "70", err: state.ErrAmbiguous, near: "b70a b70b"},
		{text: "65", err: state.ErrUnknownBlock, near: "b60"},
		{text: "1000", err: state.ErrUnknownBlock, near: "b70a"},
		{text: "4294967295", want: "z4294967295"},
		{text: "4294967294", err: state.ErrUnknownBlock, near: "b70a"},
		{text: "4294967296", err: state.ErrBadName},
		{text: strings.Repeat("9", 64), err: state.ErrBadName},

		{text: hexOf("l40"), want: "l40"},
		{text: "0x" + hexOf("l30"), want: "l30"},
		{text: "0X" + strings.ToUpper(hexOf("l30")), want: "l30"},
		{text: prefix("z4294967295", 9), want: "z4294967295"}, // an odd number of digits
		{text: "0x" + prefix("root10", 8), want: "root10"},
		{text: strings.ToUpper(prefix("root10", 10)), want: "root10"},
		{text: "0x12345678", want: "\x12\x34\x56\x78"},
		{text: "12345678", err: state.ErrUnknownBlock, near: "b70a"}, // digits only: a slot
		{text: "0x" + strings.Repeat("5", 64), want: strings.Repeat("\x55", 32)},
		{text: "0x" + strings.Repeat("5", 20), want: strings.Repeat("\x55", 32)},
		{text: strings.Repeat("5", 64), err: state.ErrBadName},
		{text: "00000030", want: "b30"}, // a slot, in spite of the hash that starts so
		{text: "0x00000030", want: "\x00\x00\x00\x30\xffcrowd"},
		{text: "abcdef01", err: state.ErrAmbiguous, near: "\xab\xcd\xef\x01\x02same \xab\xcd\xef\x01\x03other"},
		{text: "abcdef0102", want: "\xab\xcd\xef\x01\x02same"},
		{text: "abcdef01f", err: state.ErrUnknownBlock},
		{text: "abcdef0", err: state.ErrBadName}, // 7 digits
		{text: "0xabcdef", err: state.ErrBadName},
		{text: hexOf("nobody"), err: state.ErrUnknownBlock},
		{text: hexOf("l30")[:63], want: "l30"},
		{text: hexOf("l30") + "0", err: state.ErrBadName},

		{text: "", err: state.ErrBadName},
		{text: "0x", err: state.ErrBadName},
		{text: "0x0xabcdef01", err: state.ErrBadName},
		{text: "0x0Xabcdef01", err: state.ErrBadName},
		{text: "HEAD", err: state.ErrBadName},
		{text: " 30", err: state.ErrBadName},
		{text: "+30", err: state.ErrBadName},
		{text: "-30", err: state.ErrBadName},
		{text: "0x30", err: state.ErrBadName},
		{text: "3_0", err: state.ErrBadName},
		{text: "٣٠", err: state.ErrBadName},
		{text: "abcdefgh", err: state.ErrBadName},
		{text: strings.Repeat("a", 1<<20), err: state.ErrBadName},
		{text: strings.Repeat("0", 1<<20), err: state.ErrBadName},
	} {
		got, err := c.Resolve(test.text)
		label := test.text[:min(len(test.text), 80)]
		if !errors.Is(err, test.err) || (err == nil) != (test.err == nil) {
			t.Errorf("resolve %q: %v, want %v", label, err, test.err)
			continue
		}
		if err == nil {
			if want := c.node(test.want); got.Hash != hash(test.want) || got.Root != want.root || got.Slot != want.block.Slot {
				t.Errorf("resolve %q: %q, want %q", label, nameOf(got.Hash), test.want)
			}
			continue
		}
		if len(err.Error()) > 1000 {
			t.Errorf("resolve %q: an error of %d bytes", label, len(err.Error()))
		}
		if near := nearOf(err); near != test.near {
			t.Errorf("resolve %q: %v: names %q, want %q", label, err, near, test.near)
		}
	}
}

// nearOf gives the blocks that an error of Resolve offers, and checks that its
// text names them.
func nearOf(err error) string {
	var no *state.NoBlockError
	var many *state.AmbiguousError
	var offered []forks.Block
	switch {
	case errors.As(err, &no) && no.Nearest != nil:
		offered = []forks.Block{*no.Nearest}
	case errors.As(err, &many):
		offered = many.Candidates
	}
	for _, b := range offered {
		if !strings.Contains(err.Error(), hex.EncodeToString(b.Hash[:])) {
			return "text without " + nameOf(b.Hash)
		}
	}
	return names(offered)
}

func TestResolveGenesis(t *testing.T) {
	c := newChain(t, engines[0], noImages)
	c.grow("alfred", "b1")
	for text, want := range map[string]string{"genesis": "alfred", "anchor": "alfred", "finalized": "alfred", "0": "alfred", "head": "b1", "1": "b1"} {
		if got, err := c.Resolve(text); err != nil || nameOf(got.Hash) != want {
			t.Errorf("resolve %q: %q, %v, want %q", text, nameOf(got.Hash), err, want)
		}
	}
}

// wantLabels checks head and finalized, now and after a new start.
func (c *chain) wantLabels(head, finalized string) {
	c.t.Helper()
	for _, when := range []string{"", " after a new start"} {
		got := nameOf(c.Head().Hash)
		f, err := c.Resolve("finalized")
		if got != head || err != nil || nameOf(f.Hash) != finalized {
			c.t.Fatalf("head %s, finalized %s%s; want %s, %s", got, nameOf(f.Hash), when, head, finalized)
		}
		if when == "" {
			c.reopen()
		}
	}
}

func (c *chain) finalize(name, lost string) {
	c.t.Helper()
	got, err := c.Finalize(context.Background(), hash(name))
	if err != nil {
		c.t.Fatal(err)
	}
	if names(got) != lost {
		c.t.Errorf("finalize %s: lost %q, want %q", name, names(got), lost)
	}
}

func (c *chain) setHead(name string) {
	c.t.Helper()
	if err := c.SetHead(hash(name)); err != nil {
		c.t.Fatal(err)
	}
}

func TestHeadAndFinalized(t *testing.T) {
	overEngines(t, func(t *testing.T, e engineCase) {
		c := newChain(t, e, noImages)
		ctx := context.Background()
		c.wantLabels("alfred", "alfred")
		c.grow("alfred", "a1", "a2", "a3")
		c.grow("a1", "b2", "b3", "b4")
		c.grow("alfred", "c1")
		c.wantLabels("b4", "alfred") // the most ancestors
		c.setHead("a2")
		c.grow("a3", "a4", "a5")
		c.wantLabels("a2", "alfred") // the node's word holds
		for _, name := range []string{"nobody"} {
			if err := c.SetHead(hash(name)); !errors.Is(err, state.ErrUnknownBlock) {
				t.Errorf("head %s: %v", name, err)
			}
			if _, err := c.Finalize(ctx, hash(name)); !errors.Is(err, state.ErrUnknownBlock) {
				t.Errorf("finalize %s: %v", name, err)
			}
		}

		c.finalize("a1", "c1")
		c.wantLabels("a2", "a1")
		c.finalize("a1", "") // again
		for _, name := range []string{"alfred", "c1"} {
			if _, err := c.Finalize(ctx, hash(name)); !errors.Is(err, state.ErrNotDescendant) {
				t.Errorf("finalize %s: %v", name, err)
			}
			if err := c.SetHead(hash(name)); !errors.Is(err, state.ErrNotDescendant) {
				t.Errorf("head %s: %v", name, err)
			}
		}
		c.wantLabels("a2", "a1")

		// The head's branch loses: the best leaf under finalized takes over, and
		// grows.
		c.finalize("b2", "a2 a3 a4 a5")
		c.wantLabels("b4", "b2")
		c.grow("b4", "b5")
		c.wantLabels("b5", "b2")
		c.setHead("b2")
		c.wantLabels("b2", "b2")
		c.finalize("b4", "")
		c.wantLabels("b5", "b4")

		// Lost blocks stay readable and may have children.
		c.grow("a5", "a6")
		c.grow("c1", "c2")
		c.wantLabels("b5", "b4")
		c.ReadTree(func(t2 *forks.Tree) {
			for name, want := range map[string]bool{"c2": true, "a6": true, "b5": false, "b2": false} {
				if t2.Lost(hash(name)) != want {
					t.Errorf("%s has lost: %v", name, !want)
				}
			}
		})
		c.wantStates()
	})
}

// Of two that finalize different branches at once one wins, and the store
// remembers that one.
func TestFinalizeRace(t *testing.T) {
	for range 20 {
		c := newChain(t, engines[0], noImages)
		c.grow("alfred", "a1")
		c.grow("alfred", "b1")
		errs := make(chan error, 2)
		for _, name := range []string{"a1", "b1"} {
			go func() {
				_, err := c.Finalize(context.Background(), hash(name))
				errs <- err
			}()
		}
		first, second := <-errs, <-errs
		if (first == nil) == (second == nil) {
			t.Fatalf("both came to %v, %v", first, second)
		}
		won, err := c.Resolve("finalized")
		if err != nil {
			t.Fatal(err)
		}
		c.wantLabels(nameOf(won.Hash), nameOf(won.Hash))
	}
}

// diff formats differences as the model sees them.
type difference struct{ Key, A, B string }

func diffOf(a, b contents) []difference {
	out := []difference{}
	both := make(contents)
	for _, m := range []contents{a, b} {
		for k := range m {
			both[k] = ""
		}
	}
	show := func(m contents, k string) string {
		v, ok := m[k]
		if !ok {
			return "absent"
		}
		return "=" + v
	}
	for p := range both.pairs() {
		k := string(p.Key)
		if x, y := show(a, k), show(b, k); x != y {
			out = append(out, difference{k, x, y})
		}
	}
	return out
}

// wantDiff wants Diff to say of two blocks what the model says.
func (c *chain) wantDiff(a, b, common string) {
	c.t.Helper()
	list, anc, err := c.Diff(context.Background(), hash(a), hash(b))
	if err != nil {
		c.t.Fatal(err)
	}
	if common != "" && nameOf(anc.Hash) != common {
		c.t.Errorf("common ancestor of %s and %s: %s, want %s", a, b, nameOf(anc.Hash), common)
	}
	show := func(v []byte) string {
		if v == nil {
			return "absent"
		}
		return "=" + string(v)
	}
	got := []difference{}
	for _, d := range list {
		got = append(got, difference{string(d.Key), show(d.A), show(d.B)})
	}
	if diff := cmp.Diff(diffOf(c.node(a).state, c.node(b).state), got); diff != "" {
		c.t.Errorf("diff of %s and %s (-want +got):\n%s", a, b, diff)
	}
}

func TestDiff(t *testing.T) {
	overEngines(t, func(t *testing.T, e engineCase) {
		c := newChain(t, e, noImages)
		c.grow("alfred", "a1", "a2", "a3")
		c.grow("a1", "b2", "b3")
		empty := c.block("empty", "a3")
		empty.Puts = append(empty.Puts, put(key("anchor 7"), 0), put(key("by a1"), 0))
		empty.Dels = nil
		c.accept(c.declare(empty, "a3"))
		c.wantDiff("a1", "a3", "a1")
		c.wantDiff("a3", "a1", "a1")
		c.wantDiff("a3", "b3", "a1")
		c.wantDiff("b3", "empty", "a1") // empty values are not absent ones
		c.wantDiff("alfred", "empty", "alfred")
		c.wantDiff("a2", "a2", "a2")
		c.spoil(prune, "a3", "b3")
		c.spoil(remove, "a1")
		c.wantDiff("a3", "b3", "a1")
		for _, pair := range [][2]string{{"a1", "nobody"}, {"nobody", "a1"}} {
			if _, _, err := c.Diff(context.Background(), hash(pair[0]), hash(pair[1])); !errors.Is(err, state.ErrUnknownBlock) {
				t.Errorf("diff of %v: %v", pair, err)
			}
		}
	})
}

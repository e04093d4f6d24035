package state_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"testing"

	"golang.org/x/crypto/blake2b"

	"accessor/checkpoint"
	"accessor/forks"
	"accessor/jam"
	"accessor/state"
)

var tight = checkpoint.Options{
	RunLength: 1000, ImageEvery: 1000,
	Limits: checkpoint.Limits{ValueSize: 1000, WriteSetSize: 4000},
}

// other is a hash or root that nothing has.
var other = hash("no such thing")

func put(k string, value int) state.Pair {
	return state.Pair{Key: []byte(k), Value: make([]byte, value)}
}

// Every reason to refuse a block: an error of its kind with the details, and
// nothing written. The tree is alfred → b1 → b2, and the block x goes under b2.
func TestRefusals(t *testing.T) {
	long := strings.Repeat("k", 1<<20)
	for _, test := range []struct {
		name  string
		spoil func(b *state.Block)
		want  error
		words []string
	}{
		{"unknown parent", func(b *state.Block) { b.Parent = other }, state.ErrUnknownParent, []string{other.String(), hash("x").String(), "slot 3"}},
		{"its own parent", func(b *state.Block) { b.Parent = b.Hash }, state.ErrUnknownParent, nil},
		{"slot equal to the parent's", func(b *state.Block) { b.Slot = 2 }, state.ErrSlotOrder, []string{hash("b2").String(), "slot 2", "has 2"}},
		{"slot below the parent's", func(b *state.Block) { b.Slot = 1 }, state.ErrSlotOrder, []string{"slot 1", "has 2"}},
		{"slot 0", func(b *state.Block) { b.Slot = 0 }, state.ErrSlotOrder, nil},
		{"other prior root", func(b *state.Block) { b.PriorRoot = &other }, state.ErrPriorRoot, []string{other.String()}},
		{"other root", func(b *state.Block) { b.PostRoot = &other }, state.ErrWrongRoot, []string{other.String(), "slot 3"}},
		{"a put too many", func(b *state.Block) { b.Puts = append(b.Puts, put(key("more"), 1)) }, state.ErrWrongRoot, nil},
		{"a put missing", func(b *state.Block) { b.Puts = b.Puts[1:] }, state.ErrWrongRoot, nil},
		{"key of 30 bytes", func(b *state.Block) { b.Puts[0].Key = b.Puts[0].Key[:30] }, state.ErrInvalid, []string{"30 bytes", "31"}},
		{"key of 32 bytes", func(b *state.Block) { b.Dels[0] = append(b.Dels[0], 1) }, state.ErrInvalid, []string{"32 bytes"}},
		{"empty key", func(b *state.Block) { b.Puts[0].Key = nil }, state.ErrInvalid, []string{"0 bytes"}},
		{"endless key", func(b *state.Block) { b.Puts[0].Key = []byte(long) }, state.ErrInvalid, []string{"1048576 bytes"}},
		{"value too long", func(b *state.Block) { b.Puts[0].Value = make([]byte, 1001) }, checkpoint.ErrLimit, []string{"1001"}},
		{"write set too large", func(b *state.Block) {
			for i := range 4 {
				b.Puts = append(b.Puts, put(key(fmt.Sprint(i)), 1000))
			}
		}, checkpoint.ErrLimit, []string{"4000"}},
		{"key put and deleted", func(b *state.Block) { b.Dels = append(b.Dels, b.Puts[0].Key) }, checkpoint.ErrWriteSet, nil},
		{"header that doesn't hash to the block", func(b *state.Block) { b.Header = header(hash("b2"), forks.Hash{}, 3) }, state.ErrInvalid, []string{"hashes to"}},
		{"empty header", func(b *state.Block) { b.Header = []byte{} }, state.ErrInvalid, nil},
		{"header cut short", withHeader(func(h []byte) []byte { return h[:99] }), state.ErrInvalid, nil},
		{"header with another parent", withHeader(func(h []byte) []byte { h[0] ^= 1; return h }), state.ErrInvalid, []string{"parent"}},
		{"header with another prior root", withHeader(func(h []byte) []byte { h[32] ^= 1; return h }), state.ErrInvalid, []string{"prior root"}},
		{"header with another prior root, and none beside it", func(b *state.Block) {
			withHeader(func(h []byte) []byte { h[32] ^= 1; return h })(b)
			b.PriorRoot = nil
		}, state.ErrPriorRoot, nil},
		{"header with another slot", withHeader(func(h []byte) []byte { h[96] ^= 1; return h }), state.ErrInvalid, []string{"slot 2"}},
		{"header too long", withHeader(func(h []byte) []byte { return append(h, make([]byte, checkpoint.MaxHeader)...) }), state.ErrInvalid, []string{"at most"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := newChain(t, engines[0], tight)
			c.grow("alfred", "b1", "b2")
			bad := c.block("x", "b2")
			test.spoil(bad)
			err := c.refuse(bad, test.want, test.words...)
			if errors.Is(err, checkpoint.ErrLimit) || errors.Is(err, checkpoint.ErrWriteSet) {
				if !errors.Is(err, state.ErrInvalid) {
					t.Errorf("error %v is not ErrInvalid", err)
				}
			}
			if len(err.Error()) > 2000 {
				t.Errorf("error text of %d bytes", len(err.Error()))
			}
			c.wantCheck(bad, err)
			c.grow("b2", "x", "y") // as they should be
			c.wantStates()
			c.reopen()
			c.wantStates()
		})
	}
}

// wantCheck wants Check to refuse what a store can refuse without the write set,
// with the same kind of error.
func (c *chain) wantCheck(b *state.Block, refusal error) {
	c.t.Helper()
	err := c.Check(b)
	for _, kind := range []error{state.ErrUnknownParent, state.ErrSlotOrder, state.ErrPriorRoot} {
		if errors.Is(refusal, kind) != errors.Is(err, kind) {
			c.t.Errorf("check: %v, import: %v", err, refusal)
		}
	}
	if errors.Is(refusal, state.ErrWrongRoot) && err != nil {
		c.t.Errorf("check: %v", err)
	}
}

// header is an encoded JAM header without marks.
func header(parent, prior forks.Hash, slot forks.Slot) []byte {
	h := append(parent[:], prior[:]...)
	h = append(h, make([]byte, 32)...)
	h = binary.LittleEndian.AppendUint32(h, uint32(slot))
	return append(h, make([]byte, 1+1+2+96+1+96)...)
}

// withHeader gives the block the header that belongs to it, spoilt, and that
// header's hash.
func withHeader(spoil func(h []byte) []byte) func(b *state.Block) {
	return func(b *state.Block) {
		b.Header = spoil(header(b.Parent, *b.PriorRoot, b.Slot))
		b.Hash = blake2b.Sum256(b.Header)
	}
}

func TestHeaderIsKept(t *testing.T) {
	overEngines(t, func(t *testing.T, e engineCase) {
		c := newChain(t, e, noImages)
		c.grow("alfred", "b1")
		b := c.block("x", "b1")
		withHeader(func(h []byte) []byte { return h })(b)
		want := bytes.Clone(b.Header)
		if jam.HeaderHash(b.Header) != b.Hash {
			t.Fatal("the header's hash is another")
		}
		if _, err := c.Import(context.Background(), b); err != nil {
			t.Fatal(err)
		}
		clear(b.Header) // the caller's buffer is the caller's again
		for range 2 {
			rec, err := c.Store().Get(b.Hash)
			if err != nil || !bytes.Equal(rec.Header, want) {
				t.Fatalf("header kept as %x, %v", rec.Header, err)
			}
			c.reopen()
		}
	})
}

func TestRootErrorHasBothRoots(t *testing.T) {
	c := newChain(t, engines[0], noImages)
	b := c.block("x", "alfred")
	right, prior := *b.PostRoot, *b.PriorRoot
	for _, test := range []struct {
		kind   error
		spoil  func()
		actual forks.Hash
	}{
		{state.ErrWrongRoot, func() { b.PostRoot = &other }, right},
		{state.ErrPriorRoot, func() { b.PriorRoot = &other }, prior},
	} {
		test.spoil()
		var e *state.RootError
		if err := c.refuse(b, test.kind); !errors.As(err, &e) {
			t.Fatalf("error of type %T", err)
		}
		if e.Declared != other || e.Actual != test.actual || e.Block != b.Hash || e.Slot != b.Slot {
			t.Errorf("error %+v", e)
		}
	}
}

// The same hash with other content is a conflict, whatever differs; with the
// same it is held.
func TestConflicts(t *testing.T) {
	unrooted := func(b *state.Block) { b.PriorRoot, b.PostRoot = nil, nil }
	for _, test := range []struct {
		name  string
		block string
		alter func(b *state.Block)
		words []string // nil: held
	}{
		{"the same", "b2", func(*state.Block) {}, nil},
		{"without roots", "b2", unrooted, nil},
		{"in another order", "b2", func(b *state.Block) {
			unrooted(b)
			b.Puts[0], b.Puts[1] = b.Puts[1], b.Puts[0]
			b.Dels = append(b.Dels, b.Dels[0])
		}, nil},
		{"other writes to the same root", "b2", func(b *state.Block) {
			b.Dels = append(b.Dels, []byte(key("never written")))
		}, nil},
		{"other slot", "b2", func(b *state.Block) { b.Slot++ }, []string{"slot is 2, given 3"}},
		{"other parent", "b2", func(b *state.Block) { b.Parent = hash("alfred") }, []string{"parent"}},
		{"unknown parent", "b2", func(b *state.Block) { b.Parent = other }, []string{"parent", other.String()}},
		{"other prior root", "b2", func(b *state.Block) { b.PriorRoot = &other }, []string{"prior root"}},
		{"other root", "b2", func(b *state.Block) { b.PostRoot = &other }, []string{"root", other.String()}},
		{"value differs", "b2", func(b *state.Block) { unrooted(b); b.Puts[0].Value = []byte("else") }, []string{"write set"}},
		{"a write more", "b2", func(b *state.Block) { unrooted(b); b.Puts = append(b.Puts, put(key("more"), 1)) }, []string{"write set"}},
		{"a write less", "b2", func(b *state.Block) { unrooted(b); b.Puts = b.Puts[:1] }, []string{"write set"}},
		{"no writes", "b2", func(b *state.Block) { unrooted(b); b.Puts, b.Dels = nil, nil }, []string{"write set"}},
		{"delete for a put", "b2", func(b *state.Block) {
			unrooted(b)
			b.Dels = append(b.Dels, b.Puts[0].Key)
			b.Puts = b.Puts[1:]
		}, []string{"write set"}},
		{"the anchor", "alfred", func(b *state.Block) { b.Parent = hash("b1") }, []string{"the anchor"}},
		{"the anchor, other slot", "alfred", func(b *state.Block) { b.Parent, b.Slot = hash("b1"), 7 }, []string{"slot"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := newChain(t, engines[0], noImages)
			c.grow("alfred", "b1", "b2", "b3")
			b := *c.node(test.block).block
			b.Puts = append([]state.Pair(nil), b.Puts...)
			b.Dels = append([][]byte(nil), b.Dels...)
			test.alter(&b)
			for range 2 { // the second time after a new start
				if test.words == nil {
					c.wantHeld(&b)
				} else {
					c.refuse(&b, state.ErrConflict, append(test.words, b.Hash.String())...)
				}
				c.reopen()
			}
			c.grow("b3", "b4")
			c.wantStates()
		})
	}
}

// Write sets that say things twice, or what is so already.
func TestRedundantWriteSets(t *testing.T) {
	overEngines(t, func(t *testing.T, e engineCase) {
		c := newChain(t, e, noImages)
		c.grow("alfred", "b1")
		at := func(name, parent string, puts []state.Pair, dels ...string) *state.Block {
			b := &state.Block{Hash: hash(name), Parent: hash(parent), Slot: c.node(parent).block.Slot + 1, Puts: puts}
			for _, k := range dels {
				b.Dels = append(b.Dels, []byte(k))
			}
			return c.declare(b, parent)
		}
		pair := func(k, v string) state.Pair { return state.Pair{Key: []byte(k), Value: []byte(v)} }
		same := c.node("b1").root

		c.accept(at("nothing", "b1", nil))
		c.accept(at("equal", "nothing", []state.Pair{pair(key("last writer"), "b1")}))
		c.accept(at("absent", "equal", nil, key("never written"), key("never either")))
		for _, name := range []string{"nothing", "equal", "absent"} {
			if c.node(name).root != same {
				t.Errorf("root at %s has changed", name)
			}
		}
		c.accept(at("twice", "absent", []state.Pair{
			pair(key("k"), "first"), pair(key("l"), ""), pair(key("k"), "second"), pair(key("k"), "last"),
		}, key("by b1"), key("by b1")))
		if got := c.node("twice").state[key("k")]; got != "last" {
			t.Fatalf("the model is wrong: %q", got)
		}
		c.accept(at("all gone", "twice", nil, mapKeys(c.node("twice").state)...))
		if root := c.node("all gone").root; root != (forks.Hash{}) {
			t.Errorf("root of the empty state: %s", root)
		}
		c.accept(at("back", "all gone", []state.Pair{pair(key("k"), "again")}))
		c.wantStates()
		c.reopen()
		c.wantStates()
	})
}

func mapKeys(m contents) (keys []string) {
	for k := range m {
		keys = append(keys, k)
	}
	return keys
}

// Blocks at the highest slot, side by side; nothing comes after them.
func TestHighestSlot(t *testing.T) {
	overEngines(t, func(t *testing.T, e engineCase) {
		c := newChain(t, e, noImages)
		c.grow("alfred", "b1")
		for _, name := range []string{"z1", "z2", "z3"} {
			b := c.block(name, "b1")
			b.Slot = forks.MaxSlot
			c.wantWalk(c.accept(b), "")
		}
		late := c.block("late", "z1")
		late.Slot = forks.MaxSlot
		c.refuse(late, state.ErrSlotOrder, "4294967295")
		late.Slot = 0 // as MaxSlot + 1 comes out
		c.refuse(late, state.ErrSlotOrder)
		c.grow("b1", "b2", "b3")
		c.wantStates()
		c.reopen()
		c.wantStates()
		if got := nameOf(c.Head().Hash); got != "b3" {
			t.Errorf("head is %s: the highest slot must not win", got)
		}
	})
}

// The nth file call of an import fails, before or after it took effect, for all
// n: then the block is held or it isn't, and goes in the next time.
func TestImportWithFailingFileCalls(t *testing.T) {
	fault := errors.New("fault")
	for _, applied := range []bool{false, true} {
		c := newChain(t, engines[0], noImages)
		c.grow("alfred", "b0")
		last, refused, unsealed := "b0", 0, 0
		for n := 1; ; n++ {
			b := c.block(fmt.Sprintf("b%d", n), last)
			calls, failed := 0, false
			c.hook.set(func(call checkpoint.FileCall) error {
				// The clean-up that runs beside it is another's.
				if call.Applied != applied || call.Op == "remove" {
					return nil
				}
				if calls++; calls == n {
					failed = true
					return fault
				}
				return nil
			})
			res, err := c.Import(context.Background(), b)
			c.hook.set(nil)
			switch {
			case err != nil:
				refused++
				if !errors.Is(err, fault) {
					t.Fatalf("call %d: %v", n, err)
				}
				if _, err := c.Block(b.Hash); !errors.Is(err, state.ErrUnknownBlock) {
					t.Fatalf("call %d: failed and is held", n)
				}
				c.accept(b)
			case res.Unsealed != nil:
				unsealed++
				if !errors.Is(res.Unsealed, fault) {
					t.Fatalf("call %d: %v", n, res.Unsealed)
				}
				c.take(b)
				c.wantState(nameOf(b.Hash)) // by walk-back
			default:
				c.wantNew(res, b)
			}
			last = nameOf(b.Hash)
			if !failed {
				break
			}
		}
		if refused < 3 || unsealed < 3 {
			t.Errorf("applied %v: %d imports refused, %d left unsealed", applied, refused, unsealed)
		}
		c.wantStates()
		c.reopen()
		c.wantStates()
	}
}

package state_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"accessor/checkpoint"
	"accessor/forks"
	"accessor/locking"
	"accessor/state"
)

func TestDraftBecomesABlock(t *testing.T) {
	overEngines(t, func(t *testing.T, e engineCase) {
		c := newChain(t, e, noImages)
		c.grow("alfred", "b1")
		before := c.footprint()
		d := c.begin("b1", state.DraftOptions{Owner: "author"})
		d.put(key("anchor 3"), "overwritten")
		d.put(padded("m new"), "")
		d.put(padded("m newer"), "x")
		d.delete(key("by b1"))
		d.delete(padded("never there"))
		d.put(padded("m newest"), "y")
		d.delete(padded("m newest"))
		for k := range d.state {
			d.wantKey(k)
		}
		for _, k := range []string{key("by b1"), padded("never there"), padded("m newest"), padded("m new"), "short"} {
			d.wantKey(k)
		}
		d.wantRange("", "")
		d.wantRange("m", "n")
		d.wantRange(padded("m new"), padded("m newer"))
		d.wantRange("n", "m")
		d.deletePrefix("m new")
		d.deletePrefix("m new")
		d.deletePrefix(key("anchor 4")[:2])
		d.put(padded("m new"), "again")
		d.wantRange("", "")

		info := d.info()
		if b1, _ := c.Block(hash("b1")); info.Parent != b1 || info.Slot != 2 || info.Owner != "author" || info.ID != d.ID() ||
			len(info.ID) != 32 || info.Age <= 0 || time.Until(info.Expires) > state.DefaultDraftTTL || info.Writes != 7 {
			t.Errorf("info %+v", info)
		}
		if found, err := c.DraftByID(d.ID()); err != nil || found != d.Draft {
			t.Errorf("by its ID: %v, %v", found, err)
		}
		if got := strings.Join(c.footprint(), "\n"); got != strings.Join(before, "\n") {
			t.Errorf("a draft left traces:\n%s", got)
		}
		d.commit("b2")
		c.wantStates()
		c.reopen()
		c.wantStates()
	})
}

// Two drafts on one parent, in one slot and at once, are two forks.
func TestTwoDraftsAreTwoForks(t *testing.T) {
	overEngines(t, func(t *testing.T, e engineCase) {
		c := newChain(t, e, noImages)
		c.grow("alfred", "b1")
		left, right := c.begin("b1", state.DraftOptions{Owner: "author"}), c.begin("b1", state.DraftOptions{Owner: "author"})
		for i := range 50 {
			left.put(padded(fmt.Sprint("both ", i)), "left")
			right.put(padded(fmt.Sprint("both ", i)), "right")
			if i%7 == 0 {
				left.delete(padded(fmt.Sprint("both ", i/2)))
				right.deletePrefix(fmt.Sprint("both ", i/3))
			}
		}
		left.delete(key("last writer"))
		left.wantRange("", "")
		right.wantRange("", "")
		left.commit("left")
		right.wantRange("", "")
		right.commit("right")
		c.wantStates()
		c.grow("left", "left 2")
		c.grow("right", "right 2")
		c.wantStates()
		if got := c.children("b1"); got != "left right" {
			t.Errorf("children of b1: %s", got)
		}
	})
}

// Every reason not to begin a draft. The tree is alfred → b1.
func TestBeginDraftRefusals(t *testing.T) {
	c := newChain(t, engines[0], noImages)
	c.grow("alfred", "b1")
	other := c.begin("b1", state.DraftOptions{Owner: "other"})
	for _, test := range []struct {
		name   string
		parent string
		slot   forks.Slot
		opts   state.DraftOptions
		want   error
		words  string
	}{
		{"unknown parent", "b9", 10, state.DraftOptions{}, state.ErrUnknownParent, hash("b9").String()},
		{"the parent's slot", "b1", 1, state.DraftOptions{}, state.ErrSlotOrder, "slot 1"},
		{"slot 0", "alfred", 0, state.DraftOptions{}, state.ErrSlotOrder, "slot 0"},
		{"lease too long", "b1", 3, state.DraftOptions{TTL: 60*time.Second + 1}, state.ErrInvalid, "at most 1m0s"},
		{"lease below 0", "b1", 3, state.DraftOptions{TTL: -1}, state.ErrInvalid, "more than 0"},
		{"owner's name too long", "b1", 3, state.DraftOptions{Owner: strings.Repeat("o", 65)}, state.ErrInvalid, "65 bytes"},
		{"owner's name of other bytes", "b1", 3, state.DraftOptions{Owner: "\xff"}, state.ErrInvalid, "UTF-8"},
		{"reserved", "b1", 2, state.DraftOptions{Owner: "author"}, state.ErrReserved, `"other"`},
		{"reserved, from nobody", "alfred", 2, state.DraftOptions{}, state.ErrReserved, "expires in"},
	} {
		_, err := c.BeginDraft(context.Background(), hash(test.parent), test.slot, test.opts)
		if !errors.Is(err, test.want) || !strings.Contains(err.Error(), test.words) || strings.Contains(err.Error(), "invalid block") {
			t.Errorf("%s: error %v, want %v with %q", test.name, err, test.want, test.words)
		}
		if test.want == state.ErrReserved {
			var reserved *locking.ReservedError
			if !errors.As(err, &reserved) || reserved.Owner != "other" || reserved.Slot != 2 ||
				!reserved.Expires.Equal(other.info().Expires) || reserved.Age <= 0 {
				t.Errorf("%s: error %+v", test.name, reserved)
			}
		}
	}
	// None of them has taken a place or a slot.
	drafts := []*draft{other}
	for len(drafts) < state.MaxDrafts {
		drafts = append(drafts, c.begin("alfred", state.DraftOptions{Owner: "many", TTL: state.MaxDraftTTL}))
	}
	_, err := c.BeginDraft(context.Background(), hash("alfred"), 9, state.DraftOptions{})
	if !errors.Is(err, state.ErrTooManyDrafts) {
		t.Errorf("one more: %v", err)
	}
	if all := c.Drafts(); len(all) != state.MaxDrafts || all[0].ID != other.ID() {
		t.Errorf("%d drafts: %+v", len(all), all)
	}
	if err := drafts[5].Drop(); err != nil {
		t.Error(err)
	}
	drafts[5].wantOver(state.ErrDraftOver)
	if err := other.Drop(); err != nil {
		t.Error(err)
	}
	c.begin("b1", state.DraftOptions{Owner: "author"})
	c.begin("b1", state.DraftOptions{Owner: "author"})
	if n := len(c.Drafts()); n != state.MaxDrafts {
		t.Errorf("%d drafts", n)
	}
}

// What a draft refuses changes nothing.
func TestDraftRefusals(t *testing.T) {
	long, k := make([]byte, 1<<20), []byte(padded("k"))
	tests := []struct {
		name  string
		do    func(d *draft) error
		want  error
		words string
	}{
		{"short key", func(d *draft) error { return d.Put(k[:30], nil) }, state.ErrInvalid, "30 bytes"},
		{"no key", func(d *draft) error { return d.Put(nil, nil) }, state.ErrInvalid, "0 bytes"},
		{"endless key", func(d *draft) error { return d.Put(long, nil) }, state.ErrInvalid, "1048576 bytes"},
		{"large value", func(d *draft) error { return d.Put(k, long[:1001]) }, state.ErrInvalid, "1001"},
		{"delete of a long key", func(d *draft) error { return d.Delete(append(bytes.Clone(k), 1)) }, state.ErrInvalid, "32 bytes"},
		{"delete of an endless key", func(d *draft) error { return d.Delete(long) }, state.ErrInvalid, "1048576 bytes"},
		{"long prefix", func(d *draft) error { _, err := d.DeletePrefix(context.Background(), long[:32]); return err }, state.ErrInvalid, "32 bytes"},
		{"savepoint 0", func(d *draft) error { return d.Rollback(0) }, state.ErrNoSavepoint, "0"},
		{"later savepoint", func(d *draft) error { return d.Rollback(2) }, state.ErrNoSavepoint, "2"},
		{"long lease", func(d *draft) error { return d.Renew(61 * time.Second) }, state.ErrInvalid, "1m1s"},
		{"lease below 0", func(d *draft) error { return d.Renew(-1) }, state.ErrInvalid, "-1ns"},
		{"too many bytes", func(d *draft) error {
			// 4000 bytes: the 1000 of the put below, and not three times as much again.
			for i := range 3 {
				if err := d.Put([]byte(padded(fmt.Sprint("large ", i))), long[:1000]); err != nil {
					return err
				}
				d.state[padded(fmt.Sprint("large ", i))] = string(long[:1000])
			}
			return errors.New("all went in")
		}, state.ErrDraftTooLarge, "at most 4000"},
		{"too many deletes", func(d *draft) error { _, err := d.DeletePrefix(context.Background(), nil); return err }, state.ErrDraftTooLarge, "more than 4000"},
		{"too many savepoints", func(d *draft) error {
			for range 100 {
				if _, err := d.Savepoint(); err != nil {
					return err
				}
			}
			return errors.New("all went in")
		}, state.ErrDraftTooLarge, "at most 4000"},
	}
	c := newChain(t, engines[0], tight)
	c.accept(manyKeys(c))
	for _, test := range tests {
		d := c.begin("many", state.DraftOptions{})
		if _, err := d.Savepoint(); err != nil {
			t.Fatal(err)
		}
		d.put(padded("before"), strings.Repeat("b", 500))
		writes := d.info().Writes
		had := len(d.state)
		err := test.do(d)
		if !errors.Is(err, test.want) || !strings.Contains(err.Error(), test.words) || strings.Contains(err.Error(), "invalid block") {
			t.Errorf("%s: error %v, want %v with %q", test.name, err, test.want, test.words)
		}
		if got := d.info().Writes; got != writes+len(d.state)-had {
			t.Errorf("%s: %d writes, had %d", test.name, got, writes)
		}
		d.wantRange("", "")
		if err := d.Drop(); err != nil {
			t.Error(err)
		}
	}
}

// manyKeys is a block with more keys than a tight draft can delete.
func manyKeys(c *chain) *state.Block {
	b := c.block("many", "alfred")
	for i := range 30 {
		b.Puts = append(b.Puts, put(padded(fmt.Sprint("many ", i)), i))
	}
	return c.declare(b, "alfred")
}

// A draft takes 64 MiB, of puts, of deletes and of what savepoints keep.
func TestDraftSize(t *testing.T) {
	c := newChain(t, engines[0], noImages)
	value := make([]byte, 1<<20)
	for _, points := range []bool{false, true} {
		d := c.begin("alfred", state.DraftOptions{})
		n := 0
		for ; n < 100; n++ {
			k := padded(fmt.Sprint("large ", n))
			if points {
				k = padded("the same")
				if _, err := d.Savepoint(); err != nil {
					t.Fatal(err)
				}
			}
			err := d.Put([]byte(k), value)
			if errors.Is(err, state.ErrDraftTooLarge) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if size := d.info().Bytes; n != 63 || size > state.MaxDraftSize || size < n<<20 {
			t.Errorf("savepoints %v: %d values, %d bytes", points, n, size)
		}
		// What makes it smaller goes.
		if !points {
			before := d.info().Bytes
			if err := d.Delete([]byte(padded("large 0"))); err != nil {
				t.Error(err)
			}
			if size := d.info().Bytes; size != before-len(value) {
				t.Errorf("%d bytes after a delete, %d before", size, before)
			}
		}
		if err := d.Drop(); err != nil {
			t.Error(err)
		}
	}
}

func TestSavepointsNest(t *testing.T) {
	c := newChain(t, engines[0], noImages)
	d := c.begin("alfred", state.DraftOptions{})
	save := func() state.Savepoint {
		t.Helper()
		s, err := d.Savepoint()
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	k := padded("k")
	d.put(k, "0")
	first := save()
	d.put(k, "1")
	second := save()
	d.put(k, "2")
	d.put(k, "2 again")
	third := save()
	d.delete(k)
	for _, step := range []struct {
		to   state.Savepoint
		want string
		err  error
	}{
		{third, "2 again", nil},
		{third, "2 again", nil}, // it stays
		{first, "0", nil},
		{second, "0", state.ErrNoSavepoint}, // gone with what came after the first
		{third, "0", state.ErrNoSavepoint},
		{first, "0", nil},
	} {
		if err := d.Rollback(step.to); !errors.Is(err, step.err) {
			t.Errorf("to %d: %v, want %v", step.to, err, step.err)
		}
		if got, _, err := d.Get(context.Background(), []byte(k)); string(got) != step.want || err != nil {
			t.Errorf("after %d: %s, %v, want %s", step.to, got, err, step.want)
		}
	}
	if fourth := save(); fourth == second || fourth == third {
		t.Errorf("savepoint %d twice", fourth)
	}
}

// What comes from a draft, or goes into it, is nobody else's.
func TestDraftCopies(t *testing.T) {
	c := newChain(t, engines[0], noImages)
	d := c.begin("alfred", state.DraftOptions{})
	k, value := []byte(padded("k")), []byte("value")
	if err := d.Put(k, value); err != nil {
		t.Fatal(err)
	}
	d.state[string(k)] = "value"
	k[0], value[0] = 'x', 'x'
	got, _, _ := d.Get(context.Background(), []byte(padded("k")))
	got[0] = 'y'
	for p := range d.All(context.Background(), []byte("k"), []byte("l")) {
		p.Key[0], p.Value[0] = 'z', 'z'
	}
	d.wantRange("", "")
	d.wantKey(padded("k"))
}

// A walk shows the draft as it was when the walk began, and ends with the draft.
func TestWalkOverAChangingDraft(t *testing.T) {
	overEngines(t, func(t *testing.T, e engineCase) {
		e, open := countViews(e)
		c := newChain(t, e, noImages)
		d := c.begin("alfred", state.DraftOptions{Owner: "author"})
		for i := range 200 {
			d.put(padded(fmt.Sprint("own ", i)), "as it was")
		}
		n := 0
		for p, err := range d.All(context.Background(), nil, nil) {
			if err != nil {
				t.Fatal(err)
			}
			if want := d.state[string(p.Key)]; string(p.Value) != want {
				t.Fatalf("%x: %s, want %s", p.Key, p.Value, want)
			}
			if n++; n%2 == 0 {
				err = d.Put(bytes.Clone(p.Key), []byte("changed"))
			} else {
				err = d.Delete(p.Key)
			}
			if err != nil {
				t.Fatal(err)
			}
			if err := d.Put([]byte(padded(fmt.Sprint("more ", n))), nil); err != nil {
				t.Fatal(err)
			}
		}
		if n != len(d.state) {
			t.Errorf("%d pairs, want %d", n, len(d.state))
		}

		// In the midst of the parent's pairs, and of the draft's own.
		for _, from := range []string{"", "own"} {
			d := c.begin("alfred", state.DraftOptions{Owner: "author"})
			d.put(padded("own 1"), "")
			d.put(padded("own 2"), "")
			var last error
			n := 0
			for _, err := range d.All(context.Background(), []byte(from), nil) {
				if n++; n == 1 {
					if err := d.Drop(); err != nil {
						t.Fatal(err)
					}
				}
				last = err
			}
			if n != 2 || !errors.Is(last, state.ErrDraftOver) {
				t.Errorf("from %q: %d pairs, then %v", from, n, last)
			}
		}
		if err := d.Drop(); err != nil {
			t.Error(err)
		}
		if err := c.Close(); err != nil || open.Load() != 0 {
			t.Errorf("%v; %d states are still open", err, open.Load())
		}
	})
}

// While a prefix is being deleted, reads go on and other changes wait.
func TestChangesWaitForAPrefix(t *testing.T) {
	e, scans := engines[0], make(chan chan struct{}, 1)
	open := e.open
	e.open = func() (checkpoint.Engine, func()) {
		engine, closeEngine := open()
		return haltingScans{engine, scans}, closeEngine
	}
	c := newChain(t, e, noImages)
	d := c.begin("alfred", state.DraftOptions{})
	old, young := padded("p old"), padded("p young")
	d.put(old, "v")
	resume := make(chan struct{})
	scans <- resume
	deleted := make(chan error, 1)
	go func() {
		n, err := d.DeletePrefix(context.Background(), []byte("p "))
		if n != 1 && err == nil {
			err = fmt.Errorf("%d deleted", n)
		}
		deleted <- err
	}()
	c.until("the prefix to be read", func() bool { return len(scans) == 0 })
	done := make(chan error, 1)
	go func() { done <- errors.Join(d.Put([]byte(young), nil), d.Put([]byte(old), []byte("new"))) }()
	d.wantKey(old)
	d.wantKey(young)
	select {
	case err := <-done:
		t.Fatalf("didn't wait: %v", err)
	case <-time.After(30 * time.Millisecond):
	}
	close(resume)
	if err := errors.Join(<-deleted, <-done); err != nil {
		t.Fatal(err)
	}
	d.state[young], d.state[old] = "", "new"
	d.wantRange("", "")
}

// Overwriting one key again and again takes no more of a draft, under a savepoint
// neither.
func TestOverwritesTakeNoMore(t *testing.T) {
	c := newChain(t, engines[0], noImages)
	d := c.begin("alfred", state.DraftOptions{})
	for range 3 {
		if _, err := d.Savepoint(); err != nil {
			t.Fatal(err)
		}
		d.put(padded("k"), "first")
		before := d.info().Bytes
		for i := range 100 {
			d.put(padded("k"), fmt.Sprint(10000+i))
		}
		if after := d.info().Bytes; after != before {
			t.Errorf("%d bytes, then %d", before, after)
		}
	}
}

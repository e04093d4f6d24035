package checkpoint_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"accessor/checkpoint"
	"accessor/checkpoint/checkpointtest"
	"accessor/forks"
)

// kept reads the events after a position, as far as they go now.
func (h *harness) kept(after uint64) (list []checkpoint.Event) {
	h.Helper()
	if err := h.store.SetMeta("test", nil); err != nil { // with which those go that wait
		h.Fatal(err)
	}
	_, _, newest := h.store.EventsKept()
	sub := h.store.Subscribe(after)
	for sub.Position() < newest || after > newest {
		after = checkpoint.Oldest
		e, err := sub.Next(context.Background())
		if err != nil {
			h.Fatal(err)
		}
		if len(list) > 0 && e.Position <= list[len(list)-1].Position {
			h.Fatalf("position %d after %d", e.Position, list[len(list)-1].Position)
		}
		list = append(list, e)
	}
	return list
}

// wantEvents wants events of these kinds and slots, after a position.
func (h *harness) wantEvents(after uint64, want ...checkpoint.Event) (last uint64) {
	h.Helper()
	list := h.kept(after)
	if len(list) != len(want) {
		h.Fatalf("events %+v, want %+v", list, want)
	}
	for i, e := range list {
		if e.Kind != want[i].Kind || e.Block.Slot != want[i].Block.Slot || e.Count != want[i].Count {
			h.Fatalf("event %d is %+v, want %+v", i, e, want[i])
		}
		last = e.Position
	}
	return last
}

func block(slot forks.Slot) checkpoint.Event {
	return checkpoint.Event{Kind: checkpoint.EventBlock, Block: forks.Block{Slot: slot}}
}

func head(slot forks.Slot) checkpoint.Event {
	return checkpoint.Event{Kind: checkpoint.EventHead, Block: forks.Block{Slot: slot}}
}

// A write that fails says nothing of what the disk has. Its positions are not given
// again: to this opening's readers they are a gap, and the next opening finds what
// there is.
func TestEventsOfAWriteThatFails(t *testing.T) {
	h := newHarness(t, checkpoint.Options{})
	e := newFailing()
	h.engine = e
	h.reopen()
	h.chain("anchor", "one")
	rec := h.write("two", "one")
	at := h.wantEvents(checkpoint.Oldest, block(0), block(1))
	e.records.Store(true)
	if err := h.store.Record(rec); !errors.Is(err, errDisk) {
		t.Fatal(err)
	}
	if h.store.Unwritable() == nil {
		t.Error("the store says that it can be written to")
	}
	if n, _, newest := h.store.EventsKept(); n != 2 || newest != at {
		t.Errorf("%d events up to %d are told after a failure", n, newest)
	}
	e.records.Store(false)
	h.store.Announce(head(1))
	list := h.kept(at)
	if len(list) != 2 || list[0].Kind != checkpoint.EventGap || list[0].First != at+1 || list[0].Last != at+1 || list[1].Kind != checkpoint.EventHead {
		t.Fatalf("events %+v after %d", list, at)
	}
	if h.store.Unwritable() != nil {
		t.Error(h.store.Unwritable())
	}
	h.wantEvents(list[0].Position, head(1))
	h.reopen()
	h.wantEvents(at, block(2), head(1)) // it was written all the same
}

// What is cut off is a gap, and only so much is kept, also where less is to be kept
// than before.
func TestEventsAreCutOff(t *testing.T) {
	h := newHarness(t, checkpoint.Options{Events: 100, RecentEvents: 10})
	first := h.kept(checkpoint.Oldest)[0].Position
	for range 300 {
		h.store.Announce(head(0))
		if err := h.store.SetMeta("x", nil); err != nil {
			t.Fatal(err)
		}
		if n, _, _ := h.store.EventsKept(); n > 125 {
			t.Fatalf("%d events are kept", n)
		}
	}
	n, oldest, newest := h.store.EventsKept()
	list := h.kept(first)
	if gap := list[0]; gap.Kind != checkpoint.EventGap || gap.First != first+1 || gap.Last != oldest-1 || len(list) != n+1 || list[n].Position != newest {
		t.Fatalf("%d events from %d to %d, of which %d are given, after %+v", n, oldest, newest, len(list), list[0])
	}
	h.opts.Events = 20
	h.reopen()
	for range 20 {
		h.store.Announce(head(0))
		if err := h.store.SetMeta("x", nil); err != nil {
			t.Fatal(err)
		}
	}
	if n, _, _ := h.store.EventsKept(); n > 25 {
		t.Errorf("%d events are kept", n)
	}
}

// More than the disk can follow is a gap, and keeps nobody.
func TestEventsThatCannotWait(t *testing.T) {
	h := newHarness(t, checkpoint.Options{})
	at := h.wantEvents(checkpoint.Oldest, block(0))
	list := make([]checkpoint.Event, 3000)
	for i := range list {
		list[i] = head(forks.Slot(i))
	}
	h.store.Announce(list...)
	h.store.Announce(head(1))
	if err := h.store.SetMeta("x", nil); err != nil {
		t.Fatal(err)
	}
	h.store.Announce(head(7))
	got := h.kept(at)
	if got[0].Kind != checkpoint.EventGap || got[0].Last-got[0].First+1 != 3001-1024 || len(got) != 1+1024+1 {
		t.Errorf("%d events, the first %+v", len(got), got[0])
	}
}

// What is announced is written by itself where nothing else is.
func TestAnnouncedIsWritten(t *testing.T) {
	h := newHarness(t, checkpoint.Options{})
	sub := h.store.Subscribe(checkpoint.Newest)
	h.store.Announce(head(3))
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if e, err := sub.Next(ctx); err != nil || e.Block.Slot != 3 {
		t.Fatalf("%+v, %v", e, err)
	}
	h.store.Announce(head(4))
	h.reopen()
	h.wantEvents(sub.Position(), head(4))
	if last := h.store.LastHead(); last == nil || last.Block.Slot != 4 {
		t.Errorf("last head %+v", last)
	}
}

// A delta that is taken in at start gets its event.
func TestEventOfADeltaThatIsTakenIn(t *testing.T) {
	h := newHarness(t, checkpoint.Options{})
	h.chain("anchor", "one")
	h.write("two", "one")
	at := h.wantEvents(checkpoint.Oldest, block(0), block(1))
	h.reopen()
	h.wantEvents(at, block(2))
}

func TestEventOfPruning(t *testing.T) {
	h := newHarness(t, small)
	h.chain("anchor", names(8)...)
	sub := h.store.Subscribe(checkpoint.Newest)
	b := h.blocks[names(8)[3]]
	if _, err := h.store.Prune(context.Background(), b.Hash, func() error { return nil }); err != nil {
		t.Fatal(err)
	}
	e, err := sub.Next(context.Background())
	if err != nil || e.Kind != checkpoint.EventPruned || e.Block.Hash != b.Hash || e.Old.Hash != h.blocks["anchor"].Hash || e.Count != 4 {
		t.Errorf("%+v, %v", e, err)
	}
}

// A store that was brought back from a backup doesn't take a position of the life
// that it has lost for one of its own; nor does one whose records were rebuilt.
func TestEventsOfABackup(t *testing.T) {
	h := newHarness(t, checkpoint.Options{})
	h.chain("anchor", "one")
	backup := filepath.Join(t.TempDir(), "backup")
	h.store.Close()
	if out, err := exec.Command("cp", "-a", h.dir, backup).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v", out, err)
	}
	h.reopen()
	at := h.wantEvents(checkpoint.Oldest, block(0), block(1))
	h.chain("one", "two")
	lost := h.wantEvents(at, block(2))
	h.store.Close()

	h.dir = backup
	time.Sleep(5 * time.Millisecond) // the clock of a backup that is brought back is later
	h.reopen()
	h.store.Announce(head(5), head(6))
	if list := h.kept(lost); len(list) != 3 || list[0].Kind != checkpoint.EventGap {
		t.Errorf("after a lost event: %+v", list)
	}
	h.wantEvents(at, head(5), head(6))
	h.store.Close()

	if _, err := checkpoint.Recover(h.dir, checkpointtest.Engine{}, h.opts, false, nil); err != nil {
		t.Fatal(err)
	}
	time.Sleep(5 * time.Millisecond)
	h.reopen()
	if n, _, _ := h.store.EventsKept(); n != 0 {
		t.Errorf("%d events after a recovery", n)
	}
	h.store.Announce(head(7))
	if list := h.kept(at); len(list) != 2 || list[0].Kind != checkpoint.EventGap || list[1].Block.Slot != 7 {
		t.Errorf("after the recovery: %+v", list)
	}
}

// An event that can't be read is a gap, and keeps no store from opening.
func TestDamagedEvent(t *testing.T) {
	h := newHarness(t, checkpoint.Options{})
	h.chain("anchor", "one", "two")
	list := h.kept(checkpoint.Oldest)
	h.store.Close()
	journal, err := h.engine.OpenJournal(filepath.Join(h.dir, "blocks"))
	if err != nil {
		t.Fatal(err)
	}
	var keys [][]byte
	for key := range journal.Scan([]byte{'e'}) {
		keys = append(keys, slices.Clone(key))
	}
	if err := errors.Join(journal.Write([]checkpoint.Change{{Key: keys[1], Value: []byte("?")}}, true), journal.Close()); err != nil {
		t.Fatal(err)
	}
	h.reopen()
	got := h.kept(list[0].Position)
	if len(got) != 2 || got[0].Kind != checkpoint.EventGap || got[0].First != list[1].Position || got[1].Block.Slot != 2 {
		t.Errorf("%+v", got)
	}
	if _, err := os.Stat(filepath.Join(h.dir, "lost")); err != nil {
		t.Error(err)
	}
}

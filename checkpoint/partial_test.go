package checkpoint_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"accessor/checkpoint"
	"accessor/checkpoint/checkpointtest"
	"accessor/forks"
)

// partialState is the anchor's state that peers have; keys of 4 bytes.
func partialState() map[string]string {
	state := make(map[string]string)
	for i := range 60 {
		state[string([]byte{byte(i / 20 * 100), byte(i), 0, 1})] = strings.Repeat("v", i)
	}
	return state
}

func pairsFrom(state map[string]string) iter.Seq2[checkpoint.Pair, error] {
	return func(yield func(checkpoint.Pair, error) bool) {
		for _, k := range slices.Sorted(maps.Keys(state)) {
			if !yield(checkpoint.Pair{Key: []byte(k), Value: []byte(state[k])}, nil) {
				return
			}
		}
	}
}

func newPartialHarness(t *testing.T, opts checkpoint.Options) *harness {
	t.Helper()
	h := &harness{T: t, engine: checkpointtest.Engine{}, dir: filepath.Join(t.TempDir(), "store"), opts: opts,
		blocks: map[string]forks.Block{"anchor": {Hash: forks.Hash{0xa}}},
		states: map[string]map[string]string{"anchor": partialState()}}
	var err error
	h.store, err = checkpoint.CreatePartial(h.dir, h.engine, "none", checkpoint.Record{Block: h.blocks["anchor"]}, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.store.Close() })
	return h
}

// fillSpool plays the peers: it gives so many pairs at a time, for so many answers.
func fillSpool(sp *checkpoint.Spool, state map[string]string, page, answers int) error {
	if err := sp.Begin(3, 4); err != nil {
		return err
	}
	var parts []*checkpoint.SpoolPart
	defer func() {
		for _, p := range parts {
			p.Release()
		}
	}()
	for n := 0; n < answers; n++ {
		if p, whole, err := sp.Take(); err != nil || whole {
			return err
		} else if p != nil {
			parts = append(parts, p)
		}
		p := parts[n%len(parts)]
		from, to, ok := p.Range()
		if !ok {
			p.Release()
			parts = slices.DeleteFunc(parts, func(o *checkpoint.SpoolPart) bool { return o == p })
			continue
		}
		var pairs []checkpoint.Pair
		next := to
		for pair, err := range pairsFrom(state) {
			if err != nil {
				return err
			}
			if bytes.Compare(pair.Key, from) < 0 || to != nil && bytes.Compare(pair.Key, to) >= 0 {
				continue
			}
			if len(pairs) == page {
				next = append([]byte(nil), pair.Key...)
				break
			}
			pairs = append(pairs, pair)
		}
		if err := p.Append(pairs, next); err != nil {
			return err
		}
	}
	return nil
}

// complete completes a store; each block's record of the trie is its name.
func complete(s *checkpoint.Store, pairs iter.Seq2[checkpoint.Pair, error]) error {
	trie := func(yield func(checkpoint.Pair) bool) {
		yield(checkpoint.Pair{Key: []byte("t"), Value: []byte("anchor")})
	}
	c, err := s.BeginCompletion(context.Background(), pairs, trie)
	if err != nil {
		return err
	}
	defer c.Abort()
	for {
		rec, parent, ok, err := c.Next()
		if err != nil {
			return err
		}
		if !ok {
			publish, err := c.Commit()
			publish()
			return err
		}
		at, _, err := parent.Trie().Get([]byte("t"))
		if err != nil {
			return err
		}
		if want := trieRecord(rec.Parent); string(at) != want || parent.At().Hash != rec.Parent {
			return fmt.Errorf("block %s: its parent's record of the trie is %q, want %q", rec.Hash, at, want)
		}
		err = c.Add(rec, checkpoint.WriteSet{{Key: []byte("t"), Value: []byte(trieRecord(rec.Hash))}})
		if err != nil {
			return err
		}
	}
}

func trieRecord(h forks.Hash) string {
	if h == (forks.Hash{0xa}) {
		return "anchor"
	}
	return strings.TrimRight(string(h[:]), "\x00")
}

// wantComplete brings every block to a checkpoint and reads it.
func (h *harness) wantComplete() {
	h.Helper()
	if h.store.Partial() {
		h.Fatal("the store is partial")
	}
	for _, rec := range h.store.Records() {
		if rec.Partial {
			h.Errorf("record of %s is still partial", trieRecord(rec.Hash))
		}
		if h.store.Usable(rec.Hash) == nil {
			continue
		}
		below := rec.Parent
		if rec.Anchor {
			below = rec.Hash // its image
		}
		w, err := h.store.Clone(below)
		if err == nil {
			err = w.Advance(rec.Hash)
		}
		if err == nil {
			err = h.store.Seal(w)
		}
		if err != nil {
			h.Fatalf("seal %s: %v", trieRecord(rec.Hash), err)
		}
		w.Drop()
	}
	for name, b := range h.blocks {
		for _, err := range h.store.VerifyBlock(b.Hash) {
			h.Errorf("verify %s: %v", name, err)
		}
		v, err := h.store.OpenView(b.Hash)
		if err != nil {
			h.Fatal(err)
		}
		got, err := pairsOf(v.Scan(nil, nil))
		if err != nil || !maps.Equal(got, h.states[name]) {
			h.Errorf("state at %s is %q, %v; want %q", name, got, err, h.states[name])
		}
		if record, _, err := v.Trie().Get([]byte("t")); err != nil || string(record) != trieRecord(b.Hash) {
			h.Errorf("trie at %s is %q, %v", name, record, err)
		}
		v.Close()
	}
	if left, err := filepath.Glob(filepath.Join(h.dir, "deltas", "*.[af]*")); err != nil || len(left) > 0 {
		h.Errorf("deltas/ has %v, %v", left, err)
	}
}

func (h *harness) holdTree() {
	h.Helper()
	for _, line := range [][2]string{{"one", "anchor"}, {"two", "one"}, {"three", "two"}, {"side", "one"}, {"other", "anchor"}, {"sid2", "side"}} {
		h.hold(line[0], line[1])
	}
}

func TestPartialStoreRefusesWhatNeedsTheState(t *testing.T) {
	h := newPartialHarness(t, small)
	h.holdTree()
	check := func() {
		t.Helper()
		two := h.blocks["two"].Hash
		for what, err := range map[string]error{
			"open":   func() error { _, err := h.store.OpenView(two); return err }(),
			"clone":  func() error { _, err := h.store.Clone(two); return err }(),
			"usable": h.store.Usable(two),
			"pin":    h.store.PinCheckpoint(two, strings.Repeat("a", 32), checkpoint.PinAccess{}),
			"prune": func() error {
				_, err := h.store.Prune(context.Background(), two, func() error { return nil })
				return err
			}(),
			"anchor": func() error { _, err := h.store.OpenView(h.blocks["anchor"].Hash); return err }(),
		} {
			if !errors.Is(err, checkpoint.ErrPartial) {
				t.Errorf("%s: %v, want ErrPartial", what, err)
			}
		}
		for name, b := range h.blocks {
			if wrong := h.store.VerifyBlock(b.Hash); len(wrong) > 0 {
				t.Errorf("verify %s: %v", name, wrong)
			}
		}
		if n, freed, err := h.store.Archive(context.Background(), two); n != 0 || freed != 0 || err != nil {
			t.Errorf("archive: %d, %d, %v", n, freed, err)
		}
		if w, err := h.store.Take(two); w != nil || err != nil {
			t.Errorf("take: %v, %v", w, err)
		}
		if value, wrote, err := h.store.Written(two, []byte("a")); string(value) != "two" || !wrote || err != nil {
			t.Errorf("written: %q, %v, %v", value, wrote, err)
		}
		if u := h.store.Unsealed(); len(u) > 0 {
			t.Errorf("unsealed: %v", u)
		}
		if got := len(h.store.Records()); got != 7 {
			t.Errorf("%d blocks, want 7", got)
		}
	}
	check()
	h.reopen()
	check()
	if err := h.store.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := checkpoint.Recover(h.dir, h.engine, h.opts, false, nil); err != nil {
		t.Fatal(err)
	}
	h.open()
	check()
	beside, err := checkpoint.OpenBeside(h.dir, h.engine)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := beside.OpenView(context.Background(), h.blocks["two"].Hash); !errors.Is(err, checkpoint.ErrPartial) {
		t.Errorf("beside the owner: %v, want ErrPartial", err)
	}
}

func TestCompletion(t *testing.T) {
	h := newPartialHarness(t, small)
	h.holdTree()
	fill := h.store.Fill()
	if err := fill.Keep([]checkpoint.Change{{Key: []byte("k"), Value: []byte("v")}}, true); err != nil {
		t.Fatal(err)
	}
	if err := fillSpool(fill.Spool(), partialState(), 2, 9); err != nil {
		t.Fatal(err)
	}
	pairs, size, covered := fill.Spool().Progress()
	if pairs == 0 || covered <= 0 || covered >= 1 {
		t.Errorf("progress %d pairs, %d bytes, %v covered", pairs, size, covered)
	}
	h.reopen()
	fill = h.store.Fill()
	if p, s, c := fill.Spool().Progress(); p != pairs || s != size || c != covered {
		t.Errorf("reopened: %d pairs, %d bytes, %v covered; before: %d, %d, %v", p, s, c, pairs, size, covered)
	}
	if v, found, err := fill.Kept(nil, []byte("k")); string(v) != "v" || !found || err != nil {
		t.Errorf("kept: %q, %v, %v", v, found, err)
	}
	if err := fillSpool(fill.Spool(), partialState(), 2, 1000); err != nil {
		t.Fatal(err)
	}
	// Given up, the completion leaves no trace.
	c, err := h.store.BeginCompletion(context.Background(), fill.Spool().Pairs(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Commit(); err == nil {
		t.Error("committed without the blocks above")
	}
	c.Abort()
	if left, _ := filepath.Glob(filepath.Join(h.dir, "deltas", "*.[af]*")); len(left) > 0 {
		t.Errorf("aborted: %v", left)
	}
	if err := complete(h.store, fill.Spool().Pairs()); err != nil {
		t.Fatal(err)
	}
	if _, found, err := fill.Kept(nil, []byte("k")); !found || err != nil {
		t.Errorf("readers that are on their way: %v, %v", found, err)
	}
	if err := fill.Done(); err != nil {
		t.Error(err)
	}
	if _, _, err := fill.Kept(nil, []byte("k")); !errors.Is(err, checkpoint.ErrClosed) {
		t.Errorf("kept after the end: %v", err)
	}
	if left, _ := os.ReadDir(filepath.Join(h.dir, "fill")); len(left) > 0 || h.store.Fill() != nil {
		t.Errorf("fill/ has %v", left)
	}
	if _, err := h.store.BeginCompletion(context.Background(), pairsFrom(nil), nil); !errors.Is(err, checkpoint.ErrComplete) {
		t.Errorf("complete again: %v", err)
	}
	h.wantComplete()
	h.reopen()
	h.wantComplete()
	h.chain("three", "four", "five")
	h.wantStates("four", "five")
}

// A frame that a power cut tore, or a changed byte, costs what came after it.
func TestSpoolWithDamage(t *testing.T) {
	for _, spoil := range []func(data []byte) []byte{
		func(data []byte) []byte { return data[:len(data)-1] },
		func(data []byte) []byte { data[len(data)/2] ^= 1; return data },
		func(data []byte) []byte { data[0], data[1], data[2], data[3] = 255, 255, 255, 255; return data },
		func([]byte) []byte { return nil },
	} {
		h := newPartialHarness(t, small)
		if err := fillSpool(h.store.Fill().Spool(), partialState(), 2, 1000); err != nil {
			t.Fatal(err)
		}
		h.store.Close()
		parts, err := filepath.Glob(filepath.Join(h.dir, "fill", "spool", "*"))
		if err != nil || len(parts) < 3 {
			t.Fatalf("%v, %v", parts, err)
		}
		for _, path := range parts {
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if len(data) > 0 {
				data = spoil(data)
			}
			if err := os.WriteFile(path, data, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		h.open()
		sp := h.store.Fill().Spool()
		if pairs, _, covered := sp.Progress(); pairs >= 60 || covered >= 1 {
			t.Errorf("%d pairs, %v covered", pairs, covered)
		}
		if err := fillSpool(sp, partialState(), 3, 1000); err != nil {
			t.Fatal(err)
		}
		got := make(map[string]string)
		for p, err := range sp.Pairs() {
			if err != nil {
				t.Fatal(err)
			}
			got[string(p.Key)] = string(p.Value)
		}
		if !maps.Equal(got, partialState()) {
			t.Errorf("%d pairs, want %d", len(got), len(partialState()))
		}
		if err := sp.Reset(); err != nil {
			t.Fatal(err)
		}
		if pairs, size, covered := sp.Progress(); pairs != 0 || size != 0 || covered != 0 {
			t.Errorf("after a reset: %d, %d, %v", pairs, size, covered)
		}
	}
}

// TestPartialLadder fails one file call of a partial store's life after the other, or
// all from there on, as after a kill. The next opening finds every block that was
// acknowledged, and a store that is either partial, and can be completed, or complete.
// Each call has one of three faults; ACCESSOR_TEST_LADDER=all gives it all of them.
func TestPartialLadder(t *testing.T) {
	stride := int64(3)
	switch {
	case os.Getenv("ACCESSOR_TEST_LADDER") == "all":
		stride = 1
	case testing.Short():
		stride = 21
	}
	for i, mode := range []string{"fails", "succeeds and says it failed", "is the last one"} {
		t.Run("a call "+mode, func(t *testing.T) {
			for nth := 1 + int64(i); ; nth += stride {
				if !partialRung(t, nth, mode) {
					t.Logf("%d file calls", nth-1)
					if nth < 60 {
						t.Error("too few")
					}
					return
				}
				if t.Failed() {
					t.Fatalf("with the fault at call %d", nth)
				}
			}
		})
	}
}

func partialRung(t *testing.T, nth int64, mode string) bool {
	var calls atomic.Int64
	var fired atomic.Bool
	opts := small
	opts.FileHook = func(c checkpoint.FileCall) error {
		if c.Applied != (mode == "succeeds and says it failed") {
			return nil
		}
		if n := calls.Add(1); n == nth || n > nth && mode == "is the last one" {
			fired.Store(true)
			return errDisk
		}
		return nil
	}
	base := "/dev/shm"
	if _, err := os.Stat(base); err != nil {
		base = t.TempDir()
	}
	dir, err := os.MkdirTemp(base, "partial-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	h := &harness{T: t, engine: checkpointtest.Engine{}, dir: filepath.Join(dir, "store"), opts: opts,
		blocks: map[string]forks.Block{"anchor": {Hash: forks.Hash{0xa}}},
		states: map[string]map[string]string{"anchor": partialState()}}
	held := h.partialLife(t)
	h.opts.FileHook = nil
	h.store, err = checkpoint.Open(h.dir, h.engine, h.opts)
	if errors.Is(err, checkpoint.ErrEmpty) && len(held) == 0 {
		return fired.Load()
	}
	if err != nil {
		t.Errorf("open: %v", err)
		return fired.Load()
	}
	defer h.store.Close()
	for _, hash := range held {
		if _, err := h.store.Get(hash); err != nil {
			t.Errorf("block %s is lost: %v", hash.Short(), err)
		}
	}
	for name, b := range h.blocks {
		if _, err := h.store.Get(b.Hash); err != nil {
			delete(h.blocks, name)
		}
	}
	if h.store.Partial() {
		if err := fillSpool(h.store.Fill().Spool(), partialState(), 4, 1000); err != nil {
			t.Errorf("fill again: %v", err)
			return fired.Load()
		}
		if err := complete(h.store, h.store.Fill().Spool().Pairs()); err != nil {
			t.Errorf("complete again: %v", err)
			return fired.Load()
		}
	}
	h.wantComplete()
	return fired.Load()
}

// partialLife creates a partial store, holds blocks, fills and completes it, as far as
// that goes, and gives the blocks that were acknowledged.
func (h *harness) partialLife(t *testing.T) (held []forks.Hash) {
	var err error
	h.store, err = checkpoint.CreatePartial(h.dir, h.engine, "none", checkpoint.Record{Block: h.blocks["anchor"]}, h.opts)
	if err != nil {
		return nil
	}
	defer h.store.Close()
	held = append(held, h.blocks["anchor"].Hash)
	for i, line := range [][2]string{{"one", "anchor"}, {"two", "one"}, {"side", "one"}} {
		parent := h.blocks[line[1]]
		rec := &checkpoint.Record{Block: forks.Block{Parent: parent.Hash, Slot: parent.Slot + 1}}
		copy(rec.Hash[:], line[0])
		ws := checkpoint.WriteSet{{Key: []byte("zz" + line[0]), Value: []byte{byte(i)}}}
		h.states[line[0]] = maps.Clone(h.states[line[1]])
		h.states[line[0]]["zz"+line[0]] = string([]byte{byte(i)})
		if err := h.store.WriteDelta(rec, ws, nil); err != nil {
			return held
		}
		h.blocks[line[0]] = rec.Block
		if err := h.store.Record(rec); err != nil {
			return held
		}
		held = append(held, rec.Hash)
	}
	fill := h.store.Fill()
	if fillSpool(fill.Spool(), partialState(), 8, 1000) == nil &&
		complete(h.store, fill.Spool().Pairs()) == nil {
		_ = fill.Done()
	}
	return held
}

package replay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"accessor/checkpoint"
	"accessor/checkpoint/checkpointtest"
	"accessor/forks"
	"accessor/state"
	"accessor/trace"
)

// recording is a Source made of entries.
type recording struct {
	entries []trace.Entry
	next    int
	fail    error // instead of io.EOF
}

func (r *recording) Name() string                  { return "recording" }
func (r *recording) Position() string              { return fmt.Sprintf("entry %d", r.next) }
func (r *recording) Progress() (done, total int64) { return int64(r.next), int64(len(r.entries)) }
func (r *recording) Close() error                  { return nil }
func (r *recording) Next() (trace.Entry, error) {
	if r.next == len(r.entries) {
		if r.fail != nil {
			return nil, r.fail
		}
		return nil, io.EOF
	}
	r.next++
	return r.entries[r.next-1], nil
}

func hash(n byte) forks.Hash { return forks.Hash{n} }

func put(key, value string) state.Pair { return state.Pair{Key: []byte(key), Value: []byte(value)} }

// block makes a block whose hash is its number, in slot n.
func block(n, parent byte, puts ...state.Pair) *trace.Block {
	root := hash(n + 100)
	return &trace.Block{Block: state.Block{Hash: hash(n), Parent: hash(parent), Slot: forks.Slot(n), PostRoot: &root, Puts: puts}}
}

// small is a chain of an anchor and three blocks, two of them siblings.
func small() []trace.Entry {
	return []trace.Entry{
		&trace.Header{Name: "small"},
		&trace.Anchor{Hash: hash(0), Root: hash(100), Pairs: []state.Pair{put("a", "1"), put("b", "1")}},
		block(1, 0, put("a", "2")),
		block(2, 1, put("c", "2")),
		block(3, 1, put("b", "3")),
	}
}

// storeIn makes or opens a store without a commitment in a folder.
func storeIn(dir string) OpenFunc {
	return func(_ string, anchor *trace.Anchor) (*state.Accessor, error) {
		cfg := state.Config{Dir: dir, Engine: checkpointtest.Engine{}, Commitment: state.None{}}
		acc, err := state.Open(cfg)
		if !errors.Is(err, checkpoint.ErrEmpty) {
			return acc, err
		}
		return state.Create(cfg, state.Anchor{Hash: anchor.Hash, Slot: anchor.Slot, Root: anchor.Root,
			Pairs: func(yield func(state.Pair, error) bool) {
				for _, p := range anchor.Pairs {
					if !yield(p, nil) {
						return
					}
				}
			}})
	}
}

func mustReplay(t *testing.T, dir string, entries []trace.Entry, opts Options) *Report {
	t.Helper()
	report, err := Run(context.Background(), &recording{entries: entries}, storeIn(dir), opts, nil)
	if err != nil {
		t.Fatal(err)
	}
	return report
}

func TestStatesAreCompared(t *testing.T) {
	dir := t.TempDir()
	report := mustReplay(t, dir, small(), Options{States: true})
	if len(report.Errors) > 0 || report.StatesVerified != 4 || report.Blocks != 3 {
		t.Fatalf("%d blocks, %d states, %v", report.Blocks, report.StatesVerified, report.Errors)
	}
	// The store holds the true chain: a record that says otherwise differs, in
	// that block and in what inherits from it.
	for name, tc := range map[string]struct {
		change func(entries []trace.Entry)
		what   string
		states int
	}{
		"value":   {func(e []trace.Entry) { e[1].(*trace.Anchor).Pairs[1] = put("b", "x") }, "value of key 62", 1},
		"missing": {func(e []trace.Entry) { a := e[1].(*trace.Anchor); a.Pairs = a.Pairs[:1] }, "a key too many", 1},
		"extra":   {func(e []trace.Entry) { a := e[1].(*trace.Anchor); a.Pairs = append(a.Pairs, put("z", "")) }, "lacks a key", 0},
		"other":   {func(e []trace.Entry) { e[1].(*trace.Anchor).Pairs[0] = put("0", "1") }, "key of the state", 0},
	} {
		t.Run(name, func(t *testing.T) {
			entries := small()
			tc.change(entries)
			report := mustReplay(t, dir, entries, Options{States: true})
			if report.Held != 3 || report.StatesVerified != tc.states {
				t.Errorf("held %d, %d states verified, want 3 and %d", report.Held, report.StatesVerified, tc.states)
			}
			if len(report.Errors) == 0 || !strings.Contains(report.Errors[0].What, tc.what) {
				t.Errorf("differences %v, want %q", report.Errors, tc.what)
			}
		})
	}
}

func TestOrderOfBranches(t *testing.T) {
	var order []forks.Hash
	entries := append(small(), block(4, 2, put("d", "4")))
	opts := Options{ByBranch: true, Acknowledged: func(h forks.Hash) { order = append(order, h) }}
	report := mustReplay(t, t.TempDir(), entries, opts)
	if want := []forks.Hash{hash(1), hash(2), hash(4), hash(3)}; fmt.Sprint(order) != fmt.Sprint(want) {
		t.Errorf("imported %v, want %v", order, want)
	}
	if report.Blocks != 4 || report.Forks != 1 || len(report.Leaves) != 2 {
		t.Errorf("%d blocks, %d forks, leaves %v", report.Blocks, report.Forks, report.Leaves)
	}
}

func TestBranchOrderReportsOrphans(t *testing.T) {
	report := mustReplay(t, t.TempDir(), append(small(), block(9, 8)), Options{ByBranch: true})
	if report.Blocks != 3 || len(report.Errors) != 1 || *report.Errors[0].Block != hash(9) || *report.Errors[0].Slot != 9 {
		t.Errorf("%d blocks, differences %v", report.Blocks, report.Errors)
	}
}

func TestRejectsAreJudgedAtTheirPlace(t *testing.T) {
	reject := func(b *trace.Block, writeSet bool) *trace.Reject {
		return &trace.Reject{Block: b.Block, Reason: "bad", HasWriteSet: writeSet}
	}
	early, late := block(5, 3), block(5, 3) // refused before its parent is there, skipped after
	entries := small()
	entries = append(entries[:4:4], reject(early, false), entries[4], reject(late, false))
	entries = append(entries, &trace.End{Blocks: 3, Rejects: 2, Leaves: []forks.Hash{hash(2), hash(3)}})
	report := mustReplay(t, t.TempDir(), entries, Options{})
	if report.Refused != 1 || report.Skipped != 1 || len(report.Errors) > 0 {
		t.Errorf("%d refused, %d skipped, %v", report.Refused, report.Skipped, report.Errors)
	}
	// One with a write set that nothing is wrong with must not be accepted.
	report = mustReplay(t, t.TempDir(), append(small(), reject(block(6, 3), true)), Options{})
	if len(report.Errors) != 1 || !strings.Contains(report.Errors[0].What, "accepted") {
		t.Errorf("differences %v, want an accepted reject", report.Errors)
	}
}

func TestLeavesAreCompared(t *testing.T) {
	entries := append(small(), &trace.End{Blocks: 3, Leaves: []forks.Hash{hash(2)}})
	report := mustReplay(t, t.TempDir(), entries, Options{})
	if len(report.Errors) != 1 || report.Errors[0].What != "leaves of the tree" {
		t.Errorf("differences %v, want one of the leaves", report.Errors)
	}
}

func TestErrorsOfInputAndStore(t *testing.T) {
	broken := &recording{entries: small(), fail: trace.ErrNoEnd}
	report, err := Run(context.Background(), broken, storeIn(t.TempDir()), Options{}, nil)
	if !errors.Is(err, ErrInput) || !errors.Is(err, trace.ErrNoEnd) || report.Blocks != 3 {
		t.Errorf("%v after %d blocks, want ErrInput after 3", err, report.Blocks)
	}
	if _, err := Run(context.Background(), &recording{}, storeIn(t.TempDir()), Options{}, nil); !errors.Is(err, ErrInput) {
		t.Errorf("no anchor: %v, want ErrInput", err)
	}
	disk := errors.New("disk on fire")
	open := func(name string, anchor *trace.Anchor) (*state.Accessor, error) {
		return state.Create(state.Config{Dir: t.TempDir(), Engine: checkpointtest.Engine{}, Commitment: state.None{},
			Store: checkpoint.Options{FileHook: func(c checkpoint.FileCall) error {
				if c.Op == "rename" && strings.Contains(c.Path, "deltas/0000000002") {
					return disk
				}
				return nil
			}}}, state.Anchor{Hash: anchor.Hash, Root: anchor.Root, Pairs: func(func(state.Pair, error) bool) {}})
	}
	report, err = Run(context.Background(), &recording{entries: small()}, open, Options{}, nil)
	if !errors.Is(err, ErrStore) || !errors.Is(err, disk) || report.Blocks != 1 {
		t.Errorf("%v after %d blocks, want ErrStore after 1", err, report.Blocks)
	}
	ctx, cancel := context.WithCancel(context.Background())
	opts := Options{Acknowledged: func(forks.Hash) { cancel() }}
	if _, err := Run(ctx, &recording{entries: small()}, storeIn(t.TempDir()), opts, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

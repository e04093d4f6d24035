package replay

import (
	"bytes"
	"context"
	"errors"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"

	"accessor/forks"
	"accessor/state"
	"accessor/trace"
)

// branching is a store in which block 4 hands over more than it changes:
//
//	0───1───2───4
//	    └───3
func branching(t *testing.T, dir string) *state.Accessor {
	t.Helper()
	last := block(4, 2, put("c", "2"), put("d", ""), put("b", "22"))
	last.Dels = [][]byte{[]byte("a"), []byte("x")}
	mustReplay(t, dir, append(small(), last), Options{})
	acc, err := storeIn(dir)("", nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := acc.Close(); err != nil {
			t.Error(err)
		}
	})
	return acc
}

func writeBranch(ctx context.Context, acc *state.Accessor, to forks.Hash) ([]byte, error) {
	var out bytes.Buffer
	w := trace.NewWriter(&out)
	err := WriteBranch(ctx, acc, to, w, nil)
	if err == nil {
		err = w.Close()
	}
	return out.Bytes(), err
}

func TestWriteBranch(t *testing.T) {
	acc := branching(t, t.TempDir())
	text, err := writeBranch(context.Background(), acc, hash(4))
	if err != nil {
		t.Fatal(err)
	}
	src, err := trace.NewReader("x", bytes.NewReader(text), 0, trace.Options{})
	if err != nil {
		t.Fatal(err)
	}
	var blocks []string
	for {
		entry, err := src.Next()
		if err != nil {
			break
		}
		switch e := entry.(type) {
		case *trace.Anchor:
			if e.Hash != hash(0) || e.Root != hash(100) || len(e.Pairs) != 2 {
				t.Errorf("anchor %+v", e)
			}
		case *trace.Block:
			blocks = append(blocks, branchLine(e))
		}
	}
	want := []string{
		"1 on 0, roots 100 101: put a=2; 2 pairs, 2 bytes",
		"2 on 1, roots 101 102: put c=2; 3 pairs, 3 bytes",
		"4 on 2, roots 102 104: put b=22 put d= del a; 3 pairs, 3 bytes",
	}
	if diff := cmp.Diff(want, blocks); diff != "" {
		t.Error(diff)
	}

	// It replays into another store, with every state.
	if src, err = trace.NewReader("x", bytes.NewReader(text), 0, trace.Options{}); err != nil {
		t.Fatal(err)
	}
	report, err := Run(context.Background(), src, storeIn(t.TempDir()), Options{States: true}, nil)
	if err != nil || len(report.Errors) > 0 || report.Blocks != 3 || report.StatesVerified != 4 || report.Name != "branch-4-"+hash(4).Short() {
		t.Errorf("%v, %+v", err, report)
	}

	// The anchor alone is a branch too.
	if text, err = writeBranch(context.Background(), acc, hash(0)); err != nil || bytes.Count(text, []byte("\n")) != 3 {
		t.Errorf("%v\n%s", err, text)
	}
}

func branchLine(b *trace.Block) string {
	n := func(h forks.Hash) string { return strconv.Itoa(int(h[0])) }
	line := n(b.Hash) + " on " + n(b.Parent) + ", roots " + n(*b.PriorRoot) + " " + n(*b.PostRoot) + ":"
	for _, p := range b.Puts {
		line += " put " + string(p.Key) + "=" + string(p.Value)
	}
	for _, key := range b.Dels {
		line += " del " + string(key)
	}
	return line + "; " + strconv.Itoa(b.Keys) + " pairs, " + strconv.Itoa(int(b.Bytes)) + " bytes"
}

func TestWriteBranchRefuses(t *testing.T) {
	acc := branching(t, t.TempDir())
	if _, err := writeBranch(context.Background(), acc, hash(9)); !errors.Is(err, state.ErrUnknownBlock) {
		t.Errorf("unknown block: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := writeBranch(ctx, acc, hash(4)); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	was := trace.DefaultOptions
	defer func() { trace.DefaultOptions = was }()
	trace.DefaultOptions.LineLimit = 20
	if text, err := writeBranch(context.Background(), acc, hash(4)); !errors.Is(err, trace.ErrTooLong) || len(text) > 0 {
		t.Errorf("state too large: %v after %d bytes", err, len(text))
	}
}

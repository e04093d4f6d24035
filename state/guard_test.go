package state_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"accessor/forks"
	"accessor/state"
)

type clientKey struct{}

// guard remembers who asked for what.
type guard struct {
	answer error
	asked  []string
	done   int
}

func (g *guard) ask(ctx context.Context, r state.Replay) (func(bool), error) {
	what := "read"
	if r.Import {
		what = "import"
	}
	g.asked = append(g.asked, fmt.Sprintf("%v: %s %d to slot %d", ctx.Value(clientKey{}), what, r.Blocks, r.Block.Slot))
	if g.answer != nil {
		return nil, g.answer
	}
	return func(bool) { g.done++ }, nil
}

func (g *guard) want(t *testing.T, asked ...string) {
	t.Helper()
	if fmt.Sprint(g.asked) != fmt.Sprint(asked) {
		t.Errorf("asked %q, want %q", g.asked, asked)
	}
	g.asked = nil
}

var errNo = errors.New("not now")

// TestGuardReplays: replays ask before they begin, for whoever they are for, and are
// left where the answer is no.
func TestGuardReplays(t *testing.T) {
	overEngines(t, func(t *testing.T, e engineCase) {
		for _, cache := range []int64{0, 1 << 20} {
			t.Run(fmt.Sprint("cache ", cache), func(t *testing.T) { guardReplays(t, e, cache) })
		}
	})
}

func guardReplays(t *testing.T, e engineCase, cache int64) {
	c := newChain(t, e, noImages)
	c.cfg.CacheBytes = cache
	c.reopen()
	<-c.CacheReady()
	c.grow("alfred", "b1", "b2", "b3", "b4")
	g := &guard{answer: errNo}
	c.GuardReplays(g.ask)
	ctx := context.WithValue(context.Background(), clientKey{}, "carla")

	// What has a checkpoint asks nobody.
	if _, err := read(ctx, c, "b4"); err != nil {
		t.Fatal(err)
	}
	c.accept(c.block("side", "b3"))
	g.want(t)

	for _, name := range []string{"b1", "b2", "b3"} {
		c.spoil(prune, name)
	}
	before := c.Store().Stats().Clones.Load()
	if _, err := read(ctx, c, "b3"); !errors.Is(err, errNo) || !errors.Is(err, state.ErrReplayRefused) {
		t.Errorf("a read that is refused: %v", err)
	}
	g.want(t, "carla: read 3 to slot 3")
	b := c.block("late", "b3")
	if _, err := c.Import(ctx, b); !errors.Is(err, errNo) || !errors.Is(err, state.ErrReplayRefused) {
		t.Errorf("an import that is refused: %v", err)
	}
	g.want(t, "carla: import 3 to slot 3")
	if n := c.Store().Stats().Clones.Load(); n != before {
		t.Errorf("%d databases were made for what was refused", n-before)
	}
	if g.done > 0 {
		t.Error("what didn't begin was done")
	}

	// The same is allowed later; a draft's reads are their caller's.
	g.answer = nil
	if _, err := read(ctx, c, "b3"); err != nil {
		t.Error(err)
	}
	g.want(t, "carla: read 3 to slot 3")
	d, err := c.BeginDraft(ctx, hash("b1"), 40, state.DraftOptions{Owner: "carla"})
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range d.All(ctx, nil, nil) {
		if err != nil {
			t.Error(err)
		}
	}
	if err := d.Drop(); err != nil {
		t.Error(err)
	}
	g.want(t, "carla: read 1 to slot 1")
	shared, err := c.View(ctx, hash("b2"))
	if err != nil {
		t.Fatal(err)
	}
	defer shared.Close()
	who := "carla" // who opened the state
	if cache > 0 {
		who = "albert" // the first one who needs more than the cache
	}
	if _, err := shared.Size(context.WithValue(context.Background(), clientKey{}, "albert")); err != nil {
		t.Error(err)
	}
	g.want(t, who+": read 2 to slot 2")
	if g.done != 3 {
		t.Errorf("%d replays were done, want 3", g.done)
	}
	c.GuardReplays(nil)
	if _, err := c.Import(ctx, b); err != nil {
		t.Error(err)
	}
	g.want(t)
}

// read walks over the state at a block.
func read(ctx context.Context, c *chain, name string) (forks.Block, error) {
	v, err := c.View(ctx, hash(name))
	if err != nil {
		return forks.Block{}, err
	}
	defer v.Close()
	_, err = v.Size(ctx)
	return v.Block(), err
}

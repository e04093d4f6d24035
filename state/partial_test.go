package state_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"accessor/checkpoint"
	"accessor/state"
	"accessor/state/merkle"
)

// grown is a chain with forks, and a newcomer that has the same blocks.
func grown(t *testing.T, e engineCase) (*chain, *newcomer) {
	t.Helper()
	c := newChain(t, e, small)
	n := c.newcomer(t, small)
	c.grow("alfred", "benny", "chase", "dian", "elly")
	c.grow("benny", "boris", "claire")
	n.follow("benny", "chase", "dian", "elly", "boris", "claire")
	return c, n
}

func TestPartialStates(t *testing.T) {
	overEngines(t, func(t *testing.T, e engineCase) {
		_, n := grown(t, e)
		n.wantStates()
		n.reopen()
		if !n.Partial() {
			t.Fatal("reopened, the store is complete")
		}
		n.wantStates()
		n.wantProblems()
		if s := n.PartialStats(); !s.Partial || s.Fetches == 0 || s.Rejected+s.Failed+s.Unkept > 0 {
			t.Errorf("%+v", s)
		}
	})
}

// What was fetched once is there without peers, also after a restart and for other
// blocks; what wasn't is an error of its own kind, and absence needs a proof as well.
func TestPartialReadsKeepWhatTheyFetched(t *testing.T) {
	for _, cached := range []bool{true, false} {
		t.Run(fmt.Sprint("cached ", cached), func(t *testing.T) {
			_, n := grown(t, engines[0])
			if !cached {
				n.cfg.CacheBytes = 0
				n.reopen()
			}
			tier := func(at, text string) state.Tier {
				t.Helper()
				v, err := n.View(context.Background(), hash(at))
				if err != nil {
					t.Fatal(err)
				}
				defer v.Close()
				_, _, tier, err := v.AppendGetTier(context.Background(), nil, []byte(key(text)))
				if err != nil {
					t.Fatal(err)
				}
				return tier
			}
			if got := tier("dian", "anchor 17"); got != state.TierPeer {
				t.Errorf("first read: %v", got)
			}
			n.wantGet("dian", "never written")
			n.peers.be(gone)
			if got := tier("elly", "last writer"); got != state.TierCheckpoint {
				t.Errorf("what a block wrote: %v", got)
			}
			for range 2 {
				for _, at := range []string{"dian", "alfred"} {
					n.wantGet("dian", "anchor 17")
					n.wantGet("dian", "never written")
					n.wantGet(at, "last writer")
				}
				for _, text := range []string{"anchor 13", "anchor 5"} {
					if err := n.get("alfred", text); !errors.Is(err, state.ErrNotFetched) || !errors.Is(err, errGone) {
						t.Errorf("%s: %v, want ErrNotFetched", text, err)
					}
				}
				n.reopen()
			}
			n.peers.be(honest)
			n.wantGet("alfred", "anchor 13")
			n.cfg.Fetcher = nil
			n.reopen()
			if err := n.get("alfred", "anchor 5"); !errors.Is(err, state.ErrNotFetched) {
				t.Errorf("without a fetcher: %v", err)
			}
		})
	}
}

func TestPartialImportsVerifyRoots(t *testing.T) {
	c, n := grown(t, engines[0])
	wrong := c.block("wrong", "elly")
	root := hash("no root")
	wrong.PostRoot = &root
	n.refuse(wrong, state.ErrWrongRoot)
	c.accept(c.block("fred", "elly"))
	for m, want := range map[manner]error{gone: errGone, lying: merkle.ErrProof, stalling: context.DeadlineExceeded} {
		fresh := c.newcomer(t, small) // knows nothing
		fresh.peers.be(m)
		fresh.cfg.FetchTimeout = 50 * time.Millisecond
		fresh.reopen()
		err := fresh.refuse(c.node("benny").block, state.ErrNotFetched)
		if !errors.Is(err, want) {
			t.Errorf("peers are %d: %v, want %v", m, err, want)
		}
		fresh.peers.be(honest)
		fresh.follow("benny", "chase")
	}
	n.follow("fred")
	n.wantState("fred")
	// Peers that don't have the parent prove what they can at its ancestors.
	own := n.block("own", "fred")
	for range 12 {
		n.accept2(own)
		own = n.block(nameOf(own.Hash)+"x", nameOf(own.Hash))
	}
}

// accept2 imports a block that only the newcomer has.
func (n *newcomer) accept2(b *state.Block) {
	n.t.Helper()
	res, err := n.Import(context.Background(), b)
	if err != nil {
		n.t.Fatal(err)
	}
	n.take(b)
	if res.Block.Root != n.node(nameOf(b.Hash)).root {
		n.t.Fatalf("root of %s is %s", nameOf(b.Hash), res.Block.Root)
	}
}

// A thousand readers of one missing key make one request; one of them who gives up
// leaves the others alone.
func TestOneFetchForAll(t *testing.T) {
	_, n := grown(t, engines[0])
	hold := make(chan struct{})
	n.peers.hold.Store(&hold)
	before := n.peers.asked.Load()
	v, err := n.View(context.Background(), hash("elly"))
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	first, giveUp := context.WithCancel(context.Background())
	k := key("anchor 15")
	gaveUp := make(chan error, 1)
	go func() {
		_, _, _, err := v.AppendGetTier(first, nil, []byte(k))
		gaveUp <- err
	}()
	n.until("the first request", func() bool { return n.peers.asked.Load() > before })
	var readers sync.WaitGroup
	errs := make(chan error, 1000)
	for i := range 1000 {
		readers.Go(func() {
			if i%2 == 0 {
				errs <- n.get("elly", "anchor 15")
				return
			}
			values, err := v.MultiGet(context.Background(), [][]byte{[]byte(k)})
			if err == nil && string(values[0]) != n.node("elly").state[k] {
				err = fmt.Errorf("wrong: %q", values[0])
			}
			errs <- err
		})
	}
	giveUp()
	if err := <-gaveUp; !errors.Is(err, context.Canceled) {
		t.Errorf("who gave up: %v", err)
	}
	time.Sleep(50 * time.Millisecond)
	close(hold)
	readers.Wait()
	close(errs)
	for err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
	if got := n.peers.asked.Load() - before; got > 2 {
		t.Errorf("%d requests", got)
	}
}

// Whatever a fetcher gives, no answer is wrong.
func TestLyingPeers(t *testing.T) {
	for i, l := range lies {
		t.Run(l.name, func(t *testing.T) {
			c, n := grown(t, engines[0])
			n.peers.lie.Store(int32(i))
			n.peers.be(lying)
			v, err := n.View(context.Background(), hash("alfred"))
			if err != nil {
				t.Fatal(err)
			}
			defer v.Close()
			for i := range 20 {
				if err := n.get("alfred", fmt.Sprint("anchor ", i)); err != nil && !errors.Is(err, merkle.ErrProof) {
					t.Fatal(err)
				}
			}
			for _, at := range []string{"alfred", "elly"} {
				if err := n.compare(n.node(at)); err == nil || !errors.Is(err, state.ErrNotFetched) {
					t.Errorf("all of %s: %v", at, err)
				}
			}
			if s := n.PartialStats(); s.Rejected == 0 {
				t.Errorf("%+v", s)
			}
			ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
			defer cancel()
			if err := n.Fill(ctx, state.FillOptions{}); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("fill: %v", err)
			}
			n.peers.be(honest)
			c.grow("elly", "fred")
			n.follow("fred")
			n.wantStates()
		})
	}
}

func TestWhatAPartialStoreCantDo(t *testing.T) {
	_, n := grown(t, engines[0])
	ctx := context.Background()
	v, err := n.View(ctx, hash("elly"))
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	pin, err := n.Pin(hash("elly"), "tester", time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	_, _, backwards := v.Page(ctx, state.ScanOptions{Reverse: true})
	_, rootErr := n.Root(ctx, hash("elly"))
	_, dirErr := n.PinDirectory(ctx, pin.ID, state.PinAccess{})
	for what, err := range map[string]error{"scan backwards": backwards, "recompute a root": rootErr, "pin a directory": dirErr} {
		if !errors.Is(err, state.ErrPartial) {
			t.Errorf("%s: %v, want ErrPartial", what, err)
		}
	}
	if made, err := n.Reseal(ctx, nil); made != 0 || err != nil {
		t.Errorf("reseal: %d, %v", made, err)
	}
	if err := n.Warm(ctx, hash("elly")); err != nil {
		t.Errorf("warm: %v", err)
	}
	if _, err := n.Finalize(ctx, hash("dian")); err != nil {
		t.Fatal(err)
	}
	if done, err := n.Retain(ctx); err != nil || done.Pruned+done.Thin > 0 {
		t.Errorf("retain: %+v, %v", done, err)
	}
	n.wantStates()
	if _, err := state.CreatePartial(state.Config{Dir: t.TempDir(), Engine: n.cfg.Engine, Commitment: state.None{}}, n.anchor); !errors.Is(err, state.ErrNoTrie) {
		t.Errorf("without roots: %v", err)
	}
	beside, err := state.OpenBeside(n.cfg.Dir, n.cfg.Engine)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := beside.View(ctx, hash("elly")); !errors.Is(err, state.ErrPartial) {
		t.Errorf("beside: %v", err)
	}
}

func TestPartialDerivedReads(t *testing.T) {
	c, n := grown(t, engines[0])
	ctx := context.Background()
	for _, pair := range [][2]string{{"elly", "claire"}, {"alfred", "elly"}, {"claire", "benny"}} {
		want, _, err := c.Diff(ctx, hash(pair[0]), hash(pair[1]))
		if err != nil {
			t.Fatal(err)
		}
		got, _, err := n.Diff(ctx, hash(pair[0]), hash(pair[1]))
		if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("diff of %v: %v, %v; want %v", pair, got, err, want)
		}
	}
	for _, text := range []string{"anchor 1", "anchor 11", "last writer", "nobody"} {
		want, err := c.History(ctx, hash("elly"), []byte(key(text)), 0)
		if err != nil {
			t.Fatal(err)
		}
		got, err := n.History(ctx, hash("elly"), []byte(key(text)), 0)
		if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("history of %s: %v, %v; want %v", text, got, err, want)
		}
	}
	b := c.block("fred", "elly")
	v, err := n.View(ctx, hash("elly"))
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	if root, err := v.RootAfter(b.Puts, b.Dels); err != nil || root != *b.PostRoot {
		t.Errorf("root after: %s, %v", root, err)
	}
	d, err := n.BeginDraft(ctx, hash("elly"), 30, state.DraftOptions{Owner: "tester"})
	if err != nil {
		t.Fatal(err)
	}
	deleted, err := d.DeletePrefix(context.Background(), nil)
	if err != nil || deleted != len(c.node("elly").state) {
		t.Errorf("deleted %d, %v", deleted, err)
	}
	if err := d.Put([]byte(key("only")), []byte("one")); err != nil {
		t.Fatal(err)
	}
	res, err := d.Commit(ctx, hash("draft"), nil, nil)
	if want := (contents{key("only"): "one"}).root(t); err != nil || res.Block.Root != want {
		t.Errorf("draft: %+v, %v, want root %s", res, err, want)
	}
}

// Whoever has a deadline waits no longer for peers, however long a fetch may take.
func TestPartialReadsKeepDeadlines(t *testing.T) {
	c, n := grown(t, engines[0])
	n.cfg.FetchTimeout = time.Minute
	n.reopen()
	long := c.block("fred", "elly") // writes what was too long for its leaf
	long.Puts = append(long.Puts, state.Pair{Key: []byte(key("anchor 15")), Value: []byte("new")})
	c.accept(c.declare(long, "elly"))
	n.follow("fred")
	v, err := n.View(context.Background(), hash("elly"))
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	d, err := n.BeginDraft(context.Background(), hash("elly"), 30, state.DraftOptions{})
	if err != nil {
		t.Fatal(err)
	}
	k, other := []byte(key("anchor 5")), &state.Block{Hash: hash("other"), Parent: hash("elly"), Slot: 29}
	for i := range 20 {
		other.Dels = append(other.Dels, []byte(key(fmt.Sprint("anchor ", i))))
	}
	n.peers.be(stalling)
	for what, read := range map[string]func(ctx context.Context) error{
		"get":   func(ctx context.Context) error { _, _, _, err := v.AppendGetTier(ctx, nil, k); return err },
		"many":  func(ctx context.Context) error { _, err := v.MultiGet(ctx, [][]byte{k}); return err },
		"page":  func(ctx context.Context) error { _, _, err := v.Page(ctx, state.ScanOptions{}); return err },
		"prove": func(ctx context.Context) error { _, err := v.ProveWithin(ctx, [][]byte{k}, state.Bound{}); return err },
		"prove range": func(ctx context.Context) error {
			_, err := v.ProveRangeWithin(ctx, merkle.RangeRequest{MaxSize: 9}, state.Bound{})
			return err
		},
		"diff":        func(ctx context.Context) error { _, _, err := n.Diff(ctx, hash("elly"), hash("fred")); return err },
		"history":     func(ctx context.Context) error { _, err := n.History(ctx, hash("elly"), k, 0); return err },
		"draft get":   func(ctx context.Context) error { _, _, err := d.Get(ctx, k); return err },
		"draft has":   func(ctx context.Context) error { _, err := d.Has(ctx, k); return err },
		"draft clear": func(ctx context.Context) error { _, err := d.DeletePrefix(ctx, nil); return err },
		"import":      func(ctx context.Context) error { _, err := n.Import(ctx, other); return err },
	} {
		var asked atomic.Bool
		ctx, cancel := context.WithTimeout(state.NoteAsking(context.Background(), &asked), 30*time.Millisecond)
		began := time.Now()
		err := read(ctx)
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(began) > 20*time.Second {
			t.Errorf("%s: after %v: %v", what, time.Since(began), err)
		}
		if !asked.Load() {
			t.Errorf("%s asked nobody", what)
		}
	}
}

// Who answers peers doesn't ask them.
func TestLocally(t *testing.T) {
	_, n := grown(t, engines[0])
	v, err := n.View(state.Locally(context.Background()), hash("elly"))
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	asked := n.peers.asked.Load()
	k := []byte(key("anchor 17"))
	_, _, getErr := v.Get(k)
	_, manyErr := v.MultiGet(state.Locally(context.Background()), [][]byte{k})
	_, proveErr := v.Prove([][]byte{k})
	_, rangeErr := v.ProveRange(merkle.RangeRequest{End: [merkle.KeySize]byte{0xff}, MaxSize: 100})
	for what, err := range map[string]error{"get": getErr, "many": manyErr, "prove": proveErr, "range": rangeErr} {
		if !errors.Is(err, state.ErrNotFetched) {
			t.Errorf("%s: %v, want ErrNotFetched", what, err)
		}
	}
	if value, _, err := v.Get([]byte(key("last writer"))); err != nil || string(value) != "elly" {
		t.Errorf("what is here: %q, %v", value, err)
	}
	if more := n.peers.asked.Load() - asked; more != 0 {
		t.Errorf("peers were asked %d times", more)
	}
}

// A disk that fails costs readers nothing; it is counted, and asked for again. An
// import writes nothing then.
func TestAbsorbThatFails(t *testing.T) {
	c, n := grown(t, engines[0])
	n.hook.set(func(call checkpoint.FileCall) error {
		if call.Op == "write" && strings.HasSuffix(call.Path, "/kept") {
			return errFault
		}
		return nil
	})
	n.cfg.CacheBytes = 0
	n.reopen()
	for i := range 20 {
		n.wantGet("alfred", fmt.Sprint("anchor ", i))
	}
	n.until("the failure to be counted", func() bool { return n.PartialStats().Unkept > 0 })
	c.grow("elly", "fred")
	n.refuse(c.node("fred").block, errFault)
	n.hook.set(nil)
	n.follow("fred")
	n.wantStates()
}

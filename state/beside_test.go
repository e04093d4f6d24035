package state_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"accessor/checkpoint"
	"accessor/forks"
	"accessor/state"
)

// beside opens a reader beside the chain's accessor, with an engine of its own.
func (c *chain) beside() *state.Beside {
	c.t.Helper()
	engine, closeEngine := c.engine.open()
	c.t.Cleanup(closeEngine)
	b, err := state.OpenBeside(c.cfg.Dir, engine)
	if err != nil {
		c.t.Fatal(err)
	}
	return b
}

// offered gives the hashes that an error of Resolve offers.
func offered(err error) (out []forks.Hash) {
	var no *state.NoBlockError
	var many *state.AmbiguousError
	switch {
	case errors.As(err, &no) && no.Nearest != nil:
		out = append(out, no.Nearest.Hash)
	case errors.As(err, &many):
		for _, b := range many.Candidates {
			out = append(out, b.Hash)
		}
		slices.SortFunc(out, forks.Hash.Compare)
	}
	return out
}

func kindOf(err error) string {
	for _, kind := range []error{state.ErrBadName, state.ErrUnknownBlock, state.ErrAmbiguous, checkpoint.ErrHeads} {
		if errors.Is(err, kind) {
			return kind.Error()
		}
	}
	return fmt.Sprint(err)
}

// Whatever name is given, the reader finds the block that the owner finds.
func TestBesideResolvesAsTheOwnerDoes(t *testing.T) {
	overEngines(t, func(t *testing.T, e engineCase) {
		c := forest(t, e)
		c.wantHeads("b70a", "b50", "root10")
		b := c.beside()
		texts := []string{"head", "finalized", "anchor", "genesis", "", "0x", "HEAD", " 30", "-30", "3_0", "abcdef0", "abcdefgh",
			"abcdef01", "abcdef0102", "abcdef01f", "0x12345678", "12345678", "0x00000030", "00000030", "0x" + strings.Repeat("5", 20),
			strings.Repeat("5", 64), strings.Repeat("a", 1<<20), "4294967294", "4294967295", "4294967296", strings.Repeat("f", 64)}
		for slot := range 90 {
			texts = append(texts, fmt.Sprint(slot))
		}
		for _, n := range c.held() {
			h := n.block.Hash.String()
			texts = append(texts, h, "0x"+h, "0x"+h[:8], strings.ToUpper(h[:11]), h[:63], h+"0")
		}
		for _, text := range texts {
			want, wantErr := c.Resolve(text)
			got, err := b.Resolve(text)
			label := text[:min(len(text), 80)]
			if kindOf(err) != kindOf(wantErr) || err == nil && got != want.Hash {
				t.Errorf("resolve %q: %q, %v; the owner: %q, %v", label, nameOf(got), err, nameOf(want.Hash), wantErr)
			}
			if err != nil && (err.Error() != wantErr.Error() || !slices.Equal(offered(err), offered(wantErr))) {
				t.Errorf("resolve %q: %v; the owner: %v", label, err, wantErr)
			}
		}
	})
}

// Without HEADS, hashes and slots still name blocks, as far as they are alone.
func TestBesideWithoutHeads(t *testing.T) {
	path := func(c *chain) string { return filepath.Join(c.cfg.Dir, "HEADS") }
	for name, spoil := range map[string]func(c *chain) error{
		"missing": func(c *chain) error { return os.Remove(path(c)) },
		"garbled": func(c *chain) error {
			return os.WriteFile(path(c), []byte(`{"format":"accessor-heads/1","head"`), 0o644)
		},
		"long": func(c *chain) error { return os.Truncate(path(c), 1<<30) },
	} {
		t.Run(name, func(t *testing.T) {
			c := forest(t, engines[0])
			c.wantHeads("b70a", "b50", "root10")
			if err := spoil(c); err != nil {
				t.Fatal(err)
			}
			b := c.beside()
			for _, text := range []string{"head", "finalized", "anchor", "genesis"} {
				if h, err := b.Resolve(text); !errors.Is(err, checkpoint.ErrHeads) || !strings.Contains(err.Error(), "by its slot or hash") {
					t.Errorf("resolve %s: %q, %v", text, nameOf(h), err)
				}
			}
			for text, want := range map[string]string{"20": "b20", "40": "l40", "60": "b60", hash("l30").String(): "l30", "abcdef0102": "\xab\xcd\xef\x01\x02same"} {
				if h, err := b.Resolve(text); err != nil || nameOf(h) != want {
					t.Errorf("resolve %s: %q, %v, want %s", text, nameOf(h), err, want)
				}
			}
			for text, want := range map[string]error{"30": state.ErrAmbiguous, "70": state.ErrAmbiguous, "65": state.ErrUnknownBlock, "65x": state.ErrBadName} {
				if h, err := b.Resolve(text); !errors.Is(err, want) {
					t.Errorf("resolve %s: %q, %v, want %v", text, nameOf(h), err, want)
				}
			}
		})
	}
}

// Where a record is gone, nothing tells which blocks below it are canonical: a
// lost block is not taken for one.
func TestBesideWithAGapInTheRecords(t *testing.T) {
	c := forest(t, engines[0])
	c.wantHeads("b70a", "b50", "root10")
	n := c.node("b30").block
	delta := filepath.Join(c.cfg.Dir, "deltas", checkpoint.Name(forks.Block{Hash: n.Hash, Slot: n.Slot})+".sst")
	if err := os.Remove(delta); err != nil {
		t.Fatal(err)
	}
	resolve := func(text, want string, kind error) {
		t.Helper()
		h, err := c.beside().Resolve(text)
		if !errors.Is(err, kind) || err == nil && nameOf(h) != want {
			t.Errorf("resolve %s: %q, %v; want %q, %v", text, nameOf(h), err, want, kind)
		}
	}
	resolve("20", "b20", nil) // its checkpoint has the record too
	c.spoil(prune, "b30")
	resolve("50", "b50", nil)
	resolve("40", "", state.ErrAmbiguous) // only l40 is left to be it
	resolve("20", "", state.ErrAmbiguous)
	resolve("49", "", state.ErrUnknownBlock)
	resolve("60", "b60", nil)
	resolve("9", "", state.ErrUnknownBlock)
}

// compareBeside compares a state, as it is read beside the owner, with the
// model's.
func compareBeside(b *state.Beside, n *node) error {
	v, err := b.View(context.Background(), n.block.Hash)
	if err != nil {
		return err
	}
	defer v.Close()
	want := forks.Block{Hash: n.block.Hash, Parent: n.block.Parent, Slot: n.block.Slot, Root: n.root}
	if got := v.Block(); got != want {
		return fmt.Errorf("view at %s is of block %+v", n.name, got)
	}
	kv := make(contents)
	for p, err := range v.All(nil, nil) {
		if err != nil {
			return err
		}
		kv[string(p.Key)] = string(p.Value)
	}
	if diff := cmp.Diff(n.state, kv); diff != "" {
		return fmt.Errorf("state at %s (-want +got):\n%s", n.name, diff)
	}
	for _, k := range []string{key("last writer"), key("by " + n.name), key("anchor 3"), key("never written")} {
		value, present, err := v.Get([]byte(k))
		if want, ok := n.state[k]; err != nil || present != ok || string(value) != want {
			return fmt.Errorf("state at %s: key %x: %q, %v, %v, want %q, %v", n.name, k, value, present, err, want, ok)
		}
	}
	return nil
}

func TestBesideErrors(t *testing.T) {
	overEngines(t, func(t *testing.T, e engineCase) {
		c := newChain(t, e, noImages)
		c.grow("alfred", "b1", "b2", "b3")
		b := c.beside()
		c.spoil(prune, "b3")
		if err := compareBeside(b, c.node("b3")); err != nil {
			t.Error(err)
		}
		if _, err := b.View(context.Background(), hash("nobody")); !errors.Is(err, state.ErrUnknownBlock) {
			t.Errorf("unknown: %v", err)
		}
		if _, err := state.OpenBeside(t.TempDir(), c.cfg.Engine); !errors.Is(err, checkpoint.ErrEmpty) {
			t.Errorf("no store: %v", err)
		}
		format := filepath.Join(c.cfg.Dir, "FORMAT")
		text, err := os.ReadFile(format)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(format, []byte(strings.Replace(string(text), `"jam"`, `"other"`, 1)), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := state.OpenBeside(c.cfg.Dir, c.cfg.Engine); !errors.Is(err, state.ErrCommitment) {
			t.Errorf("another commitment: %v", err)
		}
		if err := os.WriteFile(format, text, 0o644); err != nil {
			t.Fatal(err)
		}
	})
}

// TestBesideAnOwnerAtWork lets an owner import, prune checkpoints and seal them
// again while readers beside it read at random blocks and names. Every answer is
// the model's, or says that there is no checkpoint.
func TestBesideAnOwnerAtWork(t *testing.T) {
	overEngines(t, func(t *testing.T, e engineCase) {
		c := newChain(t, e, small)
		c.grow("alfred", "b1")
		seed := uint64(time.Now().UnixNano())
		t.Logf("seed %d", seed)
		any := func(rng *rand.Rand) *node {
			all := c.held()
			return all[rng.IntN(len(all))]
		}
		stop := make(chan struct{})
		var readers sync.WaitGroup
		var reads, missing, heads atomic.Int64
		errs := make(chan error, 8)
		for i := range 3 {
			rng, b := rand.New(rand.NewPCG(seed, uint64(i))), c.beside()
			readers.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
					}
					if err := c.readSome(b, any(rng), &reads, &missing, &heads); err != nil {
						errs <- err
						return
					}
				}
			})
		}
		rng := rand.New(rand.NewPCG(seed, 99))
		dropped := make(map[string]bool)
		for i := range 80 {
			parent := any(rng)
			if rng.IntN(4) > 0 {
				parent = c.newest()
			}
			c.accept(c.block(fmt.Sprint("m", i), parent.name))
			for range 2 {
				n := any(rng)
				switch {
				case n.name == "alfred":
				case dropped[n.name], rng.IntN(2) == 0: // replaced, where it is still there
					c.reseal(n)
					delete(dropped, n.name)
				default:
					c.spoil(prune, n.name)
					dropped[n.name] = true
				}
			}
			if i%20 == 19 {
				c.finalizeLine(c.newest())
			}
		}
		close(stop)
		readers.Wait()
		close(errs)
		for err := range errs {
			t.Error(err)
		}
		t.Logf("%d states read, %d times head, %d times no checkpoint", reads.Load(), heads.Load(), missing.Load())
		if reads.Load() < 10 || heads.Load() == 0 {
			t.Error("the test proves less than it should")
		}
		c.wantStates()
	})
}

// readSome reads a block's state, then the head's, whichever that is.
func (c *chain) readSome(b *state.Beside, n *node, reads, missing, heads *atomic.Int64) error {
	err := compareBeside(b, n)
	switch {
	case err == nil:
		reads.Add(1)
	case errors.Is(err, checkpoint.ErrMissing):
		missing.Add(1)
	default:
		return fmt.Errorf("read %s: %w", n.name, err)
	}
	h, err := b.Resolve("head")
	if err != nil {
		return err
	}
	v, err := b.View(context.Background(), h)
	if errors.Is(err, checkpoint.ErrMissing) {
		missing.Add(1)
		return nil
	}
	if err != nil {
		return fmt.Errorf("read head: %w", err)
	}
	defer v.Close()
	value, present, err := v.Get([]byte(key("last writer")))
	anchor := nameOf(h) == "alfred" // the only one that doesn't write it
	if err != nil || v.Block().Hash != h || present == anchor || present && string(value) != nameOf(h) {
		return fmt.Errorf("head %s was last written by %q, %v", nameOf(h), value, err)
	}
	heads.Add(1)
	got, err := b.Resolve(fmt.Sprint(n.block.Slot))
	switch {
	case errors.Is(err, state.ErrAmbiguous), errors.Is(err, state.ErrUnknownBlock):
		return nil // another one of that slot is canonical, or none
	case err != nil:
		return fmt.Errorf("resolve slot %d: %w", n.block.Slot, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if found := c.nodes[nameOf(got)]; found != nil && found.block.Slot != n.block.Slot {
		return fmt.Errorf("resolve slot %d: %s, of slot %d", n.block.Slot, found.name, found.block.Slot)
	}
	return nil
}

func (c *chain) newest() *node {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.order[len(c.order)-1]
}

// reseal makes a block's checkpoint again from its ancestors' deltas.
func (c *chain) reseal(n *node) {
	c.t.Helper()
	for parent := nameOf(n.block.Parent); ; parent = nameOf(c.node(parent).block.Parent) {
		w, err := c.Store().Clone(hash(parent))
		if err != nil && parent != "alfred" {
			continue // pruned too
		}
		if err == nil {
			err = w.Advance(n.block.Hash)
		}
		if err == nil {
			err = c.Store().Seal(w)
		}
		if err != nil {
			c.t.Fatal(err)
		}
		w.Drop()
		return
	}
}

// finalizeLine finalizes a block where that is possible.
func (c *chain) finalizeLine(n *node) {
	c.t.Helper()
	if _, err := c.Finalize(context.Background(), n.block.Hash); err != nil && !errors.Is(err, state.ErrNotDescendant) {
		c.t.Fatal(err)
	}
}

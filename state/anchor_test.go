package state_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"accessor/checkpoint"
	"accessor/forks"
	"accessor/state"
)

func TestAnchorRefused(t *testing.T) {
	overEngines(t, func(t *testing.T, e engineCase) {
		engine, closeEngine := e.open()
		defer closeEngine()
		kv := contents{key("a"): "1", key("b"): "", key("c"): "3"}
		a, b, d := state.Pair{Key: []byte(key("a"))}, state.Pair{Key: []byte(key("b"))}, errors.New("input ends")
		if bytes.Compare(a.Key, b.Key) > 0 {
			a, b = b, a
		}
		list := func(pairs ...state.Pair) func(func(state.Pair, error) bool) {
			return func(yield func(state.Pair, error) bool) {
				for _, p := range pairs {
					if !yield(p, nil) {
						return
					}
				}
			}
		}
		for _, test := range []struct {
			name   string
			anchor state.Anchor
			want   error
		}{
			{"wrong root", state.Anchor{Root: other, Pairs: kv.pairs()}, state.ErrWrongRoot},
			{"zero root", state.Anchor{Pairs: kv.pairs()}, state.ErrWrongRoot},
			{"empty, wrong root", state.Anchor{Root: other, Pairs: contents{}.pairs()}, state.ErrWrongRoot},
			{"unsorted", state.Anchor{Pairs: list(b, a)}, state.ErrInvalid},
			{"duplicate", state.Anchor{Pairs: list(a, b, b)}, state.ErrInvalid},
			{"key of 30 bytes", state.Anchor{Pairs: list(state.Pair{Key: a.Key[:30]})}, state.ErrInvalid},
			{"empty key", state.Anchor{Pairs: list(state.Pair{})}, checkpoint.ErrLimit},
			{"endless key", state.Anchor{Pairs: list(state.Pair{Key: make([]byte, 1<<20)})}, checkpoint.ErrLimit},
			{"value too long", state.Anchor{Pairs: list(state.Pair{Key: a.Key, Value: make([]byte, 16<<20+1)})}, checkpoint.ErrLimit},
			{"header too long", state.Anchor{Pairs: list(), Header: make([]byte, checkpoint.MaxHeader+1)}, checkpoint.ErrLimit},
			{"input ends early", state.Anchor{Pairs: func(yield func(state.Pair, error) bool) {
				_ = yield(a, nil) && yield(state.Pair{}, d)
			}}, d},
		} {
			t.Run(test.name, func(t *testing.T) {
				dir := t.TempDir()
				t.Cleanup(func() { makeRemovable(dir) })
				cfg := state.Config{Dir: dir, Engine: engine, Commitment: state.JAM{}}
				test.anchor.Hash = hash("anchor")
				if acc, err := state.Create(cfg, test.anchor); !errors.Is(err, test.want) {
					t.Fatalf("create: %v, %v; want %v", acc, err, test.want)
				} else if len(err.Error()) > 2000 {
					t.Errorf("error text of %d bytes", len(err.Error()))
				}
				if _, err := state.Open(cfg); !errors.Is(err, checkpoint.ErrEmpty) {
					t.Errorf("open after that: %v", err)
				}
				for _, d := range []string{"deltas", "images", "checkpoints"} {
					if left, err := os.ReadDir(filepath.Join(dir, d)); err != nil || len(left) != 0 {
						t.Errorf("left in %s: %v, %v", d, left, err)
					}
				}
				// The right one can follow.
				acc, err := state.Create(cfg, state.Anchor{Hash: hash("anchor"), Root: kv.root(t), Pairs: kv.pairs()})
				if err != nil {
					t.Fatal(err)
				}
				if err := acc.Close(); err != nil {
					t.Error(err)
				}
				if _, err := state.Create(cfg, state.Anchor{Hash: hash("anchor"), Root: kv.root(t), Pairs: kv.pairs()}); !errors.Is(err, checkpoint.ErrExists) {
					t.Errorf("create again: %v", err)
				}
			})
		}
	})
}

func TestEmptyAnchor(t *testing.T) {
	overEngines(t, func(t *testing.T, e engineCase) {
		c := newChainFrom(t, e, noImages, "unused", 5)
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		c.cfg.Dir = filepath.Join(t.TempDir(), "deep", "below")
		t.Cleanup(func() { makeRemovable(c.cfg.Dir) })
		acc, err := state.Create(c.cfg, state.Anchor{Hash: hash("void"), Slot: 5, Pairs: contents{}.pairs()})
		if err != nil {
			t.Fatal(err)
		}
		c.Accessor = acc
		c.nodes = map[string]*node{"void": {name: "void", block: &state.Block{Hash: hash("void"), Slot: 5}, state: contents{}}}
		c.wantStates()
		c.grow("void", "b1", "b2")
		c.grow("void", "c1")
		c.wantStates()
		c.reopen()
		c.wantStates()
		if got := c.Anchor(); got != (forks.Block{Hash: hash("void"), Slot: 5}) {
			t.Errorf("anchor %+v", got)
		}
	})
}

func TestStoreRemembersItsCommitment(t *testing.T) {
	c := newChain(t, engines[0], noImages)
	c.grow("alfred", "b1")
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	cfg := c.cfg
	cfg.Commitment = state.None{}
	if acc, err := state.Open(cfg); !errors.Is(err, state.ErrCommitment) {
		t.Errorf("open as another: %v, %v", acc, err)
	}
	cfg.Commitment = nil
	acc, err := state.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if name := acc.Commitment().Name(); name != "jam" {
		t.Errorf("commitment %q", name)
	}
	c.Accessor = acc
	c.wantStates()
	if _, err := state.Create(state.Config{Dir: t.TempDir(), Engine: cfg.Engine}, c.anchor); !errors.Is(err, state.ErrCommitment) {
		t.Errorf("create without a commitment: %v", err)
	}

	// A name that this program doesn't know.
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(cfg.Dir, "FORMAT")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, bytes.Replace(text, []byte("jam"), []byte("verkle"), 1), 0o644); err != nil {
		t.Fatal(err)
	}
	if acc, err := state.Open(cfg); !errors.Is(err, state.ErrCommitment) {
		t.Errorf("open with an unknown commitment: %v, %v", acc, err)
	}
	if err := os.WriteFile(path, text, 0o644); err != nil {
		t.Fatal(err)
	}
	c.reopen()
	c.grow("b1", "b2")
}

// Without a commitment, keys have any form, roots are kept as they are given,
// and images are made all the same, after a new start too.
func TestCommitmentNone(t *testing.T) {
	overEngines(t, func(t *testing.T, e engineCase) {
		for _, asked := range []state.Commitment{state.None{}, nil} {
			engine, closeEngine := e.open()
			dir := t.TempDir()
			t.Cleanup(func() { makeRemovable(dir) })
			opts := small
			cfg := state.Config{Dir: dir, Engine: engine, Commitment: state.None{}, Store: opts}
			acc, err := state.Create(cfg, state.Anchor{Hash: hash("anchor"), Root: hash("root of anchor"), Pairs: contents{"a": "1"}.pairs()})
			if err != nil {
				t.Fatal(err)
			}
			if err := acc.Close(); err != nil {
				t.Fatal(err)
			}
			cfg.Commitment = asked
			if acc, err = state.Open(cfg); err != nil {
				t.Fatal(err)
			}
			c := &chain{Accessor: acc, t: t}
			parent := hash("anchor")
			for i := range 12 {
				root := hash("some root")
				b := &state.Block{Hash: forks.Hash{1, byte(i)}, Parent: parent, Slot: forks.Slot(i + 1), PostRoot: &root,
					Puts: []state.Pair{put("k", i), put(string(make([]byte, 255)), 1)}}
				res, err := acc.Import(context.Background(), b)
				if err != nil || res.Block.Root != root {
					t.Fatalf("%+v, %v", res, err)
				}
				parent = b.Hash
			}
			c.until("an image", func() bool { return acc.Store().Stats().Images.Load() > 0 })
			// The write set is compared, since roots say nothing.
			root := hash("some root")
			b := &state.Block{Hash: parent, Parent: forks.Hash{1, 10}, Slot: 12, PostRoot: &root, Puts: []state.Pair{put("k", 1)}}
			if _, err := acc.Import(context.Background(), b); !errors.Is(err, state.ErrConflict) {
				t.Errorf("other writes: %v", err)
			}
			b.Hash, b.Slot, b.Puts = hash("long"), 13, []state.Pair{put(string(make([]byte, 256)), 1)}
			if _, err := acc.Import(context.Background(), b); !errors.Is(err, checkpoint.ErrLimit) {
				t.Errorf("key of 256 bytes: %v", err)
			}
			if err := acc.Close(); err != nil {
				t.Error(err)
			}
			closeEngine()
		}
	})
}

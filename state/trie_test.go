package state_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"accessor/checkpoint"
	"accessor/checkpoint/checkpointtest"
	"accessor/state"
	"accessor/state/merkle"
)

// checkProofs proves some of a state's keys, some that it doesn't have, and a part
// of it as a range, and checks the proofs against its root.
func checkProofs(v *state.View, n *node) error {
	var keys [][]byte
	for k := range n.state {
		keys = append(keys, []byte(k), []byte(k[:30]+"~"))
		if len(keys) == 6 {
			break
		}
	}
	s, err := v.Prove(keys)
	if err != nil {
		return err
	}
	answer, err := s.Verify(n.root)
	if err != nil {
		return err
	}
	for _, p := range answer.Pairs {
		if want, ok := n.state[string(p.Key[:])]; ok != (p.Value != nil) || string(p.Value) != want {
			return fmt.Errorf("proved key %x as %x, want %x, %v", p.Key, p.Value, want, ok)
		}
	}
	req := merkle.RangeRequest{MaxSize: 2500}
	for i := range req.End {
		req.End[i] = 0xff
	}
	if s, err = v.ProveRange(req); err != nil {
		return err
	}
	answer, err = s.Verify(n.root)
	if err != nil {
		return err
	}
	if !answer.More && len(answer.Pairs) != len(n.state) {
		return fmt.Errorf("a range proof of %d keys, want %d", len(answer.Pairs), len(n.state))
	}
	return nil
}

// watched opens a chain's store again with a log that a test can read.
func (c *chain) watched() *observer.ObservedLogs {
	core, logs := observer.New(zap.DebugLevel)
	c.cfg.Log = zap.New(core)
	c.reopen()
	return logs
}

// After a restart the trie is there: nothing is made again from the state.
func TestTrieOutlivesARestart(t *testing.T) {
	overEngines(t, func(t *testing.T, e engineCase) {
		c := newChain(t, e, small)
		line := []string{"alfred"}
		for i := 1; i <= 25; i++ {
			line = append(line, fmt.Sprintf("b%02d", i))
		}
		c.grow(line...)
		logs := c.watched()
		c.grow("b25", "after", "more")
		c.grow("b07", "fork")
		c.wantStates()
		if n := logs.FilterMessageSnippet("trie").Len(); n > 0 {
			t.Errorf("the trie was made %d times", n)
		}
		if _, full := c.problems(); len(full) > 0 {
			t.Errorf("problems: %v", full)
		}
	})
}

// garbling is an engine whose databases give other trie records, or other values,
// than they hold.
type garbling struct {
	checkpointtest.Engine
	trie, value *atomic.Bool
}

type garblingDB struct {
	checkpoint.WorkingDB
	e garbling
}

type garblingReader struct {
	checkpoint.DB
	e garbling
}

type garblingIterator struct {
	checkpoint.Iterator
	e garbling
}

func (e garbling) OpenWorking(dir string) (checkpoint.WorkingDB, error) {
	db, err := e.Engine.OpenWorking(dir)
	return garblingDB{db, e}, err
}

func (e garbling) OpenReadOnly(dir string) (checkpoint.DB, error) {
	db, err := e.Engine.OpenReadOnly(dir)
	return garblingReader{db, e}, err
}

var anchor7 = key("anchor 7")

// garble changes the last byte of what is to be changed: trie records (tag 2), or
// the value of one key (tag 1).
func (e garbling) garble(key, stored []byte) []byte {
	trie := e.trie.Load() && key[0] == 2
	value := e.value.Load() && key[0] == 1 && string(key[1:]) == anchor7
	if (trie || value) && len(stored) > 1 {
		stored = append([]byte(nil), stored...)
		stored[len(stored)-1] ^= 1
	}
	return stored
}

func (d garblingDB) Get(dst, key []byte) ([]byte, bool, error) {
	v, ok, err := d.WorkingDB.Get(dst, key)
	return d.e.garble(key, v), ok, err
}

func (d garblingDB) Scan(from, to []byte, keep bool) checkpoint.Iterator {
	return garblingIterator{d.WorkingDB.Scan(from, to, keep), d.e}
}

func (d garblingDB) GetMany(keys [][]byte) ([][]byte, error) {
	values, err := d.WorkingDB.GetMany(keys)
	return d.e.garbleAll(keys, values), err
}

func (d garblingReader) GetMany(keys [][]byte) ([][]byte, error) {
	values, err := d.DB.GetMany(keys)
	return d.e.garbleAll(keys, values), err
}

func (e garbling) garbleAll(keys, values [][]byte) [][]byte {
	for i := range values {
		values[i] = e.garble(keys[i], values[i])
	}
	return values
}

func (d garblingReader) Get(dst, key []byte) ([]byte, bool, error) {
	v, ok, err := d.DB.Get(dst, key)
	return d.e.garble(key, v), ok, err
}

func (d garblingReader) Scan(from, to []byte, keep bool) checkpoint.Iterator {
	return garblingIterator{d.DB.Scan(from, to, keep), d.e}
}

func (d garblingDB) ScanBack(from, to []byte) checkpoint.Iterator {
	return garblingIterator{d.WorkingDB.ScanBack(from, to), d.e}
}

func (d garblingReader) ScanBack(from, to []byte) checkpoint.Iterator {
	return garblingIterator{d.DB.ScanBack(from, to), d.e}
}

func (i garblingIterator) Value() []byte { return i.e.garble(i.Key(), i.Iterator.Value()) }

func newGarbledChain(t *testing.T) (*chain, garbling) {
	e := engines[0]
	g := garbling{trie: new(atomic.Bool), value: new(atomic.Bool)}
	e.open = func() (checkpoint.Engine, func()) { return g, func() {} }
	c := newChain(t, e, noImages)
	c.grow("alfred", "b1", "b2")
	return c, g
}

// A trie that is damaged is made again from the state, and comes with the next
// block; proofs are given all the same.
func TestDamagedTrieIsMadeAgain(t *testing.T) {
	c, g := newGarbledChain(t)
	logs := c.watched()
	g.trie.Store(true)
	c.wantStates() // with proofs
	if logs.FilterMessageSnippet("trie that is made from the state").Len() == 0 {
		t.Error("nothing was said of the damage")
	}
	if short, _ := c.problems(); len(short) != 3 {
		t.Errorf("problems %v, want one of each block", short)
	}
	c.accept(c.block("b3", "b2"))
	if logs.FilterMessageSnippet("make the trie again").Len() != 1 {
		t.Errorf("log: %v", logs.All())
	}
	g.trie.Store(false)
	c.reopen()
	logs.TakeAll()
	c.grow("b3", "b4")
	c.wantStates()
	if n := logs.FilterMessageSnippet("trie").Len(); n > 0 {
		t.Errorf("the trie was made %d times more", n)
	}
	if _, full := c.problems(); len(full) > 0 {
		t.Errorf("problems: %v", full)
	}
}

// Verify names the keys in which a state differs from its trie.
func TestVerifySaysWhereAStateDiffers(t *testing.T) {
	c, g := newGarbledChain(t)
	c.reopen()
	g.value.Store(true)
	_, full := c.problems()
	if len(full) != 3 {
		t.Fatalf("problems %v, want one of each block", full)
	}
	k := fmt.Sprintf("%x", anchor7)
	want := fmt.Sprintf("differs first between keys %s and %s", k, k)
	for _, err := range full {
		if !errors.Is(err, state.ErrWrongRoot) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	if _, err := c.Root(context.Background(), hash("b2")); !errors.Is(err, state.ErrWrongRoot) {
		t.Errorf("root: %v", err)
	}
}

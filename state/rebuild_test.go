package state_test

import (
	"context"
	"errors"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"accessor/checkpoint"
	"accessor/checkpoint/checkpointtest"
)

// Many who read at a damaged block at once: all are served, and one makes the
// checkpoint again, once.
func TestRebuiltOnce(t *testing.T) {
	overEngines(t, func(t *testing.T, e engineCase) {
		c := newChain(t, e, noImages)
		c.grow("alfred", "b1", "b2", "b3", "b4")
		c.spoil(remove, "b2", "b3")
		sealed := c.Store().Stats().Sealed.Load()
		var wg sync.WaitGroup
		for range 16 {
			wg.Go(func() {
				if err := c.compare(c.node("b3")); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if got := c.Store().Stats().Sealed.Load() - sealed; got != 1 {
			t.Errorf("the checkpoint of b3 was sealed %d times", got)
		}
		c.wantProblems("b2 missing")
		c.wantStates()
	})
}

// A checkpoint and an image of one block: the image serves where the checkpoint
// is gone, at the anchor too, which has no ancestor.
func TestViewFromImage(t *testing.T) {
	overEngines(t, func(t *testing.T, e engineCase) {
		for _, s := range spoilers {
			c := newChain(t, e, noImages)
			c.grow("alfred", "b1", "b2")
			c.spoil(s, "alfred")
			c.wantState("alfred")
			c.wantWalk(c.accept(c.block("c1", "alfred")), "")
			c.wantStates()
		}
	})
}

// A view while somebody else has the block's slot is served without sealing;
// the next one seals.
func TestRebuildDoesNotWaitForTheSlot(t *testing.T) {
	c := newChain(t, engines[0], noImages)
	c.grow("alfred", "b1", "b2", "b3")
	c.spoil(remove, "b2")
	lease := c.lock(2)
	c.wantState("b2")
	c.wantProblems("b2 missing")
	lease.Release()
	c.reopen()
	c.wantState("b2")
	c.wantProblems()
}

// A block that another process takes while its state is rebuilt is left to it.
func TestLockedWhileRebuilding(t *testing.T) {
	c := newChain(t, engines[0], noImages)
	c.grow("alfred", "b1", "b2")
	c.spoil(addFile, "b2")
	stop := c.haltAt(func(call checkpoint.FileCall) bool { return call.Op == "ingest" })
	viewed := make(chan error, 1)
	go func() { viewed <- c.compare(c.node("b2")) }()
	stop.wait()
	_, leave := c.occupy("b2")
	before := c.listing("checkpoints", "b2")
	stop.free(nil)
	if err := <-viewed; err != nil {
		t.Fatal(err)
	}
	if after := c.listing("checkpoints", "b2"); before != after {
		t.Errorf("the other process's directory was touched: %s, then %s", before, after)
	}
	leave()
}

// sick is an engine whose working databases, once they have caught it, can't be
// read any more; new ones can.
type sick struct {
	checkpointtest.Engine
	outbreak *atomic.Int64
}

type sickDB struct {
	checkpoint.WorkingDB
	outbreak *atomic.Int64
	born     int64
}

type sickIterator struct{ checkpoint.Iterator }

var errSick = errors.New("unreadable")

func (e sick) OpenWorking(dir string) (checkpoint.WorkingDB, error) {
	db, err := e.Engine.OpenWorking(dir)
	return &sickDB{db, e.outbreak, e.outbreak.Load()}, err
}

func (d *sickDB) Scan(from, to []byte, keep bool) checkpoint.Iterator {
	it := d.WorkingDB.Scan(from, to, keep)
	if d.outbreak.Load() > d.born {
		return sickIterator{it}
	}
	return it
}

func (d *sickDB) ScanBack(from, to []byte) checkpoint.Iterator {
	it := d.WorkingDB.ScanBack(from, to)
	if d.outbreak.Load() > d.born {
		return sickIterator{it}
	}
	return it
}

func (d *sickDB) Get(dst, key []byte) ([]byte, bool, error) {
	if d.outbreak.Load() > d.born {
		return dst, false, errSick
	}
	return d.WorkingDB.Get(dst, key)
}

func (d *sickDB) GetMany(keys [][]byte) ([][]byte, error) {
	if d.outbreak.Load() > d.born {
		return nil, errSick
	}
	return d.WorkingDB.GetMany(keys)
}

func (sickIterator) Next() bool     { return false }
func (i sickIterator) Close() error { return errors.Join(i.Iterator.Close(), errSick) }

// An import that can't read its working database fails, writes nothing, and
// doesn't hand the database on to the next.
func TestUnreadableWorkingDatabase(t *testing.T) {
	var outbreak atomic.Int64
	e := engines[0]
	e.open = func() (checkpoint.Engine, func()) {
		return sick{outbreak: &outbreak}, func() {}
	}
	c := newChain(t, e, noImages)
	c.grow("alfred", "b1", "b2")
	outbreak.Add(1)
	b := c.block("b3", "b2")
	c.refuse(b, errSick, b.Hash.String())
	c.wantWalk(c.accept(b), "") // with a clone of the checkpoint
	c.wantStates()
}

// Reading goes on at a block whose checkpoint is dropped while it is read.
func TestDroppedWhileReading(t *testing.T) {
	overEngines(t, func(t *testing.T, e engineCase) {
		c := newChain(t, e, noImages)
		c.grow("alfred", "b1", "b2")
		v, err := c.View(context.Background(), hash("b1"))
		if err != nil {
			t.Fatal(err)
		}
		defer v.Close()
		c.spoil(prune, "b1")
		for range 2 {
			seen := 0
			for p, err := range v.All(nil, nil) {
				if err != nil {
					t.Fatal(err)
				}
				if got, present, err := v.Get(p.Key); err != nil || !present || string(got) != string(p.Value) {
					t.Fatalf("key %x: %x, %v, %v", p.Key, got, present, err)
				}
				seen++
			}
			if want := len(c.node("b1").state); seen != want {
				t.Errorf("%d keys, want %d", seen, want)
			}
		}
		// Ranges, and a walk that is broken off.
		lo, hi := key("by b1"), key("last writer")
		if lo > hi {
			lo, hi = hi, lo
		}
		n, want := 0, 0
		for p, err := range v.All([]byte(lo), []byte(hi)) {
			if k := string(p.Key); err != nil || k < lo || k >= hi {
				t.Errorf("key %x, %v", p.Key, err)
			}
			n++
		}
		for k := range c.node("b1").state {
			if k >= lo && k < hi {
				want++
			}
		}
		if n != want {
			t.Errorf("%d keys in the range, want %d", n, want)
		}
		for range v.All(nil, nil) {
			break
		}
		v.Close()
		v.Close()
	})
}

// A checkpoint that is dropped while an import clones it is an obstacle with its
// reason, not a file that somehow is not there.
func TestDroppedWhileCloned(t *testing.T) {
	overEngines(t, func(t *testing.T, e engineCase) {
		c := newChain(t, e, noImages)
		c.grow("alfred", "b1", "b2", "b3")
		stop := c.haltAt(func(call checkpoint.FileCall) bool {
			return call.Op == "link" && filepath.Base(filepath.Dir(filepath.Dir(call.Path))) == "work"
		})
		fork := c.send(context.Background(), c.block("fork", "b2"))
		stop.wait()
		c.spoil(prune, "b2")
		stop.free(nil)
		res := c.join(fork)
		c.wantNew(res, fork.block)
		c.wantWalk(res, "b1 +1: b2 pruned")
		c.wantStates()
	})
}

// A block that is held without a checkpoint is readable and may have children;
// its checkpoint is made when the store opens.
func TestUnsealedBlock(t *testing.T) {
	overEngines(t, func(t *testing.T, e engineCase) {
		c := newChain(t, e, noImages)
		c.grow("alfred", "b1")
		fault := errors.New("fault")
		for _, name := range []string{"b2", "b3"} {
			b := c.block(name, map[string]string{"b2": "b1", "b3": "b2"}[name])
			sealing := making("seal")
			c.hook.set(func(call checkpoint.FileCall) error {
				if sealing(call) {
					return fault
				}
				return nil
			})
			res, err := c.Import(context.Background(), b)
			c.hook.set(nil)
			if err != nil || !errors.Is(res.Unsealed, fault) {
				t.Fatalf("import %s: %+v, %v", name, res, err)
			}
			c.take(b)
			c.wantHeld(b)
		}
		c.wantProblems("b2 unsealed", "b3 unsealed")
		c.wantWalk(c.accept(c.block("fork", "b3")), "b1 +2: b3 unsealed, b2 unsealed")
		c.reopen()
		c.wantProblems()
		c.grow("b2", "c3")
		c.grow("b3", "c4")
		c.wantStates()
	})
}

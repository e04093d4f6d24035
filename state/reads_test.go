package state_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"accessor/checkpoint"
	"accessor/forks"
	"accessor/state"
)

var readsFor = flag.Duration("reads-for", 0, "how long the model test of reads runs on each engine; default 30 s, 3 s with -short")

// TestReadsModel reads at random blocks, young and old, in every way, while others
// import on random parents, as blocks and as drafts, finalize, prune, pin, drop checkpoints and restart with
// another size of the cache, and compares each answer with plain maps. Views stay
// open over all of that but restarts. There is no stale read and no torn one.
func TestReadsModel(t *testing.T) {
	seed := *seedFlag
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	length := 30 * time.Second
	if testing.Short() {
		length = 3 * time.Second
	}
	if *readsFor > 0 {
		length = *readsFor
	}
	overEngines(t, func(t *testing.T, e engineCase) {
		t.Logf("go test ./state -run TestReadsModel -seed %d", seed)
		m := newReadsModel(t, e, seed)
		did := func() bool { return m.pruned > 0 && m.answers.Load() > 0 && m.misses > 0 && m.archived > 0 }
		for start := time.Now(); !t.Failed(); {
			if took := time.Since(start); took > length && (did() || took > 10*length) {
				break
			}
			m.round()
			m.restart()
		}
		m.checkAll()
		t.Logf("%d blocks, %d archived, %d pruned, %d answers, %d views kept, %d misses of the cache", m.count, m.archived, m.pruned, m.answers.Load(), m.kept.Load(), m.misses)
		if !did() {
			t.Error("the test did not do what it is for")
		}
	})
}

type readsModel struct {
	*chain
	rnd  *rand.Rand
	keys []string

	mu               sync.RWMutex
	blocks           []*plainBlock // that may be held, the anchor first
	count            int
	pruned           int
	misses, archived int64

	answers, kept atomic.Int64
}

type plainBlock struct {
	forks.Block
	parent *plainBlock
	state  contents
}

func (b *plainBlock) on(h forks.Hash) bool {
	for ; b != nil; b = b.parent {
		if b.Hash == h {
			return true
		}
	}
	return false
}

func newReadsModel(t *testing.T, e engineCase, seed uint64) *readsModel {
	c := newChain(t, e, small)
	m := &readsModel{chain: c, rnd: rand.New(rand.NewPCG(seed, 1))}
	anchor := c.node("alfred")
	m.blocks = []*plainBlock{{Block: c.Anchor(), state: anchor.state}}
	for i := range 60 {
		m.keys = append(m.keys, key(fmt.Sprint("key ", i)))
	}
	for i := range 10 {
		m.keys = append(m.keys, key(fmt.Sprint("anchor ", i)))
	}
	m.restart()
	return m
}

// restart closes and opens the store, with another cache.
func (m *readsModel) restart() {
	m.misses += m.CacheMisses()
	m.archived += m.Store().Stats().Archived.Load()
	m.cfg.CacheBytes = []int64{0, 3_000, 1 << 20}[m.rnd.IntN(3)]
	m.cfg.Retention = state.Retention{Slots: forks.Slot(5 + m.rnd.IntN(40)), Step: 4, Sealed: 1 + m.rnd.IntN(8)}
	m.reopen()
	if m.rnd.IntN(2) == 0 {
		<-m.CacheReady()
	}
}

func (m *readsModel) any(rnd *rand.Rand) *plainBlock {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if n := len(m.blocks); n > 8 && rnd.IntN(3) > 0 {
		return m.blocks[n-1-rnd.IntN(8)]
	}
	return m.blocks[rnd.IntN(len(m.blocks))]
}

// nearHead gives the head or one of its ancestors, so that finality goes on.
func (m *readsModel) nearHead(rnd *rand.Rand) *plainBlock {
	head := m.Head().Hash
	m.mu.RLock()
	defer m.mu.RUnlock()
	i := slices.IndexFunc(m.blocks, func(b *plainBlock) bool { return b.Hash == head })
	if i < 0 {
		return m.blocks[len(m.blocks)-1] // the importer hasn't told yet
	}
	b := m.blocks[i]
	for rnd.IntN(3) > 0 && b.parent != nil {
		b = b.parent
	}
	return b
}

func (m *readsModel) round() {
	var busy, readers sync.WaitGroup
	stop := make(chan struct{})
	for range 2 {
		rnd := rand.New(rand.NewPCG(m.rnd.Uint64(), 2))
		readers.Go(func() {
			for !m.t.Failed() {
				select {
				case <-stop:
					return
				default:
					m.read(rnd)
				}
			}
		})
	}
	rnd := rand.New(rand.NewPCG(m.rnd.Uint64(), 3))
	busy.Go(func() {
		for range 60 {
			m.importOne(rnd)
		}
	})
	for range 12 {
		time.Sleep(time.Duration(m.rnd.IntN(8)) * time.Millisecond)
		switch m.rnd.IntN(4) {
		case 0:
			m.finalizeOne()
		case 1:
			if _, err := m.Retain(context.Background()); err != nil {
				m.t.Error(err)
			}
			m.forgetPruned()
		case 2:
			err := m.Store().DropCheckpoint(m.any(m.rnd).Hash)
			if err != nil && !errors.Is(err, checkpoint.ErrUnknown) {
				m.t.Error(err)
			}
		default:
			if p, err := m.Pin(m.any(m.rnd).Hash, "model", 20*time.Millisecond); err == nil && m.rnd.IntN(2) == 0 {
				_ = m.Unpin(p.ID)
			}
		}
	}
	busy.Wait()
	close(stop)
	readers.Wait()
}

// importOne imports a block with random writes on a parent that may be pruned at any
// moment.
func (m *readsModel) importOne(rnd *rand.Rand) {
	parent := m.any(rnd)
	if rnd.IntN(3) > 0 {
		parent = m.nearHead(rnd)
	}
	m.mu.Lock()
	m.count++
	name := fmt.Sprint("r", m.count)
	m.mu.Unlock()
	b := &state.Block{Hash: hash(name), Parent: parent.Hash, Slot: parent.Slot + 1 + forks.Slot(rnd.IntN(2))}
	after := maps.Clone(parent.state)
	written := make(map[string]bool)
	for range rnd.IntN(12) {
		k := m.keys[rnd.IntN(len(m.keys))]
		if written[k] {
			continue
		}
		written[k] = true
		if rnd.IntN(4) == 0 {
			b.Dels = append(b.Dels, []byte(k))
			delete(after, k)
			continue
		}
		v := fmt.Sprint(k, " by ", name, strings.Repeat("x", rnd.IntN(40)))
		b.Puts = append(b.Puts, state.Pair{Key: []byte(k), Value: []byte(v)})
		after[k] = v
	}
	res, err := m.bring(rnd, b)
	if errors.Is(err, state.ErrUnknownParent) {
		if !parent.on(m.Anchor().Hash) {
			return
		}
	}
	if err != nil {
		m.t.Errorf("import %s: %v", name, err)
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.blocks = append(m.blocks, &plainBlock{Block: res.Block, parent: parent, state: after})
}

// bring imports a block, or writes it as a draft and commits that.
func (m *readsModel) bring(rnd *rand.Rand, b *state.Block) (state.Result, error) {
	if rnd.IntN(4) > 0 {
		return m.Import(context.Background(), b)
	}
	d, err := m.BeginDraft(context.Background(), b.Parent, b.Slot, state.DraftOptions{})
	if err != nil {
		return state.Result{}, err
	}
	defer func() { _ = d.Drop() }() // where it isn't over
	for _, p := range b.Puts {
		if err := d.Put(p.Key, p.Value); err != nil {
			return state.Result{}, err
		}
	}
	s, err := d.Savepoint()
	if err == nil {
		_, err = d.DeletePrefix(context.Background(), nil)
	}
	if err == nil {
		err = d.Rollback(s)
	}
	for _, k := range b.Dels {
		err = errors.Join(err, d.Delete(k))
	}
	for _, p := range b.Puts {
		got, present, err := d.Get(context.Background(), p.Key)
		if err != nil || !present || !bytes.Equal(got, p.Value) {
			return state.Result{}, fmt.Errorf("draft reads %q, %t, %w; want %q", got, present, err, p.Value)
		}
	}
	if err != nil {
		return state.Result{}, err
	}
	return d.Commit(context.Background(), b.Hash, nil, nil)
}

func (m *readsModel) finalizeOne() {
	b := m.nearHead(m.rnd)
	if m.rnd.IntN(20) == 0 {
		b = m.any(m.rnd)
	}
	_, err := m.Finalize(context.Background(), b.Hash)
	if err != nil && !errors.Is(err, state.ErrNotDescendant) && !errors.Is(err, state.ErrPruned) {
		m.t.Error(err)
	}
}

// forgetPruned takes out of the model what doesn't descend from the anchor.
func (m *readsModel) forgetPruned() {
	m.mu.Lock()
	defer m.mu.Unlock()
	anchor := m.Anchor().Hash
	before := len(m.blocks)
	m.blocks = slices.DeleteFunc(m.blocks, func(b *plainBlock) bool { return !b.on(anchor) })
	m.pruned += before - len(m.blocks)
	for _, b := range m.blocks {
		if b.Hash == anchor {
			b.parent = nil
		}
	}
}

// read opens views and compares what they say; some stay open for a while.
func (m *readsModel) read(rnd *rand.Rand) {
	type open struct {
		v *state.View
		b *plainBlock
	}
	var views []open
	for range 1 + rnd.IntN(4) {
		b := m.any(rnd)
		v, err := m.View(context.Background(), b.Hash)
		if errors.Is(err, state.ErrPruned) && !b.on(m.Anchor().Hash) {
			continue
		}
		if err != nil {
			m.t.Errorf("view at slot %d: %v", b.Slot, err)
			return
		}
		views = append(views, open{v, b})
	}
	for range 1 + rnd.IntN(6) {
		for _, o := range views {
			if err := m.compareSome(rnd, o.v, o.b); err != nil {
				m.t.Errorf("block %s at slot %d: %v", o.b.Hash, o.b.Slot, err)
			}
			m.answers.Add(1)
		}
		time.Sleep(time.Duration(rnd.IntN(2000)) * time.Microsecond)
	}
	for _, o := range views {
		o.v.Close()
	}
	m.kept.Add(int64(len(views)))
}

func (m *readsModel) compareSome(rnd *rand.Rand, v *state.View, b *plainBlock) error {
	if v.Block() != b.Block {
		return fmt.Errorf("the view is of %+v", v.Block())
	}
	if rnd.IntN(8) == 0 {
		return compareMany(v, b.state)
	}
	ask := make([][]byte, 1+rnd.IntN(10))
	for i := range ask {
		ask[i] = []byte(m.keys[rnd.IntN(len(m.keys))])
	}
	values, err := v.MultiGet(context.Background(), ask)
	if err != nil {
		return err
	}
	for i, k := range ask {
		want, present := b.state[string(k)]
		if (values[i] != nil) != present || string(values[i]) != want {
			return fmt.Errorf("one of many, key %x: %q, want %q, %t", k, values[i], want, present)
		}
		got, ok, err := v.AppendGet([]byte("before "), k)
		if err != nil || ok != present || !bytes.Equal(got, []byte("before "+want)) {
			return fmt.Errorf("key %x: %q, %t, %v; want %q, %t", k, got, ok, err, want, present)
		}
	}
	return nil
}

// checkAll compares all states at the end.
func (m *readsModel) checkAll() {
	m.forgetPruned()
	for _, b := range m.blocks {
		v, err := m.View(context.Background(), b.Hash)
		if err != nil {
			m.t.Errorf("view at slot %d: %v", b.Slot, err)
			continue
		}
		if err := compareMany(v, b.state); err != nil {
			m.t.Errorf("block %s at slot %d: %v", b.Hash, b.Slot, err)
		}
		v.Close()
	}
	m.ReadTree(func(t *forks.Tree) {
		if t.Len() != len(m.blocks) {
			m.t.Errorf("%d blocks are held, want %d", t.Len(), len(m.blocks))
		}
	})
}

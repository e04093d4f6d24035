package state_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"accessor/forks"
	"accessor/state"
)

var (
	seedFlag = flag.Uint64("seed", 0, "seed of the model test; 0 draws one")
	longFlag = flag.Bool("long", false, "run the model test for minutes")
)

// TestModel lets importers, readers, a pruner, a damager and restarts loose on a
// store that makes runs and images all the time, and compares all that it says
// with plain maps. Every table keeps its bytes through all of it.
func TestModel(t *testing.T) {
	seed := *seedFlag
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	rounds := 4
	if *longFlag {
		rounds = 120
	}
	overEngines(t, func(t *testing.T, e engineCase) {
		t.Logf("go test ./state -run TestModel -seed %d", seed)
		m := &model{
			chain: newChain(t, e, small),
			rng:   rand.New(rand.NewPCG(seed, 0)),
			sums:  make(map[string][sha256.Size]byte),
		}
		m.head, m.finalized = m.node("alfred"), m.node("alfred")
		for range rounds {
			m.round()
			m.checkLabels()
			m.checkTables()
			for range 5 {
				m.wantDiff(m.any(m.rng).name, m.any(m.rng).name, "")
			}
			m.damage()
			m.forkAtPruned()
			if m.rng.IntN(2) == 0 {
				m.collectStats()
				m.reopen()
				m.checkLabels()
			}
		}
		m.end()
	})
}

type model struct {
	*chain
	rng             *rand.Rand
	head, finalized *node // head is the finalized block where none is set
	headSet         bool
	sums            map[string][sha256.Size]byte // of each table file

	names                            atomic.Int64
	walkbacks, refused, again, reads atomic.Int64
	runs, images, damaged            int64
}

// any gives a block, rather a young one.
func (m *model) any(rng *rand.Rand) *node {
	m.mu.Lock()
	defer m.mu.Unlock()
	if n := len(m.order); n > 20 && rng.IntN(3) > 0 {
		return m.order[n-1-rng.IntN(20)]
	}
	return m.order[rng.IntN(len(m.order))]
}

// round lets three importers and two readers work side by side while the test
// itself prunes and finalizes.
func (m *model) round() {
	m.t.Helper()
	var importers, readers sync.WaitGroup
	stop := make(chan struct{})
	errs := make(chan error, 8)
	for i := range 3 {
		rng := rand.New(rand.NewPCG(m.rng.Uint64(), uint64(i)))
		importers.Go(func() {
			if err := m.importer(rng); err != nil {
				errs <- err
			}
		})
	}
	for i := range 2 {
		rng := rand.New(rand.NewPCG(m.rng.Uint64(), uint64(i)))
		readers.Go(func() {
			if err := m.reader(rng, stop); err != nil {
				errs <- err
			}
		})
	}
	m.pruneAndLabel()
	importers.Wait()
	close(stop)
	readers.Wait()
	close(errs)
	for err := range errs {
		m.t.Fatal(err)
	}
}

func (m *model) importer(rng *rand.Rand) error {
	tip := m.any(rng)
	for range 20 {
		var err error
		switch n := rng.IntN(20); {
		case n < 2:
			err = m.importRefused(rng)
		case n < 4:
			err = m.importAgain(rng)
		case n < 9:
			tip, err = m.importNew(rng, m.any(rng))
		default:
			tip, err = m.importNew(rng, tip)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// draw makes a block with an arbitrary write set.
func (m *model) draw(rng *rand.Rand, parent *node) *state.Block {
	for parent.block.Slot == forks.MaxSlot {
		parent = m.any(rng)
	}
	name := fmt.Sprintf("m%d", m.names.Add(1))
	b := &state.Block{Hash: hash(name), Parent: parent.block.Hash, Slot: parent.block.Slot + 1}
	switch rng.IntN(20) {
	case 0:
		b.Slot = forks.MaxSlot
	case 1:
		b.Slot += forks.Slot(rng.IntN(3))
	}
	put := make(map[string]bool)
	for range rng.IntN(10) {
		k := key(fmt.Sprint("pool ", rng.IntN(40)))
		put[k] = true
		value := bytes.Repeat([]byte{byte(rng.Uint32())}, rng.IntN(80))
		if rng.IntN(4) == 0 {
			value = []byte(parent.state[k]) // perhaps nothing new
		}
		b.Puts = append(b.Puts, state.Pair{Key: []byte(k), Value: value})
	}
	for range rng.IntN(6) {
		if k := key(fmt.Sprint("pool ", rng.IntN(40))); !put[k] {
			b.Dels = append(b.Dels, []byte(k))
		}
	}
	return m.declare(b, parent.name)
}

func (m *model) importNew(rng *rand.Rand, parent *node) (*node, error) {
	b := m.draw(rng, parent)
	if rng.IntN(4) == 0 {
		b.PostRoot = nil
	}
	if rng.IntN(4) == 0 {
		b.PriorRoot = nil
	}
	res, err := m.Import(context.Background(), b)
	if err != nil || res.Held || res.Unsealed != nil {
		return nil, fmt.Errorf("import %s: %+v, %w", nameOf(b.Hash), res, err)
	}
	if err := m.checkWalk(b, res.WalkBack); err != nil {
		return nil, err
	}
	m.take(b)
	n := m.node(nameOf(b.Hash))
	if res.Block.Root != n.root {
		return nil, fmt.Errorf("import %s: root %s, want %s", n.name, res.Block.Root, n.root)
	}
	return n, nil
}

// checkWalk wants the obstacles to be the blocks from the parent up to just
// below the one that was used.
func (m *model) checkWalk(b *state.Block, w *state.WalkBack) error {
	if w == nil {
		return nil
	}
	m.walkbacks.Add(1)
	at := m.node(nameOf(b.Parent))
	for _, o := range w.Obstacles {
		if o.Block.Hash != at.block.Hash {
			return fmt.Errorf("import %s: obstacle %s where %s should be", nameOf(b.Hash), nameOf(o.Block.Hash), at.name)
		}
		switch why := reason(o.Err); why {
		case "being written", "pruned", "missing", "damaged":
		default:
			return fmt.Errorf("import %s: obstacle at %s: %s", nameOf(b.Hash), at.name, why)
		}
		at = m.node(nameOf(at.block.Parent))
	}
	if w.From.Hash != at.block.Hash || w.Blocks != len(w.Obstacles) || w.Blocks == 0 {
		return fmt.Errorf("import %s: walked back to %s over %d blocks, with %d obstacles below %s",
			nameOf(b.Hash), nameOf(w.From.Hash), w.Blocks, len(w.Obstacles), at.name)
	}
	return nil
}

func (m *model) importRefused(rng *rand.Rand) error {
	m.refused.Add(1)
	b := m.draw(rng, m.any(rng))
	wrong := forks.Hash{byte(rng.Uint32()), 1}
	var want error
	switch rng.IntN(5) {
	case 0:
		b.PostRoot, want = &wrong, state.ErrWrongRoot
	case 1:
		b.PriorRoot, want = &wrong, state.ErrPriorRoot
	case 2:
		b.Parent, want = wrong, state.ErrUnknownParent
	case 3:
		b.Slot, want = m.node(nameOf(b.Parent)).block.Slot, state.ErrSlotOrder
	case 4:
		b.Puts, want = append(b.Puts, put("short", 1)), state.ErrInvalid
	}
	if res, err := m.Import(context.Background(), b); !errors.Is(err, want) {
		return fmt.Errorf("import %s: %+v, %w; want %w", nameOf(b.Hash), res, err, want)
	}
	if _, err := m.Block(b.Hash); !errors.Is(err, state.ErrUnknownBlock) {
		return fmt.Errorf("refused block %s is held", nameOf(b.Hash))
	}
	return nil
}

func (m *model) importAgain(rng *rand.Rand) error {
	m.again.Add(1)
	n := m.any(rng)
	if n.name == "alfred" {
		return nil
	}
	b := *n.block
	if rng.IntN(2) == 0 {
		if res, err := m.Import(context.Background(), &b); err != nil || !res.Held || res.Block.Root != n.root {
			return fmt.Errorf("import %s again: %+v, %w", n.name, res, err)
		}
		return nil
	}
	b.PostRoot, b.Puts = nil, append(slices.Clone(b.Puts), put(key("conflict"), 1))
	if res, err := m.Import(context.Background(), &b); !errors.Is(err, state.ErrConflict) {
		return fmt.Errorf("import other content as %s: %+v, %w", n.name, res, err)
	}
	return nil
}

func (m *model) reader(rng *rand.Rand, stop <-chan struct{}) error {
	for {
		select {
		case <-stop:
			return nil
		default:
		}
		m.reads.Add(1)
		if err := m.compare(m.any(rng)); err != nil {
			return err
		}
		n := m.any(rng)
		if b, err := m.Resolve("0x" + n.block.Hash.String()); err != nil || b.Root != n.root {
			return fmt.Errorf("resolve %s: %+v, %w", n.name, b, err)
		}
	}
}

// pruneAndLabel prunes checkpoints and moves head and finalized, beside the
// importers.
func (m *model) pruneAndLabel() {
	m.t.Helper()
	for range 12 {
		time.Sleep(time.Duration(m.rng.IntN(4)) * time.Millisecond)
		if err := m.Store().DropCheckpoint(m.any(m.rng).block.Hash); err != nil {
			m.t.Error(err)
		}
	}
	n := m.any(m.rng)
	under := m.under(n, m.finalized)
	switch err := m.SetHead(n.block.Hash); {
	case under != (err == nil), err != nil && !errors.Is(err, state.ErrNotDescendant):
		m.t.Errorf("head %s: %v", n.name, err)
	case under:
		m.head, m.headSet = n, true
	}
	// Rarely, and a little below the young ones, so that few branches lose.
	if m.rng.IntN(3) == 0 {
		if n = m.any(m.rng); n.name != "alfred" {
			n = m.node(nameOf(n.block.Parent))
		}
		under = m.under(n, m.finalized)
		_, err := m.Finalize(context.Background(), n.block.Hash)
		switch {
		case under != (err == nil), err != nil && !errors.Is(err, state.ErrNotDescendant):
			m.t.Errorf("finalize %s: %v", n.name, err)
		case under:
			m.finalized = n
			m.headSet = m.headSet && m.under(m.head, n)
		}
	}
}

// under says whether n is a or a descendant of it.
func (m *model) under(n, a *node) bool {
	for n != a {
		if n.name == "alfred" {
			return false
		}
		n = m.node(nameOf(n.block.Parent))
	}
	return true
}

func (m *model) checkLabels() {
	m.t.Helper()
	if b, err := m.Resolve("finalized"); err != nil || nameOf(b.Hash) != m.finalized.name {
		m.t.Fatalf("finalized %s, %v, want %s", nameOf(b.Hash), err, m.finalized.name)
	}
	want := m.head
	if !m.headSet {
		var best forks.Block
		m.ReadTree(func(t *forks.Tree) { best, _ = t.BestLeaf(m.finalized.block.Hash) })
		want = m.node(nameOf(best.Hash))
	}
	if got := nameOf(m.Head().Hash); got != want.name {
		m.t.Fatalf("head %s, want %s", got, want.name)
	}
}

// checkTables wants every delta and every run to be, to the byte, what it was
// when it came.
func (m *model) checkTables() {
	m.t.Helper()
	for _, dir := range []string{"deltas", "runs"} {
		entries, err := os.ReadDir(filepath.Join(m.cfg.Dir, dir))
		if err != nil {
			m.t.Fatal(err)
		}
		for _, e := range entries {
			path := filepath.Join(m.cfg.Dir, dir, e.Name())
			data, err := os.ReadFile(path)
			if err != nil {
				m.t.Fatal(err)
			}
			sum := sha256.Sum256(data)
			if before, ok := m.sums[path]; ok && before != sum {
				m.t.Fatalf("%s has changed", path)
			}
			m.sums[path] = sum
		}
	}
	for _, n := range m.held() {
		path := filepath.Join(m.cfg.Dir, "deltas", filepath.Base(m.dirOf("", n.name))+".sst")
		if _, ok := m.sums[path]; !ok {
			m.t.Fatalf("%s has no delta", n.name)
		}
	}
}

// damage spoils some checkpoints, as somebody else with the same disk does.
func (m *model) damage() {
	for range 12 {
		s := spoilers[m.rng.IntN(len(spoilers))]
		n := m.any(m.rng)
		if _, err := os.Stat(m.dirOf("checkpoints", n.name)); err != nil {
			continue // pruned, or damaged before
		}
		m.spoil(s, n.name)
		m.damaged++
	}
}

// forkAtPruned imports several children of a block without a checkpoint: one may
// find a working database there, the others walk back, or use an image.
func (m *model) forkAtPruned() {
	m.t.Helper()
	n := m.any(m.rng)
	m.spoil(prune, n.name)
	for range 3 {
		if _, err := m.importNew(m.rng, n); err != nil {
			m.t.Fatal(err)
		}
	}
}

func (m *model) collectStats() {
	m.runs += m.Store().Stats().Runs.Load()
	m.images += m.Store().Stats().Images.Load()
}

// end wants all to be well at every block, and the run to have met what it is
// for.
func (m *model) end() {
	m.t.Helper()
	m.collectStats()
	m.reopen()
	m.wantStates()
	m.checkTables()
	if _, err := m.Reseal(context.Background(), nil); err != nil {
		m.t.Error(err)
	}
	m.wantProblems()
	counts := map[string]int64{
		"walk-backs": m.walkbacks.Load(), "refused": m.refused.Load(), "again": m.again.Load(), "reads": m.reads.Load(),
		"runs": m.runs, "images": m.images, "damaged": m.damaged,
	}
	m.t.Logf("%d blocks, %v", len(m.held()), counts)
	for _, what := range slices.Sorted(maps.Keys(counts)) {
		if counts[what] == 0 {
			m.t.Errorf("no %s: the test proves less than it should", what)
		}
	}
}

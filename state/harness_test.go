package state_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"accessor/checkpoint"
	"accessor/checkpoint/checkpointtest"
	"accessor/forks"
	"accessor/locking"
	"accessor/state"
	"accessor/state/merkle"
)

// engineCase is an engine that the tests run over.
type engineCase struct {
	name string
	open func() (engine checkpoint.Engine, closeEngine func())
	// occupy opens a sealed directory for writing, as another process does.
	occupy func(dir string) error
}

// engines are those of this build; rocks_test.go adds RocksDB where cgo is on.
var engines = []engineCase{{
	name:   "go",
	open:   func() (checkpoint.Engine, func()) { return checkpointtest.Engine{}, func() {} },
	occupy: lockFile,
}}

// overEngines runs a test over each engine.
func overEngines(t *testing.T, f func(t *testing.T, e engineCase)) {
	for _, e := range engines {
		t.Run(e.name, func(t *testing.T) { f(t, e) })
	}
}

// node is what the model knows of a block.
type node struct {
	name  string
	block *state.Block
	root  forks.Hash
	state contents
}

// chain is an accessor with verbs over named blocks, and a model beside it: a
// block's hash is its name's bytes, its write set follows from its name.
type chain struct {
	*state.Accessor
	t      testing.TB
	engine engineCase
	cfg    state.Config
	anchor state.Anchor
	hook   hook

	mu    sync.Mutex // guards what follows
	nodes map[string]*node
	order []*node // as they came
}

// newChain makes a store whose anchor is alfred, at slot 0.
func newChain(t testing.TB, e engineCase, opts checkpoint.Options) *chain {
	t.Helper()
	return newChainFrom(t, e, opts, "alfred", 0)
}

// cacheBytes is the size of the read cache that the tests use. All must pass
// whatever it is: ACCESSOR_TEST_CACHE says off, tiny or large, the default.
func cacheBytes(t testing.TB) int64 {
	switch size := os.Getenv("ACCESSOR_TEST_CACHE"); size {
	case "off":
		return 0
	case "tiny":
		return 2_000
	case "", "large":
		return 1 << 20
	default:
		t.Fatalf("ACCESSOR_TEST_CACHE=%s: want off, tiny or large", size)
		return 0
	}
}

func newChainFrom(t testing.TB, e engineCase, opts checkpoint.Options, anchor string, slot forks.Slot) *chain {
	t.Helper()
	kv := make(contents)
	for i := range 20 {
		kv[key(fmt.Sprint("anchor ", i))] = strings.Repeat("a", i*3)
	}
	return newChainOf(t, e, opts, anchor, slot, kv)
}

func newChainOf(t testing.TB, e engineCase, opts checkpoint.Options, anchor string, slot forks.Slot, kv contents) *chain {
	t.Helper()
	c := &chain{t: t, engine: e, nodes: make(map[string]*node)}
	engine, closeEngine := e.open()
	opts.FileHook = c.hook.ask
	c.cfg = state.Config{Dir: t.TempDir(), Engine: engine, Commitment: state.JAM{}, Store: opts, CacheBytes: cacheBytes(t)}
	root := kv.root(t)
	c.anchor = state.Anchor{Hash: hash(anchor), Slot: slot, Root: root, Pairs: kv.pairs()}
	c.keep(&node{name: anchor, block: &state.Block{Hash: hash(anchor), Slot: slot}, root: root, state: kv})
	var err error
	if c.Accessor, err = state.Create(c.cfg, c.anchor); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		closeEngine()
		makeRemovable(c.cfg.Dir)
	})
	return c
}

// makeRemovable lets t.TempDir remove what the store has sealed.
func makeRemovable(dir string) {
	_ = filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			return os.Chmod(path, 0o755)
		}
		return nil
	})
}

// scan reads the whole state at a block, by its checkpoint.
func (c *chain) scan(name string) error {
	v, err := c.View(context.Background(), hash(name))
	if err != nil {
		return err
	}
	defer v.Close()
	_, err = v.Size(context.Background())
	return err
}

// reopen closes the store and opens it again: without working databases and
// open views.
func (c *chain) reopen() {
	c.t.Helper()
	if err := c.Close(); err != nil {
		c.t.Fatal(err)
	}
	acc, err := state.Open(c.cfg)
	if err != nil {
		c.t.Fatal(err)
	}
	c.Accessor = acc
}

func hash(name string) (h forks.Hash) {
	if copy(h[:], name) != len(name) {
		panic("name of a block is longer than a hash: " + name)
	}
	return h
}

func nameOf(h forks.Hash) string { return strings.TrimRight(string(h[:]), "\x00") }

func names(blocks []forks.Block) string {
	out := make([]string, len(blocks))
	for i, b := range blocks {
		out[i] = nameOf(b.Hash)
	}
	return strings.Join(out, " ")
}

// key gives a state key of 31 bytes.
func key(text string) string {
	sum := sha256.Sum256([]byte(text))
	return string(sum[:merkle.KeySize])
}

func (c *chain) node(name string) *node {
	c.t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	n, ok := c.nodes[name]
	if !ok {
		c.t.Fatalf("the test has no block %q", name)
	}
	return n
}

// held gives the model's blocks, sorted by name.
func (c *chain) held() []*node {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.SortedFunc(maps.Values(c.nodes), func(a, b *node) int { return strings.Compare(a.name, b.name) })
}

// block makes a block under a parent, one slot above it, whose write set
// overwrites, adds and removes.
func (c *chain) block(name, parent string) *state.Block {
	c.t.Helper()
	p := c.node(parent)
	b := &state.Block{
		Hash: hash(name), Parent: p.block.Hash, Slot: p.block.Slot + 1,
		Puts: []state.Pair{
			{Key: []byte(key("last writer")), Value: []byte(name)},
			{Key: []byte(key("by " + name)), Value: bytes.Repeat([]byte(name), 20)},
		},
		Dels: [][]byte{[]byte(key("by " + parent)), []byte(key("anchor " + fmt.Sprint(p.block.Slot%20)))},
	}
	return c.declare(b, parent)
}

// declare states the block's roots.
func (c *chain) declare(b *state.Block, parent string) *state.Block {
	c.t.Helper()
	p := c.node(parent)
	prior, post := p.root, p.state.with(b).root(c.t)
	b.PriorRoot, b.PostRoot = &prior, &post
	return b
}

// take puts a block that was imported into the model.
func (c *chain) take(b *state.Block) {
	c.t.Helper()
	kv := c.node(nameOf(b.Parent)).state.with(b)
	c.keep(&node{name: nameOf(b.Hash), block: b, root: kv.root(c.t), state: kv})
}

func (c *chain) keep(n *node) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.nodes[n.name] = n
	c.order = append(c.order, n)
}

// accept imports a block, which must be new.
func (c *chain) accept(b *state.Block) state.Result {
	c.t.Helper()
	res, err := c.Import(context.Background(), b)
	if err != nil {
		c.t.Fatal(err)
	}
	c.wantNew(res, b)
	return res
}

// wantNew wants an import to have taken the block in.
func (c *chain) wantNew(res state.Result, b *state.Block) {
	c.t.Helper()
	if res.Held || res.Unsealed != nil {
		c.t.Fatalf("import %s: held %v, unsealed %v", nameOf(b.Hash), res.Held, res.Unsealed)
	}
	c.take(b)
	n := c.node(nameOf(b.Hash))
	want := forks.Block{Hash: b.Hash, Parent: b.Parent, Slot: b.Slot, Root: n.root}
	if diff := cmp.Diff(want, res.Block); diff != "" {
		c.t.Fatalf("import %s (-want +got):\n%s", n.name, diff)
	}
}

// grow imports a line of blocks under the first, which is there already, each
// one slot above the one before, and wants no walk-back.
func (c *chain) grow(line ...string) {
	c.t.Helper()
	for i := 1; i < len(line); i++ {
		c.wantWalk(c.accept(c.block(line[i], line[i-1])), "")
	}
}

// reason gives the kind of an obstacle in a word or two.
func reason(err error) string {
	for _, kind := range []struct {
		err  error
		text string
	}{
		{locking.ErrLocked, "being written"},
		{checkpoint.ErrLocked, "locked"},
		{checkpoint.ErrPruned, "pruned"},
		{checkpoint.ErrUnsealed, "unsealed"},
		{checkpoint.ErrMissing, "missing"},
		{checkpoint.ErrDamaged, "damaged"},
	} {
		if errors.Is(err, kind.err) {
			return kind.text
		}
	}
	return err.Error()
}

func obstacles(list []state.Obstacle) string {
	var out []string
	for _, o := range list {
		out = append(out, nameOf(o.Block.Hash)+" "+reason(o.Err))
	}
	return strings.Join(out, ", ")
}

// wantWalk wants an import to have walked back as told: "alfred +2: chris
// pruned, boris locked" is from alfred over two blocks; empty is not at all.
func (c *chain) wantWalk(res state.Result, want string) {
	c.t.Helper()
	got := ""
	if w := res.WalkBack; w != nil {
		got = fmt.Sprintf("%s +%d: %s", nameOf(w.From.Hash), w.Blocks, obstacles(w.Obstacles))
	}
	if got != want {
		c.t.Fatalf("import %s walked back %q, want %q", nameOf(res.Block.Hash), got, want)
	}
}

// footprint is all that an import leaves behind: blocks, deltas, checkpoints.
func (c *chain) footprint() []string {
	c.t.Helper()
	var out []string
	for _, rec := range c.Store().Records() {
		out = append(out, "record "+nameOf(rec.Hash))
	}
	c.ReadTree(func(t *forks.Tree) { out = append(out, fmt.Sprint("tree of ", t.Len())) })
	for _, dir := range []string{"deltas", "checkpoints"} {
		entries, err := os.ReadDir(filepath.Join(c.cfg.Dir, dir))
		if err != nil {
			c.t.Fatal(err)
		}
		for _, e := range entries {
			out = append(out, dir+"/"+e.Name())
		}
	}
	return out
}

// refuse wants a block to be refused, with that error and those words in its
// text, and nothing to be written.
func (c *chain) refuse(b *state.Block, want error, words ...string) error {
	c.t.Helper()
	before := c.footprint()
	res, err := c.Import(context.Background(), b)
	if !errors.Is(err, want) {
		c.t.Fatalf("import %s: %v, want %v", nameOf(b.Hash), err, want)
	}
	if res.Held || res.WalkBack != nil || res.Block != (forks.Block{}) {
		c.t.Fatalf("import %s was refused, with result %+v", nameOf(b.Hash), res)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			c.t.Errorf("error %q doesn't have %q", err, w)
		}
	}
	if diff := cmp.Diff(before, c.footprint()); diff != "" {
		c.t.Fatalf("refusal of %s left something (-before +after):\n%s", nameOf(b.Hash), diff)
	}
	if locks := c.Locks().Locks(); len(locks) != 0 {
		c.t.Fatalf("refusal of %s left locks: %+v", nameOf(b.Hash), locks)
	}
	return err
}

// wantHeld wants a block to be answered as held, and nothing to be written.
func (c *chain) wantHeld(b *state.Block) {
	c.t.Helper()
	before := c.footprint()
	res, err := c.Import(context.Background(), b)
	if err != nil || !res.Held {
		c.t.Fatalf("import %s again: held %v, %v", nameOf(b.Hash), res.Held, err)
	}
	if want := c.node(nameOf(b.Hash)); res.Block.Hash != b.Hash || res.Block.Root != want.root {
		c.t.Fatalf("import %s again: held as %+v", nameOf(b.Hash), res.Block)
	}
	if diff := cmp.Diff(before, c.footprint()); diff != "" {
		c.t.Fatalf("import of held %s left something (-before +after):\n%s", nameOf(b.Hash), diff)
	}
}

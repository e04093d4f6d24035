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
	"time"

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

// contents is a state as a plain map.
type contents map[string]string

func (c contents) root(t testing.TB) forks.Hash {
	t.Helper()
	root, err := merkle.Root(func(yield func([]byte, []byte) bool) {
		for _, k := range slices.Sorted(maps.Keys(c)) {
			if !yield([]byte(k), []byte(c[k])) {
				return
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return root
}

// with gives the state after a write set.
func (c contents) with(b *state.Block) contents {
	out := maps.Clone(c)
	for _, p := range b.Puts {
		out[string(p.Key)] = string(p.Value)
	}
	for _, key := range b.Dels {
		delete(out, string(key))
	}
	return out
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

func (c contents) pairs() func(yield func(state.Pair, error) bool) {
	return func(yield func(state.Pair, error) bool) {
		for _, k := range slices.Sorted(maps.Keys(c)) {
			if !yield(state.Pair{Key: []byte(k), Value: []byte(c[k])}, nil) {
				return
			}
		}
	}
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

// flying is an import in another goroutine.
type flying struct {
	block *state.Block
	done  chan struct{}
	res   state.Result
	err   error
}

// send imports a block in another goroutine.
func (c *chain) send(ctx context.Context, b *state.Block) *flying {
	f := &flying{block: b, done: make(chan struct{})}
	go func() {
		defer close(f.done)
		f.res, f.err = c.Import(ctx, b)
	}()
	return f
}

// patience is how long a test waits for what should happen at once.
const patience = 20 * time.Second

// join waits for a sent import, which must succeed.
func (c *chain) join(f *flying) state.Result {
	c.t.Helper()
	if err := c.fate(f); err != nil {
		c.t.Fatal(err)
	}
	return f.res
}

// fate waits for a sent import and gives its error.
func (c *chain) fate(f *flying) error {
	c.t.Helper()
	select {
	case <-f.done:
		return f.err
	case <-time.After(patience):
		c.t.Fatalf("import %s hangs", nameOf(f.block.Hash))
		return nil
	}
}

// wantFlying wants a sent import to wait, as far as a short look shows.
func (c *chain) wantFlying(f *flying) {
	c.t.Helper()
	select {
	case <-f.done:
		c.t.Fatalf("import %s ended instead of waiting: %+v, %v", nameOf(f.block.Hash), f.res, f.err)
	case <-time.After(30 * time.Millisecond):
	}
}

// until waits for a condition.
func (c *chain) until(what string, f func() bool) {
	c.t.Helper()
	for end := time.Now().Add(patience); !f(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			c.t.Fatalf("waited in vain for %s", what)
		}
	}
}

// hook makes the store's file calls stop or fail.
type hook struct {
	mu sync.Mutex
	f  func(checkpoint.FileCall) error
}

func (h *hook) ask(call checkpoint.FileCall) error {
	h.mu.Lock()
	f := h.f
	h.mu.Unlock()
	if f == nil {
		return nil
	}
	return f(call)
}

func (h *hook) set(f func(checkpoint.FileCall) error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.f = f
}

// making matches the creation of a file or folder in tmp/ of that kind: delta,
// seal.
func making(kind string) func(checkpoint.FileCall) bool {
	return func(call checkpoint.FileCall) bool {
		return call.Op == "create" && !call.Applied && strings.HasPrefix(filepath.Base(call.Path), kind+"-")
	}
}

// halt stops the next matching file call midway.
type halt struct {
	c       *chain
	reached chan struct{}
	resume  chan error
	once    sync.Once
}

func (c *chain) haltAt(match func(checkpoint.FileCall) bool) *halt {
	h := &halt{c: c, reached: make(chan struct{}), resume: make(chan error, 1)}
	c.t.Cleanup(func() { h.free(nil) }) // where the test has failed before
	var once sync.Once
	c.hook.set(func(call checkpoint.FileCall) (err error) {
		first := false
		if match(call) {
			once.Do(func() { first = true })
		}
		if first {
			close(h.reached)
			err = <-h.resume
		}
		return err
	})
	return h
}

// wait waits until the call has stopped.
func (h *halt) wait() {
	h.c.t.Helper()
	select {
	case <-h.reached:
	case <-time.After(patience):
		h.c.t.Fatal("nothing came to the halt")
	}
}

// free lets the call go on, or fail with err; only the first time counts.
func (h *halt) free(err error) {
	h.once.Do(func() {
		h.c.hook.set(nil)
		h.resume <- err
	})
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

// wantState wants the whole state at a block to be the model's.
func (c *chain) wantState(name string) {
	c.t.Helper()
	if err := c.compare(c.node(name)); err != nil {
		c.t.Fatal(err)
	}
}

// wantStates wants that of all blocks, and no other block to be held.
func (c *chain) wantStates() {
	c.t.Helper()
	all := c.held()
	for _, n := range all {
		if err := c.compare(n); err != nil {
			c.t.Fatal(err)
		}
	}
	c.ReadTree(func(t *forks.Tree) {
		if t.Len() != len(all) {
			c.t.Fatalf("%d blocks are held, want %d", t.Len(), len(all))
		}
	})
}

// compare compares a state with the model's: the block, a walk over all, and
// single reads of what is there and what isn't.
func (c *chain) compare(n *node) error {
	v, err := c.View(context.Background(), n.block.Hash)
	if err != nil {
		return err
	}
	defer v.Close()
	want := forks.Block{Hash: n.block.Hash, Parent: n.block.Parent, Slot: n.block.Slot, Root: n.root}
	if got := v.Block(); got != want {
		return fmt.Errorf("view at %s is of block %+v", n.name, got)
	}
	kv := make(contents)
	last := ""
	for p, err := range v.All(nil, nil) {
		if err != nil {
			return err
		}
		if string(p.Key) <= last {
			return fmt.Errorf("state at %s: key %x after %x", n.name, p.Key, last)
		}
		last = string(p.Key)
		kv[last] = string(p.Value)
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
	if err := compareMany(v, n.state); err != nil {
		return fmt.Errorf("state at %s: %w", n.name, err)
	}
	return checkProofs(v, n)
}

// compareMany reads several keys at once, and scans in all ways.
func compareMany(v *state.View, want contents) error {
	ctx := context.Background()
	keys := slices.Sorted(maps.Keys(want))
	asked := [][]byte{[]byte(key("never written"))}
	for i := range keys {
		asked = append(asked, []byte(keys[len(keys)-1-i]), []byte(keys[i]))
	}
	values, err := v.MultiGet(ctx, asked)
	if err != nil {
		return err
	}
	present, err := v.HasMany(ctx, asked)
	if err != nil {
		return err
	}
	for i, k := range asked {
		value, ok := want[string(k)]
		has, err := v.Has(k)
		if err != nil || (values[i] != nil) != ok || string(values[i]) != value || present[i] != ok || has != ok {
			return fmt.Errorf("key %x: %q, %t, %t, %v; want %q, %t", k, values[i], present[i], has, err, value, ok)
		}
	}
	var size state.Size
	for k, value := range want {
		size.Keys++
		size.Bytes += int64(len(k) + len(value))
	}
	if got, err := v.Size(ctx); err != nil || got != size {
		return fmt.Errorf("size %+v, %v; want %+v", got, err, size)
	}
	for _, opts := range []state.ScanOptions{
		{}, {Reverse: true}, {Limit: 3}, {Limit: 3, Reverse: true}, {KeysOnly: true, Limit: 2},
		{Prefix: []byte(key("anchor 1")[:8])}, {Prefix: []byte(key("anchor 1")[:8]), Reverse: true, Limit: 1},
		{Prefix: []byte{0xff}}, {From: []byte{0x80}}, {From: []byte{0x40}, To: []byte{0xc0}, Reverse: true, Limit: 4},
		{From: []byte{2}, To: []byte{1}},
	} {
		err := comparePages(ctx, v, want, opts)
		if opts.Reverse && errors.Is(err, state.ErrPartial) {
			continue // peers don't walk backwards
		}
		if err != nil {
			return fmt.Errorf("scan %+v: %w", opts, err)
		}
	}
	return nil
}

// comparePages walks from page to page.
func comparePages(ctx context.Context, v *state.View, want contents, opts state.ScanOptions) error {
	var keys []string
	for _, k := range slices.Sorted(maps.Keys(want)) {
		if strings.HasPrefix(k, string(opts.Prefix)) && k >= string(opts.From) && (opts.To == nil || k < string(opts.To)) {
			keys = append(keys, k)
		}
	}
	if opts.Reverse {
		slices.Reverse(keys)
	}
	for {
		pairs, next, err := v.Page(ctx, opts)
		if err != nil {
			return err
		}
		if opts.Limit > 0 && len(pairs) > opts.Limit || next != nil && len(pairs) == 0 {
			return fmt.Errorf("a page of %d", len(pairs))
		}
		for _, p := range pairs {
			if len(keys) == 0 || string(p.Key) != keys[0] || !opts.KeysOnly && string(p.Value) != want[keys[0]] || opts.KeysOnly && p.Value != nil {
				return fmt.Errorf("pair %x %q; %d keys were to come", p.Key, p.Value, len(keys))
			}
			keys = keys[1:]
		}
		switch {
		case next == nil && len(keys) > 0:
			return fmt.Errorf("%d keys are missing", len(keys))
		case next == nil:
			return nil
		case opts.Reverse:
			opts.To = next
		default:
			opts.From = next
		}
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

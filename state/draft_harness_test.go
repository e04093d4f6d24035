package state_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/google/go-cmp/cmp"

	"accessor/checkpoint"
	"accessor/forks"
	"accessor/state"
	"accessor/state/merkle"
)

// padded gives a state key that begins with a text.
func padded(text string) string { return text + strings.Repeat(".", merkle.KeySize-len(text)) }

// draft is a draft with the state that it should have.
type draft struct {
	*state.Draft
	c      *chain
	parent string
	state  contents
}

// begin begins a draft on a block, one slot above it.
func (c *chain) begin(parent string, opts state.DraftOptions) *draft {
	c.t.Helper()
	p := c.node(parent)
	d, err := c.BeginDraft(context.Background(), p.block.Hash, p.block.Slot+1, opts)
	if err != nil {
		c.t.Fatal(err)
	}
	return &draft{Draft: d, c: c, parent: parent, state: maps.Clone(p.state)}
}

func (d *draft) put(k, value string) {
	d.c.t.Helper()
	if err := d.Put([]byte(k), []byte(value)); err != nil {
		d.c.t.Fatal(err)
	}
	d.state[k] = value
}

func (d *draft) delete(k string) {
	d.c.t.Helper()
	if err := d.Delete([]byte(k)); err != nil {
		d.c.t.Fatal(err)
	}
	delete(d.state, k)
}

func (d *draft) deletePrefix(prefix string) {
	d.c.t.Helper()
	n, err := d.DeletePrefix(context.Background(), []byte(prefix))
	if err != nil {
		d.c.t.Fatal(err)
	}
	want := len(d.state)
	maps.DeleteFunc(d.state, func(k, _ string) bool { return strings.HasPrefix(k, prefix) })
	if want -= len(d.state); n != want {
		d.c.t.Fatalf("deleted %d keys with prefix %q, want %d", n, prefix, want)
	}
}

func (d *draft) info() state.DraftInfo {
	d.c.t.Helper()
	info, err := d.Info()
	if err != nil {
		d.c.t.Fatal(err)
	}
	return info
}

// wantRange compares the pairs in [from, to) with the model's.
func (d *draft) wantRange(from, to string) {
	d.c.t.Helper()
	want := []string{}
	for _, k := range slices.Sorted(maps.Keys(d.state)) {
		if k >= from && (to == "" || k < to) {
			want = append(want, fmt.Sprintf("%x=%x", k, d.state[k]))
		}
	}
	got := []string{}
	for p, err := range d.All(context.Background(), []byte(from), []byte(to)) {
		if err != nil {
			d.c.t.Fatal(err)
		}
		got = append(got, fmt.Sprintf("%x=%x", p.Key, p.Value))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		d.c.t.Fatalf("pairs in [%x, %x) (-want +got):\n%s", from, to, diff)
	}
}

// wantKey compares single reads with the model's.
func (d *draft) wantKey(k string) {
	d.c.t.Helper()
	want, present := d.state[k]
	value, ok, err := d.Get(context.Background(), []byte(k))
	if err != nil || ok != present || string(value) != want {
		d.c.t.Fatalf("key %x: %x, %v, %v, want %x, %v", k, value, ok, err, want, present)
	}
	if ok, err = d.Has(context.Background(), []byte(k)); err != nil || ok != present {
		d.c.t.Fatalf("has key %x: %v, %v, want %v", k, ok, err, present)
	}
}

// commit commits the draft with its right root.
func (d *draft) commit(name string) {
	d.c.t.Helper()
	root := d.state.root(d.c.t)
	res, err := d.Commit(context.Background(), hash(name), &root, nil)
	if err != nil {
		d.c.t.Fatal(err)
	}
	d.committed(name, res)
}

// committed puts what a commit came to into the chain's model.
func (d *draft) committed(name string, res state.Result) {
	d.c.t.Helper()
	p := d.c.node(d.parent)
	b := &state.Block{Hash: hash(name), Parent: p.block.Hash, Slot: p.block.Slot + 1}
	n := &node{name: name, block: b, root: d.state.root(d.c.t), state: d.state}
	want := forks.Block{Hash: b.Hash, Parent: b.Parent, Slot: b.Slot, Root: n.root}
	if diff := cmp.Diff(want, res.Block); diff != "" || res.Held {
		d.c.t.Fatalf("commit %s: held %v (-want +got):\n%s", name, res.Held, diff)
	}
	d.c.keep(n)
	d.wantOver(state.ErrDraftOver)
}

// wantOver wants every method to answer that the draft is over.
func (d *draft) wantOver(kind error) {
	d.c.t.Helper()
	k := []byte(padded("any"))
	for name, call := range map[string]func() error{
		"Info":         func() error { _, err := d.Info(); return err },
		"Get":          func() error { _, _, err := d.Get(context.Background(), k); return err },
		"Has":          func() error { _, err := d.Has(context.Background(), k); return err },
		"All":          func() error { return lastError(d.Draft) },
		"Put":          func() error { return d.Put(k, nil) },
		"Delete":       func() error { return d.Delete(k) },
		"DeletePrefix": func() error { _, err := d.DeletePrefix(context.Background(), nil); return err },
		"Savepoint":    func() error { _, err := d.Savepoint(); return err },
		"Rollback":     func() error { return d.Rollback(1) },
		"Renew":        func() error { return d.Renew(time.Second) },
		"Commit":       func() error { _, err := d.Commit(context.Background(), hash("late"), nil, nil); return err },
		"Drop":         func() error { return d.Drop() },
	} {
		if err := call(); !errors.Is(err, kind) || !strings.Contains(err.Error(), d.ID()) {
			d.c.t.Errorf("%s: error %v, want %v", name, err, kind)
		}
	}
	if _, err := d.c.DraftByID(d.ID()); !errors.Is(err, state.ErrUnknownDraft) {
		d.c.t.Errorf("by its ID: %v", err)
	}
	for _, info := range d.c.Drafts() {
		if info.ID == d.ID() {
			d.c.t.Errorf("still among the drafts: %+v", info)
		}
	}
}

// lastError walks over all and gives the error with which it ended.
func lastError(d *state.Draft) (last error) {
	for _, err := range d.All(context.Background(), nil, nil) {
		last = err
	}
	return last
}

// counting is an engine that counts the databases which are open for reading.
type counting struct {
	checkpoint.Engine
	open *atomic.Int64
}

func (e counting) OpenReadOnly(dir string) (checkpoint.DB, error) {
	db, err := e.Engine.OpenReadOnly(dir)
	if err != nil {
		return nil, err
	}
	e.open.Add(1)
	return countedDB{db, e.open}, nil
}

type countedDB struct {
	checkpoint.DB
	open *atomic.Int64
}

func (db countedDB) Close() error {
	db.open.Add(-1)
	return db.DB.Close()
}

// countViews makes an engine count.
func countViews(e engineCase) (engineCase, *atomic.Int64) {
	n, open := new(atomic.Int64), e.open
	e.open = func() (checkpoint.Engine, func()) {
		engine, closeEngine := open()
		return counting{engine, n}, closeEngine
	}
	return e, n
}

// haltingScans is an engine whose scans stop while there is somebody to wait for.
type haltingScans struct {
	checkpoint.Engine
	scans <-chan chan struct{}
}

func (e haltingScans) OpenReadOnly(dir string) (checkpoint.DB, error) {
	db, err := e.Engine.OpenReadOnly(dir)
	return haltingDB{db, e.scans}, err
}

type haltingDB struct {
	checkpoint.DB
	scans <-chan chan struct{}
}

func (db haltingDB) Scan(from, to []byte, keep bool) checkpoint.Iterator {
	select {
	case resume := <-db.scans:
		<-resume
	default:
	}
	return db.DB.Scan(from, to, keep)
}

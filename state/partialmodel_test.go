package state_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"accessor/checkpoint"
	"accessor/forks"
	"accessor/state"
	"accessor/state/merkle"
)

// TestPartialModel lets a newcomer import forks, and read, at random, while its peers
// lag behind, lie, stall and go away, it restarts, and is filled some time. What it
// answers is the model's, or an error that says that peers didn't help; with honest
// peers it answers everything.
func TestPartialModel(t *testing.T) {
	seed := *seedFlag
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	runs := 3
	if *longFlag {
		runs = 60
	}
	overEngines(t, func(t *testing.T, e engineCase) {
		for run := range runs {
			t.Run(fmt.Sprint(run), func(t *testing.T) {
				t.Logf("go test ./state -run TestPartialModel -seed %d", seed+uint64(run))
				m := newPartialModel(t, e, seed+uint64(run))
				for range 150 {
					m.step()
				}
				m.end()
			})
		}
	})
}

type partialModel struct {
	*newcomer
	full   *chain
	rng    *rand.Rand
	made   []string // that the newcomer has
	behind []string // of these, what its peers don't have yet
	filled chan error

	reads, failed, imported, refused int
}

func newPartialModel(t *testing.T, e engineCase, seed uint64) *partialModel {
	c := newChain(t, e, small)
	m := &partialModel{newcomer: c.newcomer(t, small), full: c, rng: rand.New(rand.NewPCG(seed, 0)), made: []string{"alfred"}}
	m.peers.rng = rand.New(rand.NewPCG(seed, 1))
	m.cfg.FetchTimeout = 40 * time.Millisecond
	if m.rng.IntN(2) == 0 {
		m.cfg.CacheBytes = 0
	}
	m.reopen()
	return m
}

func (m *partialModel) step() {
	m.t.Helper()
	switch n := m.rng.IntN(40); {
	case n < 12:
		m.importOne()
	case n < 30:
		m.readSome()
	case n < 33:
		m.peers.be([]manner{honest, honest, honest, gone, lying, stalling}[m.rng.IntN(6)])
	case n < 36:
		m.peersCatchUp()
	case n < 37 && m.filled == nil:
		m.reopen()
	case n < 38:
		m.prove()
		m.scanOne()
	case n == 38 && m.filled == nil && m.imported > 10:
		m.filled = make(chan error, 1)
		go func() { m.filled <- m.Fill(context.Background(), state.FillOptions{Parallel: 3, PageBytes: 400}) }()
	}
}

// mayFail says whether an error is one that bad peers explain.
func (m *partialModel) mayFail(err error, was manner) bool {
	return errors.Is(err, state.ErrNotFetched) && (was != honest || errors.Is(err, context.DeadlineExceeded))
}

func (m *partialModel) importOne() {
	m.t.Helper()
	parent := m.made[len(m.made)-1]
	if m.rng.IntN(3) == 0 {
		parent = m.made[m.rng.IntN(len(m.made))]
	}
	p := m.node(parent)
	name := fmt.Sprintf("p%d", m.imported+m.refused)
	b := &state.Block{Hash: hash(name), Parent: p.block.Hash, Slot: p.block.Slot + 1 + forks.Slot(m.rng.IntN(2))}
	put := make(map[string]bool)
	for range m.rng.IntN(6) {
		k := m.text()
		if put[k] {
			continue
		}
		put[k] = true
		if m.rng.IntN(2) == 0 {
			b.Dels = append(b.Dels, []byte(key(k)))
		} else {
			b.Puts = append(b.Puts, state.Pair{Key: []byte(key(k)), Value: bytes.Repeat([]byte{byte(m.rng.Uint32())}, m.rng.IntN(80))})
		}
	}
	m.declare(b, parent)
	if m.rng.IntN(8) == 0 {
		wrong := hash("wrong")
		bad := *b
		bad.PostRoot = &wrong
		if _, err := m.Import(context.Background(), &bad); !errors.Is(err, state.ErrWrongRoot) && !errors.Is(err, state.ErrNotFetched) {
			m.t.Fatalf("import with a wrong root: %v", err)
		}
	}
	was := manner(m.peers.manner.Load())
	res, err := m.Import(context.Background(), b)
	if err != nil {
		if !m.mayFail(err, was) {
			m.t.Fatalf("import %s: %v", name, err)
		}
		m.refused++
		return
	}
	m.imported++
	m.take(b)
	if res.Block.Root != m.node(name).root {
		m.t.Fatalf("root of %s is %s, want %s", name, res.Block.Root, m.node(name).root)
	}
	m.made, m.behind = append(m.made, name), append(m.behind, name)
}

// text names a key of the model: of the anchor, of none, or new.
func (m *partialModel) text() string {
	if m.rng.IntN(3) > 0 {
		return fmt.Sprint("anchor ", m.rng.IntN(25))
	}
	return fmt.Sprint("pool ", m.rng.IntN(15))
}

func (m *partialModel) readSome() {
	m.t.Helper()
	at := m.made[m.rng.IntN(len(m.made))]
	was := manner(m.peers.manner.Load())
	v, err := m.View(context.Background(), hash(at))
	if err != nil {
		m.t.Fatal(err)
	}
	defer v.Close()
	var texts []string
	var keys [][]byte
	for range 1 + m.rng.IntN(4) {
		text := m.text()
		texts, keys = append(texts, text), append(keys, []byte(key(text)))
	}
	m.reads++
	values, err := v.MultiGet(context.Background(), keys)
	if err != nil {
		if !m.mayFail(err, was) {
			m.t.Fatalf("read %v at %s: %v", texts, at, err)
		}
		m.failed++
		return
	}
	for i, text := range texts {
		want, ok := m.node(at).state[key(text)]
		if (values[i] != nil) != ok || string(values[i]) != want {
			m.t.Fatalf("wrong: %s at %s is %q, want %q, %v", text, at, values[i], want, ok)
		}
	}
}

// prove wants proofs to verify, whoever made them.
func (m *partialModel) prove() {
	m.t.Helper()
	at := m.made[m.rng.IntN(len(m.made))]
	was := manner(m.peers.manner.Load())
	v, err := m.View(context.Background(), hash(at))
	if err != nil {
		m.t.Fatal(err)
	}
	defer v.Close()
	k := key(m.text())
	s, err := v.Prove([][]byte{[]byte(k)})
	if err != nil {
		if !m.mayFail(err, was) {
			m.t.Fatalf("prove at %s: %v", at, err)
		}
		return
	}
	got, err := merkle.VerifyKeys(m.node(at).root, s.Keys, &s.Proof)
	if want := m.node(at).state[k]; err != nil || string(got[0]) != want {
		m.t.Fatalf("proof at %s: %q, %v, want %q", at, got, err, want)
	}
}

// scanOne walks over the whole state at a block, which peers may lack.
func (m *partialModel) scanOne() {
	m.t.Helper()
	at := m.made[m.rng.IntN(len(m.made))]
	was := manner(m.peers.manner.Load())
	v, err := m.View(context.Background(), hash(at))
	if err != nil {
		m.t.Fatal(err)
	}
	defer v.Close()
	for _, opts := range []state.ScanOptions{{}, {Limit: 3}, {From: []byte{0x40}, To: []byte{0x90}, Limit: 4}} {
		if err := comparePages(context.Background(), v, m.node(at).state, opts); err != nil {
			if !m.mayFail(err, was) {
				m.t.Fatalf("scan %+v of %s: %v", opts, at, err)
			}
			return
		}
	}
}

// peersCatchUp gives peers the next blocks.
func (m *partialModel) peersCatchUp() {
	m.t.Helper()
	for range min(len(m.behind), m.rng.IntN(8)) {
		if _, err := m.full.Import(context.Background(), m.node(m.behind[0]).block); err != nil {
			m.t.Fatal(err)
		}
		m.behind = m.behind[1:]
	}
}

func (m *partialModel) end() {
	m.t.Helper()
	m.peers.be(honest)
	m.scanOne()
	for len(m.behind) > 0 {
		m.peersCatchUp()
	}
	if m.filled != nil {
		if err := <-m.filled; err != nil {
			m.t.Fatal(err)
		}
	}
	m.cfg.FetchTimeout = time.Minute
	if m.filled == nil {
		m.reopen()
		if m.rng.IntN(2) == 0 {
			m.wantStates()
		}
		if err := m.Fill(context.Background(), state.FillOptions{PageBytes: 700}); err != nil {
			m.t.Fatal(err)
		}
	}
	m.wantComplete()
	m.reopen()
	m.wantComplete()
	m.importOne()
	m.wantComplete()
	m.t.Logf("%d blocks, %d refused, %d reads, %d of them failed", m.imported, m.refused, m.reads, m.failed)
}

// TestPartialFaults fails one of the store's own file calls after the other in the life
// of a partial store, from its creation to the blocks after its completion. What was
// acknowledged is there at the next start, which can be filled, and is right.
func TestPartialFaults(t *testing.T) {
	stride := int64(7)
	if *longFlag {
		stride = 1
	} else if testing.Short() {
		stride = 41
	}
	c := newChain(t, engines[0], small)
	c.grow("alfred", "benny", "chase", "dian")
	c.grow("benny", "boris")
	for i, applied := range []bool{false, true} {
		for nth := 1 + int64(i)*stride/2; ; nth += stride {
			f := &fault{nth: nth, applied: applied}
			dir := ladderDir(t)
			acknowledged, err := partialLife(c, dir, f.hook)
			if !f.fired.Load() {
				if err != nil {
					t.Fatalf("without a fault: %v", err)
				}
				t.Logf("%d file calls", nth)
				break
			}
			again, err := partialLife(c, dir, nil)
			if err != nil || len(again) != 5 {
				t.Fatalf("again after the fault at call %d, applied %v: %d blocks, %v", nth, applied, len(again), err)
			}
			if err := checkLife(c, dir, acknowledged); err != nil {
				t.Fatalf("after the fault at call %d, applied %v: %v", nth, applied, err)
			}
			makeRemovable(dir)
		}
	}
}

// partialLife creates or opens a partial store, imports the chain, half of it before it
// is filled, and gives the blocks that were acknowledged.
func partialLife(c *chain, dir string, hook func(checkpoint.FileCall) error) (acknowledged []string, err error) {
	opts := small
	opts.FileHook = hook
	cfg := state.Config{Dir: dir, Engine: c.cfg.Engine, Commitment: state.JAM{}, Store: opts,
		Fetcher: &peers{from: c.Accessor}, FetchTimeout: time.Minute}
	acc, err := state.Open(cfg)
	if errors.Is(err, checkpoint.ErrEmpty) {
		acc, err = state.CreatePartial(cfg, c.anchor)
	}
	if err != nil {
		return nil, err
	}
	acknowledged = append(acknowledged, "alfred")
	var failed error
	for i, name := range []string{"benny", "chase", "boris", "dian"} {
		if i == 3 {
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			failed = errors.Join(failed, acc.Fill(ctx, state.FillOptions{PageBytes: 600}))
			cancel()
		}
		_, err := acc.Import(context.Background(), c.node(name).block)
		if err == nil {
			acknowledged = append(acknowledged, name)
		}
		failed = errors.Join(failed, err)
	}
	return acknowledged, errors.Join(failed, acc.Close())
}

func checkLife(c *chain, dir string, acknowledged []string) error {
	acc, err := state.Open(state.Config{Dir: dir, Engine: c.cfg.Engine})
	if err != nil {
		return err
	}
	defer acc.Close()
	if acc.Partial() {
		return errors.New("the store is partial")
	}
	n := &chain{Accessor: acc, t: c.t, nodes: c.nodes}
	for _, name := range acknowledged {
		if err := n.compare(n.node(name)); err != nil {
			return err
		}
	}
	var wrong []string
	err = acc.Verify(context.Background(), func(b forks.Block, err error) { wrong = append(wrong, err.Error()) }, nil)
	if len(wrong) > 0 {
		err = errors.New(strings.Join(wrong, "; "))
	}
	return err
}

package state_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"accessor/checkpoint"
	"accessor/state"
)

// TestDraftModel writes, deletes, saves and rolls back at random, in drafts upon
// drafts, and compares all that they read with plain maps.
func TestDraftModel(t *testing.T) {
	seed := *seedFlag
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	steps := 400
	if testing.Short() {
		steps = 150
	}
	if *longFlag {
		steps = 20000
	}
	overEngines(t, func(t *testing.T, e engineCase) {
		t.Logf("go test ./state -run TestDraftModel -seed %d", seed)
		opts := noImages
		opts.Limits = checkpoint.Limits{WriteSetSize: 12000} // so that drafts come to it
		m := &draftModel{chain: newChain(t, e, opts), rng: rand.New(rand.NewPCG(seed, 0)), met: make(map[string]int)}
		parent := "alfred"
		for i := range 5 {
			m.draft = m.begin(parent, state.DraftOptions{Owner: "author"})
			m.saved = nil
			for range steps {
				m.step()
			}
			m.wantRange("", "")
			name := fmt.Sprint("m", i)
			m.commit(name)
			m.wantStates()
			if m.rng.IntN(3) > 0 {
				parent = name
			}
		}
		t.Logf("%v", m.met)
		for _, what := range []string{"put", "delete", "prefix", "save", "back", "no such savepoint", "too large", "scan"} {
			if m.met[what] == 0 {
				t.Errorf("no %s: the test proves less than it should", what)
			}
		}
	})
}

type draftModel struct {
	*chain
	*draft
	rng   *rand.Rand
	saved []saved
	met   map[string]int
}

// saved is what a savepoint should bring back.
type saved struct {
	id    state.Savepoint
	state contents
	info  state.DraftInfo
}

// letters of the keys: few, so that prefixes have several keys; the last one has
// no prefix after it.
const letters = "ab\xff"

func (m *draftModel) text(most int) string {
	out := make([]byte, m.rng.IntN(most+1))
	for i := range out {
		out[i] = letters[m.rng.IntN(len(letters))]
	}
	return string(out)
}

// key is one of a hundred or so, or of those that the anchor came with.
func (m *draftModel) key() string {
	if m.rng.IntN(8) == 0 {
		return key(fmt.Sprint("anchor ", m.rng.IntN(20)))
	}
	return padded(m.text(4))
}

// kept counts a step, or a refusal of one by the draft's size, and says whether it
// was made.
func (m *draftModel) kept(what string, before state.DraftInfo, err error) bool {
	m.t.Helper()
	if err == nil {
		m.met[what]++
		return true
	}
	after := m.info()
	after.Age = before.Age
	if !errors.Is(err, state.ErrDraftTooLarge) || after != before {
		m.t.Fatalf("%s: %v; before %+v, after %+v", what, err, before, after)
	}
	m.met["too large"]++
	return false
}

func (m *draftModel) step() {
	m.t.Helper()
	before := m.info()
	switch n := m.rng.IntN(100); {
	case n < 40:
		k, value := m.key(), bytes.Repeat([]byte{byte(m.rng.Uint32())}, m.rng.IntN(300))
		if m.kept("put", before, m.Put([]byte(k), value)) {
			m.state[k] = string(value)
		}
	case n < 55:
		k := m.key()
		if m.kept("delete", before, m.Delete([]byte(k))) {
			delete(m.state, k)
		}
	case n < 58:
		prefix := m.text(3)
		var under []string
		for k := range m.state {
			if len(k) >= len(prefix) && k[:len(prefix)] == prefix {
				under = append(under, k)
			}
		}
		n, err := m.DeletePrefix(context.Background(), []byte(prefix))
		if m.kept("prefix", before, err) {
			if n != len(under) {
				m.t.Fatalf("prefix %x: %d deleted, want %d", prefix, n, len(under))
			}
			for _, k := range under {
				delete(m.state, k)
			}
		}
	case n < 66:
		id, err := m.Savepoint()
		if m.kept("save", before, err) {
			m.saved = append(m.saved, saved{id, maps.Clone(m.state), m.info()})
		}
	case n < 70:
		m.rollback()
	case n < 72:
		last := state.Savepoint(1 << 40)
		if len(m.saved) > 0 {
			last = m.saved[len(m.saved)-1].id + 1
		}
		if err := m.Rollback(last); !errors.Is(err, state.ErrNoSavepoint) {
			m.t.Fatalf("to savepoint %d: %v", last, err)
		}
		m.met["no such savepoint"]++
	case n < 90:
		m.wantKey(m.key())
	default:
		m.met["scan"]++
		m.wantRange(m.key(), m.text(4))
		m.wantRange(m.text(2), "")
	}
	if info := m.info(); info.Bytes > 12000 || info.Bytes < 0 {
		m.t.Fatalf("%d bytes", info.Bytes)
	}
}

// rollback goes back to a savepoint, oftener to a young one: the state is what it
// was, and so is what the draft takes of memory.
func (m *draftModel) rollback() {
	m.t.Helper()
	if len(m.saved) == 0 {
		return
	}
	m.met["back"]++
	i := max(m.rng.IntN(len(m.saved)), m.rng.IntN(len(m.saved)))
	s := m.saved[i]
	if err := m.Rollback(s.id); err != nil {
		m.t.Fatal(err)
	}
	m.saved = m.saved[:i+1]
	m.state = maps.Clone(s.state)
	m.wantRange("", "")
	if info := m.info(); info.Bytes != s.info.Bytes || info.Writes != s.info.Writes {
		m.t.Fatalf("after rollback %+v, was %+v", info, s.info)
	}
}

// Many goroutines use one draft at once; each has keys of its own, so that it
// knows what it must read.
func TestDraftUsedAtOnce(t *testing.T) {
	overEngines(t, func(t *testing.T, e engineCase) {
		c := newChain(t, e, noImages)
		d := c.begin("alfred", state.DraftOptions{})
		var all sync.WaitGroup
		parts := make([]contents, 6)
		for i := range parts {
			all.Go(func() {
				prefix := fmt.Sprint("part ", i, " ")
				own := make(contents)
				parts[i] = own
				rng := rand.New(rand.NewPCG(3, uint64(i)))
				for range 200 {
					k := padded(prefix + fmt.Sprint(rng.IntN(20)))
					var err error
					switch rng.IntN(8) {
					case 0:
						delete(own, k)
						err = d.Delete([]byte(k))
					case 1:
						var got []string
						for p, e := range d.All(context.Background(), []byte(prefix), []byte(prefix+"\xff")) {
							err = e
							got = append(got, string(p.Key))
						}
						if want := slices.Sorted(maps.Keys(own)); !slices.Equal(got, want) {
							t.Errorf("%s: %q, want %q", prefix, got, want)
						}
					case 2:
						if rng.IntN(4) == 0 {
							n, e := d.DeletePrefix(context.Background(), []byte(prefix))
							if err = e; n != len(own) {
								t.Errorf("%s: %d deleted, want %d", prefix, n, len(own))
							}
							clear(own)
						}
					default:
						own[k] = fmt.Sprint(rng.Uint64())
						err = d.Put([]byte(k), []byte(own[k]))
					}
					value, present, e := d.Get(context.Background(), []byte(k))
					if want, ok := own[k]; err != nil || e != nil || present != ok || string(value) != want {
						t.Errorf("%s: %q, %v, want %q, %v; %v, %v", k, value, present, want, ok, err, e)
						return
					}
					if _, err := d.Info(); err != nil {
						t.Error(err)
					}
				}
			})
		}
		all.Wait()
		for _, own := range parts {
			maps.Copy(d.state, own)
		}
		d.wantRange("", "")
		d.commit("b1")
		c.wantStates()
	})
}

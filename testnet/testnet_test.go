package testnet

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"accessor/checkpoint/checkpointtest"
	"accessor/da/datest/sim"
	"accessor/state/merkle"
)

var rewrite = flag.Bool("rewrite", false, "write the golden files")

// played runs a scenario on Accessors in this process, in virtual time, and gives what
// it tells: the events, the failures and the object.
func played(t *testing.T, s *Scenario, opts Options) (text string, res *Result) {
	t.Helper()
	if opts.New == nil {
		opts.New = InProcess(storesDir(t), checkpointtest.Engine{}, nil).New
	}
	synctest.Test(t, func(t *testing.T) { text, res = playIn(t, s, opts) })
	return text, res
}

// playedAsPeers is played with sidecars that are peers on a simulated network.
func playedAsPeers(t *testing.T, s *Scenario, opts Options) (text string, res *Result) {
	t.Helper()
	return playedWith(t, s, opts, func(_ int, car Sidecar) Sidecar { return car })
}

// playedWith is playedAsPeers with what wrap makes of each node's sidecar.
func playedWith(t *testing.T, s *Scenario, opts Options, wrap func(node int, car Sidecar) Sidecar) (text string, res *Result) {
	t.Helper()
	dir := storesDir(t)
	sim.Test(t, func(t *testing.T, n *sim.Network) {
		local := InProcess(dir, checkpointtest.Engine{}, n)
		opts.New = func(node int, anchor *Anchor) (Sidecar, error) {
			car, err := local.New(node, anchor)
			return wrap(node, car), err
		}
		opts.Peers = wrapped{local, wrap}
		text, res = playIn(t, s, opts)
	})
	return text, res
}

// wrapped wraps the sidecars of those that join.
type wrapped struct {
	Peers
	wrap func(node int, car Sidecar) Sidecar
}

func (w wrapped) Join(node int, how Joining) (Sidecar, error) {
	car, err := w.Peers.Join(node, how)
	return w.wrap(node, car), err
}

// storesDir makes a folder for stores, which goes with the test.
func storesDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	t.Cleanup(func() { removeAll(dir) })
	return dir
}

// removeAll removes a folder with stores, whose checkpoints are read-only.
func removeAll(dir string) {
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			return os.Chmod(path, 0o700)
		}
		return nil
	})
	_ = os.RemoveAll(dir)
}

// playIn runs a scenario in a bubble, six seconds a slot.
func playIn(t *testing.T, s *Scenario, opts Options) (string, *Result) {
	t.Helper()
	var out strings.Builder
	opts.Scenario, opts.SlotTime = s, 6*time.Second
	opts.Event = func(slot int, what string) { fmt.Fprintf(&out, "slot %d: %s\n", slot, what) }
	res, err := Run(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	object, err := json.Marshal(res)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range res.Failures {
		fmt.Fprintln(&out, "failure:", f)
	}
	if res.Fetches > 0 {
		object = chancy.ReplaceAll(object, []byte("$1:*"))
	}
	out.Write(append(object, '\n'))
	return out.String(), res
}

// chancy is what differs between equal runs where nodes fetch from peers. Which of
// several peers is asked, and when one that failed is asked again, package da leaves to
// chance, so that nodes don't act all at once; and what comes at one time, a read and the
// fill of the same state, or the import that seals a block's checkpoint and the one that
// needs it, is in the scheduler's order. seconds has the waits for those that follow.
var chancy = regexp.MustCompile(`("walkbacks"|"da_fetches"|"da_rejected"|"seconds"):[\d.]+`)

// TestScenarios: all scenarios come out as they must, and as they did.
func TestScenarios(t *testing.T) {
	for _, name := range Names() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, err := Load(name)
			if err != nil {
				t.Fatal(err)
			}
			play := playedAsPeers
			if slices.Contains([]string{"crashes", "forks"}, name) {
				play = played // nothing travels between their nodes: these run under the race detector too
			}
			got, res := play(t, s, Options{Seed: 1, Slots: min(s.Slots, 60)})
			if !res.OK(s.Unavailable) {
				t.Errorf("not as it must be:\n%s\n%s", got, res.Excuses)
			}
			golden := filepath.Join("testdata", name+".golden")
			if *rewrite {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
}

// TestSameSeed: equal seeds give the same output, in a run with kills, liars and fetches in
// it; another one gives another.
func TestSameSeed(t *testing.T) {
	s, err := Load("work")
	if err != nil {
		t.Fatal(err)
	}
	var texts []string
	for _, seed := range []uint64{7, 7, 8} {
		text, res := playedAsPeers(t, s, Options{Seed: seed, Slots: 20})
		if !res.OK(0) {
			t.Errorf("seed %d: %s\n%s", seed, text, res.Excuses)
		}
		texts = append(texts, text)
	}
	if texts[0] != texts[1] || texts[1] == texts[2] {
		t.Errorf("%s\n%s\n%s", texts[0], texts[1], texts[2])
	}
}

// TestCancelled: who cancels is answered soon, and nothing runs any more.
func TestCancelled(t *testing.T) {
	s, err := Parse("endless", "slots 10000\nnodes 2\nevery 1: produce\n1 in 4: kill random for 1")
	if err != nil {
		t.Fatal(err)
	}
	dir := storesDir(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	var cars []*inProcess
	in := InProcess(dir, checkpointtest.Engine{}, nil)
	_, err = Run(ctx, Options{
		Scenario: s,
		New: func(node int, a *Anchor) (Sidecar, error) {
			car, err := in.New(node, a)
			cars = append(cars, car.(*inProcess))
			return car, err
		},
		Shown: func(v View) {
			if v.Slot == 5 {
				cancel(errTest)
			}
		},
	})
	if !errors.Is(err, errTest) {
		t.Error(err)
	}
	for i, car := range cars {
		if car.acc.Load() != nil {
			t.Errorf("node %d runs", i)
		}
	}
}

var errTest = errors.New("made up")

// TestOptions: what is out of bounds is refused before anything starts.
func TestOptions(t *testing.T) {
	s, err := Load("story")
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range []Options{{Nodes: -1}, {Nodes: MaxNodes + 1}, {Slots: -1}, {Slots: MaxSlots + 1}, {SlotTime: -1}} {
		o.Scenario = s
		if _, err := Run(t.Context(), o); !errors.Is(err, errOptions) {
			t.Errorf("%+v: %v", o, err)
		}
	}
}

// TestModel: a key's value by way of the write sets is that of the whole state, whose
// root the block has, at every block of a tree that is higher than what is kept whole.
func TestModel(t *testing.T) {
	c, err := newChain(3, 50)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 * wholeNewest {
		parent := c.blocks[len(c.blocks)-1]
		if i%5 == 0 {
			parent = parent.back(3, c.anchor())
		}
		if _, err := c.grow(parent, parent.Slot+1, 8, fmt.Sprint(i)); err != nil {
			t.Fatal(err)
		}
	}
	lean := 0
	for _, b := range c.blocks {
		if b.whole == nil {
			lean++
		}
		// Made again from the anchor, block by block.
		var way []*block
		for at := b; at.parent != nil; at = at.parent {
			way = append(way, at)
		}
		all := maps.Clone(c.anchor().whole)
		for _, at := range slices.Backward(way) {
			for _, p := range at.Puts {
				all[string(p.Key)] = p.Value
			}
			for _, key := range at.Dels {
				if all[string(key)] == nil {
					t.Errorf("%s deletes a key that is not there", at.name)
				}
				delete(all, string(key))
			}
		}
		if root, err := merkle.Root(sorted(all)); err != nil || root != b.root || !maps.EqualFunc(all, b.state(), bytes.Equal) {
			t.Errorf("%s: another state, root %s, want %s, %v", b.name, b.root, root, err)
		}
		for _, key := range c.keys {
			want, there := all[key]
			if got, present := b.get(key); present != there || !bytes.Equal(got, want) {
				t.Errorf("%s, key %x: %x, %t; want %x, %t", b.name, key, got, present, want, there)
			}
		}
	}
	if lean < wholeNewest {
		t.Errorf("only %d blocks are not kept whole", lean)
	}
}

// TestParallel: blocks that are given at the same time, children with their parents,
// come out as all others do; in real time, which has no golden output.
func TestParallel(t *testing.T) {
	s, err := Load("story")
	if err != nil {
		t.Fatal(err)
	}
	dir := storesDir(t)
	res, err := Run(t.Context(), Options{Scenario: s, Slots: 40, Seed: 4, Parallel: 8, New: InProcess(dir, checkpointtest.Engine{}, nil).New})
	if err != nil || !res.OK(0) {
		t.Fatalf("%+v, %v", res, err)
	}
	if res.Kills == 0 || res.Partitions == 0 || res.Forks == 0 {
		t.Errorf("%+v", res)
	}
}

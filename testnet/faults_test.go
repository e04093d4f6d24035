package testnet

import (
	"context"
	"errors"
	"strings"
	"testing"

	"accessor/checkpoint/checkpointtest"
	"accessor/da/datest"
	"accessor/forks"
	"accessor/jam"
	"accessor/state"
)

// faulty is a sidecar with one fault, which shows from some call on.
type faulty struct {
	Sidecar
	fault string
	calls int
}

func (f *faulty) Import(ctx context.Context, b *state.Block) (Imported, error) {
	if f.calls++; f.fault == "import not fetched" && f.calls == 5 {
		return Imported{}, told(ErrNotFetched, errors.New("nobody there"))
	}
	if f.fault == "never fetched" && f.calls >= 5 {
		return Imported{}, told(ErrNotFetched, errors.New("nobody there"))
	}
	got, err := f.Sidecar.Import(ctx, b)
	switch {
	case f.fault == "root" && f.calls == 5:
		got.Root[3] ^= 1
	case f.fault == "import" && f.calls == 5:
		return got, errors.New("disk on fire")
	case f.fault == "orphan" && errors.Is(err, ErrUnknownParent):
		return Imported{}, nil
	case f.fault == "other refusal" && errors.Is(err, ErrUnknownParent):
		return Imported{}, errors.New("no")
	}
	return got, err
}

func (f *faulty) SetHead(ctx context.Context, h forks.Hash) error {
	if f.fault == "head" {
		return nil // and it stays where it was
	}
	return f.Sidecar.SetHead(ctx, h)
}

func (f *faulty) Finalize(ctx context.Context, h forks.Hash) error {
	if f.fault == "finalize" {
		return nil
	}
	return f.Sidecar.Finalize(ctx, h)
}

func (f *faulty) Read(ctx context.Context, at forks.Hash, keys [][]byte) ([][]byte, error) {
	values, err := f.Sidecar.Read(ctx, at, keys)
	for i, key := range keys {
		slot := string(key) == itemKey(jam.SlotItem)
		switch {
		case f.fault == "value" && slot:
			values[i] = append([]byte{7}, values[i]...)
		case f.fault == "absent" && slot:
			values[i] = nil
		case f.fault == "present" && values[i] == nil:
			values[i] = []byte{}
		case f.fault == "unavailable":
			return nil, errors.New("not now")
		}
	}
	if f.fault == "too few" {
		return values[1:], err
	}
	return values, err
}

func (f *faulty) ReadProven(ctx context.Context, at, root forks.Hash, keys [][]byte) ([][]byte, error) {
	if f.fault == "proof" {
		root[5] ^= 1
	}
	return f.Sidecar.ReadProven(ctx, at, root, keys)
}

func (f *faulty) Scan(ctx context.Context, at forks.Hash, pair func(key, value []byte) bool) error {
	n := 0
	return f.Sidecar.Scan(ctx, at, func(key, value []byte) bool {
		n++
		switch {
		case f.fault == "scan lacks" && n == 9:
			return true
		case f.fault == "scan value" && n == 9:
			return pair(key, append([]byte{1}, value...))
		case f.fault == "scan twice" && n == 9:
			pair(key, value)
			return pair(key, value)
		}
		return pair(key, value)
	})
}

func (f *faulty) Status(ctx context.Context) (Status, error) {
	s, err := f.Sidecar.Status(ctx)
	s.Partial = f.fault == "partial"
	if f.fault == "mute" {
		return Status{}, errors.New("no word")
	}
	return s, err
}

func (f *faulty) Roots(ctx context.Context) (map[forks.Hash]forks.Hash, error) {
	roots, err := f.Sidecar.Roots(ctx)
	for h := range roots {
		switch f.fault {
		case "forgets":
			delete(roots, h)
		case "too many":
			roots[forks.Hash{1}] = h
		case "other root":
			roots[h] = h
		}
		break
	}
	return roots, err
}

// TestFaultsAreFound: whatever a sidecar gets wrong, the run doesn't come out as it
// must.
func TestFaultsAreFound(t *testing.T) {
	const story = `
		nodes 2
		slots 12
		reads 8
		every 1: produce
		every 4: fork depth 2 length 2
		every 5: finalize depth 3
		at 7: withhold from 1 for 3
		at 1: expect forks = 0
		end: expect state head
		end: expect state b3
	`
	for fault, want := range map[string]string{
		"": "", "mute": "node 1: status: no word", "root": "root", "import": "disk on fire", "orphan": "without its parent", "other refusal": "no",
		"head": "it was told", "finalize": "finalized", "value": "the model has", "absent": "no such key, the model has",
		"present": "the model has no such key", "too few": "values of", "proof": "invalid proof", "unavailable": "",
		"scan lacks": "keys, the model has", "scan value": "the model has", "scan twice": "after",
		"forgets": "held false", "too many": "it acknowledged", "other root": "the model has",
	} {
		t.Run(fault, func(t *testing.T) {
			t.Parallel()
			s, err := Parse("faults", story)
			if err != nil {
				t.Fatal(err)
			}
			dir := storesDir(t)
			in := InProcess(dir, checkpointtest.Engine{}, nil)
			text, res := played(t, s, Options{Seed: 2, New: func(node int, a *Anchor) (Sidecar, error) {
				car, err := in.New(node, a)
				if node == 1 {
					car = &faulty{Sidecar: car, fault: fault}
				}
				return car, err
			}})
			if res.OK(0) != (fault == "") || !strings.Contains(strings.Join(res.Failures, "\n"), want) {
				t.Errorf("OK %t, want a failure with %q:\n%s", res.OK(0), want, text)
			}
			if len(res.Failures) > mostFailures {
				t.Errorf("%d failures", len(res.Failures))
			}
			if fault == "unavailable" && (res.Unavailable == 0 || len(res.Excuses) == 0 || !strings.Contains(res.Excuses[0], "not now") || !res.OK(res.Unavailable) || res.OK(res.Unavailable-1)) {
				t.Errorf("%d unavailable", res.Unavailable)
			}
		})
	}
}

// TestLostAfterKill: a sidecar that comes back without its store is found out.
func TestLostAfterKill(t *testing.T) {
	s, err := Parse("lost", "slots 12\nnodes 2\nevery 1: produce\nat 6: kill 1 for 2")
	if err != nil {
		t.Fatal(err)
	}
	dir, empty := storesDir(t), storesDir(t)
	text, res := played(t, s, Options{New: func(node int, a *Anchor) (Sidecar, error) {
		car, err := InProcess(dir, checkpointtest.Engine{}, nil).New(node, a)
		if err != nil || node != 1 {
			return car, err
		}
		other, err := InProcess(empty, checkpointtest.Engine{}, nil).New(node, a)
		return &swapped{Sidecar: car, other: other}, err
	}})
	if res.OK(1000) || !strings.Contains(text, "parent is not held") {
		t.Error(text)
	}
}

// swapped has another store after each start but the first.
type swapped struct {
	Sidecar
	other Sidecar
	once  bool
}

func (s *swapped) Start(ctx context.Context) error {
	if s.once {
		s.Sidecar, s.other = s.other, s.Sidecar
	}
	s.once = true
	return s.Sidecar.Start(ctx)
}

// TestExpectations: what doesn't hold is a failure that says what is so.
func TestExpectations(t *testing.T) {
	const story = `
		nodes 3
		slots 10
		every 1: produce
		at 6: finalize depth 2
		at 8: kill 2
		at 10: withhold from 1 for 5
		at 10: `
	for line, want := range map[string]string{
		"expect forks = 0":               "",
		"expect forks >= 1":              "there are 0",
		"expect blocks <= 3":             "there are 10",
		"expect kills = 0":               "there are 1",
		"expect agree":                   "",
		"expect agree on 1":              "no node is up that can be asked",
		"expect agree on 0..1":           "",
		"expect agree on 2":              "not up",
		"expect head b10 on 0":           "",
		"expect head b10":                "its head is",
		"expect held b9":                 "",
		"expect held b10 on 1":           "held: false",
		"expect missing b10 on 1":        "",
		"expect missing b10 on 0":        "held: true",
		"expect held b9 on 2":            "not up",
		"expect state finalized on 0..1": "",
		"expect state all":               "",
		"expect state b10 on 1":          "wrong answer",
		"expect held nothing":            "no block is called",
	} {
		t.Run(line, func(t *testing.T) {
			t.Parallel()
			s, err := Parse("expect", story+line)
			if err != nil {
				t.Fatal(err)
			}
			text, res := played(t, s, Options{})
			if res.OK(0) != (want == "") || !strings.Contains(strings.Join(res.Failures, "\n"), want) {
				t.Errorf("OK %t, want %q:\n%s", res.OK(0), want, text)
			}
		})
	}
}

// joins is peers that can do no more than Join.
type joins func(node int, how Joining) (Sidecar, error)

func (j joins) Join(node int, how Joining) (Sidecar, error) { return j(node, how) }

func (joins) Host(int) (datest.Host, error) { return datest.Host{}, errTest }

func (joins) Meet(context.Context, []string) error { return errTest }

func (joins) Divide(context.Context, [][]int) error { return nil }

// TestJoinTrusting: what a node that trusts a block may do, others not: blocks of the
// chain that it wasn't given are no fault of it, and an import that peers could not help
// with is made once more. Blocks that nobody made are found, and a state that stays partial.
func TestJoinTrusting(t *testing.T) {
	for fault, want := range map[string]string{
		"": "", "import not fetched": "", "too many": "the model: made false", "other root": "the model: made true", "import": "disk on fire",
		"orphan": "", "never fetched": "node 2, at the end: b5 (slot 5) could not be given to it", "partial": "a part of the state is missing",
	} {
		t.Run(fault, func(t *testing.T) {
			t.Parallel()
			s, err := Parse("joins", "nodes 2\nslots 12\nevery 1: produce\nat 4: join trust anchor\nat 9: withhold from 2 for 2\nend: expect state head")
			if err != nil {
				t.Fatal(err)
			}
			dir := storesDir(t)
			in := InProcess(dir, checkpointtest.Engine{}, nil)
			var anchor *Anchor
			text, res := played(t, s, Options{
				New: func(node int, a *Anchor) (Sidecar, error) { anchor = a; return in.New(node, a) },
				Peers: joins(func(node int, how Joining) (Sidecar, error) {
					if how.Trusted != anchor.Block || how.Liars != nil || how.Follow {
						t.Errorf("joins with %+v", how)
					}
					car, err := in.New(node, anchor)
					return &faulty{Sidecar: car, fault: fault}, err
				}),
			})
			if res.OK(0) != (want == "") || !strings.Contains(strings.Join(res.Failures, "\n"), want) {
				t.Errorf("OK %t, want a failure with %q:\n%s", res.OK(0), want, text)
			}
			if !strings.Contains(text, "node 2 joins, trusting anchor (slot 0), with nothing") {
				t.Error(text)
			}
		})
	}
}

// TestAgreeWhileCutOff: a node that can't take in its own side's blocks doesn't agree, in
// a partition neither.
func TestAgreeWhileCutOff(t *testing.T) {
	s, err := Parse("joins", "nodes 2\nslots 8\nevery 1: produce\nat 2: join trust anchor\nat 4: partition 0,2 | 1\nat 8: expect agree on 2")
	if err != nil {
		t.Fatal(err)
	}
	in := InProcess(storesDir(t), checkpointtest.Engine{}, nil)
	var anchor *Anchor
	text, res := played(t, s, Options{
		New: func(node int, a *Anchor) (Sidecar, error) { anchor = a; return in.New(node, a) },
		Peers: joins(func(node int, _ Joining) (Sidecar, error) {
			car, err := in.New(node, anchor)
			return &faulty{Sidecar: car, fault: "never fetched"}, err
		}),
	})
	if !strings.Contains(strings.Join(res.Failures, "\n"), "slot 8: expect agree: node 2: 4 blocks could not be given to it yet") {
		t.Error(text)
	}
}

// TestCantBeDone: what a scenario asks for in vain ends the run, and names the line.
func TestCantBeDone(t *testing.T) {
	for line, want := range map[string]string{
		"at 2: kill 3":                                    "no node 3",
		"at 2: partition 0 | 3":                           "no node 3",
		"at 2: partition 0 | 0":                           "two sides",
		"at 2: partition 0,1 | rest":                      "no node",
		"at 2: produce on nothing":                        "no block",
		"at 1: equivocate as a\nat 2: equivocate as a":    "called a already",
		"at 2: produce on head":                           "can't be of slot 2",
		"at 2: lie value":                                 "needs sidecars with peers",
		"at 2: join follow anchor":                        "needs sidecars with peers",
		"at 2: work":                                      "needs sidecars with peers",
		"at 2: expect held b1 on 4":                       "no node 4",
		"at 2: fork length 2 as f\nat 2: equivocate as f": "called f already",
	} {
		s, err := Parse("vain", "nodes 2\nslots 2\nevery 1: produce\n"+line)
		if err != nil {
			t.Fatal(err)
		}
		_, err = Run(t.Context(), Options{Scenario: s, New: InProcess(storesDir(t), checkpointtest.Engine{}, nil).New})
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "vain, line ") {
			t.Errorf("%s: %v, want %q", line, err, want)
		}
	}
}

package testnet

import (
	"context"
	"errors"
	"strings"
	"testing"

	"accessor/api/client"
	"accessor/da"
	"accessor/forks"
)

// faultyPeer is a sidecar with a fault in what it has to do with its peers.
type faultyPeer struct {
	Sidecar
	fault string
	first map[forks.Hash]forks.Hash // what Roots gave first
}

func (f *faultyPeer) Keep(ctx context.Context, spec da.Spec, index int, sh da.Shard) error {
	switch f.fault {
	case "refuses":
		return errors.New("no room")
	case "forgets shards":
		return nil
	}
	return f.Sidecar.Keep(ctx, spec, index, sh)
}

func (f *faultyPeer) Kept(ctx context.Context, root forks.Hash, index int) (client.ErasureShard, error) {
	sh, err := f.Sidecar.Kept(ctx, root, index)
	switch f.fault {
	case "loses shards":
		return sh, da.ErrNotHeld
	case "other shards":
		sh.Bundle[0] ^= 1
	}
	return sh, err
}

func (f *faultyPeer) Bundle(ctx context.Context, spec da.Spec) ([]byte, error) {
	b, err := f.Sidecar.Bundle(ctx, spec)
	switch f.fault {
	case "bundle":
		b = append([]byte{1}, b[1:]...)
	case "no bundle":
		return nil, errors.New("not now")
	case "encoding":
		return nil, encodingError(da.ErrEncoding)
	}
	return b, err
}

func (f *faultyPeer) Segment(ctx context.Context, spec da.Spec, i int) ([]byte, error) {
	if f.fault == "segment" {
		i = 1 - i
	}
	return f.Sidecar.Segment(ctx, spec, i)
}

func (f *faultyPeer) Status(ctx context.Context) (Status, error) {
	s, err := f.Sidecar.Status(ctx)
	if f.fault == "other head" {
		s.Head = s.Finalized
	}
	return s, err
}

func (f *faultyPeer) Roots(ctx context.Context) (map[forks.Hash]forks.Hash, error) {
	roots, err := f.Sidecar.Roots(ctx)
	if err == nil && f.fault == "lags" && len(roots) > 6 {
		err = errTest
	}
	if f.first == nil {
		f.first = roots
	}
	if f.fault == "stuck" {
		return f.first, err
	}
	for h := range roots {
		if f.fault == "follows another" {
			roots[h] = h
		}
	}
	return roots, err
}

// TestPeerFaults: so is whatever a sidecar gets wrong of work packages, or as one that
// follows its peers.
func TestPeerFaults(t *testing.T) {
	const story = "nodes 2\nslots 10\nevery 1: produce\nat 3: join follow anchor\nat 2: work size 900 as w\nend: expect work w\nend: expect agree"
	for fault, want := range map[string]string{
		"": "", "refuses": "no room", "forgets shards": "work w: node", "loses shards": "which it acknowledged: not held", "other shards": "of w is another", "bundle": "bundle of w: ", "no bundle": "can't be had whole",
		"encoding": "wrong answer: item was encoded wrongly", "segment": "segment 0 of w: ", "other head": "expect agree: node 2: head ",
		"stuck": "node 2, at the end: it has not got b", "lags": "made up", "follows another": "the model has",
	} {
		t.Run(fault, func(t *testing.T) {
			t.Parallel()
			s, err := Parse("faults", story)
			if err != nil {
				t.Fatal(err)
			}
			text, res := playedWith(t, s, Options{Seed: 2}, func(node int, car Sidecar) Sidecar {
				if late := fault == "other head" || fault == "lags" || fault == "stuck" || fault == "follows another"; node == 2 || !late {
					return &faultyPeer{Sidecar: car, fault: fault}
				}
				return car
			})
			if res.OK(1000) != (fault == "") || !strings.Contains(strings.Join(res.Failures, "\n"), want) {
				t.Errorf("OK %t, want a failure with %q:\n%s", res.OK(1000), want, text)
			}
			if fault == "no bundle" && res.Unavailable == 0 {
				t.Error("nothing was unavailable")
			}
		})
	}
}

// TestCutOff: who is cut off as a peer gets nothing from the other side, and what it
// lacked once all is healed.
func TestCutOff(t *testing.T) {
	for line, ok := range map[string]bool{
		"at 12: expect missing b7 on 2": true, // made on the first side
		"at 12: expect held b7 on 2":    false,
		"end: expect held b7 on 2":      true,
	} {
		t.Run(line, func(t *testing.T) {
			t.Parallel()
			s, err := Parse("cut", "nodes 2\nslots 16\nevery 1: produce\nat 2: join follow anchor\nat 6: partition 0 | 1,2\nat 14: heal\nend: expect agree\n"+line)
			if err != nil {
				t.Fatal(err)
			}
			if text, res := playedAsPeers(t, s, Options{}); res.OK(0) != ok {
				t.Errorf("OK %t:\n%s", res.OK(0), text)
			}
		})
	}
}

// TestJoinCutOff: who joins on a side where a follower comes first is not given the blocks
// of the others.
func TestJoinCutOff(t *testing.T) {
	s, err := Parse("cut", "nodes 2\nslots 14\nevery 1: produce\nat 2: join follow anchor\nat 6: partition 2 | rest\nat 9: join\n"+
		"at 9: expect missing b8 on 3\nat 9: expect held b7 on 3\nat 12: heal\nend: expect held b8 on 3\nend: expect agree")
	if err != nil {
		t.Fatal(err)
	}
	if text, res := playedAsPeers(t, s, Options{}); !res.OK(0) {
		t.Error(text)
	}
}

// TestFollowsAll: who follows has the forks of all its peers, whichever of them answers
// faster.
func TestFollowsAll(t *testing.T) {
	const forked = "at 6: withhold from 1 for 100\nat 7: produce on b5 as x\nat 7: withhold from 0 for 100\nat 8: produce on x as y\nat 8: withhold from 0 for 100"
	s, err := Parse("forked", "nodes 2\nslots 20\nevery 1 to 6: produce\nevery 1 from 8: produce\nat 2: join follow anchor\n"+forked+
		"\nat 20: expect missing x on 0\nat 20: expect missing b6 on 1\nat 20: expect held y on 2\nat 20: expect held b6 on 2")
	if err != nil {
		t.Fatal(err)
	}
	if text, res := playedAsPeers(t, s, Options{}); !res.OK(0) {
		t.Error(text)
	}
}

// TestBlockLiars: nodes that follow find peers out that lie about what blocks wrote, and
// have the right blocks from the honest one.
func TestBlockLiars(t *testing.T) {
	s, err := Parse("liars", "nodes 1\nslots 14\nevery 1: produce\nat 4: lie block 5\nat 4: join 2 follow anchor\nend: expect agree\nend: expect banned >= 2")
	if err != nil {
		t.Fatal(err)
	}
	if text, res := playedAsPeers(t, s, Options{}); !res.OK(0) {
		t.Error(text)
	}
}

package da

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"accessor/da/erasure"
	"accessor/da/justify"
	"accessor/da/shards"
	"accessor/forks"
)

// Encode gives what the published vectors and the Gray Paper's trees put together give,
// and each of its shards passes its check.
func TestEncode(t *testing.T) {
	for _, code := range []*erasure.Code{erasure.Tiny(), erasure.Full()} {
		w := books().work(code)
		spec, all, err := Encode(code.N(), w.bundle, w.segments)
		if err != nil || spec != w.spec || !reflect.DeepEqual(all, w.shards) {
			t.Errorf("%d shards: %v, %+v", code.N(), err, spec)
		}
		for i, sh := range all {
			if err := spec.Check(i, sh); err != nil {
				t.Error(err)
			}
		}
	}
	spec, all, err := Encode(6, nil, nil)
	if err != nil || len(all) != 6 || spec.Check(5, all[5]) != nil || spec.SegmentsRoot != (forks.Hash{}) {
		t.Errorf("nothing at all: %v, %+v", err, spec)
	}
	segments := make([][]byte, 3073)
	for i := range segments {
		segments[i] = make([]byte, justify.SegmentSize)
	}
	for name, encode := range map[string]func() (Spec, []Shard, error){
		"five shards":    func() (Spec, []Shard, error) { return Encode(5, nil, nil) },
		"large bundle":   func() (Spec, []Shard, error) { return Encode(6, make([]byte, MaxItem+1), nil) },
		"segments":       func() (Spec, []Shard, error) { return Encode(6, nil, segments) },
		"short segment":  func() (Spec, []Shard, error) { return Encode(6, nil, [][]byte{segments[0], segments[1][1:]}) },
		"longer segment": func() (Spec, []Shard, error) { return Encode(6, nil, [][]byte{make([]byte, justify.SegmentSize+1)}) },
	} {
		if _, _, err := encode(); !errors.Is(err, ErrRequest) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A shard of another size than the spec's is refused, though it leads to the root.
func TestSpecChecksSizes(t *testing.T) {
	w := books().work(erasure.Tiny())
	for name, change := range map[string]func(s *Spec){
		"length":   func(s *Spec) { s.Length -= 4 },
		"segments": func(s *Spec) { s.Exported-- },
		"root":     func(s *Spec) { s.Root[0] ^= 1 },
	} {
		spec := w.spec
		change(&spec)
		if err := spec.Check(0, w.shards[0]); !errors.Is(err, justify.ErrWrong) {
			t.Errorf("%s: %v", name, err)
		}
	}
	short := w.shards[0]
	short.Segments = append([][]byte{short.Segments[0][1:]}, short.Segments[1:]...)
	if err := w.spec.Check(0, short); !errors.Is(err, justify.ErrWrong) {
		t.Errorf("segment: %v", err)
	}
	if err := w.spec.Check(6, w.shards[0]); !errors.Is(err, justify.ErrIndex) {
		t.Errorf("index: %v", err)
	}
	for _, change := range []func(s *Spec){
		func(s *Spec) { s.Shards = 7 }, func(s *Spec) { s.Length = -1 },
		func(s *Spec) { s.Length = MaxItem + 1 }, func(s *Spec) { s.Exported = 3073 }, func(s *Spec) { s.Exported = -1 },
	} {
		spec := w.spec
		change(&spec)
		if err := spec.Check(0, w.shards[0]); !errors.Is(err, ErrRequest) {
			t.Errorf("%+v: %v", spec, err)
		}
	}
}

// keeping gives a node that keeps shards, beside the peers.
func keeping(t *testing.T, peers map[peer.ID]behaviour) *Node {
	t.Helper()
	n, _ := newFake(t, peers)
	store, err := shards.Open(t.TempDir(), shards.Options{Budget: 64 << 20})
	if err != nil {
		t.Fatal(err)
	}
	n.config.Shards = store
	n.fetch.kept = newKept(store, n.log)
	return n
}

func (w *work) some(indices ...int) map[int]Shard {
	all := map[int]Shard{}
	for _, i := range indices {
		all[i] = w.shards[i]
	}
	return all
}

// Enough shards that are kept here need no peer; too few are made up for by peers, who are
// asked for the rest only.
func TestKeptShardsComeFirst(t *testing.T) {
	l := books()
	for _, code := range []*erasure.Code{erasure.Tiny(), erasure.Full()} {
		synctest.Test(t, func(t *testing.T) {
			w := l.work(code)
			n := keeping(t, nil)
			for i := code.N() - code.K(); i < code.N(); i++ {
				if _, err := n.FetchErasure(t.Context(), w.spec); !errors.Is(err, ErrNoPeers) {
					t.Fatalf("with %d shards: %v", i, err)
				}
				if i%100 != 0 && i != code.N()-1 { // the last alone counts
					continue
				}
				var rest []int
				for at := code.N() - code.K(); at <= i; at++ {
					rest = append(rest, at)
				}
				if err := n.PutShards(w.spec, w.some(rest...)); err != nil {
					t.Fatal(err)
				}
			}
			got, err := n.FetchErasure(t.Context(), w.spec)
			if err != nil || string(got) != string(w.bundle) {
				t.Errorf("bundle: %v", err)
			}
			got, err = n.FetchSegment(t.Context(), w.spec, 65)
			if err != nil || string(got) != string(w.segments[65]) {
				t.Errorf("segment: %v", err)
			}
			if s := n.Stats(); s.Requests != 0 {
				t.Errorf("%+v", s)
			}
			// Who reads by another spec isn't given these.
			other := w.spec
			other.Exported--
			if _, err := n.FetchErasure(t.Context(), other); !errors.Is(err, ErrNoPeers) {
				t.Errorf("another number of segments: %v", err)
			}
			other = w.spec
			other.Length /= 2
			if _, err := n.FetchErasure(t.Context(), other); !errors.Is(err, ErrNoPeers) {
				t.Errorf("another length: %v", err)
			}
		})
	}
	synctest.Test(t, func(t *testing.T) {
		w := l.work(erasure.Tiny())
		n := keeping(t, map[peer.ID]behaviour{"one": honest(part{l, func(i uint16) bool { return i == 3 }})})
		if err := n.PutShard(w.spec, 5, w.shards[5]); err != nil {
			t.Fatal(err)
		}
		got, err := n.FetchErasure(t.Context(), w.spec)
		if err != nil || string(got) != string(w.bundle) {
			t.Errorf("bundle: %v", err)
		}
	})
}

func TestPutShard(t *testing.T) {
	w := books().work(erasure.Tiny())
	n := keeping(t, nil)
	if _, err := n.Shard(w.spec.Root, 2); !errors.Is(err, ErrNotHeld) {
		t.Errorf("before: %v", err)
	}
	if err := n.PutShard(w.spec, 2, w.shards[3]); !errors.Is(err, justify.ErrWrong) {
		t.Errorf("another's: %v", err)
	}
	short := w.spec
	short.Length -= 4
	if err := n.PutShard(short, 2, w.shards[2]); !errors.Is(err, justify.ErrWrong) {
		t.Errorf("by another length: %v", err)
	}
	if err := n.PutShards(w.spec, map[int]Shard{2: w.shards[2], 3: w.shards[2]}); !errors.Is(err, justify.ErrWrong) {
		t.Errorf("one of two: %v", err)
	}
	if _, err := n.Shard(w.spec.Root, 2); !errors.Is(err, ErrNotHeld) {
		t.Errorf("after refusals: %v", err)
	}
	if err := n.PutShard(w.spec, 2, w.shards[2]); err != nil {
		t.Fatal(err)
	}
	if got, err := n.Shard(w.spec.Root, 2); err != nil || !reflect.DeepEqual(got, w.shards[2]) {
		t.Error(err)
	}
	for _, i := range []int{-1, 1, 6, 2 + 1<<16} {
		if _, err := n.Shard(w.spec.Root, i); !errors.Is(err, ErrNotHeld) {
			t.Errorf("shard %d: %v", i, err)
		}
	}
	none, _ := newFake(t, nil)
	if err := none.PutShard(w.spec, 2, w.shards[2]); !errors.Is(err, shards.ErrBudget) {
		t.Errorf("where none are kept: %v", err)
	}
	if _, err := none.Shard(w.spec.Root, 2); !errors.Is(err, ErrNotHeld) {
		t.Errorf("where none are kept: %v", err)
	}
}

// Shards that are kept are served beside those of the source, or without one, with the
// justifications that peers check.
func TestKeptShardsAreServed(t *testing.T) {
	l := books()
	for _, src := range []Source{nil, part{l, func(i uint16) bool { return i == 0 }}} {
		synctest.Test(t, func(t *testing.T) {
			w := newWork(rand.New(rand.NewPCG(5, 5)), erasure.Tiny(), 5000, 3)
			other := l.work(erasure.Tiny())
			holder := keeping(t, nil)
			if err := errors.Join(holder.PutShards(w.spec, w.some(1, 4)), holder.PutShards(other.spec, other.some(5))); err != nil {
				t.Fatal(err)
			}
			sv := testServer(Serve{Shards: Anyone}, src)
			sv.kept = holder.fetch.kept
			if !sv.serves(kindBundle) || !sv.serves(kindSegment) {
				t.Error("shards aren't served")
			}
			n, _ := newFake(t, map[peer.ID]behaviour{"holder": func(k kind, s stream) { sv.handle(k, "reader", s) }})
			got, err := n.FetchErasure(t.Context(), w.spec)
			if err != nil || string(got) != string(w.bundle) {
				t.Errorf("bundle: %v", err)
			}
			for i, want := range w.segments {
				got, err := n.FetchSegment(t.Context(), w.spec, i)
				if err != nil || string(got) != string(want) {
					t.Errorf("segment %d: %v", i, err)
				}
			}
			got, err = n.FetchErasure(t.Context(), other.spec)
			if src == nil && !errors.Is(err, ErrNotFound) || src != nil && (err != nil || string(got) != string(other.bundle)) {
				t.Errorf("one kept, and one of the source: %v", err)
			}
		})
	}
}

// The log has a file that can't be read once in a while, however often peers ask for it.
func TestUnreadableShardsAreToldSeldom(t *testing.T) {
	w := newWork(rand.New(rand.NewPCG(8, 8)), erasure.Tiny(), 100, 0)
	dir := t.TempDir()
	store, err := shards.Open(dir, shards.Options{Budget: 1 << 20})
	if err == nil {
		err = store.Put(w.spec.justify(), w.some(1))
	}
	path := filepath.Join(dir, w.spec.Root.String()+"-1")
	if err = errors.Join(err, os.Remove(path), os.Mkdir(path, 0o700)); err != nil {
		t.Fatal(err)
	}
	core, told := observer.New(zap.WarnLevel)
	k := newKept(store, zap.New(core))
	for range 100 {
		if _, _, err := k.get(w.spec.Root, 1); !errors.Is(err, ErrNotHeld) {
			t.Fatal(err)
		}
	}
	if told.Len() != 1 {
		t.Errorf("told %d times", told.Len())
	}
}

// An encoder that lies makes shards that all lead to the root, and don't give one bundle:
// that is told, and who holds them isn't blamed. Those that do give it still count.
func TestKeptShardsOfALiar(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bundle, segments := filled(rand.New(rand.NewPCG(7, 7)), 1000), [][]byte{make([]byte, justify.SegmentSize)}
		spec, all, err := Encode(6, bundle, segments)
		if err != nil {
			t.Fatal(err)
		}
		all[5].Bundle[3] ^= 1
		all[5].Segments[0][3] ^= 1
		var leaves [][]byte
		for _, sh := range all {
			leaves = append(leaves, justify.Leaf(sh.Bundle, sh.Segments))
		}
		spec.Root = forks.Hash(justify.Root(leaves))
		for i, path := range justify.CoPaths(leaves) {
			all[i].Path = path
		}
		for _, other := range []int{3, 5} {
			n := keeping(t, nil)
			if err := n.PutShards(spec, map[int]Shard{2: all[2], other: all[other]}); err != nil {
				t.Fatal(err)
			}
			got, err := n.FetchErasure(t.Context(), spec)
			if other == 3 && (err != nil || !bytes.Equal(got, bundle)) || other == 5 && !errors.Is(err, ErrEncoding) {
				t.Errorf("bundle of 2 and %d: %v", other, err)
			}
			got, err = n.FetchSegment(t.Context(), spec, 0)
			if other == 3 && (err != nil || !bytes.Equal(got, segments[0])) || other == 5 && !errors.Is(err, ErrEncoding) {
				t.Errorf("segment of 2 and %d: %v", other, err)
			}
		}
	})
}

// What peers may have read of kept shards is bounded, however little of it they take: one
// shard of each, or a segment that there isn't.
func TestReadsForPeersAreBounded(t *testing.T) {
	w := newWork(rand.New(rand.NewPCG(6, 6)), erasure.Tiny(), 2_000_000, 0)
	for segment, want := range map[int]int{-1: statusOK, 7: statusNotHeld} {
		synctest.Test(t, func(t *testing.T) {
			holder := keeping(t, nil)
			if err := holder.PutShard(w.spec, 1, w.shards[1]); err != nil {
				t.Fatal(err)
			}
			sv := testServer(Serve{Shards: Anyone, BytesPerSecond: 1 << 30}, nil)
			sv.kept = holder.fetch.kept
			const times = 200
			q := shardRequest{w.spec.Root, segment, 1, []uint16{1}}
			k := kindBundle
			if segment >= 0 {
				k = kindSegment
			}
			d := took(func() {
				for range times {
					if status, _, err := ask(sv, "a", k, appendMessage(nil, q.encode()), true); status != want || err != nil {
						t.Fatal(status, err)
					}
				}
			})
			least := time.Duration((times*len(w.shards[1].Bundle) - shards.MaxFile) * int(time.Second) / readRate)
			if d < least {
				t.Errorf("segment %d: %d reads took %v, want %v at least", segment, times, d, least)
			}
		})
	}
}

// FuzzShardParts: a shard comes from anybody. What passes the check is the one that was
// encoded.
func FuzzShardParts(f *testing.F) {
	bundle := []byte("a bundle")
	spec, all, err := Encode(6, bundle, [][]byte{make([]byte, justify.SegmentSize)})
	if err != nil {
		f.Fatal(err)
	}
	for i, sh := range all {
		path := sh.Path.Append(nil)
		f.Add(i, sh.Bundle, slices.Concat(sh.Segments...), path)
		f.Add(i, sh.Bundle[1:], slices.Concat(sh.Segments[1:]...), path[1:])
	}
	f.Fuzz(func(t *testing.T, i int, bundle, segments, path []byte) {
		sh, err := spec.Shard(bundle, segments, path)
		if err != nil {
			return
		}
		if spec.Check(i, sh) == nil && !reflect.DeepEqual(sh, all[i]) {
			t.Errorf("shard %d: %+v", i, sh)
		}
	})
}

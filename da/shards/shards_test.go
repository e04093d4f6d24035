package shards

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"accessor/da/erasure"
	"accessor/da/justify"
	"accessor/forks"
)

// work is a work package of the tiny code: a bundle of some 1,000 bytes, and as many
// segments.
type work struct {
	spec   justify.Spec
	shards []Shard
}

func newWork(t testing.TB, seed uint64, segments int) work {
	t.Helper()
	r := rand.New(rand.NewPCG(seed, 0))
	code := erasure.Tiny()
	encode := func(n int) [][]byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		shards, err := code.Encode(b)
		if err != nil {
			t.Fatal(err)
		}
		return shards
	}
	bundle := encode(1001)
	var columns [][][]byte
	for range segments {
		columns = append(columns, encode(justify.SegmentSize))
	}
	leaves := justify.Leaves(bundle, columns)
	w := work{spec: justify.Spec{Root: justify.Root(leaves), Shards: code.N(), Segments: segments}}
	for i, path := range justify.CoPaths(leaves) {
		w.shards = append(w.shards, Shard{bundle[i], justify.Column(columns, i), path})
	}
	return w
}

func open(t *testing.T, dir string, opts Options) *Store {
	t.Helper()
	s, err := Open(dir, opts)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (w work) put(t *testing.T, s *Store, indices ...int) {
	t.Helper()
	all := map[int]Shard{}
	for _, i := range indices {
		all[i] = w.shards[i]
	}
	if err := s.Put(w.spec, all); err != nil {
		t.Fatal(err)
	}
}

func same(a, b Shard) bool { return bytes.Equal(encode(6, 0, &a), encode(6, 0, &b)) }

// expect says which shards of a work package are there, and no other.
func (w work) expect(t *testing.T, s *Store, indices ...int) {
	t.Helper()
	want := map[int]bool{}
	for _, i := range indices {
		want[i] = true
	}
	for i := -1; i <= len(w.shards); i++ {
		got, spec, err := s.Get(w.spec.Root, i)
		switch {
		case want[i] && (err != nil || spec != w.spec || !same(got, w.shards[i])):
			t.Errorf("shard %d: %v", i, err)
		case !want[i] && !errors.Is(err, ErrAbsent):
			t.Errorf("shard %d: %v", i, err)
		}
	}
}

func files(t *testing.T, dir string) int {
	t.Helper()
	all, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	return len(all)
}

// What was put is there, after a restart too, and takes what it is said to take.
func TestPutAndGet(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "shards")
	s := open(t, dir, Options{Budget: 1 << 20})
	a, b, bare := newWork(t, 1, 3), newWork(t, 2, 1), newWork(t, 3, 0)
	a.put(t, s, 0, 2, 5)
	b.put(t, s, 2)
	bare.put(t, s, 4)
	a.put(t, s, 2) // again: it takes no more room
	for range 2 {
		a.expect(t, s, 0, 2, 5)
		b.expect(t, s, 2)
		bare.expect(t, s, 4)
		if got := s.Stats(); got != (Stats{Shards: 5, Bytes: 3*8192 + 2*4096}) {
			t.Errorf("%+v", got)
		}
		s = open(t, dir, Options{Budget: 1 << 20})
	}
}

// What doesn't lead to its root isn't kept, nor what comes with it.
func TestPutChecks(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, Options{Budget: 1 << 20})
	w := newWork(t, 1, 3)
	clone := func(i int, change func(sh *Shard)) Shard {
		sh := w.shards[i]
		sh.Bundle = bytes.Clone(sh.Bundle)
		sh.Segments = [][]byte{bytes.Clone(sh.Segments[0]), bytes.Clone(sh.Segments[1]), bytes.Clone(sh.Segments[2])}
		sh.Path = append(justify.Justification{}, sh.Path...)
		change(&sh)
		return sh
	}
	for name, all := range map[string]map[int]Shard{
		"bundle":        {0: clone(0, func(sh *Shard) { sh.Bundle[7] ^= 1 })},
		"segment":       {0: clone(0, func(sh *Shard) { sh.Segments[2][7] ^= 1 })},
		"path":          {0: clone(0, func(sh *Shard) { sh.Path = sh.Path[1:] })},
		"too many":      {0: clone(0, func(sh *Shard) { sh.Segments = append(sh.Segments, sh.Segments[0]) })},
		"unequal sizes": {0: clone(0, func(sh *Shard) { sh.Segments[1] = sh.Segments[1][1:] })},
		"another index": {0: w.shards[1]},
		"no index":      {6: w.shards[0]},
		"below 0":       {-1: w.shards[0]},
		"one of two":    {0: w.shards[0], 1: w.shards[0]},
	} {
		var at *erasure.ShardError
		if err := s.Put(w.spec, all); !errors.As(err, &at) || !errors.Is(err, justify.ErrWrong) && !errors.Is(err, justify.ErrIndex) {
			t.Errorf("%s: %v", name, err)
		}
	}
	w.expect(t, s)
	if n := files(t, dir); n != 0 {
		t.Errorf("%d files", n)
	}
}

// Without room a shard is refused, and none goes, until it has been kept for its time:
// then the oldest goes first.
func TestBudget(t *testing.T) {
	dir := t.TempDir()
	opts := Options{Budget: 4 * 8192, Keep: time.Hour}
	s := open(t, dir, opts)
	a, b := newWork(t, 1, 3), newWork(t, 2, 3)
	a.put(t, s, 0, 1, 2)
	refused := func(indices ...int) {
		t.Helper()
		all := map[int]Shard{}
		for _, i := range indices {
			all[i] = b.shards[i]
		}
		before := s.Stats()
		if err := s.Put(b.spec, all); !errors.Is(err, ErrBudget) {
			t.Errorf("put %v: %v", indices, err)
		}
		before.Refused += uint64(len(indices))
		if s.Stats() != before || files(t, dir) != before.Shards {
			t.Errorf("%+v, %d files", s.Stats(), files(t, dir))
		}
	}
	refused(0, 1)
	b.put(t, s, 5)
	refused(0)
	a.put(t, s, 1)
	a.expect(t, s, 0, 1, 2)
	b.expect(t, s, 5)

	s = open(t, dir, Options{Budget: 8192, Keep: time.Hour}) // less than there is: nothing goes
	a.expect(t, s, 0, 1, 2)
	refused(0)

	// The age outlives a restart, and counts from the last put.
	for i, age := range map[int]time.Duration{0: 3, 1: 4, 2: 2} {
		when := time.Now().Add(-age * time.Hour)
		if err := os.Chtimes(filepath.Join(dir, key{a.spec.Root, uint16(i)}.name()), when, when); err != nil {
			t.Fatal(err)
		}
	}
	s = open(t, dir, opts)
	a.expect(t, s, 0, 1, 2)
	b.put(t, s, 0)
	a.expect(t, s, 0, 2)
	a.put(t, s, 0)
	b.put(t, s, 1)
	a.expect(t, s, 0)
	b.expect(t, s, 0, 1, 5)
	refused(2, 3)
	refused(0, 1, 2, 3, 4)
	if got := s.Stats(); got.Aged != 2 || got.Shards != 4 {
		t.Errorf("%+v", got)
	}
	s = open(t, dir, Options{Budget: 4 * 8192}) // for ever
	old := time.Now().Add(-1e6 * time.Hour)
	if err := os.Chtimes(filepath.Join(dir, key{a.spec.Root, 0}.name()), old, old); err != nil {
		t.Fatal(err)
	}
	refused(2)
}

// age makes shards of a work package as old as if they had been put long ago.
func (w work) age(t *testing.T, dir string, indices ...int) {
	t.Helper()
	when := time.Now().Add(-2 * time.Hour)
	for _, i := range indices {
		if err := os.Chtimes(filepath.Join(dir, key{w.spec.Root, uint16(i)}.name()), when, when); err != nil {
			t.Fatal(err)
		}
	}
}

// None goes for shards that find no room all the same.
func TestNoneGoesInVain(t *testing.T) {
	dir := t.TempDir()
	opts := Options{Budget: 4 * 8192, Keep: time.Hour}
	a, b := newWork(t, 1, 3), newWork(t, 2, 3)
	a.put(t, open(t, dir, opts), 0, 1, 2)
	a.age(t, dir, 0)
	s := open(t, dir, opts)
	if err := s.Put(b.spec, map[int]Shard{0: b.shards[0], 1: b.shards[1], 2: b.shards[2]}); !errors.Is(err, ErrBudget) {
		t.Error(err)
	}
	a.expect(t, s, 0, 1, 2)
	b.put(t, s, 0, 1)
	a.expect(t, s, 1, 2)
	b.expect(t, s, 0, 1)
}

// One that is being written anew keeps its space meanwhile.
func TestPutAgainKeepsItsSpace(t *testing.T) {
	dir := t.TempDir()
	opts := Options{Budget: 2 * 8192, Keep: time.Hour}
	a, b := newWork(t, 1, 3), newWork(t, 2, 3)
	a.put(t, open(t, dir, opts), 0, 1)
	a.age(t, dir, 0)
	s := open(t, dir, opts)
	again := []*writing{{entry: entry{key{a.spec.Root, 0}, int64(a.shards[0].Size()), time.Now()}}}
	if _, err := s.reserve(again); err != nil {
		t.Fatal(err)
	}
	if err := s.Put(b.spec, map[int]Shard{0: b.shards[0]}); !errors.Is(err, ErrBudget) {
		t.Errorf("took the space of one that is being written: %v", err)
	}
	a.expect(t, s, 0, 1)
}

// A damaged file is told, removed, and then absent; it can be put again. No changed bit of
// it is ever given.
func TestDamage(t *testing.T) {
	w := newWork(t, 1, 2)
	whole := encode(6, 1, &w.shards[1])
	damaged := map[string][]byte{
		"emptied": {}, "cut": whole[:len(whole)-1], "longer": append(bytes.Clone(whole), 0),
		"another's": encode(6, 2, &w.shards[2]), "another's with this index": encode(6, 1, &w.shards[2]),
	}
	for at := range whole {
		if at < 200 || at%97 == 0 || at == len(whole)-1 {
			changed := bytes.Clone(whole)
			changed[at] ^= 1 << (at % 8)
			damaged[fmt.Sprint("byte ", at)] = changed
		}
	}
	dir := t.TempDir()
	s := open(t, dir, Options{Budget: 1 << 20})
	path := filepath.Join(dir, key{w.spec.Root, 1}.name())
	count := uint64(0)
	for name, b := range damaged {
		w.put(t, s, 0, 1)
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, _, err := s.Get(w.spec.Root, 1); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v", name, err)
		}
		w.expect(t, s, 0)
		if count++; files(t, dir) != 1 || s.Stats() != (Stats{Shards: 1, Bytes: 8192, Damaged: count}) {
			t.Errorf("%s: %d files, %+v", name, files(t, dir), s.Stats())
		}
	}
	w.put(t, s, 1)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Get(w.spec.Root, 1); !errors.Is(err, ErrDamaged) {
		t.Errorf("gone: %v", err)
	}
	w.put(t, s, 1)
	w.expect(t, s, 0, 1)

	// A file that can't be read is not taken for damaged.
	if err := errors.Join(os.Remove(path), os.Mkdir(path, 0o700)); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Get(w.spec.Root, 1); err == nil || errors.Is(err, ErrDamaged) || errors.Is(err, ErrAbsent) {
		t.Errorf("a folder: %v", err)
	}
}

// A crash leaves unfinished files at most; files of others are left alone.
func TestOpenCleansUp(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, Options{Budget: 1 << 20})
	w := newWork(t, 1, 1)
	w.put(t, s, 3)
	root := forks.Hash(w.spec.Root).String()
	others := []string{"notes.txt", root, root + "-03", root + "-65536", root + "-x", "0x" + root + "-3"}
	for _, name := range append([]string{temporary + "1", temporary + "x"}, others...) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s = open(t, dir, Options{Budget: 1 << 20})
	w.expect(t, s, 3)
	if n := files(t, dir); n != 1+len(others) {
		t.Errorf("%d files", n)
	}
	w.put(t, s, 4) // its temporary name is free again
	w.expect(t, s, 3, 4)
}

// A write that fails gives its room back, and leaves nothing behind.
func TestFailedWrite(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "shards")
	s := open(t, dir, Options{Budget: 8192})
	w := newWork(t, 1, 3)
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := s.Put(w.spec, map[int]Shard{0: w.shards[0]}); err == nil || errors.Is(err, ErrBudget) {
		t.Errorf("written into no folder: %v", err)
	}
	w.expect(t, s)
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	// The name is taken by a folder: the file can't have it.
	if err := os.MkdirAll(filepath.Join(dir, key{w.spec.Root, 0}.name(), "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := s.Put(w.spec, map[int]Shard{0: w.shards[0]}); err == nil || files(t, dir) != 1 {
		t.Errorf("%v, %d files", err, files(t, dir))
	}
	w.put(t, s, 1)
	w.expect(t, s, 1)
}

// Puts of one shard, damage to its file and reads at the same time: what is read is
// right, and what a put has acknowledged last is there in the end.
func TestConcurrentUse(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, Options{Budget: 3 * 8192})
	w := newWork(t, 1, 3)
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 20 {
				at := (i + g) % 3
				if err := s.Put(w.spec, map[int]Shard{at: w.shards[at]}); err != nil && !errors.Is(err, ErrBudget) {
					t.Error(err)
				}
				if g == 0 {
					_ = os.WriteFile(filepath.Join(dir, key{w.spec.Root, uint16(at)}.name()), []byte("x"), 0o600)
				}
				got, _, err := s.Get(w.spec.Root, at)
				if err == nil && !same(got, w.shards[at]) ||
					err != nil && !errors.Is(err, ErrAbsent) && !errors.Is(err, ErrDamaged) {
					t.Errorf("got %v", err)
				}
			}
		})
	}
	wg.Wait()
	w.put(t, s, 0, 1, 2)
	w.expect(t, s, 0, 1, 2)
	if got := s.Stats(); got.Shards != 3 || got.Bytes != 3*8192 || files(t, dir) != 3 {
		t.Errorf("%+v", got)
	}
}

// The newest are the work packages of which a shard was put last, each once.
func TestNewest(t *testing.T) {
	s := open(t, t.TempDir(), Options{Budget: 1 << 20})
	a, b := newWork(t, 1, 0), newWork(t, 2, 0)
	a.put(t, s, 0, 1)
	b.put(t, s, 2)
	if got := s.Newest(10); len(got) != 2 || got[0] != b.spec.Root || got[1] != a.spec.Root {
		t.Errorf("%x", got)
	}
	if got := s.Newest(1); len(got) != 1 {
		t.Errorf("%d work packages", len(got))
	}
}

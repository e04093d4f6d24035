package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"accessor/api/client"
	"accessor/da"
	"accessor/da/justify"
	"accessor/da/shards"
	"accessor/state"
	"accessor/trace"
)

// holder is a sidecar, a process of its own, among others.
type holder struct {
	cmd    *exec.Cmd
	client *client.Client
	data   string
	args   []string
	socket string
}

// holders starts so many sidecars, each of which has all others for its peers. settings
// are more lines of [da].
func holders(t *testing.T, n int, settings string) []*holder {
	t.Helper()
	chain := generated(t, trace.GenerateOptions{Seed: 3, Blocks: 1, Keys: 5, Writes: 2})
	dir, err := os.MkdirTemp("", "a")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	var all []*holder
	var addresses, listens []string
	for i := range n {
		h := &holder{data: filepath.Join(dir, itoa(i)), socket: filepath.Join(dir, itoa(i)+".sock")}
		identity := filepath.Join(dir, itoa(i)+".id")
		node, err := da.New(context.Background(), da.Config{Identity: identity}, nil)
		if err != nil {
			t.Fatal(err)
		}
		id := node.ID()
		node.Close()
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		listens = append(listens, fmt.Sprintf("/ip4/127.0.0.1/tcp/%d", l.Addr().(*net.TCPAddr).Port))
		l.Close()
		addresses = append(addresses, listens[i]+"/p2p/"+id)
		h.args = []string{"serve", "--data", h.data, "--anchor", chain, "--socket", h.socket, "--config", filepath.Join(dir, itoa(i)+".toml")}
		all = append(all, h)
	}
	for i, h := range all {
		var others []string
		for _, address := range slices.Delete(slices.Clone(addresses), i, i+1) {
			others = append(others, strconv.Quote(address))
		}
		text := fmt.Sprintf("[da]\nenabled = true\nlisten = [%q]\nidentity_file = %q\npeers = [%s]\n%s\n",
			listens[i], filepath.Join(dir, itoa(i)+".id"), strings.Join(others, ", "), settings)
		if err := os.WriteFile(h.args[len(h.args)-1], []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		h.start(t)
	}
	return all
}

func (h *holder) start(t *testing.T) {
	t.Helper()
	h.cmd = child(t, "accessor", h.args...)
	started(t, h.cmd, h.socket)
	var err error
	if h.client, err = client.New(h.socket); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.client.Close() })
}

func (h *holder) kill(t *testing.T) {
	t.Helper()
	if err := h.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	h.cmd.Wait()
}

// wants wants the work package of a sidecar, and of its peers.
func (h *holder) wants(t *testing.T, spec client.ErasureSpec, bundle []byte, segments [][]byte) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	got, err := h.client.Bundle(ctx, spec)
	if err != nil || !bytes.Equal(got, bundle) {
		t.Errorf("bundle: %d bytes, %v", len(got), err)
	}
	for i, want := range segments {
		if got, err := h.client.Segment(ctx, spec, i); err != nil || !bytes.Equal(got, want) {
			t.Errorf("segment %d: %d bytes, %v", i, len(got), err)
		}
	}
}

func workPackage(seed uint64, length, exported int) (bundle []byte, segments [][]byte) {
	r := rand.New(rand.NewPCG(seed, 0))
	filled := func(n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		return b
	}
	for range exported {
		segments = append(segments, filled(client.SegmentSize))
	}
	return filled(length), segments
}

// TestShardsOfSidecars: six sidecars have a shard each; any two that are left give the
// work package, also what others have forgotten; a damaged shard counts for nothing.
func TestShardsOfSidecars(t *testing.T) {
	if testing.Short() {
		t.Skip("runs six sidecars")
	}
	ctx := context.Background()
	all := holders(t, 6, "")
	bundle, segments := workPackage(1, 100_001, 3)
	spec, err := all[0].client.Encode(ctx, 6, bundle, segments, []int{0, 1, 2, 3, 4, 5})
	if err != nil {
		t.Fatal(err)
	}
	var each []client.ErasureShard
	for i := range 6 {
		sh, err := all[0].client.Shard(ctx, spec.ErasureRoot, i)
		if err != nil {
			t.Fatal(err)
		}
		each = append(each, sh)
	}
	// One each: the encoder forgets what it has beside its own.
	all[0].kill(t)
	if err := os.RemoveAll(filepath.Join(all[0].data, "peers", "shards")); err != nil {
		t.Fatal(err)
	}
	all[0].start(t)
	for i, h := range all {
		if err := h.client.PutShard(ctx, spec, i, each[(i+1)%6]); !errors.Is(err, client.ErrBadBody) {
			t.Errorf("another's shard: %v", err)
		}
		if err := h.client.PutShard(ctx, spec, i, each[i]); err != nil {
			t.Fatal(err)
		}
	}
	for _, h := range all {
		h.wants(t, spec, bundle, segments)
	}
	lied := spec
	lied.BundleHash[0] ^= 1
	if _, err := all[5].client.Bundle(ctx, lied); !errors.Is(err, client.ErrBadEncoding) {
		t.Errorf("a bundle with another hash: %v", err)
	}

	// What was acknowledged outlives a kill -9; a damaged file isn't served, to anybody.
	for _, i := range []int{1, 2, 3, 4} {
		all[i].kill(t)
	}
	garbled := filepath.Join(all[2].data, "peers", "shards", spec.ErasureRoot.String()+"-2")
	b, err := os.ReadFile(garbled)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/2] ^= 1
	if err := os.WriteFile(garbled, b, 0o600); err != nil {
		t.Fatal(err)
	}
	all[0].wants(t, spec, bundle, segments)
	all[5].wants(t, spec, bundle, segments)
	all[0].kill(t)
	all[2].start(t)
	if _, err := all[5].client.Bundle(ctx, spec); !errors.Is(err, client.ErrUnknownItem) && !errors.Is(err, client.ErrNotFetched) {
		t.Errorf("with one shard, and a damaged one: %v", err)
	}
	if _, err := all[2].client.Shard(ctx, spec.ErasureRoot, 2); !errors.Is(err, client.ErrUnknownItem) {
		t.Errorf("the damaged shard: %v", err)
	}
	if _, err := os.Stat(garbled); !os.IsNotExist(err) {
		t.Errorf("the damaged file is still there: %v", err)
	}
	all[4].start(t)
	all[5].kill(t)
	all[3].start(t)
	all[2].wants(t, spec, bundle, segments) // it has none any more
	if err := all[2].client.PutShard(ctx, spec, 2, each[2]); err != nil {
		t.Fatal(err)
	}
	all[3].kill(t)
	all[2].wants(t, spec, bundle, segments)
	all[4].wants(t, spec, bundle, segments)
}

// TestFullCodeOfSidecars: 342 of 1,023 shards, of three sidecars with 114 each, are just
// enough; one less isn't.
func TestFullCodeOfSidecars(t *testing.T) {
	if testing.Short() {
		t.Skip("runs three sidecars")
	}
	ctx := context.Background()
	all := holders(t, 3, "")
	bundle, segments := workPackage(2, 1_000_003, 2)
	var spec client.ErasureSpec
	for n, h := range all {
		var keep []int
		for i := range 114 {
			keep = append(keep, 9*i+4*n) // some of 0 to 1,025
		}
		keep[113] = 1000 + n
		var err error
		if spec, err = h.client.Encode(ctx, 1023, bundle, segments, keep); err != nil {
			t.Fatal(err)
		}
	}
	for _, h := range all {
		h.wants(t, spec, bundle, segments)
	}
	one := filepath.Join(all[1].data, "peers", "shards", spec.ErasureRoot.String()+"-1001")
	if err := os.Remove(one); err != nil {
		t.Fatal(err)
	}
	if _, err := all[0].client.Bundle(ctx, spec); !errors.Is(err, client.ErrUnknownItem) {
		t.Errorf("with 341 shards: %v", err)
	}
	got, err := all[1].client.Encode(ctx, 1023, bundle, segments, []int{3})
	if err != nil || got != spec {
		t.Fatalf("%+v, %v", got, err)
	}
	all[0].wants(t, spec, bundle, segments)
}

// TestNoRoomForShards: what there is no room for is refused, told, and counted; it costs
// nothing that was kept. Where none are kept, work packages are encoded all the same.
func TestNoRoomForShards(t *testing.T) {
	ctx := context.Background()
	bundle, segments := workPackage(3, 10_000, 1)
	for budget, fits := range map[string]int{"30kB": 2, "0": 0} { // a shard has some 9 kB, three blocks of a disk
		h := holders(t, 1, `shards_budget = "`+budget+`"`)[0]
		spec, err := h.client.Encode(ctx, 6, bundle, segments, nil)
		if err != nil {
			t.Fatal(err)
		}
		_, all, err := da.Encode(6, bundle, segments)
		if err != nil {
			t.Fatal(err)
		}
		for i, sh := range all {
			one := client.ErasureShard{Bundle: sh.Bundle, Segments: slices.Concat(sh.Segments...), Justification: sh.Path.Append(nil)}
			if err := h.client.PutShard(ctx, spec, i, one); i < fits && err != nil || i >= fits && !errors.Is(err, client.ErrOutOfSpace) {
				t.Errorf("shard %d of %s: %v", i, budget, err)
			}
		}
		if _, err := h.client.Encode(ctx, 6, bundle, segments, client.KeepAll); !errors.Is(err, client.ErrOutOfSpace) {
			t.Errorf("all shards in %s: %v", budget, err)
		}
		got, err := h.client.Bundle(ctx, spec)
		if fits == 2 && (err != nil || !bytes.Equal(got, bundle)) || fits == 0 && !errors.Is(err, client.ErrNotFetched) {
			t.Errorf("%s: %v", budget, err)
		}
		resp, err := overSocket(h.socket).Get("http://x/metrics")
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		want := []string{"\naccessor_shards 0\n", "\naccessor_shards_refused_total 0\n"} // there is no store
		if fits > 0 {
			want = []string{"\naccessor_shards 2\n", "\naccessor_shards_bytes 24576\n", "\naccessor_shards_refused_total 10\n"}
		}
		for _, line := range want {
			if !strings.Contains(string(text), line) {
				t.Errorf("%s: the metrics haven't %q, %v", budget, line, err)
			}
		}
	}
}

// TestShardsOnAFullDisk: what the disk has no room for leaves nothing behind, and costs
// nothing that was kept.
func TestShardsOnAFullDisk(t *testing.T) {
	dir := filepath.Join(smallDisk(t, "96k"), "shards")
	store, err := shards.Open(dir, shards.Options{Budget: 1 << 30})
	if err != nil {
		t.Fatal(err)
	}
	bundle, segments := workPackage(4, 20_000, 4)
	spec, all, err := da.Encode(6, bundle, segments)
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Put(justify.Spec{Root: spec.Root, Shards: 6, Segments: 5}, map[int]da.Shard{4: all[4]}); err != nil {
		t.Fatal(err)
	}
	for _, some := range []map[int]da.Shard{{0: all[0], 1: all[1], 2: all[2], 3: all[3], 4: all[4], 5: all[5]}, {4: all[4], 0: all[0]}} {
		err := store.Put(justify.Spec{Root: spec.Root, Shards: 6, Segments: 5}, some)
		files, _ := os.ReadDir(dir)
		if len(some) == 6 && (!errors.Is(keepError(err), state.ErrNoSpace) || len(files) != 1) || len(some) == 2 && (err != nil || len(files) != 2) {
			t.Errorf("%d shards: %v, %d files", len(some), err, len(files))
		}
		if _, _, err := store.Get(spec.Root, 4); err != nil {
			t.Errorf("the shard that was there: %v", err)
		}
	}
}

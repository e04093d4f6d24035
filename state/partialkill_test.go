package state_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"accessor/checkpoint"
	"accessor/forks"
	"accessor/state"
)

// envFill names the folder of two stores for a process that fills one from the other.
const envFill = "ACCESSOR_TEST_FILL"

// TestFillKilled kills a process that fills a partial store, and imports blocks into it,
// at random moments until one is done. Each goes on where the last one was killed; what
// one of them has acknowledged is there in the end, and right.
func TestFillKilled(t *testing.T) {
	kv := make(contents)
	for i := range 400 {
		kv[key(fmt.Sprint("anchor ", i))] = strings.Repeat("v", i%70)
	}
	e := engines[len(engines)-1] // the one that others use
	c := newChainOf(t, e, small, "alfred", 0, kv)
	c.grow("alfred", "benny", "chase", "dian", "elly", "fred")
	c.grow("benny", "boris", "claire")
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.Symlink(c.cfg.Dir, filepath.Join(dir, "full")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { makeRemovable(dir) })
	seed := *seedFlag
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	rng := rand.New(rand.NewPCG(seed, 0))
	t.Logf("seed %d", seed)
	imported := make(map[string]bool)
	kills := 0
	for done := false; !done; {
		// At first before there is much, later on further and further.
		done = killFill(t, dir, time.Duration(20+rng.IntN(100+60*kills))*time.Millisecond, imported)
		if !done {
			kills++
		}
		if kills > 100 {
			t.Fatal("100 kills, and no end")
		}
	}
	t.Logf("%d kills, %d blocks were acknowledged", kills, len(imported))
	engine, closeEngine := e.open()
	defer closeEngine()
	acc, err := state.Open(state.Config{Dir: filepath.Join(dir, "part"), Engine: engine})
	if err != nil {
		t.Fatal(err)
	}
	defer acc.Close()
	n := &newcomer{chain: &chain{Accessor: acc, t: t, nodes: c.nodes, cfg: state.Config{Dir: filepath.Join(dir, "part")}}, peers: &peers{}}
	n.wantComplete()
	for name := range imported {
		if _, err := acc.Block(hash(name)); err != nil {
			t.Errorf("acknowledged block %s: %v", name, err)
		}
	}
}

// killFill runs a process and kills it after a time, unless it was done before.
func killFill(t *testing.T, dir string, after time.Duration, imported map[string]bool) (done bool) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), envFill+"="+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	timer := time.AfterFunc(after, func() { _ = cmd.Process.Kill() })
	defer timer.Stop()
	for lines := bufio.NewScanner(out); lines.Scan(); {
		switch line := lines.Text(); {
		case line == "done":
			done = true
		case strings.HasPrefix(line, "failed"):
			t.Fatal(line)
		default:
			imported[line] = true
		}
	}
	_ = cmd.Wait()
	return done
}

// fillUntilKilled fills the store in dir/part from the one in dir/full.
func fillUntilKilled(dir string) int {
	err := func() error {
		e := engines[len(engines)-1]
		engine, closeEngine := e.open()
		defer closeEngine()
		full, err := state.Open(state.Config{Dir: filepath.Join(dir, "full"), Engine: engine})
		if err != nil {
			return err
		}
		defer full.Close()
		from := full.Anchor()
		cfg := state.Config{Dir: filepath.Join(dir, "part"), Engine: engine, Commitment: state.JAM{}, Store: small,
			Fetcher: &peers{from: full}, FetchTimeout: time.Minute}
		part, err := state.Open(cfg)
		if errors.Is(err, checkpoint.ErrEmpty) {
			part, err = state.CreatePartial(cfg, state.Anchor{Hash: from.Hash, Slot: from.Slot, Root: from.Root})
		}
		if err != nil {
			return err
		}
		defer part.Close()
		filled := make(chan error, 1)
		go func() {
			filled <- part.Fill(context.Background(), state.FillOptions{Parallel: 3, PageBytes: 600, BytesPerSecond: 400_000})
		}()
		var blocks []forks.Block
		full.ReadTree(func(t *forks.Tree) {
			for b := range t.All() {
				blocks = append(blocks, b)
			}
		})
		for range blocks {
			if _, err := part.CatchUp(context.Background(), func(r state.Result) { fmt.Println(nameOf(r.Block.Hash)) }); err != nil {
				return err
			}
			time.Sleep(5 * time.Millisecond)
		}
		return <-filled
	}()
	if err != nil {
		fmt.Println("failed:", err)
		return 1
	}
	fmt.Println("done")
	return 0
}

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"accessor/checkpoint"
	"accessor/checkpoint/rocks"
	"accessor/forks"
	"accessor/replay"
	"accessor/state"
	"accessor/trace"
)

// crashChild is the name under which this binary replays a chain until it is
// killed: crash-child FILE DIR. It prints each acknowledged block's hash.
const crashChild = "crash-child"

func itoa(n int) string { return strconv.Itoa(n) }

func crashChildMain() {
	if err := crashReplay(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func crashReplay(file, dir string) error {
	src, err := trace.Open(file, trace.Options{})
	if err != nil {
		return err
	}
	defer src.Close()
	c := &replayCommand{env: &env{stdin: os.Stdin, stdout: io.Discard, stderr: os.Stderr, logLevel: "error"},
		commitment: "jam", engine: newEngine(), store: crashOptions}
	if c.log, err = c.logger(); err != nil {
		return err
	}
	open := func(_ string, anchor *trace.Anchor) (*state.Accessor, error) { return c.openOrCreate(dir, anchor) }
	report, err := replay.Run(context.Background(), src, open, replay.Options{
		Acknowledged: func(h forks.Hash) { fmt.Println(h) }, // unbuffered: one write a block
	}, nil)
	if err == nil && len(report.Errors) > 0 {
		err = fmt.Errorf("differs: %v", report.Errors)
	}
	return err
}

// crashOptions make runs and images often, so that kills meet them too.
var crashOptions = checkpoint.Options{RunLength: 4, ImageEvery: 8, MaxTables: 8}

// TestCrash kills a replay at random points, reopens the store and goes on: no
// acknowledged block may be lost, nothing else be listed, and all be right in the
// end. ACCESSOR_CRASH_KILLS and ACCESSOR_CRASH_SEED set the number of kills and
// the seed.
func TestCrash(t *testing.T) {
	kills := envNumber(t, "ACCESSOR_CRASH_KILLS", 30)
	seed := envNumber(t, "ACCESSOR_CRASH_SEED", uint64(time.Now().UnixNano()))
	t.Logf("ACCESSOR_CRASH_SEED=%d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))

	file := generated(t, trace.GenerateOptions{Seed: seed % 1000, Blocks: 120, Keys: 50, Writes: 10, ForkEvery: 6, Rejects: 5})
	recorded := readRecording(t, file)
	dir := filepath.Join(t.TempDir(), "store")
	acknowledged := make(map[forks.Hash]bool)
	stores := 1
	for n := uint64(0); n < kills; {
		// Some milliseconds after one of the next blocks; of a new store at times
		// while it is being made.
		k := kill{blocks: len(acknowledged) + rnd.IntN(16), after: time.Duration(rnd.Int64N(int64(15 * time.Millisecond)))}
		if k.blocks == 0 {
			k.after *= 4
		}
		outcome := runChild(t, file, dir, k)
		for _, h := range outcome.acknowledged {
			acknowledged[h] = true
		}
		checkAfterCrash(t, dir, acknowledged, recorded)
		if outcome.killed {
			n++
			continue
		}
		mustRun(t, "verify", "--data", dir)
		mustRun(t, "replay", "--data", dir, "--verify", "states", file)
		dir = filepath.Join(t.TempDir(), "store") // a new one
		clear(acknowledged)
		stores++
	}
	mustRun(t, "replay", "--data", dir, "--verify", "states", file)
	mustRun(t, "verify", "--data", dir)
	t.Logf("%d kills over %d stores", kills, stores)
}

func envNumber(t *testing.T, name string, def uint64) uint64 {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return def
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// kill is when a child is killed: so long after it has acknowledged so many
// blocks, those that it found held included.
type kill struct {
	blocks int
	after  time.Duration
}

type childOutcome struct {
	acknowledged []forks.Hash
	killed       bool
}

// runChild replays in a child process and kills it.
func runChild(t *testing.T, file, dir string, k kill) (o childOutcome) {
	t.Helper()
	cmd := child(t, crashChild, file, dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for {
		if len(o.acknowledged) == k.blocks {
			timer := time.AfterFunc(k.after, func() { _ = cmd.Process.Kill() })
			defer timer.Stop()
		}
		if !lines.Scan() {
			break
		}
		h, err := forks.ParseHash(lines.Text())
		if err != nil {
			break // cut off by the kill
		}
		o.acknowledged = append(o.acknowledged, h)
	}
	err = cmd.Wait()
	o.killed = cmd.ProcessState.ExitCode() == -1
	if err != nil && !o.killed {
		t.Fatalf("child failed by itself: %v", err)
	}
	return o
}

// readRecording gives the roots of a recording's blocks.
func readRecording(t *testing.T, file string) map[forks.Hash]forks.Hash {
	t.Helper()
	src, err := trace.Open(file, trace.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	roots := make(map[forks.Hash]forks.Hash)
	for {
		entry, err := src.Next()
		if err == io.EOF {
			return roots
		}
		if err != nil {
			t.Fatal(err)
		}
		switch e := entry.(type) {
		case *trace.Anchor:
			roots[e.Hash] = e.Root
		case *trace.Block:
			roots[e.Hash] = *e.PostRoot
		}
	}
}

// checkAfterCrash opens the store as the next start would.
func checkAfterCrash(t *testing.T, dir string, acknowledged map[forks.Hash]bool, recorded map[forks.Hash]forks.Hash) {
	t.Helper()
	engine := rocks.New(rocks.Options{})
	defer engine.Close()
	store, err := checkpoint.Open(dir, engine, crashOptions)
	if err != nil {
		if errors.Is(err, checkpoint.ErrEmpty) && len(acknowledged) == 0 {
			return // killed before there was a store
		}
		t.Fatalf("open after a kill, with %d blocks acknowledged: %v", len(acknowledged), err)
	}
	defer store.Close()
	held := make(map[forks.Hash]bool)
	for _, rec := range store.Records() {
		held[rec.Hash] = true
		root, known := recorded[rec.Hash]
		if !known {
			t.Errorf("block %s is listed and was never imported", rec.Hash)
		} else if rec.Root != root {
			t.Errorf("block %s has root %s, want %s", rec.Hash, rec.Root, root)
		}
	}
	for h := range acknowledged {
		if !held[h] {
			t.Errorf("acknowledged block %s is lost", h)
		}
	}
}

package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"accessor/checkpoint"
	"accessor/checkpoint/rocks"
	"accessor/forks"
	"accessor/replay"
	"accessor/trace"
)

// lockingChild is the name under which this binary opens a checkpoint directory
// for writing, as another program might, and keeps it open until its standard
// input ends: locking-child DIR.
const lockingChild = "locking-child"

func lockingChildMain() {
	engine := rocks.New(rocks.Options{})
	if err := os.Chmod(os.Args[1], 0o755); err != nil {
		panic(err)
	}
	names, _ := filepath.Glob(filepath.Join(os.Args[1], "*"))
	for _, name := range names {
		_ = os.Chmod(name, 0o644)
	}
	db, err := engine.OpenWorking(os.Args[1])
	if err != nil {
		panic(err)
	}
	fmt.Println("open")
	_, _ = bufio.NewReader(os.Stdin).ReadByte()
	db.Close()
}

// lockCheckpoint has another process open a block's checkpoint for writing.
func lockCheckpoint(t *testing.T, dir string) {
	t.Helper()
	cmd := child(t, lockingChild, dir)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		_ = cmd.Wait()
	})
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "open\n" {
		t.Fatalf("the other process said %q, %v", line, err)
	}
}

// TestReplayWalksBackFromALockedCheckpoint replays the second half of a chain
// while another process has the checkpoint open on which it goes on.
func TestReplayWalksBackFromALockedCheckpoint(t *testing.T) {
	file := generated(t, trace.GenerateOptions{Seed: 3, Blocks: 12, Keys: 20, Writes: 5})
	half := filepath.Join(t.TempDir(), "half.jsonl")
	last := firstBlocks(t, file, half, 6)

	data := t.TempDir()
	mustRun(t, "replay", "--data", data, half)
	lockCheckpoint(t, filepath.Join(data, "checkpoints", checkpoint.Name(last)))

	var report replay.Report
	out := mustRun(t, "replay", "--data", data, "--json", "--verify", "states", file)
	if err := json.Unmarshal([]byte(out), &report); err != nil {
		t.Fatal(err)
	}
	if report.Held != 6 || report.Blocks != 6 || report.WalkBacks != 1 || report.BlocksReplayed != 1 || report.StatesVerified != 13 {
		t.Errorf("held %d, imported %d, walk-backs %d over %d blocks, states %d; want 6, 6, 1 over 1, 13",
			report.Held, report.Blocks, report.WalkBacks, report.BlocksReplayed, report.StatesVerified)
	}
	// Reading works while the other process is at it, and says nothing wrong.
	mustRun(t, "ls", "--data", data, "--at", "0x"+last.Hash.String())
	if status, out, _ := command(t, "verify", "--data", data); status != exitDiffers {
		t.Errorf("verify ends with %d beside a checkpoint that another process changed:\n%s", status, out)
	}
}

// firstBlocks writes the beginning of a recording, with so many blocks, to
// another file, and gives the last of them.
func firstBlocks(t *testing.T, from, to string, count int) (last forks.Block) {
	t.Helper()
	src, err := trace.Open(from, trace.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	w, err := trace.Create(to)
	if err != nil {
		t.Fatal(err)
	}
	for blocks := 0; blocks < count; {
		entry, err := src.Next()
		if err != nil {
			t.Fatal(err)
		}
		switch e := entry.(type) {
		case *trace.Header:
			err = w.Header(e)
		case *trace.Anchor:
			err = w.Anchor(e)
		case *trace.Block:
			err = w.Block(e)
			blocks++
			last = forks.Block{Hash: e.Hash, Parent: e.Parent, Slot: e.Slot, Root: *e.PostRoot}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return last
}

package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"accessor/replay"
	"accessor/trace"
)

// smallDisk mounts a small file system in memory.
func smallDisk(t *testing.T, size string) string {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("not root: can't mount a small disk to fill up")
	}
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); err != nil {
		t.Fatalf("mount: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Errorf("unmount: %v", err)
		}
	})
	return dir
}

func remount(t *testing.T, dir string, flags uintptr, options string) {
	t.Helper()
	if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_REMOUNT|flags, options); err != nil {
		t.Fatalf("remount: %v", err)
	}
}

// TestFullDisk fills the disk in the midst of a replay. The error says so, nothing
// that was held is lost, and with more space the replay goes on.
func TestFullDisk(t *testing.T) {
	disk := smallDisk(t, "16m")
	data := filepath.Join(disk, "store")
	file := generated(t, trace.GenerateOptions{Seed: 8, Blocks: 150, Keys: 500, Writes: 150, ForkEvery: 10})

	status, out, stderr := command(t, "replay", "--data", data, "--json", file)
	if status != exitStore || !strings.Contains(stderr, "no space left") {
		t.Fatalf("exit status %d, want %d and \"no space left\"\n%s", status, exitStore, stderr)
	}
	var before replay.Report
	if err := json.Unmarshal([]byte(out), &before); err != nil {
		t.Fatal(err)
	}
	if before.Blocks == 0 {
		t.Fatal("no block fits on the disk")
	}
	remount(t, disk, 0, "size=512m")
	var after replay.Report
	if err := json.Unmarshal([]byte(mustRun(t, "replay", "--data", data, "--json", "--verify", "states", file)), &after); err != nil {
		t.Fatal(err)
	}
	if after.Held < before.Blocks || after.Held+after.Blocks != 150 || after.StatesVerified != 151 {
		t.Errorf("%d were imported, then %d held and %d imported, %d states verified", before.Blocks, after.Held, after.Blocks, after.StatesVerified)
	}
	mustRun(t, "verify", "--data", data)
}

// TestReadOnlyDisk opens a store on a disk that became read-only.
func TestReadOnlyDisk(t *testing.T) {
	disk := smallDisk(t, "64m")
	data := filepath.Join(disk, "store")
	file := generated(t, trace.GenerateOptions{Seed: 8, Blocks: 5, Keys: 5, Writes: 2})
	mustRun(t, "replay", "--data", data, file)
	remount(t, disk, unix.MS_RDONLY, "")
	status, _, stderr := command(t, "replay", "--data", data, file)
	if status != exitStore || !strings.Contains(stderr, "read-only file system") {
		t.Errorf("exit status %d, want %d and \"read-only file system\"\n%s", status, exitStore, stderr)
	}
	remount(t, disk, 0, "")
	mustRun(t, "verify", "--data", data)
}

// TestSecondOwner replays into a store that another process owns.
func TestSecondOwner(t *testing.T) {
	file := generated(t, trace.GenerateOptions{Seed: 8, Blocks: 5, Keys: 5, Writes: 2})
	data := filepath.Join(t.TempDir(), "store")
	mustRun(t, "replay", "--data", data, file)
	lock, err := os.Open(filepath.Join(data, "LOCK"))
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"replay", "--data", data, file}, {"tree", "--data", data}, {"recover", "--data", data}} {
		if status, _, stderr := command(t, args...); status != exitStore || !strings.Contains(stderr, "in use by another process") {
			t.Errorf("%s: exit status %d, want %d\n%s", args[0], status, exitStore, stderr)
		}
	}
}

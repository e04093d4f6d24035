package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"accessor/forks"
	"accessor/replay"
	"accessor/state"
	"accessor/trace"
)

// Names under which this binary owns a store, as the process beside which others
// read:
//
//	owning-child DIR READY STOP     makes the file READY, until there is STOP
//	importing-child FILE DIR        replays a chain, a block for each byte of its
//	                                standard input, and prints each one's hash
const (
	owningChild    = "owning-child"
	importingChild = "importing-child"
)

func owningChildMain() {
	if err := ownStore(os.Args[1], os.Args[2], os.Args[3]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func ownStore(dir, ready, stop string) error {
	engine := newEngine()
	defer engine.Close()
	acc, err := state.Open(state.Config{Dir: dir, Engine: engine})
	if err != nil {
		return err
	}
	defer acc.Close()
	if err := os.WriteFile(ready, nil, 0o644); err != nil {
		return err
	}
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if _, err := os.Stat(stop); err == nil {
			return nil
		}
	}
	return fmt.Errorf("nobody made %s", stop)
}

func importingChildMain() {
	if err := importStepwise(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func importStepwise(file, dir string) error {
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
	step := make([]byte, 1)
	report, err := replay.Run(context.Background(), src, open, replay.Options{
		Acknowledged: func(h forks.Hash) {
			fmt.Println(h)
			_, _ = os.Stdin.Read(step)
		},
	}, nil)
	if err == nil && len(report.Errors) > 0 {
		err = fmt.Errorf("differs: %v", report.Errors)
	}
	return err
}

// answer is what get --json prints.
type answer struct {
	Value *string
	Block forks.Hash
	Slot  forks.Slot
	Root  forks.Hash
}

func getJSON(t *testing.T, data, at, key string) (a answer, stderr string) {
	t.Helper()
	status, out, stderr := command(t, "get", "--data", data, "--at", at, "--json", key)
	if status != exitOK {
		t.Fatalf("get --at %s: exit status %d\n%s", at, status, stderr)
	}
	if err := json.Unmarshal([]byte(out), &a); err != nil {
		t.Fatal(err)
	}
	return a, stderr
}

// TestReadBesideAnImportingProcess reads each block as soon as another process
// has acknowledged it, and the head, which is never behind for long.
func TestReadBesideAnImportingProcess(t *testing.T) {
	file := generated(t, trace.GenerateOptions{Seed: 11, Blocks: 24, Keys: 20, Writes: 5, ForkEvery: 5})
	recorded := readRecording(t, file)
	data := filepath.Join(t.TempDir(), "store")
	cmd := child(t, importingChild, file, data)
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
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	want := fmt.Sprintf("read beside process %d, which owns the store\n", cmd.Process.Pid)
	seen, heads := 0, make(map[forks.Hash]bool)
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		h, err := forks.ParseHash(lines.Text())
		if err != nil {
			t.Fatal(err)
		}
		a, stderr := getJSON(t, data, "0x"+h.String(), "slot")
		// The value at this key is the slot itself, little-endian.
		value := fmt.Sprintf("%02x%02x%02x%02x", byte(a.Slot), byte(a.Slot>>8), byte(a.Slot>>16), byte(a.Slot>>24))
		if a.Block != h || a.Root != recorded[h] || a.Value == nil || *a.Value != value {
			t.Errorf("at %s: %+v, value %v; want root %s, value %s", h, a, a.Value, recorded[h], value)
		}
		if stderr != want {
			t.Errorf("standard error says %q, want %q", stderr, want)
		}
		if seen == 12 {
			time.Sleep(400 * time.Millisecond) // longer than HEADS may be behind
		}
		head, _ := getJSON(t, data, "head", "slot")
		if recorded[head.Block] != head.Root {
			t.Errorf("head is %s with root %s", head.Block, head.Root)
		}
		heads[head.Block] = true
		if seen++; seen == 13 {
			if len(heads) < 2 {
				t.Errorf("the head is still %s", head.Block)
			}
			if status, _, stderr := command(t, "diff", "--data", data, "anchor", "head"); status != exitStore || !strings.Contains(stderr, "store is in use by another process") {
				t.Errorf("diff ends with %d: %s", status, stderr)
			}
		}
		if _, err := in.Write([]byte{'\n'}); err != nil {
			t.Fatal(err)
		}
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	if seen < 24 {
		t.Errorf("%d blocks were read", seen)
	}
	mustRun(t, "replay", "--data", data, "--verify", "states", file)
	mustRun(t, "verify", "--data", data)
}

// everything is all that a directory holds: names, modes, sizes and times.
func everything(t *testing.T, dir string) string {
	t.Helper()
	var out strings.Builder
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		fmt.Fprintln(&out, path, info.Mode(), info.Size(), info.ModTime().UnixNano())
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// TestReadBesideSaysWhatTheOwnerSays compares all answers with those that the
// owner gives, and the directory before and after.
func TestReadBesideSaysWhatTheOwnerSays(t *testing.T) {
	file := generated(t, trace.GenerateOptions{Seed: 12, Blocks: 20, Keys: 20, Writes: 5, ForkEvery: 4})
	data := filepath.Join(t.TempDir(), "store")
	mustRun(t, "replay", "--data", data, file)
	names := []string{"head", "finalized", "anchor", "genesis", "3", "4000000", "xyz", strings.Repeat("f", 64)}
	for h := range readRecording(t, file) {
		names = append(names, "0x"+h.String(), "0x"+h.String()[:12])
	}
	type said struct {
		status      int
		out, stderr string
	}
	ask := func() (all []said) {
		for _, name := range names {
			for _, args := range [][]string{{"ls", "--json"}, {"ls", "--prefix", "0b"}, {"get", "entropy"}, {"get", "--json", "ff" + strings.Repeat("0", 60)}} {
				status, out, stderr := command(t, append(args, "--data", data, "--at", name)...)
				all = append(all, said{status, out, stderr})
			}
		}
		return all
	}
	want := ask()

	ready, stop := filepath.Join(t.TempDir(), "ready"), filepath.Join(t.TempDir(), "stop")
	cmd := child(t, owningChild, data, ready, stop)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if _, err := os.Stat(ready); err == nil {
			break
		}
		if time.Now().After(end) {
			t.Fatal("the other process doesn't own the store")
		}
	}
	before := everything(t, data)
	got := ask()
	if after := everything(t, data); after != before {
		t.Errorf("reading changed the directory from\n%s\nto\n%s", before, after)
	}
	note := fmt.Sprintf("read beside process %d, which owns the store\n", cmd.Process.Pid)
	for i := range want {
		want[i].stderr = note + want[i].stderr
		if got[i] != want[i] {
			t.Errorf("answer %d at %s:\n%+v\nthe owner's:\n%+v", i, names[i/4], got[i], want[i])
		}
	}
	if err := os.WriteFile(stop, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}

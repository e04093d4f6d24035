package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"accessor/checkpoint"
	"accessor/forks"
	"accessor/state"
	"accessor/state/merkle"
	"accessor/statefile"
)

// bigState is a state file of some thousand pairs.
func bigState(t *testing.T) []byte {
	t.Helper()
	const pairs = 20_000
	value := bytes.Repeat([]byte{7}, 200)
	key := func(i int) []byte {
		k := make([]byte, merkle.KeySize)
		binary.BigEndian.PutUint32(k, uint32(i)*200_000)
		return k
	}
	root, err := merkle.Root(func(yield func(k, v []byte) bool) {
		for i := range pairs {
			if !yield(key(i), value) {
				return
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	w, err := statefile.NewWriter(&out, statefile.NDJSON, statefile.Header{Hash: forks.Hash{1}, Slot: 5, Root: root, Commitment: "jam"})
	if err != nil {
		t.Fatal(err)
	}
	for i := range pairs {
		if err := w.Put(key(i), value); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// interrupting ends a context when half of the stream has been read.
type interrupting struct {
	file []byte
	half int
	end  context.CancelFunc
}

func (r *interrupting) Read(p []byte) (int, error) {
	if len(r.file) == 0 {
		return 0, io.EOF
	}
	n := copy(p, r.file)
	if r.file = r.file[n:]; len(r.file) < r.half {
		r.end()
	}
	return n, nil
}

func TestInitInterrupted(t *testing.T) {
	file := bigState(t)
	dir := filepath.Join(t.TempDir(), "store")
	t.Cleanup(func() { _ = removeSealed(dir) })
	for range 3 { // what one leaves is in no other's way
		ctx, cancel := context.WithCancel(context.Background())
		var stdout, stderr bytes.Buffer
		in := &interrupting{file: file, half: len(file) / 2, end: cancel}
		status := run(ctx, []string{"init", "--data", dir, "-"}, in, &stdout, &stderr)
		if status != exitStopped || stdout.Len() > 0 || len(in.file) == 0 {
			t.Fatalf("status %d with %d bytes to read, want %d\n%s%s", status, len(in.file), exitStopped, stdout.String(), stderr.String())
		}
		if status, _, stderr := command(t, "root", "--data", dir); status != exitUsage {
			t.Fatalf("a store after an interruption: status %d\n%s", status, stderr)
		}
	}
	var stdout, stderr bytes.Buffer
	if status := run(context.Background(), []string{"init", "--data", dir, "-"}, bytes.NewReader(file), &stdout, &stderr); status != exitOK {
		t.Fatalf("status %d\n%s", status, stderr.String())
	}
	mustRun(t, "verify", "--data", dir)
	mustRun(t, "root", "--data", dir)
}

// Kills at any moment leave a folder in which init can be run again, or a whole
// store.
func TestInitKilled(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.ndjson")
	if err := os.WriteFile(path, bigState(t), 0o600); err != nil {
		t.Fatal(err)
	}
	kills := 12
	if testing.Short() {
		kills = 4
	}
	unfinished := 0
	dir := filepath.Join(t.TempDir(), "store")
	for i := range kills {
		cmd := child(t, "accessor", "init", "--data", dir, path)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(i)*20*time.Millisecond + rand.N(10*time.Millisecond))
		_ = cmd.Process.Kill() // it may have ended
		_ = cmd.Wait()
		if i%2 == 1 {
			continue // the next is killed on what this one has left
		}
		status, _, stderr := command(t, "init", "--data", dir, path)
		switch {
		case status == exitOK:
			unfinished++
		case status != exitUsage || !strings.Contains(stderr, "there is a store already"):
			t.Fatalf("after kill %d: status %d\n%s", i, status, stderr)
		}
		mustRun(t, "verify", "--data", dir)
		if err := removeSealed(dir); err != nil {
			t.Fatal(err)
		}
	}
	if unfinished == 0 {
		t.Error("no kill met an init that was not done")
	}
}

// An export that fails leaves neither the file nor a part of it, and what was
// there before stays.
func TestExportGivenUp(t *testing.T) {
	dir := t.TempDir()
	store, file, out := filepath.Join(dir, "store"), filepath.Join(dir, "state"), filepath.Join(dir, "out")
	t.Cleanup(func() { _ = removeSealed(store) })
	if err := os.WriteFile(file, bigState(t), 0o600); err != nil {
		t.Fatal(err)
	}
	mustRun(t, "init", "--data", store, file)
	for _, flags := range [][]string{{"--format", "binary"}, {"--format", "ndjson"}, {"--branch"}} {
		if err := os.WriteFile(out, []byte("old"), 0o600); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		args := append([]string{"export", "--data", store, "--force", "-o", out}, flags...)
		var stderr bytes.Buffer
		if status := run(ctx, args, nil, io.Discard, &stderr); status != exitStopped {
			t.Errorf("%v: status %d\n%s", flags, status, stderr.String())
		}
		if text, err := os.ReadFile(out); err != nil || string(text) != "old" {
			t.Errorf("%v: %q, %v", flags, text, err)
		}
		if names, err := filepath.Glob(out + ".*"); err != nil || len(names) > 0 {
			t.Errorf("%v: left %v, %v", flags, names, err)
		}
	}
}

// A file of the name that appears while the output is written is not replaced.
func TestOutputAppearsMeanwhile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "out")
	e := &env{}
	for _, force := range []bool{false, true} {
		o, err := e.createOutput(path, force)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := o.Write([]byte("new")); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("other"), 0o600); err != nil {
			t.Fatal(err)
		}
		err = o.commit()
		text, readErr := os.ReadFile(path)
		want := "other"
		if force {
			want = "new"
		}
		if (err == nil) != force || readErr != nil || string(text) != want {
			t.Errorf("force %v: %v, file has %q, %v; want %q", force, err, text, readErr, want)
		}
		if !force && statusOf(err) != exitUsage {
			t.Errorf("error %v has status %d", err, statusOf(err))
		}
		if _, err := os.Stat(path + ".tmp"); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("force %v: temporary file is left: %v", force, err)
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
}

// What is wrong with the input is told from what is with the store.
func TestInitErrors(t *testing.T) {
	for _, test := range []struct {
		err  error
		want int
	}{
		{&statefile.Error{File: "x", Err: statefile.ErrCut}, exitInput},
		{&state.RootError{Kind: state.ErrWrongRoot}, exitInput},
		{state.ErrInvalid, exitInput},
		{checkpoint.ErrLimit, exitInput},
		{checkpoint.ErrExists, exitUsage},
		{checkpoint.ErrNoSpace, exitStore},
		{checkpoint.ErrInUse, exitStore},
	} {
		if got := statusOf(initError(test.err)); got != test.want {
			t.Errorf("%v: status %d, want %d", test.err, got, test.want)
		}
	}
}

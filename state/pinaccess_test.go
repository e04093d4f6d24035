package state_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"accessor/checkpoint"
	"accessor/state"
)

// A store that was written for its owner alone hands out what is asked for, and opens
// nothing else by it.
func TestPinDirectoryWhateverTheUmask(t *testing.T) {
	group := os.Getgid()
	for _, umask := range []int{0o077, 0o022, 0} {
		for _, tt := range []struct {
			access           state.PinAccess
			table, pins, top fs.FileMode // bits that there are at least
		}{
			{state.PinAccess{Mode: 0o500}, 0, 0, 0},
			{state.PinAccess{Mode: 0o550}, 0o040, 0o010, 0o010},
			{state.PinAccess{Mode: 0o550, Group: &group}, 0o040, 0o010, 0o010},
			{state.PinAccess{Mode: 0o555}, 0o044, 0o011, 0o011},
		} {
			old := unix.Umask(umask)
			c := newChain(t, engines[0], noImages)
			c.grow("alfred", "a1", "a2")
			_, dir := c.pinDir("a1", time.Hour, tt.access)
			unix.Umask(old)
			c.wantPinned(dir, "a1", tt.access.Mode)
			has := func(path string, bits fs.FileMode) {
				t.Helper()
				info, err := os.Stat(path)
				if err != nil || info.Mode().Perm()&bits != bits {
					t.Errorf("umask %#o, pins of %#o: %s has mode %v, %v; want %#o", umask, tt.access.Mode, path, info.Mode(), err, bits)
				}
			}
			files, _ := os.ReadDir(dir)
			for _, f := range files {
				has(filepath.Join(dir, f.Name()), tt.table)
			}
			has(filepath.Dir(dir), tt.pins)
			has(c.cfg.Dir, tt.top)
			c.Close()
		}
	}
}

// Whoever is let through the store's directory to a pin finds nothing else open.
func TestPinDirectoryOpensNothingElse(t *testing.T) {
	c := newChain(t, engines[0], noImages)
	c.grow("alfred", "a1", "a2")
	if err := os.Chmod(c.cfg.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	mode := func(elem ...string) fs.FileMode {
		t.Helper()
		info, err := os.Stat(filepath.Join(append([]string{c.cfg.Dir}, elem...)...))
		if err != nil {
			t.Fatal(err)
		}
		return info.Mode().Perm()
	}
	c.pinDir("a1", time.Hour, state.PinAccess{Mode: 0o500})
	if got := mode(); got != 0o700 {
		t.Errorf("for the owner, the store's directory got mode %v", got)
	}
	c.pinDir("a2", time.Hour, state.PinAccess{Mode: 0o555})
	if got := mode(); got != 0o711 {
		t.Errorf("the store's directory has mode %v, want one to pass through and not to list", got)
	}
	names, _ := os.ReadDir(c.cfg.Dir)
	for _, d := range names {
		if d.Name() != "pins" && mode(d.Name())&0o077 != 0 {
			t.Errorf("%s is open to others: %v", d.Name(), mode(d.Name()))
		}
	}
	c.wantStates()
	c.grow("a2", "a3")
	c.reopen()
	c.wantStates()
}

// A store's directory that the program makes is the owner's alone.
func TestStoreDirectoryIsPrivate(t *testing.T) {
	for _, made := range []bool{false, true} {
		c := newChain(t, engines[0], noImages)
		c.Close()
		cfg := c.cfg
		cfg.Dir = filepath.Join(t.TempDir(), "new", "store")
		if made {
			if err := os.MkdirAll(cfg.Dir, 0o750); err != nil {
				t.Fatal(err)
			}
		}
		acc, err := state.Create(cfg, c.anchor)
		if err != nil {
			t.Fatal(err)
		}
		acc.Close()
		want := fs.FileMode(0o700)
		if made {
			want = 0o750
		}
		if info, err := os.Stat(cfg.Dir); err != nil || info.Mode().Perm() != want {
			t.Errorf("made before: %t: mode %v, %v; want %v", made, info.Mode(), err, want)
		}
	}
}

// A crash between a directory's name and its mode leaves none of it at the next start;
// and a mode that was told is durable.
func TestPinDirectoryCrash(t *testing.T) {
	c := newChain(t, engines[0], noImages)
	c.grow("alfred", "a1")
	pin, err := c.Pin(hash("a1"), "test", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	crashed := false
	c.hook.set(func(call checkpoint.FileCall) error {
		crashed = crashed || call.Op == "rename" && call.Applied && strings.Contains(call.Path, "/pins/")
		if crashed {
			return errors.New("crash")
		}
		return nil
	})
	if _, err := c.PinDirectory(context.Background(), pin.ID, state.PinAccess{}); err == nil {
		t.Fatal("made in spite of the crash")
	}
	left := filepath.Join(c.cfg.Dir, "pins", pin.ID)
	if info, err := os.Stat(left); err != nil || info.Mode().Perm() != 0o700 {
		t.Fatalf("not the crash that is meant: %v, %v", info, err)
	}
	c.hook.set(nil)
	c.reopen()
	if dir, ok := c.PinDir(pin.ID); ok {
		t.Errorf("a directory that nobody can read is handed out: %s", dir)
	}
	if _, err := os.Stat(left); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it is still there: %v", err)
	}
	var calls []string
	c.hook.set(func(call checkpoint.FileCall) error {
		if call.Path == left && call.Applied {
			calls = append(calls, call.Op)
		}
		return nil
	})
	dir, err := c.PinDirectory(context.Background(), pin.ID, state.PinAccess{})
	c.hook.set(nil)
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"rename", "chmod", "sync"}; !slices.Equal(calls, want) {
		t.Errorf("calls %v, want %v", calls, want)
	}
	c.wantPinned(dir, "a1", 0o555)
}

package state_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"accessor/checkpoint"
	"accessor/state"
)

// pinDir pins a block with a directory.
func (c *chain) pinDir(name string, ttl time.Duration, access state.PinAccess) (id, dir string) {
	c.t.Helper()
	pin, err := c.Pin(hash(name), "test", ttl)
	if err != nil {
		c.t.Fatal(err)
	}
	if dir, err = c.PinDirectory(context.Background(), pin.ID, access); err != nil {
		c.t.Fatal(err)
	}
	return pin.ID, dir
}

// wantPinned wants a directory to hold the state at a block, for a reader of its own.
func (c *chain) wantPinned(dir, name string, mode fs.FileMode) {
	c.t.Helper()
	engine, closeEngine := c.engine.open()
	defer closeEngine()
	db, err := engine.OpenReadOnly(dir)
	if err != nil {
		c.t.Fatal(err)
	}
	defer db.Close()
	for k, want := range c.node(name).state {
		got, found, err := db.Get(nil, append([]byte{1}, k...))
		if err != nil || !found || string(got) != "\x00"+want {
			c.t.Errorf("in the directory of %s, key %x is %q, %t, %v; want %q", name, k, got, found, err, want)
		}
	}
	info, err := os.Stat(dir)
	if err != nil || info.Mode().Perm() != mode {
		c.t.Errorf("directory of %s: mode %v, %v; want %v", name, info.Mode(), err, mode)
	}
	files, _ := os.ReadDir(dir)
	for _, f := range files {
		info, err := f.Info()
		if err != nil || !engine.IsTable(f.Name()) && info.Mode().Perm() != 0o444 {
			c.t.Errorf("file %s: mode %v, %v", f.Name(), info.Mode(), err)
		}
		if !engine.NeedsFile(f.Name()) {
			c.t.Errorf("there is a file %s", f.Name())
		}
	}
}

func (c *chain) wantGone(dir string) {
	c.t.Helper()
	c.until(dir+" to go", func() bool {
		_, err := os.Stat(dir)
		return errors.Is(err, fs.ErrNotExist)
	})
}

func TestPinDirectory(t *testing.T) {
	overEngines(t, func(t *testing.T, e engineCase) {
		c := newChain(t, e, noImages)
		c.grow("alfred", "a1", "a2", "a3")
		c.grow("a1", "b2")
		id, dir := c.pinDir("a2", time.Hour, state.PinAccess{})
		c.wantPinned(dir, "a2", 0o555)
		if got, ok := c.PinDir(id); !ok || got != dir {
			t.Errorf("directory %q, %t", got, ok)
		}
		// Again it is the same one, with the access asked for last.
		group := os.Getgid()
		for _, mode := range []fs.FileMode{0o550, 0o500, 0o555} {
			again, err := c.PinDirectory(context.Background(), id, state.PinAccess{Mode: mode, Group: &group})
			if err != nil || again != dir {
				t.Fatalf("%q, %v", again, err)
			}
			c.wantPinned(dir, "a2", mode)
		}
		// One whose checkpoint can't be used, by walk-back.
		if err := c.Store().DropCheckpoint(hash("b2")); err != nil {
			t.Fatal(err)
		}
		_, walked := c.pinDir("b2", time.Hour, state.PinAccess{Mode: 0o550})
		c.wantPinned(walked, "b2", 0o550)
		if c.Store().HasCheckpoint(hash("b2")) {
			t.Error("the checkpoint that was pruned is there again")
		}
		if s := c.Stats(); s.Pins != 2 || s.PinDirectories != 2 {
			t.Errorf("stats %+v", s)
		}
		// Over a restart, as long as the pin lives.
		c.reopen()
		c.wantPinned(dir, "a2", 0o555)
		c.wantStates()
		if err := c.Unpin(id); err != nil {
			t.Fatal(err)
		}
		c.wantGone(dir)
		c.until("the count to fall", func() bool { return c.Stats().PinDirectories == 1 })
		if _, err := c.PinDirectory(context.Background(), id, state.PinAccess{}); !errors.Is(err, state.ErrUnknownPin) {
			t.Error(err)
		}
	})
}

func TestPinDirectoryGoesWhenThePinExpires(t *testing.T) {
	c := newChain(t, engines[0], noImages)
	c.grow("alfred", "a1")
	id, dir := c.pinDir("a1", 150*time.Millisecond, state.PinAccess{})
	_, soon := c.pinDir("a1", 100*time.Millisecond, state.PinAccess{})
	if _, err := c.RenewPin(id, time.Hour); err != nil {
		t.Fatal(err)
	}
	c.wantGone(soon)
	time.Sleep(100 * time.Millisecond)
	c.wantPinned(dir, "a1", 0o555)
	if _, err := c.RenewPin(id, 50*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	c.wantGone(dir)
	// One that expires while the store is closed, and one that nobody knows.
	_, dir = c.pinDir("a1", 50*time.Millisecond, state.PinAccess{})
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	stray := filepath.Join(c.cfg.Dir, "pins", "stray")
	if err := os.Mkdir(stray, 0o555); err != nil {
		t.Fatal(err)
	}
	time.Sleep(60 * time.Millisecond)
	acc, err := state.Open(c.cfg)
	if err != nil {
		t.Fatal(err)
	}
	c.Accessor = acc
	for _, d := range []string{dir, stray} {
		if _, err := os.Stat(d); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is there: %v", d, err)
		}
	}
}

func TestPinDirectoryIsRefused(t *testing.T) {
	c := newChain(t, engines[0], noImages)
	c.grow("alfred", "a1")
	pin, err := c.Pin(hash("a1"), "test", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	nobody := -7
	for _, access := range []state.PinAccess{{Mode: 0o777}, {Mode: 0o755}, {Mode: fs.ModeSetuid | 0o555}, {Group: &nobody}} {
		if _, err := c.PinDirectory(context.Background(), pin.ID, access); !errors.Is(err, checkpoint.ErrAccess) {
			t.Errorf("%+v: %v", access, err)
		}
	}
	for _, id := range []string{"", ".", "..", "../deltas", "/etc", pin.ID + "/", pin.ID[1:]} {
		if _, err := c.PinDirectory(context.Background(), id, state.PinAccess{}); !errors.Is(err, state.ErrUnknownPin) {
			t.Errorf("%q: %v", id, err)
		}
	}
	// The file system's limit of links.
	c.hook.set(func(call checkpoint.FileCall) error {
		if call.Op == "link" {
			return unix.EMLINK
		}
		return nil
	})
	_, err = c.PinDirectory(context.Background(), pin.ID, state.PinAccess{})
	c.hook.set(nil)
	if !errors.Is(err, checkpoint.ErrLinks) {
		t.Errorf("no links left: %v", err)
	}
	if left, _ := os.ReadDir(filepath.Join(c.cfg.Dir, "pins")); len(left) > 0 || c.Stats().PinDirectories != 0 {
		t.Errorf("refusals left %v", left)
	}
	if left, _ := os.ReadDir(filepath.Join(c.cfg.Dir, "tmp")); len(left) > 0 {
		t.Errorf("refusals left %v", left)
	}
}

// Each of the file calls that make a pin's directory fails in turn: there is no half
// of one, and the next try makes it.
func TestPinDirectoryFaults(t *testing.T) {
	for _, applied := range []bool{false, true} {
		for nth := int64(1); ; nth++ {
			c := newChain(t, engines[0], noImages)
			c.grow("alfred", "a1")
			pin, err := c.Pin(hash("a1"), "test", time.Hour)
			if err != nil {
				t.Fatal(err)
			}
			f := &fault{nth: nth, applied: applied}
			c.hook.set(f.hook)
			dir, err := c.PinDirectory(context.Background(), pin.ID, state.PinAccess{})
			c.hook.set(nil)
			if !f.fired.Load() {
				if err != nil || nth < 8 {
					t.Errorf("without a fault, after %d calls: %v", nth-1, err)
				}
				break
			}
			if err == nil {
				c.wantPinned(dir, "a1", 0o555) // it was made in another way
			} else if left, _ := os.ReadDir(filepath.Join(c.cfg.Dir, "pins")); len(left) > 0 {
				t.Fatalf("fault at call %d: left %v", nth, left)
			}
			if dir, err = c.PinDirectory(context.Background(), pin.ID, state.PinAccess{}); err != nil {
				t.Fatal(err)
			}
			c.wantPinned(dir, "a1", 0o555)
			if t.Failed() {
				t.Fatal(fmt.Sprint("with the fault at call ", nth, applied))
			}
			c.Close()
		}
	}
}

// What readers have pinned counts in the space that the store takes, once.
func TestPinDirectoryCountsAsSpace(t *testing.T) {
	c := newChain(t, engines[0], noImages)
	c.line("a", "alfred", 1, 4)
	before, err := c.DiskUsage()
	if err != nil {
		t.Fatal(err)
	}
	c.pinDir("a4", time.Hour, state.PinAccess{})
	after, err := c.DiskUsage()
	if err != nil || after <= before || after > before+64<<10 {
		t.Errorf("%d bytes before, %d after, %v", before, after, err)
	}
	if got := c.Stats().DiskBytes; got != after {
		t.Errorf("stats say %d bytes, measured were %d", got, after)
	}
}

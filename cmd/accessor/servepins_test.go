package main

import (
	"encoding/json"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"accessor/trace"
)

// TestPinsUnderTheUnit: with the umask and the directory's mode of the unit that is
// shipped, pins hand out directories; and nothing of the store is open to others.
func TestPinsUnderTheUnit(t *testing.T) {
	unit := shipped(t, "systemd", "accessor.service")
	chain := generated(t, trace.GenerateOptions{Seed: 3, Blocks: 2, Keys: 20, Writes: 5})
	for _, tt := range []struct {
		env       string // a setting
		dir, data fs.FileMode
	}{
		{"ACCESSOR_PINS_GROUP=", 0o500, 0o700},
		{"ACCESSOR_PINS_MODE=0550", 0o550, 0o710},
		{"ACCESSOR_PINS_MODE=0555", 0o555, 0o711},
	} {
		dir, err := os.MkdirTemp("", "a")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(dir)
		self := child(t, "accessor")
		cmd := exec.Command("sh", "-c", "umask "+unitValue(t, unit, "UMask")+` && exec "$0" "$@"`, named(t, dir, self),
			"serve", "--data", dir+"/store", "--anchor", chain, "--socket", dir+"/s")
		cmd.Env = append(self.Env, tt.env)
		if unitValue(t, unit, "StateDirectoryMode") != "0700" {
			t.Error("the unit's state directory is not its owner's alone")
		}
		started(t, cmd, dir+"/s")
		pin := pinned(t, dir+"/s")
		for path, want := range map[string]fs.FileMode{pin: tt.dir, dir + "/store": tt.data} {
			if info, err := os.Stat(path); err != nil || info.Mode().Perm() != want {
				t.Errorf("%s: %s has mode %v, %v; want %v", tt.env, path, info.Mode(), err, want)
			}
		}
		files, _ := os.ReadDir(pin)
		if len(files) == 0 {
			t.Errorf("%s: %s is empty", tt.env, pin)
		}
		for _, f := range files {
			if info, err := f.Info(); err != nil || info.Mode().Perm()&tt.dir&0o444 != tt.dir&0o444 {
				t.Errorf("%s: %s has mode %v, %v", tt.env, f.Name(), info.Mode(), err)
			}
		}
		cmd.Process.Signal(syscall.SIGTERM)
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	}
}

// TestStoreIsItsOwners: what serve writes is for its owner, whatever the umask.
func TestStoreIsItsOwners(t *testing.T) {
	chain := generated(t, trace.GenerateOptions{Seed: 3, Blocks: 2, Keys: 20, Writes: 5})
	dir, err := os.MkdirTemp("", "a")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	self := child(t, "accessor")
	cmd := exec.Command("sh", "-c", `umask 0 && exec "$0" "$@"`, named(t, dir, self),
		"serve", "--data", dir+"/store", "--anchor", chain, "--socket", dir+"/s")
	cmd.Env = self.Env
	started(t, cmd, dir+"/s")
	names, err := filepath.Glob(dir + "/store/*")
	if err != nil || len(names) == 0 {
		t.Fatal(err)
	}
	for _, path := range append(names, dir+"/store") {
		if info, err := os.Stat(path); err != nil || info.Mode()&0o077 != 0 {
			t.Errorf("%s has mode %v, %v", path, info.Mode(), err)
		}
	}
	cmd.Process.Signal(syscall.SIGTERM)
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}

// TestPinsOfRelativeStore: whoever gets a pin's directory is elsewhere.
func TestPinsOfRelativeStore(t *testing.T) {
	chain := generated(t, trace.GenerateOptions{Seed: 3, Blocks: 2, Keys: 20, Writes: 5})
	dir, err := os.MkdirTemp("", "a")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	cmd := child(t, "accessor", "serve", "--data", "store", "--anchor", chain, "--socket", dir+"/s")
	cmd.Dir = dir
	started(t, cmd, dir+"/s")
	pin := pinned(t, dir+"/s")
	if filepath.Dir(pin) != dir+"/store/pins" {
		t.Errorf("the directory is %s", pin)
	}
	cmd.Process.Signal(syscall.SIGTERM)
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}

// pinned pins the head with a directory, and gives that.
func pinned(t *testing.T, socket string) string {
	t.Helper()
	resp, err := overSocket(socket).Post("http://x/v1/pins", "application/json",
		strings.NewReader(`{"block":"head","ttl_ms":60000,"directory":true}`))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	var pin struct{ Directory string }
	if resp.StatusCode != 201 || json.Unmarshal(body, &pin) != nil {
		t.Fatalf("%d %s", resp.StatusCode, body)
	}
	return pin.Directory
}

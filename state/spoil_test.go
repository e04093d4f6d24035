package state_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"accessor/checkpoint"
	"accessor/forks"
)

// dirOf is a block's directory below checkpoints or images.
func (c *chain) dirOf(kind, name string) string {
	b := c.node(name).block
	return filepath.Join(c.cfg.Dir, kind, checkpoint.Name(forks.Block{Hash: b.Hash, Slot: b.Slot}))
}

// spoiler makes a checkpoint unusable.
type spoiler struct {
	name   string
	reason string // the obstacle that it becomes
	spoil  func(c *chain, block string) error
}

var (
	prune = spoiler{"pruned", "pruned", func(c *chain, block string) error {
		return c.Store().DropCheckpoint(hash(block))
	}}
	remove = spoiler{"removed", "missing", func(c *chain, block string) error {
		dir := c.dirOf("checkpoints", block)
		makeRemovable(dir)
		return os.RemoveAll(dir)
	}}
	changeByte = spoiler{"byte of the manifest changed", "damaged", func(c *chain, block string) error {
		path, err := c.fileOf(block, func(name string) bool {
			return name == "TABLES" || strings.HasPrefix(name, "MANIFEST")
		})
		if err != nil {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		data[len(data)/2] ^= 1
		return os.WriteFile(path, data, 0o644)
	}}
	addFile = spoiler{"file added", "damaged", func(c *chain, block string) error {
		dir := c.dirOf("checkpoints", block)
		if err := os.Chmod(dir, 0o755); err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(dir, "NOTES"), []byte("kilroy was here"), 0o644)
	}}
	// A table's bytes are shared with its delta and with other checkpoints, so a
	// shorter one is put in its place.
	truncateTable = spoiler{"table truncated", "damaged", func(c *chain, block string) error {
		path, err := c.fileOf(block, c.cfg.Engine.IsTable)
		if err != nil {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if err := os.WriteFile(path+".new", data[:len(data)-1], 0o644); err != nil {
			return err
		}
		return os.Rename(path+".new", path)
	}}
	spoilers = []spoiler{prune, remove, changeByte, addFile, truncateTable}
)

// fileOf makes a block's checkpoint writable and gives the last file in it that
// matches.
func (c *chain) fileOf(block string, match func(name string) bool) (string, error) {
	dir := c.dirOf("checkpoints", block)
	if err := os.Chmod(dir, 0o755); err != nil {
		return "", err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return "", err
	}
	for _, e := range slices.Backward(entries) {
		if match(e.Name()) {
			path := filepath.Join(dir, e.Name())
			if !c.cfg.Engine.IsTable(e.Name()) {
				err = os.Chmod(path, 0o644)
			}
			return path, err
		}
	}
	return "", errors.New("no such file in " + dir)
}

func (c *chain) spoil(s spoiler, blocks ...string) {
	c.t.Helper()
	for _, b := range blocks {
		if err := s.spoil(c, b); err != nil {
			c.t.Fatal(err)
		}
	}
}

// removeImage takes a block's image away.
func (c *chain) removeImage(block string) {
	c.t.Helper()
	dir := c.dirOf("images", block)
	makeRemovable(dir)
	if err := os.RemoveAll(dir); err != nil {
		c.t.Fatal(err)
	}
}

// The other process is this test binary: with these in its environment it opens
// a directory for writing, says so, and stays until its input ends.
const (
	envEngine = "ACCESSOR_TEST_OCCUPY_ENGINE"
	envDir    = "ACCESSOR_TEST_OCCUPY_DIR"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(envDir); dir != "" {
		os.Exit(occupant(os.Getenv(envEngine), dir))
	}
	if dir := os.Getenv(envFill); dir != "" {
		os.Exit(fillUntilKilled(dir))
	}
	os.Exit(m.Run())
}

func occupant(engine, dir string) int {
	i := slices.IndexFunc(engines, func(e engineCase) bool { return e.name == engine })
	err := os.Chmod(dir, 0o755)
	if err == nil {
		err = engines[i].occupy(dir)
	}
	if err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println("open")
	_, _ = io.Copy(io.Discard, os.Stdin)
	return 0
}

// lockFile locks LOCK as RocksDB does.
func lockFile(dir string) error {
	file, err := os.OpenFile(filepath.Join(dir, "LOCK"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return err
	}
	// file stays open until the process ends: it is leaked on purpose.
	return unix.FcntlFlock(file.Fd(), unix.F_SETLK, &unix.Flock_t{Type: unix.F_WRLCK, Whence: io.SeekStart})
}

// occupy has another process open a block's checkpoint for writing, until leave
// is called.
func (c *chain) occupy(block string) (pid int, leave func()) {
	c.t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), envEngine+"="+c.engine.name, envDir+"="+c.dirOf("checkpoints", block))
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		c.t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		c.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	left := false
	leave = func() {
		if !left {
			left = true
			in.Close()
			_ = cmd.Wait()
		}
	}
	c.t.Cleanup(leave)
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "open\n" {
		c.t.Fatalf("other process: %q, %v", line, err)
	}
	return cmd.Process.Pid, leave
}

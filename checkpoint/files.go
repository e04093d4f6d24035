package checkpoint

import (
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/cespare/xxhash/v2"
)

// FileCall is one call to the file system that the store makes itself (what
// the engine does inside its files is its own).
type FileCall struct {
	Op   string // create, write, sync, mkdir, link, ingest, rename, remove, chmod, chown
	Path string
	// Applied says whether the hook is asked after the call: an error then means
	// that the call took effect and failed all the same.
	Applied bool
}

// files makes the store's file calls. A test's hook is asked before and after
// each one and may make it fail.
type files struct {
	hook func(FileCall) error
}

func (f *files) call(op, path string, do func() error) error {
	if f.hook != nil {
		if err := f.hook(FileCall{Op: op, Path: path}); err != nil {
			return fileError(op, path, err)
		}
	}
	if err := do(); err != nil {
		return fileError(op, path, err)
	}
	if f.hook != nil {
		if err := f.hook(FileCall{Op: op, Path: path, Applied: true}); err != nil {
			return fileError(op, path, err)
		}
	}
	return nil
}

func fileError(op, path string, err error) error {
	var pathErr *fs.PathError
	if errors.As(err, &pathErr) {
		err = pathErr.Err // the path is named once
	}
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fmt.Errorf("%s %s: %w: %w", op, path, ErrNoSpace, err)
	}
	return fmt.Errorf("%s %s: %w", op, path, err)
}

func (f *files) mkdir(path string) error {
	return f.call("mkdir", path, func() error {
		if err := os.Mkdir(path, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		return nil
	})
}

func (f *files) link(from, to string) error {
	return f.call("link", to, func() error { return os.Link(from, to) })
}

// rename gives a file or folder its final name, durably.
func (f *files) rename(from, to string) error { return f.move(from, to, durable) }

func (f *files) move(from, to string, d durability) error {
	err := f.call("rename", to, func() error { return os.Rename(from, to) })
	if err != nil || d == derived {
		return err
	}
	return f.sync(filepath.Dir(to))
}

func (f *files) chmod(path string, mode fs.FileMode) error {
	return f.call("chmod", path, func() error { return os.Chmod(path, mode) })
}

func (f *files) remove(path string) error {
	return f.call("remove", path, func() error { return os.Remove(path) })
}

// removeAll removes a tree, whose sealed directories refuse that at first.
func (f *files) removeAll(path string) error {
	return f.call("remove", path, func() error {
		err := os.RemoveAll(path)
		if !errors.Is(err, fs.ErrPermission) {
			return err
		}
		_ = filepath.WalkDir(path, func(p string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				return os.Chmod(p, 0o755)
			}
			return nil
		})
		return os.RemoveAll(path)
	})
}

// sync makes a file's contents, or a folder's entries, durable.
func (f *files) sync(path string) error {
	return f.call("sync", path, func() error {
		file, err := os.Open(path)
		if err != nil {
			return err
		}
		defer file.Close()
		return file.Sync()
	})
}

// writeFile writes a small file under its final name, whole or not at all.
func (f *files) writeFile(path string, data []byte) error {
	tmp := path + ".tmp"
	err := f.call("write", tmp, func() error {
		file, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
		if err != nil {
			return err
		}
		if _, err = file.Write(data); err == nil {
			err = file.Sync()
		}
		return errors.Join(err, file.Close())
	})
	if err != nil {
		return err
	}
	return f.rename(tmp, path)
}

// copyFile copies a small file, without making it durable.
func (f *files) copyFile(from, to string) error {
	return f.call("create", to, func() error {
		data, err := os.ReadFile(from)
		if err != nil {
			return err
		}
		return os.WriteFile(to, data, 0o644)
	})
}

// fileSum is the size of a file and its XXH64, which tells damage, not malice.
func fileSum(path string) (size int64, sum uint64, err error) {
	file, err := os.Open(path)
	if err != nil {
		return 0, 0, err
	}
	defer file.Close()
	var h hash.Hash64 = xxhash.New()
	size, err = io.CopyBuffer(struct{ io.Writer }{h}, struct{ io.Reader }{file}, make([]byte, 256<<10))
	if err != nil {
		return 0, 0, fileError("read", path, err)
	}
	return size, h.Sum64(), nil
}

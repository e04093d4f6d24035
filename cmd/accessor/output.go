package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"accessor/internal/packed"
)

// output is where a command writes a file or a stream of any size. A file is
// written as FILE.tmp and gets its name when it is whole, at commit; a device or
// pipe is written to as it is.
type output struct {
	io.Writer                // compressed, where the name says so
	packer    io.WriteCloser // nil for standard output
	file      *os.File       // nil for standard output
	temp      string         // until it has its name; empty for what is no regular file
	path      string
	force     bool
}

// createOutput begins a file; - is standard output. A file that is there is
// replaced only with force; otherwise it is a usage error.
func (e *env) createOutput(path string, force bool) (*output, error) {
	if path == "-" {
		return &output{Writer: e.stdout}, nil
	}
	o := &output{path: path, force: force}
	err := o.open()
	switch {
	case errors.Is(err, fs.ErrExist):
		return nil, usageError("%w: it is not overwritten without --force", err)
	case errors.Is(err, fs.ErrNotExist):
		return nil, usageError("no folder %s", filepath.Dir(path))
	case err != nil:
		return nil, err
	}
	o.packer = packed.NewWriter(path, o.file)
	o.Writer = o.packer
	return o, nil
}

func (o *output) open() error {
	exists := &fs.PathError{Op: "create", Path: o.path, Err: fs.ErrExist}
	switch info, err := os.Stat(o.path); {
	case err == nil && info.IsDir():
		return usageError("%s is a folder: name a file in it", o.path)
	case err == nil && !info.Mode().IsRegular():
		o.file, err = os.OpenFile(o.path, os.O_WRONLY, 0)
		return err
	}
	// A link to nothing is in the way too.
	if _, err := os.Lstat(o.path); err == nil && !o.force {
		return exists
	}
	o.temp = o.path + ".tmp"
	if o.force {
		// Left by a command that was killed. It is not written into: somebody may
		// still have it open.
		if err := os.Remove(o.temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	var err error
	o.file, err = os.OpenFile(o.temp, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	return err
}

// commit finishes the output and gives a file its name. After an error nothing of
// a file is left.
func (o *output) commit() error {
	if o.file == nil {
		return nil
	}
	err := o.packer.Close()
	if err == nil && o.temp != "" {
		err = o.file.Sync()
	}
	err = errors.Join(err, o.file.Close())
	if err == nil && o.temp != "" {
		if err = o.rename(); err == nil {
			err = syncFolder(filepath.Dir(o.path))
			o.temp = ""
		}
	}
	o.file = nil
	o.removeTemp()
	if errors.Is(err, fs.ErrExist) {
		return usageError("%w: it appeared meanwhile, and is not overwritten without --force", err)
	}
	return err
}

// rename gives the file its name, which nobody may have taken meanwhile.
func (o *output) rename() error {
	if !o.force {
		err := unix.Renameat2(unix.AT_FDCWD, o.temp, unix.AT_FDCWD, o.path, unix.RENAME_NOREPLACE)
		if err == nil || errors.Is(err, unix.EEXIST) {
			return pathError("rename", o.path, err)
		}
		// A file system without that kind of rename: look, then rename.
		if _, err := os.Lstat(o.path); err == nil {
			return pathError("rename", o.path, fs.ErrExist)
		}
	}
	return os.Rename(o.temp, o.path)
}

func pathError(op, path string, err error) error {
	if err == nil {
		return nil
	}
	return &fs.PathError{Op: op, Path: path, Err: err}
}

// writeOut writes all of a small answer: into a file that must not exist, or to standard
// output where no path is given.
func (e *env) writeOut(path string, b []byte) error {
	if path == "" {
		_, err := e.stdout.Write(b)
		return err
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return usageError("%w", err)
	}
	_, err = file.Write(b)
	if err = errors.Join(err, file.Close()); err != nil {
		_ = os.Remove(path) // a part of it is no answer
	}
	return err
}

// readInput reads a file, or for - standard input, of so many bytes at most. What can't be
// read is an exitInput.
func (e *env) readInput(path string, most int64) ([]byte, error) {
	in := e.stdin
	if path != "-" {
		file, err := os.Open(path)
		if err != nil {
			return nil, &exitError{exitInput, err}
		}
		defer file.Close()
		in = file
	}
	b, err := io.ReadAll(io.LimitReader(in, most+1))
	if err == nil && int64(len(b)) > most {
		err = fmt.Errorf("%s: more than %d bytes", path, most)
	}
	if err != nil {
		return nil, &exitError{exitInput, err}
	}
	return b, nil
}

func syncFolder(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("sync folder: %w", err)
	}
	return nil
}

// abort gives a file up; after commit it does nothing.
func (o *output) abort() {
	if o.file == nil {
		return
	}
	_ = o.packer.Close() // what it writes goes with the file
	_ = o.file.Close()
	o.file = nil
	o.removeTemp()
}

func (o *output) removeTemp() {
	if o.temp != "" {
		_ = os.Remove(o.temp) // the error before it is the one to tell
		o.temp = ""
	}
}

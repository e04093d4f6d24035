package trace

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"accessor/internal/packed"
)

// Create writes a recording to a file, compressed as its name says: zstd for
// .zst, gzip for .gz. The file gets its name when it is whole, at Close. A device
// or pipe of that name is written to as it is; a file is not replaced: the error
// is then fs.ErrExist.
func Create(path string) (*Writer, error) {
	file, temp, err := createFile(path)
	if err != nil {
		return nil, fmt.Errorf("create recording: %w", err)
	}
	out := packed.NewWriter(path, file)
	w := NewWriter(out)
	w.close = append(w.close, out.Close)
	if temp != "" {
		w.final, w.temp = path, temp
		w.close = append(w.close, file.Sync)
	}
	w.close = append(w.close, file.Close)
	return w, nil
}

// createFile opens what a recording is written to; temp is empty where that is no
// regular file.
func createFile(path string) (f *os.File, temp string, err error) {
	switch info, err := os.Stat(path); {
	case err == nil && info.Mode().IsRegular():
		return nil, "", &fs.PathError{Op: "create", Path: path, Err: fs.ErrExist}
	case err == nil:
		f, err = os.OpenFile(path, os.O_WRONLY, 0)
		return f, "", err
	}
	f, err = os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".tmp-")
	if err != nil {
		return nil, "", err
	}
	if err := f.Chmod(0o644); err != nil {
		f.Close()
		os.Remove(f.Name())
		return nil, "", err
	}
	return f, f.Name(), nil
}

// Close writes the end line and finishes the recording. A file without an anchor,
// or whose writing failed, is removed; the error then says why. Closing twice is
// safe.
func (w *Writer) Close() error {
	if w.done {
		return w.err
	}
	w.done = true
	fail := func(err error) {
		if err != nil && w.err == nil {
			w.err = fmt.Errorf("write recording: %w", err)
		}
	}
	if err := w.finish(); err != nil {
		w.err = err
	}
	if w.err == nil {
		fail(w.out.Flush())
	}
	for _, f := range w.close {
		fail(f())
	}
	if w.temp == "" {
		return w.err
	}
	if w.err == nil {
		fail(os.Rename(w.temp, w.final))
	}
	if w.err != nil {
		_ = os.Remove(w.temp) // w.err is the one to tell
	}
	return w.err
}

// Abort gives the recording up: what Create made is closed and removed. Aborting
// after Close does nothing.
func (w *Writer) Abort() {
	if w.done {
		return
	}
	if w.err == nil {
		w.err = fmt.Errorf("write recording: %w: given up", ErrOrder)
	}
	_ = w.Close() // w.err, which is set
}

package trace

import (
	"errors"
	"fmt"
	"io"
	"os"

	"accessor/internal/packed"
	"accessor/jam"
)

// ReadAnchor reads what a store can start from: the anchor of a jamtrace/1 file or of
// a folder of step files, or the block and state of a published genesis.bin, whatever
// the file is called. Errors are *Error.
func ReadAnchor(path string, opts Options) (*Anchor, error) {
	genesis, err := isGenesis(path)
	if err != nil {
		return nil, err
	}
	if genesis {
		return readGenesisFile(path, opts.withDefaults())
	}
	src, err := Open(path, opts)
	if err != nil {
		return nil, err
	}
	defer src.Close()
	for {
		entry, err := src.Next()
		if errors.Is(err, io.EOF) {
			return nil, &Error{File: path, Err: fmt.Errorf("%w: no anchor in it", ErrFormat)}
		}
		if err != nil {
			return nil, err
		}
		if anchor, ok := entry.(*Anchor); ok {
			return anchor, nil
		}
	}
}

// isGenesis says whether a file is no recording, of which the first line is a JSON
// object.
func isGenesis(path string) (bool, error) {
	info, err := os.Stat(path)
	if err != nil {
		return false, unreadable(path, err)
	}
	if !info.Mode().IsRegular() {
		return false, nil // a folder or a pipe, as Open takes them
	}
	file, err := os.Open(path)
	if err != nil {
		return false, unreadable(path, err)
	}
	defer file.Close()
	in, err := packed.NewReader(file)
	if err != nil {
		return false, unreadable(path, err)
	}
	defer in.Close()
	first, err := in.Peek(1)
	if err != nil && !errors.Is(err, io.EOF) {
		return false, unreadable(path, err)
	}
	return len(first) == 1 && first[0] != '{', nil
}

func readGenesisFile(path string, opts Options) (*Anchor, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, unreadable(path, err)
	}
	defer file.Close()
	b, err := io.ReadAll(io.LimitReader(file, opts.LineLimit+1))
	if err != nil {
		return nil, unreadable(path, err)
	}
	if int64(len(b)) > opts.LineLimit {
		return nil, &Error{File: path, Err: fmt.Errorf("%w of %d bytes", ErrTooLong, opts.LineLimit)}
	}
	g, err := jam.DecodeGenesis(b)
	if err != nil {
		return nil, &Error{File: path, Err: fmt.Errorf("%w: neither a recording nor a genesis: %w", ErrFormat, err)}
	}
	anchor := &Anchor{Hash: jam.HeaderHash(g.Encoded), Slot: g.Header.Slot, Header: g.Encoded}
	if err := anchor.setState(&g.State); err != nil {
		return nil, &Error{File: path, Err: err}
	}
	return anchor, nil
}

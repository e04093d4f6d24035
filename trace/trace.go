// Package trace reads, writes and makes recorded chains: an anchor with its
// whole state, then blocks with their write sets in the order in which they
// arrived, and blocks that were rejected. It knows two forms: jamtrace/1, one
// JSON object a line, and a folder of the step files that are published for JAM.
//
// It imports nothing into a store and judges no block: whether a parent is known
// or a root right is for the reader of the recording to find out.
//
// Invariants: a recording comes as a header, an anchor, blocks and rejects in any
// number, and, in jamtrace/1, an end whose counts agree; anything else is an
// error that names file and line. Input is read as a stream, in memory in
// proportion to the longest line, which is bounded. What has been handed out
// belongs to the caller and doesn't change.
package trace

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"accessor/forks"
	"accessor/state"
)

// Format is the name of the line format that this package reads and writes.
const Format = "jamtrace/1"

// Errors of reading. Match them with errors.Is; an *Error around them says where.
var (
	// ErrFormat: the input is not a recording.
	ErrFormat = errors.New("not a valid recording")
	// ErrNoEnd: the input ends without an end line, or within a line.
	ErrNoEnd = errors.New("recording breaks off")
	// ErrTooLong: a line, a file or the whole input is above its limit.
	ErrTooLong = errors.New("above the limit")
	// ErrUnreadable: the input can't be read or decompressed.
	ErrUnreadable = errors.New("unreadable")
)

// Error says where in an input something went wrong.
type Error struct {
	File string // path, or "-"
	Line int    // from 1; 0 where it isn't about a line
	Err  error
}

// Error implements error.
func (e *Error) Error() string {
	return fmt.Sprintf("read %s: %v", position(e.File, e.Line), e.Err)
}

// Unwrap gives the error that happened there.
func (e *Error) Unwrap() error { return e.Err }

func position(file string, line int) string {
	if line == 0 {
		return file
	}
	return fmt.Sprintf("%s:%d", file, line)
}

// Entry is one element of a recording: *Header, *Anchor, *Block, *Reject or *End.
type Entry interface{ entry() }

// Header says what a recording is.
type Header struct {
	Format string          // Format, or StepsFormat
	Name   string          // of the recording
	GP     string          // Gray Paper version, such as 0.7.2; may be empty
	Spec   string          // chain spec, such as tiny; may be empty
	Note   string          // for people; may be empty
	Source json.RawMessage // where the recording comes from, as it stands there; nil where nothing does
}

// Anchor is the block that the tree grows from, with its state.
type Anchor struct {
	Hash   forks.Hash
	Slot   forks.Slot
	Root   forks.Hash   // of the state
	Pairs  []state.Pair // the state, in strictly ascending key order
	Header []byte       // encoded; nil where only its hash is known
}

// Block is a block that was imported. Its parent comes before it.
type Block struct {
	Seq int    // place in the recording, counted from 1, rejects included
	Src string // file that the block was first published in; may be empty
	state.Block
	Keys  int   // pairs in the state after the block; 0 where unknown
	Bytes int64 // sum of the sizes of their values
}

// Reject is a block that was not imported.
type Reject struct {
	Seq int
	Src string
	// Block has no write set unless HasWriteSet; its PostRoot is then the root
	// that was claimed. The hash is zero where the block was too malformed to
	// have one.
	state.Block
	Reason      string
	HasWriteSet bool
	// ClaimedPostRoot and RealPostRoot are what the block's write set was said
	// to lead to and what it leads to; nil where the recording doesn't say.
	ClaimedPostRoot, RealPostRoot *forks.Hash
}

// End closes a recording and says what was in it.
type End struct {
	Blocks, Rejects int
	Leaves          []forks.Hash // blocks without children, sorted
	Forks           []Fork       // blocks with several children, in order of arrival
}

// Fork is a block with several children.
type Fork struct {
	Parent   forks.Hash
	Children []forks.Hash // in order of arrival
}

func (*Header) entry() {}
func (*Anchor) entry() {}
func (*Block) entry()  {}
func (*Reject) entry() {}
func (*End) entry()    {}

// Source yields a recording, entry by entry. It is not safe for concurrent use.
type Source interface {
	// Name is that of the recording: the one in its header once that is read,
	// else made from the file's.
	Name() string
	// Next gives the next entry, and io.EOF after the last. Any other error is
	// an *Error around one of this package's, and comes again if asked again.
	Next() (Entry, error)
	// Position names the place of the last entry, for people: FILE:LINE, or a
	// step's file.
	Position() string
	// Progress is how much has been read of how much, in bytes of the input as
	// stored or in step files; total is 0 where it is unknown.
	Progress() (done, total int64)
	// Close ends reading, at any time, and frees what it took.
	Close() error
}

// Options bound what is read. The zero value means the defaults.
type Options struct {
	// LineLimit is the most bytes of a line, or of a step file. A line takes
	// about its own size of memory, and its entry half of that for the bytes and
	// up to four times that where it is made of millions of tiny keys. Default
	// 256 MiB.
	LineLimit int64
	// TotalLimit is the most bytes of the whole input, decompressed. Default
	// 64 GiB.
	TotalLimit int64
}

// DefaultOptions are the options where nothing else is said.
var DefaultOptions = Options{LineLimit: 256 << 20, TotalLimit: 64 << 30}

func (o Options) withDefaults() Options {
	if o.LineLimit <= 0 {
		o.LineLimit = DefaultOptions.LineLimit
	}
	if o.TotalLimit <= 0 {
		o.TotalLimit = DefaultOptions.TotalLimit
	}
	return o
}

// Open opens a recording: a jamtrace/1 file, plain or compressed with zstd or
// gzip whatever its name says, or a folder of published step files. Errors are
// *Error.
func Open(path string, opts Options) (Source, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, unreadable(path, err)
	}
	if info.IsDir() {
		s, err := openSteps(path, opts)
		if err != nil {
			return nil, err // not s, whose nil would be a Source that isn't nil
		}
		return s, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, unreadable(path, err)
	}
	size := int64(0)
	if info.Mode().IsRegular() {
		size = info.Size()
	}
	r, err := newReader(path, f, size, opts)
	if err != nil {
		f.Close()
		return nil, err
	}
	r.file = f
	return r, nil
}

// NewReader reads a jamtrace/1 recording from a stream, plain or compressed with
// zstd or gzip. The name is for errors; size is the stream's in bytes, 0 where it
// is unknown. It reads the first bytes already. Errors are *Error.
func NewReader(name string, r io.Reader, size int64, opts Options) (Source, error) {
	reader, err := newReader(name, r, size, opts)
	if err != nil {
		return nil, err // not reader, as in Open
	}
	return reader, nil
}

func unreadable(file string, err error) error {
	return &Error{File: file, Err: fmt.Errorf("%w: %w", ErrUnreadable, err)}
}

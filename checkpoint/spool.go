package checkpoint

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"sync"
)

// Spool keeps a state that comes in ranges of keys, from several sides at once, until
// all of it is there. The keys are cut into parts, a file each, named after its first
// key; a part goes up to the next one's first key, and is cut in two where somebody
// has nothing else to do:
//
//	00 ═══════▶        40 ═══▶    70 ══▶      80 ══════════■
//	          └ next                          done: next is the following part's first key
//
// What a kill leaves of a file is good up to the last frame whose checksum is right.
// It is safe for concurrent use.
type Spool struct {
	dir   string
	files *files

	mu     sync.Mutex // guards the fields below and those of parts
	closed bool
	parts  []*SpoolPart // by first key
	pairs  int64
	bytes  int64 // of keys and values
}

// SpoolPart is one range of keys. Whoever has taken it appends to it.
type SpoolPart struct {
	spool *Spool
	from  []byte
	file  *os.File
	size  int64 // of the file's good frames

	next  []byte // the first key that isn't there yet; nil where none is left at all
	taken bool
	dense bool // it had more than one answer's worth of keys
}

func (sp *Spool) open(dir string, files *files) error {
	sp.dir, sp.files = dir, files
	if err := files.mkdir(dir); err != nil {
		return err
	}
	names, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, d := range names {
		from, err := hex.DecodeString(d.Name())
		if err != nil || len(from) == 0 || len(sp.parts) > 0 && len(from) != len(sp.parts[0].from) {
			continue // nobody's
		}
		p, err := sp.openPart(from)
		if err != nil {
			return err
		}
		sp.parts = append(sp.parts, p)
	}
	slices.SortFunc(sp.parts, func(a, b *SpoolPart) int { return bytes.Compare(a.from, b.from) })
	return nil
}

func (sp *Spool) openPart(from []byte) (*SpoolPart, error) {
	path := filepath.Join(sp.dir, hex.EncodeToString(from))
	p := &SpoolPart{spool: sp, from: from, next: from}
	err := sp.files.call("create", path, func() (err error) {
		p.file, err = os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
		return err
	})
	if err == nil {
		err = p.load()
	}
	if err != nil {
		if p.file != nil {
			p.file.Close()
		}
		return nil, err
	}
	return p, nil
}

// load reads the frames that are whole, and cuts off the rest, which comes again.
func (p *SpoolPart) load() error {
	err := p.frames(-1, func(next []byte, pairs []Pair, end int64) bool {
		if next != nil && len(next) != len(p.from) {
			return false
		}
		p.next, p.size = next, end
		p.spool.count(pairs)
		p.dense = true
		return true
	})
	if err != nil && !errors.Is(err, ErrDamaged) {
		return err
	}
	return p.file.Truncate(p.size)
}

func (sp *Spool) count(pairs []Pair) {
	sp.pairs += int64(len(pairs))
	for _, p := range pairs {
		sp.bytes += int64(len(p.Key) + len(p.Value))
	}
}

// Begin cuts a spool that is still empty into so many parts of equal width, of keys of
// so many bytes.
func (sp *Spool) Begin(parts, keySize int) error {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	if sp.closed {
		return ErrClosed
	}
	if sp.find(make([]byte, keySize)) >= 0 {
		return nil
	}
	parts = min(max(parts, 1), 256)
	for i := parts - 1; i >= 0; i-- { // the first part last: with it the spool has begun
		from := make([]byte, keySize)
		from[0] = byte(i * 256 / parts)
		if sp.find(from) >= 0 {
			continue
		}
		if err := sp.addLocked(from); err != nil {
			return err
		}
	}
	return nil
}

func (sp *Spool) find(from []byte) int {
	return slices.IndexFunc(sp.parts, func(p *SpoolPart) bool { return bytes.Equal(p.from, from) })
}

func (sp *Spool) addLocked(from []byte) error {
	p, err := sp.openPart(from)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(sp.parts, func(o *SpoolPart) bool { return bytes.Compare(o.from, from) > 0 })
	if i < 0 {
		i = len(sp.parts)
	}
	sp.parts = slices.Insert(sp.parts, i, p)
	return nil
}

// endLocked is the first key of the part after one; nil after the last.
func (p *SpoolPart) endLocked() []byte {
	i := slices.Index(p.spool.parts, p)
	if i+1 < len(p.spool.parts) {
		return p.spool.parts[i+1].from
	}
	return nil
}

func (p *SpoolPart) doneLocked() bool {
	end := p.endLocked()
	return p.next == nil || end != nil && bytes.Compare(p.next, end) >= 0
}

// Take gives a part that is neither taken nor done. Where all are taken, the one with
// the most left is cut in two, if it has many keys; nil is where there is nothing to do
// now, and whole where there is nothing left at all.
func (sp *Spool) Take() (p *SpoolPart, whole bool, err error) {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	if sp.closed {
		return nil, false, ErrClosed
	}
	whole = len(sp.parts) > 0
	var widest *SpoolPart
	var left float64
	for _, p := range sp.parts {
		if p.doneLocked() {
			continue
		}
		whole = false
		if !p.taken {
			p.taken = true
			return p, false, nil
		}
		if w := fraction(p.endLocked()) - fraction(p.next); p.dense && w >= left && len(p.middleLocked()) > 0 {
			widest, left = p, w
		}
	}
	if widest == nil {
		return nil, whole, nil
	}
	middle := widest.middleLocked()
	if err := sp.addLocked(middle); err != nil {
		return nil, false, err
	}
	p = sp.parts[sp.find(middle)]
	p.taken = true
	return p, false, nil
}

// Release gives a part back.
func (p *SpoolPart) Release() {
	p.spool.mu.Lock()
	defer p.spool.mu.Unlock()
	p.taken = false
}

// middleLocked is the key half the way from what is there to the part's end; nil where
// there is none between.
func (p *SpoolPart) middleLocked() []byte {
	end := p.endLocked()
	sum, carry := make([]byte, len(p.next)), 0
	for i := len(sum) - 1; i >= 0; i-- {
		carry += int(p.next[i])
		if end != nil {
			carry += int(end[i])
		}
		sum[i], carry = byte(carry), carry>>8
	}
	if end == nil {
		carry++ // all keys are below 1 00 00…
	}
	for i := range sum {
		carry = carry<<8 | int(sum[i])
		sum[i], carry = byte(carry>>1), carry&1
	}
	if bytes.Compare(sum, p.next) <= 0 {
		return nil
	}
	return sum
}

// fraction is where a key lies among all keys, from 0 to 1; nil is their end.
func fraction(key []byte) float64 {
	if key == nil {
		return 1
	}
	var first [8]byte
	copy(first[:], key)
	return float64(binary.BigEndian.Uint64(first[:])) / (1 << 64)
}

// Range is what the part lacks: from a key up to, but not with, another, nil for no
// end. ok is false where it lacks nothing.
func (p *SpoolPart) Range() (from, to []byte, ok bool) {
	p.spool.mu.Lock()
	defer p.spool.mu.Unlock()
	return p.next, p.endLocked(), !p.doneLocked()
}

// Append adds what was lacking from Range's first key up to, but not with, next, nil
// for the end of all keys: these pairs, in order, are all there are. What is beyond the
// part's end by now is left out. Errors: ErrClosed, ErrNoSpace.
func (p *SpoolPart) Append(pairs []Pair, next []byte) error {
	sp := p.spool
	sp.mu.Lock()
	defer sp.mu.Unlock()
	if sp.closed {
		return ErrClosed
	}
	if end := p.endLocked(); end != nil {
		past := func(pair Pair) bool { return bytes.Compare(pair.Key, end) >= 0 }
		if i := slices.IndexFunc(pairs, past); i >= 0 {
			pairs = pairs[:i]
		}
		if next == nil || bytes.Compare(next, end) > 0 {
			next = end
		}
	}
	frame := appendFrame(next, pairs)
	if len(frame)-frameHead > mostFrame {
		return fmt.Errorf("%w: %d bytes at once for the spool, at most %d", ErrLimit, len(frame), mostFrame)
	}
	err := sp.files.call("write", p.file.Name(), func() error {
		_, err := p.file.WriteAt(frame, p.size)
		return err
	})
	if err != nil {
		return err // the next frame is written over this one
	}
	p.size += int64(len(frame))
	p.next, p.dense = bytes.Clone(next), true
	sp.count(pairs)
	return nil
}

// Progress is how much is there: pairs, bytes of their keys and values, and how much of
// all possible keys, from 0 to 1.
func (sp *Spool) Progress() (pairs, size int64, covered float64) {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	for _, p := range sp.parts {
		next := p.next
		if p.doneLocked() {
			next = p.endLocked()
		}
		covered += fraction(next) - fraction(p.from)
	}
	return sp.pairs, sp.bytes, covered
}

// Pairs yields all that is there, in ascending order, with a possible error as the last
// element. It is for a spool that is whole, when nobody appends any more.
func (sp *Spool) Pairs() iter.Seq2[Pair, error] {
	return func(yield func(Pair, error) bool) {
		sp.mu.Lock()
		parts := slices.Clone(sp.parts)
		sp.mu.Unlock()
		for _, p := range parts {
			stopped := false
			err := p.frames(p.size, func(_ []byte, pairs []Pair, _ int64) bool {
				for _, pair := range pairs {
					if stopped = !yield(pair, nil); stopped {
						return false
					}
				}
				return true
			})
			if stopped {
				return
			}
			if err != nil {
				yield(Pair{}, err)
				return
			}
		}
	}
}

// Reset gives up all that is there.
func (sp *Spool) Reset() error {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	if sp.closed {
		return ErrClosed
	}
	for len(sp.parts) > 0 {
		p := sp.parts[0] // the first one first: see Begin
		if err := sp.files.remove(p.file.Name()); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err // it is still in use
		}
		p.file.Close()
		sp.parts = sp.parts[1:]
	}
	sp.pairs, sp.bytes = 0, 0
	return nil
}

func (sp *Spool) close() {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	sp.closed = true
	for _, p := range sp.parts {
		p.file.Close()
	}
}

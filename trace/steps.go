package trace

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"accessor/forks"
	"accessor/jam"
	"accessor/state"
)

// StepsFormat is the format that the header of a folder of step files states.
const StepsFormat = "jam-steps"

const (
	binSuffix   = ".bin"
	genesisName = "genesis.bin"
	stepDigits  = 8
)

// steps reads a folder of published step files. It has no end line: it ends with
// the last file.
type steps struct {
	dir   string
	files []string // names of the steps, in order
	opts  Options

	started bool
	pending []Entry // header and anchor, until they are handed out
	next    int     // index of the next file
	at      string  // path of the file that the last entry came from
	err     error   // that ended reading
}

// openSteps lists a folder. Files that aren't .bin are left alone.
func openSteps(dir string, opts Options) (*steps, error) {
	entries, err := os.ReadDir(dir) // sorted by name, so numbers of one length are in order
	if err != nil {
		return nil, unreadable(dir, err)
	}
	s := &steps{dir: dir, opts: opts.withDefaults(), at: dir}
	genesis := false
	for _, e := range entries {
		switch name := e.Name(); {
		case !isBin(e):
		case name == genesisName:
			genesis = true
		case isStepName(name):
			s.files = append(s.files, name)
		default:
			return nil, &Error{File: filepath.Join(dir, name), Err: fmt.Errorf("%w: step files are named NNNNNNNN.bin or %s", ErrFormat, genesisName)}
		}
	}
	if len(s.files) == 0 && !genesis {
		return nil, unreadable(dir, errors.New("no step files in the folder"))
	}
	return s, nil
}

func isStepName(name string) bool {
	digits, ok := strings.CutSuffix(name, binSuffix)
	return ok && len(digits) == stepDigits && strings.Trim(digits, "0123456789") == ""
}

// Name implements Source. It is the folder's name.
func (s *steps) Name() string {
	if abs, err := filepath.Abs(s.dir); err == nil {
		return filepath.Base(abs)
	}
	return filepath.Base(s.dir)
}

// Position implements Source.
func (s *steps) Position() string { return s.at }

// Progress implements Source, in files.
func (s *steps) Progress() (done, total int64) { return int64(s.next), int64(len(s.files)) }

// Close implements Source.
func (s *steps) Close() error {
	s.pending = nil
	if s.err == nil {
		s.err = unreadable(s.dir, errors.New("reader is closed"))
	}
	return nil
}

// Next implements Source.
func (s *steps) Next() (Entry, error) {
	if s.err != nil {
		return nil, s.err
	}
	entry, err := s.entry()
	if err != nil {
		if !errors.Is(err, io.EOF) {
			err = &Error{File: s.at, Err: err}
		}
		s.err = err
		return nil, err
	}
	return entry, nil
}

func (s *steps) entry() (Entry, error) {
	if !s.started {
		if err := s.start(); err != nil {
			return nil, err
		}
		s.started = true
	}
	if len(s.pending) > 0 {
		entry := s.pending[0]
		s.pending = s.pending[1:]
		return entry, nil
	}
	if s.next == len(s.files) {
		return nil, io.EOF
	}
	step, err := s.readStep(s.next)
	if err != nil {
		return nil, err
	}
	s.next++
	if rejected(step) {
		return s.reject(step)
	}
	return s.block(step)
}

// start finds the anchor: the genesis, where there is one and the first imported
// block stands on it; otherwise that block's parent, of which the step has the
// state. Steps in front of it, all rejects, are read twice.
func (s *steps) start() error {
	genesis, err := s.readGenesis()
	if err != nil {
		return err
	}
	var first *jam.Step
	for i := range s.files {
		step, err := s.readStep(i)
		if err != nil {
			return err
		}
		if first == nil || !rejected(step) {
			first = step
		}
		if !rejected(step) {
			break
		}
	}
	header := &Header{Format: StepsFormat, Name: s.Name()}
	var anchor *Anchor
	if genesis != nil && standsOn(first, genesis) {
		s.at = filepath.Join(s.dir, genesisName)
		header.GP, header.Spec = genesis.GP, genesis.Spec
		anchor = &Anchor{Hash: jam.HeaderHash(genesis.Encoded), Slot: genesis.Header.Slot, Header: genesis.Encoded}
		err = anchor.setState(&genesis.State)
	} else {
		header.GP, header.Spec = first.GP, first.Spec
		header.Note = "the anchor is the parent of the first imported block"
		anchor = &Anchor{Hash: first.Header.Parent}
		if err = anchor.setState(&first.Pre); err == nil {
			anchor.Slot, err = slotOf(&first.Pre)
		}
	}
	s.pending = []Entry{header, anchor}
	return err
}

// standsOn says whether a step's block is a child of the genesis. Of a rejected
// one, the only step where there is no imported one, just the state counts.
func standsOn(step *jam.Step, g *jam.Genesis) bool {
	switch {
	case step == nil:
		return true
	case step.Pre.Root != g.State.Root:
		return false
	case rejected(step):
		return true
	}
	return step.Header.Parent == jam.HeaderHash(g.Encoded) && step.Header.PriorRoot == g.State.Root
}

// rejected says whether a step's block was: a block that is imported changes the
// state, at least by its slot.
func rejected(step *jam.Step) bool { return step.Pre.Root == step.Post.Root }

func (a *Anchor) setState(s *jam.RawState) error {
	pairs, err := sortedPairs(s)
	if err != nil {
		return err
	}
	a.Root = s.Root
	a.Pairs = make([]state.Pair, len(pairs))
	for i, p := range pairs {
		a.Pairs[i] = state.Pair(p)
	}
	return nil
}

// sortedPairs gives a state's pairs in strictly ascending key order.
func sortedPairs(s *jam.RawState) ([]jam.Pair, error) {
	byKey := func(a, b jam.Pair) int { return bytes.Compare(a.Key, b.Key) }
	if !slices.IsSortedFunc(s.Pairs, byKey) {
		slices.SortFunc(s.Pairs, byKey)
	}
	for i := 1; i < len(s.Pairs); i++ {
		if bytes.Equal(s.Pairs[i-1].Key, s.Pairs[i].Key) {
			return nil, fmt.Errorf("%w: state has key %x twice", ErrFormat, s.Pairs[i].Key)
		}
	}
	return s.Pairs, nil
}

// slotOf gives the slot that a state says it is at.
func slotOf(s *jam.RawState) (forks.Slot, error) {
	key, _ := jam.ItemKey(jam.SlotItem)
	value, ok := s.Value(key)
	if !ok || len(value) != 4 {
		return 0, fmt.Errorf("%w: no slot of four bytes in the state", ErrFormat)
	}
	return forks.Slot(binary.LittleEndian.Uint32(value)), nil
}

// read reads a file of the folder whole.
func (s *steps) read(name string) ([]byte, error) {
	s.at = filepath.Join(s.dir, name)
	f, err := os.Open(s.at)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnreadable, err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, s.opts.LineLimit+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("%w: %w", ErrUnreadable, err)
	case int64(len(b)) > s.opts.LineLimit:
		return nil, fmt.Errorf("%w: step file of more than %d bytes", ErrTooLong, s.opts.LineLimit)
	}
	return b, nil
}

func (s *steps) readStep(i int) (*jam.Step, error) {
	b, err := s.read(s.files[i])
	if err != nil {
		return nil, err
	}
	step, err := jam.DecodeStep(b)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	return &step, nil
}

// readGenesis gives nil where there is none.
func (s *steps) readGenesis() (*jam.Genesis, error) {
	b, err := s.read(genesisName)
	switch {
	case errors.Is(err, os.ErrNotExist) && len(s.files) > 0:
		return nil, nil
	case err != nil:
		return nil, err
	}
	g, err := jam.DecodeGenesis(b)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	return &g, nil
}

// identity fills in what a step's header says of its block.
func (s *steps) identity(step *jam.Step) state.Block {
	b := state.Block{
		Parent:    step.Header.Parent,
		Slot:      step.Header.Slot,
		PriorRoot: &step.Header.PriorRoot,
	}
	if step.Encoded != nil {
		b.Hash = jam.HeaderHash(step.Encoded)
		b.Header = bytes.Clone(step.Encoded)
	}
	return b
}

// block makes an entry that keeps nothing of the file but what the block wrote.
func (s *steps) block(step *jam.Step) (*Block, error) {
	pre, err := sortedPairs(&step.Pre)
	if err != nil {
		return nil, err
	}
	post, err := sortedPairs(&step.Post)
	if err != nil {
		return nil, err
	}
	b := &Block{Seq: s.next, Src: s.files[s.next-1], Block: s.identity(step), Keys: len(post)}
	root := step.Post.Root
	b.PostRoot = &root
	for _, p := range post {
		b.Bytes += int64(len(p.Value))
	}
	b.Puts, b.Dels = diff(pre, post)
	return b, nil
}

// diff gives the least writes that turn one state into another, in key order.
func diff(pre, post []jam.Pair) (puts []state.Pair, dels [][]byte) {
	for len(pre) > 0 || len(post) > 0 {
		var order int
		switch {
		case len(pre) == 0:
			order = 1
		case len(post) == 0:
			order = -1
		default:
			order = bytes.Compare(pre[0].Key, post[0].Key)
		}
		if order < 0 {
			dels = append(dels, bytes.Clone(pre[0].Key))
			pre = pre[1:]
			continue
		}
		if order > 0 || !bytes.Equal(pre[0].Value, post[0].Value) {
			puts = append(puts, state.Pair{Key: bytes.Clone(post[0].Key), Value: append([]byte{}, post[0].Value...)})
		}
		if order == 0 {
			pre = pre[1:]
		}
		post = post[1:]
	}
	return puts, dels
}

func (s *steps) reject(step *jam.Step) (*Reject, error) {
	pre, err := sortedPairs(&step.Pre)
	if err != nil {
		return nil, err
	}
	post, err := sortedPairs(&step.Post)
	if err != nil {
		return nil, err
	}
	if puts, dels := diff(pre, post); len(puts)+len(dels) > 0 {
		return nil, fmt.Errorf("%w: the state changes but its root doesn't", ErrFormat)
	}
	r := &Reject{Seq: s.next, Src: s.files[s.next-1], Block: s.identity(step), Reason: "the step leaves the state as it was"}
	if step.Opaque {
		r.Reason = "the block does not decode"
	}
	return r, nil
}

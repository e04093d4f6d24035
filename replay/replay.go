// Package replay imports a recorded chain into an accessor, block by block, as
// a node would, and checks that everything comes out as recorded: what is held,
// what is refused, every root and, if asked, every state.
//
// It judges a rejected block as far as a store can: by its parent, its slot, its
// prior root and, where the record has the write set, its root. The others only
// an executor could refuse; they are counted and left out.
package replay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"accessor/forks"
	"accessor/state"
	"accessor/trace"
)

// Errors of Run beside the context's. Match them with errors.Is.
var (
	// ErrInput: the recording is unreadable or incomplete.
	ErrInput = errors.New("unreadable input")
	// ErrStore: the store could not do its work.
	ErrStore = errors.New("store failed")
)

// Options of Run. The zero value replays in the order of the file and verifies
// roots.
type Options struct {
	// ByBranch imports depth first, each branch whole, rejects last, instead of
	// in the order of arrival. It keeps the recording in memory.
	ByBranch bool
	// States reads back the whole state at every block at the end and compares
	// it with a plain in-memory model. It keeps the recording in memory.
	States bool
	// Progress, where given, is called now and then with what has been done of
	// how much, in a unit of the input's; all is 0 where that is unknown.
	Progress func(what string, done, all int64)
	// Acknowledged, where given, is called for each block once the store holds it.
	Acknowledged func(forks.Hash)
}

// Report is the outcome of a replay. Its JSON form is that of `accessor replay
// --json`.
type Report struct {
	Name           string       `json:"name"`
	Anchor         AnchorInfo   `json:"anchor"`
	Blocks         int          `json:"blocks"`  // newly imported
	Refused        int          `json:"refused"` // rejects that the store refused
	Skipped        int          `json:"skipped"` // rejects that only an executor can judge
	Held           int          `json:"held"`    // blocks that were there already
	Leaves         []Leaf       `json:"leaves"`  // of the store's tree, sorted by hash
	Forks          int          `json:"forks"`   // blocks with more than one child
	RootsVerified  int          `json:"roots_verified"`
	StatesVerified int          `json:"states_verified"`
	WalkBacks      int          `json:"walkbacks"`
	BlocksReplayed int          `json:"blocks_replayed"` // by walk-backs
	Seconds        float64      `json:"seconds"`
	Errors         []Difference `json:"errors"`

	Opened bool `json:"-"` // the store was opened, so that the counts say something
}

// Failed notes in the report why the replay did not come to its end.
func (r *Report) Failed(err error) {
	r.Errors = append(r.Errors, Difference{
		What: "replay ended early", Want: "all of the input", Got: err.Error(), Message: "replay ended early: " + err.Error(),
	})
}

// AnchorInfo names an anchor.
type AnchorInfo struct {
	Hash forks.Hash `json:"hash"`
	Root forks.Hash `json:"root"`
}

// Leaf is a block without children.
type Leaf struct {
	Hash forks.Hash `json:"hash"`
	Slot forks.Slot `json:"slot"`
	Root forks.Hash `json:"root"`
}

// Difference is something that came out other than recorded. Block and Slot are
// absent where it is not about one block.
type Difference struct {
	Block   *forks.Hash `json:"block,omitempty"`
	Slot    *forks.Slot `json:"slot,omitempty"`
	What    string      `json:"what"`
	Want    string      `json:"want"`
	Got     string      `json:"got"`
	Where   string      `json:"where,omitempty"` // in the input
	Message string      `json:"message"`
}

// String gives the difference as a line.
func (d Difference) String() string { return d.Message }

// OpenFunc opens the store for a recording's anchor, and makes it where there is
// none.
type OpenFunc func(name string, anchor *trace.Anchor) (*state.Accessor, error)

type runner struct {
	ctx    context.Context
	src    trace.Source
	opts   Options
	acc    *state.Accessor
	report *Report
	start  time.Time

	anchor *trace.Anchor
	kept   []trace.Entry // where the options ask for it
	model  []*trace.Block
}

// Run replays one recording. A difference from the record is not an error: see
// Report.Errors. The accessor that open gives is closed before Run returns,
// after shown, where given, has been called with it. The report is as far as Run
// came.
func Run(ctx context.Context, src trace.Source, open OpenFunc, opts Options, shown func(*state.Accessor, *Report)) (*Report, error) {
	r := &runner{ctx: ctx, src: src, opts: opts, start: time.Now()}
	r.report = &Report{Name: src.Name(), Leaves: []Leaf{}, Errors: []Difference{}}
	err := r.run(open, shown)
	if err != nil && r.acc != nil {
		r.describeTree(nil)
	}
	if r.acc != nil {
		if closeErr := r.acc.Close(); closeErr != nil {
			err = errors.Join(err, fmt.Errorf("%w: %w", ErrStore, closeErr))
		}
	}
	r.report.Seconds = time.Since(r.start).Seconds()
	return r.report, err
}

func (r *runner) run(open OpenFunc, shown func(*state.Accessor, *Report)) error {
	if err := r.readAnchor(); err != nil {
		return err
	}
	acc, err := open(r.report.Name, r.anchor)
	if err != nil {
		return err
	}
	r.acc = acc
	r.report.Opened = true
	if n := acc.Store().MissingDeltas(); n > 0 {
		r.differ(nil, "", "write sets of held blocks", "all there", fmt.Sprintf("%d are missing: bring deltas/ back from a backup", n))
	}
	r.report.RootsVerified = 1 // the anchor's, checked when the store was made
	end, err := r.readBlocks()
	if err != nil {
		return err
	}
	if r.opts.ByBranch {
		if err := r.importKept(); err != nil {
			return err
		}
	}
	r.describeTree(end)
	if r.opts.States {
		if err := r.verifyStates(); err != nil {
			return err
		}
	}
	r.report.Seconds = time.Since(r.start).Seconds()
	if shown != nil {
		shown(r.acc, r.report)
	}
	return nil
}

func inputError(err error) error { return fmt.Errorf("%w: %w", ErrInput, err) }

// next reads an entry; nil at the end.
func (r *runner) next() (trace.Entry, error) {
	if err := context.Cause(r.ctx); err != nil {
		return nil, err
	}
	entry, err := r.src.Next()
	switch {
	case errors.Is(err, io.EOF):
		return nil, nil
	case err != nil:
		return nil, inputError(err)
	}
	if r.opts.Progress != nil {
		done, all := r.src.Progress()
		r.opts.Progress("import", done, all)
	}
	return entry, nil
}

func (r *runner) readAnchor() error {
	for {
		entry, err := r.next()
		if err != nil {
			return err
		}
		switch e := entry.(type) {
		case nil:
			return inputError(fmt.Errorf("%s: no anchor", r.src.Name()))
		case *trace.Header:
			r.report.Name = e.Name
		case *trace.Anchor:
			r.anchor = e
			r.report.Anchor = AnchorInfo{Hash: e.Hash, Root: e.Root}
			return nil
		}
	}
}

// readBlocks reads to the end, and imports on the way unless that is put off.
func (r *runner) readBlocks() (end *trace.End, err error) {
	for {
		entry, err := r.next()
		if entry == nil || err != nil {
			return end, err
		}
		if e, ok := entry.(*trace.End); ok {
			end = e
			continue
		}
		if b, ok := entry.(*trace.Block); ok && r.opts.States {
			r.model = append(r.model, b)
		}
		if r.opts.ByBranch {
			r.kept = append(r.kept, entry)
			continue
		}
		if err := r.take(entry, r.src.Position()); err != nil {
			return end, err
		}
	}
}

// importKept imports depth first: each branch whole, rejects last.
func (r *runner) importKept() error {
	children := make(map[forks.Hash][]trace.Entry)
	known := map[forks.Hash]bool{r.anchor.Hash: true}
	var rest []trace.Entry // rejects, and blocks whose parent is nowhere
	for _, entry := range r.kept {
		b, ok := entry.(*trace.Block)
		if !ok || !known[b.Parent] {
			rest = append(rest, entry)
			continue
		}
		known[b.Hash] = true
		children[b.Parent] = append(children[b.Parent], entry)
	}
	// A stack of its own: a branch may be 14,400 blocks long.
	stack := []forks.Hash{r.anchor.Hash}
	done := int64(0)
	for len(stack) > 0 {
		h := stack[len(stack)-1]
		kids := children[h]
		if len(kids) == 0 {
			stack = stack[:len(stack)-1]
			continue
		}
		children[h] = kids[1:]
		if err := r.take(kids[0], ""); err != nil {
			return err
		}
		stack = append(stack, kids[0].(*trace.Block).Hash)
		if done++; r.opts.Progress != nil {
			r.opts.Progress("import", done, int64(len(r.kept)))
		}
	}
	for _, entry := range rest {
		if err := r.take(entry, ""); err != nil {
			return err
		}
	}
	return nil
}

func (r *runner) take(entry trace.Entry, where string) error {
	if err := context.Cause(r.ctx); err != nil {
		return err
	}
	switch e := entry.(type) {
	case *trace.Block:
		return r.takeBlock(e, where)
	case *trace.Reject:
		return r.takeReject(e, where)
	}
	return nil
}

func (r *runner) takeBlock(b *trace.Block, where string) error {
	res, err := r.acc.Import(r.ctx, &b.Block)
	switch {
	case err != nil && !judged(err):
		return fmt.Errorf("%w: %s: %w", ErrStore, where, err)
	case err != nil:
		want, got, why := "accepted", "refused", err.Error()
		var root *state.RootError
		if errors.As(err, &root) {
			why = root.Kind.Error()
			want, got = root.Declared.String(), root.Actual.String()
		}
		r.differ(&b.Block, where, "block is refused: "+why, want, got)
		return nil
	case res.Unsealed != nil:
		return fmt.Errorf("%w: %s: block %s at slot %d is held, its checkpoint can't be sealed: %w",
			ErrStore, where, b.Hash, b.Slot, res.Unsealed)
	case res.Held:
		r.report.Held++
	default:
		r.report.Blocks++
	}
	if r.opts.Acknowledged != nil {
		r.opts.Acknowledged(b.Hash)
	}
	if r.acc.Commitment().Rooted() {
		r.report.RootsVerified++ // Import compares the computed root with the stated one
	}
	if w := res.WalkBack; w != nil {
		r.report.WalkBacks++
		r.report.BlocksReplayed += w.Blocks
	}
	return nil
}

// takeReject checks that the store refuses what it can judge.
func (r *runner) takeReject(b *trace.Reject, where string) error {
	err := r.acc.Check(&b.Block)
	if err == nil && b.HasWriteSet {
		var res state.Result
		res, err = r.acc.Import(r.ctx, &b.Block)
		if err == nil {
			r.differ(&b.Block, where, "block recorded as rejected ("+b.Reason+") is accepted",
				"refused", "root "+res.Block.Root.String())
			return nil
		}
	}
	switch {
	case err == nil:
		r.report.Skipped++
		return nil
	case !judged(err):
		return fmt.Errorf("%w: %s: %w", ErrStore, where, err)
	}
	r.report.Refused++
	var root *state.RootError
	if errors.As(err, &root) && errors.Is(root, state.ErrWrongRoot) && b.RealPostRoot != nil && root.Actual != *b.RealPostRoot {
		r.differ(&b.Block, where, "root of a rejected block", b.RealPostRoot.String(), root.Actual.String())
	}
	return nil
}

// judged says whether an import's error is about the block, not about the store.
func judged(err error) bool {
	for _, kind := range []error{state.ErrUnknownParent, state.ErrSlotOrder, state.ErrPriorRoot,
		state.ErrWrongRoot, state.ErrConflict, state.ErrInvalid} {
		if errors.Is(err, kind) {
			return true
		}
	}
	return false
}

func (r *runner) differ(b *state.Block, where, what, want, got string) {
	d := Difference{What: what, Want: want, Got: got, Where: where}
	d.Message = fmt.Sprintf("%s: want %s, got %s", what, want, got)
	if b != nil {
		d.Block, d.Slot = &b.Hash, &b.Slot
		d.Message = fmt.Sprintf("block %s, slot %d: %s", b.Hash, b.Slot, d.Message)
	}
	if where != "" {
		d.Message = where + ": " + d.Message
	}
	r.report.Errors = append(r.report.Errors, d)
}

// describeTree reports the store's leaves and forks, and compares them with the
// recording's end where the store holds nothing else.
func (r *runner) describeTree(end *trace.End) {
	r.report.Leaves = []Leaf{}
	var leaves []forks.Block
	size := 0
	r.acc.ReadTree(func(t *forks.Tree) {
		leaves, r.report.Forks, size = t.Leaves(), t.Forks(), t.Len()
	})
	hashes := make([]forks.Hash, len(leaves))
	for i, b := range leaves {
		hashes[i] = b.Hash
		r.report.Leaves = append(r.report.Leaves, Leaf{Hash: b.Hash, Slot: b.Slot, Root: b.Root})
	}
	if end == nil || size != end.Blocks+1 {
		return
	}
	if want, got := fmt.Sprint(end.Leaves), fmt.Sprint(hashes); want != got {
		r.differ(nil, "", "leaves of the tree", want, got)
	}
}

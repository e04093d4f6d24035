package state

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"accessor/checkpoint"
	"accessor/forks"
	"accessor/state/merkle"
)

// Fetcher asks peers for what a partial store lacks. Its answers are verified once more
// before anybody sees them. Its methods may be called from several goroutines, end with
// their context, and give an error where no peer has a good answer: ErrNobodyHas where
// all of them say that they haven't got it. What they give is the caller's to keep, not
// to change.
type Fetcher interface {
	// FetchKeys gives the proof of keys, in ascending order, at a block, against its root.
	FetchKeys(ctx context.Context, at forks.Block, keys [][merkle.KeySize]byte) (*merkle.Proof, error)
	// FetchRange gives the answer to a range request at a block, as merkle.VerifyRange
	// takes it, and whether there may be more.
	FetchRange(ctx context.Context, at forks.Block, req merkle.RangeRequest) (p *merkle.Proof, more bool, err error)
	// FetchBlocks gives descendants of a block that peers hold, parents before children,
	// most bytes of them, about; none where they hold none. Each states its PostRoot.
	FetchBlocks(ctx context.Context, above forks.Hash, most int) ([]*Block, error)
}

// BlockRefuser is what a Fetcher may be as well: it is told which of the blocks that it
// gave were refused, and why, since only an import can tell a write set that is wrong.
type BlockRefuser interface {
	RefuseBlock(b *Block, why error)
}

// DefaultFetchTimeout is how long one fetch takes at most.
const DefaultFetchTimeout = 10 * time.Second

var (
	// ErrPartial: the state is only partly here, and what was asked for needs all of it.
	ErrPartial = checkpoint.ErrPartial
	// ErrNotFetched: what is missing of a partial state could not be had from peers. It
	// says nothing of whether a key is there.
	ErrNotFetched = errors.New("what is missing here could not be had from peers")

	// ErrNobodyHas: all peers say that they haven't got it.
	ErrNobodyHas = errors.New("no peer has it")
	// ErrAnchorGone: for a while no peer has had the state at the block that the store
	// grows from. They have pruned it, as a rule: see Reanchor.
	ErrAnchorGone = errors.New("no peer has the state at the trusted block any more; trust a later one")

	errNoFetcher = errors.New("there are none to ask")
	errLocally   = errors.New("they are not to be asked")
)

type locally struct{}

// Locally gives a context with which peers are not asked: what is missing is an
// ErrNotFetched at once. It is for those who answer peers, which would else ask each
// other. A View that was opened with it has it for the reads that take none.
func Locally(ctx context.Context) context.Context { return context.WithValue(ctx, locally{}, true) }

type noted struct{}

// NoteAsking gives a context whose reads set note where they ask peers, for answers of
// more than keys, which have no Tier.
func NoteAsking(ctx context.Context, note *atomic.Bool) context.Context {
	return context.WithValue(ctx, noted{}, note)
}

// mayAsk says whether peers may be asked, and notes that they are.
func (p *partial) mayAsk(ctx context.Context) error {
	switch {
	case p.fetcher == nil:
		return errNoFetcher
	case ctx.Value(locally{}) != nil:
		return errLocally
	}
	if note, ok := ctx.Value(noted{}).(*atomic.Bool); ok {
		note.Store(true)
	}
	return nil
}

// FetchError says what could not be had, and why. It is an ErrNotFetched, and what Err
// is.
type FetchError struct {
	Block forks.Block // at which it was asked for
	Keys  int         // their number; 0 for a range
	Err   error
}

// Error implements error.
func (e *FetchError) Error() string {
	what := "a range"
	if e.Keys > 0 {
		what = fmt.Sprintf("%d keys", e.Keys)
	}
	return fmt.Sprintf("%v: %s at block %s, slot %d: %v", ErrNotFetched, what, e.Block.Hash, e.Block.Slot, e.Err)
}

// Unwrap gives the kind and the reason.
func (e *FetchError) Unwrap() []error { return []error{ErrNotFetched, e.Err} }

// fetchKeys is how many keys are asked for at a time.
const fetchKeys = 256

// fetch asks for keys, in ascending order, at the first of some blocks at which peers
// know the answer, and verifies it. It gives the values, nil for absent keys. What was
// proven goes to absorb.
func (p *partial) fetch(ctx context.Context, at []forks.Block, keys [][merkle.KeySize]byte, absorb func(*merkle.Proof)) ([][]byte, error) {
	var values [][]byte
	for len(keys) > 0 {
		part := keys[:min(fetchKeys, len(keys))]
		keys = keys[len(part):]
		got, err := p.fetchPart(ctx, at, part, absorb)
		if err != nil {
			return nil, err
		}
		values = append(values, got...)
	}
	return values, nil
}

func (p *partial) fetchPart(ctx context.Context, at []forks.Block, keys [][merkle.KeySize]byte, absorb func(*merkle.Proof)) ([][]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	var failed error
	for _, b := range at {
		proof, err := p.ask(ctx, b, keys)
		if err == nil {
			var values [][]byte
			if values, err = merkle.VerifyKeys(b.Root, keys, proof); err == nil {
				absorb(proof)
				return values, nil
			}
			p.a.counts.rejected.Add(1)
		}
		if cause := context.Cause(ctx); cause != nil && !errors.Is(err, cause) {
			err = fmt.Errorf("%w: %w", cause, err)
		}
		if failed == nil {
			failed = &FetchError{Block: b, Keys: len(keys), Err: err}
		}
		if ctx.Err() != nil {
			break
		}
	}
	p.a.counts.failed.Add(1)
	return nil, failed
}

func (p *partial) ask(ctx context.Context, b forks.Block, keys [][merkle.KeySize]byte) (*merkle.Proof, error) {
	if err := p.mayAsk(ctx); err != nil {
		return nil, err
	}
	p.a.counts.fetches.Add(1)
	proof, err := p.fetcher.FetchKeys(ctx, b, keys)
	if err == nil && proof == nil {
		err = merkle.ErrProof
	}
	return proof, err
}

// fetchPairs gives the first pairs of a range, all there are up to the last one of
// them, and whether there may be more; where there are none, there is no more either.
func (p *partial) fetchPairs(ctx context.Context, b forks.Block, req merkle.RangeRequest) (proof *merkle.Proof, more bool, err error) {
	proof, more, err = p.fetchRange(ctx, b, req)
	if err != nil || !more || len(proof.Pairs) > 0 {
		return proof, more, err
	}
	// The proof leads to the start alone. The first pair above it, wherever that is,
	// proves that there is none before.
	end := req.End
	req.End, req.MaxSize = lastKey, 1
	if proof, more, err = p.fetchRange(ctx, b, req); err != nil {
		return nil, false, err
	}
	past := func(pair merkle.Pair) bool { return bytes.Compare(pair.Key[:], end[:]) > 0 }
	if i := slices.IndexFunc(proof.Pairs, past); i >= 0 {
		return &merkle.Proof{Nodes: proof.Nodes, Pairs: proof.Pairs[:i]}, false, nil
	}
	return proof, more, nil
}

// lastKey is above all others.
var lastKey = [merkle.KeySize]byte(bytes.Repeat([]byte{0xff}, merkle.KeySize))

// fetchRange asks for a range at a block, and verifies the answer. One up to the last
// key has a pair, unless there are none.
func (p *partial) fetchRange(ctx context.Context, b forks.Block, req merkle.RangeRequest) (proof *merkle.Proof, more bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	if err = p.mayAsk(ctx); err == nil {
		p.a.counts.fetches.Add(1)
		proof, _, err = p.fetcher.FetchRange(ctx, b, req)
		if err == nil && proof == nil {
			err = merkle.ErrProof
		}
		if err == nil {
			if more, err = merkle.VerifyRange(b.Root, req, proof); err == nil && more && len(proof.Pairs) == 0 && req.End == lastKey {
				err = fmt.Errorf("%w: it has no pair, and there may be some", merkle.ErrProof)
			}
			if err != nil {
				p.a.counts.rejected.Add(1)
			}
		}
	}
	if err != nil {
		p.a.counts.failed.Add(1)
		return nil, false, &FetchError{Block: b, Err: err}
	}
	return proof, more, nil
}

// batch is a fetch that several readers wait for.
type batch struct {
	ctx     context.Context //nolint:containedctx // of the fetch; it ends with its last waiter
	cancel  context.CancelFunc
	waiters int // guarded by partial.mu; the last one to go ends the fetch
	done    chan struct{}
	keys    [][merkle.KeySize]byte // in ascending order
	values  [][]byte
	err     error
}

// flightKey names a key that is being fetched.
type flightKey struct {
	block forks.Hash
	key   [merkle.KeySize]byte
}

// once fetches keys, in ascending order, at a block, each once for all who ask for it
// at the same time.
func (p *partial) once(ctx context.Context, b forks.Block, keys [][merkle.KeySize]byte) (map[[merkle.KeySize]byte][]byte, error) {
	if err := p.mayAsk(ctx); err != nil {
		return nil, &FetchError{Block: b, Keys: len(keys), Err: err}
	}
	batches, mine := p.join(b, keys)
	defer p.leaveBatches(b, batches)
	if mine != nil {
		p.fly(b, mine)
	}
	values := make(map[[merkle.KeySize]byte][]byte, len(keys))
	for _, f := range batches {
		select {
		case <-f.done:
		case <-ctx.Done():
			return nil, &FetchError{Block: b, Keys: len(keys), Err: context.Cause(ctx)}
		}
		if f.err != nil {
			return nil, f.err
		}
		for i, key := range f.keys {
			values[key] = f.values[i]
		}
	}
	return values, nil
}

// join gives the fetches that bring keys. Those that none brings yet are mine, which the
// caller has to begin.
func (p *partial) join(b forks.Block, keys [][merkle.KeySize]byte) (batches []*batch, mine *batch) {
	p.mu.Lock()
	defer p.mu.Unlock()
	seen := make(map[*batch]bool)
	var unknown [][merkle.KeySize]byte
	for _, key := range keys {
		f := p.flights[flightKey{b.Hash, key}]
		if f == nil {
			unknown = append(unknown, key)
		} else if !seen[f] {
			seen[f] = true
			f.waiters++
			batches = append(batches, f)
		}
	}
	if len(unknown) == 0 {
		return batches, nil
	}
	mine = &batch{waiters: 1, done: make(chan struct{}), keys: unknown}
	mine.ctx, mine.cancel = context.WithCancel(context.Background())
	for _, key := range unknown {
		p.flights[flightKey{b.Hash, key}] = mine
	}
	return append(batches, mine), mine
}

// fly begins a fetch. The store stays open until it has ended.
func (p *partial) fly(b forks.Block, f *batch) {
	land := func() {
		p.mu.Lock()
		p.landLocked(b, f)
		p.mu.Unlock()
		close(f.done)
	}
	ctx, end, err := p.a.begin(f.ctx)
	if err != nil {
		f.err = err
		land()
		return
	}
	go func() {
		defer end()
		defer land()
		f.values, f.err = p.fetchUnknown(ctx, b, f.keys)
	}()
}

// fetchUnknown fetches those of keys that an earlier fetch has not brought since they
// were looked for.
func (p *partial) fetchUnknown(ctx context.Context, b forks.Block, keys [][merkle.KeySize]byte) ([][]byte, error) {
	values := make([][]byte, len(keys))
	var unknown [][merkle.KeySize]byte
	var at []int
	for i, key := range keys {
		value, err := p.here(b, key[:])
		if gap := (*merkle.MissingError)(nil); errors.As(err, &gap) {
			unknown, at = append(unknown, key), append(at, i)
		} else if err != nil {
			return nil, err
		}
		values[i] = value
	}
	got, err := p.fetch(ctx, p.a.branch(b), unknown, p.absorb)
	for i, value := range got {
		values[at[i]] = value
	}
	return values, err
}

// landLocked lets the next reader fetch again.
func (p *partial) landLocked(b forks.Block, f *batch) {
	for _, key := range f.keys {
		if id := (flightKey{b.Hash, key}); p.flights[id] == f {
			delete(p.flights, id)
		}
	}
}

func (p *partial) leaveBatches(b forks.Block, batches []*batch) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, f := range batches {
		if f.waiters--; f.waiters == 0 {
			p.landLocked(b, f)
			f.cancel()
		}
	}
}

// branch gives the blocks against whose roots something on the way to b may be proven:
// b, finalized where b descends from it, and the anchor.
func (a *Accessor) branch(b forks.Block) []forks.Block {
	list := []forks.Block{b}
	a.ReadTree(func(t *forks.Tree) {
		for _, other := range []forks.Block{t.Finalized(), t.Anchor()} {
			if last := list[len(list)-1]; other.Hash != last.Hash && t.IsAncestor(other.Hash, last.Hash) {
				list = append(list, other)
			}
		}
	})
	return list
}

package checkpoint

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"accessor/forks"
)

// wholeState reads all of a block's state and of the commitment's records, at the
// rate of images, and checks the root on the way.
type wholeState struct {
	s       *Store
	ctx     context.Context
	w       *Working // stands at the block
	started time.Time
	written int64
	err     error // why stored ended early
	stopped bool  // by who takes the entries, who knows why
}

// wholeAt opens the whole state at a block, from the nearest image. The caller closes
// it.
func (s *Store) wholeAt(ctx context.Context, e *entry) (*wholeState, error) {
	w, err := s.fromImage(e)
	if err != nil {
		return nil, err
	}
	return &wholeState{s: s, ctx: ctx, w: w, started: time.Now()}, nil
}

// fromImage brings a working database to e from the nearest image.
func (s *Store) fromImage(e *entry) (*Working, error) {
	base, err := s.usableImage(e)
	if err != nil {
		return nil, err
	}
	w, err := s.cloneImage(base)
	if err != nil {
		return nil, err
	}
	if err := w.advance(e); err != nil {
		w.Drop()
		return nil, err
	}
	return w, nil
}

func (ws *wholeState) close() { ws.w.Drop() }

// stored yields the stored entries in key order, without the block's record. Once it
// has ended, err says whether it ended early. The slices are valid until the next.
func (ws *wholeState) stored() iter.Seq2[[]byte, []byte] {
	return func(yield func([]byte, []byte) bool) {
		if ws.err = ws.state(yield); ws.err == nil && !ws.stopped {
			ws.err = ws.trie(yield)
		}
	}
}

func (ws *wholeState) state(yield func(key, stored []byte) bool) error {
	it := ws.w.Scan(nil, nil)
	var failed error
	var key, stored []byte
	pairs := func(next func([]byte, []byte) bool) {
		for it.Next() {
			key = appendStateKey(key[:0], it.Key())
			stored = append(append(stored[:0], tagValue), it.Value()...)
			if failed = ws.pace(len(key) + len(stored)); failed != nil {
				return
			}
			if ws.stopped = !yield(key, stored); ws.stopped || !next(it.Key(), it.Value()) {
				return
			}
		}
	}
	var root forks.Hash
	var err error
	check := ws.s.opts.CheckRoot
	if check != nil {
		root, err = check(pairs)
	} else {
		pairs(func([]byte, []byte) bool { return true })
	}
	// A walk that ended early says so only when it is closed.
	if err = errors.Join(failed, err, it.Close()); err != nil || ws.stopped {
		return err
	}
	if at := ws.w.At(); check != nil && root != at.Root {
		return fmt.Errorf("%w: state at block %s, slot %d, has root %s, recorded is %s",
			ErrDamaged, at.Hash, at.Slot, root, at.Root)
	}
	return nil
}

func (ws *wholeState) trie(yield func(key, stored []byte) bool) error {
	var failed error
	var key, stored []byte
	err := ws.w.Trie().Scan(nil, nil, func(k, v []byte) bool {
		key = appendTrieKey(key[:0], k)
		stored = append(append(stored[:0], tagValue), v...)
		failed = ws.pace(len(key) + len(stored))
		return failed == nil && yield(key, stored)
	})
	return errors.Join(failed, err)
}

// pace waits, now and then, until writing so many bytes more is within the rate.
func (ws *wholeState) pace(n int) error {
	const step = 1 << 20
	before := ws.written
	if ws.written += int64(n); before/step == ws.written/step {
		return nil
	}
	return ws.s.pace(ws.ctx, ws.started, ws.written)
}

// pace waits until having written so many bytes since then is within the rate of
// images.
func (s *Store) pace(ctx context.Context, since time.Time, written int64) error {
	if s.maintain.done == nil { // nobody imports
		return nil
	}
	due := since.Add(time.Duration(float64(written) / float64(s.opts.ImageRate) * float64(time.Second)))
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-s.maintain.done:
		return ErrClosed
	case <-time.After(time.Until(due)):
		return nil
	}
}

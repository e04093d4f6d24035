package checkpoint

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"accessor/forks"
)

// replayed is the state at a block without a checkpoint, read beside the owner: the
// deltas of the blocks above the nearest checkpoint or image, over that. It is safe
// for concurrent use.
type replayed struct {
	base   DB
	deltas []Table // newest first
}

// mostReplayed is how many blocks a state is read through at most: more than lie
// between two images of old blocks.
const mostReplayed = 1024

// replay opens the state at a listed block from the deltas down to what is sealed.
// Errors: ErrMissing, ErrDamaged, ctx's.
func (b *Beside) replay(ctx context.Context, list []Listed, l Listed) (*BesideView, error) {
	byHash := make(map[forks.Hash]Listed, len(list))
	for _, x := range list {
		byHash[x.Hash] = x
	}
	var rec Record
	state := new(replayed)
	for at := l; ; {
		if err := context.Cause(ctx); err != nil {
			return nil, errors.Join(err, state.Close())
		}
		above, err := b.addDelta(state, at)
		if err == nil && len(state.deltas) > mostReplayed {
			err = fmt.Errorf("%w: nothing is sealed in %d blocks below block %s; ask the owner", ErrMissing, mostReplayed, l.Hash)
		}
		if err != nil {
			return nil, errors.Join(err, state.Close())
		}
		if at == l {
			rec = above
		}
		if above.Partial {
			return nil, errors.Join(fmt.Errorf("%w: ask the owner for block %s", ErrPartial, l.Hash), state.Close())
		}
		next, ok := byHash[above.Parent]
		if above.Anchor || !ok {
			return nil, errors.Join(fmt.Errorf("%w: nothing is sealed below block %s", ErrMissing, l.Hash), state.Close())
		}
		if at = next; !at.Sealed {
			continue
		}
		v, err := b.openAny([]Listed{at}, at.Hash)
		if err == nil {
			state.base = v.db
			return &BesideView{db: state, rec: rec}, nil
		}
		if !errors.Is(err, ErrMissing) {
			return nil, errors.Join(err, state.Close())
		}
	}
}

// addDelta opens a block's delta as the oldest one, and gives its record.
func (b *Beside) addDelta(state *replayed, l Listed) (Record, error) {
	path := filepath.Join(b.dir, dirDeltas, Name(l.block())+".sst")
	table, err := b.engine.OpenTable(path)
	if err != nil {
		if _, statErr := os.Lstat(path); errors.Is(statErr, fs.ErrNotExist) {
			err = fmt.Errorf("%w: %s", ErrMissing, path)
		}
		return Record{}, err
	}
	state.deltas = append(state.deltas, table)
	stored, found, err := inTable(table, nil, recordKey)
	if err == nil && !found {
		err = fmt.Errorf("%w: no block record in %s", ErrDamaged, path)
	}
	if err != nil {
		return Record{}, err
	}
	rec, err := storedRecord(stored)
	if err == nil && (rec.Hash != l.Hash || rec.Slot != l.Slot) {
		err = fmt.Errorf("%w: %s holds block %s, slot %d", ErrDamaged, path, rec.Hash, rec.Slot)
	}
	return rec, err
}

// Get implements DB.
func (r *replayed) Get(dst, key []byte) ([]byte, bool, error) {
	for _, t := range r.deltas {
		value, found, err := inTable(t, dst, key)
		if err != nil || found {
			return value, found, err
		}
	}
	return r.base.Get(dst, key)
}

// GetMany implements DB.
func (r *replayed) GetMany(keys [][]byte) ([][]byte, error) {
	return getEach(func(key []byte) ([]byte, bool, error) { return r.Get(nil, key) }, keys)
}

// Scan implements DB.
func (r *replayed) Scan(from, to []byte, keep bool) Iterator {
	m := new(merger)
	m.add(r.base.Scan(from, to, keep))
	for i := len(r.deltas) - 1; i >= 0; i-- {
		m.add(r.deltas[i].Scan(from, to))
	}
	return newMerged(m)
}

// ScanBack implements DB. Nobody reads backwards beside the owner.
func (r *replayed) ScanBack([]byte, []byte) Iterator { return noIterator{errors.ErrUnsupported} }

// Close implements DB.
func (r *replayed) Close() (err error) {
	for _, t := range r.deltas {
		err = errors.Join(err, t.Close())
	}
	if r.base != nil {
		err = errors.Join(err, r.base.Close())
	}
	return err
}

package state

import (
	"fmt"
	"slices"
	"sort"

	"github.com/tidwall/btree"
)

// draftOverhead is what an entry of a draft counts beside its key and value, in
// bytes: what the tree, half full nodes included, or the undo log needs for it.
const draftOverhead = 128

// draftWrite is what a draft has written to a key.
type draftWrite struct {
	value  []byte // never changed once it is here
	delete bool
	mark   Savepoint // the newest savepoint when it was written; 0 without any
}

// draftWrites are a draft's writes in key order, with what undoes them. Not safe
// for concurrent use.
//
// Invariant: an entry whose mark is the newest savepoint has its predecessor in
// the undo log, above that savepoint's place; so the next write to its key needs
// no other one.
type draftWrites struct {
	limit int // of size
	// size is what everything here counts, in bytes: entries, undo log and
	// savepoints.
	size int

	entries btree.Map[string, draftWrite]
	undo    []undoStep
	points  []savepoint // oldest first
	last    Savepoint   // given out last; never used twice
}

// undoStep brings a key back to what it was.
type undoStep struct {
	key    string
	before draftWrite
	was    bool // whether there was an entry
}

// savepoint is a moment to which the writes can go back.
type savepoint struct {
	id   Savepoint
	undo int // length of the undo log
}

func entrySize(key string, valueSize int) int { return draftOverhead + len(key) + valueSize }

func (u undoStep) size() int { return entrySize(u.key, len(u.before.value)) }

// newest is the newest savepoint, or 0.
func (w *draftWrites) newest() Savepoint {
	if len(w.points) == 0 {
		return 0
	}
	return w.points[len(w.points)-1].id
}

// growth is by how many bytes a write to a key makes everything larger.
func (w *draftWrites) growth(key string, valueSize int) int {
	n := entrySize(key, valueSize)
	before, was := w.entries.Get(key)
	if was {
		n -= entrySize(key, len(before.value))
	}
	if w.logs(before, was) {
		n += undoStep{key: key, before: before}.size()
	}
	return n
}

// logs says whether a write over an entry must be logged.
func (w *draftWrites) logs(before draftWrite, was bool) bool {
	return len(w.points) > 0 && (!was || before.mark != w.newest())
}

// fits refuses to grow by n bytes over the limit. Error: ErrDraftTooLarge.
func (w *draftWrites) fits(n int) error {
	if w.size+n > w.limit {
		return fmt.Errorf("%w: %d bytes and %d more, at most %d; commit it, or roll back", ErrDraftTooLarge, w.size, n, w.limit)
	}
	return nil
}

// put writes a copy of a value. Error: ErrDraftTooLarge.
func (w *draftWrites) put(key string, value []byte) error {
	if err := w.fits(w.growth(key, len(value))); err != nil {
		return err
	}
	w.set(key, draftWrite{value: append([]byte{}, value...)})
	return nil
}

// deleteAll deletes different keys: all, or none. Error: ErrDraftTooLarge.
func (w *draftWrites) deleteAll(keys ...string) error {
	n := 0
	for _, key := range keys {
		n += w.growth(key, 0)
	}
	if err := w.fits(n); err != nil {
		return err
	}
	for _, key := range keys {
		w.set(key, draftWrite{delete: true})
	}
	return nil
}

func (w *draftWrites) set(key string, e draftWrite) {
	w.size += w.growth(key, len(e.value))
	e.mark = w.newest()
	before, was := w.entries.Set(key, e)
	if w.logs(before, was) {
		w.undo = append(w.undo, undoStep{key: key, before: before, was: was})
	}
}

// save sets a savepoint. Error: ErrDraftTooLarge.
func (w *draftWrites) save() (Savepoint, error) {
	if err := w.fits(draftOverhead); err != nil {
		return 0, err
	}
	w.size += draftOverhead
	w.last++
	w.points = append(w.points, savepoint{id: w.last, undo: len(w.undo)})
	return w.last, nil
}

// rollback undoes what was written after a savepoint, which stays; later ones
// go. Error: ErrNoSavepoint.
func (w *draftWrites) rollback(id Savepoint) error {
	i := sort.Search(len(w.points), func(i int) bool { return w.points[i].id >= id })
	if i == len(w.points) || w.points[i].id != id {
		return fmt.Errorf("%w: %d", ErrNoSavepoint, id)
	}
	keep := w.points[i].undo
	for _, u := range slices.Backward(w.undo[keep:]) {
		w.size -= u.size()
		var now draftWrite
		if u.was {
			now, _ = w.entries.Set(u.key, u.before)
			w.size += entrySize(u.key, len(u.before.value))
		} else {
			now, _ = w.entries.Delete(u.key)
		}
		w.size -= entrySize(u.key, len(now.value))
	}
	w.size -= draftOverhead * (len(w.points) - i - 1)
	w.undo = truncated(w.undo, keep)
	w.points = truncated(w.points, i+1)
	return nil
}

// truncated keeps the first n and doesn't hold on to much more memory than they
// need, nor to what the others point to.
func truncated[T any](list []T, n int) []T {
	clear(list[n:])
	list = list[:n]
	if n < cap(list)/4 {
		return slices.Clone(list)
	}
	return list
}

// list gives the writes as those of a block, in key order; the values are the
// draft's own.
func (w *draftWrites) list() (puts []Pair, dels [][]byte) {
	w.entries.Scan(func(key string, e draftWrite) bool {
		if e.delete {
			dels = append(dels, []byte(key))
		} else {
			puts = append(puts, Pair{Key: []byte(key), Value: e.value})
		}
		return true
	})
	return puts, dels
}

// draftCursor walks the writes with keys in [from, to), in key order; an empty to
// means no upper end.
type draftCursor struct {
	it   btree.MapIter[string, draftWrite]
	to   string
	more bool
}

func newDraftCursor(entries *btree.Map[string, draftWrite], from, to []byte) *draftCursor {
	c := &draftCursor{it: entries.Iter(), to: string(to)}
	c.more = c.it.Seek(string(from))
	return c
}

// below says whether the cursor stands at a key below limit, and at an existing
// one at all.
func (c *draftCursor) below(limit []byte) bool { return c.valid() && c.it.Key() < string(limit) }

func (c *draftCursor) at(key []byte) bool { return c.valid() && c.it.Key() == string(key) }

func (c *draftCursor) valid() bool { return c.more && (c.to == "" || c.it.Key() < c.to) }

// take gives the write at which the cursor stands and goes on to the next.
func (c *draftCursor) take() (key string, w draftWrite) {
	key, w = c.it.Key(), c.it.Value()
	c.more = c.it.Next()
	return key, w
}

package checkpoint

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"path/filepath"
	"slices"

	"go.uber.org/zap"

	"accessor/forks"
)

// Completion makes a partial store a complete one. The anchor's whole state becomes its
// delta; the deltas of the blocks above are written again, since they lack what those
// blocks change of the commitment's records, which needs the whole state:
//
//	anchor's state → deltas/NAME.anchor │ each block → NAME.full │ records, in one batch │ renames, image
//	                                                             └ from here the store is complete
//
// Up to the batch a crash leaves a partial store as it was; after it the next start
// finishes the renames. It belongs to one goroutine.
type Completion struct {
	s      *Store
	anchor Record
	above  map[forks.Hash]Record // the blocks that were added, with their new deltas' sizes
	left   []*entry              // blocks to add, each below those that descend from it
	w      *Working              // stands at a block that was added, or the anchor
	over   bool
}

// fullExt ends the names of deltas that wait for a completion's records.
const fullExt = ".full"

func (s *Store) fullPath(b forks.Block) string { return s.path(dirDeltas, Name(b)+fullExt) }

// ErrComplete: the store is not partial.
var ErrComplete = errors.New("the store is complete")

// BeginCompletion writes the anchor's whole state, as Create takes it. Nothing of it
// counts before Commit. The caller ends the completion with Commit or Abort. Errors:
// ErrComplete, ErrLimit, ErrNoSpace, that of pairs, and ctx's; ErrUndecided after a
// Commit whose records failed.
func (s *Store) BeginCompletion(ctx context.Context, pairs iter.Seq2[Pair, error], trie iter.Seq[Pair]) (*Completion, error) {
	e := s.anchorEntry()
	if !e.rec.Partial {
		return nil, ErrComplete
	}
	s.mu.Lock()
	undecided := s.undecided[e.rec.Hash]
	s.mu.Unlock()
	if undecided {
		// The files must stay as they are: there may be records of them.
		return nil, fmt.Errorf("complete anchor %s: %w", e.rec.Hash, ErrUndecided)
	}
	c := &Completion{s: s, anchor: e.rec, above: make(map[forks.Hash]Record)}
	c.anchor.Partial = false
	var failed error
	err := s.writeAside(&c.anchor, s.anchorPath(c.anchor.Block), s.wholeOf(untilDone(ctx, pairs), trie, &failed), &failed)
	if err == nil {
		err = c.standAt(e)
	}
	if err != nil {
		c.Abort()
		return nil, fmt.Errorf("complete anchor %s: %w", c.anchor.Hash, err)
	}
	return c, nil
}

// untilDone passes pairs on and ends with an error when ctx does.
func untilDone(ctx context.Context, pairs iter.Seq2[Pair, error]) iter.Seq2[Pair, error] {
	const step = 1024
	return func(yield func(Pair, error) bool) {
		n := 0
		for p, err := range pairs {
			if n++; n%step == 0 && err == nil {
				err = context.Cause(ctx)
			}
			if !yield(p, err) || err != nil {
				return
			}
		}
	}
}

// writeAside writes a table with a record in front, durably, where no reader looks for
// it. failed, where it is set meanwhile, is why the entries are not all there.
func (s *Store) writeAside(rec *Record, path string, stored iter.Seq2[[]byte, []byte], failed *error) (err error) {
	tmp := s.tmpPath(dirTmp, "full")
	rec.DeltaSize, rec.DeltaSum, err = s.writeTable(tmp, rec, stored)
	if *failed != nil {
		err = *failed
	}
	if err == nil {
		err = s.files.rename(tmp, path)
	}
	if err != nil {
		s.discard(tmp)
	}
	return err
}

// standAt brings a new working database to a block that was added, or the anchor.
func (c *Completion) standAt(e *entry) error {
	if c.w != nil {
		c.w.Drop()
		c.w = nil
	}
	var list []piece
	for x := e; x.parent() != nil; x = x.parent() {
		list = append([]piece{{path: c.s.fullPath(x.rec.Block)}}, list...)
	}
	list = append([]piece{{path: c.s.anchorPath(c.anchor.Block)}}, list...)
	dir := c.s.tmpPath(dirWork, "db")
	db, err := c.s.engine.OpenWorking(dir)
	if err != nil {
		c.s.discard(dir)
		return err
	}
	c.w = &Working{store: c.s, db: db, dir: dir, at: e}
	return c.w.ingest(list)
}

// Next gives the next block that is not added yet, and a database at its parent, which
// is good until the next call; ok is false where all are added.
func (c *Completion) Next() (rec Record, parent *Working, ok bool, err error) {
	next := c.next()
	if next == nil {
		return rec, nil, false, nil
	}
	if above := next.parent(); c.w.at.rec.Hash != above.rec.Hash {
		err = c.standAt(above)
	}
	return next.rec, c.w, true, err
}

// next gives the next block to add, branch after branch, so that the database stands at
// its parent as a rule; nil where all are added.
func (c *Completion) next() *entry {
	for len(c.left) > 0 {
		next := c.left[len(c.left)-1]
		if _, done := c.above[next.rec.Hash]; !done {
			return next
		}
		c.left = c.left[:len(c.left)-1]
	}
	if c.left = c.missing(); len(c.left) == 0 {
		return nil
	}
	return c.left[len(c.left)-1]
}

// missing gives the blocks that are not added, the first to add last: those above one of
// them directly before it, as far as they are on one branch.
func (c *Completion) missing() []*entry {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	children := make(map[*entry][]*entry)
	for _, e := range c.s.sortedLocked() {
		children[e.parent()] = append(children[e.parent()], e)
	}
	var list []*entry
	for way := children[nil]; len(way) > 0; {
		e := way[len(way)-1]
		way = append(way[:len(way)-1], children[e]...)
		if _, done := c.above[e.rec.Hash]; !done && e.parent() != nil {
			list = append(list, e)
		}
	}
	slices.Reverse(list)
	return list
}

// Add writes the delta of the block that Next gave again, with what it changes of the
// commitment's records.
func (c *Completion) Add(rec Record, trie WriteSet) error {
	writes, err := c.s.ReadDelta(rec.Hash)
	if err != nil {
		return err
	}
	var failed error
	err = c.s.writeAside(&rec, c.s.fullPath(rec.Block), func(yield func([]byte, []byte) bool) {
		for w, err := range writes {
			if failed = err; err != nil || !(WriteSet{w}).stored(tagState, yield) {
				return
			}
		}
		trie.stored(tagTrie, yield)
	}, &failed)
	if err != nil {
		return fmt.Errorf("write delta of block %s again: %w", rec.Hash, err)
	}
	e, err := c.s.entry(rec.Hash)
	if err != nil {
		return err
	}
	if err := c.w.ingest([]piece{{path: c.s.fullPath(rec.Block)}}); err != nil {
		return err
	}
	c.w.at = e
	c.above[rec.Hash] = rec
	return nil
}

// Commit makes the store complete. All blocks are added, and none is imported until it
// returns. Where the error is nil the anchor has its image and its checkpoint. After an
// error the store may be complete all the same, which Partial tells; the next start
// finishes what is left. The caller publishes the event of it once that can be seen,
// whether there was an error or not.
func (c *Completion) Commit() (publish func(), err error) {
	s := c.s
	s.building.Lock()
	defer s.building.Unlock()
	if e := c.next(); e != nil {
		return func() {}, fmt.Errorf("complete the store: block %s was not added", e.rec.Hash)
	}
	changes := []Change{{Key: blockKey(c.anchor.Hash), Value: c.anchor.encode()}}
	for h, rec := range c.above {
		changes = append(changes, Change{Key: blockKey(h), Value: rec.encode()})
	}
	publish, err = s.recordWith(changes, Event{Kind: EventComplete, Block: c.anchor.Block})
	if err != nil {
		c.end() // the files stay: the records may have reached the disk
		s.mu.Lock()
		s.undecided[c.anchor.Hash] = true
		s.mu.Unlock()
		return publish, fmt.Errorf("record the complete state: %w", err)
	}
	c.replaceEntries()
	c.end()
	err = s.files.rename(s.anchorPath(c.anchor.Block), s.deltaPath(c.anchor.Block))
	for _, rec := range c.above {
		err = errors.Join(err, s.files.rename(s.fullPath(rec.Block), s.deltaPath(rec.Block)))
	}
	if err == nil {
		err = s.anchorImage()
	}
	if err != nil {
		return publish, fmt.Errorf("complete the store: %w", err)
	}
	return publish, nil
}

// replaceEntries does in memory what the records say already. Readers without the lock
// still have the entries as they were.
func (c *Completion) replaceEntries() {
	s := c.s
	s.mu.Lock()
	defer s.mu.Unlock()
	fresh := make(map[forks.Hash]*entry, len(s.entries))
	for _, old := range s.sortedLocked() {
		e := &entry{rec: old.rec, height: old.height}
		if parent := old.parent(); parent != nil {
			e.rec = c.above[old.rec.Hash]
			e.above.Store(fresh[parent.rec.Hash])
		} else {
			e.rec = c.anchor
			s.anchor = e
		}
		fresh[e.rec.Hash] = e
	}
	s.entries = fresh
}

// end drops the database.
func (c *Completion) end() {
	if c.w != nil {
		c.w.Drop()
		c.w = nil
	}
	c.over = true
}

// Abort gives the completion up, unless it is over.
func (c *Completion) Abort() {
	if c.over {
		return
	}
	c.end()
	c.s.discard(c.s.anchorPath(c.anchor.Block))
	for _, rec := range c.above {
		c.s.discard(c.s.fullPath(rec.Block))
	}
}

// finishCompletion goes on where a crash stopped a completion: before its records, as
// if it had not begun; after them, to its end. present are the files in deltas/.
func (s *Store) finishCompletion(present map[string]bool) error {
	full := make(map[string]*entry)
	for _, e := range s.entries {
		full[s.fullPath(e.rec.Block)] = e
	}
	for path := range present {
		if filepath.Ext(path) != fullExt {
			continue
		}
		var err error
		if e := full[path]; e != nil && !s.anchor.rec.Partial {
			s.log.Info("finish the completion of a block", zap.Stringer("block", e.rec.Hash))
			err = s.files.rename(path, s.deltaPath(e.rec.Block))
		} else {
			err = s.files.remove(path)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

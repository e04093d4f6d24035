package checkpoint

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"runtime"
	"sync"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"accessor/forks"
)

// RootFunc computes a state's root from all its pairs in key order. It must
// consume all of them unless it fails.
type RootFunc func(pairs iter.Seq2[[]byte, []byte]) (forks.Hash, error)

// maintenance merges deltas into runs and makes images, beside the imports: one
// goroutine for runs, so that a long image doesn't hold them up.
type maintenance struct {
	s *Store

	mu sync.Mutex // one maker of runs at a time

	pendingMu sync.Mutex
	pending   []*entry // newest block of each branch that has grown, oldest first

	wake   chan struct{}
	images chan *entry
	done   chan struct{}
	wg     sync.WaitGroup
}

// maxPending bounds the branches that wait for maintenance; one that is left
// out is looked at when it grows again.
const maxPending = 16

// maxPrepared bounds the working databases that wait for adoption.
const maxPrepared = 4

func (m *maintenance) start(s *Store) {
	m.s = s
	m.wake = make(chan struct{}, 1)
	m.images = make(chan *entry, 1)
	m.done = make(chan struct{})
	m.wg.Go(m.runsLoop)
	m.wg.Go(m.imagesLoop)
}

func (m *maintenance) stop() {
	if m.done != nil {
		close(m.done)
		m.wg.Wait()
	}
}

func (m *maintenance) stopped() bool {
	select {
	case <-m.done:
		return true
	default:
		return false
	}
}

// poke says that a branch has grown to e.
func (m *maintenance) poke(e *entry) {
	m.pendingMu.Lock()
	replaced := false
	for i, p := range m.pending {
		if p == e || p == e.parent() {
			m.pending[i], replaced = e, true
			break
		}
	}
	if !replaced {
		m.pending = append(m.pending, e)
		if len(m.pending) > maxPending {
			m.pending = m.pending[1:]
		}
	}
	m.pendingMu.Unlock()
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

func (m *maintenance) next() *entry {
	m.pendingMu.Lock()
	defer m.pendingMu.Unlock()
	if len(m.pending) == 0 {
		return nil
	}
	e := m.pending[0]
	m.pending = m.pending[1:]
	return e
}

// background makes the calling goroutine yield to imports where they need all
// cores: it keeps a thread to itself, which the system runs when there is time.
func background() {
	runtime.LockOSThread()
	// Without it, what follows is only faster than it should be.
	_ = unix.Setpriority(unix.PRIO_PROCESS, unix.Gettid(), 10)
}

func (m *maintenance) runsLoop() {
	background()
	for {
		select {
		case <-m.done:
			return
		case <-m.wake:
		}
		for e := m.next(); e != nil && !m.stopped(); e = m.next() {
			if err := m.settle(e, false); err != nil {
				m.s.log.Warn("merge deltas", zap.Stringer("block", e.rec.Hash), zap.Error(err))
			}
			if m.s.imageDue(e) != nil {
				select {
				case m.images <- e:
				default: // one is being made; the branch asks again when it grows
				}
			}
		}
	}
}

// settle makes the runs that are due on e's branch and prepares a working
// database with them. Where an import waits for it, it makes sure that a database
// at e has room for more tables.
func (m *maintenance) settle(e *entry, waiting bool) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.s
	if held, err := s.entry(e.rec.Hash); err != nil || held != e {
		return nil // it was pruned
	}
	im, err := s.usableImage(e)
	if err != nil {
		return err
	}
	if err := s.mergeDeltas(im, e); err != nil {
		return err
	}
	if waiting {
		if err := s.mergeAll(im, e); err != nil {
			return err
		}
	}
	if err := s.prepare(im, e); err != nil {
		return err
	}
	return s.mergeRuns(im, e)
}

// largeRun is a number of bytes above which deltas are merged only when a
// checkpoint has half as many tables as it may: merging copies them once more.
const largeRun = 64 << 20

// mergeDeltas makes a run of each group of RunLength deltas that ends at a
// height which is a multiple of RunLength; so branches share the runs below
// their fork.
func (s *Store) mergeDeltas(im, tip *entry) error {
	list, err := s.compose(im, tip)
	if err != nil {
		return err
	}
	n := s.opts.RunLength
	for i, p := range list {
		if p.run || p.at.height%n != 0 || i+1 < n {
			continue
		}
		group := list[i+1-n : i+1]
		var size int64
		plain := true
		for _, g := range group {
			plain = plain && !g.run
			size += g.size
		}
		if !plain || size > largeRun && len(list) <= s.opts.MaxTables/2 {
			continue
		}
		if err := s.makeRun(group); err != nil {
			return err
		}
	}
	return nil
}

// mergeRuns merges runs where, at the speed at which blocks come, a checkpoint
// would get too many tables before the next image is there: the deltas that have
// come since the last group was complete tell how far the merging lags behind.
// Then a run of runs helps the databases that are prepared from here on.
func (s *Store) mergeRuns(im, tip *entry) error {
	for longest := 8 * s.opts.RunLength; longest < 1<<20; longest *= 8 {
		list, err := s.compose(im, tip)
		if err != nil {
			return err
		}
		runs := len(list)
		for runs > 0 && !list[runs-1].run {
			runs--
		}
		lag := len(list) - runs
		if runs+s.opts.RunLength+2*lag <= s.opts.MaxTables {
			return nil
		}
		start := runs
		for start > 0 && list[start-1].at.height-list[start-1].from.height < longest {
			start--
		}
		if runs-start < 4 {
			continue
		}
		if err := s.makeRun(list[start:runs]); err != nil {
			return err
		}
	}
	return nil
}

// mergeAll merges all but the newest deltas into one run, where there are too
// many tables otherwise.
func (s *Store) mergeAll(im, tip *entry) error {
	list, err := s.compose(im, tip)
	if err != nil || len(list) < s.opts.MaxTables-s.opts.RunLength/2 {
		return err
	}
	end := len(list)
	for end > 0 && list[end-1].at.height%s.opts.RunLength != 0 {
		end--
	}
	if end < 2 {
		return nil
	}
	return s.makeRun(list[:end])
}

// makeRun merges tables that follow each other into one.
func (s *Store) makeRun(pieces []piece) error {
	top, from := pieces[len(pieces)-1].at, pieces[0].from
	r := &run{count: top.height - from.height, checked: true}
	tmp := s.tmpPath(dirTmp, "run")
	var err error
	r.size, r.sum, err = s.merge(pieces, tmp)
	if err == nil {
		err = s.files.rename(tmp, s.runPath(top.rec.Block, r.count)) // over a forgotten one, if any
	}
	if err == nil {
		// Not synced: a run whose record a power cut took is made again.
		err = s.record(Change{Key: runKey(top.rec.Hash, r.count), Value: r.encode()}, false)
	}
	if err != nil {
		s.discard(tmp)
		return fmt.Errorf("make run of %d blocks up to %s: %w", r.count, top.rec.Hash, err)
	}
	s.mu.Lock()
	top.runs = append(top.runs, r)
	s.mu.Unlock()
	s.stats.Runs.Add(1)
	return nil
}

// merge writes the newest entry of each key in the tables, of which the last one
// is the newest, to a new table, as writeTable does.
func (s *Store) merge(pieces []piece, to string) (size int64, sum uint64, err error) {
	var m merger
	defer m.close()
	for _, p := range pieces {
		table, err := s.engine.OpenTable(p.path)
		if err != nil {
			return 0, 0, err
		}
		m.add(table)
	}
	size, sum, err = s.writeTable(to, &pieces[len(pieces)-1].at.rec, m.newest())
	return size, sum, errors.Join(err, m.err())
}

// prepare makes a working database with few tables at tip, where its checkpoint
// has many more than it needs.
func (s *Store) prepare(im, tip *entry) error {
	list, err := s.compose(im, tip)
	if err != nil {
		return err
	}
	s.mu.Lock()
	needless := tip.seal == nil || tip.seal.tables < len(list)+s.opts.RunLength/2
	s.mu.Unlock()
	if needless {
		return nil
	}
	if w := s.takePrepared(tip); w != nil {
		// One waits already: keep it, unless this one would be much better.
		behind, err := s.compose(w.at, tip)
		if err == nil && w.tables+len(behind) < len(list)+s.opts.RunLength {
			s.keep(&s.prepared, w, maxPrepared)
			return nil
		}
		s.inBackground(w.Drop)
	}
	w, err := s.cloneImage(im)
	if err != nil {
		return err
	}
	if err := w.advance(tip); err != nil {
		w.Drop()
		return err
	}
	s.keep(&s.prepared, w, maxPrepared)
	return nil
}

func (m *maintenance) imagesLoop() {
	background()
	for {
		select {
		case <-m.done:
			return
		case tip := <-m.images:
			top := m.s.imageDue(tip)
			if top == nil {
				continue
			}
			if err := m.s.makeImage(top); err != nil && !errors.Is(err, ErrClosed) {
				m.s.log.Error("make image", zap.Stringer("block", top.rec.Hash), zap.Error(err))
				m.pause()
				continue
			}
			m.poke(tip)
		}
	}
}

// pause waits after a failure, such as a full disk, before the next try.
func (m *maintenance) pause() {
	select {
	case <-m.done:
	case <-time.After(10 * time.Second):
	}
}

// imageDue gives the block of which an image should be made, at or above tip;
// nil where none is due.
func (s *Store) imageDue(tip *entry) *entry {
	im := s.nearestImage(tip)
	if im == nil {
		return nil
	}
	top := tip.up(tip.height % s.opts.RunLength)
	if top == nil || top.height <= im.height {
		return nil
	}
	if top.height-im.height >= s.opts.ImageEvery {
		return top
	}
	var size int64
	for x := top; x != nil && x.rec.Hash != im.rec.Hash; x = x.parent() {
		size += x.rec.DeltaSize
	}
	s.mu.Lock()
	enough := s.opts.ImageBytes
	if im.image != nil { // else it was given up just now
		enough = max(enough, 4*im.image.size)
	}
	s.mu.Unlock()
	if size < enough {
		return nil
	}
	return top
}

// usableImage gives the newest block at or above e whose image is as it was
// sealed. Images that are not are given up, and the anchor's is made again.
// Errors: ErrLocked, and those of making the anchor's.
func (s *Store) usableImage(e *entry) (*entry, error) {
	s.images.Lock()
	defer s.images.Unlock()
	for {
		at := s.nearestImage(e)
		if at == nil {
			if err := s.anchorImage(); err != nil {
				return nil, fmt.Errorf("make the anchor's image again: %w", err)
			}
			return s.anchorEntry(), nil
		}
		s.mu.Lock()
		im := at.image
		s.mu.Unlock()
		if im == nil {
			continue
		}
		err := s.checkSeal(s.imagePath(at.rec.Block), im.seal)
		if err == nil || errors.Is(err, ErrLocked) {
			return at, err
		}
		s.log.Warn("do without an image", zap.Stringer("block", at.rec.Hash), zap.Error(err))
		if err := s.dropImage(at); err != nil {
			return nil, err
		}
	}
}

func (s *Store) dropImage(e *entry) error {
	s.mu.Lock()
	e.image = nil
	s.mu.Unlock()
	if err := s.record(Change{Key: imageKey(e.rec.Hash)}, false); err != nil {
		return fmt.Errorf("drop image of block %s: %w", e.rec.Hash, err)
	}
	path := s.imagePath(e.rec.Block)
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return s.trash(path)
}

// imageTable is the size in bytes at which an image's next table is begun.
const imageTable = 64 << 20

// makeImage writes the whole state at a block into new tables and seals them as
// an image. It reads every table below on the way, and checks the state's root.
func (s *Store) makeImage(e *entry) error {
	s.building.Lock()
	defer s.building.Unlock()
	if held, err := s.entry(e.rec.Hash); err != nil || held != e {
		return err // it was pruned meanwhile
	}
	base, err := s.usableImage(e)
	if err != nil {
		return err
	}
	w, err := s.cloneImage(base)
	if err != nil {
		return err
	}
	defer w.Drop()
	if err := w.advance(e); err != nil {
		return err
	}
	return s.writeImage(e, w)
}

// writeImage makes the image of e from all pairs of its state, and the
// commitment's records.
func (s *Store) writeImage(e *entry, w *Working) error {
	iw := &imageWriter{s: s, e: e, started: time.Now()}
	defer iw.cleanUp()
	it := w.Scan(nil, nil)
	// A walk that ended early says so only when it is closed.
	if err := errors.Join(iw.writeState(&it), it.Close()); err != nil {
		return err
	}
	if err := iw.writeTrie(w.Trie()); err != nil {
		return err
	}
	dir := s.tmpPath(dirTmp, "image")
	db, err := s.engine.OpenWorking(dir)
	if err != nil {
		return err
	}
	defer s.discard(dir)
	defer db.Close()
	if err := s.files.call("ingest", dir, func() error { return db.Ingest(iw.paths) }); err != nil {
		return err
	}
	return s.sealImage(e, db, iw.size)
}

func (s *Store) sealImage(e *entry, db WorkingDB, size int64) error {
	l, err := s.sealDir(s.imagePath(e.rec.Block), durable, db.Checkpoint)
	if err != nil {
		return fmt.Errorf("seal image of block %s: %w", e.rec.Hash, err)
	}
	l.image = e.rec.Hash
	im := &image{seal: l, size: size}
	if err := s.record(Change{Key: imageKey(e.rec.Hash), Value: im.encode()}, false); err != nil {
		return fmt.Errorf("record image of block %s: %w", e.rec.Hash, err)
	}
	s.mu.Lock()
	e.image = im
	s.mu.Unlock()
	s.stats.Images.Add(1)
	return nil
}

// imageWriter writes the tables of an image at a bounded rate.
type imageWriter struct {
	s       *Store
	e       *entry
	started time.Time
	paths   []string
	table   TableWriter
	filled  int64 // bytes in the current table
	size    int64
}

func (iw *imageWriter) writeState(it *StateIterator) error {
	if err := iw.put(recordKey, iw.e.rec.appendBody([]byte{tagValue})); err != nil {
		return err
	}
	var failed error
	var key, stored []byte
	pairs := func(yield func([]byte, []byte) bool) {
		for it.Next() {
			key = appendStateKey(key[:0], it.Key())
			stored = append(append(stored[:0], tagValue), it.Value()...)
			if failed = iw.put(key, stored); failed != nil || !yield(it.Key(), it.Value()) {
				return
			}
		}
	}
	if check := iw.s.opts.CheckRoot; check != nil {
		root, err := check(pairs)
		if err = errors.Join(failed, err); err != nil {
			return err
		}
		if root != iw.e.rec.Root {
			return fmt.Errorf("%w: state at block %s, slot %d, has root %s, recorded is %s",
				ErrDamaged, iw.e.rec.Hash, iw.e.rec.Slot, root, iw.e.rec.Root)
		}
	} else {
		pairs(func([]byte, []byte) bool { return true })
	}
	return failed
}

func (iw *imageWriter) writeTrie(trie Records) error {
	var failed error
	var key, stored []byte
	err := trie.Scan(nil, nil, func(k, v []byte) bool {
		key = appendTrieKey(key[:0], k)
		stored = append(append(stored[:0], tagValue), v...)
		failed = iw.put(key, stored)
		return failed == nil
	})
	return errors.Join(failed, err, iw.finish())
}

func (iw *imageWriter) put(key, stored []byte) error {
	if iw.filled > imageTable {
		if err := iw.finish(); err != nil {
			return err
		}
	}
	if iw.table == nil {
		path := iw.s.tmpPath(dirTmp, "image") + ".sst"
		table, err := iw.s.engine.CreateTable(path)
		if err != nil {
			return err
		}
		iw.table, iw.filled = table, 0
		iw.paths = append(iw.paths, path)
	}
	n := int64(len(key) + len(stored))
	iw.filled += n
	const step = 1 << 20
	if before := iw.size; before/step != (before+n)/step {
		if err := iw.s.pace(context.Background(), iw.started, before); err != nil {
			return err
		}
	}
	iw.size += n
	return iw.table.Put(key, stored)
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

func (iw *imageWriter) finish() error {
	if iw.table == nil {
		return nil
	}
	table := iw.table
	iw.table = nil
	return table.Finish()
}

// cleanUp removes what is left of the tables; ingested ones are gone.
func (iw *imageWriter) cleanUp() {
	if iw.table != nil {
		iw.table.Abort()
	}
	for _, path := range iw.paths {
		iw.s.discard(path)
	}
}

package checkpoint

import (
	"errors"
	"fmt"
	"iter"
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
	late      []*entry // branches whose image is due, while others are being made

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

// postpone remembers a branch whose image can't be made now.
func (m *maintenance) postpone(e *entry) {
	m.pendingMu.Lock()
	defer m.pendingMu.Unlock()
	if m.late = append(m.late, e); len(m.late) > maxPending {
		m.late = m.late[1:]
	}
}

// resume looks at the branches again that were postponed.
func (m *maintenance) resume() {
	m.pendingMu.Lock()
	late := m.late
	m.late = nil
	m.pendingMu.Unlock()
	for _, e := range late {
		m.poke(e)
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

// yielding runs f on a thread of its own that the system runs when imports leave it
// time.
func yielding(f func() error) error {
	done := make(chan error)
	go func() {
		background() // the thread ends with this goroutine
		done <- f()
	}()
	return <-done
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
				default: // one is being made, another waits
					m.postpone(e)
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
	return s.mergeRuns(im, e, m.behind(e))
}

// behind is how many blocks have come on top of e since it was looked at.
func (m *maintenance) behind(e *entry) (n int) {
	m.pendingMu.Lock()
	defer m.pendingMu.Unlock()
	for _, p := range m.pending {
		if above := p.height - e.height; above > n && p.up(above) == e {
			n = above
		}
	}
	return n
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
// would get too many tables before the next image is there: lag is how many have
// come while deltas were merged. Then a run of runs helps the databases that are
// prepared from here on.
func (s *Store) mergeRuns(im, tip *entry, lag int) error {
	for longest := 8 * s.opts.RunLength; longest < 1<<20; longest *= 8 {
		list, err := s.compose(im, tip)
		if err != nil {
			return err
		}
		runs := len(list)
		for runs > 0 && !list[runs-1].run {
			runs--
		}
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
	r := &run{top.height - from.height, tableFile{checked: true}}
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
	defer func() { _ = m.close() }()
	for _, p := range pieces {
		table, err := s.engine.OpenTable(p.path)
		if err != nil {
			return 0, 0, err
		}
		m.addTable(table)
	}
	size, sum, err = s.writeTable(to, &pieces[len(pieces)-1].at.rec, m.newest())
	return size, sum, errors.Join(err, m.close())
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
			if top := m.s.imageDue(tip); top != nil {
				if err := m.s.makeImage(top); err == nil {
					m.poke(tip)
				} else if !errors.Is(err, ErrClosed) {
					m.s.log.Error("make image", zap.Stringer("block", top.rec.Hash), zap.Error(err))
					m.pause()
				}
			}
			m.resume()
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

package checkpoint_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"accessor/checkpoint"
	"accessor/checkpoint/checkpointtest"
	"accessor/forks"
)

// failing is an engine that fails where it is told to.
type failing struct {
	checkpointtest.Engine
	short   *atomic.Bool // walks over working databases end early
	records *atomic.Bool // records are written, and an error is given
	tables  *atomic.Bool // tables can't be opened, for no fault of theirs
}

func newFailing() failing {
	return failing{short: new(atomic.Bool), records: new(atomic.Bool), tables: new(atomic.Bool)}
}

var errDisk = errors.New("input/output error")

func (e failing) OpenWorking(dir string) (checkpoint.WorkingDB, error) {
	db, err := e.Engine.OpenWorking(dir)
	return shortDB{db, e.short}, err
}

func (e failing) OpenJournal(dir string) (checkpoint.Journal, error) {
	j, err := e.Engine.OpenJournal(dir)
	return failingJournal{j, e.records}, err
}

func (e failing) OpenTable(path string) (checkpoint.Table, error) {
	if e.tables.Load() {
		return nil, errDisk
	}
	return e.Engine.OpenTable(path)
}

type shortDB struct {
	checkpoint.WorkingDB
	short *atomic.Bool
}

func (d shortDB) Scan(from, to []byte, keep bool) checkpoint.Iterator {
	return &shortIterator{d.WorkingDB.Scan(from, to, keep), d.short.Load(), 1}
}

type shortIterator struct {
	checkpoint.Iterator
	short bool
	left  int
}

func (i *shortIterator) Next() bool {
	i.left--
	return (!i.short || i.left >= 0) && i.Iterator.Next()
}

func (i *shortIterator) Close() error {
	err := i.Iterator.Close()
	if i.short {
		err = errDisk
	}
	return err
}

type failingJournal struct {
	checkpoint.Journal
	fail *atomic.Bool
}

func (j failingJournal) Write(changes []checkpoint.Change, sync bool) error {
	err := j.Journal.Write(changes, sync)
	if err == nil && sync && j.fail.Load() {
		err = errDisk
	}
	return err
}

// A walk that ends early must not pass for a state: not in an image either.
func TestNoImageOfAStateThatWasReadInPart(t *testing.T) {
	h := newHarness(t, small)
	e := newFailing()
	h.engine = e
	h.reopen()
	e.short.Store(true)
	h.chain("anchor", names(12)...)
	time.Sleep(100 * time.Millisecond) // for the background to try
	if n := h.store.Stats().Images.Load(); n != 0 {
		t.Errorf("%d images of states that could not be read", n)
	}
	h.wantStates()
}

// Whether a record reached the disk or not: the delta stays, the block isn't
// taken again by this opening, and the next one holds it.
func TestRecordThatFailsAfterItTookEffect(t *testing.T) {
	h := newHarness(t, checkpoint.Options{})
	e := newFailing()
	h.engine = e
	h.reopen()
	h.chain("anchor", "one")
	rec := h.write("two", "one")
	e.records.Store(true)
	if err := h.store.Record(rec); !errors.Is(err, errDisk) {
		t.Fatalf("record: %v", err)
	}
	e.records.Store(false)
	again := *rec
	if err := h.store.WriteDelta(&again, nil, nil); !errors.Is(err, checkpoint.ErrUndecided) {
		t.Errorf("write again: %v, want ErrUndecided", err)
	}
	if _, err := os.Stat(h.deltaPath("two")); err != nil {
		t.Errorf("the delta is gone: %v", err)
	}
	h.reopen()
	if _, err := h.store.Get(rec.Hash); err != nil {
		t.Errorf("after reopening: %v", err)
	}
	h.chain("one", "three")
}

// A passing error says nothing about a delta, neither at a start nor in a
// recovery.
func TestPassingErrorsLoseNothing(t *testing.T) {
	h := newHarness(t, checkpoint.Options{})
	h.chain("anchor", "one", "two")
	h.write("late", "two") // not recorded
	if err := h.store.Close(); err != nil {
		t.Fatal(err)
	}
	e := newFailing()
	e.tables.Store(true)
	if _, err := checkpoint.Open(h.dir, e, h.opts); !errors.Is(err, errDisk) {
		t.Errorf("open: %v", err)
	}
	if _, err := checkpoint.Recover(h.dir, e, h.opts, true, nil); !errors.Is(err, errDisk) {
		t.Errorf("recover: %v", err)
	}
	h.open()
	if got := len(h.store.Records()); got != 4 {
		t.Errorf("%d blocks, want 4", got)
	}
}

func TestRecoverAsksBeforeItLoses(t *testing.T) {
	h := newHarness(t, checkpoint.Options{})
	h.chain("anchor", "one", "two", "three")
	if err := h.store.Close(); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(h.deltaPath("two"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(h.deltaPath("two"), whole[:20], 0o644); err != nil {
		t.Fatal(err)
	}
	report, err := checkpoint.Recover(h.dir, checkpointtest.Engine{}, h.opts, false, nil)
	if !errors.Is(err, checkpoint.ErrWouldLose) || len(report.Lost) != 2 {
		t.Fatalf("%v, lost %v", err, report.Lost)
	}
	if lost, err := os.ReadDir(filepath.Join(h.dir, "lost")); err != nil || len(lost) != 0 {
		t.Errorf("lost/ has %v, %v", lost, err)
	}
	if err := os.WriteFile(h.deltaPath("two"), whole, 0o644); err != nil {
		t.Fatal(err)
	}
	h.open()
	h.wantStates()
}

// Wherever a recovery is cut short: nothing is lost, a new store isn't made over
// the old one, and another recovery does it.
func TestRecoverCutShort(t *testing.T) {
	for n := 1; ; n++ {
		h := newHarness(t, checkpoint.Options{})
		h.chain("anchor", "one", "two")
		head := h.blocks["two"].Hash
		if err := h.store.SetMeta("head", head[:]); err != nil {
			t.Fatal(err)
		}
		if err := h.store.Close(); err != nil {
			t.Fatal(err)
		}
		var calls atomic.Int64
		opts := h.opts
		opts.FileHook = func(checkpoint.FileCall) error {
			if calls.Add(1) >= int64(n) { // from the nth call on, as after a kill
				return errDisk
			}
			return nil
		}
		_, err := checkpoint.Recover(h.dir, checkpointtest.Engine{}, opts, false, nil)
		if err == nil {
			if n < 10 {
				t.Errorf("only %d file calls", n)
			}
			return
		}
		s, err := checkpoint.Create(h.dir, checkpointtest.Engine{}, "none", checkpoint.Record{Block: forks.Block{Hash: forks.Hash{1}}}, func(func(checkpoint.Pair, error) bool) {}, nil, h.opts)
		if err == nil {
			s.Close()
			t.Fatalf("cut short at file call %d: a new store was made over it", n)
		}
		if _, err := checkpoint.Recover(h.dir, checkpointtest.Engine{}, h.opts, false, nil); err != nil {
			t.Fatalf("cut short at file call %d, recovered again: %v", n, err)
		}
		h.open()
		if got := len(h.store.Records()); got != 3 {
			t.Errorf("cut short at file call %d: %d blocks, want 3", n, got)
		}
		if !bytes.Equal(h.store.Meta("head"), head[:]) {
			t.Errorf("cut short at file call %d: the head is lost", n)
		}
		h.store.Close()
	}
}

func TestImageThatIsNotAsSealedIsDoneWithout(t *testing.T) {
	h := newHarness(t, small)
	h.chain("anchor", "a1", "a2")
	image := filepath.Join(h.dir, "images", checkpoint.Name(h.blocks["anchor"]))
	if err := os.Chmod(image, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(image, "stray"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	h.chain("a2", names(30)...)
	if tables := h.store.Tables(h.blocks["n29"].Hash); tables > small.MaxTables+1 {
		t.Errorf("%d tables a checkpoint, want at most %d: nothing is merged", tables, small.MaxTables)
	}
	h.wantStates()
}

// A view that outlives its store has its database where the next owner works.
func TestViewOutlivesClose(t *testing.T) {
	h := newHarness(t, checkpoint.Options{})
	h.chain("anchor", "one", "two")
	w, err := h.store.Clone(h.blocks["two"].Hash)
	if err != nil {
		t.Fatal(err)
	}
	v := h.store.ViewOf(w)
	h.reopen()
	h.chain("two", names(20)...)
	before, err := os.ReadDir(filepath.Join(h.dir, "work"))
	if err != nil {
		t.Fatal(err)
	}
	v.Close()
	after, err := os.ReadDir(filepath.Join(h.dir, "work"))
	if err != nil || len(after) < len(before) {
		t.Errorf("work/ had %d folders, then %d, %v: the next owner's is gone", len(before), len(after), err)
	}
	h.chain("n19", "more")
	h.wantStates()
}

func TestOpenAfterAKillInTheProbe(t *testing.T) {
	h := newHarness(t, checkpoint.Options{})
	h.chain("anchor", "one")
	if err := h.store.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(h.dir, "deltas", ".probe"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	h.open()
}

func TestSetMetaAfterClose(t *testing.T) {
	h := newHarness(t, checkpoint.Options{})
	h.store.Close()
	if err := h.store.SetMeta("head", []byte("x")); !errors.Is(err, checkpoint.ErrClosed) {
		t.Errorf("%v, want ErrClosed", err)
	}
}

func TestLostFORMATSaysWhatToWrite(t *testing.T) {
	h := newHarness(t, checkpoint.Options{})
	h.chain("anchor", "one")
	h.store.Close()
	if err := os.Remove(filepath.Join(h.dir, "FORMAT")); err != nil {
		t.Fatal(err)
	}
	for what, open := range map[string]func() error{
		"open":    func() error { _, err := checkpoint.Open(h.dir, h.engine, h.opts); return err },
		"recover": func() error { _, err := checkpoint.Recover(h.dir, h.engine, h.opts, false, nil); return err },
	} {
		if err := open(); !errors.Is(err, checkpoint.ErrFormat) || !strings.Contains(err.Error(), `"commitment"`) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

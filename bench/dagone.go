package bench

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"time"

	"accessor/da"
	"accessor/da/datest"
	"accessor/peers"
	"accessor/state"
)

// goneTimeout is how long a reader waits, in milliseconds.
const goneTimeout = 500

// alone is what a partial store did without peers.
type alone struct {
	reads, imports []time.Duration // until their errors
	other          int             // errors of another kind
	written        int             // files and records
}

// gone measures what is left where all peers are gone: closed, and there but silent.
func (r *daRun) gone() error {
	var a alone
	for _, silent := range []bool{false, true} {
		if err := r.withoutPeers(silent, &a); err != nil {
			return err
		}
	}
	within := fmt.Sprintf("≤ %d", goneTimeout*11/10)
	const what = "all peers gone, partial state: "
	r.add(DARow{What: fmt.Sprintf("%serror of a read with %d ms, most", what, goneTimeout), Value: percentile(a.reads, 100), Unit: "ms",
		Must: within, Beside: fmt.Sprintf("median %.2f ms: after some failures peers are left alone for a while", percentile(a.reads, 50))})
	r.add(DARow{What: what + "error of an import, most", Value: percentile(a.imports, 100), Unit: "ms", Must: within})
	r.add(DARow{What: what + "errors of another kind than their own", Value: float64(a.other), Must: "≤ 0"})
	r.add(DARow{What: what + "files and records written by imports", Value: float64(a.written), Must: "≤ 0"})
	return r.importsGone()
}

// withoutPeers imports and reads in turn on a partial store whose peers went away.
func (r *daRun) withoutPeers(silent bool, a *alone) (err error) {
	list := r.honest(3)
	if silent {
		for i := range list {
			list[i].manner = datest.Silent
		}
	}
	s, err := newSwarm(r.ctx, da.Config{}, list...)
	if err != nil {
		return err
	}
	defer s.Close()
	if !silent {
		for _, n := range s.servers {
			if err := n.Close(); err != nil {
				return err
			}
		}
	}
	acc, end, err := r.partial(s, 2*goneTimeout*time.Millisecond)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, end()) }()
	if err := settle(acc.Store().Dir()); err != nil {
		return err
	}
	const turns = 10
	for i := range turns {
		r.Progress("without peers", int64(i), turns)
		if err := r.refused(acc, a); err != nil {
			return err
		}
		if err := r.unread(acc, a); err != nil {
			return err
		}
	}
	return nil
}

// settle waits until a store that was just made has written what it writes in the
// background.
func settle(dir string) error {
	before, err := files(dir)
	for range 20 {
		time.Sleep(time.Second / 2)
		after, again := files(dir)
		if err = errors.Join(err, again); err != nil || maps.Equal(before, after) {
			return err
		}
		before = after
	}
	return fmt.Errorf("the store in %s keeps writing", dir)
}

// failed takes in the error that ended an act.
func (a *alone) failed(err error) error {
	if err == nil {
		return fmt.Errorf("%w: one without peers", errAnswer)
	}
	if !errors.Is(err, state.ErrNotFetched) {
		a.other++
	}
	return nil
}

// unread reads a key that is missing.
func (r *daRun) unread(acc *state.Accessor, a *alone) error {
	ctx, cancel := context.WithTimeout(r.ctx, goneTimeout*time.Millisecond)
	defer cancel()
	start := time.Now()
	v, err := acc.View(ctx, r.at.Hash)
	if err != nil {
		return err
	}
	defer v.Close()
	_, _, _, err = v.AppendGetTier(ctx, nil, key(r.rnd.IntN(r.Keys)))
	a.reads = append(a.reads, time.Since(start))
	return a.failed(err)
}

// refused imports a block: that fails, and nothing is written.
func (r *daRun) refused(acc *state.Accessor, a *alone) error {
	dir := acc.Store().Dir()
	before, err := files(dir)
	if err != nil {
		return err
	}
	records := len(acc.Store().Records())
	ctx, cancel := context.WithTimeout(r.ctx, goneTimeout*time.Millisecond)
	defer cancel()
	b := r.block(r.at, r.Puts)
	start := time.Now()
	_, err = acc.Import(ctx, b)
	a.imports = append(a.imports, time.Since(start))
	if err := a.failed(err); err != nil {
		return err
	}
	after, err := files(dir)
	if err != nil {
		return err
	}
	a.written += len(acc.Store().Records()) - records
	for name, size := range after {
		if before[name] != size {
			a.written++
		}
	}
	return nil
}

// files gives the sizes of all files under a folder.
func files(dir string) (map[string]int64, error) {
	sizes := map[string]int64{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			sizes[path] = 1 + info.Size()
		}
		return err
	})
	return sizes, err
}

// importsGone measures imports on a complete store that has peers to ask, and then has
// none any more.
func (r *daRun) importsGone() error {
	s, err := newSwarm(r.ctx, da.Config{}, r.honest(3)...)
	if err != nil {
		return err
	}
	defer s.Close()
	r.view.Close()
	if err := r.close(); err != nil {
		return err
	}
	fetcher := &peers.Fetcher{}
	fetcher.Use(s.reader)
	r.acc, err = state.Open(state.Config{Dir: r.storeDir(), Engine: r.engine, Owner: "bench", Fetcher: fetcher,
		Retention: state.Retention{All: true}})
	if err != nil {
		return err
	}
	if err := r.acc.Warm(r.ctx, r.at.Hash); err != nil {
		return err
	}
	const warming = 10
	chain, err := r.grow(r.at, warming)
	if err != nil {
		return err
	}
	parent := chain[warming-1]
	var times [2][]time.Duration
	for phase := range times {
		for i := range r.da.Imports {
			r.Progress("imports with and without peers", int64(phase*r.da.Imports+i), int64(2*r.da.Imports))
			res, err := r.importOne(r.block(parent, r.Puts))
			if err != nil {
				return err
			}
			parent = res.Block
			times[phase] = append(times[phase], res.Took)
		}
		for _, n := range s.servers {
			if err := n.Close(); err != nil {
				return err
			}
		}
	}
	with, without := percentile(times[0], 50), percentile(times[1], 50)
	r.add(DARow{What: "all peers gone, complete state: median import over that with peers", Value: without / with, Unit: "×", Must: "≤ 1.3",
		Beside: fmt.Sprintf("%.1f, %.1f ms", without, with)})
	r.add(DARow{What: "all peers gone, complete state: requests to peers", Value: float64(s.reader.Stats().Requests), Must: "≤ 0"})
	return nil
}

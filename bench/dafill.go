package bench

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"accessor/da"
	"accessor/state"
)

// fillPages is how many requests a fill makes, about, where a page of 1 MiB (the default)
// would make fewer: so that each peer gets some.
const fillPages = 24

// fills measures how a partial store becomes complete from three peers, and in turn
// with it the same state hashed and written from memory.
func (r *daRun) fills() error {
	s, err := newSwarm(r.ctx, da.Config{}, r.honest(3)...)
	if err != nil {
		return err
	}
	defer s.Close()
	pairs := make([]state.Pair, 0, r.Keys)
	size := 0
	for p, err := range r.view.All(nil, nil) {
		if err != nil {
			return err
		}
		pairs = append(pairs, state.Pair{Key: bytes.Clone(p.Key), Value: bytes.Clone(p.Value)})
		size += len(p.Key) + len(p.Value)
	}
	page := uint32(max(16<<10, min(1<<20, size/fillPages)))
	var fills, alone, ratios []float64
	for round := range r.da.Rounds {
		r.Progress("fill", int64(round), int64(r.da.Rounds))
		filled, err := r.fill(s, page)
		if err != nil {
			return err
		}
		written, err := r.writeAlone(pairs)
		if err != nil {
			return err
		}
		fills = append(fills, float64(size)/1e6/filled.Seconds())
		alone = append(alone, float64(size)/1e6/written.Seconds())
		ratios = append(ratios, filled.Seconds()/written.Seconds())
	}
	var served []uint64
	for i, n := range s.servers {
		if served = append(served, n.Stats().Served); served[i] == 0 {
			return fmt.Errorf("peer %d of the fill served nothing", i)
		}
	}
	r.add(DARow{What: fmt.Sprintf("fill of %d keys × %d bytes from 3 peers, keys and values", r.Keys, daValue),
		Value: median(fills), Unit: "MB/s", Must: "≥ 20",
		Beside: fmt.Sprintf("%.1f MB; requests to each peer: %d", float64(size)/1e6, served)})
	r.add(DARow{What: "… its time over hashing and writing alone", Value: median(ratios), Unit: "×",
		Beside: fmt.Sprintf("alone %.1f MB/s", median(alone))})
	return nil
}

func (r *daRun) fill(s *swarm, page uint32) (time.Duration, error) {
	acc, end, err := r.partial(s, 0)
	if err != nil {
		return 0, err
	}
	if err = r.quiesce(); err != nil {
		return 0, errors.Join(err, end())
	}
	start := time.Now()
	err = acc.Fill(r.ctx, state.FillOptions{PageBytes: page})
	took := time.Since(start)
	if err == nil && acc.Partial() {
		err = errors.New("filled, the store is partial")
	}
	return took, errors.Join(err, end())
}

// writeAlone makes a store of the same pairs, its root checked.
func (r *daRun) writeAlone(pairs []state.Pair) (took time.Duration, err error) {
	dir, err := os.MkdirTemp(r.dir, "alone-")
	if err != nil {
		return 0, err
	}
	defer removeAll(dir)
	if err := r.quiesce(); err != nil {
		return 0, err
	}
	start := time.Now()
	acc, err := state.Create(state.Config{Dir: filepath.Join(dir, "store"), Engine: r.engine, Commitment: state.JAM{}, Owner: "bench"},
		state.Anchor{Hash: r.at.Hash, Slot: r.at.Slot, Root: r.at.Root, Pairs: func(yield func(state.Pair, error) bool) {
			for _, p := range pairs {
				if !yield(p, nil) {
					return
				}
			}
		}})
	took = time.Since(start)
	if err != nil {
		return 0, err
	}
	return took, acc.Close()
}

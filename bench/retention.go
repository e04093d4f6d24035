package bench

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"accessor/checkpoint"
	"accessor/checkpoint/rocks"
	"accessor/forks"
	"accessor/state"
)

// Kept are the figures of the benchmark "retention".
type Kept struct {
	Blocks      int     `json:"blocks"`
	WriteSets   int64   `json:"write_set_bytes"`
	Disk        int64   `json:"disk_bytes"`   // without the anchor's state
	Worst       float64 `json:"worst_window"` // disk over write sets, of the worst 512 slots
	Uneven      float64 `json:"worst_over_median_window"`
	Killed      float64 `json:"killed_ms"` // from the start after a kill -9 to the first right answer; 0 in tests
	Open        float64 `json:"open_ms"`   // to the first right answer
	OldRead     float64 `json:"old_read_ms"`
	OldReadP99  float64 `json:"old_read_p99_ms"`
	OldScan     float64 `json:"old_scan_ms"` // the first 100 pairs
	OldScanMost float64 `json:"old_scan_most_ms"`
	Pruned      int     `json:"pruned_blocks"` // when half of the slots are kept
	PruneTook   float64 `json:"prune_ms"`
	Freed       int64   `json:"freed_bytes"`
	FirstImport float64 `json:"import_first_tenth_ms"` // median of the first and the last tenth
	LastImport  float64 `json:"import_last_tenth_ms"`
}

// window is the number of slots over which disk usage is looked at.
const window = 512

// retention imports a chain with a fork at every tenth slot, finalizes behind it, and
// reads and prunes what has become old.
func (r *run) retention() error {
	r.res.Kept = &Kept{}
	r.Commitment = state.JAM{}.Name()
	if err := r.create(checkpoint.Options{}); err != nil {
		return err
	}
	if err := r.reopenKeeping(state.Retention{All: true}); err != nil {
		return err
	}
	all, windows, err := r.growDay()
	if err != nil {
		return err
	}
	k := r.res.Kept
	k.Blocks = len(all)
	k.WriteSets = int64(len(all)) * r.writeSet()
	if k.Disk, err = r.acc.Store().DiskUsage(); err != nil {
		return err
	}
	k.Disk -= r.created
	k.weigh(windows, r.writeSet())
	tenth := len(r.ours) / 10
	k.FirstImport, k.LastImport = percentile(r.ours[:tenth], 50), percentile(r.ours[len(r.ours)-tenth:], 50)
	if err := r.killed(); err != nil {
		return err
	}
	if err := r.oldReads(all); err != nil {
		return err
	}
	return r.prune()
}

// killed lets another process own the store and import into it, kills that, and
// measures how long it takes until the store answers again.
func (r *run) killed() error {
	program, err := os.Executable()
	if err != nil || !strings.HasPrefix(filepath.Base(program), "acc") {
		return err // a test's
	}
	if err := r.close(); err != nil {
		return err
	}
	cmd := exec.CommandContext(r.ctx, program, "bench", "hold", r.storeDir(), strconv.Itoa(r.Keys), strconv.Itoa(r.Puts), strconv.Itoa(r.ValueSize))
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	// A line for each block that it has imported.
	lines := bufio.NewScanner(out)
	for range 20 {
		if !lines.Scan() {
			return fmt.Errorf("another process on the store: %w", cmd.Wait())
		}
	}
	if err := cmd.Process.Kill(); err != nil {
		return err
	}
	_ = cmd.Wait() // killed
	start := time.Now()
	if err := r.reopenKeeping(state.Retention{All: true}); err != nil {
		return err
	}
	last, err := forks.ParseHash(lines.Text())
	if err == nil {
		err = r.readAt(last)
	}
	r.res.Kept.Killed = float64(time.Since(start).Microseconds()) / 1000
	return err
}

// Hold owns a store of the benchmark and imports blocks on its head until it is
// killed, telling each.
func Hold(ctx context.Context, dir string, p Params, imported func(forks.Hash)) error {
	engine := rocks.New(rocks.Options{})
	defer engine.Close()
	acc, err := state.Open(state.Config{Dir: dir, Engine: engine, Owner: "bench", Retention: state.Retention{All: true}})
	if err != nil {
		return err
	}
	defer acc.Close()
	seed := [32]byte{1: 1}
	r := &run{Params: p, ctx: ctx, acc: acc, chacha: rand.NewChaCha8(seed)}
	r.rnd = rand.New(r.chacha)
	for ctx.Err() == nil {
		res, err := acc.Import(ctx, r.block(acc.Head(), r.Puts))
		if err != nil {
			return err
		}
		imported(res.Block.Hash)
	}
	return context.Cause(ctx)
}

func (r *run) writeSet() int64 { return int64(r.Puts * (len(key(0)) + r.ValueSize)) }

func (r *run) reopenKeeping(keep state.Retention) error {
	return r.reopen(rocks.Options{}, state.DefaultCacheBytes, keep)
}

// windowUse is the disk that a window's blocks took.
type windowUse struct {
	bytes  int64
	blocks int
}

func (r *run) growDay() (all []forks.Block, windows []windowUse, err error) {
	head := r.acc.Anchor()
	used, err := r.acc.Store().DiskUsage()
	if err != nil {
		return nil, nil, err
	}
	var recent []forks.Block
	blocks := 0
	started := time.Now()
	for i := range r.Blocks {
		r.Progress("import", int64(i), int64(r.Blocks))
		time.Sleep(time.Until(started.Add(time.Duration(i*r.Interval) * time.Millisecond)))
		if i%10 == 9 { // a sibling of what comes next, which loses
			r.slot = head.Slot
			side, err := r.importOne(r.block(head, r.Puts))
			if err != nil {
				return nil, nil, err
			}
			all = append(all, side.Block)
			blocks++
		}
		r.slot = head.Slot
		res, err := r.importOne(r.block(head, r.Puts))
		if err != nil {
			return nil, nil, err
		}
		head = res.Block
		all, recent = append(all, head), append(recent, head)
		blocks++
		r.ours = append(r.ours, res.Took)
		if len(recent) > 8 {
			if _, err := r.acc.Finalize(r.ctx, recent[0].Hash); err != nil {
				return nil, nil, err
			}
			recent = recent[1:]
		}
		if i%window == window-1 {
			now, err := r.acc.Store().DiskUsage()
			if err != nil {
				return nil, nil, err
			}
			windows = append(windows, windowUse{now - used, blocks})
			used, blocks = now, 0
			r.countOpenFiles()
		}
	}
	return all, windows, nil
}

// weigh compares what the windows took with their write sets.
func (k *Kept) weigh(windows []windowUse, writeSet int64) {
	var ratios []float64
	for _, w := range windows {
		ratios = append(ratios, float64(w.bytes)/float64(int64(w.blocks)*writeSet))
	}
	if len(ratios) == 0 {
		return
	}
	slices.Sort(ratios)
	k.Worst = ratios[len(ratios)-1]
	k.Uneven = k.Worst / ratios[len(ratios)/2]
}

// oldReads opens the store anew and reads random keys at random blocks, of all forks.
func (r *run) oldReads(all []forks.Block) error {
	start := time.Now()
	if err := r.reopenKeeping(state.Retention{All: true}); err != nil {
		return err
	}
	if err := r.readAt(r.acc.Head().Hash); err != nil {
		return err
	}
	r.res.Kept.Open = float64(time.Since(start).Microseconds()) / 1000
	<-r.acc.CacheReady() // which reads all write sets: not beside the measurement
	for range r.Repeat {
		b := all[r.rnd.IntN(len(all))]
		start := time.Now()
		if err := r.readAt(b.Hash); err != nil {
			return err
		}
		r.cold = append(r.cold, time.Since(start))
	}
	r.res.Kept.OldRead, r.res.Kept.OldReadP99 = percentile(r.cold, 50), percentile(r.cold, 99)
	var scans []time.Duration
	for range min(r.Repeat, 20) { // each brings a database to its block
		start := time.Now()
		if err := r.scanAt(all[r.rnd.IntN(len(all))].Hash); err != nil {
			return err
		}
		scans = append(scans, time.Since(start))
	}
	r.res.Kept.OldScan, r.res.Kept.OldScanMost = percentile(scans, 50), percentile(scans, 100)
	return nil
}

// scanAt reads the first hundred pairs of a state.
func (r *run) scanAt(h forks.Hash) error {
	v, err := r.acc.View(r.ctx, h)
	if err != nil {
		return err
	}
	defer v.Close()
	pairs, _, err := v.Page(r.ctx, state.ScanOptions{Limit: 100})
	if err == nil && len(pairs) != 100 {
		err = fmt.Errorf("%d pairs at block %s", len(pairs), h)
	}
	return err
}

// readAt reads a random key, which every state has.
func (r *run) readAt(h forks.Hash) error {
	v, err := r.acc.View(r.ctx, h)
	if err != nil {
		return err
	}
	defer v.Close()
	_, present, err := v.Get(key(r.rnd.IntN(r.Keys)))
	if err == nil && !present {
		err = fmt.Errorf("a key is absent at block %s", h)
	}
	return err
}

// prune keeps half of the slots.
func (r *run) prune() error {
	if err := r.reopenKeeping(state.Retention{Slots: max(1, r.acc.Head().Slot/2)}); err != nil {
		return err
	}
	start := time.Now()
	done, err := r.acc.Retain(r.ctx)
	k := r.res.Kept
	k.Pruned, k.Freed, k.PruneTook = done.Pruned, done.Freed, float64(time.Since(start).Microseconds())/1000
	return err
}

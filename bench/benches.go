package bench

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"accessor/checkpoint"
	"accessor/forks"
)

// imports measures a chain that grows: ours, the baseline and the floor in turn
// at each block.
func (r *run) imports() error {
	if err := r.create(checkpoint.Options{}); err != nil {
		return err
	}
	if r.Baseline {
		if err := r.openBaseline(); err != nil {
			return err
		}
	}
	parent := r.acc.Anchor()
	if err := r.acc.Warm(r.ctx, parent.Hash); err != nil {
		return err
	}
	started := time.Now()
	for i := range r.Blocks {
		r.Progress("import", int64(i), int64(r.Blocks))
		b := r.block(parent, r.Puts)
		time.Sleep(time.Until(started.Add(time.Duration(i*r.Interval) * time.Millisecond)))
		res, err := r.importOne(b)
		if err != nil {
			return err
		}
		parent = res.Block
		r.ours = append(r.ours, res.Took)
		if r.Baseline {
			dir := filepath.Join(r.dir, fmt.Sprintf("baseline-%d", i))
			if err := r.measureBaseline(r.base, [][]checkpoint.Pair{b.Puts}, dir); err != nil {
				return err
			}
		}
		if err := r.writeFloor(b); err != nil {
			return err
		}
		if i%50 == 0 {
			r.countOpenFiles()
		}
	}
	stats := r.acc.Store().Stats()
	for _, rec := range r.acc.Store().Records() {
		if !rec.Anchor {
			r.res.DeltaBytes += rec.DeltaSize / int64(r.Blocks)
		}
	}
	if err := r.close(); err != nil {
		return err
	}
	r.res.ImagesMade, r.res.ImportsThatWaited = stats.Images.Load(), stats.Settles.Load()
	after, err := checkpoint.DiskUsage(r.storeDir())
	r.res.DiskPerBlock = (after - r.created) / int64(r.Blocks)
	return err
}

// measureBaseline times write sets on their way through the memtable, a flush
// and a checkpoint. Then it waits for the compaction that they set off: it counts
// for neither side.
func (r *run) measureBaseline(base baseline, sets [][]checkpoint.Pair, dir string) error {
	start := time.Now()
	for _, puts := range sets {
		if err := base.Write(puts); err != nil {
			return err
		}
	}
	if err := base.Flush(); err != nil {
		return err
	}
	if err := base.Checkpoint(dir); err != nil {
		return err
	}
	r.baseline = append(r.baseline, time.Since(start))
	base.Wait()
	return r.quiesce()
}

type baseline interface {
	Write(puts []checkpoint.Pair) error
	Flush() error
	Checkpoint(dir string) error
	Wait()
}

// fork measures the first import on a random older block. The baseline copies
// the block's checkpoint, opens it and imports through the memtable.
func (r *run) fork() error {
	chain, err := r.chain()
	if err != nil {
		return err
	}
	for i := range r.Repeat {
		r.Progress("fork", int64(i), int64(r.Repeat))
		at := chain[r.rnd.IntN(len(chain)-1)] // not the head, on which a chain just grows
		b := r.block(at, r.Puts)
		res, err := r.importOne(b)
		if err != nil {
			return err
		}
		r.ours = append(r.ours, res.Took)
		if r.Baseline {
			if err := r.forkBaseline(at, b.Puts, i); err != nil {
				return err
			}
		}
		if err := r.writeFloor(b); err != nil {
			return err
		}
		r.countOpenFiles()
	}
	r.finish()
	return nil
}

func (r *run) finish() {
	stats := r.acc.Store().Stats()
	r.res.ImagesMade, r.res.ImportsThatWaited = stats.Images.Load(), stats.Settles.Load()
}

func (r *run) forkBaseline(at forks.Block, puts []checkpoint.Pair, i int) error {
	dir := filepath.Join(r.dir, fmt.Sprintf("fork-%d", i))
	start := time.Now()
	if err := copyDir(filepath.Join(r.storeDir(), "checkpoints", checkpoint.Name(at)), dir); err != nil {
		return err
	}
	base, err := r.engine.OpenBaseline(dir)
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	defer base.Close()
	copied := time.Since(start)
	if err := r.measureBaseline(base, [][]checkpoint.Pair{puts}, dir+"-checkpoint"); err != nil {
		return err
	}
	r.baseline[len(r.baseline)-1] += copied
	return os.RemoveAll(dir + "-checkpoint")
}

func copyDir(from, to string) error {
	if err := os.Mkdir(to, 0o755); err != nil {
		return err
	}
	return filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		src, err := os.Open(path)
		if err != nil {
			return err
		}
		defer src.Close()
		dst, err := os.Create(filepath.Join(to, d.Name()))
		if err != nil {
			return err
		}
		defer dst.Close()
		_, err = io.Copy(dst, src)
		return err
	})
}

// walkBack measures an import on a block from which no checkpoint is left for
// that many blocks. The baseline replays the write sets through a memtable.
func (r *run) walkBack() error {
	if err := r.create(checkpoint.Options{}); err != nil {
		return err
	}
	var sets [][]checkpoint.Pair
	parent := r.acc.Anchor()
	for i := range r.Blocks {
		r.Progress("import", int64(i), int64(r.Blocks))
		b := r.block(parent, r.Puts)
		res, err := r.importOne(b)
		if err != nil {
			return err
		}
		parent = res.Block
		if r.Baseline {
			sets = append(sets, b.Puts)
		}
	}
	if err := r.dropDown(parent); err != nil {
		return err
	}
	for i := range r.Repeat {
		r.Progress("walk back", int64(i), int64(r.Repeat))
		b := r.block(parent, 500)
		res, err := r.importOne(b)
		if err != nil {
			return err
		}
		if res.WalkBack != nil { // the first import found a working database at the parent
			r.ours = append(r.ours, res.Took)
			r.res.BlocksWalkedOver = res.WalkBack.Blocks
		}
		if r.Baseline && i%4 == 0 {
			if err := r.replayBaseline(sets, i); err != nil {
				return err
			}
		}
		if err := r.writeFloor(b); err != nil {
			return err
		}
	}
	r.finish()
	return nil
}

// dropDown removes the checkpoints of a block and its ancestors but the anchor.
func (r *run) dropDown(b forks.Block) error {
	anchor := r.acc.Anchor()
	for b.Hash != anchor.Hash {
		if err := r.acc.Store().DropCheckpoint(b.Hash); err != nil {
			return err
		}
		parent, err := r.acc.Block(b.Parent)
		if err != nil {
			return err
		}
		b = parent
	}
	return nil
}

func (r *run) replayBaseline(sets [][]checkpoint.Pair, i int) error {
	dir := filepath.Join(r.dir, fmt.Sprintf("replay-%d", i))
	base, err := r.engine.OpenBaseline(dir)
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	defer base.Close()
	if err := r.measureBaseline(base, sets, dir+"-checkpoint"); err != nil {
		return err
	}
	return os.RemoveAll(dir + "-checkpoint")
}

// open measures opening the state at a random block, with one read.
func (r *run) open() error {
	chain, err := r.chain()
	if err != nil {
		return err
	}
	for i := range r.Repeat {
		r.Progress("open", int64(i), int64(r.Repeat))
		at := chain[r.rnd.IntN(len(chain))]
		start := time.Now()
		v, err := r.acc.View(r.ctx, at.Hash)
		if err != nil {
			return err
		}
		_, present, err := v.Get(key(r.rnd.IntN(r.Keys)))
		r.ours = append(r.ours, time.Since(start))
		r.countOpenFiles()
		v.Close()
		if err != nil {
			return err
		}
		if !present {
			return fmt.Errorf("a key of the state is absent at block %s", at.Hash)
		}
	}
	r.finish()
	return nil
}

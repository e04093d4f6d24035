// Package bench measures the accessor under a made-up load, beside the usual way
// to do the same with RocksDB and the floor that the disk sets, in one run. It is
// for those who develop the accessor, and for those who size machines for it.
package bench

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"accessor/checkpoint"
	"accessor/checkpoint/rocks"
	"accessor/forks"
	"accessor/state"
)

// Params of a benchmark's load.
type Params struct {
	Keys      int `json:"keys"`       // of the state
	Blocks    int `json:"blocks"`     // imported before or while measuring
	Puts      int `json:"puts"`       // a block
	ValueSize int `json:"value_size"` // bytes, random
	Repeat    int `json:"repeat"`     // measurements, where blocks don't say
	// Interval is the time from one import to the next, in milliseconds. Where
	// blocks come as fast as they can, images don't keep up, and take less disk.
	Interval   int    `json:"interval_ms"`
	Commitment string `json:"commitment"` // jam or none
	Baseline   bool   `json:"baseline"`   // measure the usual way as well
	Seed       uint64 `json:"seed"`
	Engine     string `json:"engine"`
	Dir        string `json:"-"` // where the stores are made; default the system's

	// Progress, where given, is told what is being done.
	Progress func(what string, done, all int64) `json:"-"`
}

// Result of a benchmark. Times are in milliseconds; fields that a benchmark
// doesn't measure are 0.
type Result struct {
	Bench             string  `json:"bench"`
	Params            Params  `json:"params"`
	Median            float64 `json:"median_ms"`
	P99               float64 `json:"p99_ms"`
	BaselineMedian    float64 `json:"baseline_median_ms"`
	Ratio             float64 `json:"ratio"`    // baseline / ours
	Floor             float64 `json:"floor_ms"` // median of one sequential write + fsync of the same bytes
	DiskPerBlock      int64   `json:"disk_bytes_per_block"`
	FilesPerCkpt      int     `json:"files_per_checkpoint"` // most, beside the image's
	RSS               int64   `json:"rss_bytes"`            // most, of this process
	OpenFiles         int     `json:"open_files"`           // most seen
	DeltaBytes        int64   `json:"delta_bytes_per_block,omitempty"`
	ColdMedian        float64 `json:"cold_median_ms,omitempty"` // in a store that was just opened; of a proof, at a block that is not open
	ColdP99           float64 `json:"cold_p99_ms,omitempty"`
	Hashing           float64 `json:"hashing_ms,omitempty"` // median of hashing the touched leaves and nodes alone, on one core
	Check             float64 `json:"check_median_ms,omitempty"`
	Heap              int64   `json:"heap_bytes,omitempty"` // that the trie keeps
	BlocksWalkedOver  int     `json:"blocks_walked_over,omitempty"`
	Reads             *Reads  `json:"reads,omitempty"`
	Kept              *Kept   `json:"retention,omitempty"`
	ImagesMade        int64   `json:"images_made"`
	ImportsThatWaited int64   `json:"imports_that_waited"` // for deltas to be merged
}

// A Bench measures one thing.
type Bench struct {
	Name     string
	About    string
	Defaults Params
	run      func(*run) error
}

// All are the benchmarks, in the order of the help.
var All = []Bench{
	{"import", "import of blocks, one after the other, each sealed",
		Params{Keys: 200_000, Blocks: 400, Puts: 500, ValueSize: 100}, (*run).imports},
	{"fork", "first import on a random older block",
		Params{Keys: 200_000, Blocks: 100, Puts: 500, ValueSize: 100, Repeat: 100}, (*run).fork},
	{"walkback", "import on a block whose checkpoint, and its ancestors', are gone",
		Params{Keys: 200_000, Blocks: 64, Puts: 20_000, ValueSize: 100, Repeat: 20}, (*run).walkBack},
	{"root", "the root after a block's puts, nothing imported",
		Params{Keys: 200_000, Blocks: 100, Puts: 500, ValueSize: 100, Repeat: 200}, (*run).root},
	{"prove", "the proof of one key, there or not, and its check",
		Params{Keys: 200_000, Blocks: 100, Puts: 500, ValueSize: 100, Repeat: 400}, (*run).prove},
	{"read", "reads through the cache, beside a bare cache and beside none",
		Params{Keys: 2_000_000, Blocks: 60, Puts: 500, ValueSize: 100, Repeat: 50}, (*run).read},
	{"retention", "a day of blocks with a fork every tenth slot: disk, old reads, opening, pruning",
		Params{Keys: 200_000, Blocks: 14_400, Puts: 500, ValueSize: 100, Repeat: 500}, (*run).retention},
	{"open", "opening the state at a random block, and one read",
		Params{Keys: 200_000, Blocks: 2_000, Puts: 500, ValueSize: 100, Repeat: 200}, (*run).open},
}

// run is one benchmark on its way.
type run struct {
	Params
	ctx    context.Context
	rnd    *rand.Rand
	chacha *rand.ChaCha8
	engine *rocks.Engine
	dir    string
	acc    *state.Accessor
	base   *rocks.Baseline
	slot   forks.Slot

	created int64  // bytes on disk before the first import
	buf     []byte // of writeFloor

	ours, baseline, floor []time.Duration
	cold, hashing, check  []time.Duration
	res                   Result
}

// Run measures. The store is made in a temporary folder and removed.
func (b Bench) Run(ctx context.Context, p Params) (Result, error) {
	dir, err := os.MkdirTemp(p.Dir, "accessor-bench-")
	if err != nil {
		return Result{}, err
	}
	defer removeAll(dir)
	r := newRun(ctx, dir, p)
	defer func() { r.engine.Close() }() // the last one
	err = errors.Join(b.run(r), r.close())
	r.res.Bench, r.res.Params = b.Name, r.Params
	r.res.Median, r.res.P99 = percentile(r.ours, 50), percentile(r.ours, 99)
	r.res.ColdMedian, r.res.ColdP99 = percentile(r.cold, 50), percentile(r.cold, 99)
	r.res.Hashing, r.res.Check = percentile(r.hashing, 50), percentile(r.check, 50)
	r.res.BaselineMedian, r.res.Floor = percentile(r.baseline, 50), percentile(r.floor, 50)
	if r.res.Median > 0 {
		r.res.Ratio = r.res.BaselineMedian / r.res.Median
	}
	r.res.RSS = maxRSS()
	return r.res, err
}

// newRun makes a run in a folder. Its engine has to be closed.
func newRun(ctx context.Context, dir string, p Params) *run {
	r := &run{Params: p, ctx: ctx, dir: dir, engine: rocks.New(rocks.Options{})}
	r.Engine = r.engine.Name()
	var seed [32]byte
	copy(seed[:], strconv.FormatUint(p.Seed, 10))
	r.chacha = rand.NewChaCha8(seed)
	r.rnd = rand.New(r.chacha)
	if r.Progress == nil {
		r.Progress = func(string, int64, int64) {}
	}
	return r
}

func (r *run) close() error {
	if r.base != nil {
		r.base.Close()
		r.base = nil
	}
	if r.acc == nil {
		return nil
	}
	acc := r.acc
	r.acc = nil
	return acc.Close()
}

// removeAll removes a folder with sealed checkpoints in it.
func removeAll(dir string) {
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			return os.Chmod(path, 0o755)
		}
		return nil
	})
	_ = os.RemoveAll(dir)
}

// reached says whether a figure is what it must be, in words: "≤ 1.3 ×", "≥ 0.8 ×",
// "≤ 5 ms". Where it must be nothing it is.
func reached(must string, is float64) bool {
	var sign string
	var bound float64
	if n, _ := fmt.Sscanf(must, "%s %g", &sign, &bound); n < 2 {
		return true
	}
	return sign == "≤" && is <= bound || sign == "≥" && is >= bound
}

// percentile gives the p-th percentile in milliseconds: the smallest measured
// time that p percent of all don't exceed.
func percentile(times []time.Duration, p int) float64 {
	if len(times) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(times))
	i := (len(sorted)*p+99)/100 - 1
	return float64(sorted[max(i, 0)].Microseconds()) / 1000
}

// key is the i-th key of the state: 31 bytes, spread over the key space.
func key(i int) []byte {
	k := make([]byte, 31)
	x := uint64(i) * 0x9e3779b97f4a7c15 // odd, so that no two are equal
	for n := range 8 {
		k[n] = byte(x >> (56 - 8*n))
	}
	copy(k[8:], "made-up state item key.")
	return k
}

func (r *run) value() []byte {
	v := make([]byte, r.ValueSize)
	_, _ = r.chacha.Read(v)
	return v
}

// create makes the store, and the baseline's database, with the whole state.
func (r *run) create(opts checkpoint.Options) error {
	commitment, ok := state.CommitmentByName(r.Commitment)
	if !ok {
		return fmt.Errorf("commitment %q: want jam or none", r.Commitment)
	}
	order := make([]int, r.Keys)
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int { return slices.Compare(key(a), key(b)) })
	pairs := func(yield func(state.Pair, error) bool) {
		for n, i := range order {
			if n%10_000 == 0 {
				r.Progress("make state", int64(n), int64(r.Keys))
			}
			if !yield(state.Pair{Key: key(i), Value: r.value()}, context.Cause(r.ctx)) {
				return
			}
		}
	}
	anchor := state.Anchor{Hash: forks.Hash{1}, Pairs: pairs}
	if commitment.Rooted() {
		// The values are drawn twice the same.
		saved := *r.chacha
		var failed error
		root, err := commitment.Root(func(yield func([]byte, []byte) bool) {
			for p, err := range pairs {
				if failed = err; err != nil || !yield(p.Key, p.Value) {
					return
				}
			}
		})
		if err = errors.Join(failed, err); err != nil {
			return err
		}
		*r.chacha = saved
		anchor.Root = root
	}
	config := state.Config{Dir: r.storeDir(), Engine: r.engine, Commitment: commitment, Store: opts, Owner: "bench",
		Retention: state.Retention{All: true}}
	acc, err := state.Create(config, anchor)
	if err != nil {
		return err
	}
	// Closed, as at the end: an open store has space set aside that it gives back.
	if err := acc.Close(); err != nil {
		return err
	}
	if r.created, err = checkpoint.DiskUsage(r.storeDir()); err != nil {
		return err
	}
	if r.acc, err = state.Open(config); err != nil {
		return err
	}
	return r.quiesce()
}

// reopen opens the store again, with nothing in memory but what the system keeps of
// its files.
func (r *run) reopen(opts rocks.Options, cache int64, keep state.Retention) error {
	if err := r.close(); err != nil {
		return err
	}
	r.engine.Close()
	r.engine = rocks.New(opts)
	acc, err := state.Open(state.Config{Dir: r.storeDir(), Engine: r.engine, Owner: "bench", CacheBytes: cache, Retention: keep})
	r.acc = acc
	return err
}

func (r *run) storeDir() string { return filepath.Join(r.dir, "store") }

// openBaseline makes the baseline's database with as many keys.
func (r *run) openBaseline() error {
	base, err := r.engine.OpenBaseline(filepath.Join(r.dir, "baseline"))
	if err != nil {
		return err
	}
	r.base = base
	const batch = 10_000
	for i := 0; i < r.Keys; i += batch {
		r.Progress("make baseline", int64(i), int64(r.Keys))
		puts := make([]checkpoint.Pair, 0, batch)
		for j := i; j < min(i+batch, r.Keys); j++ {
			puts = append(puts, checkpoint.Pair{Key: key(j), Value: r.value()})
		}
		if err := base.Write(puts); err != nil {
			return err
		}
		if err := context.Cause(r.ctx); err != nil {
			return err
		}
	}
	return base.Flush()
}

// block makes a block of so many random puts on a parent.
func (r *run) block(parent forks.Block, puts int) *state.Block {
	r.slot++
	b := &state.Block{Parent: parent.Hash, Slot: max(r.slot, parent.Slot+1)}
	_, _ = r.chacha.Read(b.Hash[:])
	b.Puts = make([]state.Pair, puts)
	values := make([]byte, puts*r.ValueSize)
	_, _ = r.chacha.Read(values)
	for i := range b.Puts {
		b.Puts[i] = state.Pair{Key: key(r.rnd.IntN(r.Keys)), Value: values[i*r.ValueSize:][:r.ValueSize:r.ValueSize]}
	}
	return b
}

// importOne imports a block and gives the time that took.
func (r *run) importOne(b *state.Block) (state.Result, error) {
	res, err := r.acc.Import(r.ctx, b)
	if err == nil {
		err = res.Unsealed
	}
	if err != nil {
		return res, err
	}
	r.res.FilesPerCkpt = max(r.res.FilesPerCkpt, r.acc.Store().Tables(b.Hash))
	return res, nil
}

// chain makes the store, and as many blocks on its anchor as asked for.
func (r *run) chain() ([]forks.Block, error) {
	if err := r.create(checkpoint.Options{}); err != nil {
		return nil, err
	}
	return r.grow(r.acc.Anchor(), r.Blocks)
}

// grow imports a chain on parent and gives its blocks.
func (r *run) grow(parent forks.Block, count int) ([]forks.Block, error) {
	var chain []forks.Block
	for i := range count {
		r.Progress("import", int64(i), int64(count))
		res, err := r.importOne(r.block(parent, r.Puts))
		if err != nil {
			return nil, err
		}
		parent = res.Block
		chain = append(chain, parent)
	}
	return chain, nil
}

// writeFloor writes the bytes of a write set in sequence to a new file, with an
// fsync: less than that no durable import can do. The file is kept, as a block's
// delta is: the memory of a removed one would be warm for the next.
func (r *run) writeFloor(b *state.Block) error {
	data := r.buf[:0]
	for _, p := range b.Puts {
		data = append(append(data, p.Key...), p.Value...)
	}
	r.buf = data
	path := filepath.Join(r.dir, fmt.Sprintf("floor-%d", len(r.floor)))
	start := time.Now()
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = file.Write(data)
	if err == nil {
		err = file.Sync()
	}
	r.floor = append(r.floor, time.Since(start))
	return errors.Join(err, file.Close(), r.quiesce())
}

// quiesce does what the last measurement left for others to do: frees the memory
// of the load, and writes out what the next fsync would wait for, such as the
// freeing of removed files' space.
func (r *run) quiesce() error {
	runtime.GC()
	dir, err := os.Open(r.dir)
	if err != nil {
		return err
	}
	defer dir.Close()
	return errors.Join(unix.Syncfs(int(dir.Fd())), r.warmMemory())
}

// warmMemory writes a few write sets' bytes to a file and removes it before they
// go to the disk, so that what is measured next finds memory for its files that
// was just in use. A virtual machine's host takes back what lies free for
// seconds, and the next touch costs some 10 µs a page: more than all else in a
// large import, whoever does it.
func (r *run) warmMemory() error {
	path := filepath.Join(r.dir, "warm")
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	chunk := make([]byte, 1<<20)
	for size := 3 * r.Puts * (r.ValueSize + 64); size > 0 && err == nil; size -= len(chunk) {
		_, err = file.Write(chunk)
	}
	return errors.Join(err, file.Close(), os.Remove(path))
}

// maxRSS is the most memory that this process has had resident, in bytes.
func maxRSS() int64 {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kb, _ := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			return kb << 10
		}
	}
	return 0
}

func (r *run) countOpenFiles() {
	if files, err := os.ReadDir("/proc/self/fd"); err == nil {
		r.res.OpenFiles = max(r.res.OpenFiles, len(files))
	}
}

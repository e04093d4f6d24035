package bench

import (
	"bytes"
	"cmp"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	goclient "accessor/api/client"
	"accessor/checkpoint"
	"accessor/forks"
	"accessor/state"
)

// ClientsParams are those of the benchmark of the clients.
type ClientsParams struct {
	Keys      int    `json:"keys"`       // of 200 bytes, that are read
	ScanPairs int    `json:"scan_pairs"` // small ones, that are scanned beside them
	Requests  int    `json:"requests"`   // reads, one by one
	Seed      uint64 `json:"seed"`
	Engine    string `json:"engine"`
	Dir       string `json:"-"` // where the store is made; default the system's
	Clients   string `json:"-"` // the folder clients/ of the sources
	Python    string `json:"-"` // the interpreter; default that of build/venv, which has rocksdict, or python3
	Program   string `json:"-"` // the accessor; default this program

	// Progress, where given, is told what is being done.
	Progress func(what string, done, all int64) `json:"-"`
}

// ClientsDefaults are the parameters where nothing else is said.
var ClientsDefaults = ClientsParams{Keys: 20_000, ScanPairs: 1_000_000, Requests: 20_000, Seed: 1, Clients: "clients"}

// ClientsResult of the benchmark. Server and clients are processes of their own.
type ClientsResult struct {
	Bench   string          `json:"bench"`
	Params  ClientsParams   `json:"params"`
	Figures []ClientFigures `json:"figures"`
	Rows    []APIRow        `json:"rows"`
	Missing []string        `json:"missing,omitempty"` // clients that were not measured, and why
}

// clientKeys is how many keys are read over and over.
const clientKeys = 2_000

// clientProgram is how a client's benchmark program is started, and what it must reach.
type clientProgram struct {
	name                string
	command             func(ctx context.Context, p ClientsParams) ([]string, error)
	read, batch, direct string
}

var clientPrograms = []clientProgram{
	{"Go", func(_ context.Context, p ClientsParams) ([]string, error) {
		return []string{p.Program, "bench", "client"}, nil
	}, "≤ 1.2 ×", "≤ 1 ms", ""},
	{"Python", pythonProgram, "≤ 1.3 ×", "≤ 5 ms", "≥ 10 ×"},
	{"Rust", rustProgram, "≤ 1.2 ×", "≤ 1 ms", "≥ 3 ×"},
}

func pythonProgram(_ context.Context, p ClientsParams) ([]string, error) {
	script := filepath.Join(p.Clients, "python/bench.py")
	if _, err := os.Stat(script); err != nil {
		return nil, err
	}
	name := p.Python
	if made, _ := filepath.Glob(filepath.Join(p.Clients, "../build/venv/*/bin/python")); name == "" && len(made) > 0 {
		name = made[len(made)-1] // the one with all that its tests need
	}
	python, err := exec.LookPath(cmp.Or(name, "python3"))
	return []string{python, script}, err
}

// rustProgram builds the program where cargo is there, else it takes one that is built.
func rustProgram(ctx context.Context, p ClientsParams) ([]string, error) {
	script := filepath.Join(p.Clients, "../scripts/rust.sh")
	if _, err := os.Stat(script); err != nil {
		return nil, err
	}
	if _, err := exec.LookPath("cargo"); err == nil {
		if out, err := exec.CommandContext(ctx, script, "bench").CombinedOutput(); err != nil {
			return nil, fmt.Errorf("%s bench: %w: %.2000s", script, err, out)
		}
	}
	built, err := filepath.Abs(filepath.Join(p.Clients, "../build/rust/release/bench"))
	if err == nil {
		_, err = os.Stat(built)
	}
	return []string{built}, err
}

// Clients measures the clients, each in a process of its own, against a server in
// another.
func Clients(ctx context.Context, p ClientsParams) (res ClientsResult, err error) {
	if p.Progress == nil {
		p.Progress = func(string, int64, int64) {}
	}
	if p.Program == "" {
		if p.Program, err = os.Executable(); err != nil {
			return res, err
		}
	}
	dir, err := os.MkdirTemp(p.Dir, "accessor-bench-")
	if err != nil {
		return res, err
	}
	defer removeAll(dir)
	task := ClientTask{Socket: filepath.Join(dir, "s"), Keys: filepath.Join(dir, "keys"), Requests: p.Requests}
	if err := p.makeStore(ctx, dir, &task); err != nil {
		return res, err
	}
	res.Bench, res.Params = "clients", p
	return res, p.beside(ctx, dir, task, func(task ClientTask) error { return res.measure(ctx, p, task) })
}

// makeStore makes a store with a block for reads and, on it, one for the scan, and the
// file of the keys.
func (p *ClientsParams) makeStore(ctx context.Context, dir string, task *ClientTask) (err error) {
	r := newRun(ctx, dir, Params{Keys: p.Keys, Puts: apiPuts, ValueSize: apiValue, Commitment: "none", Seed: p.Seed, Progress: p.Progress})
	defer func() {
		err = errors.Join(err, r.close())
		r.engine.Close()
	}()
	p.Engine = r.Engine
	if err := r.create(checkpoint.Options{}); err != nil {
		return err
	}
	chain, err := r.grow(r.acc.Anchor(), 1)
	if err != nil {
		return err
	}
	task.Block = chain[0].Hash
	p.Progress("make the block to scan", 0, 1)
	const small = 8 // bytes of a value
	many := &state.Block{Hash: forks.Hash{2}, Parent: task.Block, Slot: chain[0].Slot + 1, Puts: make([]state.Pair, p.ScanPairs)}
	for i := range many.Puts {
		k := key(p.Keys + i)
		many.Puts[i] = state.Pair{Key: k, Value: k[:small]}
	}
	if _, err := r.importOne(many); err != nil {
		return err
	}
	task.ScanBlock = many.Hash
	var lines []byte
	for i := range min(p.Keys, clientKeys) {
		lines = append(hex.AppendEncode(lines, key(i)), '\n')
	}
	return os.WriteFile(task.Keys, lines, 0o600)
}

// beside serves the store in a process of its own while f runs, with a pin of the block
// that is read.
func (p *ClientsParams) beside(ctx context.Context, dir string, task ClientTask, f func(ClientTask) error) (err error) {
	server := exec.CommandContext(ctx, p.Program, "serve", "--data", filepath.Join(dir, "store"), "--socket", task.Socket)
	server.Cancel = func() error { return server.Process.Signal(syscall.SIGTERM) }
	var said bytes.Buffer
	server.Stderr = &said
	if err := server.Start(); err != nil {
		return err
	}
	defer func() {
		_ = server.Process.Signal(syscall.SIGTERM)
		if ended := server.Wait(); ended != nil && err == nil {
			err = fmt.Errorf("the server: %w: %.1000s", ended, said.Bytes())
		}
	}()
	c, err := goclient.New("unix://" + task.Socket)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := warm(ctx, c, task); err != nil {
		return err
	}
	pin, err := c.Pin(ctx, goclient.PinOptions{Block: task.Block.String(), Owner: "bench", TTL: 24 * time.Hour})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, pin.Close()) }()
	task.Pin = pin.Directory()
	return f(task)
}

// warm waits until the server answers and its read cache is there, and lets it read the
// keys once: whoever comes first would have it slower than who comes next.
func warm(ctx context.Context, c *goclient.Client, task ClientTask) error {
	const most = time.Minute
	for began := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		status, err := c.Status(ctx)
		if err == nil && status.Ready && status.CacheReady {
			break
		}
		if ctx.Err() != nil || time.Since(began) > most {
			return cmp.Or(err, ctx.Err(), fmt.Errorf("the server isn't ready: %s", status.Reason))
		}
	}
	keys, err := readKeys(task.Keys)
	if err == nil {
		_, err = c.At(task.Block.String()).GetMany(ctx, keys)
	}
	return err
}

// measure runs the clients' programs, one after the other.
func (res *ClientsResult) measure(ctx context.Context, p ClientsParams, task ClientTask) error {
	for i, program := range clientPrograms {
		p.Progress("measure "+program.name, int64(i), int64(len(clientPrograms)))
		command, err := program.command(ctx, p)
		if err != nil {
			res.Missing = append(res.Missing, fmt.Sprintf("%s: %v", program.name, err))
			continue
		}
		f, err := task.runBy(ctx, command)
		if err != nil {
			return fmt.Errorf("%s: %w", program.name, err)
		}
		res.Figures = append(res.Figures, f)
		row := func(what, unit string, ours float64, beside string, other float64, must string) {
			row := APIRow{What: program.name + ": " + what, Unit: unit, Accessor: ours, Must: must}
			if beside != "" && other > 0 {
				row.Beside, row.Other, row.Ratio = beside, other, ours/other
			}
			res.Rows = append(res.Rows, row.judged())
		}
		row("one 200-byte read, p50", "µs", f.ReadUS, "by hand", f.RawUS, program.read)
		row("batch of 1,000 keys, decoded, p50", "ms", f.BatchMS, "", 0, program.batch)
		row(fmt.Sprintf("memory after a scan of %d pairs in %.1f s", f.ScanPairs, f.ScanSeconds), "MB", float64(f.ScanRSS)/1e6, "", 0, "≤ 64 MB")
		if program.direct != "" && f.DirectReads > 0 {
			row("direct reads of a pinned checkpoint", "/s", f.DirectReads, "over the socket", f.SocketReads, program.direct)
		}
	}
	return nil
}

// runBy runs one client's program.
func (task ClientTask) runBy(ctx context.Context, command []string) (f ClientFigures, err error) {
	args := append(command[1:len(command):len(command)], "--socket", task.Socket, "--block", task.Block.String(), "--keys", task.Keys,
		"--pin", task.Pin, "--requests", strconv.Itoa(task.Requests), "--scan-block", task.ScanBlock.String())
	cmd := exec.CommandContext(ctx, command[0], args...)
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		return f, fmt.Errorf("%w: %.2000s", err, said.Bytes())
	}
	if err := json.Unmarshal(out, &f); err != nil {
		return f, fmt.Errorf("%w: %.200q", err, out)
	}
	if f.ReadUS <= 0 || f.RawUS <= 0 || f.BatchMS <= 0 || f.ScanPairs <= 0 || f.ScanRSS <= 0 {
		return f, fmt.Errorf("%w: it measured too little: %+v", errAnswer, f)
	}
	return f, nil
}

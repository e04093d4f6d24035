package testnet

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"accessor/api/client"
	"accessor/forks"
	"accessor/state"
	"accessor/trace"
)

// Processes makes sidecars that are processes: a program's accessor serve, each with a
// store, a socket and a log of its own. It must be closed.
type Processes struct {
	program string // path of the executable
	name    string // that it is started under
	dir     string // stores and logs
	sockets string // a folder with a short name: a socket's has 107 bytes at most
	starts  chan func()

	anchor   sync.Once
	anchored error

	addresses addresses
	all       []*process
	met       bool     // each is a peer of all others, and of:
	liars     []string // addresses
}

// NewProcesses makes sidecars of a program, which is started under a name (its
// argument 0), in folders of dir.
func NewProcesses(program, name, dir string) (*Processes, error) {
	sockets, err := os.MkdirTemp("", "tn")
	if err != nil {
		return nil, err
	}
	p := &Processes{program: program, name: name, dir: dir, sockets: sockets, starts: make(chan func())}
	// Linux kills a child with the thread that started it, so that one stays as long as
	// they may: then a testnet that is killed itself leaves no processes behind.
	go func() {
		runtime.LockOSThread()
		for start := range p.starts {
			start()
		}
	}()
	return p, nil
}

// Close removes the sockets. The sidecars are closed by then.
func (p *Processes) Close() error {
	close(p.starts)
	return os.RemoveAll(p.sockets)
}

// Log names the file with what a node's processes have logged.
func (p *Processes) Log(node int) string {
	return filepath.Join(p.dir, fmt.Sprintf("node%d.log", node))
}

// New makes a node's sidecar, for Options.New.
func (p *Processes) New(node int, anchor *Anchor) (Sidecar, error) {
	p.anchor.Do(func() { p.anchored = writeAnchor(p.anchorFile(), anchor) })
	if p.anchored != nil {
		return nil, p.anchored
	}
	return p.make(node)
}

func (p *Processes) make(node int) (*process, error) {
	socket := filepath.Join(p.sockets, fmt.Sprint(node))
	c, err := client.New("unix://"+socket, client.WithTimeout(requestPatience))
	if err != nil {
		return nil, err
	}
	made := &process{of: p, node: node, socket: socket, client: c}
	p.all = append(p.all, made)
	return made, nil
}

func (p *Processes) anchorFile() string { return filepath.Join(p.dir, "anchor.jsonl") }

// writeAnchor writes a recording that has an anchor alone.
func writeAnchor(path string, a *Anchor) error {
	w, err := trace.Create(path)
	if err != nil {
		return err
	}
	defer w.Abort()
	if err := w.Header(&trace.Header{Name: "testnet", GP: "0.7.2", Spec: "tiny"}); err != nil {
		return err
	}
	if err := w.Anchor(&trace.Anchor{Hash: a.Hash, Slot: a.Slot, Root: a.Root, Header: a.Header, Pairs: a.Pairs}); err != nil {
		return err
	}
	return w.Close()
}

const (
	// requestPatience bounds a request: none takes so long on a machine that works.
	requestPatience = time.Minute
	// startPatience bounds a start, in which a crash is recovered from.
	startPatience = time.Minute
	// stopPatience is how long a process may take to end in order.
	stopPatience = 20 * time.Second
)

// process is a sidecar that is a process.
type process struct {
	of     *Processes
	node   int
	socket string
	client *client.Client
	joined *Joining      // nil of one that started from the anchor
	deny   []string      // ids of nodes on other sides of a partition
	cmd    *exec.Cmd     // nil while it doesn't run
	gone   chan struct{} // closed when it has ended
}

var _ Sidecar = (*process)(nil)

func (p *process) Start(ctx context.Context) error {
	if _, err := p.writeConfig(); err != nil {
		return err
	}
	log, err := os.OpenFile(p.of.Log(p.node), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	store := filepath.Join(p.of.dir, fmt.Sprintf("node%d", p.node))
	args := []string{p.of.name, "serve", "--config", p.configFile(), "--data", store, "--socket", p.socket, "--log-format", "json", "--log-level", "info"}
	cmd := &exec.Cmd{Path: p.of.program, Stderr: log, Stdout: log, Args: append(args, p.origin()...),
		Env: append(environ(), "ACCESSOR_DA_ENABLED=true", "ACCESSOR_DA_SERVE_STATE=anyone", "ACCESSOR_DA_LISTEN="+p.of.listen(p.node),
			fmt.Sprintf("ACCESSOR_DA_FOLLOW=%t", p.joined != nil && p.joined.Follow)),
		// In a group of its own: Ctrl-C is the testnet's, which ends them.
		SysProcAttr: &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL},
	}
	started := make(chan error)
	p.of.starts <- func() { started <- cmd.Start() }
	if err := <-started; err != nil {
		return err
	}
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		_ = cmd.Wait() // how it ended is in its log
	}()
	p.cmd, p.gone = cmd, gone
	if err := p.await(ctx); err != nil {
		return err
	}
	return p.findAddress(ctx)
}

// environ is this process's environment without settings of an accessor. Reads at old
// blocks, proofs above all, have those replayed, more often than serve allows a client.
func environ() []string {
	out := []string{"ACCESSOR_LIMITS_REPLAY=1000000", "ACCESSOR_LIMITS_REPLAY_RATE=1000000"}
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "ACCESSOR_") {
			out = append(out, v)
		}
	}
	return out
}

// await waits until the process answers.
func (p *process) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	for {
		err := p.client.Ready(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-p.gone:
			return fmt.Errorf("ended while it started: %v: %w; see %s", p.cmd.ProcessState, errGone, p.of.Log(p.node))
		case <-ctx.Done():
			return fmt.Errorf("doesn't answer: %w; see %s", err, p.of.Log(p.node))
		case <-time.After(5 * time.Millisecond):
		}
	}
}

var errGone = errors.New("the process is gone")

// Kill implements Sidecar: by SIGKILL. Error: errGone where it had ended by itself.
func (p *process) Kill() error {
	if p.cmd == nil {
		return nil
	}
	_ = p.cmd.Process.Kill() // fails where it has ended
	<-p.gone
	state := p.cmd.ProcessState
	p.cmd = nil
	if how, ok := state.Sys().(syscall.WaitStatus); !ok || how.Signal() != syscall.SIGKILL {
		return fmt.Errorf("%w: it ended by itself, %v; see %s", errGone, state, p.of.Log(p.node))
	}
	return nil
}

func (p *process) Stop() error {
	if p.cmd == nil {
		return nil
	}
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.gone:
	case <-time.After(stopPatience):
		return errors.Join(fmt.Errorf("did not stop within %v; see %s", stopPatience, p.of.Log(p.node)), p.Kill())
	}
	state := p.cmd.ProcessState
	p.cmd = nil
	if state.ExitCode() != 0 {
		return fmt.Errorf("ended with %v; see %s", state, p.of.Log(p.node))
	}
	return nil
}

func (p *process) Close() error {
	err := p.Kill()
	if errors.Is(err, errGone) {
		err = nil // who asked it last found out
	}
	return errors.Join(err, p.client.Close())
}

func (p *process) Import(ctx context.Context, b *state.Block) (Imported, error) {
	wire := &client.Block{Hash: b.Hash, Parent: b.Parent, Slot: b.Slot, PriorRoot: b.PriorRoot, Dels: b.Dels, Header: b.Header}
	for _, put := range b.Puts {
		wire.Puts = append(wire.Puts, client.Pair{Key: put.Key, Value: put.Value})
	}
	got, err := p.client.Import(ctx, wire)
	if errors.Is(err, client.ErrUnknownBlock) {
		return Imported{}, told(ErrUnknownParent, err)
	} else if errors.Is(err, client.ErrNotFetched) {
		return Imported{}, told(ErrNotFetched, err)
	}
	return Imported{Root: got.Root, WalkBack: got.WalkBack != nil}, err
}

func (p *process) SetHead(ctx context.Context, h forks.Hash) error {
	_, err := p.client.SetHead(ctx, h)
	return err
}

func (p *process) Finalize(ctx context.Context, h forks.Hash) error {
	_, err := p.client.Finalize(ctx, h)
	return err
}

func (p *process) at(h forks.Hash) *client.View { return p.client.At(h.String()) }

func (p *process) Read(ctx context.Context, at forks.Hash, keys [][]byte) ([][]byte, error) {
	if len(keys) > 1 {
		values, err := p.at(at).GetMany(ctx, keys)
		return values, answerError(err)
	}
	value, present, err := p.at(at).Get(ctx, keys[0])
	if !present {
		value = nil
	}
	return [][]byte{value}, answerError(err)
}

func (p *process) ReadProven(ctx context.Context, at, root forks.Hash, keys [][]byte) ([][]byte, error) {
	values, err := p.at(at).WithVerification(root).GetMany(ctx, keys)
	return values, answerError(err)
}

func (p *process) Scan(ctx context.Context, at forks.Hash, pair func(key, value []byte) bool) error {
	for got, err := range p.at(at).Scan(ctx, client.ScanOptions{}) {
		if err != nil {
			return answerError(err)
		}
		if !pair(got.Key, got.Value) {
			break
		}
	}
	return nil
}

func (p *process) Roots(ctx context.Context) (map[forks.Hash]forks.Hash, error) {
	tree, err := p.client.Blocks(ctx, client.BlocksOptions{})
	roots := make(map[forks.Hash]forks.Hash, len(tree.Blocks))
	for _, b := range tree.Blocks {
		roots[b.Block] = b.Root
	}
	return roots, err
}

func (p *process) Status(ctx context.Context) (Status, error) {
	s, err := p.client.Status(ctx)
	if err == nil && (s.Head == nil || s.Finalized == nil) {
		err = errors.New("the store has no anchor")
	}
	if err != nil {
		return Status{}, err
	}
	out := Status{Head: asBlock(s.Head), Finalized: asBlock(s.Finalized), Blocks: s.Blocks, Heads: s.Leaves, Locks: s.Locks, Partial: s.Partial}
	if p.joined != nil || p.of.met { // others ask nobody
		err = p.askPeerFigures(ctx, &out)
	}
	return out, err
}

func asBlock(a *client.About) forks.Block {
	return forks.Block{Hash: a.Block, Slot: a.Slot, Root: a.Root}
}

// answerError tells answers that are wrong from others.
func answerError(err error) error {
	for _, kind := range []client.Kind{client.ErrBadAnswer, client.ErrBadProof, client.ErrUnknownBlock, client.ErrPruned} {
		if errors.Is(err, kind) {
			return told(ErrWrong, err)
		}
	}
	return err
}

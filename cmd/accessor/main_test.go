package main

import (
	"bytes"
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"accessor/trace"
)

// TestMain lets the test binary stand in for the program in scripts, and for the
// child processes that the crash test kills.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"accessor":      main,
		crashChild:      crashChildMain,
		lockingChild:    lockingChildMain,
		owningChild:     owningChildMain,
		importingChild:  importingChildMain,
		restrictedChild: restrictedChildMain,
	})
}

// command runs the program in this process.
func command(t *testing.T, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	status = run(context.Background(), args, strings.NewReader(""), &out, &errs)
	return status, out.String(), errs.String()
}

// mustRun runs the program, which must end with status 0.
func mustRun(t *testing.T, args ...string) string {
	t.Helper()
	status, stdout, stderr := command(t, args...)
	if status != exitOK {
		t.Fatalf("accessor %s: exit status %d\n%s%s", strings.Join(args, " "), status, stdout, stderr)
	}
	return stdout
}

// child makes a process of this test binary under another name; see TestMain.
func child(t *testing.T, name string, args ...string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return &exec.Cmd{Path: exe, Args: append([]string{name}, args...), Env: os.Environ()}
}

// generated makes a chain up and gives its file.
func generated(t *testing.T, opts trace.GenerateOptions) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "chain.jsonl")
	args := []string{"trace", "generate", path}
	for flag, v := range map[string]int{"seed": int(opts.Seed), "blocks": opts.Blocks, "keys": opts.Keys,
		"writes": opts.Writes, "fork-every": opts.ForkEvery, "rejects": opts.Rejects} {
		args = append(args, "--"+flag, itoa(v))
	}
	mustRun(t, args...)
	return path
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"deadsocket": deadSocket,
			"garble":     garble,
			"mutesocket": muteSocket,
			"signal":     sendSignal,
		},
		Setup: func(e *testscript.Env) error {
			e.Setenv("TMPDIR", e.WorkDir)
			return nil
		},
	})
}

// deadSocket makes a Unix socket on which nobody listens.
func deadSocket(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: deadsocket path")
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: ts.MkAbs(args[0]), Net: "unix"})
	ts.Check(err)
	l.SetUnlinkOnClose(false)
	ts.Check(l.Close())
}

// muteSocket makes a Unix socket on which somebody listens who never answers.
func muteSocket(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: mutesocket path")
	}
	l, err := net.Listen("unix", ts.MkAbs(args[0]))
	ts.Check(err)
	ts.Defer(func() { l.Close() })
}

// sendSignal sends a signal to the program that was last started in the background:
// testscript's kill knows no TERM and HUP.
func sendSignal(ts *testscript.TestScript, neg bool, args []string) {
	signals := map[string]os.Signal{"TERM": syscall.SIGTERM, "HUP": syscall.SIGHUP}
	started := ts.BackgroundCmds()
	if neg || len(args) != 1 || signals[args[0]] == nil || len(started) == 0 {
		ts.Fatalf("usage: signal TERM|HUP, after exec ... &")
	}
	ts.Check(started[len(started)-1].Process.Signal(signals[args[0]]))
}

// garble changes a byte in the middle of each file that a pattern names, or with
// -cut removes its second half.
func garble(ts *testscript.TestScript, neg bool, args []string) {
	cut := len(args) > 0 && args[0] == "-cut"
	if cut {
		args = args[1:]
	}
	if neg || len(args) != 1 {
		ts.Fatalf("usage: garble [-cut] pattern")
	}
	files, err := filepath.Glob(ts.MkAbs(args[0]))
	ts.Check(err)
	if len(files) == 0 {
		ts.Fatalf("%s matches nothing", args[0])
	}
	for _, file := range files {
		ts.Check(os.Chmod(file, 0o644))
		data, err := os.ReadFile(file)
		ts.Check(err)
		if cut {
			data = data[:len(data)/2]
		} else {
			data[len(data)/2] ^= 0x55
		}
		ts.Check(os.WriteFile(file, data, 0o644))
	}
}

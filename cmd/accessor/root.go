package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"golang.org/x/sys/unix"

	"accessor/checkpoint"
	"accessor/replay"
	"accessor/state"
)

// Exit statuses of all commands.
const (
	exitOK      = 0
	exitDiffers = 1  // the answer is no: something differs, is damaged, or absent
	exitUsage   = 2  // bad flags or arguments, or no store where they say
	exitStore   = 3  // the store failed
	exitInput   = 4  // an input is unreadable or incomplete
	exitSetup   = 78 // of serve: what is exitUsage elsewhere (EX_CONFIG of sysexits.h)
	exitStopped = 130
)

// exitError carries an exit status. A nil err means that all is said already.
type exitError struct {
	status int
	err    error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit status %d", e.status)
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

func usageError(format string, args ...any) error {
	return &exitError{exitUsage, fmt.Errorf(format, args...)}
}

// env is what commands share: where to read and write, and the global flags.
type env struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	logLevel       string
}

// run executes a command line and gives the exit status.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	out := &outStream{Writer: stdout}
	cmd := newRoot(&env{stdin: stdin, stdout: out, stderr: stderr})
	cmd.SetArgs(args)
	cmd.SetIn(stdin)
	cmd.SetOut(out)
	cmd.SetErr(stderr)
	err := cmp.Or(cmd.ExecuteContext(ctx), out.err)
	switch {
	case err == nil:
		return exitOK
	case ctx.Err() != nil:
		fmt.Fprintln(stderr, "accessor: interrupted")
		return exitStopped
	case errors.Is(err, syscall.EPIPE):
		return exitOK // who read has seen enough
	}
	var exit *exitError
	switch {
	case errors.As(err, &exit) && exit.err == nil:
	case errors.Is(err, checkpoint.ErrInUse):
		fmt.Fprintf(stderr, "accessor: %v: stop that process or, where it is an accessor serve, ask it, by --socket PATH\n", err)
	default:
		fmt.Fprintln(stderr, "accessor:", err)
	}
	return statusOf(err)
}

// outStream is standard output. It keeps its first error: an answer that could not be
// written whole must not pass for one, whoever wrote it.
type outStream struct {
	io.Writer
	err error
}

// Write implements io.Writer.
func (o *outStream) Write(b []byte) (int, error) {
	n, err := o.Writer.Write(b)
	if o.err == nil {
		o.err = err
	}
	return n, err
}

// fileOf gives the file that a stream is, if it is one.
func fileOf(stream any) (*os.File, bool) {
	if o, ok := stream.(*outStream); ok {
		stream = o.Writer
	}
	file, ok := stream.(*os.File)
	return file, ok
}

// statusOf maps an error to an exit status.
func statusOf(err error) int {
	var exit *exitError
	switch {
	case errors.As(err, &exit):
		return exit.status
	case errors.Is(err, state.ErrUnknownBlock):
		return exitDiffers
	case errors.Is(err, state.ErrAmbiguous), errors.Is(err, state.ErrBadName),
		errors.Is(err, state.ErrOtherAnchor), errors.Is(err, state.ErrCommitment),
		errors.Is(err, checkpoint.ErrEmpty), errors.Is(err, checkpoint.ErrExists):
		return exitUsage
	case errors.Is(err, replay.ErrInput):
		return exitInput
	}
	return exitStore
}

// Groups of commands in the help.
const (
	groupAsk    = "ask"
	groupChange = "change"
	groupStore  = "store"
	groupOther  = "other"
)

func newRoot(e *env) *cobra.Command {
	root := &cobra.Command{
		Use:   "accessor",
		Short: "Keeps the state at every block of every fork, and answers what it is",
		Long: `The accessor owns a chain's state beside a validator node: it imports each
block's write set, keeps a sealed checkpoint for every block of every fork, and
answers what the state is at any of them.

BLOCK is head, finalized, anchor or genesis; a slot (decimal digits only); or a
hash or 8 or more of its first hex digits, with 0x in front where they hold no
letter. KEY is hex, or the name of a JAM state item (accessor ls --names).

Commands that ask speak to a running accessor serve: by --socket, else by
$ACCESSOR_SOCKET, else at its default socket. With --data they open a store themselves;
the answers are the same. Tables are for people, --json is for programs. Colours are for
terminals alone; $NO_COLOR keeps them away.

Exit status: 0 done; 1 the answer is no: something differs, is damaged, absent, not held
any more, or was refused; 2 bad usage, or what this client's roles may not do; 3 the store
or the sidecar failed or can't be reached; 4 an input is unreadable; 130 interrupted, but
0 of what has no other end: tree --watch and events --follow. accessor serve has its own.`,
		Version:       versionText(),
		Args:          noSuchCommand,
		RunE:          showHelp,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.PersistentFlags().StringVar(&e.logLevel, "log-level", "warn", "what is logged to standard error: debug, info, warn or error")
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usageError("%w (see %s --help)", err, cmd.CommandPath())
	})
	root.AddGroup(&cobra.Group{ID: groupAsk, Title: "Ask a sidecar, or a store:"}, &cobra.Group{ID: groupChange, Title: "Change what it has:"},
		&cobra.Group{ID: groupStore, Title: "Stores and sidecars:"}, &cobra.Group{ID: groupOther, Title: "Other:"})
	for _, group := range []struct {
		id   string
		list []*cobra.Command
	}{
		{groupAsk, []*cobra.Command{newStatus(e), newTree(e), newGet(e), newList(e), newDiff(e), newHistory(e), newProve(e), newEvents(e), newLocks(e)}},
		{groupChange, []*cobra.Command{newImport(e), newHead(e), newFinalize(e), newDraft(e), newPins(e), newDA(e), newSync(e)}},
		{groupStore, []*cobra.Command{newServe(e), newConfig(e), newInit(e), newReplay(e), newExport(e), newRootCommand(e), newVerify(e), newRecover(e)}},
		{groupOther, []*cobra.Command{newCheckProof(e), newTestnet(e), newTrace(e), newBench(e), newMan(e)}},
	} {
		for _, cmd := range group.list {
			cmd.GroupID = group.id
			root.AddCommand(cmd)
		}
	}
	root.SetHelpCommandGroupID(groupOther)
	root.SetCompletionCommandGroupID(groupOther)
	return root
}

// showHelp is what a command does that only has commands below it.
func showHelp(cmd *cobra.Command, _ []string) error { return cmd.Help() }

func noSuchCommand(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usageError("unknown command %q (see %s --help)", args[0], cmd.CommandPath())
	}
	return nil
}

// noArguments is for commands that are told the store by a flag.
func noArguments(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usageError("%s takes no argument, given %q (see %[1]s --help)", cmd.CommandPath(), args[0])
	}
	return nil
}

// arguments checks the number of arguments, as a usage error.
func arguments(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := check(cmd, args); err != nil {
			return usageError("%w: %s (see %s --help)", err, strings.Replace(cmd.UseLine(), " [flags]", "", 1), cmd.CommandPath())
		}
		return nil
	}
}

// logger writes to standard error: in words on a terminal, JSON elsewhere.
func (e *env) logger() (*zap.Logger, error) {
	level, err := zapcore.ParseLevel(e.logLevel)
	if err != nil {
		return nil, usageError("--log-level: %w", err)
	}
	return newLogger(e.stderr, level, "auto"), nil
}

// isTerminal says whether a stream is a terminal that a person looks at.
func isTerminal(stream any) bool {
	file, ok := fileOf(stream)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(file.Fd()), unix.TCGETS)
	return err == nil
}

// whereStores says what to do where a folder is not a store.
func whereStores(dir string) string {
	if stores, _ := filepath.Glob(filepath.Join(dir, "*", "FORMAT")); len(stores) > 0 {
		for i := range stores {
			stores[i] = filepath.Dir(stores[i])
		}
		return "stores are in " + strings.Join(stores, ", ")
	}
	return fmt.Sprintf("accessor replay or accessor init, with --data %s FILE, makes one", dir)
}

// openStore opens the store that --data names.
func (e *env) openStore(dir string) (*state.Accessor, func(), error) {
	if dir == "" {
		return nil, nil, usageError("no store given: use --data DIR")
	}
	log, err := e.logger()
	if err != nil {
		return nil, nil, err
	}
	engine := newEngine()
	acc, err := state.Open(state.Config{Dir: dir, Engine: engine, Log: log, Retention: state.Retention{All: true}})
	if err != nil {
		engine.Close()
		if errors.Is(err, checkpoint.ErrEmpty) {
			return nil, nil, fmt.Errorf("%w (%s)", err, whereStores(dir))
		}
		return nil, nil, err
	}
	return acc, func() {
		if err := acc.Close(); err != nil {
			fmt.Fprintln(e.stderr, "accessor: close store:", err)
		}
		engine.Close()
	}, nil
}

// Command accessor keeps the state at every block of a chain's forks and
// answers what it is at any of them.
package main

import (
	"context"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
)

func main() {
	// What is kept in Go's memory is small as a rule, most of it caches: collecting
	// less often takes the collector out of the slowest proofs and imports. Where it is
	// more, for a day's blocks, it collects as often as it needs to stay small.
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(200)
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(256 << 20)
	}
	// The first signal ends the work in an orderly way, a second one at once.
	// A reader that goes (| head) is an error like others: what was begun is
	// cleaned up.
	signal.Ignore(syscall.SIGPIPE)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	os.Exit(run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

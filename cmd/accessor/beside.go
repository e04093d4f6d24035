package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"accessor/checkpoint"
	"accessor/state"
)

// reader gives the states of a store, to commands that only read.
type reader struct {
	commitment state.Commitment
	// view opens the state that --at names.
	view func(cmd *cobra.Command, at string) (stateView, error)
	done func()
}

// openReader opens the store that --data names. Where another process owns it,
// it is read beside that one, and standard error says so.
func (e *env) openReader(dir string) (*reader, error) {
	acc, done, err := e.openStore(dir)
	if errors.Is(err, checkpoint.ErrInUse) {
		return e.openBeside(dir)
	}
	if err != nil {
		return nil, err
	}
	return &reader{
		commitment: acc.Commitment(),
		view: func(cmd *cobra.Command, at string) (stateView, error) {
			return viewAt(cmd, acc, at)
		},
		done: done,
	}, nil
}

func (e *env) openBeside(dir string) (*reader, error) {
	engine := newEngine()
	b, err := state.OpenBeside(dir, engine)
	if err != nil {
		engine.Close()
		return nil, err
	}
	owner := "another process"
	if pid := b.Owner(); pid != 0 {
		owner = fmt.Sprintf("process %d", pid)
	}
	fmt.Fprintf(e.stderr, "read beside %s, which owns the store\n", owner)
	return &reader{
		commitment: b.Commitment(),
		view: func(cmd *cobra.Command, at string) (stateView, error) {
			h, err := b.Resolve(at)
			if err != nil {
				return nil, err
			}
			return b.View(cmd.Context(), h)
		},
		done: engine.Close,
	}, nil
}

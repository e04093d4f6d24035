package main

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/spf13/cobra"

	"accessor/api/client"
	"accessor/checkpoint"
	"accessor/state"
)

// stateView is the state at a block: a client's view, or one of a store that is read
// beside the process that owns it.
type stateView interface {
	about() (about, error)
	get(key []byte) (value []byte, present bool, err error)
	scan(prefix []byte) iter.Seq2[client.Pair, error]
}

// read opens the state that --at names, for commands that only read, and does what f
// does with it. Where another process owns the store that --data names, it is read
// beside that one, and standard error says so.
func (t *target) read(cmd *cobra.Command, at string, f func(v stateView) error) error {
	err := t.ask(cmd, func(ctx context.Context, c *client.Client) error {
		return f(clientView{ctx, c.At(at)})
	})
	if t.data == "" || !errors.Is(err, checkpoint.ErrInUse) {
		return err
	}
	return t.readBeside(cmd, at, f)
}

func (t *target) readBeside(cmd *cobra.Command, at string, f func(v stateView) error) error {
	engine := newEngine()
	defer engine.Close()
	b, err := state.OpenBeside(t.data, engine)
	if err != nil {
		return err
	}
	owner := "another process"
	if pid := b.Owner(); pid != 0 {
		owner = fmt.Sprintf("process %d", pid)
	}
	fmt.Fprintf(t.stderr, "read beside %s, which owns the store\n", owner)
	h, err := b.Resolve(at)
	if err != nil {
		return explainBeside(err)
	}
	v, err := b.View(cmd.Context(), h)
	if err != nil {
		return explainBeside(err)
	}
	defer v.Close()
	return f(besideView{v, b.Commitment()})
}

// clientView is a client's view.
type clientView struct {
	ctx  context.Context //nolint:containedctx // of the one command that reads it
	view *client.View
}

func (v clientView) about() (about, error) {
	a, err := v.view.About(v.ctx)
	return about(a), err
}

func (v clientView) get(key []byte) ([]byte, bool, error) { return v.view.Get(v.ctx, key) }

func (v clientView) scan(prefix []byte) iter.Seq2[client.Pair, error] {
	return v.view.Scan(v.ctx, client.ScanOptions{Prefix: prefix})
}

// besideView is a view of a store that another process owns.
type besideView struct {
	view       *state.BesideView
	commitment state.Commitment
}

func (v besideView) about() (about, error) { return aboutBlock(v.view.Block()), nil }

// get refuses a key that no state of the store can have.
func (v besideView) get(key []byte) ([]byte, bool, error) {
	if size := v.commitment.KeySize(); size > 0 && len(key) != size {
		return nil, false, usageError("key %x has %d bytes, this store's keys have %d", key, len(key), size)
	}
	return v.view.Get(key)
}

func (v besideView) scan(prefix []byte) iter.Seq2[client.Pair, error] {
	return func(yield func(client.Pair, error) bool) {
		for p, err := range v.view.All(prefix, checkpoint.PrefixEnd(prefix)) {
			if !yield(client.Pair(p), err) || err != nil {
				return
			}
		}
	}
}

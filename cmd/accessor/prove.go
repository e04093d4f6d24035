package main

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"accessor/api/client"
	"accessor/forks"
	"accessor/state"
	"accessor/state/merkle"
)

func newRootCommand(e *env) *cobra.Command {
	var data, at string
	cmd := &cobra.Command{
		Use:   "root --data DIR [--at BLOCK]",
		Short: "Recompute the root of the state at a block, and compare",
		Long: `Reads the whole state at a block, computes its root from scratch and compares it
with the recorded one. Prints block, slot and root; exit status 1 where another
root came out.`,
		Example: "  accessor root --data /tmp/chain --at 42",
		Args:    noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			acc, done, err := e.openStore(data)
			if err != nil {
				return err
			}
			defer done()
			b, err := acc.Resolve(at)
			if err != nil {
				return err
			}
			b, err = acc.Root(cmd.Context(), b.Hash)
			if errors.Is(err, state.ErrWrongRoot) {
				return &exitError{exitDiffers, err}
			}
			if err != nil {
				return err
			}
			fmt.Fprintln(e.stdout, aboutBlock(b))
			return nil
		},
	}
	cmd.Flags().StringVar(&data, "data", "", "directory of the store")
	cmd.Flags().StringVar(&at, "at", "head", "block (see accessor --help)")
	return cmd
}

// proveCommand is `accessor prove`.
type proveCommand struct {
	*target
	at, from, to, output string
	maxSize              uint32
	json                 bool
}

func newProve(e *env) *cobra.Command {
	c := &proveCommand{}
	cmd := &cobra.Command{
		Use:   "prove [--at BLOCK] KEY... | --from K --to K",
		Short: "Prove keys, or a range of keys, against a block's root",
		Long: `Proves what the state at a block has at the given keys, that it has nothing there,
or which pairs it has in a range (both ends included; K is hex, and may be a
prefix). The proof goes to standard output, or to --output: in the binary form of
docs/PROOFS.md or, with --json, as JSON. The block and its root are named on
standard error. Whoever trusts the root can check the proof: accessor check-proof.

A range is cut where --max-size bytes of proof are full. Go on with --from one
above its last key.`,
		Example: `  accessor prove --at finalized entropy slot > proof
  accessor prove --data /tmp/chain --from 00 --to ff --max-size 100000 --json`,
		RunE: func(cmd *cobra.Command, args []string) error { return c.run(cmd, args) },
	}
	c.target = e.targetFlags(cmd)
	cmd.ValidArgsFunction = completeItems
	f := cmd.Flags()
	c.blockFlag(cmd, &c.at, "at", "head", "block (see accessor --help)")
	f.StringVar(&c.from, "from", "", "first key of a range")
	f.StringVar(&c.to, "to", "", "last key of a range")
	f.Uint32Var(&c.maxSize, "max-size", 1<<20, "most bytes of a range's proof, unless it has one pair")
	f.BoolVar(&c.json, "json", false, "write JSON")
	f.StringVarP(&c.output, "output", "o", "", "write to this file, which must not exist")
	return cmd
}

func (c *proveCommand) run(cmd *cobra.Command, args []string) error {
	ranged := cmd.Flags().Changed("from") || cmd.Flags().Changed("to")
	if ranged == (len(args) > 0) {
		return usageError("prove: give keys, or --from and --to")
	}
	if c.output == "" && !c.json && isTerminal(c.stdout) {
		return usageError("prove: a binary proof is not for a terminal: use --output FILE or --json")
	}
	var keys [][]byte
	for _, arg := range args {
		key, err := parseKey(arg)
		if err != nil {
			return err
		}
		keys = append(keys, key)
	}
	var req merkle.RangeRequest
	if ranged {
		var err error
		if req, err = c.request(); err != nil {
			return err
		}
	}
	return c.ask(cmd, func(ctx context.Context, cl *client.Client) error {
		v := cl.At(c.at)
		var s *merkle.Statement
		var err error
		if ranged {
			s, err = v.ProveRange(ctx, req)
		} else {
			s, err = v.Prove(ctx, keys)
		}
		if err != nil {
			return err
		}
		at, err := v.About(ctx)
		if err != nil {
			return err
		}
		fmt.Fprintf(c.stderr, "at %s\n", about(at))
		return c.write(s)
	})
}

// request reads the edges of the range; a prefix stands for the first, or the
// last, key that begins with it.
func (c *proveCommand) request() (req merkle.RangeRequest, err error) {
	req.MaxSize = c.maxSize
	for i := range req.End {
		req.End[i] = 0xff
	}
	for _, edge := range []struct {
		text string
		to   []byte
	}{{c.from, req.Start[:]}, {c.to, req.End[:]}} {
		key, err := hex.DecodeString(strings.TrimPrefix(edge.text, "0x"))
		if err != nil || len(key) > merkle.KeySize {
			return req, usageError("%q is not a key of up to %d bytes in hex", edge.text, merkle.KeySize)
		}
		copy(edge.to, key)
	}
	if bytes.Compare(req.Start[:], req.End[:]) > 0 {
		return req, usageError("--from %s is above --to %s", c.from, c.to)
	}
	return req, nil
}

func (c *proveCommand) write(s *merkle.Statement) error {
	var out []byte
	if c.json {
		text, err := json.Marshal(s)
		if err != nil {
			return err
		}
		out = append(text, '\n')
	} else {
		out = s.Append(nil)
	}
	return c.writeOut(c.output, out)
}

// maxProof bounds a proof file.
const maxProof = 256 << 20

func newCheckProof(e *env) *cobra.Command {
	var root string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "check-proof --root HASH FILE|-",
		Short: "Check a proof against a state root",
		Long: `Checks a proof that accessor prove has written, in either form, against the root
of a state that you trust. It needs no store. Prints what is proved: each key with
its value, or that it is absent. Exit status 1 where nothing is proved.

The root proves a state, not which block it belongs to: the block that the proof
names is a claim of whoever made it.`,
		Example: "  accessor check-proof --root 19c2…f0 proof",
		Args:    arguments(cobra.ExactArgs(1)),
		RunE: func(_ *cobra.Command, args []string) error {
			if root == "" {
				return usageError("no root given: use --root HASH, that of a state that you trust")
			}
			hash, err := forks.ParseHash(root)
			if err != nil {
				return usageError("--root: %w", err)
			}
			text, err := e.readInput(args[0], maxProof)
			if err != nil {
				return err
			}
			s, err := parseProof(text)
			var answer merkle.Answer
			if err == nil {
				answer, err = s.Verify(hash)
			}
			if err != nil {
				return &exitError{exitDiffers, fmt.Errorf("%s: %w", args[0], err)}
			}
			return e.printAnswer(s, answer, hash, asJSON)
		},
	}
	cmd.Flags().StringVar(&root, "root", "", "the state root, 64 hex digits")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return cmd
}

// parseProof reads either form.
func parseProof(text []byte) (*merkle.Statement, error) {
	s, err := merkle.DecodeStatement(text)
	if err != nil && bytes.HasPrefix(bytes.TrimSpace(text), []byte("{")) {
		s = &merkle.Statement{}
		err = s.UnmarshalJSON(text)
	}
	return s, err
}

func (e *env) printAnswer(s *merkle.Statement, a merkle.Answer, root forks.Hash, asJSON bool) error {
	if !asJSON {
		fmt.Fprintf(e.stderr, "proved for root %s (said to be of block %s)\n", root, s.Block)
		for _, p := range a.Pairs {
			if p.Value == nil {
				fmt.Fprintf(e.stdout, "%s absent\n", keyText(p.Key[:]))
			} else {
				fmt.Fprintf(e.stdout, "%s %x\n", keyText(p.Key[:]), p.Value)
			}
		}
		if r := s.Range; r != nil {
			fmt.Fprintf(e.stdout, "%d pairs from %x to %x", len(a.Pairs), r.Start, r.End)
			if a.More {
				fmt.Fprint(e.stdout, "; there may be more above the last")
			}
			fmt.Fprintln(e.stdout)
		}
		return nil
	}
	out := struct {
		Root  forks.Hash   `json:"root"`
		Block forks.Hash   `json:"block"`
		Pairs [][2]*string `json:"pairs"` // a null value: absent
		More  bool         `json:"more"`
	}{root, s.Block, make([][2]*string, len(a.Pairs)), a.More}
	for i, p := range a.Pairs {
		key := hex.EncodeToString(p.Key[:])
		out.Pairs[i][0] = &key
		if p.Value != nil {
			value := hex.EncodeToString(p.Value)
			out.Pairs[i][1] = &value
		}
	}
	return json.NewEncoder(e.stdout).Encode(out)
}

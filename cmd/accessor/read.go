package main

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"iter"
	"strings"

	"github.com/spf13/cobra"

	"accessor/checkpoint"
	"accessor/forks"
	"accessor/jam"
	"accessor/state"
)

// about says which block an answer is about.
type about struct {
	Block forks.Hash `json:"block"`
	Slot  forks.Slot `json:"slot"`
	Root  forks.Hash `json:"root"`
}

func aboutBlock(b forks.Block) about { return about{Block: b.Hash, Slot: b.Slot, Root: b.Root} }

func (a about) String() string {
	return fmt.Sprintf("block %s, slot %d, root %s", a.Block, a.Slot, a.Root)
}

// parseKey reads a key in hex or by the name of a JAM state item.
func parseKey(text string) ([]byte, error) {
	key, err := jam.ParseKey(text)
	if err != nil {
		return nil, usageError("%v (accessor ls --names lists them)", err)
	}
	return key, nil
}

// checkKey refuses a key that no state of the store can have.
func checkKey(c state.Commitment, key []byte) error {
	if size := c.KeySize(); size > 0 && len(key) != size {
		return usageError("key %x has %d bytes, this store's keys have %d", key, len(key), size)
	}
	return nil
}

// keyText shows a key, with its item's name where it has one.
func keyText(key []byte) string {
	if name, ok := jam.ItemName(key); ok {
		return fmt.Sprintf("%x (%s)", key, name)
	}
	return hex.EncodeToString(key)
}

// stateView is the state at a block: a *state.View of a store that is this
// process's, or a *state.BesideView of one that another process owns.
type stateView interface {
	Block() forks.Block
	Get(key []byte) (value []byte, present bool, err error)
	All(from, to []byte) iter.Seq2[state.Pair, error]
	Close()
}

var _, _ stateView = (*state.View)(nil), (*state.BesideView)(nil)

// viewAt opens the state that --at names.
func viewAt(cmd *cobra.Command, acc *state.Accessor, at string) (*state.View, error) {
	b, err := acc.Resolve(at)
	if err != nil {
		return nil, err
	}
	return acc.View(cmd.Context(), b.Hash)
}

func newGet(e *env) *cobra.Command {
	var data, at string
	var asJSON, raw bool
	cmd := &cobra.Command{
		Use:   "get --data DIR [--at BLOCK] KEY",
		Short: "Print the value of a key at a block",
		Long: `Prints the value of a key at a block, in hex, and on standard error which block
that is. A key that the state doesn't have is said to be absent, exit status 1. Where
another process owns the store, it is read beside that one.`,
		Example: `  accessor get --data /tmp/chain --at 42 entropy
  accessor get --data /tmp/chain --at 0x2bf11dc5 0b000000000000000000000000000000000000000000000000000000000000`,
		Args: arguments(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if asJSON && raw {
				return usageError("use --json or --raw, not both")
			}
			key, err := parseKey(args[0])
			if err != nil {
				return err
			}
			r, err := e.openReader(data)
			if err != nil {
				return err
			}
			defer r.done()
			if err := checkKey(r.commitment, key); err != nil {
				return err
			}
			v, err := r.view(cmd, at)
			if err != nil {
				return err
			}
			defer v.Close()
			value, present, err := v.Get(key)
			if err != nil {
				return err
			}
			return e.printValue(key, value, present, aboutBlock(v.Block()), asJSON, raw)
		},
	}
	f := cmd.Flags()
	f.StringVar(&data, "data", "", "directory of the store")
	f.StringVar(&at, "at", "head", "block (see accessor --help)")
	f.BoolVar(&asJSON, "json", false, "print one JSON object; an absent key has a null value")
	f.BoolVar(&raw, "raw", false, "print the value's bytes as they are")
	return cmd
}

func (e *env) printValue(key, value []byte, present bool, where about, asJSON, raw bool) error {
	switch {
	case asJSON:
		out := struct {
			Key   string  `json:"key"`
			Value *string `json:"value"`
			about
		}{Key: hex.EncodeToString(key), about: where}
		if present {
			text := hex.EncodeToString(value)
			out.Value = &text
		}
		if err := json.NewEncoder(e.stdout).Encode(out); err != nil {
			return err
		}
	case !present:
		fmt.Fprintf(e.stderr, "absent: key %s at %s\n", keyText(key), where)
	case raw:
		if _, err := e.stdout.Write(value); err != nil {
			return err
		}
	default:
		fmt.Fprintf(e.stderr, "at %s\n", where)
		fmt.Fprintf(e.stdout, "%x\n", value)
	}
	if !present {
		return &exitError{status: exitDiffers}
	}
	return nil
}

func newList(e *env) *cobra.Command {
	var data, at, prefix string
	var asJSON, names bool
	cmd := &cobra.Command{
		Use:   "ls --data DIR [--at BLOCK] [--prefix P]",
		Short: "List the keys of the state at a block, with their values",
		Long: `Lists the keys of the state at a block in order, each with its size, the beginning
of its value, and its name where it is a JAM state item; with --json an object a
line, whole values in hex. The block is named on standard error. Where another
process owns the store, it is read beside that one.`,
		Example: `  accessor ls --data /tmp/chain --at finalized
  accessor ls --data /tmp/chain --prefix ff`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if names {
				for _, name := range jam.ItemNames() {
					fmt.Fprintln(e.stdout, name)
				}
				return nil
			}
			from, err := hex.DecodeString(strings.TrimPrefix(prefix, "0x"))
			if err != nil {
				return usageError("--prefix %q is not hex", prefix)
			}
			r, err := e.openReader(data)
			if err != nil {
				return err
			}
			defer r.done()
			v, err := r.view(cmd, at)
			if err != nil {
				return err
			}
			defer v.Close()
			return e.list(v, from, asJSON)
		},
	}
	f := cmd.Flags()
	f.StringVar(&data, "data", "", "directory of the store")
	f.StringVar(&at, "at", "head", "block (see accessor --help)")
	f.StringVar(&prefix, "prefix", "", "only keys that start with these bytes, in hex")
	f.BoolVar(&asJSON, "json", false, "print one JSON object per key")
	f.BoolVar(&names, "names", false, "list the names of JAM state items instead")
	return cmd
}

func (e *env) list(v stateView, prefix []byte, asJSON bool) error {
	where := aboutBlock(v.Block())
	if !asJSON {
		fmt.Fprintf(e.stderr, "at %s\n", where)
	}
	encoder := json.NewEncoder(e.stdout)
	for p, err := range v.All(prefix, checkpoint.PrefixEnd(prefix)) {
		if err != nil {
			return err
		}
		if asJSON {
			err = encoder.Encode(struct {
				Key   string `json:"key"`
				Value string `json:"value"`
				about
			}{hex.EncodeToString(p.Key), hex.EncodeToString(p.Value), where})
		} else {
			_, err = fmt.Fprintf(e.stdout, "%x %8d  %s%s\n", p.Key, len(p.Value), preview(p.Value), itemNote(p.Key))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func itemNote(key []byte) string {
	if name, ok := jam.ItemName(key); ok {
		return "  " + name
	}
	return ""
}

// preview shows the beginning of a value in a column.
func preview(v []byte) string {
	const most = 16
	if len(v) <= most {
		return fmt.Sprintf("%-33x", v)
	}
	return fmt.Sprintf("%x…", v[:most])
}

func newDiff(e *env) *cobra.Command {
	var data string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "diff --data DIR A B",
		Short: "Print the keys that differ between the states at two blocks",
		Long: `Prints the keys that differ between the states at two blocks, of one branch or of
two, and their common ancestor: - a key that only A has, + one that only B has,
~ one whose value differs. Exit status 0, whether there are any or not.`,
		Example: "  accessor diff --data /tmp/chain 40 head",
		Args:    arguments(cobra.ExactArgs(2)),
		RunE: func(cmd *cobra.Command, args []string) error {
			acc, done, err := e.openStore(data)
			if err != nil {
				return err
			}
			defer done()
			from, err := acc.Resolve(args[0])
			if err != nil {
				return err
			}
			to, err := acc.Resolve(args[1])
			if err != nil {
				return err
			}
			diff, common, err := acc.Diff(cmd.Context(), from.Hash, to.Hash)
			if err != nil {
				return err
			}
			if asJSON {
				return e.printDiffJSON(from, to, common, diff)
			}
			e.printDiff(from, to, common, diff)
			return nil
		},
	}
	cmd.Flags().StringVar(&data, "data", "", "directory of the store")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object, whole values in hex")
	return cmd
}

func (e *env) printDiff(from, to, common forks.Block, diff []state.Difference) {
	fmt.Fprintf(e.stdout, "A %s\nB %s\ncommon ancestor %s\n", aboutBlock(from), aboutBlock(to), aboutBlock(common))
	for _, d := range diff {
		switch {
		case d.B == nil:
			fmt.Fprintf(e.stdout, "- %s  %s\n", keyText(d.Key), strings.TrimSpace(preview(d.A)))
		case d.A == nil:
			fmt.Fprintf(e.stdout, "+ %s  %s\n", keyText(d.Key), strings.TrimSpace(preview(d.B)))
		default:
			fmt.Fprintf(e.stdout, "~ %s  %s → %s\n", keyText(d.Key), strings.TrimSpace(preview(d.A)), strings.TrimSpace(preview(d.B)))
		}
	}
	fmt.Fprintf(e.stdout, "%d keys differ\n", len(diff))
}

func (e *env) printDiffJSON(from, to, common forks.Block, diff []state.Difference) error {
	type entry struct {
		Key string  `json:"key"`
		A   *string `json:"a"`
		B   *string `json:"b"`
	}
	text := func(v []byte) *string {
		if v == nil {
			return nil
		}
		s := hex.EncodeToString(v)
		return &s
	}
	out := struct {
		A      about   `json:"a"`
		B      about   `json:"b"`
		Common about   `json:"common_ancestor"`
		Keys   []entry `json:"keys"`
	}{aboutBlock(from), aboutBlock(to), aboutBlock(common), make([]entry, len(diff))}
	for i, d := range diff {
		out.Keys[i] = entry{hex.EncodeToString(d.Key), text(d.A), text(d.B)}
	}
	return json.NewEncoder(e.stdout).Encode(out)
}

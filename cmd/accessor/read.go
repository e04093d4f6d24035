package main

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"accessor/forks"
	"accessor/jam"
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

// keyText shows a key, with its item's name where it has one.
func keyText(key []byte) string {
	if name, ok := jam.ItemName(key); ok {
		return fmt.Sprintf("%x (%s)", key, name)
	}
	return hex.EncodeToString(key)
}

func newGet(e *env) *cobra.Command {
	var t *target
	var at string
	var asJSON, raw bool
	cmd := &cobra.Command{
		Use:   "get [--at BLOCK] KEY",
		Short: "Print the value of a key at a block",
		Long: `Prints the value of a key at a block, in hex, and on standard error which block
that is. A key that the state doesn't have is said to be absent, exit status 1. Where
another process owns the store that --data names, it is read beside that one.`,
		Example: `  accessor get --at finalized entropy
  accessor get --data /tmp/chain --at 42 entropy
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
			return t.read(cmd, at, func(v stateView) error {
				value, present, err := v.get(key)
				if err != nil {
					return err
				}
				where, err := v.about()
				if err != nil {
					return err
				}
				return e.printValue(key, value, present, where, asJSON, raw)
			})
		},
	}
	t = e.targetFlags(cmd)
	cmd.ValidArgsFunction = completeItems
	f := cmd.Flags()
	t.blockFlag(cmd, &at, "at", "head", "block (see accessor --help)")
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
	var t *target
	var at, prefix string
	var asJSON, names bool
	cmd := &cobra.Command{
		Use:   "ls [--at BLOCK] [--prefix P]",
		Short: "List the keys of the state at a block, with their values",
		Long: `Lists the keys of the state at a block in order, each with its size, the beginning
of its value, and its name where it is a JAM state item; with --json an object a
line, whole values in hex. The block is named on standard error. Where another
process owns the store that --data names, it is read beside that one.`,
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
			return t.read(cmd, at, func(v stateView) error { return e.list(v, from, asJSON) })
		},
	}
	t = e.targetFlags(cmd)
	f := cmd.Flags()
	t.blockFlag(cmd, &at, "at", "head", "block (see accessor --help)")
	f.StringVar(&prefix, "prefix", "", "only keys that start with these bytes, in hex")
	f.BoolVar(&asJSON, "json", false, "print one JSON object per key")
	f.BoolVar(&names, "names", false, "list the names of JAM state items instead")
	return cmd
}

func (e *env) list(v stateView, prefix []byte, asJSON bool) error {
	where, err := v.about()
	if err != nil {
		return err
	}
	if !asJSON {
		fmt.Fprintf(e.stderr, "at %s\n", where)
	}
	encoder := json.NewEncoder(e.stdout)
	for p, err := range v.scan(prefix) {
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

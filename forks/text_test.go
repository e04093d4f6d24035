package forks_test

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"accessor/forks"

	"github.com/google/go-cmp/cmp"
)

var rewrite = flag.Bool("rewrite", false, "write what the commands of testdata/*.txt give into these files")

// TestText runs the stories in testdata/*.txt: lines of commands, a line
// "----", what they print, and an empty line. Lines with # in front are
// comments. "go test -run TestText -rewrite" writes the files anew, for a
// person to read the difference.
func TestText(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no stories: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := runStory(t, string(text))
			if *rewrite {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(string(text), got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", file, diff)
			}
		})
	}
}

// runStory gives the story with what its commands print now.
func runStory(t *testing.T, story string) string {
	t.Helper()
	var out, printed strings.Builder
	h := &harness{t: t}
	expected := false // the lines are old expectations
	end := func() {
		if expected {
			out.WriteString(printed.String())
		}
		printed.Reset()
		expected = false
	}
	for line := range strings.Lines(story) {
		command := strings.TrimSpace(line)
		switch {
		case command == "":
			end()
		case command == "----":
			expected = true
		case expected:
			continue
		case command[0] != '#':
			printed.WriteString(h.run(strings.Fields(command)))
		}
		out.WriteString(line)
	}
	end()
	return out.String()
}

// run does one command and gives what it prints.
func (h *harness) run(words []string) string {
	args, options := []string{}, map[string]string{}
	for _, word := range words[1:] {
		if key, value, ok := strings.Cut(word, "="); ok {
			options[key] = value
			continue
		}
		args = append(args, word)
	}
	arg := func(i int) string {
		if i >= len(args) {
			h.t.Fatalf("%v: an argument is missing", words)
		}
		return args[i]
	}
	switch words[0] {
	case "anchor":
		h.Tree = forks.New(h.block(arg(0), options))
		return ""
	case "add":
		for _, each := range args {
			if err := h.Add(h.block(each, options)); err != nil {
				return "error: " + kind(err) + "\n"
			}
			options["parent"] = each // the next one goes under it
		}
		return ""
	case "finalize":
		lost, err := h.Finalize(hash(arg(0)))
		return answer("lost:", err, lost...)
	case "path":
		undo, apply, err := h.Path(hash(arg(0)), hash(arg(1)))
		if err != nil {
			return answer("", err)
		}
		return answer("undo:", nil, undo...) + answer("apply:", nil, apply...)
	case "common":
		b, err := h.CommonAncestor(hash(arg(0)), hash(arg(1)))
		return answer("common:", err, b)
	case "best":
		b, err := h.BestLeaf(hash(arg(0)))
		return answer("best:", err, b)
	case "leaves":
		return answer("leaves:", nil, h.Leaves()...)
	case "lost":
		return answer("lost:", nil, slices.DeleteFunc(slices.Collect(h.All()),
			func(b forks.Block) bool { return !h.Lost(b.Hash) })...)
	case "draw":
		keep := strings.Split(options["keep"], ",")
		return h.Draw(forks.DrawOptions{
			Label: name,
			Keep:  func(b forks.Block) bool { return slices.Contains(keep, name(b)) },
			Fold:  h.number(options["fold"]),
		})
	}
	h.t.Fatalf("no command %q", words[0])
	return ""
}

// block makes a block; slot= says the slot where the name doesn't start with it.
func (h *harness) block(name string, options map[string]string) forks.Block {
	h.t.Helper()
	if slot, ok := options["slot"]; ok {
		return forks.Block{Hash: hash(name), Parent: hash(options["parent"]), Slot: forks.Slot(h.number(slot))}
	}
	return block(h.t, name, options["parent"])
}

// number reads a number; none is 0.
func (h *harness) number(text string) int {
	h.t.Helper()
	if text == "" {
		return 0
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		h.t.Fatal(err)
	}
	return n
}

func answer(what string, err error, blocks ...forks.Block) string {
	if err != nil {
		return "error: " + kind(err) + "\n"
	}
	return strings.TrimRight(what+" "+names(blocks), " ") + "\n"
}

// kind gives the text of the sentinel that an error wraps: the names of blocks
// would only be hex digits.
func kind(err error) string {
	for _, sentinel := range []error{
		forks.ErrUnknown, forks.ErrOrphan, forks.ErrDuplicate, forks.ErrBadSlot, forks.ErrNotDescendant,
	} {
		if errors.Is(err, sentinel) {
			return sentinel.Error()
		}
	}
	return fmt.Sprintf("of no known kind: %v", err)
}

package main

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// screen shows one drawing after the other: on a terminal in the place of the one
// before, the last lines where it is too high; elsewhere below each other, with an
// empty line between, and only those that differ.
type screen struct {
	*env
	last string
}

func (s *screen) show(drawing string) error {
	if drawing == s.last {
		return nil
	}
	first := s.last == ""
	s.last = drawing
	var err error
	switch {
	case isTerminal(s.stdout):
		const home, below = "\x1b[H", "\x1b[J"
		_, err = fmt.Fprint(s.stdout, home+below+cut(drawing, s.height()-1))
	case first:
		_, err = fmt.Fprint(s.stdout, drawing)
	default:
		_, err = fmt.Fprint(s.stdout, "\n"+drawing)
	}
	return err
}

// height is how many lines the terminal has.
func (s *screen) height() int {
	if file, ok := fileOf(s.stdout); ok {
		if size, err := unix.IoctlGetWinsize(int(file.Fd()), unix.TIOCGWINSZ); err == nil && size.Row > 2 {
			return int(size.Row)
		}
	}
	return 24
}

// cut leaves the last lines of a drawing, where it has more: the newest blocks.
func cut(drawing string, most int) string {
	lines := strings.SplitAfter(strings.TrimSuffix(drawing, "\n"), "\n")
	if len(lines) <= most {
		return drawing
	}
	over := len(lines) - most + 1
	return fmt.Sprintf("┆ %d lines above\n", over) + strings.Join(lines[over:], "") + "\n"
}

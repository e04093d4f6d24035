package main

import (
	"fmt"
	"os"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Colours, as the terminal's palette has them.
const (
	bold   = "1"
	faint  = "2"
	red    = "31"
	green  = "32"
	yellow = "33"
	cyan   = "36"
)

// painter colours text for people; the zero value leaves it as it is.
type painter struct{ on bool }

// painter gives the one of standard output: colours only on a terminal that has them,
// and not where $NO_COLOR is set (no-color.org).
func (e *env) painter() painter {
	return painter{on: isTerminal(e.stdout) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"}
}

func (p painter) paint(colour, text string) string {
	if !p.on || text == "" || colour == "" {
		return text
	}
	return "\x1b[" + colour + "m" + text + "\x1b[0m"
}

// cell is a text in a table, and its colour; empty for none.
type cell struct{ text, colour string }

// table is rows of columns that stand below each other.
type table struct {
	head []string
	rows [][]cell
}

func newTable(head ...string) *table { return &table{head: head} }

// row adds a row: texts, numbers, and cells for those that have a colour.
func (t *table) row(values ...any) {
	row := make([]cell, len(values))
	for i, v := range values {
		c, ok := v.(cell)
		if !ok {
			c.text = fmt.Sprint(v)
		}
		c.text = strings.Map(printable, c.text)
		row[i] = c
	}
	t.rows = append(t.rows, row)
}

// printable replaces what would move a terminal's cursor, or worse: owners are what
// clients say.
func printable(r rune) rune {
	if unicode.IsPrint(r) {
		return r
	}
	return utf8.RuneError
}

// print writes the table to standard output; columns of numbers end below each other.
func (e *env) print(t *table) {
	p := e.painter()
	widths := make([]int, len(t.head))
	number := make([]bool, len(t.head))
	for i, name := range t.head {
		widths[i], number[i] = utf8.RuneCountInString(name), true
		for _, row := range t.rows {
			widths[i] = max(widths[i], utf8.RuneCountInString(row[i].text))
			number[i] = number[i] && strings.Trim(row[i].text, "0123456789") == ""
		}
	}
	line := func(row []cell) {
		var b strings.Builder
		for i, c := range row {
			blank := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(c.text))
			switch {
			case number[i]:
				b.WriteString(blank + p.paint(c.colour, c.text))
			case i == len(row)-1:
				b.WriteString(p.paint(c.colour, c.text))
			default:
				b.WriteString(p.paint(c.colour, c.text) + blank)
			}
			if i < len(row)-1 {
				b.WriteString("  ")
			}
		}
		fmt.Fprintln(e.stdout, strings.TrimRight(b.String(), " "))
	}
	head := make([]cell, len(t.head))
	for i, name := range t.head {
		head[i] = cell{name, bold}
	}
	line(head)
	for _, row := range t.rows {
		line(row)
	}
}

// span shows milliseconds as people read them.
func span(ms int64) string {
	d := time.Duration(ms) * time.Millisecond
	switch {
	case d < time.Second:
		return d.String()
	case d < time.Minute:
		return d.Round(100 * time.Millisecond).String()
	}
	return d.Round(time.Second).String()
}

// bytesText shows a size as people read it.
func bytesText(n int64) string {
	const units = "kMGT"
	if n < 1000 {
		return fmt.Sprintf("%d B", n)
	}
	v, unit := float64(n)/1000, 0
	for v >= 1000 && unit < len(units)-1 {
		v, unit = v/1000, unit+1
	}
	return fmt.Sprintf("%.3g %cB", v, units[unit])
}

package config

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// maxFile is the most bytes of a configuration file.
const maxFile = 1 << 20

// readFile reads a file, as a tree of values and with the line of each key.
func readFile(path string) (values map[string]any, lines map[string]int, err error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrFile, err)
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, maxFile+1))
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrFile, err)
	}
	if len(text) > maxFile {
		return nil, nil, fmt.Errorf("%w: %s is larger than %d bytes", ErrFile, path, maxFile)
	}
	return parseFile(path, text)
}

func parseFile(path string, text []byte) (values map[string]any, lines map[string]int, err error) {
	values = make(map[string]any)
	if err := toml.Unmarshal(text, &values); err != nil {
		var at *toml.DecodeError
		if errors.As(err, &at) {
			row, column := at.Position()
			return nil, nil, fmt.Errorf("%s:%d:%d: %w: %w", path, row, column, ErrInvalid, err)
		}
		return nil, nil, fmt.Errorf("%s: %w: %w", path, ErrInvalid, err)
	}
	return values, findLines(text), nil
}

// findLines gives the line of each key of a file that was parsed already: of a
// list's tables as list[0].key.
func findLines(text []byte) map[string]int {
	lines := make(map[string]int)
	counts := make(map[string]int) // tables of a list so far
	var p unstable.Parser
	p.Reset(text)
	table := ""
	for p.NextExpression() {
		e := p.Expression()
		switch e.Kind {
		case unstable.Table:
			table, _ = place(&p, "", e.Key(), counts, lines)
		case unstable.ArrayTable:
			key, line := place(&p, "", e.Key(), counts, lines)
			table = key + "[" + strconv.Itoa(counts[key]) + "]"
			counts[key]++
			lines[table] = line
		case unstable.KeyValue:
			place(&p, table, e.Key(), counts, lines)
		}
	}
	return lines
}

// place notes where a dotted key is, below a table, and gives it in full.
func place(p *unstable.Parser, table string, parts unstable.Iterator, counts, lines map[string]int) (key string, line int) {
	key = table
	for parts.Next() {
		// A name below a list's tables means the last of them.
		if n := counts[key]; n > 0 {
			key += "[" + strconv.Itoa(n-1) + "]"
		}
		node := parts.Node()
		key = join(key, string(node.Data))
		line = p.Shape(node.Raw).Start.Line
		if _, ok := lines[key]; !ok {
			lines[key] = line
		}
	}
	return key, line
}

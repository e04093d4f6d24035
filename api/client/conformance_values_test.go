package client_test

import (
	"bufio"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// recording is what scenarios take from chain.jsonl.
type recording struct {
	path   string
	anchor map[string]any
	blocks []map[string]any
}

func readRecording(t *testing.T, path string) *recording {
	t.Helper()
	abs, err := filepath.Abs(path)
	if err != nil {
		t.Fatal(err)
	}
	file, err := os.Open(abs)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	rec := &recording{path: abs}
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var line map[string]any
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			t.Fatal(err)
		}
		switch line["type"] {
		case "anchor":
			rec.anchor = map[string]any{"hash": line["hash"], "root": line["state_root"]}
		case "block":
			rec.blocks = append(rec.blocks, line)
		}
	}
	if lines.Err() != nil || rec.anchor == nil {
		t.Fatalf("%s: anchor %v, %v", path, rec.anchor, lines.Err())
	}
	return rec
}

// generic gives a value as JSON has it.
func generic(v any) (out any, err error) {
	text, err := json.Marshal(v)
	if err == nil {
		err = json.Unmarshal(text, &out)
	}
	return out, err
}

func asJSON(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// form is the name and the argument of {"$name": argument}.
func form(v any) (name string, arg any) {
	if m, ok := v.(map[string]any); ok && len(m) == 1 {
		for name, arg := range m {
			if strings.HasPrefix(name, "$") {
				return name, arg
			}
		}
	}
	return "", nil
}

// expand replaces the forms of values. Those that only patterns have stay.
func (r *runner) expand(v any, vars map[string]any) (any, error) {
	name, arg := form(v)
	if name == "$var" {
		value, ok := vars[arg.(string)]
		if !ok {
			return nil, fmt.Errorf("no variable %v", arg)
		}
		return value, nil
	}
	switch v := v.(type) {
	case map[string]any:
		out := map[string]any{}
		for key, value := range v {
			var err error
			if out[key], err = r.expand(value, vars); err != nil {
				return nil, err
			}
		}
		if name == "" {
			return out, nil
		}
		return r.value(name, out[name], out)
	case []any:
		out := make([]any, len(v))
		for i := range v {
			var err error
			if out[i], err = r.expand(v[i], vars); err != nil {
				return nil, err
			}
		}
		return out, nil
	}
	return v, nil
}

// value gives what a form stands for; itself where it is a pattern's.
func (r *runner) value(name string, arg any, itself any) (any, error) {
	switch name {
	case "$hash":
		return strings.Repeat(arg.(string), 32), nil
	case "$recorded", "$block":
		i := int(arg.(float64))
		if i < 1 || i > len(r.recorded.blocks) {
			return nil, fmt.Errorf("no recorded block %d", i)
		}
		if name == "$block" {
			return r.recorded.blocks[i-1]["hash"], nil
		}
		return r.recorded.blocks[i-1], nil
	case "$anchor":
		return r.recorded.anchor[arg.(string)], nil
	case "$keys", "$values", "$pairs", "$bytes":
		return made(name, arg.(map[string]any)), nil
	case "$repeat":
		m := arg.(map[string]any)
		return slices.Repeat([]any{m["of"]}, int(m["count"].(float64))), nil
	case "$concat":
		all := []any{}
		for _, list := range arg.([]any) {
			all = append(all, list.([]any)...)
		}
		return all, nil
	case "$reversed":
		list := slices.Clone(arg.([]any))
		slices.Reverse(list)
		return list, nil
	case "$flip", "$cut":
		m := arg.(map[string]any)
		b, err := hex.DecodeString(m["of"].(string))
		if err != nil {
			return nil, err
		}
		if name == "$cut" {
			b = b[:len(b)-int(m["bytes"].(float64))]
		} else {
			at := int(m["at"].(float64))
			if at < 0 {
				at += len(b)
			}
			b[at] ^= 1
		}
		return hex.EncodeToString(b), nil
	case "$any", "$len", "$each", "$some", "$not", "$min":
		return itself, nil
	}
	return nil, fmt.Errorf("no form %s", name)
}

// made gives keys, values, pairs of both, or the first value.
func made(name string, arg map[string]any) any {
	number := func(name string) int {
		n, _ := arg[name].(float64)
		return int(n)
	}
	prefix, _ := arg["prefix"].(string)
	key := func(i int) string {
		var b [31]byte
		_, _ = hex.Decode(b[:], []byte(prefix))
		binary.BigEndian.PutUint32(b[27:], uint32(i))
		return hex.EncodeToString(b[:])
	}
	value := func(i int) string {
		b := make([]byte, number("size"))
		for j := range b {
			b[j] = byte(number("seed") + 31*i + 7*j)
		}
		return hex.EncodeToString(b)
	}
	if name == "$bytes" {
		return value(0)
	}
	list := []any{}
	for i := number("from"); i < number("from")+number("count"); i++ {
		switch name {
		case "$keys":
			list = append(list, key(i))
		case "$values":
			list = append(list, value(i))
		default:
			list = append(list, []any{key(i), value(i)})
		}
	}
	return list
}

// part finds a part by its path.
func part(v any, path string) (any, error) {
	if path == "" {
		return v, nil
	}
	for name := range strings.SplitSeq(path, ".") {
		switch in := v.(type) {
		case map[string]any:
			v = in[name]
		case []any:
			i, err := strconv.Atoi(name)
			if err != nil || i < 0 || i >= len(in) {
				return nil, fmt.Errorf("no part %s of %s", name, path)
			}
			v = in[i]
		default:
			return nil, fmt.Errorf("no part %s of %s", name, path)
		}
	}
	return v, nil
}

// match compares a result with a pattern.
func (r *runner) match(got, pattern any, vars map[string]any) error {
	pattern, err := r.expand(pattern, vars)
	if err != nil {
		return err
	}
	return matches(got, pattern, "")
}

func matches(got, want any, at string) error {
	differ := func(what string) error {
		return fmt.Errorf("%s: got %.300s, want %s%.300s", at, asJSON(got), what, asJSON(want))
	}
	if name, arg := form(want); name != "" {
		list, isList := got.([]any)
		switch name {
		case "$any":
			if got == nil {
				return differ("")
			}
		case "$len":
			if !isList || float64(len(list)) != arg.(float64) {
				return fmt.Errorf("%s: got %d members, want %v", at, len(list), arg)
			}
		case "$each", "$some":
			return listMatches(list, isList, name == "$some", arg, at)
		case "$not":
			if matches(got, arg, at) == nil {
				return differ("")
			}
		case "$min":
			if n, ok := got.(float64); !ok || n < arg.(float64) {
				return differ("")
			}
		default:
			return fmt.Errorf("no pattern %s", name)
		}
		return nil
	}
	switch want := want.(type) {
	case map[string]any:
		m, ok := got.(map[string]any)
		if !ok {
			return differ("")
		}
		for name, value := range want {
			if err := matches(m[name], value, at+"."+name); err != nil {
				return err
			}
		}
	case []any:
		list, ok := got.([]any)
		if !ok || len(list) != len(want) {
			return differ(fmt.Sprintf("%d of %d: ", len(list), len(want)))
		}
		for i := range want {
			if err := matches(list[i], want[i], at+"."+strconv.Itoa(i)); err != nil {
				return err
			}
		}
	default:
		if !reflect.DeepEqual(got, want) {
			return differ("")
		}
	}
	return nil
}

func listMatches(list []any, isList, some bool, pattern any, at string) error {
	if !isList {
		return fmt.Errorf("%s: no list", at)
	}
	for i := range list {
		err := matches(list[i], pattern, at+"."+strconv.Itoa(i))
		if err == nil && some {
			return nil
		}
		if err != nil && !some {
			return err
		}
	}
	if some {
		return errors.New(at + ": no member is as it should be")
	}
	return nil
}

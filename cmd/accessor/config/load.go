package config

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/knadh/koanf/v2"
)

// Errors of Load. Match them with errors.Is.
var (
	// ErrFile: the file can't be read.
	ErrFile = errors.New("configuration file")
	// ErrInvalid: something in the configuration is wrong; the text lists all.
	ErrInvalid = errors.New("invalid configuration")
)

// EnvPrefix begins the names of variables that set something: ACCESSOR_DATA,
// ACCESSOR_LOG_LEVEL.
const EnvPrefix = "ACCESSOR_"

// Variables that are no settings of a server's: by them commands that ask one over TCP
// identify themselves.
const (
	EnvTokenKID    = EnvPrefix + "TOKEN_KID"
	EnvTokenSecret = EnvPrefix + "TOKEN_SECRET_FILE"
)

// Input is what a configuration comes from.
type Input struct {
	// File is the path of a TOML file; empty for ACCESSOR_CONFIG's, or none.
	File string
	// Environ are variables as NAME=VALUE.
	Environ []string
	// Flags are the flags that were given, by the key of what they set. A list of
	// texts sets sockets by their paths, tcp by addresses, and lists of texts.
	Flags map[string]Flag
}

// Flag is a flag that was given.
type Flag struct {
	Name  string // without dashes
	Value any    // string or []string
}

// Loaded is a configuration with the source of each setting.
type Loaded struct {
	Config
	// File is the file that it was read from; empty for none.
	File string
	// Warnings are what an operator should look at.
	Warnings []string

	given   map[string]bool   // keys that somebody set
	sources map[string]string // where keys, and tables, are
}

// fromDefault is the source of what nobody set.
const fromDefault = "default"

// Source says where a setting comes from: default, FILE:LINE, $VARIABLE or --flag.
func (l *Loaded) Source(key string) string {
	if !l.given[key] {
		return fromDefault
	}
	return l.place(key)
}

// Given says whether somebody set a setting, or one of a table.
func (l *Loaded) Given(key string) bool { return l.given[key] }

// place is where a setting is, or else the table in which it would be.
func (l *Loaded) place(key string) string {
	for k := key; k != ""; {
		if s, ok := l.sources[k]; ok {
			return s
		}
		k = k[:max(strings.LastIndexAny(k, ".["), 0)]
	}
	return fromDefault
}

// loader puts a configuration together.
type loader struct {
	*Loaded
	problems []problem
}

type problem struct{ key, source, text string }

func (l *loader) wrong(key, format string, args ...any) {
	l.problems = append(l.problems, problem{key, l.place(key), fmt.Sprintf(format, args...)})
}

// layer is a koanf.Provider of values at hand.
type layer map[string]any

func (v layer) Read() (map[string]any, error) { return v, nil }

// ReadBytes is for providers of encoded values.
func (v layer) ReadBytes() ([]byte, error) { return nil, errors.ErrUnsupported }

// Load puts a configuration together and checks all of it. Errors: ErrFile,
// ErrInvalid with all that is wrong.
func Load(in Input) (*Loaded, error) {
	env := environment(in.Environ)
	l := &loader{Loaded: &Loaded{
		Config: Default(env["XDG_RUNTIME_DIR"]), File: cmp.Or(in.File, env[EnvPrefix+"CONFIG"]),
		given: make(map[string]bool), sources: make(map[string]string),
	}}
	k := koanf.NewWithConf(koanf.Conf{Delim: "\x00"}) // names may have dots in them
	if l.File != "" {
		values, lines, err := readFile(l.File)
		if err != nil {
			return nil, err
		}
		if err := k.Load(layer(values), nil); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrFile, err)
		}
		for key, line := range lines {
			l.sources[key] = fmt.Sprintf("%s:%d", l.File, line)
		}
	}
	set := func(key, source string, value any) error {
		delete(l.sources, key)
		maps.DeleteFunc(l.sources, func(k, _ string) bool { return strings.HasPrefix(k, key+"[") })
		l.sources[key] = source
		return k.Load(layer(nest(key, value)), nil)
	}
	if err := l.loadEnv(env, set); err != nil {
		return nil, err
	}
	for _, key := range slices.Sorted(maps.Keys(in.Flags)) {
		f := in.Flags[key]
		if err := set(key, "--"+f.Name, tables(key, f.Value)); err != nil {
			return nil, err
		}
	}
	l.decodeTable("", reflect.ValueOf(&l.Config).Elem(), k.Raw())
	l.check()
	return l.Loaded, l.err()
}

// nest makes a.b = v a tree.
func nest(key string, value any) map[string]any {
	name, rest, below := strings.Cut(key, ".")
	if below {
		value = nest(rest, value)
	}
	return map[string]any{name: value}
}

// tables makes the tables of a list from the one text that each of them needs, and
// what a file has in other lists.
func tables(key string, value any) any {
	list, ok := value.([]string)
	if !ok {
		return value
	}
	name := map[string]string{"sockets": "path", "tcp": "address"}[key]
	out := make([]any, 0, len(list))
	for i, text := range list {
		if name == "" { // a list of texts
			out = append(out, text)
			continue
		}
		table := map[string]any{name: text}
		if len(list) > 1 { // each then needs a name
			table["name"] = fmt.Sprintf("%s-%d", key, i+1)
		}
		out = append(out, table)
	}
	return out
}

func (l *loader) err() error {
	if len(l.problems) == 0 {
		return nil
	}
	var b strings.Builder
	for _, p := range l.problems {
		b.WriteString("\n  ")
		if p.source != fromDefault {
			b.WriteString(p.source + ": ")
		}
		if p.key != "" {
			b.WriteString(clip(p.key) + ": ")
		}
		b.WriteString(p.text)
	}
	return fmt.Errorf("%w:%s", ErrInvalid, b.String())
}

package config

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// WriteTOML writes the configuration as a file that Load takes, with what each
// setting means before it and where its value comes from beside it.
func (l *Loaded) WriteTOML(w io.Writer) error {
	p := &printer{Loaded: l}
	p.settings("", reflect.ValueOf(&l.Config).Elem())
	_, err := io.WriteString(w, p.b.String())
	return err
}

// printer writes TOML.
type printer struct {
	*Loaded
	b strings.Builder
}

// settings writes a table's own settings, then the tables below it.
func (p *printer) settings(key string, v reflect.Value) {
	var below []field
	for _, f := range fields(v) {
		// A list without tables can only be written where no table has begun.
		if f.isTable() || f.isTables() && f.at.Len() > 0 || f.at.Kind() == reflect.Map {
			below = append(below, f)
			continue
		}
		p.setting(join(key, f.name), f)
	}
	for _, f := range below {
		at := join(key, f.name)
		p.b.WriteString("\n")
		if f.doc != "" {
			p.comment(f.doc)
		}
		switch {
		case f.isTable():
			fmt.Fprintf(&p.b, "[%s]\n", at)
			p.settings(at, f.at)
		case f.at.Kind() == reflect.Map:
			fmt.Fprintf(&p.b, "[%s]\n", at)
			for _, name := range slices.Sorted(maps.Keys(p.Items)) {
				fmt.Fprintf(&p.b, "%s = %s # %s\n", name, tomlValue(p.Items[name]), p.source(join(at, name)))
			}
		default:
			for i := range f.at.Len() {
				fmt.Fprintf(&p.b, "[[%s]]\n", at)
				p.settings(fmt.Sprintf("%s[%d]", at, i), f.at.Index(i))
			}
		}
	}
}

func (p *printer) setting(key string, f field) {
	p.comment(f.doc)
	value := "[]"
	if !f.isTables() {
		value = tomlValue(f.at.Interface())
	}
	fmt.Fprintf(&p.b, "%s = %s # %s\n", f.name, value, p.source(key))
}

// source is a comment's text: a name of a file may have anything in it.
func (p *printer) source(key string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == utf8.RuneError {
			return '?'
		}
		return r
	}, p.Source(key))
}

// comment writes a text as comments of readable length.
func (p *printer) comment(text string) {
	line := "#"
	for word := range strings.FieldsSeq(text) {
		if len(line)+1+len(word) > 100 {
			p.b.WriteString(line + "\n")
			line = "#"
		}
		line += " " + word
	}
	p.b.WriteString(line + "\n")
}

// tomlValue writes a value as TOML.
func tomlValue(v any) string {
	switch v := v.(type) {
	case string:
		return tomlString(v)
	case []string:
		list := make([]string, len(v))
		for i, s := range v {
			list[i] = tomlString(s)
		}
		return "[" + strings.Join(list, ", ") + "]"
	case Size:
		if digits := v.String(); strings.Trim(digits, "0123456789") == "" {
			return digits
		}
		return tomlString(v.String())
	case Duration:
		return tomlString(v.String())
	}
	return fmt.Sprint(v) // numbers, true and false
}

// tomlString writes a basic string. TOML has fewer escapes than Go.
func tomlString(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range strings.ToValidUTF8(s, "\uFFFD") {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r < ' ' || r == 0x7f:
			fmt.Fprintf(&b, `\u%04X`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// Effective is the configuration as operators see it as JSON.
type Effective struct {
	Settings map[string]any    `json:"settings"`
	Sources  map[string]string `json:"sources"` // of each setting, by its key
}

// Effective gives the configuration with the source of each value.
func (l *Loaded) Effective() Effective {
	e := Effective{Sources: make(map[string]string)}
	e.Settings = l.tree("", reflect.ValueOf(&l.Config).Elem(), e.Sources)
	return e
}

func (l *Loaded) tree(key string, v reflect.Value, sources map[string]string) map[string]any {
	out := make(map[string]any)
	for _, f := range fields(v) {
		at := join(key, f.name)
		switch {
		case f.isTable():
			out[f.name] = l.tree(at, f.at, sources)
		case f.isTables():
			list := make([]any, f.at.Len())
			for i := range list {
				list[i] = l.tree(at+"["+strconv.Itoa(i)+"]", f.at.Index(i), sources)
			}
			out[f.name] = list
			if len(list) == 0 {
				sources[at] = l.Source(at)
			}
		case f.at.Kind() == reflect.Map:
			out[f.name] = f.at.Interface()
			for name := range l.Items {
				sources[join(at, name)] = l.Source(join(at, name))
			}
		default:
			out[f.name] = f.at.Interface()
			sources[at] = l.Source(at)
		}
	}
	return out
}

// MarshalJSON writes a duration as the file has it.
func (d Duration) MarshalJSON() ([]byte, error) { return json.Marshal(d.String()) }

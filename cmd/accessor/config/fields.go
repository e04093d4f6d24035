package config

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"
)

// field is a setting, or a table of settings, of a struct.
type field struct {
	name, doc string
	at        reflect.Value
}

// fields gives the settings of a struct, in its order.
func fields(v reflect.Value) []field {
	t := v.Type()
	list := make([]field, 0, t.NumField())
	for i := range t.NumField() {
		list = append(list, field{name: t.Field(i).Tag.Get("key"), doc: t.Field(i).Tag.Get("doc"), at: v.Field(i)})
	}
	return list
}

// isTable says whether the setting is a struct with settings below it.
func (f *field) isTable() bool { return f.at.Kind() == reflect.Struct }

// isTables says whether it is a list of such.
func (f *field) isTables() bool {
	return f.at.Kind() == reflect.Slice && f.at.Type().Elem().Kind() == reflect.Struct
}

// join puts a name below a key.
func join(key, name string) string {
	if key == "" {
		return name
	}
	return key + "." + name
}

// decode sets a value from what a file has, or a variable or flag as text, and
// notes what is wrong.
func (l *loader) decode(key string, into reflect.Value, raw any) {
	if err := l.decodeValue(key, into, raw); err != nil {
		l.wrong(key, "%v", err)
	}
}

func (l *loader) decodeValue(key string, into reflect.Value, raw any) (err error) {
	switch at := into.Addr().Interface().(type) {
	case *string:
		text, ok := raw.(string)
		if !ok {
			return want("a text in quotes", raw)
		}
		*at = text
	case *bool:
		*at, err = decodeBool(raw)
	case *int:
		*at, err = decodeInt(raw)
	case *Size:
		*at, err = decodeSize(raw)
	case *Duration:
		text, ok := raw.(string)
		if !ok {
			return want(`a time in quotes, such as "5s"`, raw)
		}
		*at, err = parseDuration(text)
	case *[]string:
		*at, err = decodeList(raw)
	case *map[string][]string:
		return l.decodeLists(key, *at, raw)
	case *[]Socket:
		return decodeTables(l, key, at, raw, newSocket)
	case *[]TCP:
		return decodeTables(l, key, at, raw, newTCP)
	case *[]Client:
		return decodeTables(l, key, at, raw, newClient)
	default:
		if into.Kind() != reflect.Struct {
			panic("config: a setting of type " + into.Type().String())
		}
		table, ok := raw.(map[string]any)
		if !ok {
			return want("a table", raw)
		}
		l.decodeTable(key, into, table)
	}
	return err
}

func want(what string, raw any) error {
	return fmt.Errorf("want %s, got %s", what, clip(fmt.Sprintf("%#v", raw)))
}

func decodeBool(raw any) (bool, error) {
	switch v := raw.(type) {
	case bool:
		return v, nil
	case string:
		if v == "true" || v == "false" {
			return v == "true", nil
		}
	}
	return false, want("true or false", raw)
}

func decodeInt(raw any) (int, error) {
	switch v := raw.(type) {
	case int64:
		return int(v), nil
	case string:
		if n, err := strconv.Atoi(v); err == nil {
			return n, nil
		}
	}
	return 0, want("a whole number", raw)
}

func decodeSize(raw any) (Size, error) {
	switch v := raw.(type) {
	case int64:
		return parseSize(strconv.FormatInt(v, 10))
	case string:
		return parseSize(v)
	}
	return 0, want(`bytes, such as "64MiB"`, raw)
}

// decodeList takes a list of texts or numbers; of a variable, with commas between.
func decodeList(raw any) ([]string, error) {
	switch v := raw.(type) {
	case string:
		list := []string{}
		for part := range strings.SplitSeq(v, ",") {
			if part = strings.TrimSpace(part); part != "" {
				list = append(list, part)
			}
		}
		return list, nil
	case []any:
		list := make([]string, 0, len(v))
		for _, e := range v {
			switch e := e.(type) {
			case string:
				list = append(list, e)
			case int64:
				list = append(list, strconv.FormatInt(e, 10))
			default:
				return nil, want("a list of texts", raw)
			}
		}
		return list, nil
	}
	return nil, want("a list of texts", raw)
}

// decodeLists takes a table of lists over the one that is there.
func (l *loader) decodeLists(key string, into map[string][]string, raw any) error {
	table, ok := raw.(map[string]any)
	if !ok {
		return want("a table of lists", raw)
	}
	for name, v := range table {
		l.given[join(key, name)] = true
		list, isList := v.([]any)
		if !isList {
			l.wrong(join(key, name), "%v", want("a list of texts", v))
			continue
		}
		var err error
		if into[name], err = decodeList(list); err != nil {
			l.wrong(join(key, name), "%v", err)
		}
	}
	return nil
}

// decodeTables takes a list of tables, each over what an empty one means.
func decodeTables[T any](l *loader, key string, into *[]T, raw any, empty func() T) error {
	list, ok := raw.([]any)
	if !ok {
		return want(fmt.Sprintf("tables [[%s]]", key), raw)
	}
	out := make([]T, 0, len(list))
	for i, e := range list {
		one := empty()
		at := fmt.Sprintf("%s[%d]", key, i)
		if table, ok := e.(map[string]any); ok {
			l.decodeTable(at, reflect.ValueOf(&one).Elem(), table)
		} else {
			l.wrong(at, "%v", want("a table", e))
		}
		out = append(out, one)
	}
	*into = out
	return nil
}

// decodeTable sets the settings of a struct that the table has, and refuses names
// that are none's.
func (l *loader) decodeTable(key string, into reflect.Value, table map[string]any) {
	var names []string
	for _, f := range fields(into) {
		names = append(names, f.name)
		if raw, ok := table[f.name]; ok {
			l.given[join(key, f.name)] = true
			l.decode(join(key, f.name), f.at, raw)
		}
	}
	for _, name := range unknown(table, names) {
		l.wrong(join(key, name), "no such setting%s", didYouMean(name, names))
	}
}

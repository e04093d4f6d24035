package config

import (
	"maps"
	"reflect"
	"slices"
	"strings"
)

// environment gives variables by name.
func environment(environ []string) map[string]string {
	env := make(map[string]string, len(environ))
	for _, v := range environ {
		if name, value, ok := strings.Cut(v, "="); ok {
			env[name] = value
		}
	}
	return env
}

// envKeys gives the key that each variable sets. Lists of tables have none but
// ACCESSOR_SOCKET and ACCESSOR_LISTEN, which set one by its path or address.
func envKeys() map[string]string {
	keys := map[string]string{EnvPrefix + "SOCKET": "sockets", EnvPrefix + "LISTEN": "tcp"}
	var walk func(key string, v reflect.Value)
	walk = func(key string, v reflect.Value) {
		for _, f := range fields(v) {
			at := join(key, f.name)
			switch {
			case f.isTable():
				walk(at, f.at)
			case f.isTables(), f.at.Kind() == reflect.Map:
			default:
				keys[EnvPrefix+strings.ToUpper(strings.ReplaceAll(at, ".", "_"))] = at
			}
		}
	}
	var c Config
	walk("", reflect.ValueOf(&c).Elem())
	return keys
}

// loadEnv takes the variables that set something. Others with the prefix are not
// refused: container platforms make some up from a service's name.
func (l *loader) loadEnv(env map[string]string, set func(key, source string, value any) error) error {
	keys := envKeys()
	for _, name := range slices.Sorted(maps.Keys(env)) {
		if !strings.HasPrefix(name, EnvPrefix) || name == EnvPrefix+"CONFIG" || name == EnvTokenKID || name == EnvTokenSecret {
			continue
		}
		key, ok := keys[name]
		if !ok {
			l.Warnings = append(l.Warnings, "$"+name+" sets nothing"+didYouMean(name, slices.Sorted(maps.Keys(keys))))
			continue
		}
		var value any = env[name]
		if key == "sockets" || key == "tcp" {
			value = tables(key, []string{env[name]})
		}
		if err := set(key, "$"+name, value); err != nil {
			return err
		}
	}
	return nil
}

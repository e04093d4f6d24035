package config

import (
	"maps"
	"reflect"
	"slices"
)

// reloadable are the settings that a server takes in while it runs.
var reloadable = []string{"log.level", "da.peers", "da.allow", "da.deny"}

// Reload gives the configuration of a server that runs with l once next has been read:
// that is l, with those settings of next that can be changed while it runs. later are the
// keys of the others that differ, tables of lists as one: they are taken at a restart.
func (l *Loaded) Reload(next *Loaded) (now *Loaded, later []string) {
	out := *l
	out.given, out.sources = maps.Clone(l.given), maps.Clone(l.sources)
	later = out.reload("", reflect.ValueOf(&out.Config).Elem(), reflect.ValueOf(&next.Config).Elem(), next)
	return &out, later
}

func (l *Loaded) reload(key string, into, from reflect.Value, next *Loaded) (later []string) {
	others := fields(from)
	for i, f := range fields(into) {
		at := join(key, f.name)
		switch {
		case f.isTable():
			later = append(later, l.reload(at, f.at, others[i].at, next)...)
		case slices.Contains(reloadable, at):
			f.at.Set(others[i].at)
			l.given[at], l.sources[at] = next.given[at], next.place(at)
		case !reflect.DeepEqual(f.at.Interface(), others[i].at.Interface()):
			later = append(later, at)
		}
	}
	return later
}

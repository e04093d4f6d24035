package trace

import (
	"bytes"
	"encoding/binary"
	"iter"
	"slices"
	"strings"

	"accessor/forks"
	"accessor/jam"
)

// tinyValidators is the number of validators of the chain spec tiny.
const tinyValidators = 6

// write is a key with its new value; a nil value deletes the key.
type write struct {
	key   string
	value []byte
}

// model is a state in memory, at one block.
type model struct {
	values map[string][]byte
	keys   []string // sorted
	spare  []string // room for the next keys
	size   int64    // sum of the values' sizes
}

// all yields the state in key order. The key is good until the next.
func (m *model) all() iter.Seq2[[]byte, []byte] {
	return func(yield func(key, value []byte) bool) {
		key := make([]byte, 0, jam.KeySize)
		for _, k := range m.keys {
			if key = append(key[:0], k...); !yield(key, m.values[k]) {
				return
			}
		}
	}
}

// apply makes writes, which are in key order, and gives those that take them back.
func (m *model) apply(writes []write) (undo []write) {
	undo = make([]write, len(writes))
	var changed []write // keys that come or go
	for i, w := range writes {
		old, had := m.values[w.key]
		undo[i] = write{key: w.key, value: old}
		m.size += int64(len(w.value) - len(old))
		if w.value == nil {
			delete(m.values, w.key)
		} else {
			m.values[w.key] = w.value
		}
		if had != (w.value != nil) {
			changed = append(changed, w)
		}
	}
	if len(changed) > 0 {
		m.mergeKeys(changed)
	}
	return undo
}

// mergeKeys takes in keys that come and takes out keys that go, in one pass.
func (m *model) mergeKeys(changed []write) {
	out := slices.Grow(m.spare[:0], len(m.keys)+len(changed))
	rest := m.keys
	for _, w := range changed {
		n, found := slices.BinarySearchFunc(rest, w.key, strings.Compare)
		out = append(out, rest[:n]...)
		rest = rest[n:]
		if w.value != nil {
			out = append(out, w.key)
		} else if found {
			rest = rest[1:]
		}
	}
	out = append(out, rest...)
	m.keys, m.spare = out, m.keys
}

// itemSizes are the sizes, in bytes, of C(1) to C(16) in a young tiny chain, about.
var itemSizes = [...]int{130, 5122, 800, 1790, 4, 128, 2016, 2016, 2016, 2, 4, 30, 200, 12, 12, 1}

// itemsPerService is how many items of its own a service has, about.
const itemsPerService = 50

// firstState makes up the anchor's state.
func (g *generator) firstState() {
	m := &g.model
	m.values = make(map[string][]byte, g.opts.Keys+len(itemSizes))
	for i, name := range jam.ItemNames() {
		m.values[itemKey(name)] = g.random(itemSizes[i])
	}
	m.values[itemKey(jam.SlotItem)] = make([]byte, 4)
	for range 1 + g.opts.Keys/itemsPerService {
		id := g.rnd.Uint32()
		g.services = append(g.services, id)
		m.values[string(jam.AccountKey(id))] = g.account()
	}
	for want := len(m.values) + g.opts.Keys; len(m.values) < want; {
		m.values[g.newKey()] = g.value()
	}
	for key, value := range m.values {
		m.keys = append(m.keys, key)
		m.size += int64(len(value))
	}
	slices.Sort(m.keys)
}

func itemKey(name string) string {
	key, ok := jam.ItemKey(name)
	if !ok {
		panic("no state item " + name)
	}
	return string(key)
}

// newKey makes a key of some service's (Gray Paper 0.7.2, D.1).
func (g *generator) newKey() string {
	var id [4]byte
	binary.LittleEndian.PutUint32(id[:], g.services[g.rnd.IntN(len(g.services))])
	var key [jam.KeySize]byte
	g.fill(key[:])
	for i, c := range id {
		key[2*i] = c
	}
	return string(key[:])
}

// account makes the value of an account's item.
func (g *generator) account() []byte { return g.random(89) }

// value makes one of a size as it comes in real states: often tiny, once in a
// while empty or large.
func (g *generator) value() []byte {
	size := 0
	switch p := g.rnd.IntN(100); {
	case p == 0:
	case p < 50 || g.opts.ValueSize == 0:
		size = 1 + g.rnd.IntN(32)
	case p < 98:
		size = 1 + g.rnd.IntN(g.opts.ValueSize)
	default:
		size = 1 + g.rnd.IntN(4*g.opts.ValueSize)
	}
	return g.random(size)
}

// makeWrites makes up what a block on the model's state writes, in key order:
// some items of C(1) to C(16) in every block, some in most, an account, and
// services' items.
func (g *generator) makeWrites(slot forks.Slot) []write {
	var out []write
	used := make(map[string]bool, g.opts.Writes)
	put := func(key string, value []byte) {
		used[key] = true
		out = append(out, write{key, value})
	}
	change := func(key string) { put(key, g.sameSize(g.model.values[key])) }
	put(itemKey(jam.SlotItem), binary.LittleEndian.AppendUint32(nil, uint32(slot)))
	change(itemKey("recent"))
	change(itemKey("entropy"))
	change(itemKey("statistics"))
	// The rates, in a hundred, are those of a published chain.
	if g.rnd.IntN(100) < 77 {
		change(itemKey("accumulated"))
	}
	if g.rnd.IntN(100) < 57 {
		change(itemKey("availability"))
	}
	if g.rnd.IntN(100) < 74 {
		change(string(jam.AccountKey(g.services[g.rnd.IntN(len(g.services))])))
	}
	for range g.opts.Writes {
		key, ok := g.someKey(used)
		switch p := g.rnd.IntN(100); {
		case !ok || p < 15:
			put(g.newKey(), g.value())
		case p < 30:
			put(key, nil)
		case p < 60:
			put(key, g.anySize(g.model.values[key]))
		default:
			change(key)
		}
	}
	slices.SortFunc(out, func(a, b write) int { return strings.Compare(a.key, b.key) })
	return out
}

// someKey picks a service's item that is in the state and not used in this block.
func (g *generator) someKey(used map[string]bool) (string, bool) {
	for range 20 {
		key := g.model.keys[g.rnd.IntN(len(g.model.keys))]
		if _, named := jam.ItemName([]byte(key)); !named && !used[key] {
			return key, true
		}
	}
	return "", false
}

// sameSize makes another value of the same size, or of one byte for an empty one.
func (g *generator) sameSize(old []byte) []byte {
	for {
		value := g.random(max(1, len(old)))
		if !bytes.Equal(value, old) {
			return value
		}
	}
}

// anySize makes another value of any size.
func (g *generator) anySize(old []byte) []byte {
	for {
		value := g.value()
		if !bytes.Equal(value, old) {
			return value
		}
	}
}

package merkle

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sort"
	"sync"

	"accessor/forks"
)

// Source is where a trie's records are read: a consistent copy, that of the
// state whose trie it is. It must be safe for concurrent use.
type Source interface {
	// Get gives a record; present is false where there is none.
	Get(key []byte) (value []byte, present bool, err error)
	// GetMany gives the records with keys in strictly ascending order; nil for one
	// that isn't there.
	GetMany(keys [][]byte) (values [][]byte, err error)
	// Scan calls yield for the records with keys in [from, to), in order, until
	// it gives false. The slices are valid during the call.
	Scan(from, to []byte, yield func(key, value []byte) bool) error
}

// Trie is a state's trie: its top in memory, the rest read where it is needed,
// each part checked against the hash above it. It is immutable, and safe for
// concurrent use.
type Trie struct {
	src   Source
	cache *Cache
	top   *vertex

	// Of a trie that Update gave, until Commit: the groups that it made, and those
	// that these replace.
	fresh map[groupID]parts
	stale []groupID
}

// vertex is a node of the trie's top: a branch over more than groupKeys keys, or
// a group.
type vertex struct {
	hash        forks.Hash
	count       int
	left, right *vertex // both nil in a group; one may be nil in a branch
}

func (v *vertex) isGroup() bool { return v.count <= groupKeys }

func hashOf(v *vertex) forks.Hash {
	if v == nil {
		return forks.Hash{}
	}
	return v.hash
}

func countOf(v *vertex) int {
	if v == nil {
		return 0
	}
	return v.count
}

func newBranch(left, right *vertex) *vertex {
	return &vertex{Branch(hashOf(left), hashOf(right)).Hash(), countOf(left) + countOf(right), left, right}
}

// Open reads the top of the trie with the given root. The cache may be nil.
// Errors: ErrDamaged, and those of the source.
func Open(src Source, root forks.Hash, cache *Cache) (*Trie, error) {
	list := groupLists.Get().(*[]group)
	defer groupLists.Put(list)
	groups, err := readGroups((*list)[:0], src)
	*list = groups
	var top *vertex
	if err == nil {
		top, err = topOf(place{}, groups)
	}
	if err == nil && hashOf(top) != root {
		err = fmt.Errorf("%w: they have root %s, want %s", ErrDamaged, hashOf(top), root)
	}
	if err != nil {
		return nil, fmt.Errorf("open trie: %w", err)
	}
	return &Trie{src: src, cache: cache, top: top}, nil
}

// groupLists are lists of groups for Open: long ones, and needed for a moment.
var groupLists = sync.Pool{New: func() any { return new([]group) }}

// readGroups appends all groups to a list, the two halves read side by side.
func readGroups(list []group, src Source) ([]group, error) {
	read := func(groups []group, from, to []byte) ([]group, error) {
		var failed error
		var slab []vertex // thousands at once
		err := src.Scan(from, to, func(key, value []byte) bool {
			at, count, root, err := decodeGroup(key, value)
			if err != nil {
				failed = err
				return false
			}
			if len(slab) == cap(slab) {
				slab = make([]vertex, 0, min(1024, 16+2*cap(slab)))
			}
			slab = append(slab, vertex{hash: root, count: count})
			groups = append(groups, group{at, &slab[len(slab)-1]})
			return true
		})
		return groups, cmp.Or(err, failed)
	}
	middle := []byte{kindGroup, 0x80}
	uppers := groupLists.Get().(*[]group)
	defer groupLists.Put(uppers)
	var upperErr error
	done := make(chan struct{})
	go func() {
		defer close(done)
		*uppers, upperErr = read((*uppers)[:0], middle, []byte{kindGroup + 1})
	}()
	list, err := read(list, []byte{kindGroup}, middle)
	<-done
	return append(list, *uppers...), cmp.Or(err, upperErr)
}

// group is a group with its place.
type group struct {
	place
	v *vertex
}

// topOf builds the top over sorted groups below p.
func topOf(p place, groups []group) (*vertex, error) {
	switch {
	case len(groups) == 0:
		return nil, nil
	case groups[0].place == p:
		if len(groups) > 1 {
			return nil, fmt.Errorf("%w: a group within group %x", ErrDamaged, p.bits)
		}
		return groups[0].v, nil
	case groups[0].depth <= p.depth:
		return nil, fmt.Errorf("%w: group %x at depth %d", ErrDamaged, groups[0].bits, groups[0].depth)
	}
	i := sort.Search(len(groups), func(i int) bool { return bit(&groups[i].bits, int(p.depth)) == 1 })
	var left, right *vertex
	var err, rightErr error
	if len(groups) > 256 {
		done := make(chan struct{})
		go func() {
			defer close(done)
			right, rightErr = topOf(p.child(1), groups[i:])
		}()
		left, err = topOf(p.child(0), groups[:i])
		<-done
	} else {
		left, err = topOf(p.child(0), groups[:i])
		right, rightErr = topOf(p.child(1), groups[i:])
	}
	if err = cmp.Or(err, rightErr); err != nil {
		return nil, err
	}
	v := newBranch(left, right)
	if v.isGroup() {
		return nil, fmt.Errorf("%w: groups of %d keys below %x", ErrDamaged, v.count, p.bits)
	}
	return v, nil
}

// Warm reads groups until the cache has room for no more, so that the first
// updates find them there. Errors: ctx's, ErrDamaged, and those of the source.
func (t *Trie) Warm(ctx context.Context) error {
	var walk func(v *vertex, p place) error
	walk = func(v *vertex, p place) error {
		if v == nil || t.cache.full() {
			return context.Cause(ctx)
		}
		if v.isGroup() {
			_, err := t.group(v, p)
			return cmp.Or(err, context.Cause(ctx))
		}
		if err := walk(v.left, p.child(0)); err != nil {
			return err
		}
		return walk(v.right, p.child(1))
	}
	return walk(t.top, place{})
}

// Root is the state's root; the zero hash for a state without keys.
func (t *Trie) Root() forks.Hash { return hashOf(t.top) }

// Count is the number of the state's keys.
func (t *Trie) Count() int { return countOf(t.top) }

// On gives the same trie, read from another copy of the same records.
func (t *Trie) On(src Source) *Trie {
	return &Trie{src: src, cache: t.cache, top: t.top, fresh: t.fresh, stale: t.stale}
}

// Commit says that the trie's records are held now, and will be asked for again.
// Without it, an Update leaves no trace in the cache.
func (t *Trie) Commit() *Trie {
	for id, list := range t.fresh {
		t.cache.put(id, list)
	}
	for _, id := range t.stale {
		t.cache.replaced(id)
	}
	return &Trie{src: t.src, cache: t.cache, top: t.top}
}

// group gives the parts of a group, from the cache or the source.
func (t *Trie) group(v *vertex, p place) (parts, error) {
	id := groupID{v.hash, p.depth}
	if s, ok := t.fresh[id]; ok {
		return s, nil
	}
	if s, ok := t.cache.get(id); ok {
		return s, nil
	}
	list := make([]page, 0, v.count/4+1)
	var failed error
	from, to := p.span(kindPage)
	err := t.src.Scan(from, to, func(key, value []byte) bool {
		var pg page
		if pg, _, failed = decodePage(key, value); failed != nil {
			return false
		}
		list = append(list, pg)
		return true
	})
	if err = cmp.Or(err, failed); err != nil {
		return nil, err
	}
	s, err := fold(make(parts, 0, 2*len(list)), p, list)
	if err != nil {
		return nil, err
	}
	if s.count() != v.count || s.hash() != v.hash {
		return nil, fmt.Errorf("%w: pages below %x at depth %d have %d keys and root %s, want %d and %s",
			ErrDamaged, p.bits, p.depth, s.count(), s.hash(), v.count, v.hash)
	}
	s = slices.Clip(s)
	t.cache.put(id, s)
	return s, nil
}

// entries reads the page at p, of which want is known.
func (t *Trie) entries(p place, want part) ([]entry, error) {
	key := p.record(kindPage)
	value, present, err := t.src.Get(key)
	if err != nil {
		return nil, err
	}
	if !present {
		value = nil
	}
	return checkPage(p, want, key, value)
}

// checkPage gives the entries of the page at p, of which want is known, from its
// record; value is nil where there is none.
func checkPage(p place, want part, key, value []byte) ([]entry, error) {
	if value == nil {
		return nil, fmt.Errorf("%w: page %x is missing", ErrDamaged, key)
	}
	got, list, err := decodePage(key, value)
	if err != nil {
		return nil, err
	}
	if (got != page{p, uint8(want.count), want.hash}) {
		return nil, fmt.Errorf("%w: page %x has %d keys and root %s, want %d and %s",
			ErrDamaged, key, got.count, got.root, want.count, want.hash)
	}
	return list, nil
}

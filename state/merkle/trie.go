package merkle

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"runtime"
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

	// Of a trie that Update gave, until Commit: the pages of the groups that it
	// made, and the groups that these replace.
	fresh map[groupID][]page
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
	groups, err := readGroups(src)
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

// readGroups reads all groups, the two halves side by side.
func readGroups(src Source) ([]group, error) {
	read := func(from, to []byte) (groups []group, err error) {
		var failed error
		var slab []vertex // thousands at once
		err = src.Scan(from, to, func(key, value []byte) bool {
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
	var upper []group
	var upperErr error
	done := make(chan struct{})
	go func() {
		defer close(done)
		upper, upperErr = read(middle, []byte{kindGroup + 1})
	}()
	lower, err := read([]byte{kindGroup}, middle)
	<-done
	return append(lower, upper...), cmp.Or(err, upperErr)
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
	if len(groups) > 4*apart {
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
		t.cache.put(id.root, id.depth, list)
	}
	for _, id := range t.stale {
		t.cache.replaced(id)
	}
	return &Trie{src: t.src, cache: t.cache, top: t.top}
}

// pages gives the pages of a group, from the cache or the source.
func (t *Trie) pages(v *vertex, p place) ([]page, error) {
	if list, ok := t.fresh[groupID{v.hash, p.depth}]; ok {
		return list, nil
	}
	if list, ok := t.cache.get(v.hash, p.depth); ok {
		return list, nil
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
	if err == nil {
		err = failed
	}
	if err != nil {
		return nil, err
	}
	count, root, err := fold(p, list)
	if err != nil {
		return nil, err
	}
	if count != v.count || root != v.hash {
		return nil, fmt.Errorf("%w: pages below %x at depth %d have %d keys and root %s, want %d and %s",
			ErrDamaged, p.bits, p.depth, count, root, v.count, v.hash)
	}
	t.cache.put(v.hash, p.depth, slices.Clip(slices.Clone(list)))
	return list, nil
}

// entries reads a page.
func (t *Trie) entries(pg page) ([]entry, error) {
	key := pg.record(kindPage)
	value, present, err := t.src.Get(key)
	if err != nil {
		return nil, err
	}
	if !present {
		return nil, fmt.Errorf("%w: page %x is missing", ErrDamaged, key)
	}
	got, list, err := decodePage(key, value)
	if err != nil {
		return nil, err
	}
	if got != pg {
		return nil, fmt.Errorf("%w: page %x has %d keys and root %s, want %d and %s",
			ErrDamaged, key, got.count, got.root, pg.count, pg.root)
	}
	return list, nil
}

// split cuts a list of places below p where the bit at p's depth turns to 1.
func split[T any](p place, list []T, bits func(*T) *[KeySize]byte) (left, right []T) {
	i := 0
	for i < len(list) && bit(bits(&list[i]), int(p.depth)) == 0 {
		i++
	}
	return list[:i], list[i:]
}

func pageBits(pg *page) *[KeySize]byte { return &pg.bits }

// fold gives the number of keys and the hash of a sub-trie from its pages.
func fold(p place, list []page) (count int, root forks.Hash, err error) {
	switch {
	case len(list) == 0:
		return 0, forks.Hash{}, nil
	case len(list) == 1 && list[0].place == p:
		return int(list[0].count), list[0].root, nil
	case list[0].depth <= p.depth:
		return 0, forks.Hash{}, fmt.Errorf("%w: page %x at depth %d", ErrDamaged, list[0].bits, list[0].depth)
	}
	l, r := split(p, list, pageBits)
	lc, lh, err := fold(p.child(0), l)
	if err != nil {
		return 0, forks.Hash{}, err
	}
	rc, rh, err := fold(p.child(1), r)
	if err != nil {
		return 0, forks.Hash{}, err
	}
	return lc + rc, Branch(lh, rh).Hash(), nil
}

// Write is one key's new value, or its removal.
type Write struct {
	Key    []byte
	Value  []byte
	Delete bool
}

// Change is what a write set makes of one trie record: its new value, or nil for
// its removal.
type Change struct {
	Key, Value []byte
}

// op is a write as the trie sees it.
type op struct {
	key  [KeySize]byte
	leaf forks.Hash // zero: delete
}

// Update gives the trie after a write set, in strictly ascending key order, and
// what changes of its records, in order. It touches only what the write set
// changes; writes that change nothing do no harm. Errors: ErrKeySize, ErrOrder,
// ErrDamaged, and those of the source.
func (t *Trie) Update(writes []Write) (*Trie, []Change, error) {
	ops, err := makeOps(writes)
	if err != nil {
		return nil, nil, fmt.Errorf("update trie: %w", err)
	}
	u := updater{t: t, puts: make(map[string][]byte), gone: make(map[string]bool), made: make(map[*vertex][]part),
		fresh: maps.Clone(t.fresh), stale: slices.Clone(t.stale)}
	if u.fresh == nil {
		u.fresh = make(map[groupID][]page)
	}
	top, err := u.update(t.top, place{}, ops)
	if err != nil {
		return nil, nil, fmt.Errorf("update trie: %w", err)
	}
	return &Trie{src: t.src, cache: t.cache, top: top, fresh: u.fresh, stale: u.stale}, u.changes(), nil
}

// makeOps hashes the leaves, on all cores where there are many.
func makeOps(writes []Write) ([]op, error) {
	ops := make([]op, len(writes))
	for i, w := range writes {
		if len(w.Key) != KeySize {
			return nil, fmt.Errorf("%w: %d bytes", ErrKeySize, len(w.Key))
		}
		if i > 0 && bytes.Compare(writes[i-1].Key, w.Key) >= 0 {
			return nil, fmt.Errorf("%w: %x after %x", ErrOrder, w.Key, writes[i-1].Key)
		}
		ops[i].key = [KeySize]byte(w.Key)
	}
	hash := func(from, to int) {
		for i := from; i < to; i++ {
			if w := &writes[i]; !w.Delete {
				ops[i].leaf = Leaf(ops[i].key, w.Value).Hash()
			}
		}
	}
	const least = 64
	step := max(least, (len(ops)+runtime.GOMAXPROCS(0)-1)/runtime.GOMAXPROCS(0))
	var wg sync.WaitGroup
	for from := step; from < len(ops); from += step {
		wg.Go(func() { hash(from, min(from+step, len(ops))) })
	}
	hash(0, min(step, len(ops)))
	wg.Wait()
	return ops, nil
}

// updater collects what an update changes.
type updater struct {
	t *Trie

	mu   sync.Mutex
	puts map[string][]byte
	gone map[string]bool
	made map[*vertex][]part // the pages of groups that this update made

	fresh map[groupID][]page // as in Trie
	stale []groupID
}

// part is a page in the middle of an update, with its entries where they have
// been read or made.
type part struct {
	page
	entries []entry
}

func partBits(p *part) *[KeySize]byte { return &p.bits }
func opBits(o *op) *[KeySize]byte     { return &o.key }
func entryBits(e *entry) *[KeySize]byte {
	return &e.key
}

func (u *updater) put(key, value []byte) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.puts[string(key)] = value
}

func (u *updater) remove(key []byte) {
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.puts, string(key))
	u.gone[string(key)] = true
}

func (u *updater) changes() []Change {
	for key := range u.gone {
		if _, ok := u.puts[key]; !ok {
			u.puts[key] = nil
		}
	}
	list := make([]Change, 0, len(u.puts))
	for _, key := range slices.Sorted(maps.Keys(u.puts)) {
		list = append(list, Change{[]byte(key), u.puts[key]})
	}
	return list
}

// apart is how many writes are worth a goroutine of their own.
const apart = 64

// update gives the sub-trie v at p after ops.
func (u *updater) update(v *vertex, p place, ops []op) (*vertex, error) {
	if len(ops) == 0 {
		return v, nil
	}
	if v == nil || v.isGroup() {
		parts, err := u.parts(v, p)
		if err != nil {
			return nil, err
		}
		if v != nil {
			u.remove(p.record(kindGroup))
			u.mu.Lock()
			u.stale = append(u.stale, groupID{v.hash, p.depth})
			u.mu.Unlock()
		}
		parts, count, root, err := u.pages(p, parts, ops)
		if err != nil {
			return nil, err
		}
		return u.regroup(p, parts, count, root)
	}
	lops, rops := split(p, ops, opBits)
	var left, right *vertex
	var lerr, rerr error
	if len(lops) >= apart && len(rops) >= apart {
		done := make(chan struct{})
		go func() {
			defer close(done)
			left, lerr = u.update(v.left, p.child(0), lops)
		}()
		right, rerr = u.update(v.right, p.child(1), rops)
		<-done
	} else {
		if left, lerr = u.update(v.left, p.child(0), lops); lerr == nil {
			right, rerr = u.update(v.right, p.child(1), rops)
		}
	}
	if lerr != nil {
		return nil, lerr
	}
	if rerr != nil {
		return nil, rerr
	}
	if countOf(left)+countOf(right) > groupKeys {
		return newBranch(left, right), nil
	}
	return u.collapse(p, left, right)
}

// parts gives the pages of a group.
func (u *updater) parts(v *vertex, p place) ([]part, error) {
	if v == nil {
		return nil, nil
	}
	u.mu.Lock()
	made, ok := u.made[v]
	u.mu.Unlock()
	if ok {
		return made, nil
	}
	pages, err := u.t.pages(v, p)
	if err != nil {
		return nil, err
	}
	parts := make([]part, len(pages))
	for i, pg := range pages {
		parts[i].page = pg
	}
	return parts, nil
}

// collapse makes one group of two sub-tries that have become small.
func (u *updater) collapse(p place, left, right *vertex) (*vertex, error) {
	var all []part
	for b, v := range []*vertex{left, right} {
		if v == nil {
			continue
		}
		at := p.child(byte(b))
		parts, err := u.parts(v, at)
		if err != nil {
			return nil, err
		}
		u.remove(at.record(kindGroup))
		all = append(all, parts...)
	}
	count, root := countOf(left)+countOf(right), Branch(hashOf(left), hashOf(right)).Hash()
	if count <= pageKeys {
		merged, err := u.merge(all)
		if err != nil {
			return nil, err
		}
		all, count, root = u.build(p, merged)
	}
	return u.regroup(p, all, count, root)
}

// regroup makes a group of pages, or more than one where they have more keys.
func (u *updater) regroup(p place, parts []part, count int, root forks.Hash) (*vertex, error) {
	if count == 0 {
		return nil, nil
	}
	if count <= groupKeys {
		v := &vertex{hash: root, count: count}
		pages := make([]page, len(parts))
		for i := range parts {
			pages[i] = parts[i].page
		}
		u.put(groupRecord(p, count, root))
		u.mu.Lock()
		u.made[v] = parts
		u.fresh[groupID{root, p.depth}] = pages
		u.mu.Unlock()
		return v, nil
	}
	l, r := split(p, parts, partBits)
	var child [2]*vertex
	for b, list := range [][]part{l, r} {
		at := p.child(byte(b))
		count, root, err := foldParts(at, list)
		if err != nil {
			return nil, err
		}
		if child[b], err = u.regroup(at, list, count, root); err != nil {
			return nil, err
		}
	}
	return newBranch(child[0], child[1]), nil
}

func foldParts(p place, parts []part) (int, forks.Hash, error) {
	pages := make([]page, len(parts))
	for i := range parts {
		pages[i] = parts[i].page
	}
	return fold(p, pages)
}

// pages gives the pages of a sub-trie within a group after ops.
func (u *updater) pages(p place, parts []part, ops []op) (out []part, count int, root forks.Hash, err error) {
	switch {
	case len(ops) == 0:
		count, root, err = foldParts(p, parts)
		return parts, count, root, err
	case len(parts) == 0:
		out, count, root = u.build(p, apply(nil, ops))
		return out, count, root, nil
	case len(parts) == 1 && parts[0].place == p:
		old, err := u.load(&parts[0])
		if err != nil {
			return nil, 0, root, err
		}
		u.remove(p.record(kindPage))
		out, count, root = u.build(p, apply(old, ops))
		return out, count, root, nil
	case parts[0].depth <= p.depth:
		return nil, 0, root, fmt.Errorf("%w: page %x at depth %d", ErrDamaged, parts[0].bits, parts[0].depth)
	}
	lparts, rparts := split(p, parts, partBits)
	lops, rops := split(p, ops, opBits)
	left, lcount, lroot, err := u.pages(p.child(0), lparts, lops)
	if err != nil {
		return nil, 0, root, err
	}
	right, rcount, rroot, err := u.pages(p.child(1), rparts, rops)
	if err != nil {
		return nil, 0, root, err
	}
	out = append(slices.Clip(left), right...)
	if count = lcount + rcount; count <= pageKeys {
		merged, err := u.merge(out)
		if err != nil {
			return nil, 0, root, err
		}
		out, count, root = u.build(p, merged)
		return out, count, root, nil
	}
	return out, count, Branch(lroot, rroot).Hash(), nil
}

func (u *updater) load(p *part) ([]entry, error) {
	if p.entries == nil {
		list, err := u.t.entries(p.page)
		if err != nil {
			return nil, err
		}
		p.entries = list
	}
	return p.entries, nil
}

// merge takes the entries out of pages that are to be one.
func (u *updater) merge(parts []part) ([]entry, error) {
	var all []entry
	for i := range parts {
		list, err := u.load(&parts[i])
		if err != nil {
			return nil, err
		}
		u.remove(parts[i].record(kindPage))
		all = append(all, list...)
	}
	return all, nil
}

// build makes the pages of sorted entries below p.
func (u *updater) build(p place, list []entry) (out []part, count int, root forks.Hash) {
	if len(list) == 0 {
		return nil, 0, root
	}
	if len(list) <= pageKeys {
		root = entriesRoot(int(p.depth), list)
		u.put(pageRecord(p, list))
		return []part{{page{p, uint8(len(list)), root}, list}}, len(list), root
	}
	l, r := split(p, list, entryBits)
	left, _, lroot := u.build(p.child(0), l)
	right, _, rroot := u.build(p.child(1), r)
	return append(left, right...), len(list), Branch(lroot, rroot).Hash()
}

// apply gives sorted entries after ops.
func apply(old []entry, ops []op) []entry {
	out := make([]entry, 0, len(old)+len(ops))
	for len(old) > 0 || len(ops) > 0 {
		order := -1
		if len(old) == 0 {
			order = 1
		} else if len(ops) > 0 {
			order = bytes.Compare(old[0].key[:], ops[0].key[:])
		}
		if order < 0 {
			out, old = append(out, old[0]), old[1:]
			continue
		}
		if order == 0 {
			old = old[1:]
		}
		if ops[0].leaf != (forks.Hash{}) {
			out = append(out, entry(ops[0]))
		}
		ops = ops[1:]
	}
	return out
}

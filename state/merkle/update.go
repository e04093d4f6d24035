package merkle

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"sync"

	"accessor/forks"
)

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
	u := updater{t: t, apart: max(64, len(ops)/16)}
	top, err := u.update(t.top, place{}, ops)
	if err != nil {
		return nil, nil, fmt.Errorf("update trie: %w", err)
	}
	fresh := make(map[groupID]parts, len(t.fresh)+len(u.fresh))
	maps.Copy(fresh, t.fresh)
	for _, g := range u.fresh {
		fresh[g.id] = g.parts
	}
	after := &Trie{src: t.src, cache: t.cache, top: top, fresh: fresh, stale: slices.Concat(t.stale, u.stale)}
	return after, slices.Concat(putsWin(u.pages), putsWin(u.groups)), nil
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

// updater collects what an update changes, in order: of records, a removal may
// come before a put of the same.
type updater struct {
	t     *Trie
	apart int // writes that are worth a goroutine of their own

	pages, groups []Change
	fresh         []freshGroup
	stale         []groupID

	ahead   *ahead // what is read of a part of the top, while that is updated
	scratch parts
}

type freshGroup struct {
	id groupID
	parts
}

func (u *updater) removeGroup(v *vertex, p place) {
	u.groups = append(u.groups, Change{Key: p.record(kindGroup)})
	u.stale = append(u.stale, groupID{v.hash, p.depth})
}

// putsWin leaves out the removals of records that are put as well.
func putsWin(list []Change) []Change {
	out := list[:0]
	for _, c := range list {
		if n := len(out); n > 0 && bytes.Equal(out[n-1].Key, c.Key) {
			if c.Value != nil {
				out[n-1] = c
			}
			continue
		}
		out = append(out, c)
	}
	return out
}

// update gives the sub-trie v at p after ops.
func (u *updater) update(v *vertex, p place, ops []op) (*vertex, error) {
	if len(ops) == 0 {
		return v, nil
	}
	if v == nil || v.isGroup() {
		var old parts
		if v != nil {
			var err error
			if old, err = u.group(v, p); err != nil {
				return nil, err
			}
			u.removeGroup(v, p)
		}
		s, err := u.within(u.scratch[:0], p, old, ops)
		if err != nil {
			return nil, err
		}
		u.scratch = s
		return u.regroup(p, s), nil
	}
	pages, groups, fresh := len(u.pages), len(u.groups), len(u.fresh)
	left, right, err := u.sides(v, p, ops)
	if err != nil {
		return nil, err
	}
	switch count := countOf(left) + countOf(right); {
	case count > groupKeys:
		return newBranch(left, right), nil
	case count > pageKeys:
		// One group of what were more.
		s := parts{{}}
		middle := 1
		for b, side := range []*vertex{left, right} {
			middle = len(s)
			if side == nil {
				continue
			}
			more, err := u.made(side, p.child(byte(b)), fresh)
			if err != nil {
				return nil, err
			}
			s = append(s, more...)
		}
		s.finish(0, middle)
		u.groups, u.fresh = u.groups[:groups], u.fresh[:fresh]
		v2 := u.regroup(p, s)
		return v2, u.dissolveGroups(v, p, nil)
	default:
		// One page of what were groups, or nothing.
		u.pages, u.groups, u.fresh = u.pages[:pages], u.groups[:groups], u.fresh[:fresh]
		var old dissolved
		mark := len(u.groups)
		if err := u.dissolveGroups(v, p, &old); err != nil {
			return nil, err
		}
		gone := slices.Clone(u.groups[mark:])
		u.groups = u.groups[:mark]
		s := u.build(nil, p, apply(old.entries, ops))
		u.pages = append(u.pages, old.records...)
		v2 := u.regroup(p, s)
		u.groups = append(u.groups, gone...)
		return v2, nil
	}
}

// sides updates the sides of a branch of the top, side by side where that pays.
func (u *updater) sides(v *vertex, p place, ops []op) (left, right *vertex, err error) {
	lops, rops := split(p, ops, opBits)
	if len(lops) < u.apart || len(rops) < u.apart {
		if u.ahead == nil {
			u.ahead = new(ahead)
			defer func() { u.ahead = nil }()
			if err := u.readAhead(v, p, ops); err != nil {
				return nil, nil, err
			}
		}
		if left, err = u.update(v.left, p.child(0), lops); err != nil {
			return nil, nil, err
		}
		right, err = u.update(v.right, p.child(1), rops)
		return left, right, err
	}
	other := updater{t: u.t, apart: u.apart}
	var rightErr error
	done := make(chan struct{})
	go func() {
		defer close(done)
		right, rightErr = other.update(v.right, p.child(1), rops)
	}()
	left, err = u.update(v.left, p.child(0), lops)
	<-done
	u.pages = append(u.pages, other.pages...)
	u.groups = append(u.groups, other.groups...)
	u.fresh = append(u.fresh, other.fresh...)
	u.stale = append(u.stale, other.stale...)
	return left, right, cmp.Or(err, rightErr)
}

// ahead is what an update of a part of the top is about to read, in that order.
type ahead struct {
	groups []freshGroup
	pages  []pageAhead
}

type pageAhead struct {
	place
	part
	value []byte // its record; nil where there is none
}

// readAhead reads the groups and pages that ops change, the pages all at once.
func (u *updater) readAhead(v *vertex, p place, ops []op) error {
	if err := u.findGroups(v, p, ops); err != nil {
		return err
	}
	a := u.ahead
	keys := make([][]byte, len(a.pages))
	for i := range a.pages {
		keys[i] = a.pages[i].record(kindPage)
	}
	values, err := u.t.src.GetMany(keys)
	if err != nil {
		return err
	}
	for i := range a.pages {
		a.pages[i].value = values[i]
	}
	return nil
}

func (u *updater) findGroups(v *vertex, p place, ops []op) error {
	if v == nil || len(ops) == 0 {
		return nil
	}
	if v.isGroup() {
		s, err := u.t.group(v, p)
		u.ahead.groups = append(u.ahead.groups, freshGroup{groupID{v.hash, p.depth}, s})
		u.findPages(s, p, ops)
		return err
	}
	l, r := split(p, ops, opBits)
	if err := u.findGroups(v.left, p.child(0), l); err != nil {
		return err
	}
	return u.findGroups(v.right, p.child(1), r)
}

func (u *updater) findPages(s parts, p place, ops []op) {
	switch {
	case len(s) == 0 || len(ops) == 0:
	case s.isPage():
		u.ahead.pages = append(u.ahead.pages, pageAhead{place: p, part: s[0]})
	default:
		left, right := s.children()
		l, r := split(p, ops, opBits)
		u.findPages(left, p.child(0), l)
		u.findPages(right, p.child(1), r)
	}
}

// group gives the parts of a group that ops change.
func (u *updater) group(v *vertex, p place) (parts, error) {
	if a := u.ahead; a != nil && len(a.groups) > 0 && a.groups[0].id == (groupID{v.hash, p.depth}) {
		s := a.groups[0].parts
		a.groups = a.groups[1:]
		return s, nil
	}
	return u.t.group(v, p)
}

// entries reads a page that ops change.
func (u *updater) entries(p place, want part) ([]entry, error) {
	if a := u.ahead; a != nil && len(a.pages) > 0 && a.pages[0].place == p && a.pages[0].part == want {
		value := a.pages[0].value
		a.pages = a.pages[1:]
		return checkPage(p, want, p.record(kindPage), value)
	}
	return u.t.entries(p, want)
}

// made gives the parts of a group, which this update may have made since.
func (u *updater) made(v *vertex, p place, since int) (parts, error) {
	id := groupID{v.hash, p.depth}
	for _, g := range u.fresh[since:] {
		if g.id == id {
			return g.parts, nil
		}
	}
	return u.t.group(v, p)
}

// dissolved is what stood where a page is to be.
type dissolved struct {
	entries []entry
	records []Change // removals
}

// dissolveGroups removes the groups of a sub-trie of the top and, where asked for,
// gathers what is in them.
func (u *updater) dissolveGroups(v *vertex, p place, into *dissolved) error {
	if v == nil {
		return nil
	}
	if !v.isGroup() {
		if err := u.dissolveGroups(v.left, p.child(0), into); err != nil {
			return err
		}
		return u.dissolveGroups(v.right, p.child(1), into)
	}
	u.removeGroup(v, p)
	if into == nil {
		return nil
	}
	s, err := u.t.group(v, p)
	if err != nil {
		return err
	}
	return u.dissolve(s, p, into)
}

// dissolve gathers what is in the pages of a sub-trie within a group.
func (u *updater) dissolve(s parts, p place, into *dissolved) error {
	if len(s) == 0 {
		return nil
	}
	if s.isPage() {
		list, err := u.t.entries(p, s[0])
		into.entries = append(into.entries, list...)
		into.records = append(into.records, Change{Key: p.record(kindPage)})
		return err
	}
	left, right := s.children()
	if err := u.dissolve(left, p.child(0), into); err != nil {
		return err
	}
	return u.dissolve(right, p.child(1), into)
}

// regroup makes a group of a sub-trie, or more than one where it has more keys.
func (u *updater) regroup(p place, s parts) *vertex {
	switch {
	case len(s) == 0:
		return nil
	case s.count() <= groupKeys:
		key, value := groupRecord(p, s.count(), s.hash())
		u.groups = append(u.groups, Change{key, value})
		u.fresh = append(u.fresh, freshGroup{groupID{s.hash(), p.depth}, slices.Clone(s)})
		return &vertex{hash: s.hash(), count: s.count()}
	}
	l, r := s.children()
	left := u.regroup(p.child(0), l)
	return &vertex{s.hash(), s.count(), left, u.regroup(p.child(1), r)}
}

// within appends the sub-trie within a group at p after ops.
func (u *updater) within(out parts, p place, old parts, ops []op) (parts, error) {
	switch {
	case len(ops) == 0:
		return append(out, old...), nil
	case len(old) == 0:
		return u.build(out, p, apply(nil, ops)), nil
	case old.isPage():
		list, err := u.entries(p, old[0])
		if err != nil {
			return nil, err
		}
		u.pages = append(u.pages, Change{Key: p.record(kindPage)})
		return u.build(out, p, apply(list, ops)), nil
	}
	at, mark := len(out), len(u.pages)
	l, r := old.children()
	lops, rops := split(p, ops, opBits)
	out, err := u.within(append(out, part{}), p.child(0), l, lops)
	if err != nil {
		return nil, err
	}
	middle := len(out)
	if out, err = u.within(out, p.child(1), r, rops); err != nil {
		return nil, err
	}
	if out[at+1:middle].count()+out[middle:].count() > pageKeys {
		out.finish(at, middle)
		return out, nil
	}
	// One page of what were more, or nothing.
	var gone dissolved
	if err := u.dissolve(old, p, &gone); err != nil {
		return nil, err
	}
	u.pages = u.pages[:mark]
	out = u.build(out[:at], p, apply(gone.entries, ops))
	u.pages = append(u.pages, gone.records...)
	return out, nil
}

// build appends the sub-trie of sorted entries at p.
func (u *updater) build(out parts, p place, list []entry) parts {
	if len(list) == 0 {
		return out
	}
	if len(list) <= pageKeys {
		key, value := pageRecord(p, list)
		u.pages = append(u.pages, Change{key, value})
		return append(out, part{hash: entriesRoot(int(p.depth), list), count: uint32(len(list))})
	}
	at := len(out)
	l, r := split(p, list, entryBits)
	out = u.build(append(out, part{}), p.child(0), l)
	middle := len(out)
	out = u.build(out, p.child(1), r)
	out.finish(at, middle)
	return out
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

package access

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"accessor/jam"
)

// Accounts is the name of the item that stands for all services: their accounts
// and every other key that isn't one of jam.ItemNames.
const Accounts = "accounts"

// wholeState names what is refused where a store has no items.
const wholeState = "state"

// Table says which activity may read which state item. See DefaultTable.
type Table struct {
	// items has who may read C(1) to C(16), then service accounts; nil where the
	// store has no JAM items and every activity reads everything.
	items []Roles
	// common are the roles that may read every item, each by itself: for them no
	// key has to be looked at.
	common Roles
}

// defaults says who may read an item beside importing, which reads all.
var defaults = map[string]Roles{
	Accounts:       activities,
	"auth-pools":   activities,
	"recent":       Of(Producing, Auditing),
	"entropy":      Of(Producing, Auditing),
	"accumulated":  Of(Producing, Auditing),
	"safrole":      Of(Producing),
	jam.SlotItem:   Of(Producing),
	"availability": Of(Auditing),
	"privileges":   Of(Auditing),
	"ready-queue":  Of(Auditing),
}

// itemNames has the names of a table's items, in the order of Table.items.
var itemNames = append(jam.ItemNames(), Accounts)

// DefaultTable is who may read what where nothing else is said, in a store with
// JAM items.
func DefaultTable() *Table {
	items := make([]Roles, len(itemNames))
	for i, name := range itemNames {
		items[i] = Of(Importing) | defaults[name]
	}
	return newTable(items)
}

// OpenTable lets every activity read everything: for stores without JAM items.
func OpenTable() *Table { return &Table{common: activities} }

func newTable(items []Roles) *Table {
	t := &Table{items: items, common: activities}
	for _, may := range items {
		t.common &= may
	}
	return t
}

// ParseTable makes a table as a configuration has it: for an item's name the
// activities that may read it, none in an empty list. Items that it doesn't name
// are as in DefaultTable. All that is wrong with it comes in one error: ErrItem,
// ErrRole.
func ParseTable(config map[string][]string) (*Table, error) {
	items := DefaultTable().items
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(config)) {
		i := slices.Index(itemNames, name)
		if i < 0 {
			errs = append(errs, fmt.Errorf("%w %q: want some of %s", ErrItem, clip(name), strings.Join(itemNames, ", ")))
			continue
		}
		items[i] = 0
		for _, role := range config[name] {
			one := bit(Role(role)) & activities
			if one == 0 {
				errs = append(errs, fmt.Errorf("%w %q for item %s: want some of %s, who read state",
					ErrRole, clip(role), name, activities))
			}
			items[i] |= one
		}
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return newTable(items), nil
}

// Config gives the table as ParseTable takes it, every item named; nil for an
// OpenTable.
func (t *Table) Config() map[string][]string {
	if t.items == nil {
		return nil
	}
	config := make(map[string][]string, len(itemNames))
	for i, name := range itemNames {
		list := make([]string, 0, activityCount)
		for _, r := range t.items[i].List() {
			list = append(list, string(r))
		}
		config[name] = list
	}
	return config
}

// MayRead says whether any role of the set may read a key, and names the item
// that is refused. A key of another length than JAM's counts as a service's: no
// state has it.
func (t *Table) MayRead(r Roles, key []byte) (item string, ok bool) {
	if r&t.common != 0 {
		return "", true
	}
	if t.items == nil {
		return wholeState, false
	}
	i := itemOf(key)
	if r&activities&t.items[i] == 0 {
		return itemNames[i], false
	}
	return "", true
}

// MayReadRange says whether any role of the set may read every key that a state
// could have in [from, to), and names the first item that is refused; an empty to
// means no upper end. Whether a state has such a key doesn't matter: the answer
// would tell.
func (t *Table) MayReadRange(r Roles, from, to []byte) (item string, ok bool) {
	if r&t.common != 0 {
		return "", true
	}
	if len(to) > 0 && bytes.Compare(from, to) >= 0 {
		return "", true // nothing is in it
	}
	if t.items == nil {
		return wholeState, false
	}
	for i, may := range t.items[:len(itemNames)-1] {
		if r&activities&may == 0 && within(itemKeys[i][:], from, to) {
			return itemNames[i], false
		}
	}
	if r&activities&t.items[len(itemNames)-1] == 0 && holdsAccounts(from, to) {
		return Accounts, false
	}
	return "", true
}

// ReadsAll says whether a set of roles may read every item.
func (t *Table) ReadsAll(r Roles) bool {
	if r&t.common != 0 {
		return true
	}
	refused := func(may Roles) bool { return r&activities&may == 0 }
	return t.items != nil && !slices.ContainsFunc(t.items, refused)
}

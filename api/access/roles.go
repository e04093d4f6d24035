// Package access says who may do what: the roles that a socket or a token gives
// its clients, the actions that each role may do, and which role may read which
// state item. It decides; it knows nothing of HTTP, sockets, tokens or stores.
//
// Invariants: the zero value of everything may nothing; a set of roles may what
// any of its roles may, and no more; a Table never changes once it is made, so it
// is safe for concurrent use.
package access

import (
	"fmt"
	"math/bits"
	"strings"
)

// Role is what a client is for. The first four are a validator's activities,
// which read state; operator and observer look after the accessor itself.
type Role string

// The roles.
const (
	Importing Role = "importing"
	Producing Role = "producing"
	Refining  Role = "refining"
	Auditing  Role = "auditing"
	Operator  Role = "operator"
	Observer  Role = "observer"
)

// roles has them in the order of their bits in a set: activities come first.
var roles = [...]Role{Importing, Producing, Refining, Auditing, Operator, Observer}

// activityCount is how many of roles are activities.
const activityCount = 4

// Activities gives the roles that can read state, in the order of their names in
// the documentation.
func Activities() []Role { return append([]Role(nil), roles[:activityCount]...) }

// AllRoles gives every role, activities first.
func AllRoles() []Role { return append([]Role(nil), roles[:]...) }

// Roles is a set of roles. The zero value is the empty set.
type Roles uint8

// All is the set of every role.
const All Roles = 1<<len(roles) - 1

// activities is the set of those that read state.
const activities Roles = 1<<activityCount - 1

// Of gives a set of roles. What is not a role is left out: ParseRoles says so.
func Of(list ...Role) Roles {
	var set Roles
	for _, r := range list {
		set |= bit(r)
	}
	return set
}

// bit is the set of one role, empty where it is none.
func bit(r Role) Roles {
	for i, known := range roles {
		if r == known {
			return 1 << i
		}
	}
	return 0
}

// ParseRoles reads a set from the names of its roles; "all" stands for every
// role. It refuses an empty list, since a client without roles can do nothing.
// Errors: ErrRole.
func ParseRoles(names []string) (Roles, error) {
	var set Roles
	for _, name := range names {
		one := bit(Role(name))
		if name == "all" {
			one = All
		}
		if one == 0 {
			return 0, fmt.Errorf("%w %q: want all, or some of %s", ErrRole, clip(name), All)
		}
		set |= one
	}
	if set == 0 {
		return 0, fmt.Errorf("%w: none is named: want all, or some of %s", ErrRole, All)
	}
	return set, nil
}

// Has says whether a role is in the set.
func (s Roles) Has(r Role) bool { return s&bit(r) != 0 }

// List gives the set's roles, activities first.
func (s Roles) List() []Role {
	list := make([]Role, 0, bits.OnesCount8(uint8(s)))
	for i, r := range roles {
		if s&(1<<i) != 0 {
			list = append(list, r)
		}
	}
	return list
}

// String gives the names with commas between, "none" for the empty set.
func (s Roles) String() string {
	if s&All == 0 {
		return "none"
	}
	var b strings.Builder
	for _, r := range s.List() {
		if b.Len() > 0 {
			b.WriteString(", ")
		}
		b.WriteString(string(r))
	}
	return b.String()
}

// clip shortens what came from outside, for an error's text.
func clip(s string) string {
	const most = 40
	if len(s) > most {
		return s[:most] + "…"
	}
	return s
}

package access

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"accessor/jam"
)

// TestDeps: the package decides by the standard library and the chain's formats
// alone, so that nothing about HTTP or stores can leak into a decision.
func TestDeps(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range strings.Fields(string(out)) {
		switch path {
		case "accessor/api/access", "accessor/jam", "accessor/forks":
		default:
			if !strings.HasPrefix(path, "golang.org/x/") { // jam's hash
				t.Errorf("imports %s", path)
			}
		}
	}
}

func TestRoles(t *testing.T) {
	if All != Of(AllRoles()...) || activities != Of(Activities()...) {
		t.Fatalf("All is %s, activities are %s", All, activities)
	}
	if got := Of("root", Operator).String(); got != "operator" {
		t.Errorf("got %s", got)
	}
	if got := Roles(0).String(); got != "none" {
		t.Errorf("empty: %s", got)
	}
	for _, tt := range []struct {
		names string
		want  Roles
		err   error
	}{
		{"all", All, nil},
		{"importing observer", Of(Importing, Observer), nil},
		{"", 0, ErrRole},
		{"importing Producing", 0, ErrRole},
		{"all none", 0, ErrRole},
		{strings.Repeat("x", 1000), 0, ErrRole},
	} {
		got, err := ParseRoles(strings.Fields(tt.names))
		if got != tt.want || !errors.Is(err, tt.err) {
			t.Errorf("ParseRoles(%.40q) = %s, %v", tt.names, got, err)
		}
		if err != nil && len(err.Error()) > 300 {
			t.Errorf("error of %d bytes", len(err.Error()))
		}
	}
}

// TestActions writes out who may what as the issue of the API says it.
func TestActions(t *testing.T) {
	every := "see-locks read-blocks read-events read-metrics "
	reader := every + "read-state read-items pin pin-directory "
	for role, want := range map[Role]string{
		Importing: reader + "import set-anchor put-item set-head finalize use-drafts commit-draft",
		Producing: reader + "use-drafts commit-draft",
		Refining:  reader,
		Auditing:  reader,
		Operator: every + "set-head finalize see-drafts drop-any-draft see-pins drop-any-pin " +
			"read-config set-log-level profile",
		Observer:   every,
		"stranger": "",
	} {
		var got []string
		for a := range actionsEnd + 10 {
			if Of(role).May(a) {
				got = append(got, a.String())
			}
		}
		slices.Sort(got)
		names := strings.Fields(want)
		slices.Sort(names)
		if !slices.Equal(got, names) {
			t.Errorf("%s may\n%s, want\n%s", role, got, names)
		}
	}
	for a := Action(1); a < actionsEnd; a++ {
		if a.String() == "" || a.Roles() == 0 {
			t.Errorf("action %d has name %q and roles %s", a, a, a.Roles())
		}
	}
	if Action(0).String() != "unknown" || All.May(0) || All.May(actionsEnd) {
		t.Error("what is no action is allowed")
	}
	if !Of(Observer, Importing).May(Import) || Roles(0).May(ReadBlocks) {
		t.Error("a set may what one of its roles may")
	}
}

// key gives the key of a named item, or of account:N.
func key(t *testing.T, item string) []byte {
	t.Helper()
	k, ok := jam.ItemKey(item)
	if !ok {
		t.Fatalf("no item %q", item)
	}
	return k
}

func TestDefaultTable(t *testing.T) {
	all := "importing producing refining auditing"
	want := map[string]string{
		"account:0": all, "account:4294967295": all, "auth-pools": all,
		"recent": "importing producing auditing", "entropy": "importing producing auditing",
		"accumulated": "importing producing auditing",
		"safrole":     "importing producing", "slot": "importing producing",
		"availability": "importing auditing", "privileges": "importing auditing", "ready-queue": "importing auditing",
	}
	for _, name := range jam.ItemNames() {
		if want[name] == "" {
			want[name] = "importing"
		}
	}
	table := DefaultTable()
	for item, readers := range want {
		for _, role := range AllRoles() {
			refused, ok := table.MayRead(Of(role), key(t, item))
			if ok != slices.Contains(strings.Fields(readers), string(role)) {
				t.Errorf("%s of %s: %v", item, role, ok)
			}
			name := item
			if strings.HasPrefix(item, "account:") {
				name = Accounts
			}
			if !ok && refused != name {
				t.Errorf("%s of %s: refused as %s", item, role, refused)
			}
		}
		if _, ok := table.MayRead(0, key(t, item)); ok {
			t.Errorf("%s is read by nobody", item)
		}
	}
	for role, reads := range map[Role]bool{Importing: true, Producing: false, Operator: false, Observer: false} {
		if table.ReadsAll(Of(role)) != reads {
			t.Errorf("%s reads all: %v", role, !reads)
		}
	}
}

// TestOtherKeys: only the exact key of a named item is that item.
func TestOtherKeys(t *testing.T) {
	table := DefaultTable()
	for _, k := range [][]byte{
		nil, {4}, make([]byte, 31), append([]byte{4}, make([]byte, 31)...), append([]byte{17}, make([]byte, 30)...),
		append(append([]byte{4}, make([]byte, 29)...), 1), bytes.Repeat([]byte{255}, 31),
	} {
		if item, ok := table.MayRead(Of(Refining), k); !ok {
			t.Errorf("%x is refused as %s, want it a service's", k, item)
		}
	}
}

func TestOpenTable(t *testing.T) {
	table := OpenTable()
	for _, role := range AllRoles() {
		reads := Of(role)&activities != 0
		item, ok := table.MayRead(Of(role), []byte("any"))
		if ok != reads || (!ok && item != "state") {
			t.Errorf("%s: %q, %v", role, item, ok)
		}
		if item, ok := table.MayReadRange(Of(role), nil, nil); ok != reads || (!ok && item != "state") {
			t.Errorf("range of %s: %q, %v", role, item, ok)
		}
		if table.ReadsAll(Of(role)) != reads {
			t.Errorf("%s reads all: %v", role, !reads)
		}
	}
	if table.Config() != nil {
		t.Error("an open table has no items")
	}
}

func TestRange(t *testing.T) {
	next := func(k []byte) []byte { return append(slices.Clone(k), 0) }
	noAccounts, err := ParseTable(map[string][]string{Accounts: {"importing"}})
	if err != nil {
		t.Fatal(err)
	}
	safrole, slot := key(t, "safrole"), key(t, "slot")
	plusOne := slices.Clone(safrole)
	plusOne[30]++
	for _, tt := range []struct {
		name     string
		table    *Table
		roles    Roles
		from, to []byte
		item     string // "" where it is allowed
	}{
		{"importing, everything", DefaultTable(), Of(Importing), nil, nil, ""},
		{"refining, everything", DefaultTable(), Of(Refining), nil, nil, "auth-queues"},
		{"refining, C(1) alone", DefaultTable(), Of(Refining), key(t, "auth-pools"), key(t, "auth-queues"), ""},
		{"refining, from after C(16)", DefaultTable(), Of(Refining), []byte{17}, nil, ""},
		{"refining, from 16", DefaultTable(), Of(Refining), []byte{16}, nil, "accumulation-outputs"},
		{"refining, just after C(16)", DefaultTable(), Of(Refining), next(key(t, "accumulation-outputs")), nil, ""},
		{"refining, up to C(4)", DefaultTable(), Of(Refining), plusOne, slot, "disputes"},
		{"producing, from 4 to 5", DefaultTable(), Of(Producing), []byte{4}, []byte{5}, ""},
		{"producing, one past", DefaultTable(), Of(Producing), []byte{4}, next(key(t, "disputes")), "disputes"},
		{"auditing, the slot", DefaultTable(), Of(Auditing), slot, next(slot), "slot"},
		{"both, what each may", DefaultTable(), Of(Auditing, Producing), key(t, "availability"), key(t, "statistics"), ""},
		{"nobody", DefaultTable(), 0, nil, nil, "auth-pools"},
		{"operator", DefaultTable(), Of(Operator), []byte{20}, []byte{21}, "accounts"},
		{"empty range", DefaultTable(), 0, []byte{20}, []byte{20}, ""},
		{"upside down", DefaultTable(), 0, []byte{20}, []byte{2}, ""},
		{"no accounts, one item", noAccounts, Of(Producing), safrole, next(safrole), ""},
		{"no accounts, up to its successor", noAccounts, Of(Producing), safrole, plusOne, ""},
		{"no accounts, a key more", noAccounts, Of(Producing), safrole, next(plusOne), "accounts"},
		{"no accounts, before an item", noAccounts, Of(Producing), next(safrole), key(t, "disputes"), "accounts"},
		{"no accounts, no key can be there", noAccounts, Of(Producing), next(plusOne), next(next(plusOne)), ""},
		{"no accounts, above all keys", noAccounts, Of(Producing), bytes.Repeat([]byte{255}, 40), nil, ""},
		{"no accounts, the last key", noAccounts, Of(Producing), bytes.Repeat([]byte{255}, 31), nil, "accounts"},
	} {
		item, ok := tt.table.MayReadRange(tt.roles, tt.from, tt.to)
		if ok != (tt.item == "") || item != tt.item {
			t.Errorf("%s: %q, %v; want %q", tt.name, item, ok, tt.item)
		}
	}
}

// TestRangeAgreesWithKeys: a range is allowed only where each key in it is.
func TestRangeAgreesWithKeys(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		config := map[string][]string{}
		for _, name := range itemNames {
			if rapid.Bool().Draw(t, name) {
				config[name] = []string{"producing"}
			} else {
				config[name] = nil
			}
		}
		table, err := ParseTable(config)
		if err != nil {
			t.Fatal(err)
		}
		bound := rapid.Custom(func(t *rapid.T) []byte {
			k := make([]byte, rapid.IntRange(0, 33).Draw(t, "length"))
			if len(k) > 0 {
				k[0] = byte(rapid.IntRange(0, 18).Draw(t, "first"))
				k[len(k)-1] += byte(rapid.IntRange(0, 2).Draw(t, "last"))
			}
			return k
		})
		from, to := bound.Draw(t, "from"), bound.Draw(t, "to")
		item, ok := table.MayReadRange(Of(Producing), from, to)
		seen := false // a refused key in the range
		for _, probe := range probes() {
			if !within(probe, from, to) {
				continue
			}
			if name, may := table.MayRead(Of(Producing), probe); !may {
				seen = true
				if ok {
					t.Fatalf("[%x, %x) is allowed and holds %x of %s", from, to, probe, name)
				}
			}
		}
		if !ok && !seen && item != Accounts { // a service's keys are more than the probes
			t.Fatalf("[%x, %x) is refused for %s, which is not in it", from, to, item)
		}
		if table.ReadsAll(Of(Producing)) {
			if _, ok := table.MayReadRange(Of(Producing), nil, nil); !ok {
				t.Fatal("reads all, but not the range of all")
			}
		}
	})
}

// probes are keys around those of named items.
func probes() (keys [][]byte) {
	for first := range 19 {
		for last := range 3 {
			k := make([]byte, jam.KeySize)
			k[0] = byte(first)
			k[30] = byte(last)
			keys = append(keys, k)
		}
	}
	return keys
}

func TestParseTable(t *testing.T) {
	table, err := ParseTable(map[string][]string{"safrole": {"refining"}, "statistics": {}})
	if err != nil {
		t.Fatal(err)
	}
	want := DefaultTable().Config()
	want["safrole"] = []string{"refining"}
	want["statistics"] = []string{}
	if diff := cmp.Diff(want, table.Config()); diff != "" {
		t.Error(diff)
	}
	if table.ReadsAll(All) {
		t.Error("nobody reads statistics, yet all reads everything")
	}
	again, err := ParseTable(table.Config())
	if err != nil || !maps.EqualFunc(again.Config(), want, slices.Equal) {
		t.Errorf("read back: %v, %v", again, err)
	}
	for _, tt := range []struct {
		config map[string][]string
		want   []string
		err    error
	}{
		{map[string][]string{"safrol": nil}, []string{`"safrol"`, "want some of auth-pools"}, ErrItem},
		{map[string][]string{"account:5": nil}, []string{`"account:5"`}, ErrItem},
		{map[string][]string{"slot": {"operator"}}, []string{`"operator" for item slot`}, ErrRole},
		{map[string][]string{"a": nil, "b": nil, "slot": {"x", "y"}}, []string{`"a"`, `"b"`, `"x"`, `"y"`}, ErrRole},
	} {
		table, err := ParseTable(tt.config)
		if table != nil || !errors.Is(err, tt.err) {
			t.Errorf("%v: %v, %v", tt.config, table, err)
			continue
		}
		for _, text := range tt.want {
			if !strings.Contains(err.Error(), text) {
				t.Errorf("%v: %v; want %s in it", tt.config, err, text)
			}
		}
	}
}

func TestClient(t *testing.T) {
	if got := ClientOf(context.Background()); got.Roles != 0 {
		t.Errorf("nobody has roles %s", got.Roles)
	}
	want := Client{Roles: Of(Auditing), Name: "audit", UID: 7, GID: 8, PID: 9}
	if got := ClientOf(WithClient(context.Background(), want)); got != want {
		t.Errorf("got %+v", got)
	}
}

func TestClientMay(t *testing.T) {
	far := Client{Roles: All, TCP: true, NoImport: true}
	for a := Action(1); a < actionsEnd; a++ {
		want := a != Import && a != SetAnchor && a != CommitDraft && a != PutItem
		if far.May(a) != want {
			t.Errorf("%s without imports: %v", a, !want)
		}
		if !(Client{Roles: All, TCP: true}).May(a) || (Client{}).May(a) {
			t.Errorf("%s: roles decide where imports are allowed", a)
		}
	}
}

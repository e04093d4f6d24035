// Package conformance has the scenarios that every client's tests run (README.md), and
// the test that they are what the README says.
package conformance

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// scenario is a file of scenarios/.
type scenario struct {
	Name   string `json:"name"`
	About  string `json:"about"`
	Server *struct {
		Sockets  map[string][]string `json:"sockets"`
		Settings string              `json:"settings"`
	} `json:"server"`
	Steps []step `json:"steps"`
}

type step struct {
	Do     string            `json:"do"`
	With   map[string]any    `json:"with"`
	Client string            `json:"client"`
	OK     any               `json:"ok"`
	Error  map[string]any    `json:"error"`
	Save   map[string]string `json:"save"`
	Until  float64           `json:"until"`
	Start  string            `json:"start"`
	Join   string            `json:"join"`
	Each   []any             `json:"each"`
}

// readme is what README.md says of operations, by name the arguments, and of forms.
type readme struct {
	operations map[string]string
	values     []string
	patterns   []string
}

func readReadme(t *testing.T) readme {
	t.Helper()
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	r := readme{operations: make(map[string]string)}
	_, operations, _ := strings.Cut(string(text), "\n## Operations\n")
	names := regexp.MustCompile("`([a-z_]+)`")
	for line := range strings.Lines(operations) {
		cells := strings.Split(line, "|")
		if len(cells) != 5 {
			continue
		}
		for _, m := range names.FindAllStringSubmatch(cells[1], -1) {
			if m[1] != "do" {
				r.operations[m[1]] = cells[2]
			}
		}
	}
	form := regexp.MustCompile("(?m)^\\| `\\{\"(\\$[a-z]+)\"")
	values, patterns, _ := strings.Cut(string(text), "\n**Patterns**")
	for _, m := range form.FindAllStringSubmatch(values, -1) {
		r.values = append(r.values, m[1])
	}
	for _, m := range form.FindAllStringSubmatch(patterns, -1) {
		r.patterns = append(r.patterns, m[1])
	}
	if len(r.operations) < 45 || len(r.values) < 10 || len(r.patterns) < 5 {
		t.Fatalf("README.md has %d operations, forms %v and patterns %v: expected more", len(r.operations), r.values, r.patterns)
	}
	return r
}

func TestScenarios(t *testing.T) {
	r := readReadme(t)
	files, err := filepath.Glob("scenarios/*")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scenarios: %v", err)
	}
	used := make(map[string]bool)
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var s scenario
			d := json.NewDecoder(bytes.NewReader(text))
			d.DisallowUnknownFields()
			if err := d.Decode(&s); err != nil {
				t.Fatal(err)
			}
			if d.More() {
				t.Error("something follows the scenario")
			}
			if filepath.Base(file) != s.Name+".json" || s.About == "" || len(s.Steps) == 0 {
				t.Errorf("named %q, about %q, with %d steps", s.Name, s.About, len(s.Steps))
			}
			s.check(t, r, used)
		})
	}
	for name := range r.operations {
		if !used[name] {
			t.Errorf("no scenario uses %s", name)
		}
	}
	for _, name := range slices.Concat(r.values, r.patterns) {
		if !used[name] {
			t.Errorf("no scenario uses %s", name)
		}
	}
}

// check wants the steps to be made of what README.md has.
func (s scenario) check(t *testing.T, r readme, used map[string]bool) {
	t.Helper()
	clients := map[string]bool{"": true, "main": s.Server == nil}
	if s.Server != nil {
		for name, roles := range s.Server.Sockets {
			if clients[name] = true; len(roles) == 0 {
				t.Errorf("socket %s has no roles", name)
			}
		}
	}
	saved := map[string]bool{"each": true}
	started := make(map[string]bool)
	for i, st := range s.Steps {
		fail := func(format string, args ...any) {
			t.Helper()
			t.Errorf("step %d: "+format, append([]any{i + 1}, args...)...)
		}
		if st.Join != "" {
			if st.Do != "" || !started[st.Join] {
				fail("joins %q, with do %q", st.Join, st.Do)
			}
			delete(started, st.Join)
			continue
		}
		arguments, ok := r.operations[st.Do]
		if !ok {
			fail("no such operation: %q", st.Do)
		}
		used[st.Do] = true
		if !clients[st.Client] {
			fail("no such client: %q", st.Client)
		}
		if st.Do == "fake_server" {
			name, _ := st.With["socket"].(string)
			clients[name] = true
		}
		for name := range st.With {
			if whole := len(st.With) == 1 && strings.HasPrefix(name, "$"); !whole && st.Do != "import" && !strings.Contains(arguments, "`"+name+"`") {
				fail("%s has no argument %q", st.Do, name)
			}
		}
		if st.OK != nil && st.Error != nil {
			fail("both ok and error")
		}
		if st.Start != "" {
			started[st.Start] = true
		}
		forms := func(v any, known []string) {
			walk(v, func(name string, of any) {
				if used[name] = true; !slices.Contains(known, name) {
					fail("no such form: %s", name)
				}
				if text, ok := of.(string); name == "$var" && !saved[text] {
					fail("nothing was saved as %q (%v)", text, ok)
				}
			})
		}
		forms(st.With, r.values)
		forms(st.Each, r.values)
		forms(st.OK, slices.Concat(r.values, r.patterns))
		forms(st.Error, slices.Concat(r.values, r.patterns))
		for name := range st.Save {
			saved[name] = true
		}
	}
	for name := range started {
		t.Errorf("nobody joins %s", name)
	}
}

// walk calls visit with every form in a value: an object whose only member begins
// with $.
func walk(v any, visit func(name string, of any)) {
	switch v := v.(type) {
	case []any:
		for _, one := range v {
			walk(one, visit)
		}
	case map[string]any:
		for name, of := range v {
			if strings.HasPrefix(name, "$") {
				visit(name, of)
			}
			walk(of, visit)
		}
	}
}

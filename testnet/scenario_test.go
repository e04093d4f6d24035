package testnet

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	s, err := Parse("x", "title A story: of two\nnodes 2 # so many\nslots 7\nkeys 9\nwrites 3\nreads 1\nunavailable 4\n\n every 2 from 3 to 50% : produce\n")
	if err != nil {
		t.Fatal(err)
	}
	s.rules = nil
	if got, want := *s, (Scenario{Name: "x", Title: "A story: of two", Nodes: 2, Slots: 7, Keys: 9, Writes: 3, Reads: 1, Unavailable: 4}); !same(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
}

func same(a, b Scenario) bool {
	return len(a.rules) == 0 && len(b.rules) == 0 && a.Name == b.Name && a.Title == b.Title && a.Nodes == b.Nodes &&
		a.Slots == b.Slots && a.Keys == b.Keys && a.Writes == b.Writes && a.Reads == b.Reads && a.Unavailable == b.Unavailable
}

// TestWhen: in which slots of 20 a line's time comes.
func TestWhen(t *testing.T) {
	for words, want := range map[string][]int{
		"at 3":                  {3},
		"at 25%":                {5},
		"at 1%":                 {1},
		"at 100%":               {20},
		"at 21":                 nil,
		"end":                   nil,
		"every 7":               {7, 14},
		"every 6 from 5":        {5, 11, 17},
		"every 6 from 5 to 50%": {5},
		"every 9 to 10":         {9},
		"2 in 2 from 18":        {18, 19, 20},
		"3 in 4 from 9 to 12":   {10, 11, 12},
	} {
		w, err := parseWhen(strings.Fields(words))
		if err != nil {
			t.Errorf("%s: %v", words, err)
			continue
		}
		var got []int
		n := 3 // chance gives 3, 0, 1, 2, 3, …
		for slot := 1; slot <= 20; slot++ {
			if w.fires(slot, 20, func(of int) int { n++; return (n - 1) % of }) {
				got = append(got, slot)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: in %v, want %v", words, got, want)
		}
	}
}

// TestNever: a line whose time can't come in so few slots is refused before anything is
// started; those that come again and again may have no slot.
func TestNever(t *testing.T) {
	for line, want := range map[string]bool{
		"at 21: expect forks >= 100":         true,
		"at 20: produce":                     false,
		"at 100%: produce":                   false,
		"every 2 from 9 to 8: produce":       true,
		"every 2 from 50% to 9: produce":     true,
		"1 in 2 from 9 to 9: produce":        false,
		"every 30: produce":                  false,
		"every 2 from 21: produce":           false,
		"every 2 from 30 to 100%: produce":   true,
		"end: produce":                       false,
		"every 3 to 1: produce":              false,
		"1 in 3 from 100% to 100%: finalize": false,
	} {
		s, err := Parse("name", "slots 40\n"+line)
		if err != nil {
			t.Fatal(err)
		}
		_, err = Run(t.Context(), Options{Scenario: s, Slots: 20, New: func(int, *Anchor) (Sidecar, error) { return nil, errTest }})
		if errors.Is(err, ErrScenario) != want || errors.Is(err, errTest) == want {
			t.Errorf("%s: %v", line, err)
		}
		if want && !strings.Contains(err.Error(), "name, line 2 (") {
			t.Errorf("%s: %v", line, err)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for line, want := range map[string]string{
		"":                                   "says nothing",
		"nodes 0":                            "from 1 to 64",
		"nodes 65":                           "from 1 to 64",
		"slots many":                         "from 1 to 10000",
		"unavailable -1":                     "number",
		"keys":                               "number",
		"what 3":                             "neither",
		"produce":                            "neither",
		"sometimes: produce":                 "want at SLOT",
		"1 of 3: produce":                    "want at SLOT",
		"3 in 2: produce":                    "number of slots, 3",
		"at: produce":                        "want a slot",
		"at 0: produce":                      "want a slot",
		"at 101%: produce":                   "want a slot",
		"at 3 from 4: produce":               "not expected",
		"every 0: produce":                   "number of slots",
		"every 3 from x: produce":            "want a slot",
		"end 3: produce":                     "not expected",
		"at 1:":                              "no verb",
		"at 1: dance":                        "no verb",
		"at 1: produce twice":                "not expected",
		"at 1: produce as head":              "can't name",
		"at 1: produce as b12":               "can't name",
		"at 1: produce writes x":             "number of writes",
		"at 1: fork depth 0":                 "depth",
		"at 1: fork depth 3..2":              "depth",
		"at 1: fork length x":                "length",
		"at 1: equivocate as":                "can't name",
		"at 1: withhold":                     "withhold from NODES",
		"at 1: withhold from 1":              "for SLOTS",
		"at 1: withhold from x for 1":        "want nodes",
		"at 1: partition":                    "want nodes",
		"at 1: partition 0":                  "want: partition",
		"at 1: partition 0 | rest | 1":       "rest comes last",
		"at 1: kill 1,1":                     "twice",
		"at 1: kill 1..0":                    "want nodes",
		"at 1: kill -1":                      "want nodes",
		"at 1: kill 64":                      "want nodes",
		"at 1: kill 1 for 0":                 "for",
		"at 1: restart":                      "want nodes",
		"at 1: join 0":                       "number of nodes",
		"at 1: join 0 trust":                 "number of nodes",
		"at 1: join trust head now":          "not expected",
		"at 1: join follow head now":         "not expected",
		"at 1: work size x":                  "size",
		"at 1: work size 1048577":            "size",
		"at 1: work segments 65":             "segments",
		"at 1: work as":                      "can't name",
		"at 1: expect work":                  "expect work NAME",
		"at 1: lie":                          "want block, length, proof",
		"at 1: lie values":                   "want block, length, proof",
		"at 1: lie value 0":                  "number of liars",
		"at 1: lie value 2 twice":            "not expected",
		"at 1: finalize depth x":             "depth",
		"at 1: expect":                       "want agree",
		"at 1: expect head":                  "expect head NAME",
		"at 1: expect forks":                 "want: expect forks",
		"at 1: expect forks < 3":             "want: expect forks",
		"at 1: expect forks >= x":            "want: expect forks",
		"at 1: expect agree on nobody":       "want nodes",
		"at 1: expect held b1 on 1 and more": "not expected",
	} {
		_, err := Parse("name", "title one\n"+line)
		if !errors.Is(err, ErrScenario) || !strings.Contains(err.Error(), want) || line != "" && !strings.Contains(err.Error(), "name, line 2: ") {
			t.Errorf("%q: %v, want %q", line, err, want)
		}
	}
}

func TestLoad(t *testing.T) {
	if _, err := Load("no such"); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "crashes, forks") {
		t.Error(err)
	}
	file := filepath.Join(t.TempDir(), "mine.txt")
	if err := os.WriteFile(file, []byte("every 1: produce"), 0o600); err != nil {
		t.Fatal(err)
	}
	if s, err := Load(file); err != nil || s.Name != "mine" || len(s.rules) != 1 {
		t.Error(s, err)
	}
	if err := os.WriteFile(file, []byte(strings.Repeat("#", maxScenario+1)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(file); !errors.Is(err, ErrScenario) {
		t.Error(err)
	}
	for _, name := range Names() {
		if s, err := Load(name); err != nil || s.Title == "" {
			t.Errorf("%s: %+v, %v", name, s, err)
		}
	}
}

// TestDocs: the scenarios in docs/TESTNET.md come out as they must, and it has all verbs
// and counts.
func TestDocs(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "docs", "TESTNET.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(text), "```scenario\n")
	if !found {
		t.Fatal("no scenario")
	}
	example, _, _ := strings.Cut(rest, "```")
	s, err := Parse("docs", example)
	if err != nil {
		t.Fatal(err)
	}
	for verb := range verbs {
		if !strings.Contains(string(text), "| `"+verb) {
			t.Errorf("docs/TESTNET.md has no verb %s", verb)
		}
	}
	for how := range ways {
		if !strings.Contains(rest, "`"+how+"`") {
			t.Errorf("docs/TESTNET.md has no way to lie %s", how)
		}
	}
	for count := range counts {
		if !strings.Contains(rest, "`"+count+"`") {
			t.Errorf("docs/TESTNET.md has no count %s", count)
		}
	}
	if out, res := playedAsPeers(t, s, Options{}); !res.OK(0) {
		t.Error(out)
	}
}

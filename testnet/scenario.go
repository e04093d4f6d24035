package testnet

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
)

// Scenario says what happens. Parse and Load make one; docs/TESTNET.md has the
// language.
type Scenario struct {
	Name  string
	Title string // one line, for people

	Nodes       int // that a run has unless told otherwise
	Slots       int
	Keys        int // service items in the anchor's state
	Writes      int // service items that a block writes
	Reads       int // reads of each node in a slot, of several keys each
	Unavailable int // most reads that may end with an error

	rules []rule
}

// rule is a line: when, and what.
type rule struct {
	line int
	text string
	when when
	do   action
}

// action does what a line says, in the slot that the run is at.
type action func(ctx context.Context, r *run) error

// when says in which slots.
type when struct {
	end      bool  // after the last slot
	at       place // in this slot alone, unless 0
	from, to place // else from here to there, both included; 0 for no bound
	every    int   // each so many slots, counted from from
	in, of   int   // in of of slots, by chance; of is 0 without
}

// place is a slot, or a share of all slots in percent.
type place struct {
	n       int
	percent bool
}

func (p place) slot(slots int) int {
	if p.percent {
		return max(1, p.n*slots/100)
	}
	return p.n
}

// fires says whether the rule's time has come. It takes from chance in each slot where
// chance decides, and only there.
func (w *when) fires(slot, slots int, chance func(n int) int) bool {
	if w.end {
		return false
	}
	if w.at.n > 0 {
		return slot == w.at.slot(slots)
	}
	from, to := max(1, w.from.slot(slots)), slots
	if w.to.n > 0 {
		to = w.to.slot(slots)
	}
	switch {
	case slot < from || slot > to:
		return false
	case w.of > 0:
		return chance(w.of) < w.in
	case w.from.n > 0:
		return (slot-from)%w.every == 0
	}
	return slot%w.every == 0
}

// never says that no slot of so many can be meant: who wrote the line expects something
// that would not happen, and a check that is not made looks like one that holds.
func (w *when) never(slots int) bool {
	return w.at.slot(slots) > slots || w.to.n > 0 && w.from.slot(slots) > w.to.slot(slots)
}

// reaches says whether a run of so many slots comes to all lines. Error: ErrScenario.
func (s *Scenario) reaches(slots int) error {
	for i := range s.rules {
		if rule := &s.rules[i]; rule.when.never(slots) {
			return fmt.Errorf("%w: %s, line %d (%s): its time never comes in %d slots; want more, or a share of them such as 50%%",
				ErrScenario, s.Name, rule.line, rule.text, slots)
		}
	}
	return nil
}

// ErrScenario is the error of a text that is no scenario, or of one that a run is too
// short for.
var ErrScenario = errors.New("not a valid scenario")

//go:embed scenarios/*.txt
var embedded embed.FS

const scenarioExt = ".txt"

// Names gives the scenarios that Load knows by name, sorted.
func Names() []string {
	entries, err := embedded.ReadDir("scenarios")
	if err != nil {
		panic(err) // it is part of the program
	}
	var names []string
	for _, e := range entries {
		names = append(names, strings.TrimSuffix(e.Name(), scenarioExt))
	}
	return names
}

// maxScenario bounds the text of a scenario, in bytes.
const maxScenario = 1 << 20

// Load gives the scenario of that name, or else the one in that file. Errors:
// ErrScenario, with the line; fs.ErrNotExist.
func Load(name string) (*Scenario, error) {
	if slices.Contains(Names(), name) {
		text, err := embedded.ReadFile("scenarios/" + name + scenarioExt)
		if err != nil {
			return nil, err
		}
		return Parse(name, string(text))
	}
	file, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("no scenario of that name (%s), and no file: %w", strings.Join(Names(), ", "), err)
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, maxScenario+1))
	if err != nil {
		return nil, err
	}
	if len(text) > maxScenario {
		return nil, fmt.Errorf("%w: %s is longer than %d bytes", ErrScenario, name, maxScenario)
	}
	return Parse(strings.TrimSuffix(path.Base(name), scenarioExt), string(text))
}

// Parse reads a scenario. Error: ErrScenario, with the line.
func Parse(name, text string) (*Scenario, error) {
	s := &Scenario{Name: name, Nodes: 4, Slots: 100, Keys: 200, Writes: 12, Reads: 4}
	n := 0
	for line := range strings.Lines(text) {
		n++
		line, _, _ = strings.Cut(line, "#")
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		if err := s.line(n, line); err != nil {
			return nil, fmt.Errorf("%w: %s, line %d: %w", ErrScenario, name, n, err)
		}
	}
	if len(s.rules) == 0 {
		return nil, fmt.Errorf("%w: %s says nothing that happens", ErrScenario, name)
	}
	return s, nil
}

// maxWrites bounds the service items that a block writes: the model keeps all blocks in
// memory.
const maxWrites = 2000

// line reads a line: a setting or a rule.
func (s *Scenario) line(n int, line string) error {
	head, verb, isRule := strings.Cut(line, ":")
	if isRule && !strings.HasPrefix(line, "title ") {
		w, err := parseWhen(strings.Fields(head))
		if err != nil {
			return err
		}
		do, err := parseVerb(strings.Fields(verb))
		if err != nil {
			return err
		}
		s.rules = append(s.rules, rule{line: n, text: strings.Join(strings.Fields(verb), " "), when: w, do: do})
		return nil
	}
	word, rest, _ := strings.Cut(line, " ")
	if word == "title" {
		s.Title = strings.TrimSpace(rest)
		return nil
	}
	for _, setting := range []struct {
		name      string
		into      *int
		low, high int
	}{
		{"nodes", &s.Nodes, 1, MaxNodes}, {"slots", &s.Slots, 1, MaxSlots}, {"keys", &s.Keys, 1, 20_000},
		{"writes", &s.Writes, 0, maxWrites}, {"reads", &s.Reads, 0, 1000}, {"unavailable", &s.Unavailable, 0, 1 << 30},
	} {
		if setting.name != word {
			continue
		}
		v, err := strconv.Atoi(strings.TrimSpace(rest))
		if err != nil || v < setting.low || v > setting.high {
			return fmt.Errorf("%s %q: want a number from %d to %d", word, rest, setting.low, setting.high)
		}
		*setting.into = v
		return nil
	}
	return fmt.Errorf("%q is neither WHEN: VERB … nor title, nodes, slots, keys, writes, reads or unavailable", line)
}

// parseWhen reads what is before the colon.
func parseWhen(words []string) (w when, err error) {
	a := &wording{rest: words}
	switch first := a.next(); first {
	case "end":
		w.end = true
	case "at":
		w.at, err = a.place()
	case "every":
		w.every, err = a.number("slots", 1, MaxSlots)
	default:
		// 1 in 9
		w.in, err = strconv.Atoi(first)
		if err != nil || w.in < 1 || a.next() != "in" {
			return w, fmt.Errorf("%q: want at SLOT, every N, N in M, or end", strings.Join(words, " "))
		}
		w.of, err = a.number("slots", w.in, MaxSlots)
	}
	if err == nil && !w.end && w.at.n == 0 {
		if a.take("from") {
			w.from, err = a.place()
		}
		if err == nil && a.take("to") {
			w.to, err = a.place()
		}
	}
	if err == nil {
		err = a.done()
	}
	return w, err
}

// wording is what is left of a line.
type wording struct{ rest []string }

func (a *wording) next() string {
	if len(a.rest) == 0 {
		return ""
	}
	w := a.rest[0]
	a.rest = a.rest[1:]
	return w
}

// take takes a word if it is the next.
func (a *wording) take(word string) bool {
	if len(a.rest) == 0 || a.rest[0] != word {
		return false
	}
	a.rest = a.rest[1:]
	return true
}

func (a *wording) done() error {
	if len(a.rest) > 0 {
		return fmt.Errorf("%q was not expected", strings.Join(a.rest, " "))
	}
	return nil
}

func (a *wording) number(what string, low, high int) (int, error) {
	word := a.next()
	n, err := strconv.Atoi(word)
	if err != nil || n < low || n > high {
		return 0, fmt.Errorf("%q: want a number of %s, %d to %d", word, what, low, high)
	}
	return n, nil
}

// place reads a slot: 40, or 25%.
func (a *wording) place() (place, error) {
	word := a.next()
	digits, percent := strings.CutSuffix(word, "%")
	n, err := strconv.Atoi(digits)
	if err != nil || n < 1 || n > MaxSlots || percent && n > 100 {
		return place{}, fmt.Errorf("%q: want a slot, such as 40 or 25%%", word)
	}
	return place{n, percent}, nil
}

// span is a number, or a range of which chance picks one: 3 or 1..4.
type span struct{ low, high int }

func (a *wording) span(what string, low, high int) (s span, err error) {
	word := a.next()
	from, to, ranged := strings.Cut(word, "..")
	s.low, err = strconv.Atoi(from)
	s.high = s.low
	if err == nil && ranged {
		s.high, err = strconv.Atoi(to)
	}
	if err != nil || s.low < low || s.high > high || s.high < s.low {
		return s, fmt.Errorf("%s %q: want a number from %d to %d, or a range such as %[3]d..%[3]d", what, word, low, high)
	}
	return s, nil
}

// spanAfter is span where the word is the next; else the span is what it is without.
func (a *wording) spanAfter(word string, low, high int, without span) (span, error) {
	if !a.take(word) {
		return without, nil
	}
	return a.span(word, low, high)
}

func (s span) pick(chance func(n int) int) int {
	if s.high == s.low {
		return s.low
	}
	return s.low + chance(s.high-s.low+1)
}

// nodeSet says which nodes: 1,3 or 0..2 or all, or one by chance.
type nodeSet struct {
	all, random bool
	list        []int
}

func (a *wording) nodes() (s nodeSet, err error) {
	switch word := a.next(); word {
	case "all":
		s.all = true
	case "random":
		s.random = true
	default:
		s.list, err = nodeList(word)
	}
	return s, err
}

func nodeList(word string) (list []int, err error) {
	for part := range strings.SplitSeq(word, ",") {
		low, high, ranged := strings.Cut(part, "..")
		from, err := strconv.Atoi(low)
		to := from
		if err == nil && ranged {
			to, err = strconv.Atoi(high)
		}
		if err != nil || from < 0 || to < from || to >= MaxNodes {
			return nil, fmt.Errorf("%q: want nodes, such as 1,3 or 0..2 or all or random", word)
		}
		for n := from; n <= to; n++ {
			if slices.Contains(list, n) {
				return nil, fmt.Errorf("%q: node %d comes twice", word, n)
			}
			list = append(list, n)
		}
	}
	return list, nil
}

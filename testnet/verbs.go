package testnet

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// verbs are what a line can say after the colon. Each reads its words.
var verbs map[string]func(a *wording) (action, error)

func init() {
	verbs = map[string]func(a *wording) (action, error){
		"produce": parseProduce, "fork": parseFork, "equivocate": parseEquivocate, "withhold": parseWithhold,
		"partition": parsePartition, "heal": parseHeal, "kill": parseKill, "restart": parseRestart,
		"join": parseJoin, "lie": parseLie, "work": parseWork, "finalize": parseFinalize, "expect": parseExpect,
	}
}

func parseVerb(words []string) (action, error) {
	a := &wording{rest: words}
	verb := a.next()
	parse, ok := verbs[verb]
	if !ok {
		return nil, fmt.Errorf("%q is no verb", verb)
	}
	do, err := parse(a)
	if err == nil {
		err = a.done()
	}
	return do, err
}

// as reads the name that a block is given, if it is given one.
func (a *wording) as() (string, error) {
	if !a.take("as") {
		return "", nil
	}
	word := a.next()
	switch {
	case word == "" || slices.Contains([]string{"head", "finalized", "anchor", "all"}, word), isNumbered(word):
		return "", fmt.Errorf("%q can't name a block", word)
	}
	return word, nil
}

// isNumbered says whether a name is of the form that blocks have by themselves.
func isNumbered(word string) bool {
	digits, ok := strings.CutPrefix(word, "b")
	return ok && digits != "" && strings.Trim(digits, "0123456789") == ""
}

// free says whether a block can get a name.
func (r *run) free(name string) error {
	if r.chain.byName[name] != nil || slices.ContainsFunc(r.asides, func(a *branch) bool { return name != "" && a.name == name }) {
		return fmt.Errorf("a block is called %s already", name)
	}
	return nil
}

// block gives the block of a name.
func (r *run) block(name string) (*block, error) {
	switch name {
	case "head":
		return r.sides[0].head, nil
	case "finalized":
		return r.final, nil
	}
	if b := r.chain.byName[name]; b != nil {
		return b, nil
	}
	return nil, fmt.Errorf("no block is called %q", name)
}

// parseProduce: produce [on BLOCK] [writes N] [as NAME]
func parseProduce(a *wording) (action, error) {
	on, writes := "", -1
	var err error
	if a.take("on") {
		on = a.next()
	}
	if a.take("writes") {
		if writes, err = a.number("writes", 0, maxWrites); err != nil {
			return nil, err
		}
	}
	name, err := a.as()
	if err != nil {
		return nil, err
	}
	return func(_ context.Context, r *run) error {
		n := writes
		if n < 0 {
			n = r.s.Writes
		}
		if err := r.free(name); err != nil {
			return err
		}
		if on != "" {
			parent, err := r.block(on)
			if err != nil {
				return err
			}
			b, err := r.grow(r.sides[0], parent, n, name)
			if err == nil && parent == r.sides[0].head {
				r.setHead(r.sides[0], b)
			}
			return err
		}
		for i, s := range r.sides {
			own := name
			if i > 0 {
				own = "" // the first side's has the name
			}
			b, err := r.grow(s, s.head, n, own)
			if err != nil {
				return err
			}
			r.setHead(s, b)
		}
		return nil
	}, nil
}

// parseFork: fork [depth N] [length N] [wins] [as NAME]
func parseFork(a *wording) (action, error) {
	depth, err := a.spanAfter("depth", 1, 1000, span{1, 1})
	if err != nil {
		return nil, err
	}
	length, err := a.spanAfter("length", 1, 1000, span{1, 1})
	if err != nil {
		return nil, err
	}
	wins := a.take("wins")
	name, err := a.as()
	if err != nil {
		return nil, err
	}
	return func(_ context.Context, r *run) error {
		if err := r.free(name); err != nil {
			return err
		}
		s := r.sides[r.rnd.IntN(len(r.sides))]
		from := s.head.back(depth.pick(r.rnd.IntN), r.final)
		b := &branch{of: s, tip: from, left: length.pick(r.rnd.IntN), wins: wins, name: name}
		if from.Slot >= r.slotNow() {
			return nil // everything below is final
		}
		r.asides = append(r.asides, b)
		r.event("fork at %s, %d below the head, of %d blocks", names(from), s.head.height-from.height, b.left)
		return nil
	}, nil
}

// parseEquivocate: equivocate [as NAME]
func parseEquivocate(a *wording) (action, error) {
	name, err := a.as()
	if err != nil {
		return nil, err
	}
	return func(_ context.Context, r *run) error {
		if err := r.free(name); err != nil {
			return err
		}
		s := r.sides[r.rnd.IntN(len(r.sides))]
		if s.head.Slot < r.slotNow() {
			b, err := r.grow(s, s.head, r.s.Writes, "")
			if err != nil {
				return err
			}
			r.setHead(s, b)
		}
		if !s.head.parent.above(r.final) {
			return nil // nobody builds on what has lost
		}
		b, err := r.grow(s, s.head.parent, r.s.Writes, name)
		if err == nil {
			r.event("%s and %s are both of slot %d", s.head.name, b.name, b.Slot)
		}
		return err
	}, nil
}

// parseFinalize: finalize [depth N]
func parseFinalize(a *wording) (action, error) {
	depth, err := a.spanAfter("depth", 0, MaxSlots, span{})
	if err != nil {
		return nil, err
	}
	return func(_ context.Context, r *run) error {
		b := r.sides[0].head
		for _, s := range r.sides[1:] {
			b = common(b, s.head)
		}
		// So far below the head of all, and never more than all sides have.
		if most := r.sides[0].head.back(depth.pick(r.rnd.IntN), r.final); b.above(most) {
			b = most
		}
		if b == r.final || !b.above(r.final) {
			return nil
		}
		r.final = b
		for _, s := range r.sides {
			r.publish(s, itemFinal, b)
		}
		r.event("finalize %s", names(b))
		return nil
	}, nil
}

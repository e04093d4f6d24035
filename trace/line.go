package trace

import (
	"bytes"
	"fmt"
	"math"

	"accessor/forks"
	"accessor/state"
)

// parseLine reads a line of jamtrace/1. Members that it doesn't know are passed
// over; of one given twice, the last counts; null is absence. The entry keeps
// nothing of the line. Errors: ErrFormat, ErrTooLong.
func parseLine(line []byte) (Entry, error) {
	kind, err := lineType(line)
	if err != nil {
		return nil, err
	}
	l := parser{scanner: scanner{b: line}, seen: make(map[string]bool, 16)}
	var entry Entry
	switch kind {
	case "trace":
		entry, err = l.header()
	case "anchor":
		entry, err = l.anchor()
	case "block":
		entry, err = l.block()
	case "reject":
		entry, err = l.reject()
	case "end":
		entry, err = l.end()
	default:
		return nil, fmt.Errorf("%w: line of type %q", ErrFormat, abbreviate(kind))
	}
	if err != nil {
		return nil, err
	}
	return entry, nil
}

func abbreviate(s string) string {
	const most = 40
	if len(s) <= most {
		return s
	}
	return s[:most] + "…"
}

// lineType finds a line's type, which is its first member as a rule.
func lineType(line []byte) (string, error) {
	if kind, ok := bytes.CutPrefix(line, []byte(`{"type":"`)); ok {
		if n := bytes.IndexByte(kind[:min(len(kind), 16)], '"'); n >= 0 {
			return string(kind[:n]), nil
		}
	}
	s := scanner{b: line}
	kind := ""
	err := s.whole(func(name string) (err error) {
		if name == "type" {
			kind, err = s.text()
			return err
		}
		_, err = s.skip()
		return err
	})
	if err == nil && kind == "" {
		err = fmt.Errorf("%w: line without a type", ErrFormat)
	}
	return kind, err
}

// parser reads the members of a line.
type parser struct {
	scanner
	seen map[string]bool // members that are there and not null
}

// fields reads the line's object by the readers of its members.
func (p *parser) fields(read map[string]func() error, required ...string) error {
	err := p.whole(func(name string) error {
		field := read[name]
		if field == nil {
			_, err := p.skip()
			return err
		}
		if p.null() {
			return nil
		}
		p.seen[name] = true
		if err := field(); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, name := range required {
		if !p.seen[name] {
			return fmt.Errorf("%w: no %s", ErrFormat, name)
		}
	}
	return nil
}

func (p *parser) textInto(to *string) func() error {
	return func() (err error) { *to, err = p.text(); return err }
}

func (p *parser) hashInto(to *forks.Hash) func() error {
	return func() (err error) { *to, err = p.hash(); return err }
}

// optionalHash makes a hash that the line may lack.
func (p *parser) optionalHash(to **forks.Hash) func() error {
	return func() error {
		h, err := p.hash()
		*to = &h
		return err
	}
}

func (p *parser) bytesInto(to *[]byte) func() error {
	return func() (err error) { *to, err = p.bytes(); return err }
}

func (p *parser) intInto(to *int) func() error {
	return func() (err error) { *to, err = p.int(); return err }
}

func (p *parser) slotInto(to *forks.Slot) func() error {
	return func() error {
		x, err := p.number(uint64(forks.MaxSlot))
		*to = forks.Slot(x)
		return err
	}
}

func (p *parser) header() (*Header, error) {
	var h Header
	err := p.fields(map[string]func() error{
		"format": p.textInto(&h.Format),
		"name":   p.textInto(&h.Name),
		"gp":     p.textInto(&h.GP),
		"spec":   p.textInto(&h.Spec),
		"note":   p.textInto(&h.Note),
		"source": func() error {
			raw, err := p.skip()
			if len(raw) > maxText {
				return fmt.Errorf("%w: %d bytes, at most %d", ErrTooLong, len(raw), maxText)
			}
			h.Source = bytes.Clone(raw)
			return err
		},
	}, "format")
	if err == nil && h.Format != Format {
		err = fmt.Errorf("%w: format %q, want %q", ErrFormat, abbreviate(h.Format), Format)
	}
	return &h, err
}

func (p *parser) anchor() (*Anchor, error) {
	var a Anchor
	err := p.fields(map[string]func() error{
		"hash":       p.hashInto(&a.Hash),
		"slot":       p.slotInto(&a.Slot),
		"state_root": p.hashInto(&a.Root),
		"header":     p.bytesInto(&a.Header),
		"kvs": func() error {
			a.Pairs = nil
			return p.array(func() error {
				pair, err := p.pair()
				if n := len(a.Pairs); err == nil && n > 0 && bytes.Compare(a.Pairs[n-1].Key, pair.Key) >= 0 {
					err = p.fail("keys are not in ascending order")
				}
				a.Pairs = append(a.Pairs, pair)
				return err
			})
		},
	}, "hash", "slot", "state_root", "kvs")
	return &a, err
}

// pair reads [key, value].
func (p *parser) pair() (state.Pair, error) {
	var pair state.Pair
	n := 0
	err := p.array(func() (err error) {
		switch n++; n {
		case 1:
			pair.Key, err = p.bytes()
		case 2:
			pair.Value, err = p.bytes()
		default:
			err = p.fail("pair of more than two")
		}
		return err
	})
	if err == nil && n != 2 {
		err = p.fail("pair of %d, want key and value", n)
	}
	return pair, err
}

// blockFields are the members that blocks and rejects have in common.
func (p *parser) blockFields(seq *int, src *string, b *state.Block) map[string]func() error {
	return map[string]func() error{
		"seq":        p.intInto(seq),
		"src":        p.textInto(src),
		"hash":       p.hashInto(&b.Hash),
		"parent":     p.hashInto(&b.Parent),
		"slot":       p.slotInto(&b.Slot),
		"prior_root": p.optionalHash(&b.PriorRoot),
		"header":     p.bytesInto(&b.Header),
		"puts":       p.putsInto(&b.Puts),
		"dels":       p.delsInto(&b.Dels),
	}
}

func (p *parser) putsInto(to *[]state.Pair) func() error {
	return func() error {
		*to = nil
		return p.array(func() error {
			pair, err := p.pair()
			*to = append(*to, pair)
			return err
		})
	}
}

func (p *parser) delsInto(to *[][]byte) func() error {
	return func() error {
		*to = nil
		return p.array(func() error {
			key, err := p.bytes()
			*to = append(*to, key)
			return err
		})
	}
}

func (p *parser) block() (*Block, error) {
	var b Block
	fields := p.blockFields(&b.Seq, &b.Src, &b.Block)
	fields["post_root"] = p.optionalHash(&b.PostRoot)
	fields["keys"] = p.intInto(&b.Keys)
	fields["bytes"] = func() error {
		x, err := p.number(math.MaxInt64)
		b.Bytes = int64(x)
		return err
	}
	err := p.fields(fields, "hash", "parent", "slot", "prior_root", "post_root", "puts", "dels")
	return &b, err
}

func (p *parser) reject() (*Reject, error) {
	var r Reject
	fields := p.blockFields(&r.Seq, &r.Src, &r.Block)
	fields["reason"] = p.textInto(&r.Reason)
	fields["claimed_post_root"] = p.optionalHash(&r.ClaimedPostRoot)
	fields["real_post_root"] = p.optionalHash(&r.RealPostRoot)
	if err := p.fields(fields, "hash", "parent", "slot", "prior_root"); err != nil {
		return nil, err
	}
	r.HasWriteSet = p.seen["puts"] && p.seen["dels"]
	if !r.HasWriteSet && (p.seen["puts"] || p.seen["dels"]) {
		return nil, fmt.Errorf("%w: half a write set: puts and dels go together", ErrFormat)
	}
	if r.HasWriteSet {
		if r.ClaimedPostRoot == nil {
			return nil, fmt.Errorf("%w: reject with a write set and no claimed_post_root", ErrFormat)
		}
		r.PostRoot = r.ClaimedPostRoot
	}
	return &r, nil
}

func (p *parser) end() (*End, error) {
	var e End
	err := p.fields(map[string]func() error{
		"blocks":  p.intInto(&e.Blocks),
		"rejects": p.intInto(&e.Rejects),
		"leaves":  func() (err error) { e.Leaves, err = p.hashes(); return err },
		"forks": func() error {
			e.Forks = nil
			return p.array(func() error {
				fork, err := p.fork()
				e.Forks = append(e.Forks, fork)
				return err
			})
		},
	}, "blocks", "rejects", "leaves", "forks")
	return &e, err
}

func (p *parser) hashes() (out []forks.Hash, err error) {
	err = p.array(func() error {
		h, err := p.hash()
		out = append(out, h)
		return err
	})
	return out, err
}

// fork reads [parent, [child…]].
func (p *parser) fork() (Fork, error) {
	var f Fork
	n := 0
	err := p.array(func() (err error) {
		switch n++; n {
		case 1:
			f.Parent, err = p.hash()
		case 2:
			f.Children, err = p.hashes()
		default:
			err = p.fail("fork of more than two")
		}
		return err
	})
	if err == nil && n != 2 {
		err = p.fail("fork of %d, want parent and children", n)
	}
	return f, err
}

package api

import (
	"sync"

	"accessor/forks"
)

// clientShare is the part of all drafts, and of all pins, that one client may have: a
// quarter.
const clientShare = 4

// remembered is how many things that are over are remembered.
const remembered = 512

// owners remember who made what, by its ID, and of what is over what became of it. The
// zero value knows nothing.
type owners struct {
	mu      sync.Mutex // guards the fields below
	of      map[string]string
	begun   map[string]int  // by client: what is being made
	past    map[string]past // at most remembered, and what isn't noticed yet
	pastIDs []string        // oldest first
}

// past is something that is over.
type past struct {
	who, fate string
	block     forks.Hash // that a draft was committed as; zero for none
}

// begin lets a client make one more; ok is false where it has most of those that live
// gives. Who got true calls begun with the ID, or with none where it came to nothing.
func (o *owners) begin(who string, most int, live func() []string) (begun func(id string), ok bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	kept := make(map[string]string)
	mine := o.begun[who]
	for _, id := range live() {
		if w, ok := o.of[id]; ok {
			kept[id] = w
			if w == who {
				mine++
			}
		}
	}
	for id := range o.of {
		if _, ok := kept[id]; !ok {
			o.overLocked(id, past{fate: "it has expired"})
		}
	}
	o.of = kept
	if mine >= most {
		return nil, false
	}
	if o.begun == nil {
		o.begun = make(map[string]int)
	}
	o.begun[who]++
	return func(id string) {
		o.mu.Lock()
		defer o.mu.Unlock()
		if o.begun[who]--; o.begun[who] == 0 {
			delete(o.begun, who)
		}
		if id != "" {
			o.of[id] = who
		}
	}, true
}

// has says whether a client made it. What was made before a restart is nobody's.
func (o *owners) has(id, who string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	w, ok := o.of[id]
	return ok && w == who
}

// known says whether anybody is known to have made it.
func (o *owners) known(id string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	_, ok := o.of[id]
	return ok
}

// over notes what became of it.
func (o *owners) over(id, fate string) { o.ended(id, past{fate: fate}) }

// committed notes that a draft became a block.
func (o *owners) committed(id string, block forks.Hash) {
	o.ended(id, past{fate: "the draft was committed as block " + block.String(), block: block})
}

func (o *owners) ended(id string, p past) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.overLocked(id, p)
}

func (o *owners) overLocked(id string, p past) {
	who, ok := o.of[id]
	if !ok {
		return
	}
	delete(o.of, id)
	if o.past == nil {
		o.past = make(map[string]past)
	}
	if o.pastIDs = append(o.pastIDs, id); len(o.pastIDs) > remembered {
		delete(o.past, o.pastIDs[0])
		o.pastIDs = o.pastIDs[1:]
	}
	p.who = who
	o.past[id] = p
}

// fate says who made what is over, and what became of it. The caller has not found it
// among those that live.
func (o *owners) fate(id string) (p past, ok bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.overLocked(id, past{fate: "it has expired: nobody renewed it in time"})
	p, ok = o.past[id]
	return p, ok
}

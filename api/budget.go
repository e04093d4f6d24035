package api

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"accessor/api/access"
)

// budget is what the bodies in flight may take of memory together, or the answers.
// Clients that may import may take all of it. What is left for the others has a bound,
// so that an import always finds room beside them; and one of them has a share of
// that, beyond which it may have one body alone, so that it can't stop the rest.
// Small requests never wait behind large ones.
type budget struct {
	size   int64        // bytes in all
	others int64        // bytes for clients that don't import
	share  int64        // bytes for one of these
	taken  atomic.Int64 // bytes; changed under mu

	mu     sync.Mutex // guards the fields below
	ofRest int64      // bytes taken by clients that don't import
	by     map[string]int64
	freed  chan struct{} // closed when something is given back; nil where nobody waits
}

// init makes a budget of which a part is kept for clients that import.
func (b *budget) init(size, kept int64) {
	b.size, b.others, b.share = size, size-kept, size/4
	b.by = make(map[string]int64)
}

// stake is what one request has of a budget. It is used by one goroutine.
type stake struct {
	of      *budget
	who     string
	imports bool
	n       int64
}

// stake begins with nothing.
func (b *budget) stake(who string, imports bool) stake {
	return stake{of: b, who: who, imports: imports}
}

// most is what it may have where nobody else has anything.
func (s *stake) most() int64 {
	if s.imports {
		return s.of.size
	}
	return s.of.others
}

// tryTake takes more where there is room; else it gives what to wait for, nil where
// there will never be enough.
func (s *stake) tryTake(n int64) (ok bool, freed <-chan struct{}) {
	b := s.of
	b.mu.Lock()
	defer b.mu.Unlock()
	mine := b.by[s.who]
	switch fits := b.taken.Load()+n <= b.size; {
	case s.n+n > s.most():
		return false, nil
	case fits && s.imports,
		fits && b.ofRest+n <= b.others && (mine == s.n || mine+n <= b.share):
		b.taken.Add(n)
		s.n += n
		if !s.imports {
			b.ofRest += n
			b.by[s.who] += n
		}
		return true, nil
	}
	if b.freed == nil {
		b.freed = make(chan struct{})
	}
	return false, b.freed
}

// take takes so many bytes, and waits a moment for others to give theirs back. Error:
// a fault of kind busy.
func (s *stake) take(ctx context.Context, n int64) error {
	ctx, cancel := context.WithTimeout(ctx, budgetWait)
	defer cancel()
	for {
		ok, freed := s.tryTake(n)
		if ok {
			return nil
		}
		if freed == nil {
			return errBusy("and has no room for one of %d bytes of this client", s.n+n)
		}
		select {
		case <-freed:
		case <-ctx.Done():
			return errBusy("try again")
		}
	}
}

// more takes more without waiting: others might wait for what this one has. Error: a
// fault of kind busy.
func (s *stake) more(n int64) error {
	if ok, _ := s.tryTake(n); !ok {
		return errBusy("try again, with a Content-Length where it is a body")
	}
	return nil
}

func errBusy(format string, args ...any) error {
	f := newFault("busy", format, args...)
	f.Detail = "the memory for bodies and answers, or this client's share of it, is taken; " + f.Detail
	return f
}

// giveBack gives so many bytes back.
func (s *stake) giveBack(n int64) {
	b := s.of
	b.mu.Lock()
	defer b.mu.Unlock()
	b.taken.Add(-n)
	s.n -= n
	if !s.imports {
		b.ofRest -= n
		if b.by[s.who] -= n; b.by[s.who] == 0 {
			delete(b.by, s.who)
		}
	}
	if b.freed != nil {
		close(b.freed)
		b.freed = nil
	}
}

// end gives everything back.
func (s *stake) end() {
	if s.n > 0 {
		s.giveBack(s.n)
	}
}

// stake is the request's of the bodies in flight.
func (c *call) stake() stake {
	return c.s.bodies.stake(c.who(), c.client.May(access.Import))
}

// budgetWait is for other bodies to be done.
const budgetWait = 5 * time.Second

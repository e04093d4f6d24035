package checkpoint

import "accessor/forks"

// Ask is asked before a database is brought to a block, some 80 ms of work, with the
// number of blocks that are replayed for it. Its error is that of the read that would
// have needed the database. What it gives is called when the work is over; did says
// whether it was done, false also where another did it meanwhile.
type Ask func(blocks int) (done func(did bool), err error)

func askNobody(int) (func(bool), error) { return func(bool) {}, nil }

// MayAsk says whether reads of the view may bring a database to its block.
func (v *View) MayAsk() bool {
	_, ok := v.h.db.(*archived)
	return ok
}

// Asking gives the view for a reader whose reads ask before they bring a database to
// an archived block. It is good until the view is closed, and not closed itself.
func (v *View) Asking(ask Ask) *View {
	a, ok := v.h.db.(*archived)
	if !ok {
		return v
	}
	return &View{h: v.h, db: asking{a, ask}, closed: true}
}

// asking is an archived state as one reader reads it.
type asking struct {
	*archived
	ask Ask
}

var _ DB = asking{}

// Get implements DB.
func (a asking) Get(dst, key []byte) ([]byte, bool, error) { return a.get(dst, key, a.ask) }

// GetMany implements DB.
func (a asking) GetMany(keys [][]byte) ([][]byte, error) { return a.getMany(keys, a.ask) }

// Scan implements DB.
func (a asking) Scan(from, to []byte, keep bool) Iterator { return a.scan(from, to, keep, a.ask) }

// ScanBack implements DB.
func (a asking) ScanBack(from, to []byte) Iterator { return a.scanBack(from, to, a.ask) }

// openAsking is open for a reader who must ask. Nobody else's read waits for the
// answer.
func (a *archived) openAsking(ask Ask) (*Working, error) {
	if w := a.whole.Load(); w != nil {
		return w, nil
	}
	done, err := ask(a.distance())
	if err != nil {
		return nil, err
	}
	w, made, err := a.open()
	done(made || err != nil)
	return w, err
}

// distance is the number of blocks from the nearest image to the block.
func (a *archived) distance() int {
	if image := a.s.nearestImage(a.at); image != nil {
		return a.at.height - image.height
	}
	return a.at.height - a.s.anchorEntry().height
}

// Promising says whether a block is on record as having a checkpoint or an image, from
// which others can be replayed; whether they can be used is not looked at.
func (s *Store) Promising(h forks.Hash) bool {
	e, err := s.entry(h)
	if err != nil {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return e.image != nil || e.seal != nil && !e.thin
}

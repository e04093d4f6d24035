package api

import "accessor/state"

// answersAtOnce is how many answers of the most bytes there may be at a time.
const answersAtOnce = 4

// smallAnswer is what every request may gather, in bytes, without the budget.
const smallAnswer = 256 << 10

// room is what an answer that is gathered in memory may take: in all, and of the
// budget of answers. It is used by one goroutine.
type room struct {
	c      *call
	advice string // what to ask for instead
	size   int64  // of keys and values
	memory stake
}

// room begins an answer. The caller ends it once it is sent.
func (c *call) room(advice string) *room {
	who := c.who()
	return &room{c: c, advice: advice, memory: c.s.answers.stake(who, false)}
}

// take counts so many bytes more. Errors: faults of kind too-large and busy.
func (r *room) take(n int) error {
	r.size += int64(n)
	if most := r.c.s.limits.Answer; r.size > most {
		return newFault("too-large", "the answer has more than %d bytes of keys and values: %s", most, r.advice)
	}
	if r.size <= smallAnswer+r.memory.n {
		return nil
	}
	more := max(int64(n), smallAnswer)
	if r.memory.n == 0 {
		return r.memory.take(r.c.r.Context(), more) // nobody waits for what this one has
	}
	return r.memory.more(more)
}

// bound is the room as the core knows it.
func (r *room) bound() state.Bound {
	return state.Bound{Take: r.take, Blocks: r.c.s.limits.Blocks}
}

func (r *room) end() { r.memory.end() }

package da

import (
	"bufio"
	"context"
	"encoding/binary"
	"time"

	"golang.org/x/time/rate"

	"accessor/state/merkle"
)

// answer writes an answer, as fast as is allowed. Its first error stays.
type answer struct {
	ctx    context.Context
	limit  *rate.Limiter
	paced  *paced
	buffer *bufio.Writer
	begun  bool // the status is written
	err    error
}

func newAnswer(ctx context.Context, s stream, limit *rate.Limiter) *answer {
	a := &answer{ctx: ctx, limit: limit}
	a.paced = newPaced(s, writeGrace, writeRate)
	a.buffer = bufio.NewWriterSize(limited{a}, writePart)
	return a
}

// limited writes to the stream once bytes are allowed.
type limited struct{ a *answer }

func (l limited) Write(b []byte) (int, error) {
	for written := 0; ; {
		part := b[written:min(len(b), written+writePart)]
		start := time.Now()
		if err := l.a.limit.WaitN(l.a.ctx, len(part)); err != nil {
			return written, err
		}
		l.a.paced.start = l.a.paced.start.Add(time.Since(start)) // this node's own delay
		n, err := l.a.paced.Write(part)
		if written += n; err != nil || written == len(b) {
			return written, err
		}
	}
}

func (a *answer) write(b []byte) {
	if a.err == nil {
		_, a.err = a.buffer.Write(b)
	}
}

func (a *answer) status(s byte) {
	a.begun = true
	a.paced.start = time.Now()
	a.write([]byte{s})
}

// ok says, once, that messages follow.
func (a *answer) ok() {
	if !a.begun {
		a.status(statusOK)
	}
}

func (a *answer) message(b []byte) {
	a.write(binary.LittleEndian.AppendUint32(nil, uint32(len(b))))
	a.write(b)
}

// proof writes nodes and pairs, without a copy of them all.
func (a *answer) proof(p *merkle.Proof) {
	a.ok()
	nodes := merkle.Proof{Nodes: p.Nodes}
	a.message(nodes.AppendNodes(make([]byte, 0, nodes.Size())))
	a.write(binary.LittleEndian.AppendUint32(nil, uint32(p.Size()-nodes.Size())))
	for i := range p.Pairs {
		one := merkle.Proof{Pairs: p.Pairs[i : i+1]}
		a.write(one.AppendPairs(nil))
	}
}

func (a *answer) flush() error {
	if a.err != nil {
		return a.err
	}
	return a.buffer.Flush()
}

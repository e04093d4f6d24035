package da

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

// exchange sends one request to a peer and hands the answer to read, which is called
// after the status and reads to the answer's end. The stream is reset when ctx ends,
// when the answer comes too slowly, and when read fails.
func (f *fetcher) exchange(ctx context.Context, k kind, id peer.ID, request []byte, read func(m messages) error) error {
	// Dialling has the same time as the first byte.
	opening, cancel := context.WithTimeout(ctx, f.answer)
	s, err := f.net.open(opening, id, protocols[k])
	cancel()
	if err != nil {
		return fmt.Errorf("open stream: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { _ = s.Reset() })
	p := newPaced(s, f.answer, f.minRate)
	err = func() error {
		_, sent := p.Write(appendMessage(make([]byte, 0, 4+len(request)), request))
		if sent == nil {
			sent = s.CloseWrite()
		}
		// Who declines may do so, and close, before the request is there.
		if err := readStatus(p); err != nil {
			return err
		}
		if sent != nil {
			return fmt.Errorf("send request: %w", sent)
		}
		return read(messages{p})
	}()
	f.stats.readBytes.Add(uint64(p.got))
	if !stop() && err == nil {
		err = ctx.Err() // the reset may have come in the middle of closing
	}
	if err != nil {
		_ = s.Reset()
		return unsupported(err)
	}
	_ = s.Close()
	return nil
}

// paced is a stream on which the other side must keep up a rate: each part of it has
// to be there at the time it would be at that rate, and some grace.
type paced struct {
	s         stream
	start     time.Time
	grace     time.Duration
	rate      int // bytes a second
	got, sent int
}

func newPaced(s stream, grace time.Duration, rate int) *paced {
	return &paced{s: s, start: time.Now(), grace: grace, rate: rate}
}

func (p *paced) due(bytes int) time.Time {
	return p.start.Add(p.grace + time.Duration(float64(bytes)/float64(p.rate)*float64(time.Second)))
}

var errTooSlow = errors.New("too slow")

// Read gives errTooSlow where the peer falls behind.
func (p *paced) Read(b []byte) (int, error) {
	due := p.due(p.got)
	if time.Now().After(due) {
		return 0, errTooSlow
	}
	if err := p.s.SetReadDeadline(due); err != nil {
		return 0, err
	}
	n, err := p.s.Read(b)
	p.got += n
	return n, err
}

// writePart is how much is written with one deadline.
const writePart = 64 << 10

func (p *paced) Write(b []byte) (int, error) {
	written := 0
	for written < len(b) {
		if err := p.s.SetWriteDeadline(p.due(p.sent)); err != nil {
			return written, err
		}
		n, err := p.s.Write(b[written:min(len(b), written+writePart)])
		written, p.sent = written+n, p.sent+n
		if err != nil {
			return written, err
		}
	}
	return written, nil
}

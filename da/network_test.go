package da

import (
	"context"
	"errors"
	"io"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"go.uber.org/zap"
)

// half is one direction of a stream in memory. It waits on channels, so that a test's
// virtual time goes on.
type half struct {
	mu     sync.Mutex
	buf    []byte
	room   int // of the window
	fin    bool
	broken error
	change chan struct{} // closed and made anew at each change
}

func newHalf() *half { return &half{room: 256 << 10, change: make(chan struct{})} }

func (h *half) changedLocked() {
	close(h.change)
	h.change = make(chan struct{})
}

var errReset = errors.New("stream reset")

// await calls try under the lock until it says done.
func (h *half) await(deadline time.Time, try func() bool) error {
	for {
		h.mu.Lock()
		if h.broken != nil {
			defer h.mu.Unlock()
			return h.broken
		}
		if try() {
			h.changedLocked()
			h.mu.Unlock()
			return nil
		}
		change := h.change
		h.mu.Unlock()
		var timer <-chan time.Time
		if !deadline.IsZero() {
			left := time.Until(deadline)
			if left <= 0 {
				return os.ErrDeadlineExceeded
			}
			t := time.NewTimer(left)
			defer t.Stop()
			timer = t.C
		}
		select {
		case <-change:
		case <-timer:
			return os.ErrDeadlineExceeded
		}
	}
}

func (h *half) read(p []byte, deadline time.Time) (n int, err error) {
	e := h.await(deadline, func() bool {
		if len(h.buf) == 0 && !h.fin {
			return false
		}
		if n = copy(p, h.buf); n == 0 && h.fin {
			err = io.EOF
		}
		h.buf = h.buf[n:]
		return true
	})
	if e != nil {
		return n, e
	}
	return n, err
}

func (h *half) write(p []byte, deadline time.Time) (written int, err error) {
	for written < len(p) && err == nil {
		err = h.await(deadline, func() bool {
			n := min(h.room-len(h.buf), len(p)-written)
			if h.fin {
				n = len(p) - written // nobody reads it
			} else if n > 0 {
				h.buf = append(h.buf, p[written:written+n]...)
			}
			written += max(n, 0)
			return n > 0
		})
	}
	return written, err
}

func (h *half) end(broken error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.broken == nil {
		h.broken = broken
	}
	h.fin = true
	h.changedLocked()
}

// memStream is one side of a stream in memory.
type memStream struct {
	in, out *half
	mu      sync.Mutex
	readBy  time.Time
	writeBy time.Time
}

func newStreams() (a, b *memStream) {
	x, y := newHalf(), newHalf()
	return &memStream{in: x, out: y}, &memStream{in: y, out: x}
}

func (s *memStream) deadlines() (read, write time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.readBy, s.writeBy
}

func (s *memStream) Read(p []byte) (int, error) {
	by, _ := s.deadlines()
	return s.in.read(p, by)
}

func (s *memStream) Write(p []byte) (int, error) {
	_, by := s.deadlines()
	return s.out.write(p, by)
}

func (s *memStream) CloseWrite() error { s.out.end(nil); return nil }
func (s *memStream) Close() error      { return s.CloseWrite() }
func (s *memStream) Reset() error {
	s.in.end(errReset)
	s.out.end(errReset)
	return nil
}

func (s *memStream) SetReadDeadline(t time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.readBy = t
	return nil
}

func (s *memStream) SetWriteDeadline(t time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writeBy = t
	return nil
}

// behaviour answers a request on a stream, as a peer.
type behaviour func(k kind, s stream)

// fakeNet is a network of peers with behaviours.
type fakeNet struct {
	latency time.Duration // one way
	mu      sync.Mutex
	peers   map[peer.ID]behaviour // nil: can't be reached
	asked   map[peer.ID]int
	wg      sync.WaitGroup
}

func (n *fakeNet) open(ctx context.Context, id peer.ID, p protocol.ID) (stream, error) {
	n.mu.Lock()
	n.asked[id]++
	behave, ok := n.peers[id]
	n.mu.Unlock()
	select {
	case <-time.After(n.latency):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if !ok {
		return nil, errUnsupported
	}
	if behave == nil {
		return nil, errors.New("connection refused")
	}
	for k := range kinds {
		if protocols[k] == p {
			ours, theirs := newStreams()
			n.wg.Go(func() {
				time.Sleep(n.latency)
				behave(k, theirs)
			})
			return ours, nil
		}
	}
	return nil, errUnsupported
}

func (n *fakeNet) set(id peer.ID, b behaviour) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.peers[id] = b
}

func (n *fakeNet) times(id peer.ID) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.asked[id]
}

// newFake makes a node on a network of peers. It has no host: only its fetches work.
func newFake(t testing.TB, peers map[peer.ID]behaviour) (*Node, *fakeNet) {
	t.Helper()
	net := &fakeNet{latency: 5 * time.Millisecond, peers: peers, asked: map[peer.ID]int{}}
	base, cancel := context.WithCancel(context.Background())
	n := &Node{stats: &counters{}, log: zap.NewNop(), keeps: make(chan struct{}, keepsAtATime)}
	n.book = newBook(time.Hour, func(peer.ID, error) {})
	n.fetch = &fetcher{
		net: net, book: n.book, stats: n.stats, timeout: 30 * time.Second, answer: 3 * time.Second,
		minRate: 64 << 10, base: base, calls: map[string]*call{},
	}
	for id := range peers {
		n.book.add(id, true)
	}
	t.Cleanup(func() {
		cancel()
		n.fetch.close()
		n.wg.Wait()
		net.wg.Wait()
	})
	return n, net
}

// honest answers from a source, with the real server.
func honest(src Source) behaviour {
	sv := testServer(Serve{State: Anyone, Blocks: Anyone, Items: Anyone, Shards: Anyone, Concurrent: 1000, PerPeer: 1000, Rate: 100_000}, src)
	return func(k kind, s stream) { sv.handle(k, "reader", s) }
}

func testServer(config Serve, src Source) *server {
	sv := newServer(context.Background(), config, src, &counters{}, zap.NewNop())
	sv.listed = func(id peer.ID) bool { return id == "listed" }
	sv.banned = func(id peer.ID) bool { return id == "banned" }
	return sv
}

// altered answers honestly, but for what alter does with the whole answer.
func altered(src Source, alter func(answer []byte) []byte) behaviour {
	return func(k kind, s stream) {
		ours, theirs := newStreams()
		done := make(chan struct{})
		go func() {
			defer close(done)
			honest(src)(k, theirs)
		}()
		defer func() {
			_ = ours.Reset()
			<-done
		}()
		request := make([]byte, 8<<10)
		n, err := readFull(s, request)
		if err != nil {
			return
		}
		_, _ = ours.Write(request[:n])
		_ = ours.CloseWrite()
		answer := make([]byte, 512<<10)
		if n, err = readFull(ours, answer); err != nil {
			return
		}
		_, _ = s.Write(alter(answer[:n]))
		_ = s.CloseWrite()
	}
}

// readFull reads to the end.
func readFull(s stream, b []byte) (n int, err error) {
	for {
		m, err := s.Read(b[n:])
		n += m
		if err == io.EOF {
			return n, nil
		}
		if err != nil {
			return n, err
		}
	}
}

// fixed answers everything the same.
type fixed []byte

func (f fixed) open(context.Context, peer.ID, protocol.ID) (stream, error) {
	ours, theirs := newStreams()
	theirs.out.room = len(f) + 1
	_, _ = theirs.Write(f)
	_ = theirs.CloseWrite()
	return ours, nil
}

// silent takes requests and never answers.
func silent(_ kind, s stream) {
	b := make([]byte, 1024)
	for {
		if _, err := s.Read(b); err == errReset {
			return
		} else if err != nil {
			time.Sleep(time.Second)
		}
	}
}

// dripping answers honestly, a byte each 100 ms.
func dripping(src Source) behaviour {
	return func(k kind, s stream) {
		var answer []byte
		altered(src, func(a []byte) []byte { answer = a; return nil })(k, noEnd{s})
		for i := range answer {
			if _, err := s.Write(answer[i : i+1]); err != nil {
				return
			}
			time.Sleep(100 * time.Millisecond)
		}
		_ = s.CloseWrite()
	}
}

// noEnd keeps a stream open.
type noEnd struct{ stream }

func (noEnd) CloseWrite() error { return nil }

// breaking resets the stream in the middle of an answer.
func breaking(src Source) behaviour {
	return func(k kind, s stream) {
		altered(src, func(a []byte) []byte { return a[:len(a)/2] })(k, noEnd{s})
		_ = s.Reset()
	}
}

func resetting(_ kind, s stream) { _ = s.Reset() }

// overloaded says so until that time.
func overloadedUntil(at time.Time, src Source) behaviour {
	return func(k kind, s stream) {
		if wait := time.Until(at); wait > 0 {
			decline(s, statusOverloaded, wait)
			return
		}
		honest(src)(k, s)
	}
}

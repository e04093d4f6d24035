package da

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/protocol"
	"golang.org/x/time/rate"
)

// Bounds of what others ask of this node's part of the DHT.
const (
	dhtStreams    = 256       // at a time
	dhtPerClient  = 4         // of these
	dhtBytes      = 256 << 10 // a second
	dhtAnswers    = 1 << 20   // bytes of answers a second: a short request may have a long one
	maxDHTMessage = 16 << 10  // a request of this DHT has some hundred bytes
)

// guardedHost is the host as the DHT sees it. The DHT itself bounds little of what
// others may ask.
type guardedHost struct {
	host.Host
	n       *Node
	bytes   *rate.Limiter // of all requests
	answers *rate.Limiter // bytes of all answers

	mu     sync.Mutex // guards the rest
	all    int        // streams
	active map[string]int
}

// SetStreamHandler implements host.Host.
func (h *guardedHost) SetStreamHandler(id protocol.ID, handle network.StreamHandler) {
	h.Host.SetStreamHandler(id, func(s network.Stream) {
		from := s.Conn().RemotePeer()
		client := h.n.serve.client(from, s)
		if !h.n.gater.peer(from) || !h.enter(client) {
			_ = s.Reset()
			return
		}
		defer h.exit(client)
		handle(&guardedStream{Stream: s, ctx: h.n.fetch.base, bytes: h.bytes, answers: h.answers})
	})
}

func (h *guardedHost) enter(client string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.all >= dhtStreams || h.active[client] >= dhtPerClient {
		return false
	}
	h.all++
	h.active[client]++
	return true
}

func (h *guardedHost) exit(client string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.all--
	if h.active[client]--; h.active[client] == 0 {
		delete(h.active, client)
	}
}

var errLongMessage = errors.New("message is too long")

// guardedStream reads requests of the DHT, each a varint with its length and that many
// bytes: no faster than is allowed, and none that is too long, for whose length alone its
// reader would take memory. Answers are written no faster than is allowed, either.
type guardedStream struct {
	network.Stream
	ctx     context.Context
	bytes   *rate.Limiter
	answers *rate.Limiter

	left   uint64 // of a message
	length uint64 // of the next one, as far as it has come
	shift  uint
}

// Read implements network.Stream.
func (s *guardedStream) Read(p []byte) (int, error) {
	n, err := s.Stream.Read(p[:min(len(p), 4096)])
	if waited := s.bytes.WaitN(s.ctx, n); waited != nil {
		return 0, waited
	}
	if !s.allows(p[:n]) {
		_ = s.Reset()
		return 0, errLongMessage
	}
	return n, err
}

// Write implements network.Stream.
func (s *guardedStream) Write(b []byte) (written int, err error) {
	for part := range slices.Chunk(b, writePart) {
		if err := s.answers.WaitN(s.ctx, len(part)); err != nil {
			return written, err
		}
		n, err := s.Stream.Write(part)
		if written += n; err != nil {
			return written, err
		}
	}
	return written, nil
}

// allows follows the lengths in a part of what comes.
func (s *guardedStream) allows(b []byte) bool {
	for len(b) > 0 {
		if s.left > 0 {
			skip := min(s.left, uint64(len(b)))
			s.left, b = s.left-skip, b[skip:]
			continue
		}
		s.length |= uint64(b[0]&0x7f) << s.shift
		s.shift += 7
		if s.length > maxDHTMessage || s.shift > 21 {
			return false
		}
		if b[0] < 0x80 {
			s.left, s.length, s.shift = s.length, 0, 0
		}
		b = b[1:]
	}
	return true
}

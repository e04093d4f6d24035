package da

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"go.uber.org/zap"

	"accessor/da/justify"
	"accessor/forks"
	"accessor/state/merkle"
)

// handle answers one request and ends the stream.
func (sv *server) handle(k kind, id peer.ID, s stream) {
	if sv.banned(id) {
		_ = s.Reset()
		return
	}
	listed := sv.listed(id)
	if sv.config.access(k) == Listed && !listed {
		sv.stats.refused.Add(1)
		decline(s, statusRefused)
		return
	}
	client := sv.client(id, s)
	wait, ok := sv.admit(k, client, listed)
	switch {
	case !ok:
		_ = s.Reset()
		return
	case wait > 0:
		sv.stats.limited.Add(1)
		decline(s, statusOverloaded, wait)
		return
	}
	defer sv.leave(client)
	ctx, cancel := context.WithTimeout(sv.base, serveTime)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = s.Reset() })
	defer stop()

	if err := sv.serve(ctx, k, s, listed); err != nil {
		sv.stats.aborted.Add(1)
		sv.log.Debug("answer a peer", zap.Stringer("peer", id), zap.String("protocol", string(protocols[k])), zap.Error(err))
		_ = s.Reset()
		return
	}
	_ = s.Close()
}

// decline answers with a status, without waiting for the request: it isn't read, so a
// flood costs little.
func decline(s stream, status byte, wait ...time.Duration) {
	b := []byte{status}
	for _, w := range wait {
		b = binary.LittleEndian.AppendUint32(b, uint32(max(1, w.Milliseconds())))
	}
	err := s.SetWriteDeadline(time.Now().Add(requestTime))
	if err == nil {
		_, err = s.Write(b)
	}
	if err == nil {
		err = s.CloseWrite()
	}
	if err != nil {
		_ = s.Reset()
		return
	}
	// What the peer still sends is thrown away: a reset could overtake the status.
	_ = s.Close()
}

// maxRequest is the size of each kind's largest request.
var maxRequest = [kinds]int{rangeRequestSize, 36 + MaxKeys*merkle.KeySize, 36, 32, 34 + 2*maxShards, 36 + 2*maxShards}

// errBusy: too many requests are being answered.
var errBusy = errors.New("too many requests")

// serve reads the request and answers it. An error means that the stream is to be
// reset.
func (sv *server) serve(ctx context.Context, k kind, s stream, listed bool) error {
	if err := s.SetReadDeadline(time.Now().Add(requestTime)); err != nil {
		return err
	}
	m := messages{s}
	request, err := m.next(maxRequest[k])
	if err == nil {
		err = m.end()
	}
	a := newAnswer(ctx, s, sv.bytes)
	defer func() { sv.stats.servedBytes.Add(uint64(a.paced.sent)) }()
	switch {
	case errors.Is(err, errInvalid):
		err = ErrRequest
	case err != nil:
		return fmt.Errorf("read request: %w", err)
	case !sv.enter(listed):
		err = errBusy
	default:
		defer sv.exit(listed)
		err = sv.answer(ctx, k, request, a)
	}
	if err != nil && (a.begun || sv.base.Err() != nil) { // no error of the source's, where the node is closed
		return err
	}
	count := sv.decline(k, a, err)
	if err := a.flush(); err != nil {
		return err
	}
	count.Add(1)
	return nil
}

// decline answers with the status that an error means, where there is one, and says what
// the answer counts as.
func (sv *server) decline(k kind, a *answer, err error) (count *atomic.Uint64) {
	pause := busyPause
	switch {
	case err == nil:
		return &sv.stats.served
	case errors.Is(err, ErrNotHeld):
		a.status(statusNotHeld)
		return &sv.stats.servedEmpty
	case errors.Is(err, ErrTooLarge):
		a.status(statusTooLarge)
		return &sv.stats.servedEmpty
	case errors.Is(err, ErrRequest):
		a.status(statusBad)
		return &sv.stats.malformed
	case errors.Is(err, errBusy):
		count = &sv.stats.limited
	default:
		// The source failed. It may do better later.
		count, pause = &sv.stats.aborted, time.Second
		sv.told.Do(func() {
			sv.log.Warn("serve a peer", zap.String("protocol", string(protocols[k])), zap.Error(err))
		})
	}
	a.status(statusOverloaded)
	a.write(binary.LittleEndian.AppendUint32(nil, uint32(pause.Milliseconds())))
	return count
}

func (sv *server) answer(ctx context.Context, k kind, request []byte, a *answer) error {
	switch k {
	case kindRange:
		return sv.answerRange(ctx, request, a)
	case kindKeys:
		return sv.answerKeys(ctx, request, a)
	case kindBlocks:
		return sv.answerBlocks(ctx, request, a)
	case kindItem:
		return sv.answerItem(ctx, request, a)
	default:
		return sv.answerShards(ctx, k, request, a)
	}
}

func (sv *server) answerRange(ctx context.Context, b []byte, a *answer) error {
	block, req, err := decodeRange(b)
	if err != nil {
		return err
	}
	req.MaxSize = min(req.MaxSize, uint32(sv.most))
	p, err := onWorker(ctx, sv.workers, func() (*merkle.Proof, error) { return sv.src.ProveRange(ctx, block, req) })
	if err != nil {
		return err
	}
	if p.Size() > MaxItem { // a single pair
		return ErrTooLarge
	}
	a.proof(p)
	return nil
}

func (sv *server) answerKeys(ctx context.Context, b []byte, a *answer) error {
	block, keys, most, err := decodeKeys(b)
	if err != nil {
		return err
	}
	if len(keys) > 1 {
		most = min(most, sv.most)
	}
	p, err := onWorker(ctx, sv.workers, func() (*merkle.Proof, error) { return sv.src.Prove(ctx, block, keys, most) })
	if err != nil {
		return err
	}
	if p.Size() > most {
		return ErrTooLarge
	}
	a.proof(p)
	return nil
}

func (sv *server) answerBlocks(ctx context.Context, b []byte, a *answer) error {
	above, most, err := decodeBlocks(b)
	if err != nil {
		return err
	}
	most = min(most, sv.most)
	blocks, err := onWorker(ctx, sv.workers, func() ([]Block, error) { return sv.src.Blocks(ctx, above, most) })
	if err != nil {
		return err
	}
	if len(blocks) == 0 {
		return ErrNotHeld
	}
	// The source keeps to most about; the answer does exactly.
	size := 0
	for i := range blocks {
		b, err := appendBlock(nil, &blocks[i])
		if err != nil {
			return err
		}
		if size += 4 + len(b); i > 0 && size > most {
			break
		}
		if len(b) > MaxItem {
			return ErrNotHeld // the first one: nobody would take it
		}
		a.ok()
		a.message(b)
	}
	return nil
}

func (sv *server) answerItem(ctx context.Context, b []byte, a *answer) error {
	if len(b) != forks.HashSize {
		return ErrRequest
	}
	hash := forks.Hash(b)
	var item []byte
	err := ErrNotHeld
	if sv.src != nil {
		item, err = onWorker(ctx, sv.workers, func() ([]byte, error) { return sv.src.Item(ctx, hash) })
	}
	if errors.Is(err, ErrNotHeld) && sv.items != nil {
		// Whatever keeps it from being read, it isn't here.
		if kept, e := onWorker(ctx, sv.workers, func() ([]byte, error) { return sv.items.Get(hash) }); e == nil {
			item, err = kept, nil
		}
	}
	if err != nil {
		return err
	}
	if len(item) > MaxItem {
		return ErrNotHeld
	}
	a.ok()
	a.message(item)
	return nil
}

// answerShards gives those of the asked shards that are here, in the order asked, until
// there are as many as asked for, or MaxAnswer bytes. An empty message at the end says
// that no other one is here.
func (sv *server) answerShards(ctx context.Context, k kind, b []byte, a *answer) error {
	q, err := decodeShards(k, b)
	if err != nil {
		return err
	}
	given, size := 0, 0
	for at := 0; at < len(q.indices); at++ {
		var path justify.Justification
		read := 0
		piece, err := onWorker(ctx, sv.workers, func() ([]byte, error) {
			for ; at < len(q.indices); at++ { // those that aren't here take no turns of their own
				shard, err := sv.shard(ctx, q.root, q.indices[at])
				if errors.Is(err, ErrNotHeld) {
					continue
				}
				if err != nil {
					return nil, err
				}
				read = shard.Size()
				if q.segment >= len(shard.Segments) {
					return nil, ErrNotHeld
				}
				var piece []byte
				piece, path = pieceOf(shard, q.segment)
				return piece, nil
			}
			return nil, ErrNotHeld
		})
		if waited := sv.reads.WaitN(ctx, read); waited != nil { // for what was of no use, too
			return waited
		}
		if errors.Is(err, ErrNotHeld) {
			continue
		}
		if err != nil {
			return err
		}
		a.ok()
		a.message(binary.LittleEndian.AppendUint16(nil, q.indices[at]))
		a.message(piece)
		a.message(path.Append(nil))
		given, size = given+1, size+len(piece)
		if a.err != nil || given == q.most || size >= sv.most {
			return nil
		}
	}
	if given == 0 {
		return ErrNotHeld
	}
	a.message(nil)
	return nil
}

// shard gives a shard of the source, else of those kept here.
func (sv *server) shard(ctx context.Context, root forks.Hash, index uint16) (Shard, error) {
	if sv.src != nil {
		if shard, err := sv.src.Shard(ctx, root, index); !errors.Is(err, ErrNotHeld) {
			return shard, err
		}
	}
	shard, _, err := sv.kept.get(root, int(index))
	return shard, err
}

// pieceOf gives the bundle shard (segment -1) or a segment shard, with its justification.
func pieceOf(s Shard, segment int) ([]byte, justify.Justification) {
	if segment < 0 {
		return s.Bundle, justify.ForBundle(s.Path, s.Segments)
	}
	bundle := justify.Hash(hashOf(s.Bundle))
	return s.Segments[segment], justify.ForSegment(s.Path, bundle, s.Segments, segment)
}

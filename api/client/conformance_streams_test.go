package client_test

import (
	"bufio"
	"context"
	"encoding/hex"
	"errors"
	"io"
	"iter"
	"net"
	"path/filepath"
	"sync"
	"time"

	"accessor/api/client"
)

// follower reads events as they come.
type follower struct {
	cancel context.CancelFunc
	next   chan event
	done   sync.WaitGroup
}

type event struct {
	client.Event
	err error
}

func (f *follower) close() {
	f.cancel()
	f.done.Wait()
}

// doEventsOpen begins to read events, and waits until the stream stands: so that nothing
// is missed that the next step does.
func doEventsOpen(_ context.Context, o *operation, a *arguments) (any, error) {
	ctx, cancel := context.WithCancel(context.Background())
	f := &follower{cancel: cancel, next: make(chan event)}
	stands := make(chan error, 1)
	tell := func(err error) {
		select {
		case stands <- err:
		default:
		}
	}
	seq := o.c.Events(ctx, client.EventOptions{After: a.After, Kinds: a.Kinds, Subscribed: func() { tell(nil) }})
	f.done.Go(func() {
		for e, err := range seq {
			if err != nil {
				tell(err)
			}
			select {
			case f.next <- event{e, err}:
			case <-ctx.Done():
				return
			}
		}
	})
	if err := <-stands; err != nil {
		f.close()
		return nil, err
	}
	o.r.events[a.Events] = f
	return nothing, nil
}

func doEventsNext(_ context.Context, o *operation, a *arguments) (any, error) {
	f := o.r.events[a.Events]
	if f == nil {
		return nil, errors.New("no such events")
	}
	within := 10 * time.Second
	if a.WithinMS > 0 {
		within = milliseconds(a.WithinMS)
	}
	select {
	case e := <-f.next:
		return e.Event, e.err
	case <-time.After(within):
		return nil, &client.Error{Kind: client.ErrDeadline}
	}
}

func doEventsClose(_ context.Context, o *operation, a *arguments) (any, error) {
	f := o.r.events[a.Events]
	if f == nil {
		return nil, errors.New("no such events")
	}
	delete(o.r.events, a.Events)
	f.close()
	return nothing, nil
}

// walker is a scan on its way.
type walker struct {
	next func() (client.Pair, error, bool)
}

func doScanOpen(_ context.Context, o *operation, a *arguments) (any, error) {
	opts, err := scanOptions(a)
	if err != nil {
		return nil, err
	}
	next, stop := iter.Pull2(o.at(a).Scan(context.Background(), opts))
	o.r.scans[a.Scan] = &walker{next}
	o.r.t.Cleanup(stop)
	return nothing, nil
}

func doScanNext(_ context.Context, o *operation, a *arguments) (any, error) {
	w := o.r.scans[a.Scan]
	if w == nil {
		return nil, errors.New("no such scan")
	}
	var pairs []client.Pair
	for len(pairs) < a.Count {
		p, err, ok := w.next()
		if err != nil {
			return nil, err
		}
		if !ok {
			break
		}
		pairs = append(pairs, p)
	}
	if pairs == nil {
		return map[string]any{"pairs": nil}, nil
	}
	return map[string]any{"pairs": hexPairs(pairs)}, nil
}

// draftOperations are those of drafts and pins.
var draftOperations = map[string]doing{
	"draft": doneBy(func(ctx context.Context, o *operation, a *arguments) (any, error) {
		d, err := o.c.BeginDraft(ctx, draftOptions(a))
		if err != nil {
			return nil, err
		}
		return d.Info(ctx)
	}),
	"draft_info": ofDraft(func(ctx context.Context, d *client.Draft, _ *arguments) (any, error) { return d.Info(ctx) }),
	"draft_drop": ofDraft(func(ctx context.Context, d *client.Draft, _ *arguments) (any, error) { return nothing, d.Drop(ctx) }),
	"draft_renew": ofDraft(func(ctx context.Context, d *client.Draft, a *arguments) (any, error) {
		return d.Renew(ctx, milliseconds(a.TTLMS))
	}),
	"draft_get": ofDraft(func(ctx context.Context, d *client.Draft, a *arguments) (any, error) {
		keys, err := keysOf([]string{a.Key})
		if err != nil {
			return nil, err
		}
		value, present, err := d.Get(ctx, keys[0])
		if !present {
			value = nil
		}
		return map[string]any{"value": hexOrNil(value)}, err
	}),
	"draft_get_many": ofDraft(func(ctx context.Context, d *client.Draft, a *arguments) (any, error) {
		keys, err := keysOf(a.Keys)
		if err != nil {
			return nil, err
		}
		values, err := d.GetMany(ctx, keys)
		return map[string]any{"values": hexList(values)}, err
	}),
	"draft_put": ofDraft(func(ctx context.Context, d *client.Draft, a *arguments) (any, error) {
		pairs, err := pairsOf([][2]string{{a.Key, a.Value}})
		if err != nil {
			return nil, err
		}
		return nothing, d.Put(ctx, pairs[0].Key, pairs[0].Value)
	}),
	"draft_delete": ofDraft(func(ctx context.Context, d *client.Draft, a *arguments) (any, error) {
		keys, err := keysOf([]string{a.Key})
		if err != nil {
			return nil, err
		}
		return nothing, d.Delete(ctx, keys[0])
	}),
	"draft_write":  ofDraft(writeDraft),
	"draft_commit": ofDraft(commitDraft),
	"draft_scope":  doneBy(doDraftScope),
	"drafts": func(ctx context.Context, o *operation) (any, error) {
		list, err := o.c.Drafts(ctx)
		return map[string]any{"drafts": list}, err
	},
	"pins": func(ctx context.Context, o *operation) (any, error) {
		list, err := o.c.Pins(ctx)
		return map[string]any{"pins": list}, err
	},
	"pin": doneBy(func(ctx context.Context, o *operation, a *arguments) (any, error) {
		p, err := o.c.Pin(ctx, pinOptions(a))
		if err != nil {
			return nil, err
		}
		return p.Info(), nil
	}),
	"pin_renew": doneBy(func(ctx context.Context, o *operation, a *arguments) (any, error) {
		return o.c.PinByID(a.Pin).Renew(ctx, milliseconds(a.TTLMS))
	}),
	"unpin": doneBy(func(ctx context.Context, o *operation, a *arguments) (any, error) {
		return nothing, o.c.PinByID(a.Pin).End(ctx)
	}),
	"pin_scope": doneBy(func(ctx context.Context, o *operation, a *arguments) (any, error) {
		p, err := o.c.Pin(ctx, pinOptions(a))
		if err != nil {
			return nil, err
		}
		return map[string]any{"id": p.ID()}, p.Close()
	}),
}

func ofDraft(f func(ctx context.Context, d *client.Draft, a *arguments) (any, error)) doing {
	return doneBy(func(ctx context.Context, o *operation, a *arguments) (any, error) {
		return f(ctx, o.c.Draft(a.Draft), a)
	})
}

func draftOptions(a *arguments) client.DraftOptions {
	return client.DraftOptions{Parent: a.Parent, Slot: a.Slot, Owner: a.Owner, TTL: milliseconds(a.TTLMS)}
}

func pinOptions(a *arguments) client.PinOptions {
	return client.PinOptions{Block: a.Block, Owner: a.Owner, TTL: milliseconds(a.TTLMS), Directory: a.Directory}
}

func writeDraft(ctx context.Context, d *client.Draft, a *arguments) (any, error) {
	puts, err := pairsOf(a.Puts)
	if err != nil {
		return nil, err
	}
	dels, err := keysOf(a.Dels)
	if err != nil {
		return nil, err
	}
	return nothing, d.Write(ctx, client.WriteSet{Puts: puts, Dels: dels})
}

func commitDraft(ctx context.Context, d *client.Draft, a *arguments) (any, error) {
	opts := client.CommitOptions{Hash: a.Hash, PostRoot: a.PostRoot}
	if a.Header != nil {
		var err error
		if opts.Header, err = hex.DecodeString(*a.Header); err != nil {
			return nil, err
		}
	}
	return d.Commit(ctx, opts)
}

// doDraftScope uses a draft as programs do: it is closed when the function that began it
// returns.
func doDraftScope(ctx context.Context, o *operation, a *arguments) (any, error) {
	id := ""
	use := func() (err error) {
		d, err := o.c.BeginDraft(ctx, draftOptions(a))
		if err != nil {
			return err
		}
		id = d.ID()
		defer func() { err = errors.Join(err, d.Close()) }()
		if _, err := writeDraft(ctx, d, a); err != nil {
			return err
		}
		if a.Commit != nil {
			if _, err := d.Commit(ctx, client.CommitOptions{Hash: *a.Commit}); err != nil {
				return err
			}
		}
		if a.Fail {
			return errStop
		}
		return nil
	}
	if err := use(); err != nil && (!a.Fail || err.Error() != errStop.Error()) {
		return nil, err
	}
	return map[string]any{"id": id}, nil
}

// fake listens on a socket with prepared answers, and makes its client.
func (r *runner) fake(name string, answers [][]string) error {
	if len(answers) == 0 {
		return errors.New("no answers")
	}
	l, err := net.Listen("unix", filepath.Join(r.dir, name+".sock"))
	if err != nil {
		return err
	}
	accept(r.t, l, time.Minute, func(n int, c net.Conn, in *bufio.Reader) {
		if readHead(in) == "" {
			return
		}
		for _, text := range answers[min(n, len(answers)-1)] {
			time.Sleep(20 * time.Millisecond)
			if _, err := io.WriteString(c, text); err != nil {
				return
			}
		}
	})
	r.connect(name)
	return nil
}

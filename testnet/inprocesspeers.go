package testnet

import (
	"context"
	"errors"
	"time"

	"accessor/api/client"
	"accessor/da"
	"accessor/da/datest"
	"accessor/da/shards"
	"accessor/forks"
	"accessor/peers"
	"accessor/state"
)

var _ Peers = (*Local)(nil)

// Join implements Peers.
func (l *Local) Join(node int, how Joining) (Sidecar, error) {
	p := l.make(node)
	p.joined = &how
	return p, nil
}

// Host implements Peers: liars have their places above the nodes'.
func (l *Local) Host(liar int) (datest.Host, error) { return l.net.Host(MaxNodes + liar) }

// Meet implements Peers.
func (l *Local) Meet(_ context.Context, liars []string) error {
	l.met, l.liars = true, liars
	for _, p := range l.all {
		if peering := p.peers.Load(); peering != nil {
			for _, address := range p.asked() {
				if err := peering.node.AddPeer(address); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// asked gives the addresses of a node's peers.
func (p *inProcess) asked() []string {
	return p.of.addresses.asked(p.node, p.joined, p.of.met, p.of.liars)
}

// Divide implements Peers: packets are lost.
func (l *Local) Divide(_ context.Context, sides [][]int) error {
	l.net.Divide(sides)
	return nil
}

// peering is what a sidecar that runs has to do with peers.
type peering struct {
	place int
	net   datest.Network
	host  datest.Host
	node  *da.Node
	end   context.CancelFunc // of what goes on in the background
	ended chan struct{}
}

// shardsBudget is the space that a node has for shards, in bytes.
const shardsBudget = 1 << 30

// startPeers makes the node of an Accessor, and has it sync.
func (p *inProcess) startPeers(ctx context.Context, acc *state.Accessor, fetcher *peers.Fetcher) (*peering, error) {
	h, err := p.of.net.Host(p.node)
	if err != nil {
		return nil, err
	}
	config := da.Config{Host: h, Peers: p.asked(),
		Serve: da.Serve{State: da.Anyone, Blocks: da.Anyone, Items: da.Anyone, Shards: da.Anyone}}
	var node *da.Node
	if config.Shards, err = shards.Open(p.cfg.Dir+".shards", shards.Options{Budget: shardsBudget}); err == nil {
		node, err = da.New(ctx, config, peers.NewSource(acc, nil))
	}
	if err != nil {
		return nil, errors.Join(err, h.Close())
	}
	fetcher.Use(node)
	p.of.addresses.note(p.node, node.Addrs()[0])
	background, end := context.WithCancel(context.WithoutCancel(ctx))
	out := &peering{p.node, p.of.net, h, node, end, make(chan struct{})}
	go func() {
		defer close(out.ended)
		if p.joined != nil {
			p.joined.sync(background, acc)
		}
	}()
	return out, nil
}

// followEvery is how often blocks of peers are taken in: once in a slot.
const followEvery = 6 * time.Second

// sync does what accessor serve does in the background: it fills the store, catches up
// once, and follows.
func (j *Joining) sync(ctx context.Context, acc *state.Accessor) {
	for {
		err := acc.Sync(ctx, state.SyncOptions{CatchUp: true})
		if err == nil && !j.Follow || ctx.Err() != nil {
			return
		}
		wait := time.Second
		if err == nil {
			wait = followEvery // it is whole: from now on Sync catches up alone
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
		}
	}
}

// stop ends all; at once says that others aren't told.
func (p *peering) stop(atOnce bool) error {
	if atOnce {
		p.net.Vanish(p.place)
	}
	p.end()
	<-p.ended
	return errors.Join(p.node.Close(), p.host.Close())
}

// noteStatus adds what was done with peers.
func (p *peering) noteStatus(s *Status) {
	st := p.node.Stats()
	s.Fetches, s.Rejected, s.Banned = st.Fetches, st.Rejected, st.Banned
}

// createTrusting makes a store of a block without its state.
func createTrusting(cfg state.Config, trusted forks.Block) (*state.Accessor, error) {
	return state.CreatePartial(cfg, state.Anchor{Hash: trusted.Hash, Slot: trusted.Slot, Root: trusted.Root})
}

// Keep implements Sidecar.
func (p *inProcess) Keep(_ context.Context, spec da.Spec, index int, sh da.Shard) error {
	node, err := p.da()
	if err != nil {
		return err
	}
	return node.PutShard(spec, index, sh)
}

// Kept implements Sidecar.
func (p *inProcess) Kept(_ context.Context, root forks.Hash, index int) (client.ErasureShard, error) {
	node, err := p.da()
	if err != nil {
		return client.ErasureShard{}, err
	}
	sh, err := node.Shard(root, index)
	return shardOf(sh), err
}

// Bundle implements Sidecar.
func (p *inProcess) Bundle(ctx context.Context, spec da.Spec) ([]byte, error) {
	node, err := p.da()
	if err != nil {
		return nil, err
	}
	b, err := node.FetchErasure(ctx, spec)
	return b, encodingError(err)
}

// Segment implements Sidecar.
func (p *inProcess) Segment(ctx context.Context, spec da.Spec, i int) ([]byte, error) {
	node, err := p.da()
	if err != nil {
		return nil, err
	}
	b, err := node.FetchSegment(ctx, spec, i)
	return b, encodingError(err)
}

func (p *inProcess) da() (*da.Node, error) {
	if peering := p.peers.Load(); peering != nil {
		return peering.node, nil
	}
	return nil, errDown
}

// encodingError tells that an encoder lied, which here none does.
func encodingError(err error) error {
	if errors.Is(err, da.ErrEncoding) {
		return told(ErrWrong, err)
	}
	return err
}

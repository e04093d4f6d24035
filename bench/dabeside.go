package bench

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"sync"
	"time"

	"golang.org/x/crypto/blake2b"

	"accessor/checkpoint/rocks"
	"accessor/da"
	"accessor/forks"
	"accessor/peers"
	"accessor/state"
	"accessor/state/merkle"
)

// Of the peers that ask while others read.
const (
	askers      = 8
	askerWishes = 2 // requests of each at a time: all together as many as a node takes by default
	askedItems  = 8
	askedItem   = 1 << 20 // bytes
	// besideReads are local reads of a round, of cached keys; of others as many as there are, at most.
	besideReads = 40_000
)

// Kinds of local reads.
const (
	cachedReads = iota
	uncachedReads
	readKinds
)

// newAskedItems makes the items that the node has for peers, by their hashes.
func newAskedItems() map[forks.Hash][]byte {
	list := make(map[forks.Hash][]byte, askedItems)
	for i := range askedItems {
		item := make([]byte, askedItem)
		_, _ = rand.NewChaCha8([32]byte{9, byte(i)}).Read(item)
		list[blake2b.Sum256(item)] = item
	}
	return list
}

// itemSource is a source with such items.
type itemSource struct {
	da.Source
	items map[forks.Hash][]byte
}

// Item implements da.Source.
func (s itemSource) Item(_ context.Context, hash forks.Hash) ([]byte, error) {
	if item := s.items[hash]; item != nil {
		return item, nil
	}
	return nil, da.ErrNotHeld
}

// besidePeers measures local reads, over the API's Unix socket, while peers ask for as
// much as they are given, and in turn with that alone.
func (r *daRun) besidePeers() (err error) {
	r.view.Close()
	if err := r.reopen(rocks.Options{}, state.DefaultCacheBytes, state.Retention{All: true}); err != nil {
		return err
	}
	if r.view, err = r.acc.View(r.ctx, r.at.Hash); err != nil {
		return err
	}
	<-r.acc.CacheReady()
	src := itemSource{peers.NewSource(r.acc, nil), newAskedItems()}
	limits := da.DefaultServe()
	limits.State = da.Anyone
	node, err := da.New(r.ctx, da.Config{Listen: []string{overLoopback}, Serve: limits}, src)
	if err != nil {
		return err
	}
	defer node.Close()
	var s servers
	defer func() { err = errors.Join(err, s.Close()) }()
	reads := load{read: readHTTP, conns: 1}
	if reads.path, err = s.serveStore(r.ctx, r.acc, r.dir); err != nil {
		return err
	}
	keys := r.rnd.Perm(r.Keys)
	// Of each round, p50 and p99.
	var alone, busy, ratios [readKinds][2][]float64
	var served, limited, bytes, asked float64
	for round := range r.da.Rounds {
		r.Progress("local reads while peers ask", int64(round), int64(r.da.Rounds))
		for kind := range readKinds {
			each := min(besideReads, 4*r.Keys)
			if kind == uncachedReads {
				each = min(besideReads, (len(keys)-apiHot)/2/(r.da.Rounds-round))
			}
			quiet, err := r.localReads(reads, &keys, kind, each)
			if err != nil {
				return err
			}
			stop, err := r.startAsking(node)
			if err != nil {
				return err
			}
			start, before := time.Now(), node.Stats()
			asking, err := r.localReads(reads, &keys, kind, each)
			after := node.Stats()
			asked += time.Since(start).Seconds()
			served += float64(after.Served - before.Served)
			limited += float64(after.Limited - before.Limited)
			bytes += float64(after.ServedBytes - before.ServedBytes)
			if err = errors.Join(err, stop()); err != nil {
				return err
			}
			for i, percent := range []int{50, 99} {
				a, b := quiet.micros(percent), asking.micros(percent)
				alone[kind][i], busy[kind][i], ratios[kind][i] = append(alone[kind][i], a), append(busy[kind][i], b), append(ratios[kind][i], b/a)
			}
		}
	}
	if served == 0 {
		return errors.New("the peers were served nothing")
	}
	given := fmt.Sprintf("peers got %.0f answers and %.1f MB a second, and were put off %.0f times", served/asked, bytes/1e6/asked, limited/asked)
	for kind, what := range [readKinds]string{"cached", "uncached"} {
		what = fmt.Sprintf("local read of %s keys while %d peers ask all they can, ", what, askers)
		r.add(DARow{What: what + "p50 over that alone", Value: median(ratios[kind][0]), Unit: "×", Must: "≤ 1.5",
			Beside: fmt.Sprintf("%.0f µs, alone %.0f; %s", median(busy[kind][0]), median(alone[kind][0]), given)})
		r.add(DARow{What: what + "p99", Value: median(busy[kind][1]) / 1000, Unit: "ms", Must: "≤ 1",
			Beside: fmt.Sprintf("alone %.3f ms: %.1f times", median(alone[kind][1])/1000, median(ratios[kind][1]))})
	}
	return nil
}

// localReads sends reads of single keys: of few keys again and again, or (kind
// uncachedReads) each of another that nobody has read before, which it takes from keys.
func (r *daRun) localReads(l load, keys *[]int, kind, each int) (measured, error) {
	l.each = each
	n := each + each/10 + 1 // the first tenth isn't measured
	list := (*keys)[:min(apiHot, len(*keys))]
	if kind == uncachedReads {
		list = (*keys)[len(*keys)-min(n, len(*keys)):]
		*keys = (*keys)[:len(*keys)-len(list)]
	}
	for _, i := range list {
		value, _, err := r.view.Get(key(i))
		if err != nil {
			return measured{}, err
		}
		l.requests = append(l.requests, request{want: value, bytes: fmt.Appendf(nil,
			"GET /v1/blocks/0x%s/state/%x HTTP/1.1\r\nHost: accessor\r\nAccept: application/octet-stream\r\n\r\n", r.at.Hash, key(i))})
	}
	return l.run(r.ctx)
}

// startAsking lets peers in another process ask the node until stop is called.
func (r *daRun) startAsking(node *da.Node) (stop func() error, err error) {
	ctx, cancel := context.WithCancel(r.ctx)
	cmd := exec.CommandContext(ctx, r.da.Program, "bench", "ask", node.Addrs()[0],
		fmt.Sprintf("%s:%d:%s", r.at.Hash, r.at.Slot, r.at.Root), strconv.Itoa(r.Keys))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		cancel()
		return nil, err
	}
	stop = func() error {
		cancel()
		_ = cmd.Wait() // killed
		return nil
	}
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		return nil, errors.Join(fmt.Errorf("peers that ask: %w", err), stop())
	}
	go func() { _, _ = io.Copy(io.Discard, out) }()
	return stop, nil
}

// Ask lets some peers ask the node at an address for keys, ranges and items, as much as
// it gives them, until ctx ends. begun is called once each has tried.
func Ask(ctx context.Context, addr string, at forks.Block, keys int, begun func()) error {
	items := slices.Collect(maps.Keys(newAskedItems()))
	var wg, first sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for i := range askers {
		node, err := da.New(ctx, da.Config{Peers: []string{addr}}, nil)
		if err != nil {
			return err
		}
		defer node.Close()
		first.Add(1)
		rnd := rand.New(rand.NewPCG(uint64(i), 0))
		for w := range askerWishes {
			mine := rand.New(rand.NewPCG(rnd.Uint64(), 0))
			wg.Go(func() {
				for n := 0; n == 0 || ctx.Err() == nil; n++ {
					if err := askOnce(ctx, node, at, keys, items, mine); err != nil { // such as all being busy
						time.Sleep(10 * time.Millisecond)
					}
					if w == 0 && n == 0 {
						first.Done()
					}
				}
			})
		}
	}
	first.Wait()
	begun()
	<-ctx.Done()
	return nil
}

// askOnce asks for something: half are single keys.
func askOnce(ctx context.Context, node *da.Node, at forks.Block, keys int, items []forks.Hash, rnd *rand.Rand) (err error) {
	k := [merkle.KeySize]byte(key(rnd.IntN(keys)))
	switch rnd.IntN(8) {
	case 0:
		_, err = node.FetchItem(ctx, items[rnd.IntN(len(items))])
	case 1:
		req := merkle.RangeRequest{Start: k, MaxSize: 1 << 20}
		for i := range req.End {
			req.End[i] = 0xff
		}
		_, _, err = node.FetchRange(ctx, at, req)
	default:
		_, err = node.FetchKeys(ctx, at, [][merkle.KeySize]byte{k})
	}
	return err
}

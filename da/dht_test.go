package da

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	"golang.org/x/time/rate"

	"accessor/da/datest"
	"accessor/da/items"
	"accessor/forks"
)

// inDHT gives a node of the DHT that looks often for what it has to announce.
func inDHT(t *testing.T, config Config, src Source, peers ...*Node) *Node {
	config.DHT, config.announce = true, 100*time.Millisecond
	config.Listen = []string{overTCP}
	for _, p := range peers {
		config.Peers = append(config.Peers, p.Addrs()...)
	}
	return newNode(t, config, src)
}

// withItem gives a store of items with one item.
func withItem(t *testing.T, item []byte) *items.Store {
	t.Helper()
	store, err := items.Open(t.TempDir(), 1<<20)
	if err == nil {
		err = store.Put(hashOf(item), item)
	}
	if err != nil {
		t.Fatal(err)
	}
	return store
}

// Five nodes in a row: each knows the one before. The first gets what only the last has,
// of which a node in between says that it has it, and lies.
func TestDHT(t *testing.T) {
	item := []byte("what only one has")
	hash := hashOf(item)
	lie := &library{items: map[forks.Hash][]byte{hash: []byte("something else")}}
	b := inDHT(t, Config{Serve: Serve{Items: Anyone}}, empty{})
	d := inDHT(t, Config{Serve: Serve{Items: Anyone}}, lie, b)
	e := inDHT(t, Config{Serve: Serve{Items: Anyone}}, empty{}, d)
	c := inDHT(t, Config{Serve: Serve{Items: Anyone, State: Anyone, Blocks: Anyone}, Items: withItem(t, item)}, books(), e)
	a := inDHT(t, Config{}, nil, b)
	without := newNode(t, Config{Peers: b.Addrs()}, nil)
	soon(t, "announce", func() bool {
		all, err := c.guide.dht.ProviderStore().GetProviders(t.Context(), keyOf(placeOfItem(hash)).Hash())
		return err == nil && len(all) == 1 && len(all[0].Addrs) > 0
	})
	soon(t, "announce a lie", func() bool { return d.guide.provide(t.Context(), placeOfItem(hash)) == nil })
	soon(t, "know others", func() bool { return a.guide.dht.RoutingTable().Size() >= 2 })

	if _, err := without.FetchItem(t.Context(), hash); !errors.Is(err, ErrNotFound) {
		t.Errorf("without the DHT: %v", err)
	}
	soon(t, "fetch", func() bool { // the announcement is on its way
		got, err := a.FetchItem(t.Context(), hash)
		if err == nil && !bytes.Equal(got, item) {
			t.Fatalf("got %q", got)
		}
		return err == nil
	})
	// Another one finds who gives state; announcements of it follow those of items.
	f := inDHT(t, Config{}, nil, b)
	soon(t, "announce state", func() bool {
		for _, n := range []*Node{b, d, e} {
			all, err := n.guide.dht.ProviderStore().GetProviders(t.Context(), keyOf(placeOfState).Hash())
			if err != nil || len(all) == 0 {
				return false
			}
		}
		return f.guide.dht.RoutingTable().Size() > 0
	})
	if err := fetches()["keys"](t.Context(), f); err != nil {
		t.Errorf("state that is given to anyone: %v", err)
	}
	if err := fetches()["blocks"](t.Context(), a); errors.Is(err, nil) {
		t.Error("took blocks of a peer that was found")
	}
	if _, err := a.FetchItem(t.Context(), hashOf([]byte("nobody's"))); !errors.Is(err, ErrNotFound) && !errors.Is(err, ErrUnavailable) {
		t.Errorf("what nobody has: %v", err)
	}
	for _, p := range a.Peers() {
		if p.Trusted != (p.ID == b.ID()) {
			t.Errorf("%+v", p)
		}
	}
	// What isn't given to anyone is not announced.
	if all := a.guide.places(); len(all) != 0 {
		t.Errorf("announces %q", all)
	}
	if all := c.guide.places(); len(all) != 2 {
		t.Errorf("announces %q", all)
	}
}

// A host that was given is left as it was.
func TestDHTLeavesTheHost(t *testing.T) {
	h, err := datest.NewHost()
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	before := len(h.Mux().Protocols())
	n := newNode(t, Config{Host: h, DHT: true, Serve: DefaultServe()}, books())
	if len(h.Mux().Protocols()) == before {
		t.Error("it serves nothing")
	}
	if err := n.Close(); err != nil {
		t.Error(err)
	}
	if all := h.Mux().Protocols(); len(all) != before {
		t.Errorf("it serves %q", all)
	}
}

// What is new comes before what waits, and everything has its turn; what failed is tried
// again as soon.
func TestSchedule(t *testing.T) {
	s := &schedule{first: time.Minute}
	places, now := []string{"a", "b", "c", "d"}, time.Unix(0, 0)
	step := func(want string, ok bool, after time.Duration) {
		t.Helper()
		due := s.due(places, now, 2)
		if got := strings.Join(due, ""); got != want {
			t.Errorf("at %d s: due %q, want %q", now.Unix(), got, want)
		}
		for _, place := range due {
			s.announced(place, now, ok)
		}
		now = now.Add(after)
	}
	step("ab", false, 0)
	places = []string{"n", "a", "b", "c", "d"}
	step("nc", true, 0)
	step("d", true, 0)
	step("", true, time.Minute)
	step("na", true, 0) // n for the second time, a for the first
	step("bc", true, time.Minute)
	step("ab", true, 0)
	step("d", true, time.Minute)
	step("nc", true, 0)
	for range 20 {
		s.announced("a", now, true)
	}
	if at := s.places["a"]; at.pause != announceEvery {
		t.Errorf("%+v", at)
	}
	if due := s.due([]string{"x"}, now, 2); len(due) != 1 || len(s.places) != 0 {
		t.Errorf("due %q, remembers %v", due, s.places)
	}
}

// Who gives states is not searched for at each block that is too new. Those who want to
// know it at one time are all told; that one of them gives up ends nothing for the others,
// nor for those who come later.
func TestStateIsSoughtSeldom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, _ := newFake(t, nil)
		searches := 0
		g := &guide{n: n, search: func(ctx context.Context, _ string) bool {
			searches++
			time.Sleep(time.Second)
			return ctx.Err() == nil
		}}
		seek := func(patience time.Duration) bool {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			return g.seek(ctx, placeOfState)
		}
		impatient := make(chan bool)
		go func() { impatient <- seek(time.Millisecond) }()
		synctest.Wait()
		if !seek(5 * time.Second) {
			t.Error("who waited isn't told")
		}
		if <-impatient || seek(time.Minute) {
			t.Error("told to have found somebody anew")
		}
		time.Sleep(stateEvery)
		if !seek(5*time.Second) || searches != 2 {
			t.Errorf("%d searches", searches)
		}
	})
}

// A search ends in its time, and is bound to who searches; a denied peer isn't found.
func TestDHTSearchEnds(t *testing.T) {
	item := []byte("an item")
	b := inDHT(t, Config{Serve: Serve{Items: Anyone}}, empty{})
	c := inDHT(t, Config{Serve: Serve{Items: Anyone}, Items: withItem(t, item)}, nil, b)
	a := inDHT(t, Config{Deny: []string{c.ID()}}, nil, b)
	soon(t, "announce", func() bool {
		all, err := b.guide.dht.ProviderStore().GetProviders(t.Context(), keyOf(placeOfItem(hashOf(item))).Hash())
		return err == nil && len(all) == 1
	})
	soon(t, "connect", func() bool { return isConnected(a, b) })
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	start := time.Now()
	if _, err := a.FetchItem(ctx, hashOf(item)); err == nil {
		t.Error("fetched from a peer that is denied")
	}
	if d := time.Since(start); d > time.Second {
		t.Errorf("took %v", d)
	}
	if len(a.Peers()) != 1 {
		t.Errorf("%+v", a.Peers())
	}
}

// Records that anybody may write are bounded, and run out.
func TestProviders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		addr := ma.StringCast("/ip4/10.1.2.3/tcp/1")
		many := make([]ma.Multiaddr, 1000)
		for i := range many {
			many[i] = addr
		}
		p := newProviders("self", func() []ma.Multiaddr { return []ma.Multiaddr{addr} })
		add := func(place, id string) {
			if err := p.AddProvider(t.Context(), []byte(place), peer.AddrInfo{ID: peer.ID(id), Addrs: many}); err != nil {
				t.Fatal(err)
			}
		}
		long := ma.StringCast(strings.Repeat("/quic-v1", maxRecord/2))
		if err := p.AddProvider(t.Context(), []byte("y"), peer.AddrInfo{ID: "liar", Addrs: []ma.Multiaddr{long, addr, addr}}); err != nil {
			t.Fatal(err)
		}
		if all, _ := p.GetProviders(t.Context(), []byte("y")); len(all) != 1 || len(all[0].Addrs) != 2 || !all[0].Addrs[1].Equal(addr) {
			t.Errorf("of a long address, and two others: %v", all)
		}
		add("x", "self")
		for i := range 2 * maxPerPlace {
			add("x", fmt.Sprint(i))
		}
		all, _ := p.GetProviders(t.Context(), []byte("x"))
		if len(all) != maxPerPlace || len(all[0].Addrs) > maxFoundAddrs {
			t.Errorf("%d records of a place, with %d addresses", len(all), len(all[0].Addrs))
		}
		for i := range 2 * maxProviders {
			add(fmt.Sprint(i), "liar")
		}
		count := 0
		for _, at := range p.places {
			count += len(at)
		}
		if p.count != count || count > maxProviders {
			t.Errorf("%d records, counted as %d", count, p.count)
		}
		time.Sleep(providerTime + time.Second)
		if all, _ := p.GetProviders(t.Context(), []byte(fmt.Sprint(2*maxProviders-1))); len(all) != 0 {
			t.Errorf("after its time: %v", all)
		}
		add("new", "self")
		if len(p.places) != 1 || p.count != 1 {
			t.Errorf("%d places are kept, %d records", len(p.places), p.count)
		}
		if all, _ := p.GetProviders(t.Context(), []byte("new")); len(all) != 1 || !all[0].Addrs[0].Equal(addr) {
			t.Errorf("itself: %v", all)
		}
	})
}

// readFrom is a stream of what is there.
type readFrom struct {
	network.Stream
	io.Reader
}

func (r readFrom) Read(p []byte) (int, error) { return r.Reader.Read(p) }
func (readFrom) Reset() error                 { return nil }

// writeTo is a stream that somebody reads at once.
type writeTo struct {
	network.Stream
	w io.Writer
}

func (w writeTo) Write(p []byte) (int, error) { return w.w.Write(p) }

func guarded(b []byte) *guardedStream {
	return &guardedStream{Stream: readFrom{Reader: bytes.NewReader(b)}, ctx: context.Background(), bytes: rate.NewLimiter(rate.Inf, 1<<20)}
}

// Requests of the DHT that claim to be long aren't read.
func TestGuardedStream(t *testing.T) {
	message := func(size int) []byte { return append(binary.AppendUvarint(nil, uint64(size)), make([]byte, size)...) }
	for name, c := range map[string]struct {
		sent []byte
		ok   bool
	}{
		"small":        {bytes.Repeat(message(300), 100), true},
		"largest":      {append(message(maxDHTMessage), message(0)...), true},
		"too long":     {append(message(5), message(maxDHTMessage+1)...), false},
		"4 MiB":        {binary.AppendUvarint(nil, 4<<20), false},
		"no end":       {bytes.Repeat([]byte{0x80}, 10), false},
		"padded zeros": {[]byte{0x81, 0x80, 0x80, 0x00}, false},
	} {
		got, err := io.ReadAll(guarded(c.sent))
		if c.ok != (err == nil) || c.ok && !bytes.Equal(got, c.sent) || !c.ok && !errors.Is(err, errLongMessage) {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
	}
}

// All that is written goes on, and no faster than is allowed.
func TestGuardedWrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var got bytes.Buffer
		s := &guardedStream{Stream: writeTo{w: &got}, ctx: t.Context(), answers: rate.NewLimiter(1<<20, writePart)}
		sent := filled(rand.New(rand.NewPCG(1, 1)), 3<<20+5)
		d := took(func() {
			if n, err := s.Write(sent); n != len(sent) || err != nil {
				t.Error(n, err)
			}
		})
		if !bytes.Equal(got.Bytes(), sent) || d < 2900*time.Millisecond {
			t.Errorf("%d bytes in %v", got.Len(), d)
		}
	})
}

// Whatever comes, and in whatever parts, what is let through has no long message.
func FuzzGuardedStream(f *testing.F) {
	f.Add([]byte{3, 1, 2, 3, 0xff, 0x7f}, 2)
	f.Fuzz(func(t *testing.T, sent []byte, part int) {
		part = max(1, min(part, 100))
		s := guarded(sent)
		var got []byte
		for p := make([]byte, part); ; {
			n, err := s.Read(p)
			got = append(got, p[:n]...)
			if err != nil {
				break
			}
		}
		if !bytes.HasPrefix(sent, got) {
			t.Fatal("other bytes came out")
		}
		for len(got) > 0 {
			size, n := binary.Uvarint(got)
			if n == 0 {
				break // cut
			}
			if n < 0 || size > maxDHTMessage {
				t.Fatalf("a message of %d bytes was let through", size)
			}
			got = got[min(len(got), n+int(size)):]
		}
	})
}

package api_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"accessor/api"
	"accessor/api/access"
	"accessor/state"
)

// patience is how long a test waits for what must come.
const patience = 30 * time.Second

// unixServer serves a handler on a Unix socket, all roles to everybody.
type unixServer struct {
	http *http.Server
	path string
	done chan struct{}
}

func serveUnix(t testing.TB, h http.Handler, change ...func(*http.Server)) *unixServer {
	t.Helper()
	u := &unixServer{path: filepath.Join(t.TempDir(), "s"), done: make(chan struct{})}
	l, err := net.Listen("unix", u.path)
	if err != nil {
		t.Fatal(err)
	}
	u.http = &http.Server{
		Handler: h, ReadHeaderTimeout: 500 * time.Millisecond,
		ConnContext: func(ctx context.Context, _ net.Conn) context.Context {
			return access.WithClient(ctx, access.Client{Roles: access.All})
		},
	}
	for _, f := range change {
		f(u.http)
	}
	go func() {
		_ = u.http.Serve(l)
		close(u.done)
	}()
	t.Cleanup(u.close)
	return u
}

// close ends the server; twice is safe.
func (u *unixServer) close() {
	_ = u.http.Close()
	<-u.done
}

// dial gives a connection, and a client of HTTP with as many as it needs.
func (u *unixServer) dial(t testing.TB) net.Conn {
	t.Helper()
	conn, err := net.Dial("unix", u.path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(patience))
	return conn
}

func (u *unixServer) client(t testing.TB) *http.Client {
	t.Helper()
	tr := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", u.path)
	}}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

// stream reads server-sent events as a browser does.
type stream struct {
	t      testing.TB
	resp   *http.Response
	in     *bufio.Scanner
	cancel context.CancelFunc
	first  string // line
	last   string // id
	beats  int
}

// follow opens a stream of events, and waits until it has begun.
func (u *unixServer) follow(t testing.TB, query, last string) *stream {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	t.Cleanup(cancel)
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://accessor/v1/events"+query, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Accept", "text/event-stream")
	if last != "" {
		r.Header.Set("Last-Event-ID", last)
	}
	resp, err := u.client(t).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "text/event-stream" || resp.Header.Get("Cache-Control") != "no-store" {
		t.Fatalf("%s, %v", resp.Status, resp.Header)
	}
	s := &stream{t: t, resp: resp, in: bufio.NewScanner(resp.Body), cancel: cancel}
	if !s.in.Scan() {
		t.Fatal(s.in.Err())
	}
	s.first = s.in.Text()
	return s
}

// read gives the next event; ok is false at the end of the stream.
func (s *stream) read() (e api.Event, ok bool) {
	s.t.Helper()
	var name, data string
	for s.in.Scan() {
		field, value, _ := strings.Cut(s.in.Text(), ":")
		value = strings.TrimPrefix(value, " ")
		switch {
		case s.in.Text() == "" && data == "":
		case s.in.Text() == "":
			if err := json.Unmarshal([]byte(data), &e); err != nil || e.Kind != name || strconv.FormatUint(e.Position, 10) != s.last {
				s.t.Errorf("event %s, id %s: %s: %v", name, s.last, data, err)
			}
			return e, true
		case field == "":
			s.beats++
		case field == "event":
			name = value
		case field == "id":
			s.last = value
		case field == "data":
			data = value
		default:
			s.t.Errorf("line %q", s.in.Text())
		}
	}
	return e, false
}

// want wants the next events to be these: "reorg b3 from a2 at alfred 2".
func (s *stream) want(list ...string) (last api.Event) {
	s.t.Helper()
	for _, w := range list {
		e, ok := s.read()
		if !ok {
			s.t.Fatalf("the stream ends before %q: %v", w, s.in.Err())
		}
		if got := told(e); got != w {
			s.t.Fatalf("event %q, want %q", got, w)
		}
		last = e
	}
	return last
}

func told(e api.Event) string {
	words := []string{e.Kind}
	name := func(h [32]byte) string { return strings.TrimRight(string(h[:31]), "\x00") }
	if e.Block != nil {
		words = append(words, name(*e.Block))
	}
	if e.Old != nil {
		words = append(words, "from "+name(e.Old.Block))
	}
	if e.Common != nil {
		words = append(words, "at "+name(e.Common.Block))
	}
	for _, n := range []*int{e.Depth, e.Lost, e.Pruned} {
		if n != nil {
			words = append(words, strconv.Itoa(*n))
		}
	}
	if w := e.WalkBack; w != nil {
		words = append(words, fmt.Sprintf("over %s %d %d", name(w.From), w.Blocks, len(w.Reasons)))
	}
	if l := e.Lock; l != nil {
		words = append(words, name(l.Block), l.Owner, l.Outcome)
	}
	return strings.Join(words, " ")
}

func TestEvents(t *testing.T) {
	s := newServer(t, api.Options{Heartbeat: 50 * time.Millisecond})
	u := serveUnix(t, s)
	all := u.follow(t, "?after=1", "")
	if all.first != "retry: 2000" {
		t.Errorf("first line %q", all.first)
	}
	some := u.follow(t, "?kinds=reorg,finalized", "")
	later := u.follow(t, "", "")
	all.want("block alfred", "head alfred")
	s.accept("a1", "alfred")
	e := all.want("block a1", "head a1 from alfred")
	later.want("block a1", "head a1 from alfred")
	if *e.Slot != 1 || *e.Root != s.states["a1"].root(t) || *e.Parent != hash("alfred") || e.Old.Root != s.states["alfred"].root(t) ||
		time.Since(time.UnixMilli(e.TimeMS)).Abs() > time.Hour {
		t.Errorf("%+v", e)
	}
	s.accept("b1", "alfred")
	s.accept("b2", "b1")
	all.want("block b1", "block b2", "reorg b2 from a1 at alfred 1", "head b2 from a1")
	s.accept("x2", "a1")
	all.want("block x2")
	if err := s.acc.Store().DropCheckpoint(hash("a1")); err != nil {
		t.Fatal(err)
	}
	s.accept("y2", "a1")
	all.want("walkback y2 over alfred 1 1", "block y2")
	if _, err := s.acc.Finalize(t.Context(), hash("b1")); err != nil {
		t.Fatal(err)
	}
	all.want("finalized b1 from alfred 3")
	some.want("reorg b2 from a1 at alfred 1", "finalized b1 from alfred 3")
	// Who has seen the last event of its kinds long ago learns where it stands.
	for some.beats < 3 {
		if !some.in.Scan() {
			t.Fatal(some.in.Err())
		}
		if strings.HasPrefix(some.in.Text(), ":") {
			some.beats++
		}
	}
	// The server's end is the stream's.
	s.Close()
	for _, one := range []*stream{all, some} {
		if e, ok := one.read(); ok || one.in.Err() != nil {
			t.Errorf("after the end: %+v, %v", e, one.in.Err())
		}
	}
}

// TestEventsOfLocks: who had the slot, and what became of it.
func TestEventsOfLocks(t *testing.T) {
	s := newServer(t, api.Options{})
	u := serveUnix(t, s)
	b := s.block("a1", "alfred")
	lease, err := s.acc.Locks().TryLock(b.Slot, hash("other"), "another")
	if err != nil {
		t.Fatal(err)
	}
	locks := u.follow(t, "?kinds=lock", "")
	done := make(chan error, 1)
	go func() {
		_, err := s.acc.Import(context.Background(), b)
		done <- err
	}()
	locks.want("lock a1 other another waiting")
	lease.Release()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if e := locks.want("lock a1 other another granted"); e.Root != nil || e.Lock.WaitedMS < 0 {
		t.Errorf("%+v", e)
	}
}

// TestEventsResume: a client that comes back to a store that was closed meanwhile
// misses nothing, also where it saw no event at all; one of another store is told.
func TestEventsResume(t *testing.T) {
	s := newServer(t, api.Options{})
	u := serveUnix(t, s)
	one, idle := u.follow(t, "?after=1", ""), u.follow(t, "", "")
	one.want("block alfred", "head alfred")
	s.accept("a1", "alfred")
	one.want("block a1")
	for idle.last == "" && idle.in.Scan() { // the id that comes before any event
		if id, ok := strings.CutPrefix(idle.in.Text(), "id: "); ok {
			idle.last = id
		}
	}
	s.Close()
	s.reopen()
	again := serveUnix(t, s)
	s.accept("a2", "a1")
	again.follow(t, "", one.last).want("head a1 from alfred", "block a2", "head a2 from a1")
	again.follow(t, "?after=1", one.last).want("head a1 from alfred")
	again.follow(t, "?after="+one.last, "").want("head a1 from alfred", "block a2")
	again.follow(t, "?kinds=block", idle.last).want("block a1", "block a2")
	e := again.follow(t, "?kinds=lock", "9007199254740991").want("gap")
	if *e.First != 1 || *e.Last != e.Position || e.TimeMS != 0 {
		t.Errorf("%+v", e)
	}
}

// reopen closes the store, and serves it anew.
func (s *server) reopen() {
	s.t.Helper()
	if err := s.acc.Close(); err != nil {
		s.t.Fatal(err)
	}
	acc, err := state.Open(s.config)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { acc.Close() })
	if s.Server, err = api.New(acc, api.Options{}); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(s.Close)
	s.acc = acc
}

// TestEventsStoreCloses: a store that is closed under a stream ends it.
func TestEventsStoreCloses(t *testing.T) {
	s := newServer(t, api.Options{})
	u := serveUnix(t, s)
	one := u.follow(t, "", "")
	if err := s.acc.Close(); err != nil {
		t.Fatal(err)
	}
	if e, ok := one.read(); ok || one.in.Err() != nil {
		t.Errorf("%+v, %v", e, one.in.Err())
	}
}

// TestSlowReader: a client that doesn't read its events is cut off, and hinders no
// import; with its last id it goes on.
func TestSlowReader(t *testing.T) {
	s := newServer(t, api.Options{Heartbeat: time.Millisecond, Stall: 100 * time.Millisecond})
	returned := make(chan struct{}, 1)
	u := serveUnix(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.ServeHTTP(w, r)
		returned <- struct{}{}
	}))
	conn := u.dial(t)
	if err := conn.(*net.UnixConn).SetReadBuffer(4 << 10); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write([]byte("GET /v1/events?after=1 HTTP/1.1\r\nHost: x\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	parent := "alfred"
	for i := 0; ; i++ {
		name := "a" + strconv.Itoa(i)
		s.accept(name, parent)
		parent = name
		select {
		case <-returned:
			conn.Close()
			u.follow(t, "?after=1", "").want("block alfred", "head alfred", "block a0", "head a0 from alfred")
			return
		default:
		}
		if time.Since(began) > patience {
			t.Fatal("a client that doesn't read is never cut off")
		}
	}
}

// TestSubscribers: two hundred of them see every block while blocks are imported; more
// than there may be are refused.
func TestSubscribers(t *testing.T) {
	const many = 200
	s := newServer(t, api.Options{Limits: api.Limits{Subscribers: many}})
	u := serveUnix(t, s)
	before := goleak.IgnoreCurrent()
	var streams []*stream
	for range many {
		streams = append(streams, u.follow(t, "?kinds=block", ""))
	}
	s.do("GET /v1/events", nil).problem(429, "too-many-requests")
	var readers sync.WaitGroup
	for _, one := range streams {
		readers.Go(func() {
			for i := range 20 {
				if e, ok := one.read(); !ok || told(e) != "block a"+strconv.Itoa(i) {
					t.Errorf("%d: %s, %v", i, told(e), one.in.Err())
					return
				}
			}
		})
	}
	parent := "alfred"
	for i := range 20 {
		name := "a" + strconv.Itoa(i)
		s.accept(name, parent)
		parent = name
	}
	readers.Wait()
	for _, one := range streams {
		one.cancel()
		one.resp.Body.Close()
	}
	if err := goleak.Find(before, goleak.IgnoreAnyFunction("net/http.(*Transport).startDialConnForLocked")); err != nil {
		t.Error(err)
	}
	u.follow(t, "", "") // there is room again
}

func TestSubscriberLimits(t *testing.T) {
	s := newServer(t, api.Options{Limits: api.Limits{Subscribers: 5, AllSubscribers: 1}})
	u := serveUnix(t, s)
	one := u.follow(t, "", "")
	s.uid = 7
	if s.do("GET /v1/events", nil).problem(503, "busy"); s.do("GET /v1/events", nil).Header().Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	one.cancel()
	one.resp.Body.Close()
	for began := time.Now(); ; time.Sleep(time.Millisecond) {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		w := s.within(ctx, "GET /v1/events")
		cancel()
		if w.Code == 200 {
			break
		}
		if time.Since(began) > patience {
			t.Fatal("the place of one that has gone isn't free")
		}
	}
}

// TestEventRequests: what can't be meant, and HEAD, which would have no end.
func TestEventRequests(t *testing.T) {
	s := newServer(t, api.Options{})
	for _, target := range []string{"?kinds=blocks", "?kinds=block,", "?after=x", "?after=-1", "?after=1&after=2", "?kind=block", "?after=99999999999999999999"} {
		s.do("GET /v1/events"+target, nil).problem(400, "bad-request")
	}
	s.do("GET /v1/events", nil, "Last-Event-ID: x").problem(400, "bad-request")
	s.do("GET /v1/events", nil, "Last-Event-ID: 1", "Last-Event-ID: 2").problem(400, "bad-request")
	s.do("GET /v1/events", nil, "Accept: application/json").problem(406, "not-acceptable")
	s.doc = nil
	s.do("HEAD /v1/events", nil).is(200)
	s.roles = 0
	s.do("GET /v1/events", nil).problem(403, "forbidden")
	s.roles = access.Of(access.Observer)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if w := s.within(ctx, "GET /v1/events"); w.Code != 200 || !strings.HasPrefix(w.Body.String(), "retry: 2000\n:\nid: ") {
		t.Errorf("%d: %s", w.Code, w.Body)
	}
}

package api_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"accessor/api"
	"accessor/state"
)

// hostile is an API on a Unix socket whose clients mean no good.
type hostile struct {
	*server
	u *unixServer
}

// newHostile serves, and wants at the end: no panic, nothing in the log that is the
// clients' doing, no goroutine left, and nothing taken of the budget of bodies.
func newHostile(t *testing.T, opts api.Options, change ...func(*http.Server)) *hostile {
	t.Helper()
	before := goleak.IgnoreCurrent()
	t.Cleanup(func() {
		if err := goleak.Find(before); err != nil {
			t.Error(err)
		}
	})
	errs, logged := observer.New(zapcore.ErrorLevel)
	opts.Log = zap.New(errs)
	if opts.BodyTime == 0 {
		opts.BodyTime = 200 * time.Millisecond
	}
	h := &hostile{server: newServer(t, opts)}
	h.doc = nil
	var panics strings.Builder
	h.u = serveUnix(t, h.server, append(change, func(s *http.Server) { s.ErrorLog = log.New(&panics, "", 0) })...)
	t.Cleanup(func() {
		h.eventually("the budget of bodies is free", func() bool { return !h.BodiesInFlight() })
		h.u.close()
		if panics.Len() > 0 {
			t.Error(panics.String())
		}
		for _, e := range logged.All() {
			t.Errorf("logged: %s %v", e.Message, e.ContextMap())
		}
	})
	return h
}

func (h *hostile) eventually(what string, ok func() bool) {
	h.t.Helper()
	for began := time.Now(); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Since(began) > patience {
			h.t.Fatalf("%s: not after %v", what, patience)
		}
	}
}

// fine wants the server to answer others as ever.
func (h *hostile) fine() {
	h.t.Helper()
	resp, body := h.ask(h.u.dial(h.t), "GET", "GET /v1/blocks/0/state/entropy HTTP/1.1\r\nHost: x\r\nAccept: application/octet-stream\r\n\r\n")
	if resp == nil || resp.StatusCode != 200 || body != "chaos" {
		h.t.Fatalf("an honest client is answered %v, %q", resp, body)
	}
}

// ask sends bytes as they are and reads an answer; nil where the server hangs up
// without a word.
func (h *hostile) ask(conn net.Conn, method, text string) (*reply, string) {
	h.t.Helper()
	_, _ = io.WriteString(conn, text) // it may be refused before it is all sent
	return h.answer(bufio.NewReader(conn), method, text)
}

func (h *hostile) answer(in *bufio.Reader, method, text string) (*reply, string) {
	h.t.Helper()
	resp, err := http.ReadResponse(in, &http.Request{Method: method})
	if errors.Is(err, os.ErrDeadlineExceeded) {
		h.t.Errorf("%.200q: no answer in %v", text, patience)
	}
	if err != nil {
		return nil, ""
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	if resp.StatusCode >= 500 && resp.StatusCode != 501 && resp.StatusCode != 503 && resp.StatusCode != 505 {
		h.t.Errorf("%.200q: %s %.300s", text, resp.Status, body)
	}
	if resp.StatusCode >= 300 && resp.StatusCode < 400 && resp.StatusCode != 304 {
		h.t.Errorf("%.200q: a redirect to %s", text, resp.Header.Get("Location"))
	}
	return &reply{resp.StatusCode, resp.Status, resp.Header, resp.Close}, string(body)
}

// reply is the head of an answer.
type reply struct {
	StatusCode int
	Status     string
	Header     http.Header
	Close      bool // of the connection
}

// one sends a request over a connection of its own, and wants a problem's status.
func (h *hostile) one(status int, method, target, headers, body string) {
	h.t.Helper()
	text := method + " " + target + " HTTP/1.1\r\nHost: x\r\n" + headers + "\r\n" + body
	conn := h.u.dial(h.t)
	defer conn.Close()
	resp, answer := h.ask(conn, method, text)
	switch {
	case resp == nil:
		h.t.Errorf("%.200q: no answer, want %d", text, status)
	case resp.StatusCode != status:
		h.t.Errorf("%.200q: %s %.300s, want %d", text, resp.Status, answer, status)
	}
}

// withBody is one with a JSON body.
func (h *hostile) withBody(status int, method, target, body string) {
	h.t.Helper()
	h.one(status, method, target, fmt.Sprintf("Content-Type: application/json\r\nContent-Length: %d\r\n", len(body)), body)
}

// TestSlowLoris: heads and bodies that come a byte at a time, or stop, are given up.
func TestSlowLoris(t *testing.T) {
	h := newHostile(t, api.Options{})
	var clients sync.WaitGroup
	defer clients.Wait()
	drip := func(begin, drop string, answer string) {
		conn := h.u.dial(t)
		clients.Go(func() {
			_, err := io.WriteString(conn, begin)
			for err == nil {
				time.Sleep(20 * time.Millisecond)
				_, err = io.WriteString(conn, drop)
			}
			got, _ := io.ReadAll(conn)
			if !strings.Contains(string(got), answer) {
				t.Errorf("%.60q is answered %.300q, want %q", begin, got, answer)
			}
		})
	}
	drip("GET /livez HTTP/1.1\r\nHost: x\r\n", "A: b\r\n", "")
	drip("GET /livez HT", "", "")
	drip("POST /v1/blocks HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n", " ", `"timeout"`)
	drip("POST /v1/blocks HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", "1\r\n \r\n", `"timeout"`)
	drip("POST /v1/head HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{", "", `"timeout"`)
	// A body that the server doesn't want is not waited for either.
	drip("POST /v1/nothing HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n", "", `"not-found"`)
	drip("POST /v1/blocks HTTP/1.1\r\nHost: x\r\nContent-Type: text/html\r\nContent-Length: 1000\r\n\r\n", "", `"unsupported-media-type"`)
	h.fine()
}

// TestHalfClosed: clients that end their half of a connection at any place.
func TestHalfClosed(t *testing.T) {
	h := newHostile(t, api.Options{})
	block := string(jsonOf(t, bodyOf(h.block("benny", "alfred"))))
	for _, text := range []string{
		"GET /v1/blocks/0/state/entropy HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET /v1/blocks/0/state HTTP/1.1\r\nHost: x\r\nAccept: application/x-ndjson\r\n\r\n",
		"GET /v1/events HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET /v1/blocks/" + hash("never").String() + "?wait=60s HTTP/1.1\r\nHost: x\r\n\r\n",
		fmt.Sprintf("POST /v1/blocks HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", len(block), block),
		"PUT /v1/anchor HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{}",
	} {
		for _, n := range []int{1, 10, 30, len(text) / 2, len(text) - 1, len(text)} {
			conn := h.u.dial(t)
			if _, err := io.WriteString(conn, text[:n]); err != nil {
				t.Fatal(err)
			}
			if err := conn.(*net.UnixConn).CloseWrite(); err != nil {
				t.Fatal(err)
			}
			h.answer(bufio.NewReader(conn), "GET", text[:n])
			conn.Close()
		}
	}
	h.fine()
}

// TestTooLarge: bodies over the limit, with their length and without, stop at it.
func TestTooLarge(t *testing.T) {
	h := newHostile(t, api.Options{Limits: api.Limits{Body: 1 << 16, Bodies: 128 << 20}})
	var clients sync.WaitGroup
	for _, target := range []string{"/v1/blocks", "/v1/blocks/held", "/v1/blocks/0/state", "/v1/head", "/v1/finalize", "/v1/drafts", "/v1/pins"} {
		for _, media := range []string{"application/json", "application/octet-stream"} {
			status := 413
			if media != "application/json" && target != "/v1/blocks" && target != "/v1/blocks/0/state" {
				status = 415
			}
			head := "Content-Type: " + media + "\r\n"
			clients.Go(func() {
				h.one(status, "POST", target, head+"Content-Length: 9000000000000000000\r\n", "{")
				h.one(status, "POST", target, head+"Content-Length: 16000000\r\n", strings.Repeat(" ", 1<<20))
				chunk := "10000\r\n" + strings.Repeat(" ", 1<<16) + "\r\n"
				h.one(status, "POST", target, head+"Transfer-Encoding: chunked\r\n", strings.Repeat(chunk, 160)+"0\r\n\r\n")
			})
		}
	}
	clients.Wait()
	line := strings.Repeat(" ", 1<<17)
	h.one(200, "POST", "/v1/blocks", fmt.Sprintf("Content-Type: application/x-ndjson\r\nContent-Length: %d\r\n", len(line)), line)
	// Lengths that contradict each other, or are none.
	for _, head := range []string{
		"Content-Length: -1\r\n", "Content-Length: 1x\r\n", "Content-Length: 1\r\nContent-Length: 2\r\n", "Content-Length: 99999999999999999999\r\n",
	} {
		h.one(400, "POST", "/v1/blocks", head, "{}")
	}
	h.fine()
}

// TestIdleConnections: ten thousand connections that never ask anything leave the
// server as quick as it was.
func TestIdleConnections(t *testing.T) {
	h := newHostile(t, api.Options{}, func(s *http.Server) { s.ReadHeaderTimeout = 0 }) // they are to stay
	many := 10_000
	if testing.Short() {
		many = 500
	}
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
		t.Fatal(err)
	}
	if room := (int(files.Cur) - 300) / 2; room < many { // Go has raised it to what it may be
		t.Logf("%d connections instead of %d: no more files may be open", room, many)
		many = room
	}
	conns := make([]net.Conn, 0, many)
	defer func() {
		for _, c := range conns {
			c.Close()
		}
	}()
	for i := range many {
		conn, err := net.Dial("unix", h.u.path)
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, conn)
		if i%2 == 0 { // as idle after a request as before one
			if resp, _ := h.ask(conn, "GET", "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"); resp == nil || resp.StatusCode != 200 {
				t.Fatal(resp)
			}
		}
	}
	began := time.Now()
	for range 100 {
		h.fine()
	}
	if took := time.Since(began); took > patience/3 {
		t.Errorf("100 requests beside %d idle connections took %v", many, took)
	}
}

// TestKeysOfAllLengths: a key that no state of the store can have is refused, and told
// from one that it doesn't have.
func TestKeysOfAllLengths(t *testing.T) {
	h := newHostile(t, api.Options{})
	conn := h.u.dial(t)
	in := bufio.NewReader(conn)
	for digits := range 2*70 + 1 {
		want := 400
		switch digits {
		case 0:
			want = 404 // no such path
		case 62:
			want = 404 // absent
		}
		text := "GET /v1/blocks/head/state/" + strings.Repeat("a", digits) + " HTTP/1.1\r\nHost: x\r\n\r\n"
		if _, err := io.WriteString(conn, text); err != nil {
			t.Fatal(err)
		}
		resp, body := h.answer(in, "GET", text)
		if resp == nil || resp.StatusCode != want || want == 400 && !strings.Contains(body, `"bad-key"`) {
			t.Fatalf("%d digits: %v %s, want %d", digits, resp, body, want)
		}
		keys := jsonOf(t, map[string]any{"keys": []string{strings.Repeat("a", digits)}})
		if digits == 62 {
			want = 200
		} else {
			want = 400
		}
		h.withBody(want, "POST", "/v1/blocks/head/state", string(keys))
	}
	for n := range 71 {
		status := 400
		if n == 31 {
			status = 200
		}
		body := string(api.AppendKeys(nil, [][]byte{bytes.Repeat([]byte{0x77}, n)}))
		h.one(status, "POST", "/v1/blocks/0/state", fmt.Sprintf("Content-Type: application/octet-stream\r\nContent-Length: %d\r\n", len(body)), body)
	}
}

// TestHostileTargets: no path leads anywhere but to a route, or is answered by a
// redirect.
func TestHostileTargets(t *testing.T) {
	h := newHostile(t, api.Options{})
	for target, status := range map[string]int{
		"/v1/blocks/../../../etc/passwd": 404, "/v1/blocks/..%2f..%2fetc/state/x": 400, "/v1/blocks/%2e%2e/state/entropy": 400,
		"/v1//blocks": 404, "/v1/blocks/": 404, "//": 404, "/.": 404, "/v1/./blocks": 404, "/V1/blocks": 404, "/v1/blocks%2fhead": 404,
		"/v1/blocks/head%00/state/entropy": 400, "/v1/blocks/head/state/%00": 400, "/v1/blocks/head/state/%2e%2e": 400,
		"/v1/blocks/голова": 400, "/v1/blocks/%d0%b3": 400, "/v1/blocks/ｈｅａｄ": 400, "/v1/blocks/head/state/entropy\u202e": 400,
		"/v1/blocks/\xff\xfe": 400, "/v1/blocks/%ff": 400, "/v1/blocks/%c0%ae%c0%ae": 400, "/v1/blocks/head/state/%ed%a0%80": 400,
		"/v1/blocks?limit=\xff": 400, "/v1/blocks?limit=%ff": 400, "/v1/blocks?%ff=1": 400, "/v1/blocks?limit=1&limit=2": 400, "/v1/blocks?limit=1;leaves": 400,
		"/v1/blocks?limit=%": 400, "/v1/blocks?limit=1e400": 400, "/v1/blocks?limit=-1": 400, "/v1/blocks?limit=99999999999999999999": 400,
		"/v1/blocks/99999999999999999999": 400, "/v1/blocks/-1": 400, "/v1/blocks/1e3": 400, "/v1/blocks/0x": 400, "/v1/blocks/%20head": 400,
		"/v1/blocks/" + strings.Repeat("a", 65): 400, "/v1/blocks/" + strings.Repeat("a", 9<<10): 414, "/" + strings.Repeat("/", 100): 404,
		"/v1/blocks/head/state?prefix=" + strings.Repeat("f", 9000): 414, "/v1/blocks/head/state?from=%00": 400, "/v1/history/../history/slot": 404,
		"http://elsewhere/v1/blocks/head": 200, "/v1/blocks/head?wait=1000000h": 400, "/v1/blocks/head?wait=NaN": 400, "/v1/blocks/head/state/account:99999999999": 400,
		"/v1/diff?from=head": 400, "/v1/diff?from=head&to=" + strings.Repeat("0", 70): 400, "/v1/drafts/%2e%2e/state/entropy": 404, "/v1/events?after=\x80": 400,
	} {
		h.one(status, "GET", target, "", "")
	}
	h.fine()
}

// TestHostileJSON: what is not JSON, or could mean two things, is refused.
func TestHostileJSON(t *testing.T) {
	h := newHostile(t, api.Options{})
	var d api.Draft
	h.do("POST /v1/drafts", []byte(`{"parent":"`+hash("alfred").String()+`","slot":9,"ttl_ms":60000}`)).is(201).into(&d)
	x := hash("x").String()
	bodies := []string{
		"", " ", "null", "true", "1", `"x"`, "[]", "{", "{}}", "{}{}", `{"hash":}`, "\xef\xbb\xbf{}", "\xff\xfe{\x00}\x00", `{"hash":"` + "\xff" + `"}`,
		`{"` + "\xc3\x28" + `":1}`, `{"hash":"` + x + `","hash":"` + x + `"}`, `{"keys":[],"keys":[]}`, `{"puts":[],"puts":[]}`, `{"a":{"b":1,"b":2}}`,
		`{"parent":"` + x + `","parent":"` + x + `","slot":1}`, `{"slot":1,"slot":2}`,
		`{"ttl_ms":1,"ttl_ms":1}`, `{"block":"head","block":"head"}`, `{"hashes":[],"hashes":[]}`,
		strings.Repeat("[", 100_000), strings.Repeat(`{"a":`, 100_000), `{"keys":` + strings.Repeat("[", 10_000) + strings.Repeat("]", 10_000) + `}`,
		`{"puts":` + strings.Repeat("[", 10_000) + strings.Repeat("]", 10_000) + `,"dels":[]}`,
		`{"slot":1e400}`, `{"slot":99999999999999999999}`, `{"slot":-1}`, `{"slot":1.5}`, `{"slot":` + strings.Repeat("9", 60_000) + `}`,
		`{"ttl_ms":1e308}`, `{"ttl_ms":-9223372036854775809}`, `{"hash":` + strings.Repeat("1", 1000) + `}`, `{"keys":[1e400]}`,
		`{"keys":[null]}`, `{"keys":[""]}`, `{"hashes":["` + x + `00"]}`, `{"hashes":[null,1]}`, `{"puts":[[]],"dels":[]}`, `{"puts":[["00"]]}`,
		`{"puts":[["00","00","00"]]}`, `{"puts":[["0","00"]]}`, `{"dels":["zz"]}`, `{"owner":"\ud800"}`, `{"hash":"\u0000"}`, "{\"hash\":\"\n\"}",
	}
	for _, target := range []string{
		"POST /v1/blocks", "POST /v1/blocks/held", "POST /v1/blocks/head/state", "POST /v1/head", "POST /v1/finalize", "POST /v1/pins", "POST /v1/drafts",
		"PATCH /v1/drafts/" + d.ID + "/state", "POST /v1/drafts/" + d.ID + "/state", "PUT /v1/drafts/" + d.ID + "/state/slot",
		"POST /v1/drafts/" + d.ID + "/commit", "POST /v1/drafts/" + d.ID + "/renew",
	} {
		method, path, _ := strings.Cut(target, " ")
		conn := h.u.dial(t)
		in := bufio.NewReader(conn)
		for _, body := range bodies {
			text := fmt.Sprintf("%s %s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", method, path, len(body), body)
			_, _ = io.WriteString(conn, text)
			resp, answer := h.answer(in, method, text)
			if resp == nil || resp.StatusCode < 400 || resp.StatusCode >= 500 {
				t.Errorf("%s %.80q: %v %.200s", target, body, resp, answer)
			}
			if resp == nil || resp.Close {
				conn = h.u.dial(t)
				in = bufio.NewReader(conn)
			}
		}
	}
	h.fine()
}

// TestMethods: every path answers every method, known or not, and HEAD as GET.
func TestMethods(t *testing.T) {
	h := newHostile(t, api.Options{})
	var doc struct {
		Paths map[string]map[string]json.RawMessage
	}
	h.do("GET /v1/openapi.json", nil).is(200).into(&doc)
	fill := strings.NewReplacer("{id}", "head", "{key}", "entropy")
	conn := h.u.dial(t)
	in := bufio.NewReader(conn)
	for path, methods := range doc.Paths {
		for _, method := range []string{"HEAD", "OPTIONS", "TRACE", "PROPFIND", "get", "Get", "G", strings.Repeat("M", 100), "DELETE", "PATCH", "PUT", "PRI"} {
			if _, ok := methods[strings.ToLower(method)]; ok && method == strings.ToUpper(method) {
				continue
			}
			if path == "/v1/blocks/held" && method == "HEAD" {
				continue // a block of that name is asked for
			}
			text := method + " " + fill.Replace(path) + " HTTP/1.1\r\nHost: x\r\n\r\n"
			if _, err := io.WriteString(conn, text); err != nil {
				t.Fatal(err)
			}
			resp, body := h.answer(in, method, text)
			_, get := methods["get"]
			switch {
			case resp == nil:
				t.Errorf("%.100q: no answer", text)
			case method == "HEAD" && get:
				if resp.StatusCode == 405 || body != "" {
					t.Errorf("%q: %s %s", text, resp.Status, body)
				}
			case resp.StatusCode != 405 || resp.Header.Get("Allow") == "":
				t.Errorf("%.100q: %s %s, Allow %s", text, resp.Status, body, resp.Header.Get("Allow"))
			}
			if resp == nil || resp.Close {
				conn = h.u.dial(t)
				in = bufio.NewReader(conn)
			}
		}
	}
	h.one(200, "OPTIONS", "*", "", "") // by net/http
	h.fine()
}

// TestPipelined: requests that are sent without waiting are answered in their order.
func TestPipelined(t *testing.T) {
	h := newHostile(t, api.Options{})
	conn := h.u.dial(t)
	var text strings.Builder
	const many = 200
	for i := range many {
		switch i % 4 {
		case 0:
			fmt.Fprintf(&text, "GET /v1/blocks/0/state/entropy HTTP/1.1\r\nHost: x\r\nAccept: application/octet-stream\r\n\r\n")
		case 1:
			fmt.Fprintf(&text, "POST /v1/blocks/0/state HTTP/1.1\r\nHost: x\r\nContent-Length: 20\r\n\r\n"+`{"keys":["entropy"]}`)
		case 2:
			fmt.Fprintf(&text, "GET /v1/blocks/%d HTTP/1.1\r\nHost: x\r\n\r\n", 1000+i)
		case 3:
			fmt.Fprintf(&text, "HEAD /v1/blocks/0/state HTTP/1.1\r\nHost: x\r\nAccept: application/x-ndjson\r\n\r\n")
		}
	}
	go func() { _, _ = io.WriteString(conn, text.String()) }()
	in := bufio.NewReader(conn)
	for i := range many {
		method := []string{"GET", "POST", "GET", "HEAD"}[i%4]
		resp, body := h.answer(in, method, "pipelined")
		want := []string{"chaos", hexOf("chaos"), fmt.Sprintf("slot %d", 1000+i), ""}[i%4]
		if resp == nil || !strings.Contains(body, want) {
			t.Fatalf("answer %d: %v %s, want %q", i, resp, body, want)
		}
	}
	// One that is behind an endless one is never answered, and ends with it.
	if _, err := io.WriteString(conn, "GET /v1/events HTTP/1.1\r\nHost: x\r\n\r\nGET /livez HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if line, err := in.ReadString('\n'); err != nil || !strings.Contains(line, "200") {
		t.Fatal(line, err)
	}
	conn.Close()
	h.fine()
}

// TestCancelled: clients that go in the middle of a scan, an import, a stream, a wait
// for a block or for events leave nothing behind.
func TestCancelled(t *testing.T) {
	h := newHostile(t, api.Options{Heartbeat: 10 * time.Millisecond})
	big := &state.Block{Hash: hash("big"), Parent: hash("alfred"), Slot: 1}
	for i := range 20_000 {
		big.Puts = append(big.Puts, state.Pair{Key: []byte(key(fmt.Sprint("big ", i))), Value: bytes.Repeat([]byte{1}, 100)})
	}
	body := api.AppendBlock(nil, big)
	client := h.u.client(t)
	send := func(after time.Duration, method, target, media string, body io.Reader) {
		ctx, cancel := context.WithTimeout(t.Context(), after)
		defer cancel()
		r, err := http.NewRequestWithContext(ctx, method, "http://x"+target, body)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", media)
		r.Header.Set("Accept", media)
		resp, err := client.Do(r)
		if err != nil {
			return
		}
		defer resp.Body.Close()
		if resp.StatusCode == 500 {
			t.Errorf("%s %s: %s", method, target, resp.Status)
		}
		if media != "application/octet-stream" {
			_, _ = io.CopyN(io.Discard, resp.Body, 5000)
		}
	}
	lease, err := h.acc.Locks().TryLock(1, hash("other"), "another")
	if err != nil {
		t.Fatal(err)
	}
	send(30*time.Millisecond, "POST", "/v1/blocks", "application/octet-stream", bytes.NewReader(body)) // it waits for the slot
	lease.Release()
	for _, after := range []time.Duration{0, 1, 3, 10, 30} {
		after *= time.Millisecond
		send(after, "POST", "/v1/blocks", "application/octet-stream", bytes.NewReader(body))
		line := append(jsonOf(t, bodyOf(&state.Block{Hash: hash("line"), Parent: hash("nobody"), Slot: 2})), '\n')
		send(after, "POST", "/v1/blocks", "application/x-ndjson", io.MultiReader(bytes.NewReader(slices.Repeat(line, 50)), &never{done: t.Context().Done()}))
		send(after, "GET", "/v1/blocks/"+hash("never").String()+"?wait=60s", "application/json", nil)
		send(after, "GET", "/v1/events", "text/event-stream", nil)
	}
	if _, err := h.acc.Import(t.Context(), big); err != nil {
		t.Fatal(err)
	}
	for _, after := range []time.Duration{0, 1, 2, 5, 20, 1000} {
		send(after*time.Millisecond, "GET", "/v1/blocks/"+hash("big").String()+"/state", "application/x-ndjson", nil)
	}
	h.eventually("requests are over", func() bool { return h.acc.Stats().Locks == 0 && h.acc.Stats().Importing == 0 })
	h.fine()
}

// never is a body whose rest doesn't come.
type never struct{ done <-chan struct{} }

func (n *never) Read([]byte) (int, error) {
	select {
	case <-n.done:
	case <-time.After(50 * time.Millisecond):
	}
	return 0, errors.New("the client has had enough")
}

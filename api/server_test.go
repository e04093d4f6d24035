package api_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"accessor/api"
	"accessor/api/access"
)

// listen serves over TCP, all roles to everybody.
func (s *server) listen() *httptest.Server {
	s.t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.ServeHTTP(w, r.WithContext(access.WithClient(r.Context(), access.Client{Roles: access.All})))
	}))
	s.t.Cleanup(srv.Close)
	return srv
}

// TestStreamBothWays: each line of an import stream is answered before the next is
// sent, over a real connection, which lives on afterwards.
func TestStreamBothWays(t *testing.T) {
	s := newServer(t, api.Options{})
	srv := s.listen()
	conn, err := net.Dial("tcp", srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	send := func(text string) {
		t.Helper()
		if _, err := io.WriteString(conn, text); err != nil {
			t.Fatal(err)
		}
	}
	send("POST /v1/blocks HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n")
	in := bufio.NewReader(conn)
	var resp *http.Response
	var lines *bufio.Reader
	for i, b := range [][2]string{{"benny", "alfred"}, {"boris", "benny"}, {"claire", "boris"}} {
		line := string(jsonOf(t, bodyOf(s.block(b[0], b[1])))) + "\n"
		send(fmt.Sprintf("%x\r\n%s\r\n", len(line), line))
		if i == 0 {
			if resp, err = http.ReadResponse(in, nil); err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			lines = bufio.NewReader(resp.Body)
		}
		got, err := lines.ReadString('\n')
		if err != nil || !strings.Contains(got, `"status":201`) || !strings.Contains(got, hash(b[0]).String()) {
			t.Fatalf("%q, %v", got, err)
		}
	}
	send("0\r\n\r\n")
	if rest, err := io.ReadAll(lines); err != nil || len(rest) != 0 {
		t.Fatalf("%q, %v", rest, err)
	}
	send("GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
	again, err := http.ReadResponse(in, nil)
	if err != nil || again.StatusCode != http.StatusOK {
		t.Fatalf("%v, %v", again, err)
	}
	again.Body.Close()
}

// TestBrokenClients: bodies that break off, half-closed connections and nonsense leave
// nothing behind (goleak) and don't hinder others.
func TestBrokenClients(t *testing.T) {
	s := newServer(t, api.Options{Limits: api.Limits{Body: 1 << 20, Bodies: 1 << 20}})
	srv := s.listen()
	for _, text := range []string{
		"POST /v1/blocks HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n{",
		"POST /v1/blocks HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffffff\r\n{",
		"POST /v1/blocks HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Type: application/x-ndjson\r\n\r\n5\r\n{\"a\":\r\n",
		"POST /v1/blocks HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n",
		"GET /v1/blocks/head/state HTTP/1.1\r\nHost: x\r\nAccept: application/x-ndjson\r\n\r\n",
		"GET / HTTP/1.1\r\nHost", "\x00\x01\x02\r\n\r\n", "OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", "CONNECT a:1 HTTP/1.1\r\nHost: x\r\n\r\n",
	} {
		conn, err := net.Dial("tcp", srv.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
		if _, err := io.WriteString(conn, text); err != nil {
			t.Fatal(err)
		}
		if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		answer, _ := io.ReadAll(conn)
		if strings.Contains(string(answer), "HTTP/1.1 500") {
			t.Errorf("%q: %.300s", text, answer)
		}
		conn.Close()
	}
	// All of the bodies' budget is there again.
	s.do("POST /v1/blocks", append(jsonOf(t, bodyOf(s.block("benny", "alfred"))), strings.Repeat(" ", 1<<20-2000)...)).is(201)
}

// TestKinds: docs/API.md has every kind of error, with its status.
func TestKinds(t *testing.T) {
	text, err := os.ReadFile("../docs/API.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := make(map[string]string)
	for _, m := range regexp.MustCompile("(?m)^\\| ([0-9]{3}) \\| `([a-z-]+)` \\|").FindAllStringSubmatch(string(text), -1) {
		documented[m[2]] = m[1]
	}
	for name, status := range api.Kinds() {
		if documented[name] != fmt.Sprint(status) {
			t.Errorf("kind %s with status %d is documented with %q", name, status, documented[name])
		}
		delete(documented, name)
	}
	for name := range documented {
		t.Errorf("there is no kind %s", name)
	}
}

// TestDeps: handlers know the store only through package state, and no network but
// what net/http is.
func TestDeps(t *testing.T) {
	out, err := exec.Command("go", "list", "-f", `{{join .Imports "\n"}}`, ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range strings.Fields(string(out)) {
		switch path {
		case "accessor/checkpoint", "accessor/locking", "accessor/checkpoint/rocks", "accessor/replay":
			t.Errorf("imports %s: state has what handlers need of it", path)
		}
	}
}

// TestNothing: a client without roles learns nothing, and no answer says what went
// wrong inside.
func TestNothing(t *testing.T) {
	s := newServer(t, api.Options{})
	s.roles = 0
	for _, head := range []string{
		"GET /v1/status", "GET /v1/blocks", "GET /v1/blocks/head", "GET /v1/blocks/head/state/slot", "GET /v1/blocks/head/state",
		"GET /v1/blocks/head/proof?key=slot", "GET /v1/diff?from=0&to=0", "GET /v1/blocks/0/changes", "GET /v1/history/slot", "POST /v1/blocks",
		"POST /v1/blocks/held", "POST /v1/head", "POST /v1/finalize", "POST /v1/drafts", "GET /v1/drafts", "GET /v1/locks", "GET /v1/pins",
		"POST /v1/pins", "PUT /v1/anchor", "DELETE /v1/pins/x", "DELETE /v1/drafts/x",
	} {
		a := s.do(head, nil)
		a.problem(403, "forbidden")
		if a.Header().Get("Accessor-Block") != "" {
			t.Errorf("%s names a block", head)
		}
	}
	s.roles = access.All
	if err := s.acc.Close(); err != nil {
		t.Fatal(err)
	}
	s.do("GET /v1/blocks/"+hash("nobody").String()+"/state/slot", nil).problem(404, "unknown-block")
	s.do("GET /v1/blocks/head/state/slot", nil).problem(503, "closing")
	s.do("GET /readyz", nil).problem(503, "not-ready")
}

package api_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"accessor/api"
	"accessor/api/access"
)

// listenAs serves over TCP; the headers Roles and Uid say who a client is.
func (s *server) listenAs() *httptest.Server {
	s.t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		uid, _ := strconv.Atoi(r.Header.Get("Uid"))
		roles := access.Of(access.Role(r.Header.Get("Roles")))
		s.ServeHTTP(w, r.WithContext(access.WithClient(r.Context(), access.Client{Roles: roles, UID: uid})))
	}))
	s.t.Cleanup(srv.Close)
	return srv
}

// open sends the beginning of a request, and leaves it at that.
func open(t *testing.T, srv *httptest.Server, text string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
	return conn
}

// TestIdleBodies: bodies that clients announce and don't send stop neither imports nor
// the small requests of others.
func TestIdleBodies(t *testing.T) {
	s := newServer(t, api.Options{Limits: api.Limits{Body: 16 << 20, Bodies: 32 << 20}})
	srv := s.listenAs()
	for i := range 60 {
		open(t, srv, fmt.Sprintf("POST /v1/blocks/head/state HTTP/1.1\r\nHost: x\r\nRoles: auditing\r\nUid: %d\r\n"+
			"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n{", i%6, 8<<20))
	}
	time.Sleep(100 * time.Millisecond)
	s.doc = nil // which takes long for so much
	body := append(jsonOf(t, bodyOf(s.block("benny", "alfred"))), strings.Repeat(" ", 15<<20)...)
	s.roles = access.Of(access.Importing)
	s.do("POST /v1/blocks", body).is(201)
	s.roles, s.uid = access.Of(access.Observer), 77
	s.do("POST /v1/blocks/held", []byte(`{"hashes":["`+hash("benny").String()+`"]}`)).is(200)
	s.do("POST /v1/blocks/held", []byte(strings.Repeat(" ", 1<<20+1))).problem(413, "too-large")
}

const streamHead = "POST /v1/blocks HTTP/1.1\r\nHost: x\r\nRoles: importing\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n"

// lineOf reads the answer of a stream, up to its first line.
func lineOf(t *testing.T, conn net.Conn) (line string, rest *bufio.Reader) {
	t.Helper()
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	rest = bufio.NewReader(resp.Body)
	if line, err = rest.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	return line, rest
}

// TestStreamEnds: a stream of nothing but empty lines has an end, and after an error
// its connection is closed though the client neither sends nor goes.
func TestStreamEnds(t *testing.T) {
	s := newServer(t, api.Options{Limits: api.Limits{Stream: 3}})
	srv := s.listenAs()
	conn := open(t, srv, streamHead+"4\r\n\n\n\n\n\r\n")
	line, rest := lineOf(t, conn)
	if !strings.Contains(line, `"kind":"too-large"`) || !strings.Contains(line, `"line":4`) {
		t.Errorf("%s", line)
	}
	began := time.Now()
	_, _ = io.Copy(io.Discard, rest)
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("the connection was open for %v after the error", took)
	}
	if _, err := conn.Read(make([]byte, 1)); err == nil || !strings.Contains(err.Error(), "EOF") && !strings.Contains(err.Error(), "reset") {
		t.Errorf("%v", err)
	}
}

// TestStreamStops: the server's end ends a stream that waits for its next line, also
// after an empty one.
func TestStreamStops(t *testing.T) {
	for _, sent := range []string{"", "1\r\n\n\r\n", "3\r\n{\"a\r\n"} {
		s := newServer(t, api.Options{})
		srv := s.listenAs()
		line := string(jsonOf(t, bodyOf(s.block("benny", "alfred")))) + "\n"
		conn := open(t, srv, streamHead+fmt.Sprintf("%x\r\n%s\r\n%s", len(line), line, sent))
		_, rest := lineOf(t, conn)
		time.Sleep(20 * time.Millisecond)
		began := time.Now()
		s.Close()
		last, err := rest.ReadString('\n')
		if took := time.Since(began); err != nil || !strings.Contains(last, `"kind":"closing"`) || took > time.Second {
			t.Errorf("after %q: %q, %v after %v", sent, last, err, took)
		}
	}
}

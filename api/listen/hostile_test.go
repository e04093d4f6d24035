package listen

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"

	"accessor/api/access"
)

// TestIdleConnections: many connections that say nothing take no place from who
// has something to say, and none is kept beyond the limit.
func TestIdleConnections(t *testing.T) {
	const most, many = 50, 2000
	u := mine(t)
	s := serve(t, Options{Connections: most, HeaderTimeout: time.Minute}, echo, listenUnix(t, u))
	kept := over(t, "unix", u.Path)
	get(t, kept, nil)
	for i := range many {
		c, err := net.Dial("unix", u.Path)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if i%500 == 499 {
			if status, body := get(t, kept, nil); status != 200 {
				t.Fatalf("beside %d idle connections: %d %s", i, status, body)
			}
		}
	}
	deadline := time.Now().Add(5 * time.Second)
	for {
		open, turned := s.Connections()
		if open <= most && turned >= many-most {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d open, %d turned away", open, turned)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// TestAllBusy: where every connection has a request, one more is told so.
func TestAllBusy(t *testing.T) {
	u := mine(t)
	goOn := make(chan struct{})
	var began sync.WaitGroup
	began.Add(2)
	serve(t, Options{Connections: 2}, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		began.Done()
		<-goOn
	}), listenUnix(t, u))
	for range 2 {
		fmt.Fprint(dial(t, u.Path), "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	}
	began.Wait()
	c := dial(t, u.Path)
	fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	if status, body := answer(t, c); status != 503 || !strings.Contains(body, "too-many-connections") {
		t.Errorf("%d %s", status, body)
	}
	close(goOn)
}

// closed says whether the server ends a connection within a time.
func closed(c net.Conn, within time.Duration) bool {
	c.SetReadDeadline(time.Now().Add(within))
	_, err := io.Copy(io.Discard, c)
	ne, timeout := err.(net.Error)
	return !timeout || !ne.Timeout()
}

func TestSlowloris(t *testing.T) {
	u := mine(t)
	serve(t, Options{HeaderTimeout: 200 * time.Millisecond}, echo, listenUnix(t, u))
	c := dial(t, u.Path)
	go func() {
		for _, b := range []byte("GET / HTTP/1.1\r\nHost: x\r\nX-Slow: " + strings.Repeat("z", 1000)) {
			if _, err := c.Write([]byte{b}); err != nil {
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
	}()
	if !closed(c, 5*time.Second) {
		t.Error("a header may take for ever")
	}
	if !closed(dial(t, u.Path), 5*time.Second) {
		t.Error("a connection may say nothing for ever")
	}
}

func TestIdleTimeout(t *testing.T) {
	u := mine(t)
	serve(t, Options{IdleTimeout: 200 * time.Millisecond}, echo, listenUnix(t, u))
	c := dial(t, u.Path)
	fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	if !closed(c, 5*time.Second) {
		t.Error("an idle connection stays for ever")
	}
}

// TestStall: a body that stops coming, and an answer that nobody takes, end.
func TestStall(t *testing.T) {
	u := mine(t)
	ended := make(chan error, 1)
	serve(t, Options{StallTimeout: 200 * time.Millisecond}, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == "PUT" { // the handler gives it more time
			http.NewResponseController(w).SetReadDeadline(time.Now().Add(10 * time.Second))
		}
		if r.Method != "GET" {
			_, err := io.Copy(io.Discard, r.Body)
			ended <- err
			return
		}
		var err error
		for piece := make([]byte, 1<<20); err == nil; {
			_, err = w.Write(piece)
		}
		ended <- err
	}), listenUnix(t, u))
	for name, request := range map[string]string{
		"body":   "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nsome",
		"chunks": "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nso",
		"answer": "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
	} {
		fmt.Fprint(dial(t, u.Path), request)
		select {
		case err := <-ended:
			if err == nil {
				t.Errorf("%s: ended well", name)
			}
		case <-time.After(5 * time.Second):
			t.Errorf("%s: goes on for ever", name)
		}
	}
	// A handler that takes slow bodies gets them.
	c := dial(t, u.Path)
	fmt.Fprint(c, "PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n")
	for range 5 {
		time.Sleep(100 * time.Millisecond)
		fmt.Fprint(c, "x")
	}
	if err := <-ended; err != nil {
		t.Errorf("slow body: %v", err)
	}
}

// TestLongAnswer: the handler's context lives on past the body's time limit.
func TestLongAnswer(t *testing.T) {
	u := mine(t)
	serve(t, Options{StallTimeout: 100 * time.Millisecond}, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		select {
		case <-r.Context().Done():
			w.WriteHeader(500)
		case <-time.After(400 * time.Millisecond):
		}
	}), listenUnix(t, u))
	r, _ := http.NewRequest("POST", "http://x/", strings.NewReader("body"))
	resp, err := over(t, "unix", u.Path).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 200 {
		t.Errorf("status %d", resp.StatusCode)
	}
}

// TestHalfClosed: a client that says no more still gets its answer.
func TestHalfClosed(t *testing.T) {
	u := mine(t)
	serve(t, Options{}, echo, listenUnix(t, u))
	c := dial(t, u.Path)
	fmt.Fprint(c, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody")
	c.(*net.UnixConn).CloseWrite()
	if status, body := answer(t, c); status != 200 || !strings.HasSuffix(body, " 4") {
		t.Errorf("%d %s", status, body)
	}
	// Half a request: no answer but an error, and an end.
	c = dial(t, u.Path)
	fmt.Fprint(c, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 40\r\n\r\nbody")
	c.(*net.UnixConn).CloseWrite()
	if status, _ := answer(t, c); status != 400 {
		t.Errorf("half a body: %d", status)
	}
	if !closed(c, 5*time.Second) {
		t.Error("and stays open")
	}
}

func TestBadRequests(t *testing.T) {
	u := mine(t)
	serve(t, Options{HeaderBytes: 4096}, echo, listenUnix(t, u))
	for name, tt := range map[string]struct {
		request string
		status  int
	}{
		"header too large": {"GET / HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("y", 20_000) + "\r\n\r\n", 431},
		"two hosts":        {"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", 400},
		"no host":          {"GET / HTTP/1.1\r\n\r\n", 400},
		"two lengths":      {"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", 400},
		"not HTTP":         {"\x16\x03\x01\x00garbage\r\n\r\n", 400},
		"HTTP/2 preface":   {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505},
	} {
		c := dial(t, u.Path)
		go io.WriteString(c, tt.request)
		if status, body := answer(t, c); status != tt.status {
			t.Errorf("%s: %d %s", name, status, body)
		}
	}
}

// TestNoClientWithoutServe: the handler can't be reached around the listeners.
func TestNoClientWithoutServe(t *testing.T) {
	s := NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		t.Errorf("reached as %+v", access.ClientOf(r.Context()))
	}), Options{Log: zap.NewNop()})
	u := mine(t)
	l, err := net.Listen("unix", u.Path)
	if err != nil {
		t.Fatal(err)
	}
	other := &http.Server{Handler: s}
	go other.Serve(l)
	defer other.Close()
	if status, _ := get(t, over(t, "unix", u.Path), nil); status != 403 {
		t.Errorf("status %d", status)
	}
}

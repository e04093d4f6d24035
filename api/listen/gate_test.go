package listen

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"testing"
	"time"
)

// TestListenersApart: strangers on one listener take no place from another's clients.
func TestListenersApart(t *testing.T) {
	const most = 4
	u := mine(t)
	far, err := TCP{Name: "far", Address: "127.0.0.1:0", Tokens: tokens(t)}.Listen()
	if err != nil {
		t.Fatal(err)
	}
	s := serve(t, Options{Connections: most}, echo, listenUnix(t, u), far)
	node := dial(t, u.Path)
	fmt.Fprint(node, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	if status, _ := answer(t, node); status != 200 {
		t.Fatal(status)
	}
	for range 3 * most {
		c, err := net.Dial("tcp", far.Where())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		// It must have been let in.
		fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
		if status, _ := answer(t, c); status != 401 {
			t.Fatal(status)
		}
	}
	fmt.Fprint(node, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	if status, body := answer(t, node); status != 200 {
		t.Errorf("after strangers over TCP: %d %s", status, body)
	}
	if open, turned := s.Connections(); open != most+1 || turned != 2*most {
		t.Errorf("%d open, %d turned away", open, turned)
	}
}

// TestSteadyReader: a client that takes a long answer slowly and steadily gets all of it,
// however much longer than the stall timeout that takes.
func TestSteadyReader(t *testing.T) {
	const size, stall = 16 << 20, time.Second
	u := mine(t)
	serve(t, Options{StallTimeout: stall}, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", strconv.Itoa(size))
		w.Write(make([]byte, size))
	}), listenUnix(t, u))
	c := dial(t, u.Path)
	fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
	began, got := time.Now(), 0
	for piece := make([]byte, 64<<10); ; {
		n, err := io.ReadFull(c, piece)
		got += n
		if err != nil {
			break
		}
		time.Sleep(8 * time.Millisecond)
	}
	if took := time.Since(began); got < size || took < 3*stall/2 {
		t.Errorf("got %d bytes of %d, in %v", got, size, took)
	}
}

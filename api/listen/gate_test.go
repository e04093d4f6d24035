package listen

import (
	"fmt"
	"net"
	"testing"
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

package client

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"reflect"
	"testing"
	"time"
)

// answered is a connection on which the answer is there already.
type answered struct {
	net.Conn
	answer *bytes.Reader
}

func (c *answered) Read(b []byte) (int, error)      { return c.answer.Read(b) }
func (c *answered) Write(b []byte) (int, error)     { return len(b), nil }
func (c *answered) Close() error                    { return nil }
func (c *answered) SetDeadline(time.Time) error     { return nil }
func (c *answered) SetReadDeadline(time.Time) error { return nil }

// FuzzAnswer gives the client any answer: what it takes for one, net/http takes for the
// same, and nothing is larger than it may be.
func FuzzAnswer(f *testing.F) {
	const most = 4096
	h := Hash{1}.String()
	about := "Accessor-Block: " + h + "\r\nAccessor-Root: " + h + "\r\nAccessor-Slot: 1\r\n"
	for _, seed := range []string{
		"HTTP/1.1 200 OK\r\n" + about + "Content-Type: application/octet-stream\r\nContent-Length: 3\r\n\r\nabc",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\nA: b\r\n\r\n",
		"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
		"HTTP/1.1 503 x\r\nContent-Type: application/problem+json\r\nRetry-After: 3\r\nConnection: close\r\n\r\n{\"kind\":\"busy\"}",
		"HTTP/1.1 404 x\r\n" + about + "Content-Type: application/problem+json\r\nContent-Length: 21\r\n\r\n{\"kind\":\"absent-key\"}",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, answer []byte) {
		c, err := New("", WithMaxAnswer(most), WithDialer(func(context.Context) (net.Conn, error) {
			return &answered{answer: bytes.NewReader(answer)}, nil
		}))
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := c.At(h).Get(context.Background(), []byte{1}); err != nil && err.(*Error).Kind == "" {
			t.Fatalf("an error without a kind: %#v", err)
		}
		k, err := c.open(context.Background(), &request{method: "GET", path: "/"})
		if err != nil {
			return
		}
		status := k.head.status
		body, err := k.body(nil, most)
		if len(body) > most+bodyStep {
			t.Fatalf("a body of %d bytes", len(body))
		}
		if err != nil {
			return
		}
		if len(body) > most {
			t.Fatalf("a body of %d bytes, and no error", len(body))
		}
		in := bufio.NewReader(bytes.NewReader(answer))
		for {
			resp, err := http.ReadResponse(in, nil) //nolint:bodyclose // closed below, in each case
			if err != nil {
				return // it is stricter about names and texts
			}
			if resp.StatusCode < 200 {
				resp.Body.Close()
				continue
			}
			want, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if resp.StatusCode != status || err == nil && !bytes.Equal(want, body) {
				t.Fatalf("status %d and %q, net/http: %d and %q, %v", status, body, resp.StatusCode, want, err)
			}
			return
		}
	})
}

// FuzzTexts gives the parsers of lines, pages, batches and events anything.
func FuzzTexts(f *testing.F) {
	f.Add([]byte(`{"line":1,"status":201,"hash":"` + Hash{1}.String() + `","slot":1}`))
	f.Add([]byte(`{"line":1,"status":409,"error":{"kind":"conflict"}}`))
	f.Add([]byte("retry: 2000\n:\nid: 3\n\nevent: block\nid: 4\ndata: {\"kind\":\"block\",\"position\":4}\n\n"))
	f.Add([]byte(`["0102","03"]`))
	f.Add([]byte(`["0102",null]`))
	f.Add([]byte(`[ "01", "" ]`))
	f.Add([]byte{1, 0, 0, 0, 7, 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, text []byte) {
		if line, err := parseLine(text); err == nil && (line.Err == nil) == (line.Hash == Hash{}) {
			t.Errorf("%+v is neither a result nor an error", line)
		}
		for n := range 4 {
			if values, err := appendValues(nil, text, n); err == nil && len(values) != n {
				t.Errorf("%d values, want %d", len(values), n)
			}
		}
		var quick hexPair
		var list []hexBytes
		if quick.quick(text) && (json.Unmarshal(text, &list) != nil || len(list) != 2 || !reflect.DeepEqual(quick, hexPair(list))) {
			t.Errorf("%q is %x, by encoding/json %x", text, quick, list)
		}
		s := &stream{}
		k := &conn{Conn: &answered{}, ctx: context.Background()}
		in := bufio.NewReader(bytes.NewReader(text))
		for {
			e, _, err := s.next(k, in)
			if err != nil {
				break
			}
			if e != nil && e.Kind == "" {
				t.Error("an event without a kind")
			}
		}
		if s.retry > maxRetry {
			t.Errorf("comes back after %v", s.retry)
		}
	})
}

// FuzzParseErasureShard: what is read as a shard is written as it was.
func FuzzParseErasureShard(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{9, 0, 0, 0, 1})
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 1, 2, 3})
	whole := ErasureShard{Bundle: []byte{1, 2}, Justification: []byte{3}}.Bytes()
	f.Add(whole)
	f.Add(append(whole, 0))
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, err := ParseErasureShard(b); err == nil && !bytes.Equal(s.Bytes(), b) {
			t.Errorf("%x is read as %+v", b, s)
		}
	})
}

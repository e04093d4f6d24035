package client_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"accessor/api/client"
)

// served gives a client of a server that does with each connection what serve does.
func served(t *testing.T, network string, serve func(n int, c net.Conn, in *bufio.Reader), opts ...client.Option) *client.Client {
	t.Helper()
	where := "127.0.0.1:0"
	if network == "unix" {
		where = filepath.Join(t.TempDir(), "s")
	}
	l, err := net.Listen(network, where)
	if err != nil {
		t.Fatal(err)
	}
	accept(t, l, 20*time.Second, serve)
	address := "unix://" + where
	if network == "tcp" {
		address = "http://" + l.Addr().String()
	}
	c, err := client.New(address, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// accept lets serve have each connection that is made, for so long at most, until the
// test ends.
func accept(t *testing.T, l net.Listener, within time.Duration, serve func(n int, c net.Conn, in *bufio.Reader)) {
	t.Helper()
	var conns sync.WaitGroup
	t.Cleanup(func() {
		l.Close()
		conns.Wait()
	})
	conns.Go(func() {
		for n := 0; ; n++ {
			c, err := l.Accept()
			if err != nil {
				return
			}
			conns.Go(func() {
				defer c.Close()
				_ = c.SetDeadline(time.Now().Add(within))
				serve(n, c, bufio.NewReader(c))
			})
		}
	})
}

// readHead reads a request's head, and gives its first line; empty at the end.
func readHead(in *bufio.Reader) string {
	first := ""
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return ""
		}
		if line == "\r\n" {
			return first
		}
		if first == "" {
			first = strings.TrimSpace(line)
		}
	}
}

// block names the block of the answers.
var block = client.Hash{0xb1}

// value is an answer with a value of a block.
func value(b client.Hash, value string) string {
	return fmt.Sprintf("HTTP/1.1 200 OK\r\nAccessor-Block: %s\r\nAccessor-Slot: 7\r\nAccessor-Root: %s\r\n"+
		"Content-Type: application/octet-stream\r\nContent-Length: %d\r\n\r\n%s", b, client.Hash{0x0a}, len(value), value)
}

const tooLarge = `{"kind":"too-large","status":413,"detail":"too much"}`

// refusal is an early answer, as the server gives it.
var refusal = fmt.Sprintf("HTTP/1.1 413 x\r\nContent-Type: application/problem+json\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s", len(tooLarge), tooLarge)

// TestEarlyAnswer: a server that refuses a body before it has read it, and closes, is
// heard.
func TestEarlyAnswer(t *testing.T) {
	big := &client.Block{Puts: []client.Pair{{Key: []byte{1}, Value: make([]byte, 32<<20)}}}
	for _, network := range []string{"unix", "tcp"} {
		for _, some := range []int64{0, 100_000} {
			c := served(t, network, func(_ int, c net.Conn, in *bufio.Reader) {
				readHead(in)
				_, _ = io.CopyN(io.Discard, in, some)
				_, _ = io.WriteString(c, refusal)
				time.Sleep(50 * time.Millisecond) // as net/http waits, before it closes
			})
			if _, err := c.Import(t.Context(), big); !errors.Is(err, client.ErrTooLarge) {
				t.Errorf("%s, after %d bytes: %v", network, some, err)
			}
			var got error
			for _, err := range c.ImportLines(t.Context(), endless{}, -1) {
				got = err
			}
			if !errors.Is(got, client.ErrTooLarge) {
				t.Errorf("%s, lines, after %d bytes: %v", network, some, got)
			}
		}
	}
}

// endless is a body without an end.
type endless struct{}

func (endless) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = '\n'
	}
	return len(b), nil
}

// TestReaderFails: the error of the caller's own reader is what it gets.
func TestReaderFails(t *testing.T) {
	c := served(t, "unix", func(_ int, c net.Conn, in *bufio.Reader) {
		readHead(in)
		_, _ = io.Copy(io.Discard, in)
	})
	mine := errors.New("the disk is gone")
	_, err := c.PutAnchor(t.Context(), io.MultiReader(strings.NewReader("x"), failing{mine}), "application/octet-stream")
	if !errors.Is(err, mine) {
		t.Errorf("got %v", err)
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// TestRetry: a kept connection that the server has closed is replaced without a word,
// once; a request that must not be sent twice goes over a new one from the start.
func TestRetry(t *testing.T) {
	var conns atomic.Int32
	c := served(t, "unix", func(n int, c net.Conn, in *bufio.Reader) {
		conns.Add(1)
		if readHead(in) == "" {
			return
		}
		_, _ = io.WriteString(c, value(block, "v")) // and closes, without saying so
	})
	v := c.At(block.String())
	for range 3 {
		if got, _, err := v.Get(t.Context(), []byte{1}); err != nil || string(got) != "v" {
			t.Fatalf("%q, %v", got, err)
		}
		time.Sleep(5 * time.Millisecond)
	}
	if n := conns.Load(); n != 3 {
		t.Errorf("%d connections, want 3", n)
	}

	var begun atomic.Int32
	c = served(t, "unix", func(n int, c net.Conn, in *bufio.Reader) {
		for {
			switch line := readHead(in); {
			case strings.HasPrefix(line, "GET"):
				_, _ = io.WriteString(c, value(block, "v"))
			case line != "":
				begun.Add(1)
				return
			default:
				return
			}
		}
	})
	v = c.At(block.String())
	if _, _, err := v.Get(t.Context(), []byte{1}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.BeginDraft(t.Context(), client.DraftOptions{Parent: "head"}); !errors.Is(err, client.ErrConnection) {
		t.Errorf("got %v", err)
	}
	if _, err := c.Pin(t.Context(), client.PinOptions{Block: "head"}); !errors.Is(err, client.ErrConnection) {
		t.Errorf("got %v", err)
	}
	if n := begun.Load(); n != 2 {
		t.Errorf("sent %d times, want 2", n)
	}
}

// TestBadAnswers: what isn't the protocol is an error of kind bad-answer or connection,
// never a value.
func TestBadAnswers(t *testing.T) {
	good := value(block, "v")
	other := client.Hash{0xb2}
	problem := strings.Replace(refusal, "413 x", "500 x", 1)
	for name, tt := range map[string]struct {
		answer string
		want   error
	}{
		"good":                {good, nil},
		"good in chunks":      {strings.Replace(strings.Replace(good, "Content-Length: 1", "Transfer-Encoding: chunked", 1), "\r\n\r\nv", "\r\n\r\n1\r\nv\r\n0\r\n\r\n", 1), nil},
		"after 100":           {"HTTP/1.1 100 Continue\r\n\r\n" + good, nil},
		"another block":       {value(other, "v"), client.ErrBadAnswer},
		"no block":            {"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: 1\r\n\r\nv", client.ErrBadAnswer},
		"half a block":        {strings.Replace(good, "Accessor-Slot: 7\r\n", "", 1), client.ErrBadAnswer},
		"another form":        {strings.Replace(good, "octet-stream", "json", 1), client.ErrBadAnswer},
		"no length":           {strings.Replace(good, "Content-Length: 1\r\n", "", 1), client.ErrBadAnswer},
		"two lengths":         {strings.Replace(good, "Content-Length: 1", "Content-Length: 1\r\nContent-Length: 2", 1), client.ErrBadAnswer},
		"length and chunks":   {strings.Replace(good, "Content-Length: 1", "Content-Length: 1\r\nTransfer-Encoding: chunked", 1), client.ErrBadAnswer},
		"a length below 0":    {strings.Replace(good, "Content-Length: 1", "Content-Length: -1", 1), client.ErrBadAnswer},
		"bad chunks":          {strings.Replace(strings.Replace(good, "Content-Length: 1", "Transfer-Encoding: chunked", 1), "\r\n\r\nv", "\r\n\r\nxyz\r\nv\r\n", 1), client.ErrBadAnswer},
		"too large":           {strings.Replace(good, "Content-Length: 1", "Content-Length: 1001", 1), client.ErrBadAnswer},
		"too large in chunks": {strings.Replace(strings.Replace(good, "Content-Length: 1", "Transfer-Encoding: chunked", 1), "\r\n\r\nv", "\r\n\r\n7d0\r\n"+strings.Repeat("v", 2000)+"\r\n0\r\n\r\n", 1), client.ErrBadAnswer},
		"a long head":         {strings.Replace(good, "Accessor-Slot", strings.Repeat("X-Y: zzzz\r\n", 7000)+"Accessor-Slot", 1), client.ErrBadAnswer},
		"a long line":         {strings.Replace(good, "Accessor-Slot", "X-Y: "+strings.Repeat("z", 70_000)+"\r\nAccessor-Slot", 1), client.ErrBadAnswer},
		"a line of 40 KiB":    {strings.Replace(good, "Accessor-Slot", "X-Y: "+strings.Repeat("z", 40_000)+"\r\nAccessor-Slot", 1), nil},
		"not HTTP":            {"SSH-2.0-x\r\n\r\n", client.ErrBadAnswer},
		"HTTP/1.0":            {strings.Replace(good, "HTTP/1.1", "HTTP/1.0", 1), client.ErrBadAnswer},
		"no problem":          {"HTTP/1.1 500 x\r\nContent-Type: text/html\r\nContent-Length: 1\r\n\r\nx", client.ErrBadAnswer},
		"a redirect":          {"HTTP/1.1 302 x\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n", client.ErrBadAnswer},
		"a new kind":          {strings.ReplaceAll(problem, "too-large", "new-error"), client.Kind("new-error")},
		"cut in the head":     {good[:50], client.ErrConnection},
		"cut in the body":     {strings.Replace(good, "Content-Length: 1", "Content-Length: 100", 1), client.ErrConnection},
		"cut in the chunks":   {strings.Replace(strings.Replace(good, "Content-Length: 1", "Transfer-Encoding: chunked", 1), "\r\n\r\nv", "\r\n\r\n5\r\nv", 1), client.ErrConnection},
		"nothing":             {"", client.ErrConnection},
	} {
		t.Run(name, func(t *testing.T) {
			c := served(t, "unix", func(_ int, c net.Conn, in *bufio.Reader) {
				if readHead(in) != "" {
					_, _ = io.WriteString(c, tt.answer)
				}
			}, client.WithMaxAnswer(1000))
			got, present, err := c.At(block.String()).Get(t.Context(), []byte{1})
			if !errors.Is(err, tt.want) || tt.want == nil && (!present || string(got) != "v") {
				t.Errorf("%q, %v, %v; want %v", got, present, err, tt.want)
			}
			if tt.want != nil && (present || len(got) > 0) {
				t.Errorf("an error and a value: %q", got)
			}
		})
	}
}

// TestDeadline: the caller's time bounds a request, and so does the client's own.
func TestDeadline(t *testing.T) {
	silent := func(_ int, c net.Conn, in *bufio.Reader) {
		for readHead(in) != "" {
		}
	}
	c := served(t, "unix", silent)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, _, err := c.At("head").Get(ctx, []byte{1})
	if !errors.Is(err, client.ErrDeadline) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	ctx, cancel = context.WithCancel(t.Context())
	time.AfterFunc(20*time.Millisecond, cancel)
	if err := c.Ready(ctx); !errors.Is(err, client.ErrDeadline) || !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if err := c.Ready(ctx); !errors.Is(err, client.ErrDeadline) {
		t.Errorf("a context that is over: %v", err)
	}
	c = served(t, "unix", silent, client.WithTimeout(20*time.Millisecond))
	if err := c.Ready(t.Context()); !errors.Is(err, client.ErrDeadline) {
		t.Errorf("got %v", err)
	}
}

// TestDeadlineIsOver: a request that came in time leaves no deadline on its connection.
func TestDeadlineIsOver(t *testing.T) {
	var conns atomic.Int32
	c := served(t, "unix", func(_ int, c net.Conn, in *bufio.Reader) {
		conns.Add(1)
		for readHead(in) != "" {
			_, _ = io.WriteString(c, value(block, "v"))
		}
	}, client.WithTimeout(50*time.Millisecond))
	for range 3 {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		_, _, err := c.At("head").Get(ctx, []byte{1})
		cancel()
		if err == nil {
			_, _, err = c.At("head").Get(t.Context(), []byte{1})
		}
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(60 * time.Millisecond)
	}
	if n := conns.Load(); n != 1 {
		t.Errorf("%d connections, want 1", n)
	}
}

// TestBind: requests that bind a view at the same time, while the head moves, all read
// one block.
func TestBind(t *testing.T) {
	var asked atomic.Int32
	c := served(t, "unix", func(_ int, c net.Conn, in *bufio.Reader) {
		for {
			line := readHead(in)
			if line == "" {
				return
			}
			b := client.Hash{byte(asked.Add(1))} // the head, another each time
			if name := strings.Split(line, "/")[3]; name != "head" {
				_ = b.UnmarshalText([]byte(name))
			}
			_, _ = io.WriteString(c, value(b, string(b[:1])))
		}
	})
	v := c.At("head")
	got := make([]string, 20)
	var all sync.WaitGroup
	for i := range got {
		all.Go(func() {
			value, _, err := v.Get(t.Context(), []byte{1})
			if got[i] = string(value); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	about, err := v.About(t.Context())
	for _, value := range got {
		if err != nil || value != string(about.Block[:1]) {
			t.Errorf("got %q of block %s, %v", value, about.Block, err)
		}
	}
}

// TestClosed: a client that was closed makes no request.
func TestClosed(t *testing.T) {
	c := served(t, "unix", func(_ int, c net.Conn, in *bufio.Reader) {
		for readHead(in) != "" {
			_, _ = io.WriteString(c, value(block, "v"))
		}
	})
	if _, _, err := c.At("head").Get(t.Context(), []byte{1}); err != nil {
		t.Fatal(err)
	}
	c.Close()
	if _, _, err := c.At("head").Get(t.Context(), []byte{1}); !errors.Is(err, client.ErrConnection) {
		t.Errorf("got %v", err)
	}
}

// TestEventsRetry: who comes back says what it has seen, also by an id without data,
// and keeps to the server's pace; a refusal is the end.
func TestEventsRetry(t *testing.T) {
	const stream = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
	chunk := func(text string) string { return fmt.Sprintf("%x\r\n%s\r\n", len(text), text) }
	ids := make(chan string, 10)
	c := served(t, "unix", func(n int, c net.Conn, in *bufio.Reader) {
		req, err := http.ReadRequest(in)
		if err != nil {
			return
		}
		ids <- req.Header.Get("Last-Event-ID")
		switch n {
		case 0:
			_, _ = io.WriteString(c, stream+chunk("retry: 10\n:\nid: 3\n\n")+chunk("event: block\nid: 4\ndata: {\"kind\":\"block\",\"position\":4}\n\n")+chunk(":\nid: 9\n\nid: 11\ndata: {\"kind\":"))
		case 1:
			_, _ = io.WriteString(c, stream+chunk(":\n\n")+"0\r\n\r\n")
		case 2: // closes without a word
		default:
			_, _ = io.WriteString(c, refusal)
		}
	})
	var got []uint64
	var last error
	for e, err := range c.Events(t.Context(), client.EventOptions{}) {
		if last = err; err == nil {
			got = append(got, e.Position)
		}
	}
	if len(got) != 1 || got[0] != 4 || !errors.Is(last, client.ErrTooLarge) {
		t.Errorf("got %v, then %v", got, last)
	}
	for i, want := range []string{"", "9", "9", "9"} {
		if id := <-ids; id != want {
			t.Errorf("connection %d goes on after %q, want %q", i+1, id, want)
		}
	}
}

// TestToken: requests carry a token, each its own.
func TestToken(t *testing.T) {
	heads := make(chan http.Header, 2)
	secret := []byte("0123456789abcdef0123456789abcdef")
	c := served(t, "tcp", func(_ int, c net.Conn, in *bufio.Reader) {
		for {
			req, err := http.ReadRequest(in)
			if err != nil {
				return
			}
			heads <- req.Header
			_, _ = io.WriteString(c, value(block, "v"))
		}
	}, client.WithSecret("audi\"tor", secret))
	if _, _, err := c.At("head").Get(t.Context(), []byte{1}); err != nil {
		t.Fatal(err)
	}
	token, ok := strings.CutPrefix((<-heads).Get("Authorization"), "Bearer ")
	parts := strings.Split(token, ".")
	if !ok || len(parts) != 3 {
		t.Fatalf("token %q", token)
	}
	var header struct{ Alg, Kid string }
	var claims struct{ Iat int64 }
	for i, to := range []any{&header, &claims} {
		if err := json.NewDecoder(bytes.NewReader(unbase64(t, parts[i]))).Decode(to); err != nil {
			t.Fatal(err)
		}
	}
	if age := time.Now().Unix() - claims.Iat; header.Alg != "HS256" || header.Kid != "audi\"tor" || age < 0 || age > 5 {
		t.Errorf("header %+v, made %d s ago", header, age)
	}
	if !bytes.Equal(unbase64(t, parts[2]), hmacOf(secret, parts[0]+"."+parts[1])) {
		t.Error("the signature is another")
	}
	c = served(t, "unix", func(int, net.Conn, *bufio.Reader) {}, client.WithToken(func() (string, error) { return "a\r\nX: y", nil }))
	if err := c.Ready(t.Context()); !errors.Is(err, client.ErrUnauthenticated) {
		t.Errorf("got %v", err)
	}
}

func unbase64(t *testing.T, text string) []byte {
	t.Helper()
	b, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func hmacOf(secret []byte, text string) []byte {
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(text))
	return mac.Sum(nil)
}

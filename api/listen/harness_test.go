package listen

import (
	"bufio"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"accessor/api/access"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestDeps: who listens knows nothing of stores.
func TestDeps(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range strings.Fields(string(out)) {
		if strings.HasPrefix(path, "accessor/state") || strings.HasPrefix(path, "accessor/checkpoint") {
			t.Errorf("imports %s", path)
		}
	}
}

// echo answers with the client's name, its roles and the body's length.
var echo = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	n, err := io.Copy(io.Discard, r.Body)
	if err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	c := access.ClientOf(r.Context())
	fmt.Fprintf(w, "%s [%s] %d", c.Name, c.Roles, n)
})

// mine is a socket of this test's.
func mine(t testing.TB) Unix {
	t.Helper()
	dir, err := os.MkdirTemp("", "l") // t.TempDir() can be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return Unix{Name: "here", Path: filepath.Join(dir, "s"), UID: -1, GID: -1, Roles: access.All}
}

func listenUnix(t testing.TB, u Unix) *Listener {
	t.Helper()
	l, err := u.Listen()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// serve serves a handler until the test ends.
func serve(t testing.TB, opts Options, handler http.Handler, listeners ...*Listener) *Server {
	t.Helper()
	s := NewServer(handler, opts)
	done := make(chan error, len(listeners))
	for _, l := range listeners {
		go func() { done <- s.Serve(l) }()
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		s.Shutdown(ctx)
		for range listeners {
			if err := <-done; err != nil {
				t.Errorf("serve: %v", err)
			}
		}
	})
	return s
}

// over gives a client of a Unix socket or an address.
func over(t testing.TB, network, where string) *http.Client {
	tr := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, where)
	}}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 10 * time.Second}
}

// get gives the status and the body of an answer.
func get(t testing.TB, c *http.Client, change func(*http.Request)) (int, string) {
	t.Helper()
	r, err := http.NewRequest("GET", "http://localhost/", nil)
	if err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(r)
	}
	resp, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

func dial(t testing.TB, path string) net.Conn {
	t.Helper()
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// answer reads one answer off a connection.
func answer(t testing.TB, c net.Conn) (int, string) {
	t.Helper()
	c.SetReadDeadline(time.Now().Add(10 * time.Second))
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(body)
}

var secret = []byte("0123456789abcdef0123456789abcdef")

// sign makes a token by hand.
func sign(header, claims any, secret []byte) string {
	part := func(v any) string {
		text, ok := v.(string)
		if !ok {
			b, _ := json.Marshal(v)
			text = string(b)
		}
		return base64.RawURLEncoding.EncodeToString([]byte(text))
	}
	signed := part(header) + "." + part(claims)
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(signed))
	return signed + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

type object = map[string]any

var goodHeader = object{"alg": "HS256", "typ": "JWT", "kid": "node"}

func goodToken() string { return sign(goodHeader, object{"iat": time.Now().Unix()}, secret) }

func tokens(t testing.TB) *Tokens {
	t.Helper()
	tokens, err := NewTokens([]TokenClient{{KID: "node", Secret: secret, Roles: access.Of(access.Importing, access.Auditing)}})
	if err != nil {
		t.Fatal(err)
	}
	return tokens
}

package bench

import (
	"bufio"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func smallAPI(t *testing.T) APIParams {
	p := APIDefaults
	p.Keys, p.Requests, p.Rounds, p.Imports, p.Dir = 2_000, 320, 2, 2, t.TempDir()
	return p
}

// TestAPI runs the benchmark small and looks at whether it measured what it says.
func TestAPI(t *testing.T) {
	for _, commitment := range []string{"none", "jam"} {
		p := smallAPI(t)
		p.Commitment = commitment
		res, err := API(context.Background(), p)
		if err != nil {
			t.Fatal(err)
		}
		if len(res.Rows) != 5 || res.Bench != "api" || res.Params.Engine == "" {
			t.Fatalf("%+v", res)
		}
		for _, row := range res.Rows {
			if row.Accessor <= 0 || row.Must == "" || row.Beside != "" && (row.Other <= 0 || row.Ratio <= 0) {
				t.Errorf("implausible: %+v", row)
			}
		}
	}
}

// TestAPIAtSocket measures a server that runs already. A bare handler passes for none.
func TestAPIAtSocket(t *testing.T) {
	p := smallAPI(t)
	r := newAPIRun(t, p)
	other := smallAPI(t)
	other.Socket = r.servers.ours
	res, err := API(context.Background(), other)
	if err != nil || len(res.Rows) != 3 || res.Rows[0].Accessor <= 0 {
		t.Errorf("%+v, %v", res, err)
	}
	other.Soak = 2_000
	if res, err = API(context.Background(), other); err != nil || res.Soak == nil || res.Soak.Late.RSS <= 0 || res.Soak.Goroutines != 0 {
		t.Errorf("%+v, %v", res, err)
	}
	other.Socket = r.servers.bare
	if _, err = API(context.Background(), other); err == nil {
		t.Error("a bare handler passes for an API")
	}
}

// newAPIRun makes a store and serves it.
func newAPIRun(t *testing.T, p APIParams) *apiRun {
	t.Helper()
	r, end, err := p.begin(context.Background())
	if err == nil {
		err = r.ownServer()
	}
	t.Cleanup(func() {
		if err := end(); err != nil {
			t.Error(err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestAPISoak: the server doesn't grow by requests, refused and broken off ones
// included.
func TestAPISoak(t *testing.T) {
	p := smallAPI(t)
	p.Soak = 200_000
	if testing.Short() {
		p.Soak = 20_000
	}
	res, err := API(context.Background(), p)
	if err != nil {
		t.Fatal(err)
	}
	s := res.Soak
	if s.Requests != p.Soak || s.Rate <= 0 || s.Early.RSS <= 0 || s.Goroutines > flatWithin {
		t.Errorf("%+v", s)
	}
	// A few requests don't fill caches and pools: so this is looser than a long soak.
	if s.Memory > 1.3 {
		t.Errorf("memory grew by %.2f times: %+v", s.Memory, s)
	}
}

func TestAPIRows(t *testing.T) {
	var r apiRun
	for _, tt := range []struct {
		row     APIRow
		reached bool
	}{
		{APIRow{Beside: "x", Ratio: 1.2, Must: "≤ 1.3 ×"}, true},
		{APIRow{Beside: "x", Ratio: 1.4, Must: "≤ 1.3 ×"}, false},
		{APIRow{Beside: "x", Ratio: 0.9, Must: "≥ 0.8 ×"}, true},
		{APIRow{Beside: "x", Ratio: 0.7, Must: "≥ 0.8 ×"}, false},
		{APIRow{Accessor: 4.9, Must: "≤ 5 ms"}, true},
		{APIRow{Accessor: 5.1, Must: "≤ 5 ms"}, false},
		{APIRow{Accessor: 5.1}, true},
	} {
		r.res.Rows = nil
		r.add(tt.row)
		if r.res.Rows[0].Reached != tt.reached {
			t.Errorf("%+v: want %v", r.res.Rows[0], tt.reached)
		}
	}
}

func TestReadAnswers(t *testing.T) {
	for _, tt := range []struct {
		read   answerReader
		text   string
		status int
		body   string
		bad    bool
	}{
		{readHTTP, "HTTP/1.1 404 Not Found\r\nA: b\r\nContent-Length: 2\r\n\r\nab", 404, "ab", false},
		{readHTTP, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 0, "", true},
		{readHTTP, "SSH-2.0-x\r\n", 0, "", true},
		{readHTTP, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab", 0, "", true},
		{readRESP, "$2\r\nab\r\n", 200, "ab", false},
		{readRESP, "*2\r\n$1\r\na\r\n$1\r\nb\r\n", 200, "ab", false},
		{readRESP, "*2\r\n$1\r\na\r\n$-1\r\n", 404, "a", false},
		{readRESP, "-ERR no\r\n", 500, "ERR no", false},
		{readRESP, "+OK\r\n", 200, "OK", false},
		{readRESP, "?\r\n", 0, "", true},
	} {
		status, body, err := tt.read(bufio.NewReader(strings.NewReader(tt.text)), nil)
		if tt.bad != (err != nil) || err == nil && (status != tt.status || string(body) != tt.body) {
			t.Errorf("%q: %d %q %v", tt.text, status, body, err)
		}
	}
	if got := string(command([]byte("GET"), []byte("ab"))); got != "*2\r\n$3\r\nGET\r\n$2\r\nab\r\n" {
		t.Errorf("%q", got)
	}
}

// TestWrongAnswer: a measurement of wrong answers is none.
func TestWrongAnswer(t *testing.T) {
	r := newAPIRun(t, smallAPI(t))
	l, _, _ := r.getLoads(1)
	l.requests[5].want = []byte("other")
	if _, err := l.run(context.Background()); !errors.Is(err, errAnswer) {
		t.Errorf("error %v", err)
	}
	l.path = filepath.Join(t.TempDir(), "nobody")
	if _, err := l.run(context.Background()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("error %v", err)
	}
}

package listen

import (
	"net/http"
	"strings"
	"testing"
)

// TestOrigins goes through what a browser does for a script: it asks first, without a
// token, then sends the request and looks whether the page may see the answer.
func TestOrigins(t *testing.T) {
	const page = "https://ui.example"
	served := 0
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { served++ })
	at := func(origins ...string) string {
		l, err := TCP{Name: "far", Address: "127.0.0.1:0", Tokens: tokens(t), Origins: origins}.Listen()
		if err != nil {
			t.Fatal(err)
		}
		serve(t, Options{}, handler, l)
		return l.Where()
	}
	listed, none := at(page), at()
	send := func(where, method string, header ...string) (status int, h http.Header) {
		t.Helper()
		r, err := http.NewRequest(method, "http://localhost/v1/blocks/head", nil)
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i < len(header); i += 2 {
			r.Header.Set(header[i], header[i+1])
		}
		resp, err := over(t, "tcp", where).Do(r)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.StatusCode, resp.Header
	}
	ask := []string{"Access-Control-Request-Method", "POST", "Access-Control-Request-Headers", "authorization,content-type"}
	token := []string{"Authorization", "Bearer " + goodToken()}

	status, h := send(listed, "OPTIONS", append(ask, "Origin", page)...)
	if status != 204 || h.Get("Access-Control-Allow-Origin") != page || !strings.Contains(h.Get("Access-Control-Allow-Methods"), "POST") ||
		!strings.Contains(h.Get("Access-Control-Allow-Headers"), "Authorization") || !strings.Contains(strings.Join(h["Vary"], ","), "Origin") {
		t.Errorf("preflight: %d %v", status, h)
	}
	if h.Get("Access-Control-Allow-Credentials") != "" || served != 0 {
		t.Errorf("%v, served %d", h, served)
	}
	status, h = send(listed, "GET", append(token, "Origin", page)...)
	if status != 200 || h.Get("Access-Control-Allow-Origin") != page || !strings.Contains(h.Get("Access-Control-Expose-Headers"), "Accessor-Root") || h.Get("Vary") != "Origin" {
		t.Errorf("request: %d %v", status, h)
	}
	// A script sees why it has no access.
	if status, h = send(listed, "GET", "Origin", page); status != 401 || h.Get("Access-Control-Allow-Origin") != page {
		t.Errorf("without a token: %d %v", status, h)
	}
	if status, _ = send(listed, "OPTIONS", "Origin", page); status != 401 {
		t.Errorf("OPTIONS that is no preflight: %d", status)
	}
	for name, tt := range map[string]struct {
		where, method string
		header        []string
		status        int
	}{
		"another page's preflight":        {listed, "OPTIONS", append(ask, "Origin", "https://evil.example"), 403},
		"preflight where none is listed":  {none, "OPTIONS", append(ask, "Origin", page), 403},
		"preflight of no page":            {listed, "OPTIONS", ask, 401},
		"request of no page":              {listed, "GET", token, 200},
		"request of the address's page":   {listed, "GET", append(token, "Origin", "http://localhost"), 200},
		"request of a null origin's page": {listed, "GET", append(token, "Origin", "null"), 403},
	} {
		status, h := send(tt.where, tt.method, tt.header...)
		if status != tt.status || h.Get("Access-Control-Allow-Origin") != "" || h.Get("Access-Control-Allow-Methods") != "" {
			t.Errorf("%s: %d %v", name, status, h)
		}
	}
}

package listen

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"accessor/api/access"
)

func TestAddresses(t *testing.T) {
	for _, tt := range []struct {
		tcp TCP
		ok  bool
	}{
		{TCP{Address: "127.0.0.1:0"}, true},
		{TCP{Address: "localhost:80"}, true},
		{TCP{Address: "[::1]:80"}, true},
		{TCP{Address: "127.9.9.9:80"}, true},
		{TCP{Address: "0.0.0.0:80"}, false},
		{TCP{Address: ":80"}, false},
		{TCP{Address: ":80", Remote: true}, false}, // which of all?
		{TCP{Address: "[::]:80"}, false},
		{TCP{Address: "0.0.0.0:80", Remote: true}, true},
		{TCP{Address: "10.0.0.1:80"}, false},
		{TCP{Address: "[::ffff:10.0.0.1]:80"}, false},
		{TCP{Address: "example.org:80", Remote: true}, false},
		{TCP{Address: "127.0.0.1"}, false},
		{TCP{Address: "127.0.0.1:http"}, false},
		{TCP{Address: "127.0.0.1:65536"}, false},
		{TCP{Address: ""}, false},
		{TCP{Address: "127.0.0.1:0", Certificate: "c.pem"}, false},
		{TCP{Address: "127.0.0.1:0", Hosts: []string{"http://x/"}}, false},
		{TCP{Address: "127.0.0.1:0", Hosts: []string{"node.example.org"}}, true},
		{TCP{Address: "127.0.0.1:0", Origins: []string{"example.org"}}, false},
		{TCP{Address: "127.0.0.1:0", Origins: []string{"https://example.org/"}}, false},
		{TCP{Address: "127.0.0.1:0", Origins: []string{"https://example.org"}}, true},
	} {
		err := tt.tcp.Check()
		if (err == nil) != tt.ok || err != nil && !errors.Is(err, ErrAddress) {
			t.Errorf("%+v: %v", tt.tcp, err)
		}
	}
}

func TestHostAndOrigin(t *testing.T) {
	tcp := &TCP{Address: "10.1.2.3:80", Hosts: []string{"Node.Example"}, Origins: []string{"https://ui.example"}}
	for host, want := range map[string]bool{
		"localhost": true, "LOCALHOST:9": true, "127.0.0.1:1": true, "[::1]:8": true, "[::1]": true,
		"10.1.2.3": true, "node.example:1": true, "": false, "evil.example": false, "localhost.evil.example": false,
		"127.0.0.1:x": false, "[::1": false, "localhost:": false, "10.1.2.4": false, "localhost:99999": false,
	} {
		if got := tcp.takesHost(host); got != want {
			t.Errorf("host %q: %v", host, got)
		}
	}
	for _, tt := range []struct {
		origins []string
		want    bool
	}{
		{nil, true},
		{[]string{"http://localhost:80"}, true},
		{[]string{"https://localhost:80"}, false},
		{[]string{"https://ui.example"}, true},
		{[]string{"null"}, false},
		{[]string{""}, false},
		{[]string{"http://localhost:80", "http://localhost:80"}, false},
		{[]string{"https://ui.example.evil"}, false},
	} {
		if got := tcp.takesOrigin(tt.origins, "localhost:80"); got != tt.want {
			t.Errorf("origin %q: %v", tt.origins, got)
		}
	}
}

func TestTCP(t *testing.T) {
	l, err := TCP{Name: "far", Address: "127.0.0.1:0", Tokens: tokens(t)}.Listen()
	if err != nil {
		t.Fatal(err)
	}
	var seen access.Client
	serve(t, Options{}, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { seen = access.ClientOf(r.Context()) }), l)
	client := over(t, "tcp", l.Where())
	good := "Bearer " + goodToken()
	for _, tt := range []struct {
		name   string
		change func(*http.Request)
		status int
		kind   string
	}{
		{"good", func(r *http.Request) { r.Header.Set("Authorization", good) }, 200, ""},
		{"scheme in other letters", func(r *http.Request) { r.Header.Set("Authorization", "bEARER"+good[6:]) }, 200, ""},
		{"none", nil, 401, "unauthenticated"},
		{"basic", func(r *http.Request) { r.SetBasicAuth("node", "x") }, 401, "unauthenticated"},
		{"two", func(r *http.Request) { r.Header["Authorization"] = []string{good, good} }, 401, "unauthenticated"},
		{"bad", func(r *http.Request) { r.Header.Set("Authorization", good+"x") }, 401, "unauthenticated"},
		{"host", func(r *http.Request) { r.Host = "evil.example"; r.Header.Set("Authorization", good) }, 421, "forbidden-host"},
		{"origin", func(r *http.Request) {
			r.Header.Set("Origin", "https://evil.example")
			r.Header.Set("Authorization", good)
		}, 403, "forbidden-origin"},
	} {
		seen = access.Client{}
		status, body := get(t, client, tt.change)
		if status != tt.status || !strings.Contains(body, tt.kind) {
			t.Errorf("%s: %d %s", tt.name, status, body)
		}
		want := access.Client{Roles: access.Of(access.Importing, access.Auditing), Name: "node", UID: -1, GID: -1, PID: -1, TCP: true, NoImport: true}
		if status == 200 && seen != want || status != 200 && seen != (access.Client{}) {
			t.Errorf("%s: the handler saw %+v", tt.name, seen)
		}
	}
	if (&TCP{Import: true}).client("x", access.All).NoImport {
		t.Error("imports were allowed")
	}
}

func TestTLS(t *testing.T) {
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "c.pem"), filepath.Join(dir, "k.pem")
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"localhost"}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	os.WriteFile(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644)
	os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}), 0o600)
	if _, err := (TCP{Address: "127.0.0.1:0", Certificate: cert, Key: cert, Tokens: tokens(t)}).Listen(); err == nil {
		t.Error("took a certificate for a key")
	}
	l, err := TCP{Address: "127.0.0.1:0", Certificate: cert, Key: key, Tokens: tokens(t)}.Listen()
	if err != nil {
		t.Fatal(err)
	}
	serve(t, Options{}, echo, l)
	pool := x509.NewCertPool()
	parsed, _ := x509.ParseCertificate(der)
	pool.AddCert(parsed)
	for version, ok := range map[uint16]bool{tls.VersionTLS13: true, tls.VersionTLS12: false} {
		tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MaxVersion: version}}
		r, _ := http.NewRequest("GET", "https://"+l.Where()+"/", nil)
		r.Header.Set("Authorization", "Bearer "+goodToken())
		resp, err := (&http.Client{Transport: tr}).Do(r)
		if (err == nil) != ok {
			t.Errorf("TLS %x: %v", version, err)
		}
		if err == nil {
			if resp.StatusCode != 200 {
				t.Errorf("status %d", resp.StatusCode)
			}
			resp.Body.Close()
		}
		tr.CloseIdleConnections()
	}
	// Plain HTTP to it is refused, not answered.
	if status, _ := get(t, over(t, "tcp", l.Where()), nil); status != 400 {
		t.Errorf("plain: %d", status)
	}
}

func TestTokens(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	book := tokens(t)
	book.now = func() time.Time { return now }
	iat := func(seconds int) object { return object{"iat": now.Unix() + int64(seconds)} }
	with := func(o object, key string, value any) object {
		c := object{key: value}
		for k, v := range o {
			if k != key {
				c[k] = v
			}
		}
		return c
	}
	good := sign(goodHeader, iat(0), secret)
	both := access.Of(access.Importing, access.Auditing)
	for _, tt := range []struct {
		name  string
		token string
		roles access.Roles
		text  string // "": good
	}{
		{"good", good, both, ""},
		{"60 s old", sign(goodHeader, iat(-60), secret), both, ""},
		{"60 s early", sign(goodHeader, iat(60), secret), both, ""},
		{"61 s old", sign(goodHeader, iat(-61), secret), 0, "set the clock"},
		{"61 s early", sign(goodHeader, iat(61), secret), 0, "set the clock"},
		{"no iat", sign(goodHeader, object{}, secret), 0, "no iat"},
		{"null iat", sign(goodHeader, object{"iat": nil}, secret), 0, "no iat"},
		{"iat as text", sign(goodHeader, object{"iat": "1800000000"}, secret), 0, "claims"},
		{"huge iat", sign(goodHeader, `{"iat":1e308}`, secret), 0, "iat"},
		{"expired", sign(goodHeader, with(iat(0), "exp", now.Unix()-1), secret), 0, "exp"},
		{"not yet", sign(goodHeader, with(iat(0), "nbf", now.Unix()+61), secret), 0, "nbf"},
		{"narrowed", sign(goodHeader, with(iat(0), "roles", []string{"auditing"}), secret), access.Of(access.Auditing), ""},
		{"not widened", sign(goodHeader, with(iat(0), "roles", []string{"all"}), secret), both, ""},
		{"another's role", sign(goodHeader, with(iat(0), "roles", []string{"operator"}), secret), 0, ""},
		{"no roles", sign(goodHeader, with(iat(0), "roles", []string{}), secret), 0, ""},
		{"unknown role", sign(goodHeader, with(iat(0), "roles", []string{"root"}), secret), 0, "unknown role"},
		{"roles as text", sign(goodHeader, with(iat(0), "roles", "auditing"), secret), 0, "claims"},
		{"alg none", sign(with(goodHeader, "alg", "none"), iat(0), secret), 0, "alg"},
		{"alg None, unsigned", strings.TrimRight(good[:strings.LastIndex(good, ".")], ".") + ".", 0, "another secret"},
		{"alg none, unsigned", func() string {
			s := sign(with(goodHeader, "alg", "none"), iat(0), secret)
			return s[:strings.LastIndex(s, ".")+1]
		}(), 0, "alg"},
		{"alg HS512", sign(with(goodHeader, "alg", "HS512"), iat(0), secret), 0, "alg"},
		{"alg RS256", sign(with(goodHeader, "alg", "RS256"), iat(0), secret), 0, "alg"},
		{"alg hs256", sign(with(goodHeader, "alg", "hs256"), iat(0), secret), 0, "alg"},
		{"no alg", sign(object{"kid": "node"}, iat(0), secret), 0, "alg"},
		{"crit", sign(with(goodHeader, "crit", []string{"exp"}), iat(0), secret), 0, "crit"},
		{"other kid", sign(with(goodHeader, "kid", "other"), iat(0), secret), 0, "kid"},
		{"no kid", sign(object{"alg": "HS256"}, iat(0), secret), 0, "kid"},
		{"other secret", sign(goodHeader, iat(0), []byte("another secret of 32 bytes, or so")), 0, "another secret"},
		{"no secret", sign(goodHeader, iat(0), nil), 0, "another secret"},
		{"empty", "", 0, "three parts"},
		{"two parts", "a.b", 0, "three parts"},
		{"four parts", good + ".x", 0, "three parts"},
		{"padding", good + "=", 0, "base64url"},
		{"spaces", " " + good, 0, "base64url"},
		{"line ends", "\n" + good, 0, "base64url"},
		{"header no object", sign(`[]`, iat(0), secret), 0, "header"},
		{"header null", sign(`null`, iat(0), secret), 0, "header"},
		{"claims null", sign(goodHeader, `null`, secret), 0, "claims"},
		{"two objects", sign(goodHeader, `{"iat":1800000000}{}`, secret), 0, "claims"},
		{"too long", sign(goodHeader, with(iat(0), "x", strings.Repeat("x", 5000)), secret), 0, "longer than"},
	} {
		kid, roles, err := book.Check(tt.token)
		switch {
		case tt.text == "" && (err != nil || kid != "node" || roles != tt.roles):
			t.Errorf("%s: %q, %s, %v", tt.name, kid, roles, err)
		case tt.text != "" && (!errors.Is(err, ErrToken) || !strings.Contains(err.Error(), tt.text) || roles != 0 || kid != ""):
			t.Errorf("%s: %q, %s, %v", tt.name, kid, roles, err)
		}
	}
	// Every bit of a token counts.
	for i := range good {
		changed := []byte(good)
		changed[i] ^= 1
		if _, _, err := book.Check(string(changed)); err == nil {
			t.Fatalf("changed at %d, still good", i)
		}
	}
}

func TestNewTokens(t *testing.T) {
	for name, clients := range map[string][]TokenClient{
		"short": {{KID: "a", Secret: secret[:31]}},
		"twice": {{KID: "a", Secret: secret}, {KID: "a", Secret: secret}},
		"empty": {{Secret: secret}},
	} {
		if _, err := NewTokens(clients); !errors.Is(err, ErrSecret) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestReadSecret(t *testing.T) {
	hex := strings.Repeat("a1", 32)
	for _, tt := range []struct {
		name, text string
		mode       os.FileMode
		want       string // "": good
	}{
		{"plain", hex, 0o600, ""},
		{"0x and a line end", "0x" + hex + "\n", 0o400, ""},
		{"readable by the group", hex, 0o640, "chmod 600"},
		{"readable by all", hex, 0o604, "chmod 600"},
		{"short", hex[2:], 0o600, "31 bytes"},
		{"no hex", strings.Repeat("z", 64), 0o600, "hex digits"},
		{"empty", "", 0o600, "0 bytes"},
		{"large", strings.Repeat("a1", 1000), 0o600, "larger than"},
	} {
		path := filepath.Join(t.TempDir(), "secret")
		os.WriteFile(path, []byte(tt.text), 0o600)
		os.Chmod(path, tt.mode)
		got, err := ReadSecret(path)
		if tt.want == "" && (err != nil || len(got) != 32) {
			t.Errorf("%s: %x, %v", tt.name, got, err)
		}
		if tt.want != "" && (!errors.Is(err, ErrSecret) || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: %v", tt.name, err)
		}
		if err != nil && tt.text != "" && strings.Contains(err.Error(), tt.text) {
			t.Errorf("%s: the error has the secret", tt.name)
		}
	}
	if _, err := ReadSecret(t.TempDir()); !errors.Is(err, ErrSecret) || !strings.Contains(fmt.Sprint(err), "regular") {
		t.Error(err)
	}
	if _, err := ReadSecret("/nowhere"); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

func FuzzToken(f *testing.F) {
	book := tokens(f)
	f.Add(goodToken())
	f.Add("a.b.c")
	f.Add(sign(object{"alg": "none"}, object{}, nil))
	f.Fuzz(func(t *testing.T, token string) {
		_, _, err := book.Check(token)
		switch {
		case err == nil && !strings.HasPrefix(token, "eyJ"):
			t.Fatalf("took %q", token)
		case err != nil && !errors.Is(err, ErrToken):
			t.Fatal(err)
		case err != nil && len(err.Error()) > 300:
			t.Fatalf("error of %d bytes", len(err.Error()))
		}
		// The same claims signed by the client's secret: only time and form can
		// refuse them, and no role comes that the client doesn't have.
		if head, body, ok := strings.Cut(token, "."); ok {
			h, _ := partEncoding.DecodeString(head)
			b, _ := partEncoding.DecodeString(body)
			_, roles, _ := book.Check(sign(string(h), string(b), secret))
			if roles&^access.Of(access.Importing, access.Auditing) != 0 {
				t.Fatalf("widened to %s", roles)
			}
		}
	})
}

func FuzzHostOrigin(f *testing.F) {
	f.Add("localhost:80", "http://localhost:80")
	f.Add("[::1]", "null")
	f.Add("evil.example", "https://evil.example")
	tcp := &TCP{Address: "127.0.0.1:80"}
	f.Fuzz(func(t *testing.T, host, origin string) {
		ok := tcp.takesHost(host)
		lower := strings.ToLower(host)
		if ok && !strings.HasPrefix(lower, "localhost") && !strings.HasPrefix(lower, "127.0.0.1") &&
			!strings.HasPrefix(lower, "[::1]") && lower != "::1" && !strings.HasPrefix(lower, "[localhost]") && !strings.HasPrefix(lower, "[127.0.0.1]") {
			t.Fatalf("took host %q", host)
		}
		if ok && tcp.takesOrigin([]string{origin}, host) && !strings.EqualFold(origin, "http://"+host) {
			t.Fatalf("took origin %q at %q", origin, host)
		}
	})
}
